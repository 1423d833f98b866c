"""Keeps what is known of one revision at one task: its counts by period, and what was last measured of it.

Rule: merging adds the counts of the same period. A value that was measured merges by the later moment, and at the same
moment by the greater value. Everything is forgotten by its own moment alone, so the order of merging never shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from arbiter.core.fading import KEPT, added, kept, period_of
from arbiter.core.stored import Stored
from arbiter.core.task_counts import Counts, optional
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Mapping


class RevisionName(NamedTuple):
    """Which revision of which LocalModel."""

    model: str
    revision: str


class Last(NamedTuple):
    """What was measured last, and when; the greater of two is the later one."""

    at_ms: int
    value: int


@dataclass(frozen=True, slots=True)
class Span:
    """Which periods a profile keeps.

    Attributes:
        half_life_ms: length of a period.
        newest: the newest period that anything in the profile is of.
    """

    half_life_ms: int
    newest: int

    @property
    def from_ms(self) -> int:
        """The first moment that is kept."""
        return (self.newest - KEPT) * self.half_life_ms

    @property
    def to_ms(self) -> int:
        """The first moment that is later than the newest period."""
        return (self.newest + 1) * self.half_life_ms


@dataclass(frozen=True, slots=True)
class Record:
    """All that is known of one revision.

    Attributes:
        counts: by period.
        sampled_ms: when the newest slice with a request or a client's score of it began; 0 for none.
        checked_ms: when the task's checks were last run against it; 0 for never.
        memory: bytes at the last known peak.
        load: milliseconds that the last start took.
    """

    counts: Mapping[int, Counts] = field(default_factory=dict)
    sampled_ms: int = 0
    checked_ms: int = 0
    memory: Last | None = None
    load: Last | None = None

    @property
    def used_ms(self) -> int:
        """When anything was last learned of it; 0 when nothing is known."""
        measured = (last.at_ms for last in (self.memory, self.load) if last)
        return max(self.sampled_ms, self.checked_ms, *measured)

    def merge(self, other: Record, span: Span) -> Record:
        """Both together, without what is too old."""
        together = Record(
            added(self.counts, other.counts, span.newest),
            max(self.sampled_ms, other.sampled_ms),
            max(self.checked_ms, other.checked_ms),
            _later(self.memory, other.memory),
            _later(self.load, other.load),
        )
        return together.pruned(span)

    def pruned(self, span: Span) -> Record:
        """The same without what is too old."""
        return Record(
            kept(self.counts, span.newest),
            self.sampled_ms if self.sampled_ms >= span.from_ms else 0,
            self.checked_ms if self.checked_ms >= span.from_ms else 0,
            self.memory if self.memory and self.memory.at_ms >= span.from_ms else None,
            self.load if self.load and self.load.at_ms >= span.from_ms else None,
        )

    def to_fields(self, name: RevisionName, span: Span) -> dict[str, object]:
        """The stored form; periods are told by their age."""
        periods = (
            {"age": span.newest - period, **self.counts[period].to_fields()}
            for period in sorted(self.counts, reverse=True)
        )
        lasts = {"memory": self.memory, "load": self.load}
        return {
            "of": list(name),
            "moments": [self.sampled_ms, self.checked_ms],
            **{measured: list(last) for measured, last in lasts.items() if last},
            "periods": list(periods),
        }

    @staticmethod
    def read(stored: Stored, span: Span) -> tuple[RevisionName, Record]:
        """Read back what `to_fields` wrote."""
        name = RevisionName(*stored.texts("of", 2))
        sampled_ms, checked_ms = stored.integers("moments", 2)
        memory, load = (Last(*pair) if (pair := optional(stored, each)) else None for each in ("memory", "load"))
        parts = (Stored(part, f"{stored.path}.periods[{i}]") for i, part in enumerate(stored.items("periods")))
        counts: dict[int, Counts] = {}
        for part in parts:
            period = read_period(part, span.newest, counts)
            counts[period] = Counts.read(part)
            part.done()
        stored.done()
        record = Record(counts, sampled_ms, checked_ms, memory, load)
        if record.used_ms >= span.to_ms:
            raise CorruptStateError(f"{stored.path} has a moment after the newest period")
        if not record.used_ms or record.pruned(span) != record:
            raise CorruptStateError(f"{stored.path} knows nothing, or what should have been forgotten")
        counted_ms = max(sampled_ms, checked_ms)
        if (max(counts) if counts else 0) != period_of(counted_ms, span.half_life_ms):
            raise CorruptStateError(f"{stored.path}.moments are not of its newest period")
        return name, record


def read_period(stored: Stored, newest: int, before: Mapping[int, object]) -> int:
    """The period of an entry that tells its age; the newest comes first, each one once."""
    age = stored.integer("age")
    if age > min(KEPT, newest):
        raise CorruptStateError(f"{stored.path}.age must be at most {min(KEPT, newest)}")
    if before and newest - age >= min(before):
        raise CorruptStateError(f"{stored.path}.age is not in order: the newest period comes first")
    return newest - age


def _later(first: Last | None, second: Last | None) -> Last | None:
    if first is None or second is None:
        return first or second
    return max(first, second)
