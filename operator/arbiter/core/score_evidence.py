"""Keeps what has been learnt about quality: bets on scores in [0, 1], pair by pair.

Rule: each score takes part in one pair only. The tests are the same betting martingales that decide the gates of
the other metrics; only the values differ: one for each pair instead of one for each block.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from arbiter.core.analysis_settings import MetricName
from arbiter.core.eprocess import Bettor, MeanInterval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arbiter.core.analysis_settings import AnalysisSettings

SCORE_STAKE = 0.5
"""Share of the ruinous stake that a bet on one score may reach: scores are many and spread widely."""


@dataclass(frozen=True, slots=True)
class ScoreEvidence:
    """What is known about quality, from scores in [0, 1].

    Attributes:
        name: which metric.
        seen: whether there ever was a score.
        new_total: sum of the new side's scores.
        old_total: sum of the old side's.
        step: the bet since the step began that the new side is worse than the margin.
        swap: the same since the swap began.
        gate: the bet that the new side is within the margin.
        interval: for the new side's advantage.
    """

    name: MetricName = MetricName.QUALITY
    seen: bool = False
    new_total: float = 0.0
    old_total: float = 0.0
    step: Bettor = field(default_factory=Bettor)
    swap: Bettor = field(default_factory=Bettor)
    gate: Bettor = field(default_factory=Bettor)
    interval: MeanInterval = field(default_factory=MeanInterval)

    def observe(self, new: float, old: float, settings: AnalysisSettings) -> ScoreEvidence:
        """The same after one pair of scores: of the same prompt, or of two groups that no other pair uses.

        Value: new - ratio·old, in [-ratio, 1].
        """
        if not (0.0 <= new <= 1.0 and 0.0 <= old <= 1.0):
            raise ValueError(f"scores are in [0, 1], not {new} and {old}")
        value = new - settings.quality_ratio * old
        return replace(
            self,
            seen=True,
            new_total=self.new_total + new,
            old_total=self.old_total + old,
            step=self.step.seen(-value, -1.0, SCORE_STAKE),
            swap=self.swap.seen(-value, -1.0, SCORE_STAKE),
            gate=self.gate.seen(value, -settings.quality_ratio, SCORE_STAKE),
            interval=self.interval.seen(new - old),
        )

    def next_step(self) -> ScoreEvidence:
        """The same with fresh wealth for the next step; what the bets have learnt is kept."""
        return replace(self, step=replace(self.step, wealth=replace(self.step.wealth, log_e=0.0)))


def disjoint_pairs(new: Sequence[float], old: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Pairs of means of groups that share no score, as many as the smaller side has scores.

    Every score is used once. Comparing several new scores with the *same* mean of old ones would count that
    mean's luck several times, and roll back good models.
    """
    pairs = min(len(new), len(old))
    return tuple((_mean(new[i::pairs]), _mean(old[i::pairs])) for i in range(pairs))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def gate_within_reach(pairs: int, settings: AnalysisSettings) -> bool:
    """Whether that many perfect pairs would pass the gate: if not, a metric can only guard."""
    evidence = ScoreEvidence()
    for _ in range(pairs):
        evidence = evidence.observe(1.0, 1.0, settings)
    return evidence.gate.wealth.log_e >= settings.gate_bound
