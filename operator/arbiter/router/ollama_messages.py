"""Turns the messages of a chat from the Ollama form into the OpenAI form.

They differ in three things: pictures stand beside the text as bare base64, arguments of tool calls are objects
instead of JSON text, and an answer of a tool names the tool and not the call.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NoReturn

from arbiter.router.refusal import Refusal, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS: Final[Mapping[str, str]] = {"iVBOR": "png", "/9j/": "jpeg", "R0lG": "gif", "UklG": "webp", "Qk": "bmp"}
"""How base64 of each kind of picture begins."""

_BASE64: Final = re.compile(r"[A-Za-z0-9+/\r\n]+={0,2}\s*")


def openai_messages(messages: object, reasoning: str) -> list[dict[str, object]]:
    """The same messages in OpenAI form.

    Args:
        messages: the field of the client's body.
        reasoning: the field in which the engine takes a model's earlier thoughts.

    Raises:
        Refusal: 400 for what is not a message.
    """
    if not isinstance(messages, list):
        _refuse("messages must be a list", "messages")
    calls = _OpenCalls()
    return [_message(message, f"messages[{i}]", reasoning, calls) for i, message in enumerate(messages)]


def with_images(text: object, images: object, path: str) -> object:
    """Content that is the text alone, or parts with the pictures behind it."""
    if images is None or images == []:
        return text
    if not isinstance(images, list):
        _refuse("images must be a list of base64 texts", path)
    parts: list[dict[str, object]] = [{"type": "text", "text": text}] if text else []
    parts += ({"type": "image_url", "image_url": {"url": _data_uri(image, path)}} for image in images)
    return parts


class _OpenCalls:
    """Tool calls that no answer was seen for yet, so that an answer finds the call that it names by tool."""

    __slots__ = ("_made", "_open")

    def __init__(self) -> None:
        self._made = 0
        self._open: list[tuple[str, str]] = []

    def make(self, name: str, said: object) -> str:
        """The identity of a call: its own, or one that is new in this chat."""
        identity = said if isinstance(said, str) and said else f"call_{self._made}"
        self._made += 1
        self._open.append((identity, name))
        return identity

    def answer(self, name: object, said: object) -> str:
        """The call that is answered: the one it says, else the oldest of that tool, else the oldest."""
        if isinstance(said, str) and said:
            self._open = [each for each in self._open if each[0] != said]
            return said
        found = next((each for each in self._open if each[1] == name), self._open[0] if self._open else None)
        if found is None:
            return "call_0"
        self._open.remove(found)
        return found[0]


def _message(message: object, path: str, reasoning: str, calls: _OpenCalls) -> dict[str, object]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        _refuse("a message must be an object with a role", path)
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        _refuse("content must be text", f"{path}.content")
    sent: dict[str, object] = {
        "role": message["role"],
        "content": with_images(content or "", message.get("images"), f"{path}.images"),
    }
    if message.get("tool_calls"):
        sent["tool_calls"] = _tool_calls(message["tool_calls"], f"{path}.tool_calls", calls)
    if message["role"] == "tool":
        sent["tool_call_id"] = calls.answer(
            message.get("tool_name") or message.get("name"), message.get("tool_call_id")
        )
    if isinstance(message.get("thinking"), str) and message["thinking"]:
        sent[reasoning] = message["thinking"]
    return sent


def _tool_calls(given: object, path: str, calls: _OpenCalls) -> list[dict[str, object]]:
    if not isinstance(given, list):
        _refuse("tool_calls must be a list", path)
    return [_tool_call(each, f"{path}[{i}]", calls) for i, each in enumerate(given)]


def _tool_call(given: object, path: str, calls: _OpenCalls) -> dict[str, object]:
    function = given.get("function") if isinstance(given, dict) else None
    if not isinstance(given, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        _refuse("a tool call must be an object with function.name", path)
    arguments = function.get("arguments") or {}
    try:
        text = arguments if isinstance(arguments, str) else encode(arguments)
    except ValueError:
        _refuse("arguments hold a number that is too large", path)
    identity = calls.make(function["name"], given.get("id"))
    return {"id": identity, "type": "function", "function": {"name": function["name"], "arguments": text}}


def _data_uri(image: object, path: str) -> str:
    # Anything that is not base64 could be an address, which an engine would fetch.
    if not isinstance(image, str) or not _BASE64.fullmatch(image):
        _refuse("an image must be base64", path)
    kind = next((kind for start, kind in _KINDS.items() if image.startswith(start)), "png")
    return f"data:image/{kind};base64,{image}"


def _refuse(problem: str, field: str) -> NoReturn:
    raise Refusal(400, "invalid_message", problem, field)
