"""What the traffic driver saw: attempts, the moments that tests mark, and what they prove. Pure.

Rule: a request that did not end as a whole, right answer has failed, whatever the reason; nothing is excused. A moment
is proved only if streams were running through it, for a driver that was idle then has seen nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

WINDOW_S = 2.0
"""Seconds before and after a mark that count as around it: what a change breaks, it breaks at once or soon."""

SIGMAS = 3.0
"""How far an observed share may lie from its weight: chance goes further in 0.3 % of all cases."""


class Fault(StrEnum):
    """How a request failed."""

    CONNECT = "no connection"
    RESET = "reset"
    CUT = "cut"
    STATUS = "status"
    MALFORMED = "malformed HTTP"
    NOT_JSON = "not JSON"
    ERROR_EVENT = "error inside the stream"
    NO_DONE = "no [DONE]"
    NO_FINISH = "no finish_reason"
    LATE = "too late"


class FaultError(Exception):
    """A request failed."""

    def __init__(self, fault: Fault, text: str) -> None:
        """Say how, and what exactly happened."""
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Failure:
    """How a request failed, and what exactly happened."""

    fault: Fault
    text: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request, from its first byte written to its end. Times are seconds of the event loop's clock.

    Attributes:
        number: counts the requests of a run from 1, in the order in which they began.
        client: which of the clients sent it, from 0.
        stream: whether a streamed answer was asked for.
        reused: whether its connection had served another request before.
        began: when its connection was asked for.
        ended: when its answer was complete, or it failed.
        status: of the answer; 0 when none came.
        revision: what the answer said had served it; empty when it did not say.
        events: how many events of a stream came.
        first_event: when the first of them came.
        last_event: when the last of them came.
        failure: why it does not count as answered; `None` when it does.
    """

    number: int
    client: int
    stream: bool
    reused: bool
    began: float
    ended: float
    status: int
    revision: str
    events: int
    first_event: float | None
    last_event: float | None
    failure: Failure | None

    def overlaps(self, start: float, end: float) -> bool:
        """Whether it was running at some moment from `start` to `end`."""
        return self.began <= end and self.ended >= start

    def streamed_across(self, moment: float) -> bool:
        """Whether events of its stream came before and after a moment."""
        return (
            self.first_event is not None
            and self.last_event is not None
            and self.first_event <= moment < self.last_event
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment that a test names, on the event loop's clock."""

    name: str
    at: float


@dataclass(frozen=True, slots=True)
class Split:
    """Which revisions answered, and how often each."""

    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        """How many answers there are."""
        return sum(self.counts.values())

    def within(self, weights: Mapping[str, float], sigmas: float = SIGMAS) -> bool:
        """Whether each revision's share is as near to its weight as chance allows; weights are percent of 100.

        A revision that is not named has weight 0, and one of weight 0 or 100 is allowed no exception at all.
        """
        for revision in self.counts.keys() | weights.keys():
            share = weights.get(revision, 0) / 100
            allowed = sigmas * math.sqrt(self.total * share * (1 - share))
            if abs(self.counts.get(revision, 0) - self.total * share) > allowed:
                return False
        return self.total > 0

    def __str__(self) -> str:
        """Each revision with its count and share."""
        parts = sorted(self.counts.items())
        return ", ".join(f"{name or 'unnamed'}: {n} ({n / self.total:.1%})" for name, n in parts) or "nothing"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happened to the requests around one mark.

    Attributes:
        mark: the moment.
        around: those that ran or began within the window.
        across: streams that had events before the mark and after it.
        failed: those of `around` that failed.
    """

    mark: Mark
    around: tuple[Attempt, ...]
    across: tuple[Attempt, ...]
    failed: tuple[Attempt, ...]

    @property
    def clean(self) -> bool:
        """Whether it is proved that no request around this mark failed or was cut."""
        return bool(self.across) and not self.failed

    def __str__(self) -> str:
        """A sentence, and a line for each that failed."""
        head = (
            f"{self.mark.name}: {len(self.around)} requests around it, "
            f"{len(self.across)} streams across it, {len(self.failed)} failed"
        )
        return "\n".join((head, *(_told(attempt, self.mark.at) for attempt in self.failed)))


@dataclass(frozen=True, slots=True)
class Report:
    """All requests of a run that ended, and its marks."""

    attempts: tuple[Attempt, ...]
    marks: tuple[Mark, ...]

    @property
    def failed(self) -> tuple[Attempt, ...]:
        """All that failed, near a mark or not."""
        return tuple(attempt for attempt in self.attempts if attempt.failure)

    def mark(self, name: str) -> Mark:
        """A mark by its name.

        Raises:
            KeyError: for a name that was not marked.
        """
        for mark in self.marks:
            if mark.name == name:
                return mark
        raise KeyError(name)

    def verdict(self, name: str, window_s: float = WINDOW_S) -> Verdict:
        """What happened around one mark."""
        mark = self.mark(name)
        around = tuple(each for each in self.attempts if each.overlaps(mark.at - window_s, mark.at + window_s))
        across = tuple(each for each in around if each.streamed_across(mark.at))
        return Verdict(mark, around, across, tuple(each for each in around if each.failure))

    def verdicts(self, window_s: float = WINDOW_S) -> tuple[Verdict, ...]:
        """What happened around each mark, in the order in which they were set."""
        return tuple(self.verdict(mark.name, window_s) for mark in self.marks)

    def split(self, after: str | None = None, before: str | None = None) -> Split:
        """Who answered the requests that began from one mark to another; without a mark, from the start or to the end.

        Failed requests count where an answer said who gave it.
        """
        start = -math.inf if after is None else self.mark(after).at
        end = math.inf if before is None else self.mark(before).at
        between = (each for each in self.attempts if start <= each.began < end and each.status)
        return Split(Counter(each.revision for each in between))

    def __str__(self) -> str:
        """A line for the run, one for each mark, and one for each request that failed."""
        streams = sum(attempt.stream for attempt in self.attempts)
        start = min((attempt.began for attempt in self.attempts), default=0.0)
        head = f"{len(self.attempts)} requests, {streams} of them streams, {len(self.failed)} failed"
        marks = (str(verdict).partition("\n")[0] for verdict in self.verdicts())
        return "\n".join((head, *marks, *(_told(attempt, start) for attempt in self.failed)))


def _told(attempt: Attempt, origin: float) -> str:
    kind = "stream" if attempt.stream else "plain"
    served = f", served by {attempt.revision}" if attempt.revision else ""
    when = f"{attempt.began - origin:+.3f} s to {attempt.ended - origin:+.3f} s"
    failure = attempt.failure
    said = f"{failure.fault}: {failure.text}" if failure else "answered"
    return f"  request {attempt.number} ({kind}, client {attempt.client}{served}) from {when}: {said}"
