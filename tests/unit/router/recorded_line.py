"""A client's connection that keeps what it is sent, for tests of what writes to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arbiter.router.wire.intake import Intake
from arbiter.router.wire.limits import Limits

if TYPE_CHECKING:
    from arbiter.router.wire.request_head import Request


def posted(path: bytes, body: bytes) -> Request:
    """A request as the wire reads it."""
    intake = Intake(Limits())
    intake.feed(b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (path, len(body), body))
    request = intake.next()
    assert request is not None
    return request


class RecordedLine:
    """What an exchange writes to.

    Attributes:
        sent: all that it was given.
        closing: the answer under way is its last.
        blocked: the client does not keep up.
        cuts: how often it was broken.
    """

    def __init__(self) -> None:
        """Nothing sent yet."""
        self.sent = bytearray()
        self.closing = self.blocked = False
        self.cuts = 0

    @property
    def date(self) -> bytes:
        """None: what a test compares should not change from day to day."""
        return b""

    def send(self, data: bytes) -> None:
        """Keep it."""
        self.sent += data

    def cut(self) -> None:
        """Count it."""
        self.cuts += 1
