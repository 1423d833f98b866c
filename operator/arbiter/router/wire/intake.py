"""Makes requests out of the bytes of one connection. No input or output here: bytes go in, requests come out.

Two readers must agree on every message. Ours finds its parts and its end; llhttp, in its strict mode, is then given
exactly these bytes and must find the same end. What either of them does not like is refused.
"""

from __future__ import annotations

from enum import Enum

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from arbiter.router.wire.chunked import Chunks
from arbiter.router.wire.limits import TARGET_BYTES, Limits
from arbiter.router.wire.request_head import BEGINNING, NEVER, RefusedError, Request, first_line, read_head, refuse


class Phase(Enum):
    """What the next bytes belong to."""

    BETWEEN = "between requests"
    HEAD = "head"
    BODY = "body"


class Judge:
    """llhttp as the second reader of one connection; it is asked for nothing but where messages end."""

    __slots__ = ("_ended", "_parser")

    def __init__(self) -> None:
        """Expect a request."""
        self._ended = 0
        self._parser = HttpRequestParser(self)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._ended += 1

    def take(self, data: bytes, *, ends: bool) -> bool:
        """Whether these bytes are right, and end the message exactly if `ends`."""
        self._ended = 0
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            return False
        return self._ended == ends


class Intake:
    """The requests of one connection.

    Attributes:
        phase: what the next bytes belong to.
        expects: whether the client waits for `100 Continue` before it sends the body; reset by who says it.
        held: bytes that came and are not understood yet.
    """

    __slots__ = (
        "_begun",
        "_chunks",
        "_judge",
        "_limits",
        "_missing",
        "_raw",
        "_request",
        "_searched",
        "expects",
        "held",
        "phase",
    )

    def __init__(self, limits: Limits) -> None:
        """Expect the first request."""
        self._limits = limits
        self._judge: Judge | None = Judge()
        self._request: Request | None = None
        self._chunks: Chunks | None = None
        self._begun = bytearray()
        self._missing = 0
        self._searched = 0
        self._raw = b""
        self.held = b""
        self.expects = False
        self.phase = Phase.BETWEEN

    def bear(self, limits: Limits) -> None:
        """Take over other limits; they hold for the next request."""
        self._limits = limits

    def feed(self, data: bytes) -> None:
        """Keep the next bytes."""
        self.held = self.held + data if self.held else data

    def next(self) -> Request | None:
        """The next request, if it is complete. After a refusal nothing more may be asked.

        Raises:
            RefusedError: with what to answer before the connection is closed.
        """
        if self._request is None and not self._read_head():
            return None
        try:
            complete = self._read_body()
        except RefusedError as refused:
            refused.request_line = first_line(self._raw)
            raise
        if not complete:
            return None
        request, self._request = self._request, None
        self._chunks = None
        self._raw = b""
        self._searched = 0
        self.expects = False
        self.phase = Phase.BETWEEN
        return request

    def line(self) -> bytes:
        """The request line of what is under way, as far as it came."""
        return first_line(self._raw if self.phase is Phase.BODY else self.held)

    def _read_head(self) -> bool:
        if self.phase is Phase.BETWEEN and not self._begin():
            return False
        held = self.held
        end = held.find(b"\r\n\r\n", max(0, self._searched - 3), self._limits.header_bytes + 4)
        if end < 0:
            self._wait_for_head(held)
            return False
        self._request, framing = read_head(held, end + 4, self._limits)
        if framing.length > self._limits.body_bytes:
            raise RefusedError(413, f"the body is longer than {self._limits.body_bytes} bytes", first_line(held))
        self._missing = max(0, framing.length)
        if framing.upgrade:  # llhttp takes all that follows an offer to upgrade for the other protocol
            self._judge = None
        elif self._judge is None:
            self._judge = Judge()
        if framing.chunked:
            self._chunks = Chunks(self._limits.body_bytes)
        elif len(held) == end + 4 + self._missing:
            self._take_whole(self._request, held, end + 4)
            return True
        self._raw = held[: end + 4]
        self.held = held[end + 4 :]
        self._confirm(self._raw, ends=not (framing.chunked or self._missing))
        self.expects = framing.expects and not self._request.http10
        self.phase = Phase.BODY
        return True

    def _begin(self) -> bool:
        """Whether a request has begun; RFC 9112, 2.2: one empty line before it is no fault."""
        if b"\r\n".startswith(self.held):
            return False
        self.held = self.held.removeprefix(b"\r\n")
        self.phase = Phase.HEAD
        return True

    def _take_whole(self, request: Request, held: bytes, end: int) -> None:
        """Take a request that is all that is held: the way of nearly every one."""
        self._raw = held
        self._confirm(held, ends=True)
        self._missing = 0
        request.body = held[end:]
        self.held = b""

    def _wait_for_head(self, held: bytes) -> None:
        """Refuse what cannot become a head, rather than wait for the rest."""
        if NEVER.search(held, max(0, self._searched - 1)) or not BEGINNING.match(held):
            refuse(held)
        self._searched = len(held)
        if len(held) > TARGET_BYTES + 64 and b"\r\n" not in held[: TARGET_BYTES + 64]:
            refuse(held)
        if len(held) > self._limits.header_bytes:
            text = f"the head is longer than {self._limits.header_bytes} bytes"
            raise RefusedError(431, text, first_line(held))

    def _read_body(self) -> bool:
        """Move what is held to the body; whether it is complete."""
        if self._request is None or not (self._missing or self._chunks):
            return True
        if not self.held:
            return False
        if self._chunks is not None:
            return self._read_chunks(self._request, self._chunks)
        piece = self.held[: self._missing]
        self.held = self.held[self._missing :]
        self._missing -= len(piece)
        self._confirm(piece, ends=not self._missing)
        if self._missing:
            self._begun += piece
            return False
        if self._begun:
            self._begun += piece
            piece = bytes(self._begun)
            self._begun = bytearray()
        self._request.body = piece
        return True

    def _read_chunks(self, request: Request, chunks: Chunks) -> bool:
        held = self.held
        chunks.feed(held)
        if not chunks.done:
            self._confirm(held, ends=False)
            self.held = b""
            return False
        used = len(held) - len(chunks.rest)
        self._confirm(held[:used], ends=True)
        self.held = chunks.rest
        request.body = chunks.body()
        return True

    def _confirm(self, data: bytes, *, ends: bool) -> None:
        if self._judge is not None and not self._judge.take(data, ends=ends):
            raise RefusedError(400, "the request can be read in more than one way", first_line(self._raw))
