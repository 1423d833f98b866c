"""Listens, and keeps count of the connections so that it can end without breaking one.

`drain` is what a rolling restart needs: accept no more, say `Connection: close` with each answer, keep idle
connections for a moment because a request may be on its way, wait for the answers under way, and cut what is left
when the time is up.
"""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

from arbiter.router.wire.connection import Connection
from arbiter.router.wire.deadlines import Sweep
from arbiter.router.wire.limits import Limits

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable, Sequence

    from arbiter.router.wire.exchange import Exchange

    Handler = Callable[[Exchange], Awaitable[None]]
    Refusal = Callable[[int, str, bytes], tuple[Sequence[tuple[bytes, bytes]], bytes]]

BACKLOG: Final = 1024
"""Connections that the kernel holds for us."""

CUT_S: Final = 5.0
"""Seconds that cut connections get to end their coroutines."""


def plain_refusal(status: int, reason: str, request_line: bytes) -> tuple[Sequence[tuple[bytes, bytes]], bytes]:
    """Header fields and body of what the wire refuses, as plain text."""
    del status, request_line
    return ((b"content-type", b"text/plain; charset=utf-8"),), reason.encode() + b"\n"


class Server:
    """One listening server.

    Attributes:
        handler: awaited for each request, inside its connection's coroutine.
        limits: what is borne from clients.
        refusal: gives header fields and body of what the wire answers itself, from status, reason, request line.
        loop: the one that it runs in; kept, because asking for the running one is a system call.
        sweep: watches the deadlines.
        date: the Date field of answers, with its CR LF; renewed every second.
        draining: no more is accepted.
    """

    def __init__(self, handler: Handler, limits: Limits | None = None, refusal: Refusal = plain_refusal) -> None:
        """Listen to nothing yet; needs a running loop."""
        self.handler = handler
        self.limits = limits or Limits()
        self.refusal = refusal
        self.loop = asyncio.get_running_loop()
        self.sweep = Sweep(self.loop)
        self.draining = False
        self.date = b""
        self.deadline = 0.0
        self._connections: set[Connection] = set()
        self._listeners: list[asyncio.Server] = []
        self._unflushed: list[Connection] = []
        self._empty = asyncio.Event()
        self._empty.set()
        self.on_deadline(self.sweep.now)

    @property
    def connections(self) -> int:
        """Open connections, idle ones included."""
        return len(self._connections)

    @property
    def exchanges(self) -> int:
        """Requests being served."""
        return sum(connection.exchange is not None for connection in self._connections)

    @property
    def port(self) -> int:
        """The port that the first listener got."""
        listener: Any = self._listeners[0]  # its sockets are a tuple in asyncio and a list in uvloop
        return int(listener.sockets[0].getsockname()[1])

    async def start(
        self,
        host: str | None = None,
        port: int = 0,
        *,
        sock: socket.socket | None = None,
        ssl: ssl.SSLContext | None = None,
        reuse_port: bool = False,
    ) -> None:
        """Listen on an address, or on a bound socket. May be called again for another one.

        Raises:
            OSError: if the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        handshake = self.limits.header_s if ssl is not None else None
        if sock is not None:
            listener = await loop.create_server(
                lambda: Connection(self), sock=sock, ssl=ssl, backlog=BACKLOG, ssl_handshake_timeout=handshake
            )
        else:
            listener = await loop.create_server(
                lambda: Connection(self),
                host,
                port,
                ssl=ssl,
                backlog=BACKLOG,
                reuse_port=reuse_port,
                ssl_handshake_timeout=handshake,
            )
        self._listeners.append(listener)
        self.sweep.add(self)

    async def drain(self, seconds: float) -> None:
        """End: wait so long for the answers under way, then cut and cancel what is left. May be called again."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        for connection in tuple(self._connections):
            connection.drain()
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            await self._cut()
        self.sweep.discard(self)

    async def _cut(self) -> None:
        tasks = [task for connection in tuple(self._connections) if (task := connection.cancel()) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=CUT_S)

    def connected(self, connection: Connection) -> None:
        """A connection was made."""
        self._connections.add(connection)
        self._empty.clear()
        self.sweep.add(connection)
        if self.draining:
            connection.drain()

    def disconnected(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self.sweep.discard(connection)
        if not self._connections:
            self._empty.set()

    def flush_soon(self, connection: Connection) -> None:
        """Have a connection write what it was given, when all that is ready now has been handled."""
        if not self._unflushed:
            self.loop.call_soon(self._flush)
        self._unflushed.append(connection)

    def _flush(self) -> None:
        unflushed, self._unflushed = self._unflushed, []
        for connection in unflushed:
            connection.flush()

    def on_deadline(self, now: float) -> None:
        """Renew the date."""
        self.date = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        self.deadline = now + 1.0
