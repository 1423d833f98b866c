"""Server and pool together, as the router uses them: a stream through both, no faster than its slowest part."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from arbiter.router.wire.limits import UNSENT_BYTES
from tests.unit.router.wire.loopback import Engine, dialled, engine, on_both_loops, pool_of, serving, until
from tests.unit.router.wire.strict_requests import GET

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Awaitable, Callable

    from arbiter.router.wire.broken import Broken
    from arbiter.router.wire.client import Pool
    from arbiter.router.wire.exchange import Exchange

SIZE = 20_000_000
READ_BYTES = 262_144
"""The largest piece that either loop reads at once."""


class Relay:
    """Hands an answer on."""

    def __init__(self, exchange: Exchange) -> None:
        """Nothing handed on yet."""
        self.exchange = exchange
        self.over = asyncio.Event()
        self.passed = 0

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Hand on the head."""
        self.exchange.start(status, headers, None)

    def on_body(self, data: bytes) -> None:
        """Hand on a piece."""
        self.passed += len(data)
        self.exchange.write(data)

    def on_end(self) -> None:
        """Hand on the end."""
        self.exchange.end()
        self.over.set()

    def on_broken(self, broken: Broken) -> None:
        """Hand on the break."""
        del broken
        self.exchange.abort()
        self.over.set()


def relaying(pool: Pool, relays: list[Relay]) -> Callable[[Exchange], Awaitable[None]]:
    """A handler that hands requests on to a pool."""

    async def handle(exchange: Exchange) -> None:
        relay = Relay(exchange)
        relays.append(relay)
        request = exchange.request
        call = await pool.send(request.method, request.path, request.headers, request.body, relay)

        def leave() -> None:
            call.cancel()
            relay.over.set()

        exchange.on_gone(leave)
        exchange.on_writable(call.pause, call.resume)
        await relay.over.wait()

    return handle


async def flood(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
    """Answer with far more than any buffer holds."""
    await made.ask(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SIZE)
    for _ in range(SIZE // 100_000):
        writer.write(bytes(100_000))
        await writer.drain()
    await reader.read()


@on_both_loops
async def test_a_client_that_does_not_read_stops_the_engine_and_not_the_router() -> None:
    """The engine's own buffers fill then; ours hold two reads at most, whatever the answer's length."""
    relays: list[Relay] = []
    async with engine(flood) as made:
        pool = pool_of(made)
        async with serving(relaying(pool, relays)) as server, dialled(server.port) as (reader, writer):
            writer.write(GET + b"connection: close\r\n\r\n")
            await until(lambda: bool(relays) and relays[0].passed > 0)
            before = -1
            while relays[0].passed != before:
                before = relays[0].passed
                await asyncio.sleep(0.1)
            (connection,) = server._connections  # noqa: SLF001  what it holds is not shown anywhere else
            assert connection._transport.get_write_buffer_size() < UNSENT_BYTES + 2 * READ_BYTES  # noqa: SLF001  the same
            assert relays[0].passed < SIZE
            answer = await reader.read()
        pool.close()

    assert answer.endswith(b"\r\n0\r\n\r\n")
    assert relays[0].passed == SIZE


@on_both_loops
async def test_a_client_that_leaves_ends_the_engine_s_work() -> None:
    """Through both halves, and while the stream is paused because nobody reads it."""
    relays: list[Relay] = []
    ended = asyncio.Event()

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            await flood(made, reader, writer)
        finally:
            ended.set()

    async with engine(script) as made:
        pool = pool_of(made)
        async with serving(relaying(pool, relays)) as server:
            async with dialled(server.port) as (_, writer):
                writer.write(GET + b"\r\n")
                await until(lambda: bool(relays) and not relays[0].exchange.writable)
                writer.transport.abort()
            await ended.wait()
            await until(lambda: server.connections == 0)
        assert pool.open == 0


@on_both_loops
async def test_a_stream_that_breaks_at_the_engine_breaks_at_the_client() -> None:
    """With a final chunk after it, half an answer would pass for a whole one."""
    relays: list[Relay] = []

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        await made.ask(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")

    async with engine(script) as made:
        pool = pool_of(made)
        async with serving(relaying(pool, relays)) as server, dialled(server.port) as (reader, writer):
            writer.write(GET + b"\r\n")
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await reader.readuntil(b"0\r\n\r\n")


@on_both_loops
async def test_pieces_arrive_as_they_come() -> None:
    """A token that waits for the next one is late."""
    go_on = asyncio.Event()
    relays: list[Relay] = []

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        await made.ask(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(3):
            writer.write(b"4\r\n<%d>\n\r\n" % number)
            await go_on.wait()
            go_on.clear()
        writer.write(b"0\r\n\r\n")

    async with engine(script) as made:
        pool = pool_of(made)
        async with serving(relaying(pool, relays)) as server, dialled(server.port) as (reader, writer):
            writer.write(GET + b"\r\n")
            for number in range(3):
                await reader.readuntil(b"<%d>\n\r\n" % number)
                go_on.set()
            assert await reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"
        pool.close()
