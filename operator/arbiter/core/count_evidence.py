"""Keeps what has been learnt about a counted metric: two tests for rollback, one for the gates, an interval.

Rule: everything that a bet uses was known before the block it is placed on. Each state is a few numbers, the same
whether it was kept in memory or read back, so a restarted operator continues the test instead of a new one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from arbiter.core.analysis_settings import LATENCY_METRICS, AnalysisSettings, MetricName
from arbiter.core.eprocess import (
    GUARD_STEPS,
    RATIO_STEPS,
    Bettor,
    MeanInterval,
    Trials,
    Wealth,
    guard_log_e,
    log_mean_exp,
    worse_log_e,
)
from arbiter.core.histogram import Histogram
from arbiter.core.samples import Pasts, Sample, latency_sample, no_pasts, remembered, success_sample, timings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arbiter.core.blocks import Block

BLOCK_STAKE = 0.9
"""Share of the ruinous stake that a bet on one value per block may reach. Blocks are few and their values small,
so the usual half would pass an equal model only after twice as many."""

RHO_PRIOR = 0.1
"""Weight, as a sum of p(1-p), of the prior belief that failures come alone."""


@dataclass(frozen=True, slots=True)
class Past:
    """What one stratum of a metric has shown before: bets on the next block are made of it."""

    old_ok: int = 0
    old: int = 0
    new_ok: int = 0
    new: int = 0
    step_ok: int = 0
    step: int = 0
    last_ok: int = 0
    last: int = 0

    def joined(self, trials: Trials) -> Past:
        """This past and one more block."""
        return Past(
            self.old_ok + trials.old_ok,
            self.old + trials.old,
            self.new_ok + trials.new_ok,
            self.new + trials.new,
            self.step_ok + trials.new_ok,
            self.step + trials.new,
            *((trials.old_ok, trials.old) if trials.old else (self.last_ok, self.last)),
        )


@dataclass(frozen=True, slots=True)
class Clustering:
    """How much the old side's failures come together: the correlation ρ of two requests of one block.

    Neighbouring blocks of the old side differ by (Δrate)² ≈ p(1-p)·[(1/n+1/n')(1-ρ) + 2ρ]. Neighbours, so that a
    slow drift of both sides is no clustering. Kept as the two sums that ρ is the quotient of.
    """

    excess: float = 0.0
    scale: float = 0.0

    @property
    def rho(self) -> float:
        """The estimate, in [0, 1]."""
        return min(1.0, max(0.0, self.excess / (RHO_PRIOR + self.scale)))

    def weight(self, trials: Trials) -> float:
        """The power η ≤ 1 to raise a block's e-value to: 1 over the design effect of its larger side."""
        return 1.0 / (1.0 + (max(trials.new, trials.old, 1) - 1) * self.rho)

    def joined(self, past: Past, trials: Trials) -> Clustering:
        """The same after the old side's next block."""
        if not past.last or not trials.old:
            return self
        both = past.last + trials.old
        rate = (past.last_ok + trials.old_ok) / both
        variance = rate * (1.0 - rate) * both / (both - 1)
        sampling = 1.0 / past.last + 1.0 / trials.old
        change = past.last_ok / past.last - trials.old_ok / trials.old
        return Clustering(self.excess + change * change - variance * sampling, self.scale + variance * (2.0 - sampling))


@dataclass(frozen=True, slots=True)
class CountEvidence:
    """What is known about success, errors or a latency.

    Attributes:
        name: which metric.
        seen: whether either side ever had data.
        blocks: blocks that compared both sides.
        silent: blocks since then in which a side had no data.
        pasts: of each stratum, or of the only one.
        sketches: of a latency: the old side's past durations by stratum.
        shown: of a latency: the new side's durations, for people.
        clustering: of the old side's failures.
        step_logs: log e-value of each alternative since the step began.
        swap_logs: the same since the swap began.
        step: the average of the former; its highest value is that of all steps.
        swap: the average of the latter.
        gate: the bet that the new side is within the margin.
        interval: for the new side's advantage.
    """

    name: MetricName
    seen: bool = False
    blocks: int = 0
    silent: int = 0
    pasts: tuple[Past, ...] = (Past(),)
    sketches: Pasts = ()
    shown: Histogram = field(default_factory=Histogram)
    clustering: Clustering = field(default_factory=Clustering)
    step_logs: tuple[float, ...] = ()
    swap_logs: tuple[float, ...] = ()
    step: Wealth = field(default_factory=Wealth)
    swap: Wealth = field(default_factory=Wealth)
    gate: Bettor = field(default_factory=Bettor)
    interval: MeanInterval = field(default_factory=MeanInterval)

    @staticmethod
    def begin(name: MetricName) -> CountEvidence:
        """Nothing known yet."""
        alternatives = len(GUARD_STEPS) if name is MetricName.ERRORS else len(RATIO_STEPS) + 1
        strata = no_pasts() if name in LATENCY_METRICS else ()
        return CountEvidence(
            name,
            pasts=(Past(),) * max(1, len(strata)),
            sketches=strata,
            step_logs=(0.0,) * alternatives,
            swap_logs=(0.0,) * alternatives,
        )

    def observe(self, block: Block, settings: AnalysisSettings, cap: float) -> CountEvidence:
        """The same after one more block, which may add at most `cap` to a log e-value."""
        if self.name not in LATENCY_METRICS:
            sample = success_sample(block, settings.success_ratio)
            data = (block.old.judged, block.new.judged)
            return _noted(_weighed(self, sample, settings, cap), data, compared=all(data))
        old, new = timings_of(self.name, block.old), timings_of(self.name, block.new)
        data = (sum(each.count for each in old), sum(each.count for each in new))
        sample = latency_sample(self.name, old, new, self.sketches, settings)
        weighed = _noted(_weighed(self, sample, settings, cap), data, compared=all(data))
        sketches = tuple(remembered(past, times) for past, times in zip(self.sketches, old, strict=True))
        return replace(weighed, sketches=sketches, shown=remembered(self.shown, Histogram.merged(new)))

    def next_step(self) -> CountEvidence:
        """The same with a fresh test for the next step.

        One product over the whole swap forgets how to be alarmed: good blocks push it far down, and a fault that
        begins later would first have to climb back.
        """
        return replace(
            self,
            pasts=tuple(replace(past, step_ok=0, step=0) for past in self.pasts),
            step_logs=(0.0,) * len(self.step_logs),
            step=replace(self.step, log_e=0.0),
        )

    def missed(self, blocks: int) -> CountEvidence:
        """The same after blocks that were lost."""
        return replace(self, silent=self.silent + blocks) if self.seen else self

    def lowest_gain(self, settings: AnalysisSettings) -> float:
        """The least that one block's gain can be."""
        return -1.0 if self.name in LATENCY_METRICS else -settings.success_ratio


def _noted(evidence: CountEvidence, data: tuple[int, int], *, compared: bool) -> CountEvidence:
    if compared:
        return replace(evidence, seen=True, blocks=evidence.blocks + 1, silent=0)
    return replace(evidence, seen=True).missed(1) if any(data) else evidence.missed(1)


def _weighed(evidence: CountEvidence, sample: Sample, settings: AnalysisSettings, cap: float) -> CountEvidence:
    weights = [evidence.clustering.weight(each) if settings.temper else 1.0 for each in sample.trials]
    step_gains, swap_gains = _gains(evidence, sample.trials, weights, settings)
    step_logs = tuple(log_e + min(cap, gain) for log_e, gain in zip(evidence.step_logs, step_gains, strict=True))
    swap_logs = tuple(log_e + min(cap, gain) for log_e, gain in zip(evidence.swap_logs, swap_gains, strict=True))
    clustering = evidence.clustering
    for past, trials in zip(evidence.pasts, sample.trials, strict=True):
        clustering = clustering.joined(past, trials)
    gate, interval = evidence.gate, evidence.interval
    if sample.gain is not None and sample.difference is not None:
        gate = gate.seen(sample.gain, evidence.lowest_gain(settings), BLOCK_STAKE)
        interval = interval.seen(sample.difference)
    return replace(
        evidence,
        pasts=tuple(past.joined(trials) for past, trials in zip(evidence.pasts, sample.trials, strict=True)),
        clustering=clustering,
        step_logs=step_logs,
        swap_logs=swap_logs,
        step=evidence.step.at(log_mean_exp(step_logs)),
        swap=evidence.swap.at(log_mean_exp(swap_logs)),
        gate=gate,
        interval=interval,
    )


def _gains(
    evidence: CountEvidence, trials: Sequence[Trials], weights: Sequence[float], settings: AnalysisSettings
) -> tuple[list[float], list[float]]:
    """What the block adds to each alternative's log e-value, in the step and in the swap."""
    if evidence.name is MetricName.ERRORS:
        factor = settings.error_factor
        gains = [
            sum(weight * guard_log_e(each, factor, factor * step) for each, weight in zip(trials, weights, strict=True))
            for step in GUARD_STEPS
        ]
        return gains, gains
    ratio = 1.0 if evidence.name in LATENCY_METRICS else settings.success_ratio
    shared, step_gain, swap_gain = [0.0] * len(RATIO_STEPS), 0.0, 0.0
    for each, past, weight in zip(trials, evidence.pasts, weights, strict=True):
        if not each.comparable:
            continue
        old_rate = _smoothed(past.old_ok, past.old)
        for i, step in enumerate(RATIO_STEPS):
            shared[i] += weight * worse_log_e(each, ratio * old_rate * step, old_rate, ratio)
        step_gain += weight * worse_log_e(each, _smoothed(past.step_ok, past.step), old_rate, ratio)
        swap_gain += weight * worse_log_e(each, _smoothed(past.new_ok, past.new), old_rate, ratio)
    return [*shared, step_gain], [*shared, swap_gain]


def _smoothed(ok: int, n: int) -> float:
    """A past rate with two made-up trials in which 1.9 went well: never 0 or 1, 0.95 when nothing is known."""
    return (ok + 1.9) / (n + 2)
