"""Counts durations in logarithmic buckets, so that quantiles cost little and merge exactly.

Everything here is an integer. Float sums depend on the order of adding; with integers, merging the same
histograms in any order on any machine gives the same bits.

Bucket i holds the durations in (2^((i-1)/64), 2^(i/64)] seconds. That is Prometheus' native histogram of schema 6
and OpenTelemetry's exponential histogram of scale 6, whose upper edges are inclusive too, so classic `le` buckets
at edges (all powers of two among them) are exact. A value read back from its bucket is off by at most 0.55 %.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from itertools import accumulate
from math import ceil, frexp, isnan, ldexp
from typing import TYPE_CHECKING, Final, Self

from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SCHEMA: Final = 6
"""Prometheus' name for the resolution: 2^6 = 64 buckets for each doubling."""

PER_DOUBLING: Final = 1 << SCHEMA
"""Buckets between a duration and its double."""

ZERO_EDGE: Final = 2.0**-20
"""Seconds (0.95 µs). Anything up to here is counted as zero: no clock of ours resolves it."""

TOP_EDGE: Final = 2.0**17
"""Seconds (36 h). Anything longer is counted in the last bucket: no request lives that long."""

_FRACTIONS: Final = tuple(2.0 ** (i / PER_DOUBLING - 1) for i in range(PER_DOUBLING))
"""The edges within one doubling, as `frexp` sees them: from 0.5 up to, not including, 1."""

_TEXT: Final = re.compile(
    r"(0|[1-9][0-9]{0,20});(0|[1-9][0-9]{0,30});"
    r"((?:-?[0-9]{1,6}(?:x[1-9][0-9]{0,19})?(?:,[0-9]{1,6}(?:x[1-9][0-9]{0,19})?)*)?)"
)


def bucket_of(seconds: float) -> int:
    """The index of the bucket that holds a duration between `ZERO_EDGE` and `TOP_EDGE`."""
    fraction, exponent = frexp(seconds)
    return bisect_left(_FRACTIONS, fraction) + (exponent - 1) * PER_DOUBLING


def edge_of(bucket: int) -> float:
    """The upper, inclusive edge of a bucket in seconds; `bucket_of(edge_of(i)) == i` holds exactly."""
    return ldexp(_FRACTIONS[bucket % PER_DOUBLING], bucket // PER_DOUBLING + 1)


def edge_at_or_above(seconds: float) -> float:
    """The lowest bucket edge that is not below `seconds`."""
    if seconds <= ZERO_EDGE:
        return ZERO_EDGE
    return edge_of(bucket_of(min(seconds, TOP_EDGE)))


_LOWEST: Final = bucket_of(ZERO_EDGE) + 1
_HIGHEST: Final = bucket_of(TOP_EDGE)


class Histogram:
    """Durations in seconds. `add` changes it in place; everything else returns a new value or reads.

    Attributes:
        zero: how many were at most `ZERO_EDGE`.
        sum_ns: their sum in whole nanoseconds, each one rounded.
        buckets: count by bucket index, without empty ones.
    """

    __slots__ = ("buckets", "sum_ns", "zero")

    def __init__(self, buckets: Mapping[int, int] | None = None, zero: int = 0, sum_ns: int = 0) -> None:
        self.buckets: dict[int, int] = dict(buckets) if buckets else {}
        self.zero = zero
        self.sum_ns = sum_ns

    def add(self, seconds: float, n: int = 1) -> None:
        """Count a duration n times. The router calls this for every request, so it takes no detour."""
        if ZERO_EDGE < seconds <= TOP_EDGE:
            fraction, exponent = frexp(seconds)
            bucket = bisect_left(_FRACTIONS, fraction) + (exponent - 1) * PER_DOUBLING
            buckets = self.buckets
            buckets[bucket] = buckets.get(bucket, 0) + n
            self.sum_ns += int(seconds * 1e9 + 0.5) * n
        else:
            self._add_outside(seconds, n)

    def _add_outside(self, seconds: float, n: int) -> None:
        """Count what no bucket holds: clocks step back, and a stalled stream may outlive the scale."""
        if isnan(seconds):
            raise ValueError("a duration must be a number")
        if seconds > TOP_EDGE:
            self.add(TOP_EDGE, n)
        else:
            self.zero += n
            self.sum_ns += max(0, int(seconds * 1e9 + 0.5)) * n

    @property
    def count(self) -> int:
        """How many durations were added."""
        return self.zero + sum(self.buckets.values())

    @property
    def sum(self) -> float:
        """Their sum in seconds; each one was rounded to a nanosecond."""
        return self.sum_ns / 1e9

    def copy(self) -> Self:
        """A histogram of the same counts that later adding does not touch."""
        return type(self)(self.buckets, self.zero, self.sum_ns)

    def merge(self, other: Histogram) -> Histogram:
        """Both together, as a new histogram: associative, commutative and exact."""
        return Histogram.merged((self, other))

    @staticmethod
    def merged(histograms: Iterable[Histogram]) -> Histogram:
        """All of them together, as a new histogram."""
        total = Histogram()
        buckets = total.buckets
        for histogram in histograms:
            total.zero += histogram.zero
            total.sum_ns += histogram.sum_ns
            for bucket, n in histogram.buckets.items():
                buckets[bucket] = buckets.get(bucket, 0) + n
        return total

    def quantile(self, q: float) -> float | None:
        """The duration that a share q does not exceed, in seconds, at most 0.55 % off; None when empty.

        It is the middle, by ratio, of the bucket that holds the ceil(q·count)-th smallest.
        """
        bucket = self.quantile_bucket(q)
        if bucket is None:
            return None
        return 0.0 if bucket < _LOWEST else edge_of(bucket) * 2.0 ** (-0.5 / PER_DOUBLING)

    def quantile_bucket(self, q: float) -> int | None:
        """The bucket that holds the ceil(q·count)-th smallest; one below the lowest for zero."""
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"a quantile is asked for by a share in [0, 1], not {q}")
        count = self.count
        if count == 0:
            return None
        left = max(1, ceil(q * count)) - self.zero
        if left <= 0:
            return _LOWEST - 1
        for bucket, n in sorted(self.buckets.items()):
            left -= n
            if left <= 0:
                return bucket
        raise AssertionError("the buckets hold fewer than they count")  # pragma: no cover

    def count_above(self, seconds: float) -> int:
        """How many were longer than the edge at or above `seconds`; exact when that is an edge."""
        if seconds <= ZERO_EDGE:
            return sum(self.buckets.values())
        return self.count_above_bucket(bucket_of(min(seconds, TOP_EDGE)))

    def count_above_bucket(self, bucket: int) -> int:
        """How many were longer than the upper edge of a bucket."""
        return sum(n for index, n in self.buckets.items() if index > bucket)

    def cumulative(self, bounds: Sequence[float]) -> list[int]:
        """Prometheus' classic counts: for each `le` bound how many were at most that long.

        Exact for bounds on edges; another bound is taken at the edge above it, at most 1.1 % further.
        """
        count = self.count
        return [count - self.count_above(bound) for bound in bounds]

    def to_text(self) -> str:
        """The shortest plain form: `zero;sum_ns;first,step,step…`, `x` before a count above one.

        An empty histogram is the empty text, so that silent strata cost nothing.
        """
        if not self.buckets and not self.zero and not self.sum_ns:
            return ""
        return f"{self.zero};{self.sum_ns};{','.join(_runs(sorted(self.buckets.items())))}"

    @staticmethod
    def from_text(text: str) -> Histogram:
        """Read back what `to_text` wrote.

        Raises:
            CorruptStateError: for anything that `to_text` would not have written.
        """
        if not text:
            return Histogram()
        match = _TEXT.fullmatch(text)
        if match is None:
            raise CorruptStateError(f"histogram {text[:60]!r} is not of the form zero;sum_ns;buckets")
        pairs = [part.partition("x") for part in match[3].split(",") if part]
        indices = accumulate(int(step) for step, _, _ in pairs)
        buckets = dict(zip(indices, (int(n or "1") for _, _, n in pairs), strict=True))
        read = Histogram(buckets, int(match[1]), int(match[2]))
        if read.to_text() != text or any(not _LOWEST <= index <= _HIGHEST for index in buckets):
            raise CorruptStateError(f"histogram {text[:60]!r} has buckets out of order, out of range or empty")
        return read

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return (self.zero, self.sum_ns, self.buckets) == (other.zero, other.sum_ns, other.buckets)

    __hash__ = None  # type: ignore[assignment]  # it can change, so it must not be a key

    def __repr__(self) -> str:
        return f"Histogram.from_text({self.to_text()!r})"


def _runs(items: Iterable[tuple[int, int]]) -> Iterator[str]:
    """Each bucket as its distance from the one before, with its count when that is not one."""
    before = 0
    for bucket, n in items:
        yield f"{bucket - before}" if n == 1 else f"{bucket - before}x{n}"
        before = bucket
