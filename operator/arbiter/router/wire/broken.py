"""Names the ways in which an exchange with an engine fails to come to its end."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """What went wrong, by who can be blamed for it."""

    CONNECT = "connect"
    """There was no connection to be had; nothing was sent."""
    RESET = "reset"
    """The connection ended before the answer did."""
    FIRST_BYTE = "first byte"
    """The body did not begin in time."""
    IDLE = "idle"
    """The body stalled."""
    TOTAL = "total"
    """The answer did not end in time."""
    PROTOCOL = "protocol"
    """What came was no HTTP answer."""
    RECEIVER = "receiver"
    """Our own receiver failed. It is logged with its traceback."""

    @property
    def is_timeout(self) -> bool:
        """Whether it is a time limit that was passed."""
        return self in {Fault.FIRST_BYTE, Fault.IDLE, Fault.TOTAL}


class Broken(Exception):  # noqa: N818  it is a state of the exchange, handed on as a value as often as it is raised
    """How an exchange with an engine broke.

    Attributes:
        fault: the kind.
    """

    def __init__(self, fault: Fault, text: str) -> None:
        """Say what happened in a sentence."""
        super().__init__(text)
        self.fault = fault
