"""What is compared in a swap, how much worse is still acceptable, and at which error rates.

Rule: frozen when a swap starts. A margin that could be edited while evidence is coming in would be chosen by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arbiter.api.swappolicy import Analysis


class MetricName(StrEnum):
    """What can be compared."""

    SUCCESS = "success"
    """Share of requests answered in full, of those answered or failed."""

    ERRORS = "errors"
    """Share of requests failed; a guard for rollback only, see `guard_only`."""

    FIRST_TOKEN = "first-token"  # noqa: S105  # a token of text
    """Seconds to the first token, at the 95th percentile and at equal load."""

    PER_TOKEN = "per-token"  # noqa: S105  # a token of text
    """Seconds for each further token, at the 95th percentile and at equal load."""

    QUALITY = "quality"
    """Mean score in [0, 1] from checks or feedback."""


LATENCY_METRICS = (MetricName.FIRST_TOKEN, MetricName.PER_TOKEN)
"""The metrics that are compared within strata of load."""


@dataclass(frozen=True, slots=True)
class AnalysisSettings:
    """Margins and error rates of one swap.

    Attributes:
        metrics: those that the task may have a source for. One that never shows any data does not count.
        guard_only: those that can roll back but are not asked for at the gates. A doubled error rate can be shown
            soon; that it is *not* doubled would take longer than a rollout where errors are rare.
        steps: how many times the weights change, the watch included; α is split over them.
        rollback_alpha: how often an acceptable new side may be rolled back, over the whole swap and all metrics.
        promotion_alpha: how often a metric of an unacceptable new side may pass a gate.
        swap_share: share of `rollback_alpha` for the test over the whole swap; the rest is for the fresh ones.
        success_ratio: lowest acceptable new success rate, as a share of the old one.
        error_factor: highest acceptable new error rate, as a multiple of the old one.
        first_token_ratio: longest acceptable time to first token, as a multiple of the old side's at equal load.
        per_token_ratio: the same for the time of each further token.
        latency_quantile: where latency is compared.
        quality_ratio: lowest acceptable new mean score, as a share of the old one.
        min_requests: requests that each side must have answered or failed in a step before it may end.
        max_silent: blocks without data after which a metric that had data holds the swap.
        block_share: most of the way to the nearest rollback bound that one block may go. At a third, no single
            bad minute convicts a model: it takes three. Whatever must act sooner is a breaker's task.
        temper: whether counts weigh less where the old side's failures come in bursts.
    """

    metrics: tuple[MetricName, ...] = (
        MetricName.SUCCESS,
        MetricName.ERRORS,
        MetricName.FIRST_TOKEN,
        MetricName.PER_TOKEN,
    )
    guard_only: tuple[MetricName, ...] = (MetricName.ERRORS,)
    steps: int = 10
    rollback_alpha: float = 0.01
    promotion_alpha: float = 0.05
    swap_share: float = 0.5
    success_ratio: float = 0.95
    error_factor: float = 2.0
    first_token_ratio: float = 1.2
    per_token_ratio: float = 1.2
    latency_quantile: float = 0.95
    quality_ratio: float = 0.95
    min_requests: int = 50
    max_silent: int = 5
    block_share: float = 1.0 / 3.0
    temper: bool = True

    @classmethod
    def from_policy(
        cls,
        analysis: Analysis,
        metrics: tuple[MetricName, ...],
        guard_only: tuple[MetricName, ...],
        steps: int,
    ) -> AnalysisSettings:
        """Take what a SwapPolicy says, and from the swap itself what has a source and how many steps there are."""
        return cls(
            metrics=metrics,
            guard_only=guard_only,
            steps=steps,
            rollback_alpha=analysis.rollback_error_rate,
            promotion_alpha=analysis.promotion_error_rate,
            success_ratio=analysis.min_success_ratio,
            error_factor=analysis.max_error_ratio,
            first_token_ratio=analysis.max_first_token_ratio,
            per_token_ratio=analysis.max_per_token_ratio,
            quality_ratio=analysis.min_quality_ratio,
            min_requests=analysis.min_requests,
            max_silent=analysis.max_silent_blocks,
        )

    def margin(self, metric: MetricName) -> float:
        """Where a metric counts as worse, as the ratio of the new side to the old."""
        match metric:
            case MetricName.SUCCESS:
                return self.success_ratio
            case MetricName.ERRORS:
                return self.error_factor
            case MetricName.FIRST_TOKEN:
                return self.first_token_ratio
            case MetricName.PER_TOKEN:
                return self.per_token_ratio
            case MetricName.QUALITY:
                return self.quality_ratio

    def step_bound(self, metrics: int) -> float:
        """Log e-value at which the test of one step rolls back, when that many metrics have a source."""
        share = 1.0 - self.swap_share
        return log(metrics * self.steps / (self.rollback_alpha * share)) if share > 0.0 else inf

    def swap_bound(self, metrics: int) -> float:
        """Log e-value at which the test over the whole swap rolls back."""
        return log(metrics / (self.rollback_alpha * self.swap_share)) if self.swap_share > 0.0 else inf

    @property
    def gate_bound(self) -> float:
        """Log e-value at which a metric passes the gates.

        All metrics must pass, so their α is not split: whichever is really worse lets it pass with α at most.
        """
        return -log(self.promotion_alpha)

    def block_bound(self, metrics: int) -> float:
        """The most that one block may add to a log e-value of counts."""
        return self.block_share * min(self.step_bound(metrics), self.swap_bound(metrics))
