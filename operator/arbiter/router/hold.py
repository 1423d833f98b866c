"""Lets requests wait, in order, while nothing can serve their task.

Rule: who came first is served first among those of the same priority, and a higher priority goes before. When
something may serve again, `wake` offers it to the waiters one by one in that order, and stops at the first that
finds nothing: a hundred waiters do not all run for one free place. A waiter that leaves is gone at once.

The time spent here is apart from the limits of the request itself. One `Hold` per task and process.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from math import ceil
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from arbiter.core import routes

T = TypeVar("T")

WAKE_BATCH: Final = 64
"""Waiters that are offered a place before the loop gets a turn: they then begin to be served before the rest is."""


class Refused(StrEnum):
    """Why a request was not held, or no longer."""

    FULL = "full"
    TIMEOUT = "timeout"
    HOPELESS = "hopeless"
    LEFT = "left"


class HoldRefusedError(Exception):
    """The request is not served.

    Attributes:
        reason: why, also the label of the metric.
        message: the same as a sentence for the client.
        retry_after_s: whole seconds after which it is worth trying again; None when it is not.
    """

    def __init__(self, reason: Refused, message: str, retry_after_s: int | None = None) -> None:
        """Say it once for the metric and once for a person."""
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s


class Waiter(Generic[T]):
    """One request that waits."""

    __slots__ = ("attempt", "future", "priority", "timer")

    def __init__(self, priority: int, attempt: Callable[[], T | None], future: asyncio.Future[T]) -> None:
        """`attempt` takes a place for the request, or gives None when there is none."""
        self.priority = priority
        self.attempt = attempt
        self.future = future
        self.timer: asyncio.TimerHandle | None = None


class Hold(Generic[T]):
    """The waiters of one task.

    Attributes:
        rules: how many may wait and for how long; `obey` replaces them.
    """

    def __init__(self, rules: routes.Hold, shares: int = 1) -> None:
        """Nobody waits.

        Args:
            rules: of the task.
            shares: worker processes of this router, among which the number of waiters is divided.
        """
        self.rules = rules
        self._shares = shares
        self._lines: dict[int, dict[Waiter[T], None]] = {}
        self._waking: asyncio.Handle | None = None

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._lines.values()))

    def obey(self, rules: routes.Hold) -> None:
        """Take over the rules of a new table. Those who wait keep their time, unless nothing will come."""
        self.rules = rules
        if rules.hopeless:
            self.refuse_all(Refused.HOPELESS, rules.hopeless)

    def join(self, attempt: Callable[[], T | None], priority: int = 0) -> Waiter[T]:
        """Line up. The caller awaits `wait(waiter)`, and calls `leave(waiter)` when its client goes.

        A request that arrives while others wait (`len(hold)`) lines up too, or it would go before them.

        Args:
            attempt: called when something may serve: takes a place and gives it, or gives None.
            priority: a higher one goes before.

        Raises:
            HoldRefusedError: the line is full or nothing will come.
        """
        if self.rules.hopeless:
            raise HoldRefusedError(Refused.HOPELESS, self.rules.hopeless)
        room = -(-self.rules.requests // self._shares)
        if len(self) >= room and not self._displace_below(priority, room):
            raise self._full()
        loop = asyncio.get_running_loop()
        waiter = Waiter(priority, attempt, loop.create_future())
        waiter.timer = loop.call_later(self.rules.seconds, self._expire, waiter)
        self._lines.setdefault(priority, {})[waiter] = None
        return waiter

    async def wait(self, waiter: Waiter[T], give_back: Callable[[T], None] | None = None) -> T:
        """Wait until served.

        Args:
            waiter: what `join` gave.
            give_back: called with a place that was taken for a waiter that is cancelled before it could use it.

        Raises:
            HoldRefusedError: the time is over, nothing will come any more, or the client left.
        """
        try:
            return await waiter.future
        except asyncio.CancelledError:
            future = waiter.future
            if give_back is not None and future.done() and not future.cancelled() and not future.exception():
                give_back(future.result())
            raise
        finally:
            self._remove(waiter)

    def leave(self, waiter: Waiter[T]) -> None:
        """Its client is gone."""
        self._refuse(waiter, HoldRefusedError(Refused.LEFT, "the client left while it waited"))

    def wake(self) -> None:
        """Something may serve again: an endpoint became ready, a request ended, or a table came."""
        if self._waking is None and self._lines:
            self._wake()

    def refuse_all(self, reason: Refused, message: str, retry_after_s: int | None = None) -> None:
        """Send everybody away, for instance when the router stops."""
        for waiter in [waiter for line in self._lines.values() for waiter in line]:
            self._refuse(waiter, HoldRefusedError(reason, message, retry_after_s))

    def _wake(self) -> None:
        self._waking = None
        for _ in range(WAKE_BATCH):
            waiter = self._first()
            if waiter is None:
                return
            try:
                place = waiter.attempt()
            except Exception as error:  # noqa: BLE001  it is the waiter's own, and the others must still be served
                self._refuse(waiter, error)
                continue
            if place is None:
                return
            self._remove(waiter)
            waiter.future.set_result(place)
        if self._lines:
            self._waking = asyncio.get_running_loop().call_soon(self._wake)

    def _first(self) -> Waiter[T] | None:
        return next(iter(self._lines[max(self._lines)])) if self._lines else None

    def _displace_below(self, priority: int, room: int) -> bool:
        """Send away whoever came last of the lowest priority, if that is below; whether there is room now."""
        if not room or not self._lines or (lowest := min(self._lines)) >= priority:
            return False
        self._refuse(next(reversed(self._lines[lowest])), self._full())
        return True

    def _full(self) -> HoldRefusedError:
        after = max(1, ceil(self.rules.seconds))
        return HoldRefusedError(Refused.FULL, "too many requests wait for this task already", after)

    def _expire(self, waiter: Waiter[T]) -> None:
        message = f"nothing could serve this task within {self.rules.seconds:g} s"
        self._refuse(waiter, HoldRefusedError(Refused.TIMEOUT, message, max(1, ceil(self.rules.seconds))))

    def _refuse(self, waiter: Waiter[T], error: Exception) -> None:
        self._remove(waiter)
        if not waiter.future.done():
            waiter.future.set_exception(error)

    def _remove(self, waiter: Waiter[T]) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
        line = self._lines.get(waiter.priority)
        if line is not None and waiter in line:
            del line[waiter]
            if not line:
                del self._lines[waiter.priority]
