"""Decides which model suits a task best: leaves out what cannot do, scores the rest, and says why in words.

score = quality, latency, memory, reliability and recency, each from 0 to 1, by the task's weights (design, section 6).
Whoever is known too little scores the middle and says so, so that nobody is chosen for luck and nobody is kept out for
being new.

Rule: the same facts give the same order, whatever order they came in. Of equals the active one is first, because a swap
that gains nothing only costs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from arbiter.api.modelpool import Needs, Preference, ScoreWeights
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.api.swappolicy import Trigger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

HALF_LIFE_S: Final = 7 * 86_400.0
"""Seconds after which knowledge counts half, for recency as for what is learned."""

UNPROVEN: Final = 0.5
"""The score of a model that is known too little, and of each part that is not known."""

TYPICAL_FIRST_TOKEN_S: Final = 1.0
"""Seconds to the first token that are worth half of the part, where the task names no limit."""

TYPICAL_PER_TOKEN_S: Final = 0.05
"""Seconds for each further token that are worth half of the part, where the task names no limit: 20 tokens a second."""

TYPICAL_MEMORY: Final = 8 * 1024**3
"""Bytes that are worth half of the part, where nothing bounds them."""

SHOWN: Final = 5
"""Models of a ranking that a status shows."""

PREFERRED: Final[Mapping[Preference, ScoreWeights]] = {
    Preference.Quality: ScoreWeights(quality=0.6, latency=0.2, memory=0.05, reliability=0.1, recency=0.05),
    Preference.Speed: ScoreWeights(quality=0.2, latency=0.55, memory=0.05, reliability=0.1, recency=0.1),
    Preference.Memory: ScoreWeights(quality=0.25, latency=0.15, memory=0.4, reliability=0.1, recency=0.1),
    Preference.Balanced: ScoreWeights(),
}
"""What each preference means as weights."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one revision at one task. Samples are fractional once old ones count for less.

    Attributes:
        samples: requests that were answered or failed.
        success_rate: the share of them that was answered, from 0 to 1.
        quality: mean score of its answers, from 0 to 1; None if nobody has judged one.
        judgements: how many answers that is the mean of.
        first_token_s: seconds that 95 % of requests waited for their first token at most; None without a stream.
        per_token_s: seconds that each further token took at most in 95 % of requests; None the same.
        memory: bytes that it needs at its peak; None if that is not known.
        age_s: seconds since the newest request; None if there was none.
    """

    samples: float = 0.0
    success_rate: float = 0.0
    quality: float | None = None
    judgements: float = 0.0
    first_token_s: float | None = None
    per_token_s: float | None = None
    memory: int | None = None
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class Entrant:
    """A model that may serve a task.

    Attributes:
        model: its LocalModel.
        revision: what of it would run.
        known: what is known of it at this task.
        refusal: why it cannot serve the task at all; None if it can.
        active: it serves the task now.
    """

    model: str
    revision: str
    known: Known = field(default_factory=Known)
    refusal: Reason | None = None
    active: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """What a score is made of, each from 0 to 1."""

    quality: float
    latency: float
    memory: float
    reliability: float
    recency: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """A model with its score.

    Attributes:
        entrant: which.
        total: the weighted mean of the parts, from 0 to 1.
        parts: of it.
        unproven: it is known too little, and the total is 0.5 for that; or only its quality is not known.
        confidence: how much of the score rests on what is known, from 0 to 1: each part counts by n / (n + the least
            number of samples), and not at all where nothing is known.
    """

    entrant: Entrant
    total: float
    parts: Parts
    unproven: bool
    confidence: float


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A model that does not come into question, and why."""

    entrant: Entrant
    reason: Reason


@dataclass(frozen=True, slots=True)
class Selection:
    """What was chosen.

    Attributes:
        ranking: all that come into question, the best first.
        left_out: all others, by name.
        reason: what is best and why, or why nothing is; the sentence that status, events and the CLI print.
    """

    ranking: tuple[Ranked, ...]
    left_out: tuple[LeftOut, ...]
    reason: Reason

    @property
    def best(self) -> Ranked | None:
        """The best; None if none comes into question."""
        return self.ranking[0] if self.ranking else None


@dataclass(frozen=True, slots=True)
class Contest:
    """What models are held against.

    Attributes:
        task: its name.
        needs: what it must have.
        weights: how much each part counts.
        memory_limit: bytes that a model may need; None where nothing bounds them.
        min_samples: requests, or judgements, below which a mean says nothing.
    """

    task: str
    needs: Needs = field(default_factory=Needs)
    weights: ScoreWeights = field(default_factory=ScoreWeights)
    memory_limit: int | None = None
    min_samples: int = Trigger().min_samples


def weights_of(given: ScoreWeights | None, prefer: Preference | None, learned: ScoreWeights | None) -> ScoreWeights:
    """Give the weights that count: those that are written down, else those of the preference, else what was learned."""
    if given is not None:
        return given
    if prefer is not None:
        return PREFERRED[prefer]
    return learned or ScoreWeights()


def choose(contest: Contest, entrants: Iterable[Entrant]) -> Selection:
    """Leave out, score, and rank."""
    ranking, left_out = [], []
    for entrant in entrants:
        refusal = entrant.refusal or _refused(contest, entrant)
        if refusal is None:
            ranking.append(score(contest, entrant))
        else:
            left_out.append(LeftOut(entrant, refusal))
    ranking.sort(key=_order)
    left_out.sort(key=lambda each: (each.entrant.model, each.entrant.revision))
    return Selection(tuple(ranking), tuple(left_out), _told(contest, ranking, left_out))


def score(contest: Contest, entrant: Entrant) -> Ranked:
    """Score one model that comes into question."""
    known, weights = entrant.known, contest.weights
    judged = known.quality is not None and known.judgements >= contest.min_samples
    parts = Parts(
        quality=known.quality if judged and known.quality is not None else UNPROVEN,
        latency=_latency(contest.needs, known),
        memory=_memory(contest, known),
        reliability=known.success_rate if known.samples else UNPROVEN,
        recency=UNPROVEN if known.age_s is None else 0.5 ** (max(known.age_s, 0.0) / HALF_LIFE_S),
    )
    whole = weights.quality + weights.latency + weights.memory + weights.reliability + weights.recency
    enough = known.samples >= contest.min_samples
    total = UNPROVEN
    if enough:
        total = (
            weights.quality * parts.quality
            + weights.latency * parts.latency
            + weights.memory * parts.memory
            + weights.reliability * parts.reliability
            + weights.recency * parts.recency
        ) / whole
    return Ranked(entrant, total, parts, not (enough and judged), _confidence(contest, known, whole))


def _confidence(contest: Contest, known: Known, whole: float) -> float:
    weights, least = contest.weights, contest.min_samples
    seen = known.samples / (known.samples + least) if known.samples else 0.0
    judged = known.judgements / (known.judgements + least) if known.quality is not None and known.judgements else 0.0
    timed = seen if known.first_token_s is not None or known.per_token_s is not None else 0.0
    sized = 1.0 if known.memory is not None else 0.0
    found = (
        weights.quality * judged
        + weights.latency * timed
        + weights.memory * sized
        + (weights.reliability + weights.recency) * seen
    )
    return found / whole


def _latency(needs: Needs, known: Known) -> float:
    """Give the mean of both latencies' parts, as far as they are known: 1 - p95/limit, or typical/(typical + p95)."""
    found = []
    if known.first_token_s is not None:
        limit = None if needs.first_token_p95 is None else needs.first_token_p95.seconds
        found.append(_share(known.first_token_s, limit, TYPICAL_FIRST_TOKEN_S))
    if known.per_token_s is not None:
        limit = None if needs.per_token_p95 is None else needs.per_token_p95.seconds
        found.append(_share(known.per_token_s, limit, TYPICAL_PER_TOKEN_S))
    return sum(found) / len(found) if found else UNPROVEN


def _memory(contest: Contest, known: Known) -> float:
    if known.memory is None:
        return UNPROVEN
    return _share(known.memory, contest.memory_limit, TYPICAL_MEMORY)


def _share(amount: float, limit: float | None, typical: float) -> float:
    """Say how little something is, from 0 to 1: against its limit, or against what is typical."""
    if limit is None:
        return typical / (typical + amount)
    return min(max(1.0 - amount / limit, 0.0), 1.0)


def _refused(contest: Contest, entrant: Entrant) -> Reason | None:
    """Say which of the task's needs the model was seen not to meet; nothing of what is known too little."""
    needs, known, name = contest.needs, entrant.known, entrant.model
    least, quality = needs.min_quality, known.quality if known.judgements >= contest.min_samples else None
    if least is not None and quality is not None and quality < least:
        told = f"{name} has a quality of {quality:.2g} at {contest.task}, which needs {least:g}"
        return Reason(ReasonCode.QualityBelowNeed, told)
    if known.samples < contest.min_samples:
        return None
    for seconds, most, what in (
        (known.first_token_s, needs.first_token_p95, "until the first token"),
        (known.per_token_s, needs.per_token_p95, "for each further token"),
    ):
        if seconds is not None and most is not None and seconds > most.seconds:
            told = f"{name} takes {seconds:.3g} s {what} at {contest.task} in 95 % of requests, which allows {most}"
            return Reason(ReasonCode.SlowerThanNeed, told)
    return None


def _order(ranked: Ranked) -> tuple[float, bool, float, str, str]:
    """The best first; of equals the active one, then what is known best, then by name."""
    entrant = ranked.entrant
    return -round(ranked.total, 9), not entrant.active, -entrant.known.samples, entrant.model, entrant.revision


def _told(contest: Contest, ranking: Sequence[Ranked], left_out: Sequence[LeftOut]) -> Reason:
    others = f"; left out: {', '.join(each.entrant.model for each in left_out[:SHOWN])}" if left_out else ""
    if not ranking:
        why = left_out[0].reason.message if left_out else "the pool names no model for it"
        return Reason(ReasonCode.NoModelFits, f"no model comes into question for {contest.task}: {why}{others}")
    best, parts = ranking[0], ranking[0].parts
    if best.unproven and best.total == UNPROVEN and best.entrant.known.samples < contest.min_samples:
        told = f"{best.entrant.model} is known too little at {contest.task} to be scored"
    else:
        told = (
            f"{best.entrant.model} scores {best.total:.2f} at {contest.task}: quality {parts.quality:.2f}"
            f"{'' if not best.unproven else ' (unproven)'}, latency {parts.latency:.2f}, memory {parts.memory:.2f}, "
            f"reliability {parts.reliability:.2f}, recency {parts.recency:.2f}"
        )
    after = f"; then {ranking[1].entrant.model} with {ranking[1].total:.2f}" if len(ranking) > 1 else ""
    return Reason(ReasonCode.Ranked, f"{told}{after}{others}")
