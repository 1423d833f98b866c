"""Cuts a stream of server-sent events at the ends of its events, wherever the network cut it.

Rule: joined, what comes out is what went in. Lines end in LF or CR LF; events end in an empty line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENT_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of one event that are kept until its end comes; no server writes a token as long as that."""

_END: Final = re.compile(rb"\n\r?\n")


class OverlongEventError(Exception):
    """An event that does not end."""


class Cutter:
    """Holds back the beginning of an event until its end has come."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def whole(self, data: bytes) -> bytes:
        """The events that are whole now, in one piece; it may be empty.

        Raises:
            OverlongEventError: when one grows past `EVENT_LIMIT`.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if data.endswith(b"\n\n"):
            return data
        feed = data.rfind(b"\n\n")
        carriage = data.rfind(b"\n\r\n")
        end = max(feed + 2 if feed >= 0 else 0, carriage + 3 if carriage >= 0 else 0)
        if len(data) - end > EVENT_LIMIT:
            raise OverlongEventError
        self._rest = data[end:]
        return data[:end]

    def rest(self) -> bytes:
        """What came after the last whole event."""
        rest, self._rest = self._rest, b""
        return rest


def events(whole: bytes) -> Iterator[bytes]:
    """Each event with its empty line."""
    if b"\r" not in whole:
        *ended, rest = whole.split(b"\n\n")
        for event in ended:
            yield event + b"\n\n"
        if rest:
            yield rest
        return
    start = 0
    for end in _END.finditer(whole):
        yield whole[start : end.end()]
        start = end.end()
    if start < len(whole):
        yield whole[start:]


def payload(event: bytes) -> bytes:
    """What its `data` lines say, joined by LF; empty for comments and events without data."""
    lines = [line for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(line[6:] if line[5:6] == b" " else line[5:] for line in lines)
