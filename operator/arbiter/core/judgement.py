"""Decides what the evidence says: roll back, pass a gate, hold, or go on collecting.

Rule, in this order: a metric that reached a rollback bound rolls back; a metric that fell silent holds; too few
requests wait; then the gates ask for evidence on every metric that is no mere guard. Whatever is said carries the
figures that it was decided on, so nobody has to compute them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import TYPE_CHECKING

from arbiter.api.modelswap import Verdict
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.analysis_settings import LATENCY_METRICS, MetricName
from arbiter.core.count_evidence import BLOCK_STAKE, CountEvidence
from arbiter.core.eprocess import anytime_p, requests_until
from arbiter.core.histogram import Histogram
from arbiter.core.score_evidence import SCORE_STAKE, ScoreEvidence

if TYPE_CHECKING:
    from arbiter.core.analysis_settings import AnalysisSettings
    from arbiter.core.eprocess import Wealth
    from arbiter.core.evidence import Evidence, MetricEvidence


@dataclass(frozen=True, slots=True)
class MetricReport:
    """All that a person needs to know about one metric.

    Attributes:
        name: which metric.
        verdict: how the new side stands in it.
        guard_only: whether the gates do without it.
        passed: whether the gates have its evidence.
        old: success or error rate, 95th percentile in seconds, or mean score; None without data.
        new: the same for the new side.
        interval: for the new side's advantage, at 95 % and at all times: difference of rates or of scores, or of
            the shares of slow requests at equal load. Above 0 means better.
        margin: the acceptable ratio of new to old.
        rollback: e-value and bound of the rollback test that is nearer to its bound, such as "3.1/1000".
        promotion: e-value and bound at the gates, such as "14/20"; empty for a guard.
        p_value: anytime p-value of "the new side is acceptable", corrected for tests and metrics; a rollback
            happens when it falls to `rollback_alpha`.
        blocks: blocks, or pairs of scores, that compared both sides.
        silent: blocks in a row without data.
        n_old: requests or scores of the old side.
        n_new: requests or scores of the new side.
        missing: new-side requests (or pairs) that the gates probably still need; None if it cannot be said.
    """

    name: MetricName
    verdict: Verdict
    guard_only: bool
    passed: bool
    old: float | None
    new: float | None
    interval: tuple[float, float]
    margin: float
    rollback: str
    promotion: str
    p_value: float
    blocks: int
    silent: int
    n_old: int
    n_new: int
    missing: int | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the evidence says at one moment.

    Attributes:
        verdict: Worse: roll back. NotWorse or Better: the gates are open. Undecided: go on, or hold.
        reason: why; `MetricsUnavailable` means hold.
        evidence: what was judged.
        metrics: figures for each metric that ever had data.
        enough: whether this step has its fewest requests on both sides.
    """

    verdict: Verdict
    reason: Reason
    evidence: Evidence
    metrics: tuple[MetricReport, ...]
    enough: bool

    @property
    def must_roll_back(self) -> bool:
        """Whether a regression is proven."""
        return self.verdict is Verdict.Worse

    @property
    def gates_open(self) -> bool:
        """Whether every metric shows that the new side is within its margin."""
        return self.reason.code is ReasonCode.EqualOrBetterProven

    @property
    def must_hold(self) -> bool:
        """Whether weights stay as they are until a source is back."""
        return self.reason.code is ReasonCode.MetricsUnavailable


def judge(evidence: Evidence, settings: AnalysisSettings) -> Judgement:
    """Judge a swap on what is known."""
    reports = tuple(_report(metric, evidence, settings) for metric in evidence.metrics if metric.seen)
    enough = min(evidence.step_new, evidence.step_old) >= settings.min_requests
    verdict, reason = _decision(reports, evidence, settings, enough=enough)
    return Judgement(verdict, reason, evidence, reports, enough)


def _decision(
    reports: tuple[MetricReport, ...], evidence: Evidence, settings: AnalysisSettings, *, enough: bool
) -> tuple[Verdict, Reason]:
    if worse := [each for each in reports if each.verdict is Verdict.Worse]:
        message = "; ".join(f"{_named(each)}, evidence {each.rollback}, p {each.p_value:.2g}" for each in worse)
        return Verdict.Worse, Reason(ReasonCode.RegressionProven, f"The new side is worse: {message}.")
    if silent := [each for each in reports if each.silent > settings.max_silent]:
        message = ", ".join(f"{each.name} for {each.silent} blocks" for each in silent)
        return Verdict.Undecided, Reason(ReasonCode.MetricsUnavailable, f"No data that compares both sides: {message}.")
    if not enough:
        message = (
            f"This step has {evidence.step_new} requests on the new side and {evidence.step_old} on the old, "
            f"of at least {settings.min_requests} each."
        )
        return Verdict.Undecided, Reason(ReasonCode.TooFewRequests, message)
    asked = [each for each in reports if not each.guard_only]
    if undecided := [each for each in asked if not each.passed]:
        message = "; ".join(f"{_named(each)}, evidence {each.promotion}{_estimate(each)}" for each in undecided)
        return Verdict.Undecided, Reason(ReasonCode.EvidenceUndecided, f"More requests are needed: {message}.")
    if not asked:
        message = "No metric that the gates ask for has a source yet."
        return Verdict.Undecided, Reason(ReasonCode.EvidenceUndecided, message)
    message = "; ".join(f"{_named(each)}, evidence {each.promotion}" for each in asked)
    better = any(each.verdict is Verdict.Better for each in asked)
    verdict = Verdict.Better if better else Verdict.NotWorse
    return verdict, Reason(ReasonCode.EqualOrBetterProven, f"The new side is within every margin: {message}.")


def _report(metric: MetricEvidence, evidence: Evidence, settings: AnalysisSettings) -> MetricReport:
    guard_only = metric.name in settings.guard_only
    figures = _score_figures(metric) if isinstance(metric, ScoreEvidence) else _count_figures(metric, settings)
    tests = _tests(metric, evidence, settings)
    # How far the nearer of the two tests ever got beyond its bound; Ville's inequality is about the highest value.
    excess = max(wealth.highest - bound for wealth, bound in tests)
    nearer, its_bound = max(tests, key=lambda test: test[0].log_e - test[1])
    gate = metric.gate.wealth.log_e
    passed = not guard_only and gate >= settings.gate_bound
    interval = metric.interval.bounds()
    return MetricReport(
        name=metric.name,
        verdict=_verdict(interval, worse=excess >= 0.0, passed=gate >= settings.gate_bound),
        guard_only=guard_only,
        passed=passed,
        old=figures.old,
        new=figures.new,
        interval=interval,
        margin=settings.margin(metric.name),
        rollback=_e_text(nearer.log_e, its_bound),
        promotion="" if guard_only else _e_text(gate, settings.gate_bound),
        p_value=anytime_p(excess - log(settings.rollback_alpha)),
        blocks=figures.blocks,
        silent=0 if isinstance(metric, ScoreEvidence) else metric.silent,
        n_old=figures.n_old,
        n_new=figures.n_new,
        missing=None if guard_only else _missing(metric, figures, settings),
    )


@dataclass(frozen=True, slots=True)
class _Figures:
    old: float | None
    new: float | None
    n_old: int
    n_new: int
    blocks: int


def _score_figures(metric: ScoreEvidence) -> _Figures:
    n = metric.gate.n
    return _Figures(metric.old_total / n, metric.new_total / n, n, n, n)


def _count_figures(metric: CountEvidence, settings: AnalysisSettings) -> _Figures:
    n_old, n_new = sum(past.old for past in metric.pasts), sum(past.new for past in metric.pasts)
    if metric.name in LATENCY_METRICS:
        old = Histogram.merged(metric.sketches).quantile(settings.latency_quantile)
        return _Figures(old, metric.shown.quantile(settings.latency_quantile), n_old, n_new, metric.blocks)
    old_ok, new_ok = sum(past.old_ok for past in metric.pasts), sum(past.new_ok for past in metric.pasts)
    if metric.name is MetricName.ERRORS:
        old_ok, new_ok = n_old - old_ok, n_new - new_ok
    return _Figures(_share(old_ok, n_old), _share(new_ok, n_new), n_old, n_new, metric.blocks)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _tests(metric: MetricEvidence, evidence: Evidence, settings: AnalysisSettings) -> tuple[tuple[Wealth, float], ...]:
    """The rollback tests of the step and of the swap, each with its bound."""
    if isinstance(metric, ScoreEvidence):
        step, swap = metric.step.wealth, metric.swap.wealth
    else:
        step, swap = metric.step, metric.swap
    return (step, settings.step_bound(evidence.sources)), (swap, settings.swap_bound(evidence.sources))


def _verdict(interval: tuple[float, float], *, worse: bool, passed: bool) -> Verdict:
    if worse:
        return Verdict.Worse
    if interval[0] > 0.0:
        return Verdict.Better
    return Verdict.NotWorse if passed else Verdict.Undecided


def _missing(metric: MetricEvidence, figures: _Figures, settings: AnalysisSettings) -> int | None:
    """New-side requests, or pairs, until the gate's bound at the speed so far."""
    if isinstance(metric, ScoreEvidence):
        growth, each = metric.gate.growth(-settings.quality_ratio, SCORE_STAKE), 1.0
    else:
        growth = metric.gate.growth(metric.lowest_gain(settings), BLOCK_STAKE)
        each = figures.n_new / max(1, figures.blocks)
    return requests_until(settings.gate_bound, metric.gate.wealth.log_e, growth, each)


def _e_text(log_e: float, bound: float) -> str:
    """An e-value and its bound as people read them: two digits are all that carries meaning."""
    return f"{_rounded(log_e)}/{_rounded(bound)}"


def _rounded(log_e: float) -> str:
    if log_e > 20.0:
        return f"{exp(min(log_e, 700.0)):.1e}"
    value = exp(log_e)
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"


def _named(report: MetricReport) -> str:
    old = "?" if report.old is None else f"{report.old:.4g}"
    new = "?" if report.new is None else f"{report.new:.4g}"
    return f"{report.name} old {old}, new {new}"


def _estimate(report: MetricReport) -> str:
    return f", about {report.missing} more on the new side" if report.missing else ""
