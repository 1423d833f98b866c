"""Durations in logarithmic buckets."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.core.histogram import (
    TOP_EDGE,
    ZERO_EDGE,
    Histogram,
    bucket_of,
    edge_at_or_above,
    edge_of,
)
from arbiter.errors import CorruptStateError

durations = st.floats(ZERO_EDGE * 1.01, TOP_EDGE)
histograms = st.builds(
    Histogram,
    st.dictionaries(st.integers(-1279, 1088), st.integers(1, 10**9), max_size=30),
    st.integers(0, 10**9),
    st.integers(0, 10**18),
)


def filled(*durations: float) -> Histogram:
    """A histogram of these."""
    histogram = Histogram()
    for each in durations:
        histogram.add(each)
    return histogram


@pytest.mark.parametrize(
    ("seconds", "want_bucket"),
    [
        pytest.param(1.0, 0, id="one second ends bucket 0"),
        pytest.param(math.nextafter(1.0, 2.0), 1, id="just above one second starts bucket 1"),
        pytest.param(2.0, 64, id="a doubling is 64 buckets"),
        pytest.param(0.5, -64, id="a halving is 64 buckets down"),
        pytest.param(8.0, 192, id="powers of two are edges"),
        pytest.param(2.0 ** (1 / 64), 1, id="the base is the first edge above one"),
    ],
)
def test_buckets_are_those_of_schema_six(seconds: float, want_bucket: int) -> None:
    """Bucket i ends at 2^(i/64), that edge included, as in Prometheus and OpenTelemetry."""
    assert bucket_of(seconds) == want_bucket


def test_every_edge_lies_in_its_own_bucket() -> None:
    """Edges and buckets agree exactly over the whole scale, so counts at edges are exact."""
    assert all(bucket_of(edge_of(i)) == i for i in range(-1280, 1089))
    assert edge_of(64) == 2.0
    assert edge_of(-64) == 0.5
    assert edge_of(32) == pytest.approx(math.sqrt(2.0), rel=1e-15)


@given(durations)
def test_a_quantile_is_off_by_at_most_055_percent(seconds: float) -> None:
    """A value read back from its bucket is close to the one that was added."""
    read = filled(seconds).quantile(0.5)
    assert read is not None
    assert abs(read / seconds - 1.0) < 0.0055


@given(st.lists(durations, min_size=1, max_size=60), st.sampled_from([0.0, 0.25, 0.5, 0.95, 1.0]))
def test_quantiles_are_those_of_the_sorted_values(values: list[float], q: float) -> None:
    """The quantile is the ceil(q·n)-th smallest value, to the width of a bucket."""
    want = sorted(values)[max(1, math.ceil(q * len(values))) - 1]
    got = filled(*values).quantile(q)
    assert got is not None
    assert got == pytest.approx(want, rel=0.0055)


def test_quantiles_of_nothing_and_of_zeros() -> None:
    """An empty histogram has no quantile; one of zeros has zero, and zeros come first."""
    assert Histogram().quantile(0.5) is None
    assert Histogram().quantile_bucket(0.5) is None
    mixed = filled(0.0, 0.0, 1.0)
    assert mixed.quantile(0.5) == 0.0
    assert mixed.quantile_bucket(2 / 3) == bucket_of(ZERO_EDGE)
    assert mixed.quantile(0.9) == pytest.approx(1.0, rel=0.006)


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_quantile_is_a_share(q: float) -> None:
    """Asking for the 95th percentile as 95 is a mistake, not a percentile."""
    with pytest.raises(ValueError, match="share in"):
        filled(1.0).quantile(q)


@pytest.mark.parametrize(
    ("seconds", "want_zero", "want_buckets", "want_sum_ns"),
    [
        pytest.param(1.0, 0, {0: 1}, 10**9, id="within the scale"),
        pytest.param(ZERO_EDGE, 1, {}, 954, id="the underflow edge is zero"),
        pytest.param(-3.0, 1, {}, 0, id="a clock that stepped back is zero"),
        pytest.param(0.0, 1, {}, 0, id="zero is zero"),
        pytest.param(1e9, 0, {1088: 1}, 131072 * 10**9, id="too long is the last bucket"),
        pytest.param(math.inf, 0, {1088: 1}, 131072 * 10**9, id="endless is the last bucket"),
        pytest.param(TOP_EDGE, 0, {1088: 1}, 131072 * 10**9, id="the top edge is in the last bucket"),
        pytest.param(1.0000000017, 0, {1: 1}, 1_000_000_002, id="sums are rounded to nanoseconds"),
    ],
)
def test_adding(seconds: float, want_zero: int, want_buckets: dict[int, int], want_sum_ns: int) -> None:
    """Every duration lands in one bucket and in the sum, whatever it is."""
    added = filled(seconds)
    assert (added.zero, added.buckets, added.sum_ns) == (want_zero, want_buckets, want_sum_ns)
    assert added.count == 1
    assert added.sum == want_sum_ns / 1e9


def test_adding_several_at_once() -> None:
    """Several durations at once are the same as one n times, outside the scale too."""
    for seconds in (0.25, -1.0, 0.0000005, 1e9):
        at_once = Histogram()
        at_once.add(seconds, 3)
        assert at_once == filled(seconds, seconds, seconds)


def test_what_is_no_number_is_refused() -> None:
    """A NaN would vanish in a bucket and be missed nowhere."""
    with pytest.raises(ValueError, match="must be a number"):
        Histogram().add(math.nan)


def test_counts_above_an_edge_are_exact() -> None:
    """At a bucket edge counting above and counting at most are exact, the edge itself being at most."""
    histogram = filled(0.0, 0.4, 0.5, 0.5000001, 1.0, 3.0, 200_000.0)
    assert histogram.count_above(0.5) == 4
    assert histogram.count_above(1.0) == 2
    assert histogram.count_above(0.0) == 6
    assert histogram.count_above(TOP_EDGE) == 0
    assert histogram.count_above(math.inf) == 0
    assert histogram.count_above_bucket(-64) == 4
    assert histogram.cumulative([0.0, 0.5, 1.0, 2.0, 4.0]) == [1, 3, 5, 5, 6]


@given(st.lists(durations, max_size=40), st.integers(-1270, 1080))
def test_cumulative_counts_equal_plain_counting_at_edges(values: list[float], bucket: int) -> None:
    """At any edge the count is what comparing the values one by one gives."""
    edge = edge_of(bucket)
    assert filled(*values).cumulative([edge]) == [sum(value <= edge for value in values)]


@pytest.mark.parametrize(
    ("seconds", "want"),
    [
        pytest.param(0.5, 0.5, id="an edge is its own"),
        pytest.param(0.50001, 0.5 * 2 ** (1 / 64), id="above an edge it is the next"),
        pytest.param(0.0, ZERO_EDGE, id="zero has the underflow edge"),
        pytest.param(1e9, TOP_EDGE, id="beyond the scale it is the top"),
    ],
)
def test_edge_at_or_above(seconds: float, want: float) -> None:
    """The lowest edge that is not below; thresholds are put there."""
    assert edge_at_or_above(seconds) == pytest.approx(want, rel=1e-15)


@given(histograms, histograms, histograms)
def test_merging_is_associative_and_commutative(a: Histogram, b: Histogram, c: Histogram) -> None:
    """Routers may be merged in any order; the bits are the same."""
    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c)) == Histogram.merged([c, a, b])
    assert a.merge(Histogram()) == a
    assert a.merge(b).count == a.count + b.count


def test_merging_and_copying_leave_the_sources_alone() -> None:
    """A merged or copied histogram is a new one."""
    first, second = filled(1.0), filled(1.0, 2.0)
    merged, copied = first.merge(second), first.copy()
    merged.add(1.0)
    copied.add(4.0)
    assert first == filled(1.0)
    assert second == filled(1.0, 2.0)
    assert copied == filled(1.0, 4.0)


@given(histograms)
def test_the_text_reads_back_exactly(histogram: Histogram) -> None:
    """What was written is what is read."""
    assert Histogram.from_text(histogram.to_text()) == histogram


@pytest.mark.parametrize(
    ("histogram", "want_text"),
    [
        pytest.param(Histogram(), "", id="empty is the empty text"),
        pytest.param(filled(0.0), "1;0;", id="only zeros"),
        pytest.param(filled(0.5, 1.0, 1.0, 1.01), "0;3510000000;-64,64x2,1", id="steps between buckets"),
    ],
)
def test_the_text_is_short(histogram: Histogram, want_text: str) -> None:
    """Each bucket is its distance from the last, and its count when it is not one."""
    assert histogram.to_text() == want_text
    assert repr(histogram) == f"Histogram.from_text({want_text!r})"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0;0;", id="empty, but not the empty text"),
        pytest.param("1;2", id="a part is missing"),
        pytest.param("1;2;3;4", id="a part too many"),
        pytest.param("-1;0;", id="a negative count"),
        pytest.param("01;0;", id="a leading zero"),
        pytest.param("0;1;5,0", id="the same bucket twice"),
        pytest.param("0;1;5,-1", id="buckets out of order"),
        pytest.param("0;1;5x1", id="a count of one written out"),
        pytest.param("0;1;5x0", id="an empty bucket"),
        pytest.param("0;1;5,", id="a dangling comma"),
        pytest.param("0;1;1089", id="above the scale"),
        pytest.param("0;1;-1280", id="below the scale"),
        pytest.param("0;1;99999999", id="far above the scale"),
        pytest.param(" 0;1;5", id="a space"),
        pytest.param("٣;1;5", id="digits of another script"),
        pytest.param("0;1;5\n", id="a line end"),
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    """Only what the writer writes is read."""
    with pytest.raises(CorruptStateError, match="histogram"):
        Histogram.from_text(text)


def test_histograms_are_compared_by_value_and_are_no_keys() -> None:
    """Equal counts are equal; something that changes cannot be a key."""
    assert filled(1.0) == filled(1.0)
    assert filled(1.0) != filled(1.0, 1.0)
    assert filled(1.0) != "0;1000000000;0"
    with pytest.raises(TypeError, match="unhashable"):
        hash(Histogram())
