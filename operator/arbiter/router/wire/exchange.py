"""One request and its answer, as a handler sees them.

Rule: an answer is framed by its length or by chunks, ends exactly once, and a broken one never looks whole. After
the client has left, everything that would write does nothing, so a relay need not ask before each piece.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from arbiter.router.wire.headers import answer_head

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from arbiter.router.wire.request_head import Request

BODILESS: Final = frozenset({204, 304})
"""Statuses whose answers have no body and no length."""


class Line(Protocol):
    """What an exchange needs of its connection."""

    closing: bool
    blocked: bool

    @property
    def date(self) -> bytes:
        """The Date field of an answer given now."""

    def send(self, data: bytes) -> None:
        """Send bytes to the client."""

    def cut(self) -> None:
        """Break the connection at once."""


class Exchange:
    """One request and its answer.

    Attributes:
        request: what was asked.
        gone: the client has left, or the connection was cut.
        started: the head of the answer is written.
        ended: the answer is written whole.
        final: the answer's head says that the connection closes after it.
    """

    __slots__ = (
        "_chunked",
        "_gone_call",
        "_left",
        "_line",
        "_pause",
        "_resume",
        "ended",
        "final",
        "gone",
        "request",
        "started",
    )

    def __init__(self, request: Request, line: Line) -> None:
        """Nothing answered yet."""
        self.request = request
        self.gone = self.started = self.ended = self.final = False
        self._line = line
        self._chunked = False
        self._left = -1
        self._gone_call: Callable[[], None] | None = None
        self._pause: Callable[[], None] | None = None
        self._resume: Callable[[], None] | None = None

    @property
    def writable(self) -> bool:
        """Whether the client keeps up; if not, whoever writes should wait."""
        return not self._line.blocked

    def on_gone(self, call: Callable[[], None] | None) -> None:
        """Have this called once when the client leaves; at once if it has. None takes the wish back."""
        if self.gone and call is not None:
            call()
        else:
            self._gone_call = call

    def on_writable(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Have `pause` called when the client falls behind (at once if it has) and `resume` when it has caught up."""
        self._pause, self._resume = pause, resume
        if self._line.blocked and not self.gone:
            pause()

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Give a whole answer.

        Raises:
            RuntimeError: if one was started already.
            ValueError: if a header field holds a line break.
        """
        bodiless = status in BODILESS
        framing = b"" if bodiless else b"content-length: %d\r\n" % len(body)
        head = self._head(status, headers, framing)
        self.ended = True
        if not self.gone:
            self._line.send(head if bodiless or self.request.method == b"HEAD" else head + body)

    def start(self, status: int, headers: Sequence[tuple[bytes, bytes]], length: int | None) -> None:
        """Give the head of an answer whose body follows.

        Args:
            status: of the answer.
            headers: without those that frame it.
            length: of the body, if known. Otherwise it goes in chunks, or to HTTP/1.0 until the connection closes.

        Raises:
            RuntimeError: if an answer was started already.
            ValueError: if a header field holds a line break.
        """
        framing = b""
        if status in BODILESS:
            length = 0
        elif length is not None:
            framing = b"content-length: %d\r\n" % length
        elif self.request.http10:
            self._line.closing = True
        else:
            framing = b"transfer-encoding: chunked\r\n"
            self._chunked = True
        head = self._head(status, headers, framing)
        if self.request.method == b"HEAD":
            length, self._chunked = 0, False
        self._left = -1 if length is None else length
        if not self.gone:
            self._line.send(head)

    def write(self, data: bytes) -> None:
        """Send the next piece of the body. To HEAD and bodiless answers nothing is sent.

        Raises:
            RuntimeError: if the answer is not started or has ended, or the body gets longer than was said. The
                connection is cut then.
        """
        if self.gone or not data:
            return
        if not self.started or self.ended:
            self._fail("a piece of an answer that is not under way")
        if self._chunked:
            self._line.send(b"%x\r\n%b\r\n" % (len(data), data))
        elif self._left < 0:
            self._line.send(data)
        elif not self._silent():
            self._left -= len(data)
            if self._left < 0:
                self._fail("the answer is longer than was said")
            self._line.send(data)

    def end(self) -> None:
        """End the answer. One that is shorter than was said is cut instead."""
        if self.ended or self.gone:
            return
        if not self.started:
            self._fail("the end of an answer that was not started")
        if self._left > 0:
            self.abort()
            return
        self.ended = True
        if self._chunked:
            self._line.send(b"0\r\n\r\n")

    def abort(self) -> None:
        """Cut the connection, so that the client sees the answer as broken."""
        self.leave(tell=False)
        self._line.cut()

    def leave(self, *, tell: bool = True) -> None:
        """Note that nothing can reach the client any more, and tell who asked for it."""
        if self.gone:
            return
        self.gone = True
        call, self._gone_call = self._gone_call, None
        if call is not None and tell and not self.ended:
            call()

    def block(self) -> None:
        """Note that the client has fallen behind."""
        if self._pause is not None and not self.ended:
            self._pause()

    def unblock(self) -> None:
        """Note that the client has caught up."""
        if self._resume is not None and not self.ended:
            self._resume()

    def _silent(self) -> bool:
        return self.request.method == b"HEAD"

    def _head(self, status: int, headers: Sequence[tuple[bytes, bytes]], framing: bytes) -> bytes:
        if self.started:
            raise RuntimeError("an answer was started already")
        line = self._line
        if line.closing:
            self.final = True
            framing += b"connection: close\r\n"
        elif self.request.http10:
            framing += b"connection: keep-alive\r\n"
        head = answer_head(status, headers, line.date + framing)
        self.started = True
        return head

    def _fail(self, text: str) -> None:
        self.abort()
        raise RuntimeError(text)
