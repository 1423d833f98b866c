"""What a block says about each metric."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.core.analysis_settings import AnalysisSettings, MetricName
from arbiter.core.eprocess import Trials
from arbiter.core.histogram import Histogram, bucket_of, edge_of
from arbiter.core.samples import (
    SKETCH_LIMIT,
    latency_sample,
    no_pasts,
    remembered,
    success_sample,
    timings_of,
)
from arbiter.core.traffic import Stratum, Tally, no_timings
from tests.unit.core.traffic_examples import block, tally, timings

SETTINGS = AnalysisSettings()
ONE_SECOND = Histogram({0: 100})


def test_success_is_answered_of_answered_or_failed() -> None:
    """Rejections and clients that left change nothing."""
    new = Tally(routed=30, ok=8, failed={}, rejected=12, left=10)
    sample = success_sample(block(0, tally(9, 1), tally(20)), 0.95)
    assert sample.trials == (Trials(9, 10, 20, 20),)
    assert sample.gain == pytest.approx(0.9 - 0.95)
    assert sample.difference == pytest.approx(-0.1)
    assert success_sample(block(0, new, tally(20)), 0.95).trials == (Trials(8, 8, 20, 20),)


@pytest.mark.parametrize(("new", "old"), [(tally(0), tally(9)), (tally(9), tally(0))])
def test_success_of_one_side_is_no_comparison(new: Tally, old: Tally) -> None:
    """Without one of the sides nothing is said."""
    sample = success_sample(block(0, new, old), 0.95)
    assert (sample.gain, sample.difference) == (None, None)


def test_latency_metrics_have_their_own_histograms() -> None:
    """First token and further tokens are not mixed up."""
    first, further = no_timings(), timings({Stratum.ONE: {1.0: 1}})
    both = Tally(first_token=first, per_token=further)
    assert timings_of(MetricName.FIRST_TOKEN, both) is first
    assert timings_of(MetricName.PER_TOKEN, both) is further


def test_thresholds_are_the_old_sides_past_and_the_tolerance_above_it() -> None:
    """Old beyond 1 s, new beyond 17 buckets more towards rollback, 16 at the gate, and 0 as equals."""
    # 2^(17/64) is 1.202, the first edge at least 20 % up; 2^(16/64) is 1.189, the last within.
    assert edge_of(17) > 1.2 > edge_of(16)
    durations = {1.0: 10, edge_of(1): 1, edge_of(16): 2, edge_of(17): 4, edge_of(18): 8}
    both = timings({Stratum.ONE: durations})
    pasts = (Histogram(), ONE_SECOND, Histogram(), Histogram(), Histogram())
    sample = latency_sample(MetricName.FIRST_TOKEN, both, both, pasts, SETTINGS)
    assert sample.trials[Stratum.ONE] == Trials(25 - 8, 25, 10, 25)
    assert sample.gain == pytest.approx((15 - 12) / 25)
    assert sample.difference == 0.0
    assert [each for i, each in enumerate(sample.trials) if i != Stratum.ONE] == [Trials(0, 0, 0, 0)] * 4


def test_strata_are_weighed_by_how_well_they_compare() -> None:
    """The value of a block is the mean over strata by n_new·n_old/(n_new+n_old)."""
    old = timings({Stratum.ALONE: {0.5: 6, 3.0: 2}, Stratum.MANY: {0.5: 10}})
    new = timings({Stratum.ALONE: {0.5: 8}, Stratum.MANY: {3.0: 10}, Stratum.ONE: {3.0: 5}})
    pasts = (ONE_SECOND,) * 5
    sample = latency_sample(MetricName.FIRST_TOKEN, old, new, pasts, SETTINGS)
    assert sample.gain == sample.difference == pytest.approx((4 * 0.25 + 5 * -1.0) / 9)


@pytest.mark.parametrize(
    ("past", "want"),
    [
        pytest.param(Histogram({0: 19}), False, id="nineteen durations are too few"),
        pytest.param(Histogram({0: 20}), True, id="twenty will do"),
        pytest.param(Histogram({}, zero=19), False, id="zeros count"),
    ],
)
def test_a_stratum_without_a_past_waits(past: Histogram, *, want: bool) -> None:
    """A percentile of a handful of durations is a guess."""
    both = timings({Stratum.ALONE: {0.5: 9}})
    sample = latency_sample(MetricName.FIRST_TOKEN, both, both, (past, *no_pasts()[1:]), SETTINGS)
    assert (sample.gain is not None) is want


@given(st.lists(st.floats(0.001, 100.0), max_size=300))
def test_a_sketch_keeps_counts_on_coarser_edges(values: list[float]) -> None:
    """Nothing is lost, and every edge of a sketch is an edge of the histograms it is compared with."""
    times = Histogram()
    for value in values:
        times.add(value)
    sketch = remembered(Histogram(), times)
    assert sketch.count == len(values)
    assert all(bucket % 4 == 0 for bucket in sketch.buckets)
    for bucket in sketch.buckets:
        assert sketch.count_above_bucket(bucket) == times.count_above_bucket(bucket)


def test_a_sketch_is_halved_when_it_is_full_and_keeps_its_tail() -> None:
    """Old load is forgotten, but 5 % that are slow stay 5 %, even when each is in a bucket of its own."""
    bulk = Histogram({0: SKETCH_LIMIT - 40})
    tail = Histogram({bucket_of(2.0) + 4 * i: 1 for i in range(60)})
    sketch = remembered(remembered(Histogram(), bulk), tail)
    assert sketch.count == (SKETCH_LIMIT + 20) // 2
    assert sketch.count_above(1.0) == 30
    assert sketch.sum_ns == 0
    assert remembered(Histogram({}, zero=900), Histogram({}, zero=300)) == Histogram({}, zero=600)
    assert remembered(Histogram({0: 10}, zero=1024), Histogram({8: 1})) == Histogram({0: 5}, zero=512)


def test_a_sketch_of_nothing_new_stays_the_same() -> None:
    """A stratum that nobody was in is not touched."""
    past = Histogram({0: 7})
    assert remembered(past, Histogram()) is past
