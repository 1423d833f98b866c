"""Ends what takes too long, by one coarse look at all of it instead of a timer for each phase of each request.

A deadline is an attribute that is set and forgotten; it costs nothing until it passes. It is met up to GRAIN_S late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio

GRAIN_S: Final = 0.1
"""Seconds between two looks. Limits here are seconds to minutes, so a tenth of one is exact enough."""

LATE_S: Final = 3 * GRAIN_S
"""A look that comes so late is passed over, once: this process was stopped, and what came meanwhile is not read yet."""

NEVER: Final = float("inf")
"""No deadline."""


class Timed(Protocol):
    """Something with a deadline, in seconds of the loop's clock."""

    deadline: float

    def on_deadline(self, now: float) -> None:
        """The deadline has passed; called again at each look until it is moved or the thing is discarded."""


class Sweep:
    """All that is timed by one server or one pool, or by several that share it.

    Attributes:
        now: the loop's time at the last look: free to read, and up to GRAIN_S behind while anything is watched.
        before: that of the look before it.
    """

    __slots__ = ("_loop", "_passed_over", "_timed", "_timer", "before", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch nothing yet; the loop is not held up from ending by an empty sweep."""
        self._loop = loop
        self._timed: dict[Timed, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._passed_over = False
        self.now = self.before = loop.time()

    def time(self) -> float:
        """The loop's time, up to GRAIN_S behind; exact while nothing is watched."""
        return self._loop.time() if self._timer is None else self.now

    def add(self, timed: Timed) -> None:
        """Watch it from now on."""
        self._timed[timed] = None
        if self._timer is None:
            self.now = self.before = self._loop.time()
            self._timer = self._loop.call_later(GRAIN_S, self._look)

    def discard(self, timed: Timed) -> None:
        """Watch it no more. The last one takes the timer with it."""
        self._timed.pop(timed, None)
        if not self._timed and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        self.before, self.now = self.now, self._loop.time()
        now = self.now
        self._passed_over = now - self.before > LATE_S and not self._passed_over
        due = () if self._passed_over else [each for each in self._timed if each.deadline <= now]
        for timed in due:
            timed.on_deadline(now)
        if self._timed:
            self._timer = self._loop.call_later(GRAIN_S, self._look)
