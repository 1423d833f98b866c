"""Answers for the pool's link: broken or not, each is told to an end exactly once, and a whole one is read as h11 does.

The link stands on a stand-in for a transport here, so that thousands of connections a second can end in every way.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import h11

from arbiter.router.wire.client import Call, Pool
from arbiter.router.wire.limits import PoolLimits
from arbiter.router.wire.link import Link
from tests.fuzz.mutation import mutated

if TYPE_CHECKING:
    from random import Random  # noqa: TID251  the type; the source itself is an argument

    from arbiter.router.wire.broken import Broken

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"
CHUNKS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SEEDS = (
    OK,
    CHUNKS + b"3\r\nabc\r\n0\r\n\r\n",
    CHUNKS + b"1;a=b\r\na\r\n00002\r\nbc\r\n0\r\nx: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nabc",
    b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nabc",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nabc",
    OK + OK,
)


HARMLESS = ("illegal status line", "no response line received")
"""What h11 refuses and llhttp takes without another reading of the rest: control characters in the reason phrase, which
we do not hand on, and empty lines before the status line."""

LOOP = asyncio.new_event_loop()
"""One for the whole run: a pool needs a running loop, and making loops would be all that is timed."""


class Pipe(asyncio.Transport):
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        """Open."""
        super().__init__()
        self.closed = False

    def write(self, data: object) -> None:
        """Forget it."""

    def abort(self) -> None:
        """Close."""
        self.closed = True

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed

    def pause_reading(self) -> None:
        """Nothing is read here anyway."""

    def resume_reading(self) -> None:
        """Nothing is read here anyway."""


class Told:
    """A receiver that checks the order in which it is told."""

    def __init__(self) -> None:
        """Told nothing yet."""
        self.wrong = ""
        self.status = self.ends = 0
        self.body = b""
        self.broken: Broken | None = None

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Check the head."""
        if self.status or self.ends:
            self.wrong = "a second head, or one after the end"
        if any(b"\n" in value or b"\r" in value for _, value in headers):
            self.wrong = "a line break in a header field"
        self.status = status

    def on_body(self, data: bytes) -> None:
        """Check a piece."""
        if not self.status or self.ends:
            self.wrong = "a piece before the head or after the end"
        self.body += data

    def on_end(self) -> None:
        """Check the end."""
        if not self.status:
            self.wrong = "an end without a head"
        self.ends += 1

    def on_broken(self, broken: Broken) -> None:
        """Check the break."""
        self.ends += 1
        self.broken = broken


def make(source: Random) -> bytes:
    """An input: its first byte says how it is cut and how the connection ends."""
    return bytes((source.randrange(256),)) + mutated(source, SEEDS)


def fault(data: bytes) -> str:
    """What is wrong with how the link takes this; empty if nothing."""
    if not data:
        return ""
    logging.disable(logging.CRITICAL)
    return LOOP.run_until_complete(_fault(data[0], data[1:]))


async def _fault(how: int, data: bytes) -> str:
    told = Told()
    pool = Pool("http://a", PoolLimits(first_byte_s=5, idle_s=5, total_s=5))
    link, pipe = Link(pool), Pipe()
    link.connection_made(pipe)
    link.carry(Call(b"GET / HTTP/1.1\r\n\r\n", b"", told, pool.sweep.now + 5))
    for piece in _pieces(data, (1, 3, 17, 100_000)[how % 4]):
        if not pipe.closed:
            link.data_received(piece)
    if told.ends and not told.broken and not pipe.closed and pool.idle != 1:
        return "neither kept nor closed after its end"
    _end(link, pipe, how // 4 % 4)
    pool.close()
    if told.wrong or told.ends != 1:
        return told.wrong or f"told {told.ends} ends"
    if pool.open or not pipe.closed:
        return "the connection is left"
    return "" if told.broken else _differs(told, data, clean=how // 4 % 4 < 2)


def _pieces(data: bytes, length: int) -> list[bytes]:
    return [data[at : at + length] for at in range(0, len(data), length)]


def _end(link: Link, pipe: Pipe, how: int) -> None:
    """End the connection: closed by half, closed, reset, or never, until the time is up."""
    if how == 0 and not pipe.closed:
        link.eof_received()
    if how == 3:
        link.on_deadline(float("inf"))
    link.connection_lost(ConnectionResetError("reset") if how == 2 else None)


def _differs(told: Told, data: bytes, *, clean: bool) -> str:
    """How h11 reads what was told as whole; it knows no more of these than we do, but refuses other things."""
    peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=200_000)
    peer.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(data)
    body = bytearray()
    status = 0
    try:
        while True:
            event = peer.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif event is h11.NEED_DATA and clean:
                peer.receive_data(b"")
            elif isinstance(event, h11.EndOfMessage):
                break
            elif not isinstance(event, h11.InformationalResponse):
                return f"whole for us, while h11 sees {event!r}"
    except h11.RemoteProtocolError as error:
        if str(error).startswith(HARMLESS):
            return ""
        return f"whole for us, while h11 says: {error}"
    read = (told.status, told.body)
    return "" if read == (status, bytes(body)) else f"read as {read}, by h11 as {(status, bytes(body))}"
