"""Sends requests to one engine over connections that are kept, and hands its answers on as they come.

Rule: whoever sends learns the end of it exactly once, by `on_end` or by `on_broken`, unless it cancels. A request is
sent a second time only if a *kept* connection ended before one byte of an answer: the engine had closed it while the
request was on its way. A fresh connection that ends so is broken.
"""

from __future__ import annotations

import asyncio
import ssl as tls
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from arbiter.router.wire.broken import Broken, Fault
from arbiter.router.wire.deadlines import Sweep
from arbiter.router.wire.headers import request_head
from arbiter.router.wire.limits import PoolLimits
from arbiter.router.wire.link import Link

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ssl import SSLContext

PORTS: Final = {"http": 80, "https": 443}


@cache
def _trusted() -> SSLContext:
    """The system's roots, or those of `SSL_CERT_FILE`; read once, as reading them stops everything for 30 ms."""
    return tls.create_default_context()


class Receiver(Protocol):
    """Who takes an answer. Called from the transport, so it must not wait."""

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The head has come; the header fields are those that may go further, names in lower case."""

    def on_body(self, data: bytes) -> None:
        """A piece of the body, without chunk framing; at most one for each read."""

    def on_end(self) -> None:
        """The answer is complete."""

    def on_broken(self, broken: Broken) -> None:
        """The answer will not be complete. It may have begun."""


class Call:
    """One request on its way, and its answer.

    Attributes:
        receiver: who takes the answer.
        reused: it was first sent over a kept connection.
        resent: that one turned out to be closed, so it was sent again over a fresh one.
        done: it has ended, broken or been cancelled.
        paused: the receiver wants no more for now.
        total_at: when it must have ended.
    """

    __slots__ = ("body", "done", "head", "link", "paused", "receiver", "resent", "reused", "total_at")

    def __init__(self, head: bytes, body: bytes, receiver: Receiver, total_at: float) -> None:
        """Not sent yet."""
        self.head = head
        self.body = body
        self.receiver = receiver
        self.link: Link | None = None
        self.reused = self.resent = self.done = self.paused = False
        self.total_at = total_at

    def cancel(self) -> None:
        """Want no more of it: the connection is cut at once and the receiver is not called again."""
        if self.done:
            return
        self.done = True
        link, self.link = self.link, None
        if link is not None:
            link.cut()

    def pause(self) -> None:
        """Read no more for now; the time between two pieces does not count while it lasts."""
        if not self.paused and not self.done:
            self.paused = True
            if self.link is not None:
                self.link.pause()

    def resume(self) -> None:
        """Read on."""
        if self.paused:
            self.paused = False
            if self.link is not None:
                self.link.resume()

    def end(self) -> None:
        """Tell the receiver that the answer is complete."""
        if not self.done:
            self.done = True
            self.link = None
            self.receiver.on_end()

    def fail(self, broken: Broken) -> None:
        """Tell the receiver that it will not be."""
        if not self.done:
            self.done = True
            self.link = None
            self.receiver.on_broken(broken)


class Pool:
    """The connections to one engine.

    Attributes:
        limits: what is borne from it.
        sweep: watches the deadlines; may be shared.
    """

    def __init__(
        self,
        url: str,
        limits: PoolLimits | None = None,
        *,
        ssl: SSLContext | None = None,
        sweep: Sweep | None = None,
    ) -> None:
        """Connect to nothing yet; needs a running loop.

        Args:
            url: `http(s)://host[:port][/base]`; the base is put before each path.
            limits: what is borne from the engine.
            ssl: for https; the system's roots without it.
            sweep: to share one among pools.

        Raises:
            ValueError: if the URL is not of that form.
        """
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(f"{url} is not http(s)://host[:port][/base]")
        self.limits = limits or PoolLimits()
        self.sweep = sweep or Sweep(asyncio.get_running_loop())
        self._name = parts.hostname
        self._port = parts.port or PORTS[parts.scheme]
        self._host = parts.netloc.encode("ascii")
        self._base = parts.path.rstrip("/").encode("ascii")
        self._ssl = (ssl or _trusted()) if parts.scheme == "https" else None
        self._idle: list[Link] = []
        self._links: set[Link] = set()
        self._again: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def open(self) -> int:
        """Connections, kept and used."""
        return len(self._links)

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    async def send(
        self, method: bytes, path: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes, receiver: Receiver
    ) -> Call:
        """Send a request over a kept connection or a fresh one.

        Args:
            method: such as `POST`.
            path: with its query, beginning with a slash.
            headers: names in lower case. Those of one connection, Host and Content-Length are dropped.
            body: whole.
            receiver: takes the answer, from now on and perhaps before this returns control.

        Raises:
            Broken: CONNECT, if there is no connection to be had; the receiver is not called then.
            ValueError: if a header field holds a line break, or the path a space.
        """
        head = request_head(method, self._base + path, self._host, headers, len(body))
        call = Call(head, body, receiver, self.sweep.time() + self.limits.total_s)
        link = self._kept()
        call.reused = link is not None
        (link or await self._connect()).carry(call)
        return call

    def close(self) -> None:
        """Keep no connection any more. Requests on their way go on to their end."""
        self._closed = True
        for link in tuple(self._idle):
            link.cut()

    # What a link calls.

    def made(self, link: Link) -> None:
        """A connection was made."""
        self._links.add(link)
        self.sweep.add(link)

    def lost(self, link: Link) -> None:
        """A connection is no longer of use."""
        self._links.discard(link)
        self.sweep.discard(link)
        if link in self._idle:
            self._idle.remove(link)

    def keep(self, link: Link) -> bool:
        """Keep a connection for later; False if it is not wanted."""
        if self._closed or len(self._idle) >= self.limits.idle_connections:
            return False
        self._idle.append(link)
        return True

    def resend(self, call: Call) -> None:
        """Send a call again over a fresh connection."""
        call.resent = True
        call.link = None
        task = asyncio.get_running_loop().create_task(self._resend(call))
        self._again.add(task)
        task.add_done_callback(self._again.discard)

    async def _resend(self, call: Call) -> None:
        try:
            link = await self._connect()
        except Broken as broken:
            call.fail(broken)
            return
        if not call.done:
            link.carry(call)
        elif not self.keep(link):
            link.cut()

    def _kept(self) -> Link | None:
        while self._idle:
            link = self._idle.pop()
            if link.alive:
                return link
        return None

    async def _connect(self) -> Link:
        loop = asyncio.get_running_loop()
        link = Link(self)
        try:
            async with asyncio.timeout(self.limits.connect_s):
                await loop.create_connection(
                    lambda: link,
                    self._name,
                    self._port,
                    ssl=self._ssl,
                    server_hostname=self._name if self._ssl is not None else None,
                )
        except TimeoutError as error:
            text = f"no connection to {self._name}:{self._port} within {self.limits.connect_s:g} s"
            raise Broken(Fault.CONNECT, text) from error
        except OSError as error:
            raise Broken(Fault.CONNECT, f"no connection to {self._name}:{self._port}: {error}") from error
        return link
