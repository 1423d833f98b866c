"""Counts that fade by period."""

from __future__ import annotations

import pytest

from arbiter.core.fading import HALF_LIFE_MS, KEPT, added, is_kept, kept, period_of, weight_of
from arbiter.core.task_counts import Outcomes


@pytest.mark.parametrize(
    ("at_ms", "want"),
    [
        pytest.param(0, 0, id="the epoch begins period 0"),
        pytest.param(HALF_LIFE_MS - 1, 0, id="the last millisecond of it"),
        pytest.param(HALF_LIFE_MS, 1, id="a half-life later the next begins"),
    ],
)
def test_periods_are_half_lives_since_the_epoch(at_ms: int, want: int) -> None:
    """Every operator and every cluster cuts time at the same moments, so periods add up."""
    assert period_of(at_ms, HALF_LIFE_MS) == want


@pytest.mark.parametrize(("age", "want"), [(0, 1.0), (1, 0.5), (2, 0.25), (8, 1 / 256)])
def test_a_count_is_worth_half_for_each_period(age: int, want: float) -> None:
    """Powers of two are exact, so weighing adds no error."""
    assert weight_of(2950 - age, 2950) == want


def test_what_is_more_than_eight_periods_old_is_dropped() -> None:
    """The eighth period before the newest is the last that is kept."""
    assert is_kept(2950 - KEPT, 2950)
    assert not is_kept(2950 - KEPT - 1, 2950)
    counts = {2941: Outcomes(1, 1), 2942: Outcomes(2, 1), 2950: Outcomes(4, 3)}
    assert kept(counts, 2950) == {2942: Outcomes(2, 1), 2950: Outcomes(4, 3)}


def test_counts_of_the_same_period_are_added() -> None:
    """What is too old is dropped on either side."""
    first = {2941: Outcomes(1, 1), 2950: Outcomes(4, 3)}
    second = {2940: Outcomes(9, 9), 2949: Outcomes(5, 5), 2950: Outcomes(1, 0)}
    assert added(first, second, 2950) == {2949: Outcomes(5, 5), 2950: Outcomes(5, 3)}
    assert first == {2941: Outcomes(1, 1), 2950: Outcomes(4, 3)}
