"""Says which pool or model is passed next, and when.

- A subject waits once, however often it is asked for, and never has two passes at a time: what changes during a pass
  causes one more, so no edit is lost and none is passed twice without need.
- A pass that failed is tried again after a pause that doubles, with a part of chance in it. What changes meanwhile
  brings it forward, though never closer than a second: a failure that itself changes something must not spin.
- Those that are due come in the order of when they fell due, so a busy pool does not keep others waiting.

Rule: it does nothing by itself. Times come in as seconds of the loop's clock, and chance as an argument.
"""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE_S = (0.5, 60.0)
"""Seconds of pause after the first failure, which double with each, and their upper limit."""

NO_SOONER_S = 1.0
"""Seconds after a failed pass before which a change does not bring the next one forward."""


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """What a pass is about.

    Attributes:
        kind: `ModelPool` or `LocalModel`.
        namespace: where it is.
        name: its name.
    """

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class WorkQueue:
    """The subjects that are due, or will be."""

    def __init__(self, draw: Callable[[], float]) -> None:
        """Nothing is due yet.

        Args:
            draw: numbers drawn evenly from [0, 1), for pauses.
        """
        self._draw = draw
        self._due: dict[Subject, float] = {}
        self._order: list[tuple[float, int, Subject]] = []
        self._count = 0
        self._again: dict[Subject, float | None] = {}
        self._failures: dict[Subject, int] = {}
        self._no_sooner: dict[Subject, float] = {}

    def __len__(self) -> int:
        """How many wait, those included whose time has not come."""
        return len(self._due)

    def depth(self, now: float) -> int:
        """How many are due and wait for their pass."""
        return sum(at <= now for at in self._due.values())

    @property
    def running(self) -> int:
        """How many are being passed."""
        return len(self._again)

    def add(self, subject: Subject, at: float) -> None:
        """Pass this subject no later than `at`; one that is being passed now is passed once more."""
        at = max(at, self._no_sooner.get(subject, at))
        if subject in self._again:
            before = self._again[subject]
            self._again[subject] = at if before is None else min(before, at)
        elif subject not in self._due or at < self._due[subject]:
            self._plan(subject, at)

    def take(self, now: float) -> Subject | None:
        """The next subject that is due, which is being passed from now on; None when none is."""
        while (first := self._first()) is not None and first[0] <= now:
            heapq.heappop(self._order)
            subject = first[2]
            del self._due[subject]
            self._again[subject] = None
            return subject
        return None

    def next_at(self) -> float | None:
        """When the next one falls due; None when none will."""
        first = self._first()
        return None if first is None else first[0]

    def done(self, subject: Subject, look_again: float | None = None) -> None:
        """Its pass ended well; pass it again at `look_again` even if nothing changes."""
        asked = self._again.pop(subject)
        self._failures.pop(subject, None)
        self._no_sooner.pop(subject, None)
        times = [at for at in (asked, look_again) if at is not None]
        if times:
            self.add(subject, min(times))

    def failed(self, subject: Subject, now: float, at_least: float = 0.0) -> float:
        """Its pass failed. Gives the seconds after which it is tried again if nothing changes.

        Args:
            subject: which.
            now: the time.
            at_least: seconds that somebody asked us to wait.
        """
        asked = self._again.pop(subject)
        failures = self._failures[subject] = self._failures.get(subject, 0) + 1
        first, longest = PAUSE_S
        pause = max(at_least, min(longest, first * 2.0 ** min(failures - 1, 16)) * (1.0 - self._draw() / 2.0))
        self._no_sooner[subject] = now + max(at_least, NO_SOONER_S)
        self._due.pop(subject, None)
        self._plan(subject, now + pause)
        if asked is not None:
            self.add(subject, asked)
        return pause

    def forget(self, subject: Subject) -> None:
        """It is gone: nothing is due for it. A pass that runs ends as it does."""
        self._due.pop(subject, None)
        if subject in self._again:
            self._again[subject] = None
        self._failures.pop(subject, None)
        self._no_sooner.pop(subject, None)

    def _plan(self, subject: Subject, at: float) -> None:
        self._due[subject] = at
        self._count += 1
        heapq.heappush(self._order, (at, self._count, subject))

    def _first(self) -> tuple[float, int, Subject] | None:
        """The entry that falls due first; entries that were brought forward or forgotten are dropped on the way."""
        while self._order and self._due.get(self._order[0][2]) != self._order[0][0]:
            heapq.heappop(self._order)
        return self._order[0] if self._order else None


class Waiting:
    """A work queue that can be waited for; it belongs to one loop, and one task waits."""

    def __init__(self, queue: WorkQueue, clock: Callable[[], float]) -> None:
        """Wait for this queue by this clock."""
        self.queue = queue
        self._clock = clock
        self._changed = asyncio.Event()

    def add(self, subject: Subject, after: float = 0.0) -> None:
        """Pass this subject in so many seconds at the latest."""
        self.queue.add(subject, self._clock() + after)
        self._changed.set()

    def done(self, subject: Subject, after: float | None = None) -> None:
        """Its pass ended well; pass it again in so many seconds even if nothing changes."""
        self.queue.done(subject, None if after is None else self._clock() + after)
        self._changed.set()

    def failed(self, subject: Subject, at_least: float = 0.0) -> float:
        """Its pass failed; gives the seconds until the next one."""
        pause = self.queue.failed(subject, self._clock(), at_least)
        self._changed.set()
        return pause

    async def next(self) -> Subject:
        """Wait for the next subject that is due."""
        while (subject := self.queue.take(self._clock())) is None:
            self._changed.clear()
            at = self.queue.next_at()
            try:
                async with asyncio.timeout(None if at is None else max(0.0, at - self._clock())):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return subject
