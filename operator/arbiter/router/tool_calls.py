"""Gathers tool calls of the OpenAI form, which come in fragments, into whole ones of the Ollama form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arbiter.router.reader import json_object

if TYPE_CHECKING:
    from collections.abc import Mapping

CALL_LIMIT: Final = 128
"""Tool calls of one answer; further ones are left out."""


class ToolCalls:
    """The calls of one answer; arguments are only read when the answer is whole."""

    __slots__ = ("_arguments", "_names")

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._arguments: dict[int, list[str]] = {}

    def add(self, fragments: object) -> bool:
        """Take fragments; returns whether there was anything in them."""
        if not isinstance(fragments, list):
            return False
        found = [each for each in fragments if isinstance(each, dict)]
        for position, fragment in enumerate(found):
            index = fragment.get("index", position)
            if isinstance(index, int) and 0 <= index < CALL_LIMIT and isinstance(fragment.get("function"), dict):
                self._add(index, fragment["function"])
        return bool(found)

    def made(self) -> list[dict[str, object]]:
        """All calls, in order."""
        return [
            {"function": {"name": self._names.get(index, ""), "arguments": _parsed("".join(self._arguments[index]))}}
            for index in sorted(self._arguments)
        ]

    def _add(self, index: int, function: Mapping[str, object]) -> None:
        name, arguments = function.get("name"), function.get("arguments")
        if isinstance(name, str) and name:
            self._names[index] = self._names.get(index, "") + name
        self._arguments.setdefault(index, []).append(arguments if isinstance(arguments, str) else "")


def _parsed(arguments: str) -> dict[str, object]:
    # A model may write what is no JSON; the client is shown that rather than nothing.
    if not arguments.strip():
        return {}
    found = json_object(arguments.encode("utf-8", "surrogatepass"))
    return found if found is not None else {"_raw": arguments}
