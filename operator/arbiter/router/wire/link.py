"""One connection to an engine: carries one call at a time, and is kept only after an answer that allows it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, cast

from arbiter.router.wire.answer import AnswerReader, MalformedError
from arbiter.router.wire.broken import Broken, Fault
from arbiter.router.wire.deadlines import NEVER
from arbiter.router.wire.headers import end_to_end

if TYPE_CHECKING:
    from arbiter.router.wire.client import Call, Pool

logger = logging.getLogger(__name__)

JOINED_BYTES: Final = 65_536
"""Up to this size head and body are one write; above, copying costs more than a second call."""


class Link(asyncio.Protocol):
    """One connection to an engine.

    Attributes:
        alive: it can carry a call.
        deadline: when the present state has lasted too long.
    """

    __slots__ = (
        "_begun",
        "_call",
        "_heard",
        "_heard_at",
        "_pool",
        "_reader",
        "_sweep",
        "_told",
        "_transport",
        "alive",
        "deadline",
    )

    def __init__(self, pool: Pool) -> None:
        """Wait for the transport."""
        self._pool = pool
        self._sweep = pool.sweep
        self._reader = AnswerReader()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._call: Call | None = None
        self._heard = self._told = self._begun = False
        self._heard_at = 0.0
        self.alive = False
        self.deadline = NEVER

    def carry(self, call: Call) -> None:
        """Send a call's request. A connection that has ended meanwhile shows in `connection_lost`, as any other."""
        self._call = call
        call.link = self
        self._heard = self._told = self._begun = False
        self._reader.expect(bare=call.head.startswith(b"HEAD "))
        self.deadline = min(self._sweep.now + self._pool.limits.first_byte_s, call.total_at)
        if not self.alive or self._transport.is_closing():  # uvloop raises at a write then
            asyncio.get_running_loop().call_soon(self._end, None)
        elif len(call.body) <= JOINED_BYTES:
            self._transport.write(call.head + call.body)
        else:
            self._transport.write(call.head)
            self._transport.write(call.body)
        if call.paused:
            self.pause()

    def cut(self) -> None:
        """End the connection at once; nobody is told."""
        self._call = None
        self._drop()

    def pause(self) -> None:
        """Read no more for now."""
        if self.alive:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.alive:
            self._heard_at = self._sweep.now
            self._set_idle_deadline()
            self._transport.resume_reading()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be of use."""
        self._transport = cast("asyncio.Transport", transport)
        self.alive = True
        self._pool.made(self)
        self.deadline = self._sweep.now + self._pool.limits.idle_keep_s  # if whoever asked for it is cancelled now

    def data_received(self, data: bytes) -> None:
        """Take bytes of the answer and hand on what they amount to."""
        call, reader = self._call, self._reader
        if call is None:
            self._drop()
            return
        self._heard = True
        self._heard_at = self._sweep.now
        wrong = None
        try:
            reader.feed(data)
        except MalformedError as error:
            wrong = error
        try:
            self._hand_on(call, reader)
        except Exception:
            logger.exception("a receiver failed")
            self._fail(Broken(Fault.RECEIVER, "the answer could not be taken"))
            return
        if self._call is not call:
            return
        if reader.complete:
            self._finish(call, reader)
        elif wrong is not None:
            self._fail(Broken(Fault.PROTOCOL, str(wrong)))

    def eof_received(self) -> bool:
        """The engine sends no more: the end of some bodies, and a break of all others."""
        self._end(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever brought it about."""
        self._end(exc)

    def on_deadline(self, now: float) -> None:
        """The present state has lasted too long."""
        call = self._call
        if call is None:
            self._drop()
        elif now >= call.total_at:
            self._fail(Broken(Fault.TOTAL, f"the answer did not end within {self._pool.limits.total_s:g} s"))
        elif not self._begun:
            limit = self._pool.limits.first_byte_s
            self._fail(Broken(Fault.FIRST_BYTE, f"no byte of a body within {limit:g} s"))
        else:
            if self._heard_at >= self._sweep.before:  # since the last look; nobody noted when
                self._heard_at = now
            self._set_idle_deadline()
            if self.deadline <= now:
                self._fail(Broken(Fault.IDLE, f"nothing came for {self._pool.limits.idle_s:g} s"))

    # Steps of these.

    def _hand_on(self, call: Call, reader: AnswerReader) -> None:
        """Give the receiver what has come; it may cancel at any call."""
        if reader.status and not self._told:
            self._told = True
            call.head = call.body = b""
            call.receiver.on_head(reader.status, end_to_end(reader.headers))
        pieces = reader.pieces
        if pieces and self._call is call:
            reader.pieces = []
            if not self._begun:
                self._begun = True
                self._set_idle_deadline()
            call.receiver.on_body(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _set_idle_deadline(self) -> None:
        call = self._call
        if call is None or not self._begun:
            return
        self.deadline = call.total_at if call.paused else min(self._heard_at + self._pool.limits.idle_s, call.total_at)

    def _finish(self, call: Call, reader: AnswerReader) -> None:
        self._call = None
        if call.paused:
            self.resume()
        if reader.reusable and self.alive and self._pool.keep(self):
            self.deadline = self._sweep.now + self._pool.limits.idle_keep_s
        else:
            self._drop()
        self._tell_end(call)

    def _tell_end(self, call: Call) -> None:
        try:
            call.end()
        except Exception:
            logger.exception("a receiver failed at the end of its answer")

    def _end(self, exc: Exception | None) -> None:
        """The connection is over."""
        call, self._call = self._call, None
        self._drop()
        if call is None or call.done:
            return
        if exc is None and self._reader.ends_with_connection():
            self._tell_end(call)
        elif call.reused and not call.resent and not self._heard:
            self._pool.resend(call)
        else:
            self._call = call
            self._fail(Broken(Fault.RESET, f"the connection ended before the answer did{f': {exc}' if exc else ''}"))

    def _fail(self, broken: Broken) -> None:
        call, self._call = self._call, None
        self._drop()
        if call is None:
            return
        try:
            call.fail(broken)
        except Exception:
            logger.exception("a receiver failed at being told that its answer is broken")

    def _drop(self) -> None:
        """Cut the connection, if that has not happened."""
        if self.alive:
            self.alive = False
            self._pool.lost(self)
            self._transport.abort()
