"""Takes the chunk framing off a request's body, byte for byte as RFC 9112 writes it.

Rule: the size is one to eight hexadecimal digits, each line ends with CR LF, and what surrounds the data is bounded.
Extensions and trailer fields are checked for form and dropped; nobody here could act on them.
"""

from __future__ import annotations

import re
from typing import Final

from arbiter.router.wire.limits import CHUNK_LINE_BYTES, TRAILER_BYTES
from arbiter.router.wire.request_head import FIELD_LINES, RefusedError

SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[\t\x20-\x7e\x80-\xff]*)?")
FRAMING_LINE: Final = re.compile(rb"(?i:^(?:content-length|transfer-encoding|host):)", re.MULTILINE)
"""Fields that must stand in the head; whoever reads them in a trailer may believe them."""


class Chunks:
    """One chunked body as it comes.

    Attributes:
        size: bytes of data so far.
        rest: what came after the end of the body, once `done`; before, what cannot be understood yet.
        done: whether the end has come.
    """

    __slots__ = ("_data", "_limit", "_want", "done", "rest", "size")

    def __init__(self, limit: int) -> None:
        """Expect the first size line; `limit` is for the data."""
        self._limit = limit
        self._data = bytearray()
        self._want = 0
        self.rest = b""
        self.size = 0
        self.done = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            RefusedError: 400 if they are not chunks, 413 if they are too many.
        """
        buffer, at = (self.rest + data if self.rest else data), 0
        while not self.done:
            after = self._trailer(buffer, at) if self._want < 0 else self._chunk(buffer, at)
            if after == at:
                break
            at = after
        self.rest = buffer[at:]

    def body(self) -> bytes:
        """All data, once."""
        data, self._data = bytes(self._data), bytearray()
        return data

    def _chunk(self, buffer: bytes, at: int) -> int:
        """Read a size line, or data and the CR LF after it; returns the place after it."""
        if not self._want:
            return self._size_line(buffer, at)
        data = self._want - 2
        if data > 0:
            piece = buffer[at : at + data]
            self._data += piece
            self._want -= len(piece)
            return at + len(piece)
        end = buffer[at : at + 2]
        if not b"\r\n".startswith(end):
            raise RefusedError(400, "the data of a chunk does not end where its size says")
        if len(end) < 2:
            return at
        self._want = 0
        return at + 2

    def _size_line(self, buffer: bytes, at: int) -> int:
        end = buffer.find(b"\n", at, at + CHUNK_LINE_BYTES)
        if end < 0:
            if len(buffer) - at >= CHUNK_LINE_BYTES:
                raise RefusedError(400, "the line before a chunk is too long")
            return at
        found = SIZE_LINE.fullmatch(buffer, at, end - 1) if end > at and buffer[end - 1] == 13 else None
        if found is None:
            raise RefusedError(400, "the size of a chunk is not a plain hexadecimal number")
        size = int(found[1], 16)
        self.size += size
        if self.size > self._limit:
            raise RefusedError(413, f"the body is longer than {self._limit} bytes")
        self._want = size + 2 if size else -1
        return end + 1

    def _trailer(self, buffer: bytes, at: int) -> int:
        """Read the trailer fields and the empty line; returns the place after them, or `at` for not yet."""
        if buffer.startswith(b"\r\n", at):
            self.done = True
            return at + 2
        end = buffer.find(b"\r\n\r\n", at)
        if (end if end >= 0 else len(buffer)) - at > TRAILER_BYTES:
            raise RefusedError(431, "the trailer fields are too long")
        if end < 0:
            line = buffer.find(b"\n", at)
            if line >= 0 and not FIELD_LINES.fullmatch(buffer, at, buffer.rfind(b"\n", at) + 1):
                raise RefusedError(400, "a trailer field is not `name: value`")
            return at
        if not FIELD_LINES.fullmatch(buffer, at, end + 2):
            raise RefusedError(400, "a trailer field is not `name: value`")
        if FRAMING_LINE.search(buffer, at, end + 2):
            raise RefusedError(400, "a trailer field speaks of the body or of the request")
        self.done = True
        return end + 4
