"""Drives one ramp through the real core: block by block into the evidence, judged after each.

Nothing is computed here that the operator would not compute; only what happened is written down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arbiter.api.modelswap import Verdict
from arbiter.core.analysis_settings import MetricName
from arbiter.core.evidence import Evidence
from arbiter.core.judgement import judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from arbiter.core.analysis_settings import AnalysisSettings
    from arbiter.core.blocks import Block
    from arbiter.core.judgement import Judgement


@dataclass(frozen=True)
class Outcome:
    """What became of one ramp.

    Attributes:
        culprit: the metric that rolled it back; empty if none did.
        requests: of the new side until the rollback, or in all; pairs, for scores.
        minutes: until the rollback, or in all.
        gate_requests: of the new side until the gates would have opened; None if they never did.
        gate_minutes: the same in minutes.
    """

    culprit: str
    requests: int
    minutes: float
    gate_requests: int | None
    gate_minutes: float | None


def judged(blocks: Iterable[tuple[int, Block]], settings: AnalysisSettings) -> Iterator[tuple[Block, Judgement]]:
    """Each block with the judgement after it."""
    evidence = Evidence.begin(settings, 0)
    for step, block in blocks:
        while evidence.step < step:
            evidence = evidence.next_step(settings)
        evidence = evidence.observe(block, settings)
        yield block, judge(evidence, settings)


def run_ramp(blocks: Iterable[tuple[int, Block]], settings: AnalysisSettings, *, to_gate: bool = False) -> Outcome:
    """One ramp until it is rolled back, or to its end; or, if only the gates are asked about, until they open."""
    requests, minutes = 0, 0.0
    gate_requests, gate_minutes = None, None
    for block, judgement in judged(blocks, settings):
        requests += block.new.judged
        minutes = block.end_ms / 60_000
        if judgement.must_roll_back:
            culprit = next(each.name for each in judgement.metrics if each.verdict is Verdict.Worse)
            return Outcome(culprit, requests, minutes, gate_requests, gate_minutes)
        if gate_requests is None and gates_passed(judgement):
            gate_requests, gate_minutes = requests, minutes
            if to_gate:
                break
    return Outcome("", requests, minutes, gate_requests, gate_minutes)


def gates_passed(judgement: Judgement) -> bool:
    """As `gates_open`, but without waiting for a step's fewest requests, which are no matter of evidence."""
    asked = [each for each in judgement.metrics if not each.guard_only]
    return bool(asked) and all(each.passed for each in asked)


def run_scores(pairs: Iterable[tuple[float, float]], settings: AnalysisSettings) -> Outcome:
    """Score by score until the rollback; the gate is noted on the way."""
    evidence, n, gate = Evidence.begin(settings, 0), 0, None
    for pair in pairs:
        evidence, n = evidence.score((pair,), settings), n + 1
        judgement = judge(evidence, settings)
        if judgement.must_roll_back:
            return Outcome(MetricName.QUALITY, n, 0.0, gate, None)
        if gate is None and gates_passed(judgement):
            gate = n
    return Outcome("", n, 0.0, gate, None)
