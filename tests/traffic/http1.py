"""A small strict HTTP/1.1 client on plain sockets, which hides nothing: no retry, no redirect, no lenient reading.

Rule: an answer is whole or it is a `FaultError` that says at which byte it stopped being one.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from tests.traffic.attempts import Fault, FaultError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

_HEAD_BYTES = 65_536
"""An answer's head, and any line of its chunks, must be shorter."""

_PIECE_BYTES = 65_536
"""Bytes taken at once from a body."""

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [\t -~\x80-\xff]*")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t -~]*)?")


class Head(NamedTuple):
    """The status and the headers of an answer; names are in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """The value of a header, or nothing.

        Raises:
            FaultError: when it stands there twice.
        """
        found = [value for each, value in self.headers if each == name]
        if len(found) > 1:
            raise FaultError(Fault.MALFORMED, f"{len(found)} headers {name}")
        return found[0] if found else ""


class Connection:
    """One connection, which serves one request after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Nothing was sent."""
        self._reader = reader
        self._writer = writer
        self._kept = True
        self._busy = False
        self.served = 0

    @staticmethod
    async def open(host: str, port: int, tls: ssl.SSLContext | None = None) -> Connection:
        """Connect.

        Raises:
            FaultError: when that fails.
        """
        try:
            reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=_HEAD_BYTES)
        except OSError as refused:
            raise FaultError(Fault.CONNECT, str(refused)) from refused
        return Connection(reader, writer)

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent: the last answer was whole and the server has not closed since."""
        return self._kept and not self._busy and not self._reader.at_eof() and self._reader.exception() is None

    def close(self) -> None:
        """Let go of it at once."""
        self._writer.close()

    async def send(self, head: bytes, body: bytes) -> Head:
        """Send a request and give the head of its answer; its body must be read next.

        Raises:
            FaultError: when there is no whole head.
        """
        self._busy = True
        try:
            self._writer.write(head + body)
            await self._writer.drain()
            while True:
                text = await self._reader.readuntil(b"\r\n\r\n")
                parsed = _head(text)
                if parsed.status >= 200:
                    return parsed
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as broken:
            _fail(broken, "before the end of the answer's head")

    async def body(self, head: Head) -> AsyncIterator[bytes]:
        """Give the pieces of the answer's body.

        Raises:
            FaultError: when it ends early.
        """
        self._kept = head.get("connection").lower() != "close"
        length, coding = head.get("content-length"), head.get("transfer-encoding").lower()
        if length and coding:
            raise FaultError(Fault.MALFORMED, "both content-length and transfer-encoding")
        if coding not in {"", "chunked"}:
            raise FaultError(Fault.MALFORMED, f"transfer-encoding {coding}")
        if length and not re.fullmatch("[0-9]+", length):
            raise FaultError(Fault.MALFORMED, f"content-length {length}")
        if not length and not coding:
            raise FaultError(Fault.MALFORMED, "a body whose end nothing tells: no cut of it would be seen")
        seen = 0
        try:
            async for piece in self._chunks() if coding else self._counted(int(length)):
                seen += len(piece)
                yield piece
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as broken:
            _fail(broken, f"after {seen} bytes of the answer's body{f' of {length}' if length else ''}")
        self._busy = False
        self.served += 1

    async def _counted(self, length: int) -> AsyncIterator[bytes]:
        while length:
            piece = await self._reader.read(min(length, _PIECE_BYTES))
            if not piece:
                raise asyncio.IncompleteReadError(b"", length)
            length -= len(piece)
            yield piece

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            line = (await self._reader.readuntil(b"\r\n"))[:-2]
            if not (size := _CHUNK_SIZE.fullmatch(line)):
                raise FaultError(Fault.MALFORMED, f"chunk size {line!r}")
            if length := int(size[1], 16):
                yield await self._reader.readexactly(length)
            if length:
                if (end := await self._reader.readexactly(2)) != b"\r\n":
                    raise FaultError(Fault.MALFORMED, f"a chunk of {length} bytes ends with {end!r}")
                continue
            while await self._reader.readuntil(b"\r\n") != b"\r\n":
                pass  # trailers
            return


def _head(text: bytes) -> Head:
    first, *lines = text[:-4].split(b"\r\n")
    if not (status := _STATUS_LINE.fullmatch(first)):
        raise FaultError(Fault.MALFORMED, f"status line {first[:100]!r}")
    fields = []
    for line in lines:
        if not (field := _FIELD.fullmatch(line)):
            raise FaultError(Fault.MALFORMED, f"header {line[:100]!r}")
        fields.append((field[1].decode().lower(), field[2].decode("latin-1")))
    return Head(int(status[1]), tuple(fields))


def _fail(broken: Exception, where: str) -> NoReturn:
    if isinstance(broken, asyncio.LimitOverrunError):
        raise FaultError(Fault.MALFORMED, f"a line of more than {_HEAD_BYTES} bytes {where}") from broken
    if isinstance(broken, OSError):
        raise FaultError(Fault.RESET, f"{where}: {broken}") from broken
    raise FaultError(Fault.CUT, f"the connection was closed {where}") from broken
