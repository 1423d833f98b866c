"""Learns from the routers' counts what each revision is like at one task of one pool.

Rule: a slice is folded once, when it is closed. A cursor for each router's life says what is folded, and is stored with
the counts in one write, so neither a second look nor a second operator counts a slice twice. Folding is merging with
the profile of one slice, so a profile of all traffic equals the merged profiles of its parts, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from arbiter.core.fading import HALF_LIFE_MS, added, period_of
from arbiter.core.folding import AHEAD_MS, DEADLINE_MS, Refusal, Refused, Share, refusal_of
from arbiter.core.profile_cursors import LOOK_BACK_MS, Place, cursor_fields, merged_cursors, read_cursors
from arbiter.core.revision_record import Last, Record, Span, read_period
from arbiter.core.stored import Stored, to_json
from arbiter.core.task_counts import ByComplexity, Counts, Scores
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arbiter.core.feed import Feed
    from arbiter.core.profile_cursors import Cursors
    from arbiter.core.revision_record import RevisionName
    from arbiter.core.traffic import Side

PROFILE_VERSION: Final = 1
"""Version of the stored form; one that is not known is refused, not half understood."""

MOST_REVISIONS: Final = 64
"""Revisions that a stored profile holds, as many as a TaskProfile may list; the least recently used go first."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known about one task of one pool.

    Attributes:
        half_life_ms: after which a count is worth half.
        newest: the newest period that anything is of; 0 while nothing is known.
        records: by revision.
        complexity: requests of all revisions by period.
        cursors: by router's life, what is folded.
    """

    half_life_ms: int = HALF_LIFE_MS
    newest: int = 0
    records: Mapping[RevisionName, Record] = field(default_factory=dict)
    complexity: Mapping[int, ByComplexity] = field(default_factory=dict)
    cursors: Cursors = field(default_factory=dict)

    @property
    def span(self) -> Span:
        """Which periods it keeps."""
        return Span(self.half_life_ms, self.newest)

    def merge(self, other: Profile) -> Profile:
        """Both together: associative, commutative and exact, with an empty profile as identity.

        The traffic of the two must be apart: what both have counted, counts twice.
        """
        if other.half_life_ms != self.half_life_ms:
            raise ValueError(f"periods of {self.half_life_ms} and of {other.half_life_ms} ms do not add up")
        span = Span(self.half_life_ms, max(self.newest, other.newest))
        records = dict(self.records)
        if span.newest > self.newest:
            pruned = ((name, record.pruned(span)) for name, record in self.records.items())
            records = {name: record for name, record in pruned if record.used_ms}
        for name, record in other.records.items():
            if (together := records.get(name, Record()).merge(record, span)).used_ms:
                records[name] = together
        return Profile(
            self.half_life_ms,
            span.newest,
            records,
            added(self.complexity, other.complexity, span.newest),
            merged_cursors(self.cursors, other.cursors),
        )

    def bounded(self) -> Profile:
        """The same with the `MOST_REVISIONS` that were used last; of equally recent ones the last by name stay."""
        if len(self.records) <= MOST_REVISIONS:
            return self
        by_use = sorted(self.records.items(), key=lambda each: (each[1].used_ms, each[0]))
        return replace(self, records=dict(by_use[-MOST_REVISIONS:]))

    def observe(self, share: Share, now_ms: int, deadline_ms: int = DEADLINE_MS) -> Observed:
        """Fold in one side of one slice of one router.

        Slices of one router are folded in the order of their start; `follow` sees to that. The order of routers is
        free.

        Args:
            share: the counts.
            now_ms: the operator's clock.
            deadline_ms: after the end of a slice; then open requests have failed by timeout.
        """
        if refused := refusal_of(share, self.cursors, now_ms, deadline_ms):
            return Observed(self, (refused,))
        period, tally = period_of(share.start_ms, self.half_life_ms), share.tally.expired()
        cursors = {share.epoch: Place(share.start_ms, frozenset((share.part,)))}
        seen = Profile(self.half_life_ms, cursors=cursors)
        if tally.routed or share.feedback.n:
            counts = Counts.of(tally, share.feedback, share.millijoules)
            record = Record({period: counts}, sampled_ms=share.start_ms)
            seen = replace(seen, newest=period, records={share.revision: record})
        if any(each.samples for each in share.complexity.values()):
            seen = replace(seen, newest=period, complexity={period: ByComplexity.of(share.complexity)})
        return Observed(self.merge(seen))

    def follow(
        self,
        feed: Feed,
        task: str,
        revisions: Mapping[tuple[int, Side], RevisionName],
        now_ms: int,
        deadline_ms: int = DEADLINE_MS,
    ) -> Observed:
        """Fold in what a router tells, up to its first slice that is still open, and keep the profile bounded.

        Args:
            feed: the router's latest answer.
            task: whose slices are meant.
            revisions: which revision a side was, by the table's generation; a side that is not named is passed over.
            now_ms: the operator's clock.
            deadline_ms: as for `observe`.

        Returns:
            The profile, and what was refused other than for being counted already or open.
        """
        profile, refused = self, list[Refused]()
        slices = (each for each in feed.slices if each.task == task)
        for each in sorted(slices, key=lambda each: (each.start_ms, each.generation)):
            named = ((side, revisions.get((each.generation, side))) for side in sorted(each.sides))
            shares = [Share.of(each, side, name, feed.read_ms) for side, name in named if name]
            refusals = (refusal_of(share, profile.cursors, now_ms, deadline_ms) for share in shares)
            if any(found and found.code is Refusal.OPEN for found in refusals):
                break  # both sides wait: a later slice would pass over an earlier one
            for share in shares:
                observed = profile.observe(share, now_ms, deadline_ms)
                profile = observed.profile
                refused.extend(found for found in observed.refused if found.code is not Refusal.COUNTED)
        return Observed(profile.bounded(), tuple(refused))

    def check(self, revision: RevisionName, scores: Iterable[float], at_ms: int, now_ms: int) -> Observed:
        """Take in the scores, each from 0 to 1, of one run of the task's checks that ended at that moment.

        A run that is not later than the last one of the same revision is counted already.
        """
        if refused := self._untimely(f"a run of checks against {revision.model}", at_ms, now_ms):
            return Observed(self, (refused,))
        if (record := self.records.get(revision)) and at_ms <= record.checked_ms:
            message = f"checks against {revision.model} up to {record.checked_ms} are counted"
            return Observed(self, (Refused(Refusal.COUNTED, message),))
        period = period_of(at_ms, self.half_life_ms)
        record = Record({period: Counts(checks=Scores.of(scores))}, checked_ms=at_ms)
        return Observed(self.merge(Profile(self.half_life_ms, period, {revision: record})))

    def measure(
        self,
        revision: RevisionName,
        at_ms: int,
        now_ms: int,
        *,
        memory_bytes: int | None = None,
        load_ms: int | None = None,
    ) -> Observed:
        """Take in what was measured of a revision at that moment; the latest of each is kept."""
        if refused := self._untimely(f"a measurement of {revision.model}", at_ms, now_ms):
            return Observed(self, (refused,))
        if min(memory_bytes or 0, load_ms or 0) < 0:
            raise ValueError(f"neither bytes nor times are below zero: {memory_bytes}, {load_ms}")
        if memory_bytes is None and load_ms is None:
            return Observed(self)
        memory, load = (None if value is None else Last(at_ms, value) for value in (memory_bytes, load_ms))
        record = Record(memory=memory, load=load)
        return Observed(self.merge(Profile(self.half_life_ms, period_of(at_ms, self.half_life_ms), {revision: record})))

    def to_text(self) -> str:
        """The stored form of the bounded profile: one line of JSON."""
        records = self.bounded().records
        complexity = (
            {"age": self.newest - period, "counts": self.complexity[period].to_fields()}
            for period in sorted(self.complexity, reverse=True)
        )
        return to_json(
            {
                "version": PROFILE_VERSION,
                "halfLifeMs": self.half_life_ms,
                "newest": self.newest,
                "revisions": [records[name].to_fields(name, self.span) for name in sorted(records)],
                "complexity": list(complexity),
                "cursors": cursor_fields(self.cursors),
            }
        )

    @staticmethod
    def from_text(text: str, now_ms: int) -> Profile:
        """Read back what `to_text` wrote at that moment or before.

        Raises:
            CorruptStateError: for anything else; it names the field.
        """
        stored = Stored.parse(text, "profile", PROFILE_VERSION)
        span = Span(stored.integer("halfLifeMs", 1), stored.integer("newest"))
        if span.newest > period_of(now_ms + LOOK_BACK_MS, span.half_life_ms):
            raise CorruptStateError(f"profile.newest is {span.newest}, a period that has not come yet")
        parts = enumerate(stored.items("revisions"))
        records = [Record.read(Stored(part, f"profile.revisions[{i}]"), span) for i, part in parts]
        if len(records) > MOST_REVISIONS:
            raise CorruptStateError(f"profile.revisions must be at most {MOST_REVISIONS}, and are {len(records)}")
        complexity: dict[int, ByComplexity] = {}
        for i, part in enumerate(stored.items("complexity")):
            entry = Stored(part, f"profile.complexity[{i}]")
            period = read_period(entry, span.newest, complexity)
            complexity[period] = ByComplexity.read(entry)
            entry.done()
        cursors = read_cursors(stored.child("cursors"), now_ms)
        stored.done()
        read = Profile(span.half_life_ms, span.newest, dict(records), complexity, cursors)
        moments = (record.used_ms for _, record in records)
        if span.newest != max([0, *complexity, *(period_of(each, span.half_life_ms) for each in moments)]):
            raise CorruptStateError("profile.newest is not the newest period that anything is of")
        if read.to_text() != text:
            raise CorruptStateError("profile is not written as Arbiter writes it")
        return read

    def _untimely(self, what: str, at_ms: int, now_ms: int) -> Refused | None:
        if at_ms > now_ms + AHEAD_MS:
            return Refused(Refusal.AHEAD, f"{what} is of {at_ms}, and it is {now_ms}")
        if at_ms < max(1, self.span.from_ms):
            return Refused(
                Refusal.TOO_OLD, f"{what} is of {at_ms}, and what is before {self.span.from_ms} is forgotten"
            )
        return None


@dataclass(frozen=True, slots=True)
class Observed:
    """A profile after something was offered to it.

    Attributes:
        profile: with what could be counted.
        refused: what could not.
    """

    profile: Profile
    refused: tuple[Refused, ...] = ()
