"""Weighs counts of one revision and says what they come to: rates, means and quantiles.

Rule: what nothing is known of is None, never zero. A prior's counts are worth `discount` of one's own on top of them;
what was measured last is taken from the prior only where there is nothing of one's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from arbiter.core.coarse_times import mean, quantile
from arbiter.core.fading import weight_of
from arbiter.core.task_counts import MILLION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.core.revision_record import Record


class Times(NamedTuple):
    """Half and 95 % of the durations, in seconds, are at most these."""

    p50: float
    p95: float


class Quality(NamedTuple):
    """The mean of scores from 0 to 1, and how many there were."""

    mean: float
    n: float


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one revision at one task; None is unknown, never zero.

    Attributes:
        samples: requests that were answered in full or failed.
        successes: those answered in full.
        success_rate: the share of these; None without samples.
        quality: of all scores.
        checks: of the task's checks alone.
        feedback: of what clients gave alone.
        first_token: time to the first token.
        per_token: time of each further token.
        total: time of whole requests.
        tokens_per_second: of one answer, from the mean time of a further token.
        input_tokens: tokens read.
        output_tokens: tokens written.
        memory_bytes: at the last known peak.
        load_seconds: of the last start.
        joules_per_token: energy for each token written, where it was measured.
        age_seconds: since the newest slice with a request began.
    """

    samples: float = 0.0
    successes: float = 0.0
    success_rate: float | None = None
    quality: Quality | None = None
    checks: Quality | None = None
    feedback: Quality | None = None
    first_token: Times | None = None
    per_token: Times | None = None
    total: Times | None = None
    tokens_per_second: float | None = None
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    memory_bytes: int | None = None
    load_seconds: float | None = None
    joules_per_token: float | None = None
    age_seconds: float | None = None


Weights = dict[int, float]
"""Weight by coarse bucket."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """Counts of one revision once they are weighed.

    Attributes:
        samples: requests that were answered in full or failed.
        successes: those answered in full.
        input_tokens: tokens read.
        output_tokens: tokens written.
        checks: how many scores, and their sum.
        feedback: the same.
        energy: joules, and the tokens written with them.
        first_token: weight by coarse bucket.
        per_token: the same.
        total: the same.
        sampled_ms: when the newest slice with a request began; 0 for none.
        memory_bytes: at the last known peak.
        load_seconds: of the last start.
    """

    samples: float = 0.0
    successes: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    checks: tuple[float, float] = (0.0, 0.0)
    feedback: tuple[float, float] = (0.0, 0.0)
    energy: tuple[float, float] = (0.0, 0.0)
    first_token: Weights = field(default_factory=dict)
    per_token: Weights = field(default_factory=dict)
    total: Weights = field(default_factory=dict)
    sampled_ms: int = 0
    memory_bytes: int | None = None
    load_seconds: float | None = None

    def plus(self, other: Weighed, weight: float) -> Weighed:
        """Both together, each count of the other worth that much."""
        return Weighed(
            self.samples + weight * other.samples,
            self.successes + weight * other.successes,
            self.input_tokens + weight * other.input_tokens,
            self.output_tokens + weight * other.output_tokens,
            _pair_sum(self.checks, other.checks, weight),
            _pair_sum(self.feedback, other.feedback, weight),
            _pair_sum(self.energy, other.energy, weight),
            _bucket_sum(self.first_token, other.first_token, weight),
            _bucket_sum(self.per_token, other.per_token, weight),
            _bucket_sum(self.total, other.total, weight),
            max(self.sampled_ms, other.sampled_ms if weight else 0),
            other.memory_bytes if self.memory_bytes is None and weight else self.memory_bytes,
            other.load_seconds if self.load_seconds is None and weight else self.load_seconds,
        )

    def known(self, now_ms: int) -> Known:
        """What these counts say."""
        joules, tokens = self.energy
        scores = (self.checks[0] + self.feedback[0], self.checks[1] + self.feedback[1])
        per_token = mean(self.per_token)
        return Known(
            samples=self.samples,
            successes=self.successes,
            success_rate=self.successes / self.samples if self.samples else None,
            quality=_quality(*scores),
            checks=_quality(*self.checks),
            feedback=_quality(*self.feedback),
            first_token=_times(self.first_token),
            per_token=_times(self.per_token),
            total=_times(self.total),
            tokens_per_second=1.0 / per_token if per_token else None,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            memory_bytes=self.memory_bytes,
            load_seconds=self.load_seconds,
            joules_per_token=joules / tokens if tokens else None,
            age_seconds=max(0, now_ms - self.sampled_ms) / 1000 if self.sampled_ms else None,
        )


def faded(record: Record, reference: int) -> Weighed:
    """The counts of a record, each period's worth what it is worth in the period of reference."""
    samples = successes = input_tokens = output_tokens = 0.0
    checks = feedback = energy = (0.0, 0.0)
    first_token, per_token, total = dict[int, float](), dict[int, float](), dict[int, float]()
    for period in sorted(record.counts):
        counts, weight = record.counts[period], weight_of(period, reference)
        samples += weight * counts.samples
        successes += weight * counts.successes
        input_tokens += weight * counts.input_tokens
        output_tokens += weight * counts.output_tokens
        checks = _pair_sum(checks, counts.checks, weight)
        feedback = _pair_sum(feedback, counts.feedback, weight)
        energy = _pair_sum(energy, counts.energy, weight)
        _add(first_token, counts.first_token, weight)
        _add(per_token, counts.per_token, weight)
        _add(total, counts.total, weight)
    return Weighed(
        samples,
        successes,
        input_tokens,
        output_tokens,
        (checks[0], checks[1] / MILLION),
        (feedback[0], feedback[1] / MILLION),
        (energy[0] / 1000, energy[1]),
        first_token,
        per_token,
        total,
        record.sampled_ms,
        record.memory.value if record.memory else None,
        record.load.value / 1000 if record.load else None,
    )


def _pair_sum(first: tuple[float, float], second: tuple[float, float], weight: float) -> tuple[float, float]:
    return first[0] + weight * second[0], first[1] + weight * second[1]


def _add(total: Weights, more: Mapping[int, float], weight: float) -> None:
    for bucket, n in more.items():
        total[bucket] = total.get(bucket, 0.0) + weight * n


def _bucket_sum(first: Weights, second: Weights, weight: float) -> Weights:
    total = dict(first)
    _add(total, second, weight)
    return total


def _quality(n: float, total: float) -> Quality | None:
    return Quality(total / n, n) if n else None


def _times(weights: Weights) -> Times | None:
    p50, p95 = quantile(weights, 0.5), quantile(weights, 0.95)
    return None if p50 is None or p95 is None else Times(p50, p95)
