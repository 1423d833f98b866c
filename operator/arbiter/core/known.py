"""Reads what a profile knows of a revision, with a prior beside it, and shows it as a TaskProfile does.

Rule: fading and discounting happen here and are never written back, so one's own knowledge stays exact. A count of k
periods ago is worth 2^-k, seen from now or from the newest period, whichever is later: a quiet task's knowledge ages
too, and the next request does not change it at a stroke.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from arbiter.api import taskprofile as api
from arbiter.core.coarse_times import coarse, to_histogram
from arbiter.core.fading import period_of, weight_of
from arbiter.core.histogram import Histogram
from arbiter.core.revision_record import RevisionName
from arbiter.core.weighed import Known, Weighed, faded
from arbiter.errors import CorruptStateError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arbiter.core.profile import Profile
    from arbiter.core.task_counts import Outcomes


@dataclass(frozen=True, slots=True)
class Told:
    """Knowledge as people wrote it or another cluster told it, once it is read; it does not fade.

    Attributes:
        weighed: by revision.
    """

    weighed: Mapping[RevisionName, Weighed]

    @staticmethod
    def read(knowledge: api.Knowledge, field: str) -> Told:
        """Read it.

        Raises:
            InvalidInputError: for a histogram that is none; it names the field, which begins as given.
        """
        parts = enumerate(knowledge.models)
        return Told({RevisionName(each.model, each.revision): _told(each, f"{field}.models[{i}]") for i, each in parts})


@dataclass(frozen=True, slots=True)
class Informed:
    """A profile with knowledge from elsewhere beside it, for reading.

    Attributes:
        profile: one's own.
        prior: another profile, or what people wrote; None for nothing.
        discount: from 0 to 1, what one of the prior's samples is worth beside one of one's own.
    """

    profile: Profile
    prior: Profile | Told | None = None
    discount: float = 0.0

    def revisions(self) -> tuple[RevisionName, ...]:
        """All that anything is known of, in the order of their names."""
        prior = self.prior
        more: Iterable[RevisionName] = ()
        if prior is not None:
            more = prior.weighed if isinstance(prior, Told) else prior.records
        return tuple(sorted({*self.profile.records, *more}))

    def known(self, model: str, revision: str, now_ms: int) -> Known:
        """What is known of a revision; of one that was never seen, nothing."""
        name = RevisionName(model, revision)
        weighed, prior = _faded(self.profile, name, now_ms), self.prior
        if prior is not None:
            other = prior.weighed.get(name, _NOTHING) if isinstance(prior, Told) else _faded(prior, name, now_ms)
            weighed = weighed.plus(other, self.discount)
        return weighed.known(now_ms)


def with_prior(profile: Profile, prior: Profile | Told, discount: float) -> Informed:
    """The profile, read with other knowledge beside it, each of whose samples counts `discount` of one's own."""
    if not 0.0 <= discount <= 1.0:
        raise ValueError(f"a discount is in [0, 1], not {discount}")
    return Informed(profile, prior, discount)


def known(profile: Profile, model: str, revision: str, now_ms: int) -> Known:
    """What a profile by itself knows of a revision."""
    return Informed(profile).known(model, revision, now_ms)


def to_knowledge(profile: Profile, now_ms: int) -> api.Knowledge:
    """The profile's own knowledge as people see it: faded, of the stored revisions, in order of their names."""
    bounded, reference = profile.bounded(), _reference(profile, now_ms)
    parts = [(weight_of(period, reference), each.parts()) for period, each in sorted(profile.complexity.items())]
    low, medium, high = (_complexity((weight, outcomes[i]) for weight, outcomes in parts) for i in range(3))
    return api.Knowledge(
        models=tuple(
            _model_knowledge(name, faded(bounded.records[name], reference)) for name in sorted(bounded.records)
        ),
        by_complexity=api.ByComplexity(low=low, medium=medium, high=high) if low or medium or high else None,
    )


_NOTHING: Final = Weighed()


def _reference(profile: Profile, now_ms: int) -> int:
    """The period from which fading is seen."""
    return max(profile.newest, period_of(now_ms, profile.half_life_ms))


def _faded(profile: Profile, name: RevisionName, now_ms: int) -> Weighed:
    record = profile.records.get(name)
    return faded(record, _reference(profile, now_ms)) if record else _NOTHING


def _told(each: api.ModelKnowledge, path: str) -> Weighed:
    """One revision; its scores are not told apart by source, and are taken as those of checks."""
    scores = (0.0, 0.0) if each.quality is None else (each.quality_samples, each.quality * each.quality_samples)
    return Weighed(
        each.samples,
        each.successes,
        each.input_tokens,
        each.output_tokens,
        checks=scores,
        energy=(0.0, 0.0) if each.energy_joules is None else (each.energy_joules, each.output_tokens),
        first_token=_buckets(each.first_token, f"{path}.firstToken"),
        per_token=_buckets(each.per_token, f"{path}.perToken"),
        total=_buckets(each.total, f"{path}.total"),
        sampled_ms=0 if each.updated_at is None else round(each.updated_at.timestamp() * 1000),
        memory_bytes=each.memory_bytes,
        load_seconds=each.load_seconds,
    )


def _buckets(text: str | None, path: str) -> dict[int, float]:
    try:
        return dict[int, float](coarse((Histogram.from_text(text or ""),)))
    except CorruptStateError as error:
        raise InvalidInputError(path, f"{error}; copy one from a TaskProfile's status") from error


def _model_knowledge(name: RevisionName, weighed: Weighed) -> api.ModelKnowledge:
    """One revision; energy is told for all its tokens, at the rate of those with which it was measured."""
    joules, tokens = weighed.energy
    n, total = (a + b for a, b in zip(weighed.checks, weighed.feedback, strict=True))
    return api.ModelKnowledge(
        model=name.model,
        revision=name.revision,
        samples=weighed.samples,
        successes=weighed.successes,
        quality=min(1.0, total / n) if n else None,
        quality_samples=n,
        first_token=to_histogram(weighed.first_token).to_text() or None,
        per_token=to_histogram(weighed.per_token).to_text() or None,
        total=to_histogram(weighed.total).to_text() or None,
        input_tokens=weighed.input_tokens,
        output_tokens=weighed.output_tokens,
        memory_bytes=weighed.memory_bytes,
        load_seconds=weighed.load_seconds,
        energy_joules=joules / tokens * weighed.output_tokens if tokens else None,
        updated_at=datetime.fromtimestamp(weighed.sampled_ms / 1000, UTC) if weighed.sampled_ms else None,
    )


def _complexity(weighed: Iterable[tuple[float, Outcomes]]) -> api.Complexity | None:
    samples = successes = 0.0
    for weight, outcomes in weighed:
        samples, successes = samples + weight * outcomes.samples, successes + weight * outcomes.successes
    return api.Complexity(samples=samples, successes=successes) if samples else None
