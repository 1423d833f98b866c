"""Reads a blob in order from wherever it lies, only as far as it is needed, and through its compression.

Rule: nobody reads beyond a budget; where it is spent, TooFar says so, and what was sought stays unknown.
"""

from __future__ import annotations

import importlib
import zlib
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol, Self

from arbiter.fetch.failures import FailureCode, SourceError
from arbiter.fetch.gguf import PIECE, Header, Parser

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    import aiohttp

BUDGET = 256 * 1024 * 1024
"""Bytes that are read of a blob at most, to learn about it."""

MOST_UNPACKED = 2 * 1024 * 1024 * 1024
"""Bytes that come out of a compressed blob at most, to learn about it."""

_WORTH_ASKING = 4 * 1024 * 1024
"""Bytes from which on it is cheaper to ask anew behind them than to read them."""


class TooFar(Exception):  # noqa: N818  not an error: the answer to "is it near?"
    """What is sought lies behind what may be read."""


class Stream(Protocol):
    """Bytes in order."""

    async def read(self, most: int) -> bytes:
        """Give the next bytes, up to so many; none at the end."""

    async def skip(self, count: int) -> None:
        """Pass over so many bytes."""


class Opener(Protocol):
    """Asks for a blob from an offset on, if it still is what a condition (an entity tag) names."""

    def __call__(self, offset: int, condition: str = "") -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Ask; the answer is 206, or 200 with all of it."""


class RemoteBlob:
    """A blob at a server, read in order; long stretches are left out by asking anew behind them."""

    def __init__(self, opener: Opener, budget: int = BUDGET) -> None:
        """Take what asks for the blob from an offset on."""
        self._opener = opener
        self._left = budget
        self._offset = 0
        self._pending = 0
        self._stack = AsyncExitStack()
        self._answer: aiohttp.ClientResponse | None = None
        self._ranges = True
        self.size: int | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)  # which names what broke the connection

    async def open(self) -> aiohttp.ClientResponse:
        """Give the answer that is being read; asks where none is."""
        if self._answer is None:
            self._answer = await self._stack.enter_async_context(self._opener(self._offset))
            start, total = content_range(self._answer)
            if start not in {0, self._offset}:
                raise SourceError(FailureCode.AnswerInvalid, "the server answers with another range than asked for")
            self.size = total if self.size is None else self.size
            if start < self._offset:  # it does not know ranges, so everything before comes again
                self._ranges = False
                self._pending += self._offset
                self._offset = 0
        return self._answer

    async def read(self, most: int) -> bytes:
        """Give the next bytes, up to so many; none at the end."""
        if self._answer is None and self.size is not None and self._offset >= self.size:
            return b""  # what was left out reached to the end, where a server has nothing to answer with
        answer = await self.open()
        while self._pending:
            gone = await self._take(answer, min(self._pending, PIECE))
            if not gone:
                return b""
            self._pending -= len(gone)
        return await self._take(answer, most)

    async def skip(self, count: int) -> None:
        """Pass over so many bytes, when the next ones are read."""
        self._pending += count
        if self._pending >= _WORTH_ASKING and self._ranges and self._answer is not None:
            await self._stack.aclose()
            self._answer = None
            self._offset += self._pending
            self._pending = 0

    async def _take(self, answer: aiohttp.ClientResponse, most: int) -> bytes:
        """Read from the answer, as long as the budget lasts."""
        if self._left <= 0:
            raise TooFar
        piece = await answer.content.read(min(most, self._left))
        self._left -= len(piece)
        self._offset += len(piece)
        return piece


class Unpacked:
    """What comes out of a compressed stream; several members or frames behind one another count as one."""

    def __init__(self, packed: Stream, fresh: Callable[[], Any], first: bytes) -> None:
        """Take the stream, what makes a decompressor, and what was read of it already."""
        self._packed = packed
        self._fresh = fresh
        self._machine = fresh()
        self._input = first
        self._left = MOST_UNPACKED
        self._begun = False

    async def read(self, most: int) -> bytes:
        """Give the next bytes, up to so many; none at the end."""
        if self._left <= 0:
            raise TooFar
        while True:
            if self._machine.eof:
                self._input = self._machine.unused_data or await self._packed.read(PIECE)
                if not self._input.strip(b"\0"):  # nothing, or what fills up the last block
                    return b""
                self._machine = self._fresh()
            try:
                piece: bytes = self._machine.decompress(self._input, most)
            except Exception as error:  # each library has a type of its own for broken data
                raise SourceError(FailureCode.AnswerInvalid, f"a layer cannot be unpacked: {error}") from error
            self._input = getattr(self._machine, "unconsumed_tail", b"")
            if piece:
                self._left -= len(piece)
                return piece
            if not self._machine.eof and not self._input:
                self._input = await self._packed.read(PIECE)
                if not self._input:
                    return b""

    async def skip(self, count: int) -> None:
        """Pass over so many bytes: they have to be unpacked."""
        while count:
            if not (piece := await self.read(min(count, PIECE))):
                return
            count -= len(piece)


async def unpacked(stream: Stream) -> Stream:
    """Give a stream without its compression, whichever it has.

    Raises:
        TooFar: for zstd where this Python has no library for it.
    """
    first = await exactly(stream, 4)
    if first.startswith(b"\x1f\x8b"):
        return Unpacked(stream, lambda: zlib.decompressobj(wbits=31), first)
    if first == b"\x28\xb5\x2f\xfd" or first[1:4] == b"\x2a\x4d\x18":
        return Unpacked(stream, _zstd(), first)
    return _Preceded(stream, first)


async def exactly(stream: Stream, count: int) -> bytes:
    """Give so many bytes; fewer at the end of the stream."""
    content = bytearray()
    while len(content) < count and (piece := await stream.read(count - len(content))):
        content += piece
    return bytes(content)


async def gguf_header(stream: Stream) -> Header:
    """Read a GGUF header from a stream.

    Raises:
        GgufError: for what is none.
        TooFar: where it is longer than what may be read.
    """
    parser = Parser()
    while (header := parser.feed(await stream.read(min(PIECE, parser.wanted)))) is None:
        pass
    return header


def content_range(answer: aiohttp.ClientResponse) -> tuple[int, int | None]:
    """Give where an answer's bytes begin, and how many the whole has.

    Raises:
        SourceError: AnswerInvalid, for a range that cannot be read.
    """
    if answer.status != 206:
        return 0, answer.content_length
    unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes" or not _digits(first) or not (total == "*" or _digits(total)):
        raise SourceError(FailureCode.AnswerInvalid, "the server answers with a range that cannot be read")
    return int(first), None if total == "*" else int(total)


class _Preceded:
    """A stream of which the first bytes were read already."""

    def __init__(self, stream: Stream, first: bytes) -> None:
        """Take the stream and its first bytes."""
        self._stream = stream
        self._first = first

    async def read(self, most: int) -> bytes:
        """Give the next bytes, up to so many; none at the end."""
        if not self._first:
            return await self._stream.read(most)
        piece, self._first = self._first[:most], self._first[most:]
        return piece

    async def skip(self, count: int) -> None:
        """Pass over so many bytes."""
        gone = min(count, len(self._first))
        self._first = self._first[gone:]
        if count > gone:
            await self._stream.skip(count - gone)


def _digits(text: str) -> bool:
    """Say whether a text is a whole number of believable length."""
    return text.isascii() and text.isdigit() and len(text) < 19


def _zstd() -> Callable[[], Any]:
    """Give what makes decompressors for zstd: Python has them from 3.14 on, and as a package before."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            made: Callable[[], Any] = importlib.import_module(name).ZstdDecompressor
        except ImportError:
            continue
        return made
    raise TooFar
