"""E-values of one block and the martingales made of them, against exact enumeration and other implementations."""

from __future__ import annotations

import math
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, entropy
from ville.evalues import combine, e_to_p
from ville.means import EmpiricalBernsteinCS, _PlugIn, _plugin_lambda
from ville.sequential import BettingTest

from arbiter.core.eprocess import (
    GUARD_STEPS,
    RATIO_STEPS,
    Bettor,
    MeanInterval,
    Trials,
    Wealth,
    anytime_p,
    better_log_e,
    guard_log_e,
    log_mean_exp,
    null_rate,
    ratio_log_e,
    requests_until,
    worse_log_e,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = ((1, 1), (1, 4), (4, 1), (3, 5), (6, 2))
RATES = (0.02, 0.3, 0.7, 0.95, 0.999)

rates = st.floats(0.001, 0.999)
sizes = st.integers(1, 50)


def expectation(log_e: Callable[[Trials], float], size: tuple[int, int], new_rate: float, old_rate: float) -> float:
    """E of the e-value when the sides' true rates are these: the sum over every outcome there is."""
    new, old = size
    chances_new = binom.pmf(range(new + 1), new, new_rate)
    chances_old = binom.pmf(range(old + 1), old, old_rate)
    return sum(
        float(chances_new[i] * chances_old[j]) * math.exp(log_e(Trials(i, new, j, old)))
        for i, j in product(range(new + 1), range(old + 1))
    )


@pytest.mark.parametrize("ratio", [0.95, 1.0, 0.5])
def test_rollback_e_values_average_at_most_one_on_the_null(ratio: float) -> None:
    """Whatever acceptable rates the sides have, and whatever was guessed: no expectation above 1."""
    worst = 0.0
    for size, guess_old, step, true_old in product(SIZES, RATES, RATIO_STEPS, RATES):
        for share in (0.0, 0.3, 1.0):
            # From the margin itself up to a new side that never fails.
            true_new = ratio * true_old + share * (1.0 - ratio * true_old)
            guess_new = ratio * guess_old * step
            value = expectation(
                partial(worse_log_e, new_rate=guess_new, old_rate=guess_old, ratio=ratio), size, true_new, true_old
            )
            worst = max(worst, value)
    assert 0.999 < worst <= 1.0 + 1e-9


@pytest.mark.parametrize("ratio", [0.95, 1.0, 0.5])
def test_promotion_e_values_average_at_most_one_on_the_null(ratio: float) -> None:
    """The same towards promotion: every new side at or below the margin."""
    worst = 0.0
    for size, guess_old, guess_new, true_old in product(SIZES, RATES, RATES, RATES):
        for share in (1.0, 0.7, 0.0):
            true_new = share * ratio * true_old
            value = expectation(
                partial(better_log_e, new_rate=guess_new, old_rate=guess_old, ratio=ratio), size, true_new, true_old
            )
            worst = max(worst, value)
    assert 0.999 < worst <= 1.0 + 1e-9


@pytest.mark.parametrize("allowed", [1.0, 2.0])
def test_guard_e_values_average_at_most_one_on_the_null(allowed: float) -> None:
    """Any error rates within the guard, large ones too, where errors are not rare."""
    worst = 0.0
    for size, step, true_old in product(SIZES, GUARD_STEPS, (0.0, 0.001, 0.05, 0.2, 0.5)):
        for share in (0.0, 0.5, 1.0):
            true_new = allowed * true_old * share
            value = expectation(
                partial(guard_log_e, allowed=allowed, alternative=allowed * step), size, 1.0 - true_new, 1.0 - true_old
            )
            worst = max(worst, value)
    assert 0.999 < worst <= 1.0 + 1e-9


def test_betting_averages_at_most_one_on_the_null() -> None:
    """A bet on one value, after any past, averages at most 1 when the mean is at most 0."""
    worst = 0.0
    for lowest, share in product((-1.0, -0.95, -0.3), (0.5, 0.9)):
        for past in ((), (0.3,), (-0.2, 0.25), (0.3,) * 20, (0.02,) * 50, (lowest,) * 5, (1.0,)):
            bettor = Bettor()
            for value in past:
                bettor = bettor.seen(value, lowest, share)
            for high, chance in product((0.05, 0.5, 1.0), (0.0, 0.3, 0.6, 1.0)):
                # Two values whose mean is `chance` of the way below 0.
                odds = -lowest / (high - lowest) * (1.0 - chance)
                gains = [bettor.seen(v, lowest, share).wealth.log_e - bettor.wealth.log_e for v in (high, lowest)]
                worst = max(worst, odds * math.exp(gains[0]) + (1.0 - odds) * math.exp(gains[1]))
    assert 0.999 < worst <= 1.0 + 1e-9


@given(sizes, sizes, rates, rates, st.sampled_from([0.95, 1.0, 0.5]))
def test_the_null_point_is_the_nearest_one(new: int, old: int, new_rate: float, old_rate: float, ratio: float) -> None:
    """The closed form is what a numerical search for the nearest point of the null finds."""

    def distance(base: float) -> float:
        to_new = entropy([new_rate, 1 - new_rate], [ratio * base, 1 - ratio * base])
        return float(new * to_new + old * entropy([old_rate, 1 - old_rate], [base, 1 - base]))

    found = null_rate(Trials(0, new, 0, old), new_rate, old_rate, ratio)
    searched = minimize_scalar(distance, bounds=(1e-9, 1 - 1e-9), method="bounded", options={"xatol": 1e-12})
    assert 0.0 < found < 1.0
    assert distance(found) <= searched.fun + 1e-7 * (1 + searched.fun)


@given(sizes, sizes, rates, rates, st.data())
def test_the_ratio_e_value_is_a_likelihood_ratio(
    new: int, old: int, new_rate: float, old_rate: float, data: st.DataObject
) -> None:
    """The binomial likelihood of the alternative over that of the null's nearest point."""
    trials = Trials(data.draw(st.integers(0, new)), new, data.draw(st.integers(0, old)), old)
    base = null_rate(trials, new_rate, old_rate, 0.95)
    want = (
        binom.logpmf(trials.new_ok, new, new_rate)
        + binom.logpmf(trials.old_ok, old, old_rate)
        - binom.logpmf(trials.new_ok, new, 0.95 * base)
        - binom.logpmf(trials.old_ok, old, base)
    )
    assert ratio_log_e(trials, new_rate, old_rate, 0.95) == pytest.approx(want, abs=1e-7)


@given(sizes, sizes, st.sampled_from(GUARD_STEPS), st.data())
def test_the_guard_e_value_is_a_likelihood_ratio(new: int, old: int, step: float, data: st.DataObject) -> None:
    """Of the errors there were, so many fell to the new side: binomial given their number."""
    new_bad, old_bad = data.draw(st.integers(0, new)), data.draw(st.integers(0, old))
    null, guess = 2 * new / (2 * new + old), 2 * step * new / (2 * step * new + old)
    errors = new_bad + old_bad
    want = binom.logpmf(new_bad, errors, guess) - binom.logpmf(new_bad, errors, null)
    got = guard_log_e(Trials(new - new_bad, new, old - old_bad, old), 2.0, 2.0 * step)
    assert got == pytest.approx(want, abs=1e-7)


@pytest.mark.parametrize("log_e", [ratio_log_e, worse_log_e, better_log_e])
def test_an_empty_side_proves_nothing(log_e: Callable[[Trials, float, float, float], float]) -> None:
    """A block without requests on one side has the e-value 1."""
    assert log_e(Trials(0, 0, 5, 5), 0.5, 0.9, 0.95) == 0.0
    assert log_e(Trials(5, 5, 0, 0), 0.5, 0.9, 0.95) == 0.0
    assert guard_log_e(Trials(0, 0, 1, 5), 2.0, 4.0) == 0.0
    assert guard_log_e(Trials(1, 5, 0, 0), 2.0, 4.0) == 0.0


def test_an_alternative_inside_the_null_proves_nothing() -> None:
    """Towards rollback only worse alternatives count, towards promotion only better ones."""
    trials = Trials(1, 9, 9, 9)
    assert worse_log_e(trials, 0.95 * 0.9, 0.9, 0.95) == 0.0
    assert better_log_e(trials, 0.95 * 0.9, 0.9, 0.95) == 0.0
    assert worse_log_e(trials, 0.5, 0.9, 0.95) == ratio_log_e(trials, 0.5, 0.9, 0.95) > 0.0
    assert better_log_e(trials, 0.95, 0.9, 0.95) == ratio_log_e(trials, 0.95, 0.9, 0.95) < 0.0


def test_a_block_of_known_weight() -> None:
    """One figure worked out by hand: ratio 1, even sides, so the null point is the mean of the rates."""
    assert null_rate(Trials(0, 10, 0, 10), 0.5, 0.9, 1.0) == pytest.approx(0.7, rel=1e-12)
    want = math.log((0.5 / 0.7) ** 4 * (0.5 / 0.3) ** 6 * (0.9 / 0.7) ** 9 * (0.1 / 0.3))
    assert ratio_log_e(Trials(4, 10, 9, 10), 0.5, 0.9, 1.0) == pytest.approx(want, rel=1e-12)
    # Three errors, all on the new side; at κ = 2 and equal sides two thirds of them would be its share.
    assert guard_log_e(Trials(7, 10, 10, 10), 2.0, 8.0) == pytest.approx(3 * math.log((8 / 9) / (2 / 3)), rel=1e-12)


@given(st.lists(st.floats(-700, 700), min_size=1, max_size=8))
def test_averages_agree_with_ville(logs: list[float]) -> None:
    """An average of e-values, without overflow; and the p-value that an e-value implies."""
    shift = max(logs)
    want = math.log(float(combine(np.exp(np.array(logs) - shift)))) + shift
    assert log_mean_exp(logs) == pytest.approx(want, abs=1e-9)
    if shift < 600:
        assert anytime_p(shift) == pytest.approx(float(e_to_p(math.exp(shift))), rel=1e-12)


@given(st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=80), st.sampled_from([0.05, 0.01]))
def test_the_interval_agrees_with_ville(values: list[float], alpha: float) -> None:
    """The same confidence sequence as the package's, at every time."""
    want = EmpiricalBernsteinCS(bounds=(-1.0, 1.0), alpha=alpha, intersect=False).fit(values)
    interval = MeanInterval()
    for i, value in enumerate(values):
        interval = interval.seen(value, alpha)
        assert interval.bounds(alpha) == pytest.approx((want.lower_[i], want.upper_[i]), abs=1e-9)
    assert interval.n == len(values)


def test_an_interval_of_nothing_is_everything() -> None:
    """Before the first value nothing is excluded."""
    assert MeanInterval().bounds() == (-1.0, 1.0)


def staking(stake: float) -> Bettor:
    """A bettor whose next stake is this: its Σx/(0.05 + Σx²) has the denominator 1."""
    return Bettor(1, stake, 0.95)


@given(st.lists(st.floats(-0.95, 1.0), min_size=1, max_size=60))
def test_betting_agrees_with_ville(values: list[float]) -> None:
    """Given the same stakes, the same wealth and the same p-values."""
    want = BettingTest(0.0, bounds=(-0.95, 1.0), alternative="greater").fit(values)
    z = (np.array(values) + 0.95) / 1.95
    i, _, variance = _PlugIn().step(z)
    stakes = np.minimum(_plugin_lambda(i, variance, 0.05), 0.5 / (0.95 / 1.95)) / 1.95
    wealth, total = Wealth(), 0.0
    for stake, value, log_e, p in zip(stakes, values, want.log_e_values_, want.p_values_, strict=True):
        bettor = staking(stake)
        total += bettor.seen(value, -0.95, 0.5).wealth.log_e
        wealth = wealth.at(total)
        assert wealth.log_e == pytest.approx(log_e, abs=1e-9)
        assert anytime_p(wealth.highest) == pytest.approx(p, abs=1e-9)


@pytest.mark.parametrize(
    ("total", "squares", "want"),
    [
        pytest.param(0.0, 0.0, 0.0, id="nothing known, nothing staked"),
        pytest.param(-3.0, 5.0, 0.0, id="a negative past stakes nothing"),
        pytest.param(0.1, 0.95, 0.1, id="sum over prior and squares"),
        pytest.param(100.0, 0.1, 0.5 / 0.95, id="at most the share of the ruinous stake"),
    ],
)
def test_stakes(total: float, squares: float, want: float) -> None:
    """The stake grows with the mean, shrinks with the spread, and never risks ruin."""
    assert Bettor(9, total, squares).bet(-0.95, 0.5) == pytest.approx(want, rel=1e-12)


def test_a_bettor_remembers_sums_and_the_highest_wealth() -> None:
    """Each value is bet on with the stake of its past, and then becomes past."""
    first = Bettor().seen(0.5, -1.0, 0.5)
    assert first == Bettor(1, 0.5, 0.25, Wealth(0.0, 0.0))
    second = first.seen(0.2, -1.0, 0.5)
    assert second.wealth.log_e == pytest.approx(math.log(1.1), rel=1e-12)
    third = second.seen(-1.0, -1.0, 0.5)
    assert third.wealth.log_e == pytest.approx(math.log(1.1) + math.log(0.5), rel=1e-12)
    assert third.wealth.highest == second.wealth.log_e
    assert third.n == 3
    assert [third.total, third.squares] == pytest.approx([-0.3, 1.29])


def test_growth_is_what_the_past_would_have_earned() -> None:
    """The expected log gain of the next value: λm - λ²s/2."""
    assert Bettor().growth(-1.0, 0.5) == 0.0
    bettor = Bettor(10, 0.5, 0.2)
    assert bettor.growth(-1.0, 0.5) == pytest.approx((0.5 * 0.5 - 0.25 * 0.2 / 2) / 10, rel=1e-12)


@pytest.mark.parametrize(
    ("now", "growth", "want"),
    [
        pytest.param(3.0, -1.0, 0, id="reached"),
        pytest.param(1.0, 0.5, 40, id="two more at half a nat for each ten"),
        pytest.param(1.0, 0.0, None, id="no growth, no end"),
        pytest.param(1.0, -0.1, None, id="shrinking, no end"),
        pytest.param(1.0, 1e-12, None, id="longer than anyone waits"),
    ],
)
def test_requests_until(now: float, growth: float, want: int | None) -> None:
    """An estimate where there is one, and none where there is none."""
    assert requests_until(3.0, now, growth, 10.0) == want


@pytest.mark.parametrize(("log_e", "want"), [(0.0, 1.0), (-5.0, 1.0), (math.log(100.0), 0.01), (2000.0, 0.0)])
def test_anytime_p(log_e: float, want: float) -> None:
    """One over the highest e-value, never above 1."""
    assert anytime_p(log_e) == pytest.approx(want, rel=1e-12)
