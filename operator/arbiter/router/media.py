"""Keeps a model server from fetching what a client points at.

Rule: pictures, sound and films travel inside the request. An engine that is given an address fetches it from within
the cluster, or reads its own disk for `file:`, so a request that holds one is refused: to drop the picture in
silence would let the model answer about something that it never saw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from arbiter.router.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

_BY_URL: Final = frozenset({"audio_url", "image_url", "video_url"})

_PLAIN: Final = frozenset(
    {"input_audio", "redacted_thinking", "refusal", "text", "thinking", "tool_result", "tool_use"}
)

_WITH_SOURCE: Final = frozenset({"document", "image"})
"""Of the Anthropic form."""


def check_media(fields: Mapping[str, object]) -> None:
    """Refuse messages whose parts have to be fetched, or are of no known kind.

    Raises:
        Refusal: 400.
    """
    messages = fields.get("messages")
    if isinstance(messages, list):
        for message in messages:
            if isinstance(message, dict) and type(message.get("content")) is list:
                _check_parts(message["content"])
    system = fields.get("system")
    if type(system) is list:
        _check_parts(system)


def _check_parts(parts: list[object]) -> None:
    for part in parts:
        if isinstance(part, str):
            continue
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(kind, str):
            _refuse("a part of content must be an object with a type")
        if kind in _BY_URL:
            _check_url(part.get(kind))
        elif kind in _WITH_SOURCE:
            _check_source(part.get("source"))
        elif kind not in _PLAIN:
            _refuse(f"a part of content cannot be {kind[:40]!r}")
        # Whatever its type says, a part carries no address: an engine may look at the field alone.
        for name in _BY_URL - {kind}:
            if name in part:
                _refuse(f"{name} needs a part of that type")
        if type(nested := part.get("content")) is list:
            _check_parts(nested)


def _check_url(value: object) -> None:
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str) or not url.startswith("data:"):
        _refuse("media must be a data: URI; nothing is fetched for a request")


def _check_source(source: object) -> None:
    if not isinstance(source, dict) or source.get("type") not in {"base64", "text"}:
        _refuse("source must be of type base64; nothing is fetched for a request")


def _refuse(problem: str) -> NoReturn:
    raise Refusal(400, "invalid_content", problem, "messages")
