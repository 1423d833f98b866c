"""Weighs evidence: e-values of one block, and the test martingales that their products are.

An e-value is a non-negative number whose expectation is at most 1 when the hypothesis is true. If each block's
e-value holds that given everything before it, the product exceeds 1/α with probability at most α, however often
and whenever one looks (Ville's inequality). So every bet may use the past and nothing of the block it is placed
on; each function here takes the past and the block as separate arguments to keep that visible.

Sources: Turner, Ly & Grünwald (JSPI 2024; general nulls: arXiv 2203.09785) for counts; Waudby-Smith & Ramdas,
"Estimating means of bounded random variables by betting" (JRSS B 2024) for bounded values and intervals; Lindon et
al. (2024) for error counts. All logarithms are natural.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import exp, inf, log, log1p, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

RATIO_STEPS = (0.98, 0.95, 0.9, 0.8, 0.6, 0.3)
"""Alternatives for rollback: the new side's rate as a share of what the margin allows."""

GUARD_STEPS = (1.5, 2.0, 4.0, 8.0, 20.0, 60.0)
"""Alternatives for the error guard: the new side's error rate as a multiple of what the guard allows."""

BET_PRIOR = 0.05
"""Prior sum of squares of a bettor: the first bets are small until the data tell their own spread."""

INTERVAL_ALPHA = 0.05
"""Shown intervals hold with probability 95 %, at all times at once."""


@dataclass(frozen=True, slots=True)
class Trials:
    """Yes-or-no outcomes of both sides in one block: how many went well, out of how many."""

    new_ok: int
    new: int
    old_ok: int
    old: int

    @property
    def comparable(self) -> bool:
        """Whether both sides have any."""
        return self.new > 0 and self.old > 0


def null_rate(trials: Trials, new_rate: float, old_rate: float, ratio: float) -> float:
    """The old side's rate b at the point (ratio·b, b) that is hardest to tell from the alternative.

    It minimises n_new·KL(new_rate ‖ ratio·b) + n_old·KL(old_rate ‖ b): the smaller root of
    ratio·(n_c+n_b)·x² - [n_c(ratio+θ_c) + n_b(1+ratio·θ_b)]·x + n_c·θ_c + n_b·θ_b = 0.
    """
    square = ratio * (trials.new + trials.old)
    linear = trials.new * (ratio + new_rate) + trials.old * (1.0 + ratio * old_rate)
    constant = trials.new * new_rate + trials.old * old_rate
    # 2c/(b+√…) is the smaller root without the cancellation of (b-√…)/2a.
    return 2.0 * constant / (linear + sqrt(max(0.0, linear * linear - 4.0 * square * constant)))


def ratio_log_e(trials: Trials, new_rate: float, old_rate: float, ratio: float) -> float:
    """Log e-value of one block, for an alternative on either side of the line new = ratio·old.

    With new_rate below ratio·old_rate it tests "new ≥ ratio·old" (rollback), above it "new ≤ ratio·old"
    (promotion). Likelihood of the alternative over that of `null_rate`'s point (Turner, Ly & Grünwald). For any
    point of the null its expectation is at most 1, for any numbers of trials. Rates lie strictly inside (0, 1).
    """
    if not trials.comparable:
        return 0.0
    base = null_rate(trials, new_rate, old_rate, ratio)
    return (
        trials.new_ok * log(new_rate / (ratio * base))
        + (trials.new - trials.new_ok) * log((1.0 - new_rate) / (1.0 - ratio * base))
        + trials.old_ok * log(old_rate / base)
        + (trials.old - trials.old_ok) * log((1.0 - old_rate) / (1.0 - base))
    )


def worse_log_e(trials: Trials, new_rate: float, old_rate: float, ratio: float) -> float:
    """`ratio_log_e` towards rollback: nothing is learnt from an alternative that is acceptable itself."""
    return ratio_log_e(trials, new_rate, old_rate, ratio) if new_rate < ratio * old_rate else 0.0


def better_log_e(trials: Trials, new_rate: float, old_rate: float, ratio: float) -> float:
    """`ratio_log_e` towards promotion: nothing is learnt from an alternative beyond the margin."""
    return ratio_log_e(trials, new_rate, old_rate, ratio) if new_rate > ratio * old_rate else 0.0


def guard_log_e(trials: Trials, allowed: float, alternative: float) -> float:
    """Log e-value of one block against "new error rate ≤ allowed · old error rate".

    Given how many errors there were, each is the new side's with probability p0 = κn_c/(κn_c+n_b) at the edge of
    the null, and p1 the same with `alternative` > κ: (p1/p0)^x_c · ((1-p1)/(1-p0))^x_b. It needs counts only, and
    sees what a ratio of success rates cannot: 0.999 → 0.97 is 30 times the errors.
    """
    if not trials.comparable:
        return 0.0
    null = allowed * trials.new / (allowed * trials.new + trials.old)
    guess = alternative * trials.new / (alternative * trials.new + trials.old)
    new_bad, old_bad = trials.new - trials.new_ok, trials.old - trials.old_ok
    return new_bad * log(guess / null) + old_bad * log((1.0 - guess) / (1.0 - null))


def log_mean_exp(logs: Sequence[float]) -> float:
    """The log of the average of e-values given as logs: an average of e-values is an e-value."""
    highest = max(logs)
    return highest + log(sum(exp(each - highest) for each in logs) / len(logs))


def anytime_p(highest_log_e: float) -> float:
    """The p-value that holds whenever one looks: 1 over the highest e-value ever reached, at most 1."""
    return min(1.0, exp(-max(0.0, highest_log_e)))


@dataclass(frozen=True, slots=True)
class Wealth:
    """A running product of e-values.

    Attributes:
        log_e: its log now.
        highest: the highest log it ever had, from 0: Ville's inequality is about this one.
    """

    log_e: float = 0.0
    highest: float = 0.0

    def at(self, log_e: float) -> Wealth:
        """The same product at its next value."""
        return Wealth(log_e, max(self.highest, log_e))


@dataclass(frozen=True, slots=True)
class Bettor:
    """Bets that the mean of bounded values is positive: Π(1 + λ_i·x_i) against "the mean is at most 0".

    λ_i = clip(Σx/(0.05+Σx²), 0, share/|lowest|) over the values before i: close to the bet that grows fastest, and
    never one that a single value could ruin (Waudby-Smith & Ramdas, §5). Two sums are the whole memory.

    Attributes:
        n: values seen.
        total: their sum.
        squares: the sum of their squares.
        wealth: the product.
    """

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    wealth: Wealth = field(default_factory=Wealth)

    def bet(self, lowest: float, share: float) -> float:
        """The stake on the next value, of which `lowest` (below 0) is the least possible."""
        return min(max(0.0, self.total / (BET_PRIOR + self.squares)), share / -lowest)

    def seen(self, value: float, lowest: float, share: float) -> Bettor:
        """The same after one more value, on which the stake was placed before."""
        gain = log1p(self.bet(lowest, share) * value)
        return Bettor(
            self.n + 1,
            self.total + value,
            self.squares + value * value,
            self.wealth.at(self.wealth.log_e + gain),
        )

    def growth(self, lowest: float, share: float) -> float:
        """The log that the next value is expected to add, if the future is like the past."""
        if not self.n:
            return 0.0
        stake = self.bet(lowest, share)
        return (stake * self.total - stake * stake * self.squares / 2.0) / self.n


@dataclass(frozen=True, slots=True)
class MeanInterval:
    """An interval for the mean of values in [-1, 1] that holds at every time at once.

    Predictable plug-in empirical Bernstein confidence sequence (Waudby-Smith & Ramdas, theorem 2), kept as sums.
    Values are rescaled to z in [0, 1]; centre Σλz/Σλ, half-width (ln(2/α) + Σv·ψ(λ))/Σλ, with v = 4(z-μ̂)²,
    ψ(λ) = (-ln(1-λ)-λ)/4, λ_i = min(√(2ln(2/α)/(σ̂²·i·ln(1+i))), ½), and μ̂, σ̂² from the values before.

    Attributes:
        n: values seen.
        total: Σz.
        spread: Σ(z - μ̂)².
        stakes: Σλ.
        staked: Σλz.
        penalty: Σv·ψ(λ).
    """

    n: int = 0
    total: float = 0.0
    spread: float = 0.0
    stakes: float = 0.0
    staked: float = 0.0
    penalty: float = 0.0

    def seen(self, value: float, alpha: float = INTERVAL_ALPHA) -> MeanInterval:
        """The same after one more value in [-1, 1]."""
        z = (value + 1.0) / 2.0
        i = self.n + 1
        mean_before = (0.5 + self.total) / i
        variance_before = (0.25 + self.spread) / i
        stake = min(sqrt(2.0 * log(2.0 / alpha) / (variance_before * i * log1p(i))), 0.5)
        mean = (0.5 + self.total + z) / (i + 1)
        return replace(
            self,
            n=i,
            total=self.total + z,
            spread=self.spread + (z - mean) ** 2,
            stakes=self.stakes + stake,
            staked=self.staked + stake * z,
            penalty=self.penalty + 4.0 * (z - mean_before) ** 2 * (-log1p(-stake) - stake) / 4.0,
        )

    def bounds(self, alpha: float = INTERVAL_ALPHA) -> tuple[float, float]:
        """The interval now, within [-1, 1]."""
        if not self.n:
            return -1.0, 1.0
        centre = self.staked / self.stakes
        half = (log(2.0 / alpha) + self.penalty) / self.stakes
        return 2.0 * max(0.0, centre - half) - 1.0, 2.0 * min(1.0, centre + half) - 1.0


def requests_until(target: float, now: float, growth: float, requests_each: float) -> int | None:
    """How many requests are missing until a log e-value that grows like this reaches the target."""
    if now >= target:
        return 0
    missing = (target - now) / growth * requests_each if growth > 0.0 else inf
    return round(missing) if missing < 1e9 else None
