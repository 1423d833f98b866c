"""Adds blocks and scores to the evidence of a swap, and stores it so that a restart continues the same tests.

Rule: a block is added once. `consumed_to_ms` says which ones were, so repeating a pass changes nothing, and the
stored text holds every float with all its bits, so evidence read back goes on exactly as if it had been kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from arbiter.core.analysis_settings import LATENCY_METRICS, MetricName
from arbiter.core.count_evidence import Clustering, CountEvidence, Past
from arbiter.core.eprocess import Bettor, MeanInterval, Wealth
from arbiter.core.histogram import Histogram
from arbiter.core.score_evidence import ScoreEvidence
from arbiter.core.stored import Stored, to_json
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from arbiter.core.analysis_settings import AnalysisSettings
    from arbiter.core.blocks import Block, Progress

EVIDENCE_VERSION = 1
"""Version of the stored form: it fixes the alternatives and their order, not only the fields."""

MetricEvidence = CountEvidence | ScoreEvidence
"""What is known about one metric."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was learnt in a swap.

    Attributes:
        consumed_to_ms: blocks that start before are in it.
        metrics: one for each metric of the settings, in their order.
        step: how many steps were begun before this one.
        step_new: requests that the new side answered or failed in this step.
        step_old: the same for the old side.
        gaps: blocks' worth of time that was lost.
    """

    consumed_to_ms: int
    metrics: tuple[MetricEvidence, ...]
    step: int = 0
    step_new: int = 0
    step_old: int = 0
    gaps: int = 0

    @staticmethod
    def begin(settings: AnalysisSettings, now_ms: int) -> Evidence:
        """Nothing learnt yet."""
        return Evidence(now_ms, tuple(_begin(name) for name in settings.metrics))

    @property
    def sources(self) -> int:
        """K: how many metrics ever had data; at least 1."""
        return max(1, sum(metric.seen for metric in self.metrics))

    def observe(self, block: Block, settings: AnalysisSettings) -> Evidence:
        """The same after one more block; unchanged if the block is in it already."""
        if block.start_ms < self.consumed_to_ms:
            return self
        cap = settings.block_bound(self.sources)
        metrics = (
            metric.observe(block, settings, cap) if isinstance(metric, CountEvidence) else metric
            for metric in self.metrics
        )
        return replace(
            self,
            consumed_to_ms=block.end_ms,
            metrics=tuple(metrics),
            step_new=self.step_new + block.new.judged,
            step_old=self.step_old + block.old.judged,
        )

    def follow(self, progress: Progress, settings: AnalysisSettings) -> Evidence:
        """The same after one look at the feeds: first what was lost, then the block that closed."""
        lost = max(0, progress.cursor.gaps - self.gaps)
        metrics = (metric.missed(lost) if isinstance(metric, CountEvidence) else metric for metric in self.metrics)
        after = replace(self, metrics=tuple(metrics), gaps=self.gaps + lost)
        return after.observe(progress.block, settings) if progress.block else after

    def score(self, pairs: Iterable[tuple[float, float]], settings: AnalysisSettings) -> Evidence:
        """The same after pairs of scores, new side first; see `score_evidence` for how to pair them."""
        evidence = self
        for new, old in pairs:
            metrics = (
                metric.observe(new, old, settings) if isinstance(metric, ScoreEvidence) else metric
                for metric in evidence.metrics
            )
            evidence = replace(evidence, metrics=tuple(metrics))
        return evidence

    def next_step(self, settings: AnalysisSettings) -> Evidence:
        """The same at the start of the next step: fresh tests beside those over the whole swap.

        α is split over the planned steps, so beyond them the last test goes on.
        """
        begun = replace(self, step=self.step + 1, step_new=0, step_old=0)
        if begun.step >= settings.steps:
            return begun
        return replace(begun, metrics=tuple(metric.next_step() for metric in self.metrics))

    def to_text(self) -> str:
        """The stored form: one line of JSON."""
        counts = [self.consumed_to_ms, self.step, self.step_new, self.step_old, self.gaps]
        metrics = {metric.name.value: _fields(metric) for metric in self.metrics}
        return to_json({"version": EVIDENCE_VERSION, "counts": counts, "metrics": metrics})

    @staticmethod
    def from_text(text: str, settings: AnalysisSettings) -> Evidence:
        """Read back what `to_text` wrote for the same settings.

        Raises:
            CorruptStateError: for anything else; it names the field.
        """
        stored = Stored.parse(text, "evidence", EVIDENCE_VERSION)
        consumed_to_ms, step, step_new, step_old, gaps = stored.integers("counts", 5)
        parts = stored.child("metrics")
        metrics = tuple(_read(name, parts.child(name.value)) for name in settings.metrics)
        parts.done()
        stored.done()
        read = Evidence(consumed_to_ms, metrics, step, step_new, step_old, gaps)
        if read.to_text() != text:
            raise CorruptStateError("evidence is not written as Arbiter writes it")
        return read


def _begin(name: MetricName) -> MetricEvidence:
    return ScoreEvidence() if name is MetricName.QUALITY else CountEvidence.begin(name)


def _fields(metric: MetricEvidence) -> dict[str, object]:
    shared: dict[str, object] = {"gate": _bettor_fields(metric.gate), "interval": _interval_fields(metric.interval)}
    if isinstance(metric, ScoreEvidence):
        totals = [metric.new_total, metric.old_total]
        return {**shared, "totals": totals, "step": _bettor_fields(metric.step), "swap": _bettor_fields(metric.swap)}
    fields = {
        **shared,
        "blocks": [int(metric.seen), metric.blocks, metric.silent],
        "pasts": [_past_fields(past) for past in metric.pasts],
        "clustering": [metric.clustering.excess, metric.clustering.scale],
        "stepLogs": metric.step_logs,
        "swapLogs": metric.swap_logs,
        "wealth": [metric.step.log_e, metric.step.highest, metric.swap.log_e, metric.swap.highest],
    }
    if metric.name in LATENCY_METRICS:
        fields["durations"] = [each.to_text() for each in (*metric.sketches, metric.shown)]
    return fields


def _read(name: MetricName, stored: Stored) -> MetricEvidence:
    read = _read_scores(stored) if name is MetricName.QUALITY else _read_counts(name, stored)
    stored.done()
    return read


def _read_scores(stored: Stored) -> ScoreEvidence:
    new_total, old_total = stored.numbers("totals", 2)
    gate = _read_bettor(stored, "gate")
    return ScoreEvidence(
        seen=gate.n > 0,
        new_total=new_total,
        old_total=old_total,
        step=_read_bettor(stored, "step"),
        swap=_read_bettor(stored, "swap"),
        gate=gate,
        interval=_read_interval(stored),
    )


def _read_counts(name: MetricName, stored: Stored) -> CountEvidence:
    empty = CountEvidence.begin(name)
    seen, blocks, silent = stored.integers("blocks", 3)
    step_log, step_highest, swap_log, swap_highest = stored.numbers("wealth", 4)
    latency = name in LATENCY_METRICS
    texts = stored.texts("durations", len(empty.sketches) + 1) if latency else ("",)
    *sketches, shown = (Histogram.from_text(text) for text in texts)
    pasts = stored.items("pasts", len(empty.pasts))
    return CountEvidence(
        name,
        seen=bool(seen),
        blocks=blocks,
        silent=silent,
        pasts=tuple(_read_past(Stored({"pasts": past}, stored.path)) for past in pasts),
        sketches=tuple(sketches),
        shown=shown,
        clustering=Clustering(*stored.numbers("clustering", 2)),
        step_logs=stored.numbers("stepLogs", len(empty.step_logs)),
        swap_logs=stored.numbers("swapLogs", len(empty.swap_logs)),
        step=Wealth(step_log, step_highest),
        swap=Wealth(swap_log, swap_highest),
        gate=_read_bettor(stored, "gate"),
        interval=_read_interval(stored),
    )


def _past_fields(past: Past) -> list[int]:
    return [
        past.old_ok,
        past.old,
        past.new_ok,
        past.new,
        past.step_ok,
        past.step,
        past.last_ok,
        past.last,
    ]


def _read_past(stored: Stored) -> Past:
    past = Past(*stored.integers("pasts", 8))
    pairs = (past.old_ok, past.old), (past.new_ok, past.new), (past.step_ok, past.step), (past.last_ok, past.last)
    if any(ok > n for ok, n in pairs):
        raise CorruptStateError(f"{stored.path}.pasts: more went well than there were")
    return past


def _bettor_fields(bettor: Bettor) -> list[float]:
    return [bettor.n, bettor.total, bettor.squares, bettor.wealth.log_e, bettor.wealth.highest]


def _read_bettor(stored: Stored, name: str) -> Bettor:
    n, total, squares, log_e, highest = stored.numbers(name, 5)
    return Bettor(int(n), total, squares, Wealth(log_e, highest))


def _interval_fields(interval: MeanInterval) -> list[float]:
    return [
        interval.n,
        interval.total,
        interval.spread,
        interval.stakes,
        interval.staked,
        interval.penalty,
    ]


def _read_interval(stored: Stored) -> MeanInterval:
    n, *sums = stored.numbers("interval", 6)
    return MeanInterval(int(n), *sums)
