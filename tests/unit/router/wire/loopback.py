"""Real sockets on this machine for the tests of the wire: servers, engines that answer by script, raw clients."""

from __future__ import annotations

import asyncio
import functools
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, ParamSpec

import uvloop

from arbiter.router.wire.client import Pool
from arbiter.router.wire.server import Server, plain_refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from ssl import SSLContext

    from arbiter.router.wire.broken import Broken
    from arbiter.router.wire.exchange import Exchange
    from arbiter.router.wire.limits import Limits, PoolLimits

P = ParamSpec("P")

PATIENCE_S = 20.0
"""No test takes a second; one that hangs fails after this."""


def on_both_loops(test: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """Run a test on asyncio's own loop and on uvloop: the two differ in when they call what."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        for factory in (None, uvloop.new_event_loop):
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(asyncio.wait_for(test(*args, **kwargs), PATIENCE_S))

    return run


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something to come true."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  the conditions are plain attributes of what is tested
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(
    handler: Callable[[Exchange], Awaitable[None]], limits: Limits | None = None, ssl: SSLContext | None = None
) -> AsyncIterator[Server]:
    """A server on a port of the loopback."""
    server = Server(handler, limits, plain_refusal)
    await server.start("127.0.0.1", ssl=ssl)
    try:
        yield server
    finally:
        await server.drain(0)


@asynccontextmanager
async def dialled(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A raw client's connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def sent(port: int, data: bytes) -> bytes:
    """What comes back until the server closes."""
    async with dialled(port) as (reader, writer):
        writer.write(data)
        return await reader.read()


async def echo(exchange: Exchange) -> None:
    """Answer with what was asked."""
    request = exchange.request
    exchange.respond(200, [(b"x-path", request.path)], request.method + b" " + request.body)


class Engine:
    """An engine that answers by a script, one run of it for each connection.

    Attributes:
        port: where it listens.
        connections: how many were made.
        asked: the heads and bodies that were read with `ask`.
    """

    def __init__(self) -> None:
        """Listen to nothing yet."""
        self.port = 0
        self.connections = 0
        self.asked: list[bytes] = []

    async def ask(self, reader: asyncio.StreamReader) -> bytes:
        """Read a request; b"" if the connection ended instead."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        length = 0
        for line in head.split(b"\r\n"):
            if line.startswith(b"content-length: "):
                length = int(line[16:])
        request = head + await reader.readexactly(length)
        self.asked.append(request)
        return request


@asynccontextmanager
async def engine(
    script: Callable[[Engine, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Engine]:
    """An engine on a port of the loopback."""
    made = Engine()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections += 1
        writers.append(writer)
        with suppress(OSError, RuntimeError, asyncio.IncompleteReadError):
            await script(made, reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


class Answer:
    """A receiver that keeps all it is told.

    Attributes:
        status: 0 before the head.
        headers: as they came.
        body: so far.
        ends: how often it was told of an end, good or bad.
        broken: how it broke, or None.
        over: set at the end.
    """

    def __init__(self) -> None:
        """Told nothing yet."""
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.ends = 0
        self.broken: Broken | None = None
        self.over = asyncio.Event()

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Keep the head."""
        assert self.status == 0
        self.status, self.headers = status, headers

    def on_body(self, data: bytes) -> None:
        """Keep a piece."""
        assert self.status
        assert not self.ends
        self.body += data

    def on_end(self) -> None:
        """Keep the end."""
        self.ends += 1
        self.over.set()

    def on_broken(self, broken: Broken) -> None:
        """Keep the break."""
        self.ends += 1
        self.broken = broken
        self.over.set()


async def asked(pool: Pool, method: bytes = b"POST", body: bytes = b"{}") -> Answer:
    """The whole answer to one request."""
    answer = Answer()
    await pool.send(method, b"/v1/x", [(b"accept", b"*/*")], body, answer)
    await answer.over.wait()
    return answer


def pool_of(made: Engine, limits: PoolLimits | None = None) -> Pool:
    """A pool for an engine."""
    return Pool(f"http://127.0.0.1:{made.port}", limits)
