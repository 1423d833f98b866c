"""Says what happened to the requests of a task: by side, by slice of time, merged without loss.

The router writes these values and the operator reads them, so both import this module. A request is booked to the
slice in which it was *routed*, however long it then runs: failures end early and long answers late, and a book
kept by ending would make every new side look broken at first. Counts are cumulative within their slice, so a
scrape that is lost or doubled changes nothing.

Times are whole Unix milliseconds, because slices of several routers are matched by equality.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

from arbiter.core.histogram import Histogram
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arbiter.core.stored import Stored


class Side(StrEnum):
    """The two revisions of a task between which a swap divides the requests."""

    OLD = "old"
    NEW = "new"


class Cause(StrEnum):
    """Why a request counts as failed, whoever noticed it first."""

    SERVER_ERROR = "5xx"
    RESET = "reset"
    TIMEOUT = "timeout"
    BROKEN_STREAM = "broken-stream"
    STREAM_ERROR = "stream-error"
    REFUSED = "refused"
    """The breaker of the endpoint was open, so the request was never sent."""


class Stratum(IntEnum):
    """How many other requests the endpoint held while this one was timed: see `Occupancy.others`.

    Latency is compared within a stratum only. A new side with a tenth of the traffic idles and would look fast,
    with nine tenths it queues and would look slow, whatever the model is like.
    """

    ALONE = 0
    ONE = 1
    FEW = 2
    """Two or three."""
    SEVERAL = 3
    """Four to seven."""
    MANY = 4
    """Eight or more."""

    @classmethod
    def of(cls, others: int) -> Stratum:
        """The stratum of a request among this many others: its number of binary digits, at most four."""
        return cls(min(others.bit_length(), 4))


Timings = tuple[Histogram, ...]
"""One histogram for each `Stratum`, in its order."""


def no_timings() -> Timings:
    """Empty histograms for all strata."""
    return tuple(Histogram() for _ in Stratum)


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the requests routed to one side. Whoever holds one does not add to its histograms.

    Attributes:
        routed: attempts sent to this side, retries included; each ends in one of the next four or is open.
        ok: answered in full.
        failed: by cause, without zeros. A retry elsewhere that then served the client does not take it back.
        rejected: answered with 4xx: the client's fault, so apart from success and failure.
        left: the client went before the end: no failure, and its time so far is in the timings.
        input_tokens: prompt tokens of those that ended.
        output_tokens: generated tokens of those that ended.
        first_token: seconds from routing to the first token, by stratum.
        per_token: mean seconds for each further token of an answer, by stratum.
        total: seconds from routing to the end, by stratum.
    """

    routed: int = 0
    ok: int = 0
    failed: Mapping[Cause, int] = field(default_factory=dict)
    rejected: int = 0
    left: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    first_token: Timings = field(default_factory=no_timings)
    per_token: Timings = field(default_factory=no_timings)
    total: Timings = field(default_factory=no_timings)

    @property
    def failures(self) -> int:
        """Failed requests of all causes."""
        return sum(self.failed.values())

    @property
    def judged(self) -> int:
        """Requests that say something about the side: answered in full or failed."""
        return self.ok + self.failures

    @property
    def open(self) -> int:
        """Routed and not finished."""
        return self.routed - self.ok - self.failures - self.rejected - self.left

    def expired(self) -> Tally:
        """The same after the deadline: what is still open has failed by timeout."""
        if not self.open:
            return self
        timeouts = self.failed.get(Cause.TIMEOUT, 0) + self.open
        return replace(self, failed={**self.failed, Cause.TIMEOUT: timeouts})

    def merge(self, other: Tally) -> Tally:
        """Both together: associative, commutative and exact."""
        return Tally.merged((self, other))

    @staticmethod
    def merged(tallies: Iterable[Tally]) -> Tally:
        """All of them together."""
        many = tuple(tallies)
        failed: Counter[Cause] = Counter()
        for tally in many:
            failed.update(tally.failed)
        return Tally(
            routed=sum(tally.routed for tally in many),
            ok=sum(tally.ok for tally in many),
            failed={cause: failed[cause] for cause in Cause if failed[cause]},
            rejected=sum(tally.rejected for tally in many),
            left=sum(tally.left for tally in many),
            input_tokens=sum(tally.input_tokens for tally in many),
            output_tokens=sum(tally.output_tokens for tally in many),
            first_token=_merged_timings(tally.first_token for tally in many),
            per_token=_merged_timings(tally.per_token for tally in many),
            total=_merged_timings(tally.total for tally in many),
        )

    def to_fields(self) -> dict[str, object]:
        """The JSON form of a tally."""
        return {
            "routed": self.routed,
            "ok": self.ok,
            "failed": {cause.value: self.failed[cause] for cause in Cause if self.failed.get(cause)},
            "rejected": self.rejected,
            "left": self.left,
            "tokens": [self.input_tokens, self.output_tokens],
            "firstToken": [histogram.to_text() for histogram in self.first_token],
            "perToken": [histogram.to_text() for histogram in self.per_token],
            "total": [histogram.to_text() for histogram in self.total],
        }

    @staticmethod
    def read(stored: Stored) -> Tally:
        """Read back what `to_fields` wrote."""
        causes = stored.child("failed")
        failed = {cause: causes.integer(cause, minimum=1) for cause in Cause if cause in causes.names()}
        causes.done()
        input_tokens, output_tokens = stored.integers("tokens", 2)
        tally = Tally(
            routed=stored.integer("routed"),
            ok=stored.integer("ok"),
            failed=failed,
            rejected=stored.integer("rejected"),
            left=stored.integer("left"),
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            first_token=_read_timings(stored, "firstToken"),
            per_token=_read_timings(stored, "perToken"),
            total=_read_timings(stored, "total"),
        )
        stored.done()
        if tally.open < 0:
            raise CorruptStateError(f"{stored.path}: more requests ended than were routed")
        return tally


@dataclass(frozen=True, slots=True)
class Slice:
    """One router's counts for one task during one slice of time.

    A router writes a slice for every task and every slice time, empty ones too, so that silence and loss differ.
    When its table changes within a slice time, it writes two slices of the same start, one for each generation.

    Attributes:
        epoch: which life of which router: pod uid and process start. Counts of two epochs are never mixed.
        generation: of the RouteTable that was obeyed.
        task: the name that clients ask for.
        start_ms: a multiple of `length_ms`, so that the slices of several routers line up.
        length_ms: 15 s by default.
        sides: a tally for each side that the table names.
    """

    epoch: str
    generation: int
    task: str
    start_ms: int
    length_ms: int
    sides: Mapping[Side, Tally]

    def __post_init__(self) -> None:
        if self.length_ms <= 0 or self.start_ms % self.length_ms:
            raise ValueError(f"a slice starts at a multiple of its length, not {self.start_ms}/{self.length_ms} ms")

    @property
    def end_ms(self) -> int:
        """The first millisecond that is no longer in it."""
        return self.start_ms + self.length_ms

    @property
    def finished(self) -> bool:
        """Whether every request routed in it has ended."""
        return all(not tally.open for tally in self.sides.values())

    def side(self, side: Side) -> Tally:
        """The tally of a side; an empty one when the table did not name it."""
        return self.sides.get(side) or Tally()

    def merge(self, other: Slice) -> Slice:
        """Two workers' shares of the same slice of the same router."""
        sides = {
            side: self.side(side).merge(other.side(side)) for side in Side if side in self.sides or side in other.sides
        }
        merged = replace(self, sides=sides)
        if replace(other, sides=sides) != merged:
            raise ValueError(f"slices of different routers or times do not merge: {self.task} at {self.start_ms}")
        return merged

    def to_fields(self) -> dict[str, object]:
        """The JSON form of a slice; its epoch stands once, in the feed."""
        return {
            "generation": self.generation,
            "task": self.task,
            "startMs": self.start_ms,
            "lengthMs": self.length_ms,
            "sides": {side.value: self.sides[side].to_fields() for side in Side if side in self.sides},
        }

    @staticmethod
    def read(stored: Stored, epoch: str) -> Slice:
        """Read back what `to_fields` wrote."""
        named = stored.child("sides")
        sides = {side: Tally.read(named.child(side)) for side in Side if side in named.names()}
        named.done()
        generation, task = stored.integer("generation"), stored.text("task")
        start_ms, length_ms = stored.integer("startMs"), stored.integer("lengthMs", minimum=1)
        stored.done()
        if start_ms % length_ms:
            raise CorruptStateError(f"{stored.path}.startMs must be a multiple of lengthMs")
        return Slice(epoch, generation, task, start_ms, length_ms, sides)


def _merged_timings(many: Iterable[Timings]) -> Timings:
    return tuple(Histogram.merged(strata) for strata in zip(*many, strict=True)) or no_timings()


def _read_timings(stored: Stored, name: str) -> Timings:
    return tuple(Histogram.from_text(text) for text in stored.texts(name, len(Stratum)))
