"""Reads one engine's answers with llhttp: where each ends, and whether the connection is worth keeping after it.

No input or output here: bytes go in, and what they amount to is left in attributes for the link to hand on. So a
receiver is never called from within the parser, and may end everything in the middle of a read.
"""

from __future__ import annotations

from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from arbiter.router.wire.limits import ANSWER_HEAD_BYTES

BODILESS: Final = frozenset({204, 304})
"""Statuses whose answers have no body, whatever their header fields say."""


FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


class MalformedError(Exception):
    """What came is no HTTP answer."""


class AnswerReader:
    """The answers of one connection, one after the other.

    Attributes:
        status: of the answer under way; 0 while its head has not come. Interim ones (1xx) are passed over.
        headers: names in lower case; without trailer fields.
        pieces: of the body, not yet taken.
        complete: the answer has come whole.
        reusable: it has, and the connection promises to serve another request and has kept such a promise's form.
    """

    __slots__ = (
        "_bare",
        "_chunked",
        "_counted",
        "_length",
        "_more",
        "_parser",
        "complete",
        "headers",
        "pieces",
        "reusable",
        "status",
    )

    def __init__(self) -> None:
        """Expect nothing yet."""
        self._parser = HttpResponseParser(self)
        self.expect(bare=False)

    def expect(self, *, bare: bool) -> None:
        """Expect the answer to a request; `bare` for one without a body, as to HEAD."""
        self._bare = bare
        self._chunked = self._length = self._more = False
        self._counted = 0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.complete = self.reusable = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            MalformedError: if they are wrong. What was right before them stands in the attributes.
        """
        if not self.status:
            self._counted += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            raise MalformedError("the engine changes to another protocol, which nobody offered") from upgrade
        except HttpParserError as error:
            if not self.complete:
                cause = error.__context__ if isinstance(error.__context__, MalformedError) else error
                raise MalformedError(f"the engine's answer is not HTTP: {cause}") from error
            self._more = True
        if self._more:
            self.reusable = False
        if not self.status and self._counted > ANSWER_HEAD_BYTES:
            raise MalformedError(f"the head of the engine's answer is longer than {ANSWER_HEAD_BYTES} bytes")

    def ends_with_connection(self) -> bool:
        """Whether the end of the connection is the end of the body under way."""
        return self.status > 0 and not (self._chunked or self._length or self.complete)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Begin another answer; after a complete one nobody asked for it."""
        if self.complete:
            self._more = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field, or a trailer field, which is dropped."""
        if not self.status:
            self.headers.append((name.lower(), value))
        elif not self.complete and name.lower() in FRAMING:
            raise MalformedError("a trailer field speaks of a body")

    def on_headers_complete(self) -> None:
        """Take the status, and see how the body is framed."""
        if self.complete:
            return
        status = self._parser.get_status_code()
        if status < 100:
            raise MalformedError(f"{status} is no status")
        if status < 200:
            if any(name in FRAMING for name, _ in self.headers):
                raise MalformedError("an interim answer speaks of a body")
            self.headers = []
            return
        for name, value in self.headers:
            if name == b"content-length":
                self._length = True
            elif name == b"transfer-encoding":
                if self._chunked or value.lower() != b"chunked":
                    raise MalformedError("a transfer coding that is not understood")
                self._chunked = True
        self.status = status
        if self._bare or status in BODILESS:
            self.complete = True

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        if not self.complete:
            self.pieces.append(data)

    def on_message_complete(self) -> None:
        """Note the end.

        After chunks no promise is believed: llama-server promises to keep the connection after a stream, and closes.
        """
        if self.status and not self.complete:
            self.complete = True
            self.reusable = not self._chunked and self._parser.should_keep_alive()
