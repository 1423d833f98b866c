"""Turns one block into what each metric's tests read: yes-or-no trials, and one bounded value for the gates.

Rule: thresholds come from blocks before this one, and latency is compared only between requests that met equally
many others at their endpoint. A threshold fixed for good would convict every new side on the day that load slows
both; a comparison across loads convicts or favours the side with more traffic.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log2
from typing import TYPE_CHECKING

from arbiter.core.analysis_settings import MetricName
from arbiter.core.eprocess import Trials
from arbiter.core.histogram import PER_DOUBLING, Histogram
from arbiter.core.traffic import Stratum

if TYPE_CHECKING:
    from arbiter.core.analysis_settings import AnalysisSettings
    from arbiter.core.blocks import Block
    from arbiter.core.traffic import Tally, Timings

SKETCH_STEP = 4
"""Sketches join four buckets: 4.4 % wide, on edges of the fine ones, and a quarter of the size to store."""

SKETCH_LIMIT = 1024
"""Durations after which a sketch is halved, so that it forgets old load and stays small."""

SKETCH_LEAST = 20
"""Durations that a stratum's past needs before its 95th percentile means anything."""

Pasts = tuple[Histogram, ...]
"""A sketch of the old side's durations before the block, for each stratum."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one block says about one metric.

    Attributes:
        trials: for each stratum (or the only one); for latency, ok means within the threshold.
        gain: in [-1, 1], at most 0 on average if the new side is beyond the margin; None without a comparison.
        difference: in [-1, 1], above 0 on average if the new side is better than the old; None likewise.
    """

    trials: tuple[Trials, ...]
    gain: float | None
    difference: float | None


def success_sample(block: Block, ratio: float) -> Sample:
    """Answered in full, of answered or failed; 4xx and clients that left say nothing about a side."""
    trials = Trials(block.new.ok, block.new.judged, block.old.ok, block.old.judged)
    if not trials.comparable:
        return Sample((trials,), None, None)
    new, old = trials.new_ok / trials.new, trials.old_ok / trials.old
    return Sample((trials,), new - ratio * old, new - old)


def timings_of(metric: MetricName, tally: Tally) -> Timings:
    """The histograms of a latency metric."""
    return tally.first_token if metric is MetricName.FIRST_TOKEN else tally.per_token


def latency_sample(metric: MetricName, old: Timings, new: Timings, pasts: Pasts, settings: AnalysisSettings) -> Sample:
    """Within and beyond the threshold of each stratum.

    The old side is held against the edge t at the quantile of its own past, the new side against t·margin.
    Is every new request at most that much slower, then it is beyond its threshold at most as often as the old
    side; so "not slower than tolerated" becomes "new rate ≥ old rate". Thresholds must be bucket edges: towards
    rollback the tolerance is rounded up, at the gate down, so that either null holds all it should.

    The gain weighs each stratum's difference of rates by n_new·n_old/(n_new+n_old), which are known before any
    outcome; a weighted mean over strata stays one bounded value for one block.
    """
    reach = PER_DOUBLING * log2(settings.margin(metric))
    trials, weights, gains, differences = [], 0.0, 0.0, 0.0
    for old_times, new_times, past in zip(old, new, pasts, strict=True):
        edge = past.quantile_bucket(settings.latency_quantile) if past.count >= SKETCH_LEAST else None
        old_n, new_n = old_times.count, new_times.count
        if edge is None or not old_n or not new_n:
            trials.append(Trials(0, 0, 0, 0))
            continue
        old_slow = old_times.count_above_bucket(edge)
        tolerated, passing, equal = _slow_counts(new_times, edge, reach)
        trials.append(Trials(new_n - tolerated, new_n, old_n - old_slow, old_n))
        weight = new_n * old_n / (new_n + old_n)
        weights += weight
        gains += weight * (old_slow / old_n - passing / new_n)
        differences += weight * (old_slow / old_n - equal / new_n)
    if not weights:
        return Sample(tuple(trials), None, None)
    return Sample(tuple(trials), gains / weights, differences / weights)


def _slow_counts(times: Histogram, edge: int, reach: float) -> tuple[int, int, int]:
    """How many are beyond the threshold for rollback, for the gate, and for a comparison as equals."""
    far, near = edge + ceil(reach), edge + floor(reach)
    above = [(bucket, n) for bucket, n in times.buckets.items() if bucket > edge]
    return (
        sum(n for bucket, n in above if bucket > far),
        sum(n for bucket, n in above if bucket > near),
        sum(n for _, n in above),
    )


def no_pasts() -> Pasts:
    """Nothing known about any stratum."""
    return tuple(Histogram() for _ in Stratum)


def remembered(past: Histogram, times: Histogram) -> Histogram:
    """A sketch with one block more; `sum_ns` is not kept."""
    if not times.count:
        return past
    sketch = Histogram(past.buckets, past.zero + times.zero)
    buckets = sketch.buckets
    for bucket, n in times.buckets.items():
        # Rounded up to a multiple of a power of two.
        coarse = (bucket + SKETCH_STEP - 1) & -SKETCH_STEP
        buckets[coarse] = buckets.get(coarse, 0) + n
    while sketch.count > SKETCH_LIMIT:
        sketch = _halved(sketch)
    return sketch


def _halved(sketch: Histogram) -> Histogram:
    """Half of every count; what is odd is carried to the next bucket, so that the thin tail keeps its share."""
    carry, buckets = sketch.zero % 2, {}
    for bucket, n in sorted(sketch.buckets.items()):
        half, carry = divmod(n + carry, 2)
        if half:
            buckets[bucket] = half
    return Histogram(buckets, sketch.zero // 2)
