"""Keeps durations in coarse buckets, four for each doubling: small enough to be stored for every revision ever tried.

Bucket i holds the durations in (2^((i-1)/4), 2^(i/4)] seconds: Prometheus' native histogram of schema 2. Each is
sixteen buckets of `Histogram`, so counts move over without loss. A quantile is taken within its bucket by ratio, as
Prometheus does, and is at most 19 % off; where durations are spread over several buckets it is off by a few percent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from arbiter.core.histogram import PER_DOUBLING as FINE_PER_DOUBLING
from arbiter.core.histogram import Histogram, edge_of
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PER_DOUBLING: Final = 4
"""Buckets between a duration and its double."""

_FINE: Final = FINE_PER_DOUBLING // PER_DOUBLING
"""Buckets of `Histogram` that one of ours holds."""

ZERO: Final = -20 * PER_DOUBLING
"""The bucket of what `Histogram` counts as zero."""

_HIGHEST: Final = 17 * PER_DOUBLING
"""The last bucket of `Histogram`'s scale."""

Buckets = dict[int, int]
"""Count by bucket, without empty ones. Whoever holds one does not change it."""

_TEXT: Final = re.compile(r"(0|-?[1-9][0-9]{0,2}):((?:[1-9][0-9]{0,18})?(?:,(?:[1-9][0-9]{0,18})?)*)")


def coarse(histograms: Iterable[Histogram]) -> Buckets:
    """All of them together."""
    total: Buckets = {}
    for histogram in histograms:
        if histogram.zero:
            total[ZERO] = total.get(ZERO, 0) + histogram.zero
        for fine, n in histogram.buckets.items():
            bucket = -(-fine // _FINE)
            total[bucket] = total.get(bucket, 0) + n
    return total


def merged(first: Buckets, second: Buckets) -> Buckets:
    """Both together: associative, commutative and exact."""
    if not first or not second:
        return first or second
    total = dict(first)
    for bucket, n in second.items():
        total[bucket] = total.get(bucket, 0) + n
    return total


def quantile(weights: Mapping[int, float], q: float) -> float | None:
    """The duration in seconds that a share q of the weight does not exceed; None without any weight.

    Within its bucket it is taken by ratio, as in Prometheus' `histogram_quantile` over native histograms.
    """
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"a quantile is asked for by a share in [0, 1], not {q}")
    wanted = q * sum(weights[bucket] for bucket in sorted(weights))
    below, found = 0.0, None
    for bucket in sorted(weights):
        if (weight := weights[bucket]) <= 0.0:
            continue
        share = min(1.0, (wanted - below) / weight)
        found = 0.0 if bucket <= ZERO else 2.0 ** ((bucket - 1 + share) / PER_DOUBLING)
        below += weight
        if below >= wanted:
            break
    return found


def mean(weights: Mapping[int, float]) -> float | None:
    """The mean in seconds, each duration taken at the middle, by ratio, of its bucket; None without any weight."""
    total = sum(weights[bucket] for bucket in sorted(weights))
    if total <= 0.0:
        return None
    seconds = (0.0 if bucket <= ZERO else 2.0 ** ((bucket - 0.5) / PER_DOUBLING) for bucket in sorted(weights))
    return sum(weights[bucket] * each for bucket, each in zip(sorted(weights), seconds, strict=True)) / total


def to_histogram(weights: Mapping[int, float]) -> Histogram:
    """The form that people and the API see: whole counts, rounded, each at the middle, by ratio, of its bucket.

    `coarse` puts them back into the same buckets.
    """
    shown = Histogram()
    for bucket in sorted(weights):
        if n := int(weights[bucket] + 0.5):
            shown.add(0.0 if bucket <= ZERO else edge_of(bucket * _FINE - _FINE // 2), n)
    return shown


def to_text(buckets: Buckets) -> str:
    """The stored form: the first bucket, then the counts from there on, an empty one as nothing; `-3:5,12,,1`."""
    if not buckets:
        return ""
    first, last = min(buckets), max(buckets)
    counts = (str(buckets.get(bucket, "")) for bucket in range(first, last + 1))
    return f"{first}:{','.join(counts)}"


def from_text(text: str, path: str) -> Buckets:
    """Read back what `to_text` wrote.

    Raises:
        CorruptStateError: for anything else; it names the path.
    """
    if not text:
        return {}
    match = _TEXT.fullmatch(text)
    if match is None:
        raise CorruptStateError(f"{path} is not of the form first:count,count: {text[:60]!r}")
    first, counts = int(match[1]), match[2].split(",")
    if not counts[0] or not counts[-1] or first < ZERO or first + len(counts) - 1 > _HIGHEST:
        raise CorruptStateError(f"{path} begins or ends with nothing, or is out of range: {text[:60]!r}")
    return {first + i: int(n) for i, n in enumerate(counts) if n}
