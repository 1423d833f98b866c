"""Puts one serving process together: the wire, the books, the endpoints and the request's way through them.

Rule: this is where the clocks and chance come from; everything behind takes them as arguments.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import random  # noqa: TID251  shares of traffic and pauses are drawn here, at the edge
import secrets  # noqa: TID251  ids of answers must not be guessed
import ssl
import time
from typing import TYPE_CHECKING

import arbiter
from arbiter.errors import InvalidInputError
from arbiter.router import metric_families as families
from arbiter.router.accounting import Ledger
from arbiter.router.admin import Standing
from arbiter.router.backend_keys import BackendKeys
from arbiter.router.endpoints import Endpoints
from arbiter.router.feedback import Feedback
from arbiter.router.keys import KeyFile
from arbiter.router.metrics import Meter
from arbiter.router.refusal import Refusal, protocol_of, refusal_body
from arbiter.router.serve import Router
from arbiter.router.wire.client import Pool
from arbiter.router.wire.deadlines import Sweep
from arbiter.router.wire.limits import Limits
from arbiter.router.wire.server import Server

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from arbiter.core.routes import RouteTable
    from arbiter.router.options import Options

log = logging.getLogger(__name__)

TICK_S = 0.25
"""Seconds between two looks at the clock, at breakers for whose sake somebody waits, and at the files of keys."""


draw = random.random
"""Numbers drawn evenly from [0, 1)."""


def new_epoch() -> str:
    """Name this life of this router: the pod's uid where it is known, and when the process began."""
    name = os.environ.get("ARBITER_POD_UID") or platform.node()
    return f"{name}/{time.time_ns() // 1_000_000}"  # noqa: TID251  the edge of the program


class Serving:
    """One process that serves.

    Attributes:
        ledger: its books.
        standing: how it stands to its table.
        server: the clients' port.
    """

    def __init__(self, options: Options, epoch: str, shares: int, feedback_key: bytes) -> None:
        """Serve nothing yet; needs a running loop.

        Args:
            options: of the command line.
            epoch: which life of which router.
            shares: worker processes of this router.
            feedback_key: signs the ids of answers.

        Raises:
            InvalidInputError: the keys' file or the backend keys' folder cannot be used.
        """
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._sweep = Sweep(loop)
        self._keys = KeyFile(options.keys, shares) if options.keys is not None else None
        self._ticking: asyncio.Task[None] | None = None
        self._meter = Meter()
        self._meter.set(families.BUILD, (arbiter.__version__, platform.python_version(), type(loop).__module__), 1)
        self.standing = Standing(self._meter)
        self.ledger = Ledger(epoch, self._meter, loop.time(), _unix_s() * 1000.0)
        self.router = Router(
            ledger=self.ledger,
            meter=self._meter,
            endpoints=Endpoints(lambda url: Pool(url, sweep=self._sweep), BackendKeys(options.backend_keys)),
            feedback=Feedback(feedback_key, secrets.token_hex(6)),
            keys=self._keys,
            draw=draw,
            loop=loop,
            unix_at_zero=_unix_s() - loop.time(),
            shares=shares,
        )
        self.server = Server(self.router.serve, refusal=self._refused)

    async def listen(self, bound: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Take requests."""
        await self.server.start(sock=bound, ssl=tls)
        self._ticking = self._loop.create_task(self._tick())

    def obey(self, table: RouteTable) -> None:
        """Serve by this table."""
        if table != self.router.table:  # the same one is told again after another was refused
            self.router.obey(table)
            limits = table.limits
            self.server.limits = Limits(body_bytes=limits.body_bytes, header_s=limits.header_s, body_s=limits.body_s)
        self.standing.obey(table)

    async def drain(self, seconds: float) -> None:
        """Finish what is under way, for at most so many seconds, and take no more."""
        self.standing.draining = True
        await self.server.drain(seconds)
        if self._ticking is not None:
            self._ticking.cancel()
        self.router.endpoints.close()

    def refresh(self) -> None:
        """Set the gauges that are not counted as they change."""
        self._meter.set(families.CONNECTIONS, (), self.server.connections)

    def _refused(self, status: int, reason: str, request_line: bytes) -> tuple[Sequence[tuple[bytes, bytes]], bytes]:
        """What the wire itself refuses, in the protocol of whoever asked, as far as that can be told."""
        self._meter.count(families.WIRE_REFUSALS, (str(status),))
        words = request_line.split(b" ", 2)
        protocol = protocol_of(words[1] if len(words) > 1 else b"")
        kind, body = refusal_body(protocol, Refusal(status, "invalid_request", reason))
        return ((b"content-type", kind),), body

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.router.tick(_unix_s())
            if self.router.table is not None:
                self.router.endpoints.keys.refresh(self.router.table, self._meter)
            self.refresh()
            if self._keys is not None:
                try:
                    self._keys.refresh()
                except InvalidInputError as refused:
                    self._meter.count(families.KEYS_REFUSED)
                    log.error("the keys were not taken, the last good ones stay: %s", refused)  # noqa: TRY400  the message says it


def feedback_key(path: Path | None) -> bytes:
    """The key that signs ids of answers; one that only this process knows where none is given.

    Raises:
        InvalidInputError: the file cannot be read or is too short to be a secret.
    """
    if path is None:
        return secrets.token_bytes(32)
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise InvalidInputError("--feedback-key", f"{path} cannot be read: {error.strerror}") from error
    if len(key) < 16:
        raise InvalidInputError("--feedback-key", f"{path} must hold at least 16 bytes")
    return key


def tls_context(options: Options) -> ssl.SSLContext | None:
    """How the clients' port is secured; None where it is not.

    Raises:
        InvalidInputError: the certificate cannot be used.
    """
    if options.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(options.tls_certificate, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInputError("--tls-certificate", f"cannot be used: {error}") from error
    return context


def _unix_s() -> float:
    return time.time()  # noqa: TID251  the edge of the program
