"""Keeps requests away from an endpoint that fails again and again, and tries it with one of them now and then.

Closed: requests pass, and so many failures in a row open it. Open: none passes until its pause is over. Half open:
one request, the probe, passes; if it succeeds the breaker closes, if it fails the next pause is twice as long.

Rule: only what was sent after the last change of state can change it again. An answer that began before the breaker
opened says how the endpoint was, not how it is. What counts as a failure is decided by the caller, by the same words
as in the books: 5xx, reset, timeout, broken stream. A rejection (4xx) is an answer, and a client that leaves says
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens and for how long.

    Attributes:
        failures: in a row that open it.
        pause_s: seconds of the first pause.
        longest_pause_s: seconds that no pause exceeds.
    """

    failures: int = 5
    pause_s: float = 1.0
    longest_pause_s: float = 30.0


class State(StrEnum):
    """Whether requests pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """The breaker of one endpoint. Times are seconds of the loop's clock.

    Attributes:
        state: whether requests pass.
        opened: how often it opened.
    """

    __slots__ = ("_changed_at", "_failures", "_pause_s", "_rules", "opened", "state")

    def __init__(self, rules: BreakerRules | None = None) -> None:
        """Closed at first."""
        self._rules = rules or BreakerRules()
        self.state = State.CLOSED
        self.opened = 0
        self._failures = 0
        self._pause_s = self._rules.pause_s
        self._changed_at = float("-inf")

    def passes(self, now: float) -> bool:
        """Whether a request would be let through now; changes nothing."""
        if self.state is State.CLOSED:
            return True
        return self.state is State.OPEN and now >= self._changed_at + self._pause_s

    def enter(self, now: float) -> bool:
        """A request is about to be sent: whether it may. When the pause is over, this one is the probe."""
        if self.state is State.CLOSED:
            return True
        if not self.passes(now):
            return False
        self.state, self._changed_at = State.HALF_OPEN, now
        return True

    def succeed(self, sent_at: float) -> None:
        """A request that was sent then was answered."""
        if self._counts(sent_at):
            self.state, self._failures, self._pause_s = State.CLOSED, 0, self._rules.pause_s

    def fail(self, sent_at: float, now: float) -> None:
        """A request that was sent then failed."""
        if not self._counts(sent_at):
            return
        if self.state is State.HALF_OPEN:
            self._pause_s = min(2.0 * self._pause_s, self._rules.longest_pause_s)
            self._open(now)
            return
        self._failures += 1
        if self._failures >= self._rules.failures:
            self._open(now)

    def abandon(self, sent_at: float) -> None:
        """A request that was sent then says nothing: its client left. If it was the probe, the next one is."""
        if self.state is State.HALF_OPEN and sent_at >= self._changed_at:
            # The pause is over already, so the next request passes at once.
            self.state, self._changed_at = State.OPEN, self._changed_at - self._pause_s

    def retry_at(self) -> float | None:
        """When the next probe may pass; None when it is closed, or a probe is under way."""
        return self._changed_at + self._pause_s if self.state is State.OPEN else None

    def _counts(self, sent_at: float) -> bool:
        return self.state is not State.OPEN and sent_at >= self._changed_at

    def _open(self, now: float) -> None:
        self.state, self._changed_at, self._failures = State.OPEN, now, 0
        self.opened += 1
