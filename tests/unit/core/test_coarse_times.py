"""Durations in coarse buckets."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.core.coarse_times import ZERO, Buckets, coarse, from_text, mean, merged, quantile, to_histogram, to_text
from arbiter.core.histogram import TOP_EDGE, ZERO_EDGE, Histogram
from arbiter.errors import CorruptStateError

durations = st.floats(0.0, TOP_EDGE)
buckets = st.dictionaries(st.integers(ZERO, 68), st.integers(1, 10**9), max_size=30)


def filled(*seconds: float) -> Histogram:
    """A histogram of these."""
    histogram = Histogram()
    for each in seconds:
        histogram.add(each)
    return histogram


@pytest.mark.parametrize(
    ("seconds", "want"),
    [
        pytest.param(1.0, 0, id="one second ends bucket 0"),
        pytest.param(1.01, 1, id="just above it begins bucket 1"),
        pytest.param(2.0, 4, id="a doubling is four buckets"),
        pytest.param(0.5, -4, id="a halving is four buckets down"),
        pytest.param(0.0, ZERO, id="no time at all"),
        pytest.param(ZERO_EDGE, ZERO, id="less than any clock resolves"),
        pytest.param(ZERO_EDGE * 1.02, ZERO + 1, id="the first bucket above zero"),
        pytest.param(1e9, 68, id="longer than the scale"),
    ],
)
def test_buckets_are_those_of_schema_two(seconds: float, want: int) -> None:
    """Bucket i ends at 2^(i/4), that edge included; sixteen fine buckets lie in each."""
    assert coarse([filled(seconds)]) == {want: 1}


@given(st.lists(durations, max_size=20), st.lists(durations, max_size=20), st.lists(durations, max_size=20))
def test_strata_and_slices_add_up(a: list[float], b: list[float], c: list[float]) -> None:
    """Coarsening and merging may be done in any order, and nothing is lost."""
    together = coarse([filled(*a, *b, *c)])
    one, two, three = (coarse([filled(*each)]) for each in (a, b, c))
    assert coarse([filled(*a), filled(*b), filled(*c)]) == together
    assert merged(merged(one, two), three) == together == merged(three, merged(two, one))
    assert sum(together.values()) == len(a) + len(b) + len(c)


def test_merging_leaves_the_sources_alone() -> None:
    """Profiles share buckets, so nobody adds to them."""
    one, two = {3: 1}, {3: 2, 4: 1}
    assert merged(one, two) == {3: 3, 4: 1}
    assert (one, two) == ({3: 1}, {3: 2, 4: 1})


@given(st.floats(ZERO_EDGE * 1.02, TOP_EDGE), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_a_quantile_is_off_by_at_most_one_bucket(seconds: float, q: float) -> None:
    """Four buckets for each doubling: a bucket's edges are 19 % apart."""
    read = quantile(dict[int, float](coarse([filled(seconds)])), q)
    assert read is not None
    assert 2**-0.2501 <= read / seconds <= 2**0.2501


def test_a_quantile_lies_within_its_bucket_by_ratio() -> None:
    """As in Prometheus: of four in the bucket up to one second, two lie below its middle."""
    assert quantile({0: 4.0}, 0.5) == pytest.approx(2 ** (-0.5 / 4))
    assert quantile({0: 4.0}, 1.0) == 1.0
    assert quantile({0: 1.0, 4: 1.0}, 0.5) == 1.0
    assert quantile({0: 1.0, 4: 1.0}, 0.75) == pytest.approx(2 ** (3.5 / 4))


def test_quantiles_of_a_spread_are_a_few_percent_off() -> None:
    """Durations of answers spread over many buckets, and the error within one averages out."""
    many = [0.2 * math.exp(0.5 * math.sin(i)) for i in range(1000)]
    weights = dict[int, float](coarse([filled(*many)]))
    for q in (0.5, 0.95):
        assert quantile(weights, q) == pytest.approx(sorted(many)[int(q * 1000)], rel=0.04)
    assert mean(weights) == pytest.approx(sum(many) / 1000, rel=0.02)


def test_nothing_has_no_quantile_and_zeros_have_zero() -> None:
    """Unknown is not zero."""
    assert quantile({}, 0.5) is None
    assert quantile({3: 0.0}, 0.5) is None
    assert mean({}) is None
    assert mean({3: 0.0}) is None
    assert quantile({ZERO: 3.0, 4: 1.0}, 0.5) == 0.0
    assert mean({ZERO: 3.0}) == 0.0


@pytest.mark.parametrize("q", [-0.1, 95.0, math.nan])
def test_a_quantile_is_a_share(q: float) -> None:
    """Asking for the 95th percentile as 95 is a mistake, not a percentile."""
    with pytest.raises(ValueError, match="share in"):
        quantile({0: 1.0}, q)


@given(buckets)
def test_what_people_see_reads_back_into_the_same_buckets(some: Buckets) -> None:
    """A profile that was exported is a prior with the same times."""
    shown = to_histogram(dict[int, float](some))
    assert coarse([Histogram.from_text(shown.to_text())]) == some


def test_people_see_whole_counts() -> None:
    """Faded counts are rounded, half of one up, and what is less than half of one is not seen."""
    shown = to_histogram({0: 0.5, 4: 0.49, 8: 2.2})
    assert coarse([shown]) == {0: 1, 8: 2}


@given(buckets)
def test_the_text_reads_back_exactly(some: Buckets) -> None:
    """What was written is what is read."""
    assert from_text(to_text(some), "times") == some


@pytest.mark.parametrize(
    ("some", "want"),
    [
        pytest.param({}, "", id="nothing"),
        pytest.param({-3: 5, -2: 12, 0: 1}, "-3:5,12,,1", id="an empty bucket is nothing between commas"),
        pytest.param({0: 7}, "0:7", id="one bucket"),
    ],
)
def test_the_text_is_short(some: Buckets, want: str) -> None:
    """Neighbouring buckets cost their digits and a comma."""
    assert to_text(some) == want


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(":1", id="no first bucket"),
        pytest.param("3:", id="no counts"),
        pytest.param("3", id="no colon"),
        pytest.param("3:,1", id="an empty first bucket"),
        pytest.param("3:1,", id="an empty last bucket"),
        pytest.param("3:0", id="a count of none"),
        pytest.param("3:01", id="a leading zero"),
        pytest.param("3:-1", id="a negative count"),
        pytest.param("03:1", id="a leading zero of the bucket"),
        pytest.param("-0:1", id="a zero below zero"),
        pytest.param("-81:1", id="below the scale"),
        pytest.param("68:1,1", id="above the scale"),
        pytest.param("999:1", id="far above the scale"),
        pytest.param("3:1 ", id="a space"),
        pytest.param("3:٣", id="digits of another script"),
        pytest.param("3:" + "9" * 20, id="more than there ever were"),
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    """Only what the writer writes is read, and the message names where it stands."""
    with pytest.raises(CorruptStateError, match=r"profile\.times"):
        from_text(text, "profile.times")
