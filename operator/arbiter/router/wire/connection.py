"""One client's connection: bytes in, requests to the handler one after the other, answers out in their order.

Rule: one coroutine for each connection and none for a request. While a request is served, what follows it is held up
to HELD_BYTES and then no longer read. Every state has a deadline, and every end tells whoever waits for the client.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, cast

from arbiter.router.wire.deadlines import NEVER
from arbiter.router.wire.exchange import Exchange
from arbiter.router.wire.headers import answer_head
from arbiter.router.wire.intake import Intake, Phase
from arbiter.router.wire.limits import HELD_BYTES, IDLE_GRACE_S, LINGER_S, UNSENT_BYTES
from arbiter.router.wire.request_head import RefusedError

if TYPE_CHECKING:
    from arbiter.router.wire.server import Server

logger = logging.getLogger(__name__)

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
TIMED_OUT: Final = {
    Phase.HEAD: "the head of the request took too long",
    Phase.BODY: "the body of the request took too long",
}


class Connection(asyncio.Protocol):
    """One client's connection.

    Attributes:
        deadline: when the present state has lasted too long.
        closing: the connection ends with the answer under way.
        blocked: the client does not keep up with what is sent.
        exchange: the request being served.
    """

    __slots__ = (
        "_flushed",
        "_held_up",
        "_intake",
        "_over",
        "_sent",
        "_server",
        "_size",
        "_sweep",
        "_task",
        "_transport",
        "_unwritten",
        "_waiter",
        "blocked",
        "closing",
        "deadline",
        "exchange",
    )

    def __init__(self, server: Server) -> None:
        """Wait for the transport."""
        self._server = server
        self._sweep = server.sweep
        self._intake = Intake(server.limits)
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[Exchange | None] | None = None
        self._over = self._held_up = False
        self._unwritten: list[bytes] = []
        self._sent = self._flushed = self._size = 0
        self.exchange: Exchange | None = None
        self.closing = self.blocked = False
        self.deadline = NEVER

    @property
    def date(self) -> bytes:
        """The Date field of an answer given now."""
        return self._server.date

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES)
        self._server.connected(self)
        self.deadline = self._sweep.now + self._server.limits.header_s
        self._task = self._server.loop.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Take bytes; a request that they complete wakes the coroutine."""
        if self._over:
            return
        intake = self._intake
        intake.feed(data)
        if self.exchange is None:
            self._advance()
        elif len(intake.held) > HELD_BYTES and not self._held_up:
            self._held_up = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more. It is taken to have left: one that closes looks the same until it is written to."""
        self._left()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever brought it about."""
        del exc
        self._server.disconnected(self)
        self._left()

    def pause_writing(self) -> None:
        """More than UNSENT_BYTES wait for the client."""
        self.blocked = True
        self._flushed = self._sent - self._transport.get_write_buffer_size()
        self.deadline = self._sweep.now + self._server.limits.write_s
        if self.exchange is not None:
            self.exchange.block()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.blocked = False
        if self._over:
            self.deadline = self._sweep.now + LINGER_S
        elif self.exchange is not None:
            self.deadline = NEVER
            self.exchange.unblock()
        elif self._intake.phase is Phase.BETWEEN:
            self.deadline = self._sweep.now + self._server.limits.keep_alive_s

    # What the exchange calls.

    def send(self, data: bytes) -> None:
        """Send bytes to the client."""
        self._unwritten.append(data)
        self._size += len(data)
        if (
            self._size > UNSENT_BYTES
        ):  # one turn of the loop may bring megabytes, and whoever sends must be paused in it
            self.flush()
        elif len(self._unwritten) == 1:
            self._server.flush_soon(self)

    def flush(self) -> None:
        """Write what was sent in this turn of the loop, in one piece: a system call costs more than all else here."""
        unwritten, self._unwritten = self._unwritten, []
        if unwritten and not self._transport.is_closing():  # uvloop raises then
            self._size = 0
            data = unwritten[0] if len(unwritten) == 1 else b"".join(unwritten)
            self._sent += len(data)
            self._transport.write(data)

    def cut(self) -> None:
        """Break the connection, behind what was sent in this turn of the loop; what is not taken is lost."""
        self._over = True
        if not self._unwritten:
            self._transport.abort()
            return
        self.flush()
        # uvloop writes at the end of a turn what was handed to it in the turn, so the break comes in the next one.
        loop = self._server.loop
        loop.call_soon(loop.call_soon, self._transport.abort)

    # What the sweep and the server call.

    def on_deadline(self, now: float) -> None:
        """The present state has lasted too long."""
        if self.blocked:
            flushed = self._sent - self._transport.get_write_buffer_size()
            if flushed > self._flushed:
                self._flushed = flushed
                self.deadline = now + self._server.limits.write_s
            else:
                self.cut()
        elif self._over or self._transport.is_closing():
            self.cut()
        elif self._intake.phase is Phase.BETWEEN:
            self._close()
        else:
            self._refuse(RefusedError(408, TIMED_OUT[self._intake.phase], self._intake.line()))

    def drain(self) -> None:
        """End with the answer under way, or soon if there is none."""
        self.closing = True
        if self.exchange is None:
            self.deadline = min(self.deadline, self._sweep.now + IDLE_GRACE_S)

    def cancel(self) -> asyncio.Task[None] | None:
        """Cut the connection and cancel its handler; returns the coroutine for whoever waits for its end."""
        self.cut()
        if self._task is not None:
            self._task.cancel()
        return self._task

    # The coroutine, and what wakes it.

    async def _serve(self) -> None:
        while (exchange := await self._next()) is not None:
            try:
                await self._server.handler(exchange)
            except Exception:
                logger.exception("a handler failed")
            self._settle(exchange)
            del exchange  # or its body, which may be large, stays in memory until the next request comes

    async def _next(self) -> Exchange | None:
        if self._over:
            return None
        if self.exchange is None:
            self._waiter = self._server.loop.create_future()
            return await self._waiter
        return self.exchange

    def _advance(self) -> None:
        """Read the next request out of what is held, and note until when the rest must come."""
        intake = self._intake
        if intake.phase is Phase.BETWEEN:
            intake.bear(self._server.limits)  # a table may have come since the last request
        before = intake.phase
        try:
            request = intake.next()
        except RefusedError as refused:
            self._refuse(refused)
            return
        if request is not None:
            self.closing = self.closing or not request.keep
            self.exchange = Exchange(request, self)
            self.deadline = NEVER
            self._wake(self.exchange)
            return
        if intake.expects:
            intake.expects = False
            self.send(CONTINUE)
        if intake.phase is not before:
            limits = self._server.limits
            self.deadline = self._sweep.now + (limits.body_s if intake.phase is Phase.BODY else limits.header_s)

    def _settle(self, exchange: Exchange) -> None:
        """After the handler: make sure there is an answer, then close or go on."""
        if not (exchange.ended or exchange.gone):
            if exchange.started:
                logger.error("a handler returned before the end of its answer")
                exchange.abort()
            else:
                self._answer(exchange, 500, "the request could not be served")
        self.exchange = None
        if self._over or exchange.gone:
            self._over = True
            self._close()
        elif exchange.final:
            self._close()
        else:
            self._go_on()

    def _go_on(self) -> None:
        limits = self._server.limits
        wait = limits.write_s if self.blocked else IDLE_GRACE_S if self.closing else limits.keep_alive_s
        self.deadline = self._sweep.now + wait
        if self._held_up:
            self._held_up = False
            self._transport.resume_reading()
        if self._intake.held:
            self._advance()

    def _answer(self, exchange: Exchange, status: int, reason: str) -> None:
        request = exchange.request
        line = b"%b %b HTTP/1.%d" % (request.method, request.path, not request.http10)
        headers, body = self._server.refusal(status, reason, line)
        exchange.respond(status, headers, body)

    def _refuse(self, refused: RefusedError) -> None:
        """Answer in the handler's place and close; what still comes is read and forgotten for a moment."""
        headers, body = self._server.refusal(refused.status, refused.reason, refused.request_line)
        framing = self.date + b"content-length: %d\r\nconnection: close\r\n" % len(body)
        head = answer_head(refused.status, headers, framing)
        self.send(head if refused.request_line.startswith(b"HEAD ") else head + body)
        self._over = True
        self._wake(None)
        self.deadline = self._sweep.now + LINGER_S
        self.flush()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def _close(self) -> None:
        """Close when all is sent, which may not take for ever."""
        self._over = True
        self._wake(None)
        self.deadline = self._sweep.now + self._server.limits.write_s
        self.flush()
        self._transport.close()

    def _left(self) -> None:
        self._over = True
        self.deadline = self._sweep.now + LINGER_S
        self._wake(None)
        if self.exchange is not None:
            self.exchange.leave()

    def _wake(self, exchange: Exchange | None) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(exchange)
