"""Detectors of evidence that is wrong, shown to pass the real one and to catch broken ones.

Each detector is a situation in which an acceptable new side must not be convicted. Each broken method is a mistake
that has been made elsewhere; a detector that does not catch it would not catch it in ours either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from arbiter.core import count_evidence
from arbiter.core.analysis_settings import AnalysisSettings, MetricName
from arbiter.core.blocks import Block
from arbiter.core.eprocess import RATIO_STEPS, Trials, worse_log_e
from arbiter.core.evidence import Evidence
from arbiter.core.judgement import judge
from arbiter.core.samples import Sample, latency_sample
from arbiter.core.score_evidence import disjoint_pairs
from arbiter.core.traffic import Stratum, Tally
from tests.unit.core.test_eprocess import expectation
from tests.unit.core.traffic_examples import block, tally, timings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from arbiter.core.samples import Pasts
    from arbiter.core.traffic import Timings

    Pairs = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Method:
    """How evidence is made; the defaults are the real functions.

    Attributes:
        log_e: a block's log e-value.
        shown: the blocks that the tests get to see, of those that there were.
        sample: a block's latencies as trials.
        pairs: scores of a block, paired.
        bonus: added to the value of each score towards rollback.
    """

    log_e: Callable[[Trials, float, float, float], float] = worse_log_e
    shown: Callable[[list[Block]], list[Block]] = lambda blocks: blocks
    sample: Callable[[MetricName, Timings, Timings, Pasts, AnalysisSettings], Sample] = latency_sample
    pairs: Callable[[Sequence[float], Sequence[float]], Pairs] = disjoint_pairs
    bonus: float = 0.0


def unprojected(trials: Trials, new_rate: float, old_rate: float, ratio: float) -> float:
    """The null is put at the guessed old rate instead of at the point nearest to the alternative."""
    return (
        trials.new_ok * math.log(new_rate / (ratio * old_rate))
        + (trials.new - trials.new_ok) * math.log((1 - new_rate) / (1 - ratio * old_rate))
        if new_rate < ratio * old_rate
        else 0.0
    )


def pooled(blocks: list[Block]) -> list[Block]:
    """The totals since the start, once to learn the rates and once to judge, instead of each block on its own."""
    old, new = Tally.merged(each.old for each in blocks), Tally.merged(each.new for each in blocks)
    middle_ms = blocks[len(blocks) // 2].start_ms
    return [Block(0, middle_ms, 1, old, new), Block(middle_ms, blocks[-1].end_ms, 1, old, new)]


class FrozenThreshold:
    """The new side against what was usual once, instead of against the old side now."""

    def __init__(self) -> None:
        self.usual: Pasts | None = None

    def __call__(
        self, metric: MetricName, old: Timings, new: Timings, pasts: Pasts, settings: AnalysisSettings
    ) -> Sample:
        """In place of `latency_sample`."""
        if self.usual is None and any(past.count >= 200 for past in pasts):
            self.usual = pasts
        sample = latency_sample(metric, old, new, self.usual or pasts, settings)
        usual = tuple(Trials(each.new_ok, each.new, round(0.95 * each.old), each.old) for each in sample.trials)
        return Sample(usual, sample.gain, sample.difference)


def reused(new: Sequence[float], old: Sequence[float]) -> Pairs:
    """Each new score against the same mean of the block's old scores."""
    return [(each, sum(old) / len(old)) for each in new]


REAL = Method()


def generous(trials: Trials, new_rate: float, old_rate: float, ratio: float) -> float:
    """A little too much in every block."""
    return worse_log_e(trials, new_rate, old_rate, ratio) + 0.2


GENEROUS = Method(log_e=generous, bonus=0.1)
UNPROJECTED = Method(log_e=unprojected)
POOLED = Method(shown=pooled)
FROZEN = Method(sample=FrozenThreshold())
REUSED = Method(pairs=reused)


def convicts(method: Method, blocks: list[Block], settings: AnalysisSettings) -> bool:
    """Whether these blocks lead to a rollback."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(count_evidence, "worse_log_e", method.log_e)
        patched.setattr(count_evidence, "latency_sample", method.sample)
        evidence = Evidence.begin(settings, 0)
        for each in method.shown(blocks):
            evidence = evidence.observe(each, settings)
    return judge(evidence, settings).must_roll_back


def _guessing(method: Method, guess: float, step: float) -> Callable[[Trials], float]:
    """The method's log e-value of a block for one alternative."""
    return lambda trials: method.log_e(trials, 0.95 * guess * step, guess, 0.95)


def finds_an_expectation_above_one(method: Method) -> bool:
    """Exact enumeration over true rates on the margin."""
    for size, guess, step, true_old in product(((1, 4), (4, 1), (5, 5)), (0.3, 0.9), RATIO_STEPS, (0.1, 0.5, 0.99)):
        value = expectation(_guessing(method, guess, step), size, 0.95 * true_old, true_old)
        if value > 1.0 + 1e-9:
            return True
    return False


def convicts_for_drift(method: Method) -> bool:
    """Simpson's case: both sides drop from 98 % to 85 % while the new side's share grows from 10 % to 90 %."""
    blocks = []
    for i in range(90):
        share, success = 0.1 * (1 + i // 10), 0.98 if i < 45 else 0.85
        new, old = round(1000 * share), round(1000 * (1 - share))
        new_ok, old_ok = round(new * success), round(old * success)
        blocks.append(block(i, tally(new_ok, new - new_ok), tally(old_ok, old - old_ok)))
    rules = AnalysisSettings(metrics=(MetricName.SUCCESS,), guard_only=(), temper=False, block_share=1e9)
    return convicts(method, blocks, rules)


def convicts_for_load(method: Method) -> bool:
    """Both sides become 1.5 times as slow half-way."""
    rng, blocks = np.random.default_rng(3), []
    for i in range(80):
        slowness = 1.0 if i < 40 else 1.5
        new, old = (
            timings({Stratum.ONE: dict.fromkeys((slowness * rng.lognormal(0, 0.6, 40)).tolist(), 1)}) for _ in range(2)
        )
        blocks.append(block(i, Tally(40, 40, first_token=new), Tally(40, 40, first_token=old)))
    return convicts(method, blocks, AnalysisSettings(metrics=(MetricName.FIRST_TOKEN,), guard_only=()))


def convicts_by_chance(method: Method) -> bool:
    """More than 5 % of equal sides rolled back for their quality, at α 1 % and no margin at all."""
    rng = np.random.default_rng(2)
    settings = AnalysisSettings(
        metrics=(MetricName.QUALITY,), guard_only=(), steps=1, swap_share=1.0, quality_ratio=1.0
    )
    wrong = 0
    for _ in range(60):
        evidence = Evidence.begin(settings, 0)
        for _ in range(40):
            new, old = (
                np.clip(rng.normal(0.6, 0.25, 8), 0, 1).tolist(),
                np.clip(rng.normal(0.6, 0.25, 2), 0, 1).tolist(),
            )
            pairs = [(max(0.0, mine - method.bonus), yours) for mine, yours in method.pairs(new, old)]
            evidence = evidence.score(pairs, settings)
        wrong += judge(evidence, settings).must_roll_back
    return wrong > 3


DETECTORS = (finds_an_expectation_above_one, convicts_for_drift, convicts_for_load, convicts_by_chance)


@pytest.mark.parametrize("detect", DETECTORS)
def test_the_real_evidence_passes_every_detector(detect: Callable[[Method], bool]) -> None:
    """An acceptable new side is not convicted in any of the situations."""
    assert not detect(REAL)


@pytest.mark.parametrize("detect", DETECTORS)
def test_evidence_that_is_too_generous_fails_every_detector(detect: Callable[[Method], bool]) -> None:
    """A method that adds a little to every block is caught everywhere."""
    assert detect(GENEROUS)


@pytest.mark.parametrize(
    ("method", "detect"),
    [
        pytest.param(UNPROJECTED, finds_an_expectation_above_one, id="a null that is not the nearest"),
        pytest.param(POOLED, convicts_for_drift, id="pooling over blocks"),
        pytest.param(FROZEN, convicts_for_load, id="a frozen threshold"),
        pytest.param(REUSED, convicts_by_chance, id="one mean used several times"),
    ],
)
def test_each_known_mistake_is_caught(method: Method, detect: Callable[[Method], bool]) -> None:
    """The detector for a mistake finds it."""
    assert detect(method)
