"""The situations that the calibration simulates, each with the settings it is judged under.

`ALONE` is one metric, one test and no tempering: the conditions under which the reference states its sizes. Other
scenarios use the defaults, with α split over metrics, steps and the whole swap as in a real swap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from arbiter.core.analysis_settings import AnalysisSettings, MetricName
from bench.ramps import Outcome, run_ramp, run_scores
from bench.traffic_model import Arm, Queued, Steady, always, grouped_scores, paired_scores, pooled

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

COUNTS = AnalysisSettings(metrics=(MetricName.SUCCESS, MetricName.ERRORS))
SUCCESS_ONLY = replace(COUNTS, metrics=COUNTS.metrics[:1])
ALL = AnalysisSettings()
QUEUES = AnalysisSettings(steps=9)
FIRST_TOKEN_QUEUES = replace(QUEUES, metrics=(MetricName.SUCCESS, MetricName.ERRORS, MetricName.FIRST_TOKEN))


def alone(metric: MetricName) -> AnalysisSettings:
    """One metric, one test over the whole swap, no tempering: K = S = 1."""
    return AnalysisSettings(metrics=(metric,), guard_only=(), steps=1, swap_share=1.0, temper=False)


SUCCESS_ALONE = alone(MetricName.SUCCESS)
RAW = replace(SUCCESS_ALONE, block_share=1e9)
RAW_SPLIT = replace(SUCCESS_ONLY, temper=False, block_share=1e9)
LATENCY_ALONE = alone(MetricName.FIRST_TOKEN)
QUALITY_ALONE = alone(MetricName.QUALITY)


@dataclass(frozen=True)
class Scenario:
    """One situation.

    Attributes:
        group: which claim it belongs to.
        name: what it is, in the table.
        ramps: how many in a full run.
        run: one ramp.
        quick: how many in a quick run.
    """

    group: str
    name: str
    ramps: int
    run: Callable[[Generator], Outcome]
    quick: int = 0


def _ramp(
    steady: Steady | Queued, settings: AnalysisSettings, *, to_gate: bool = False
) -> Callable[[Generator], Outcome]:
    return lambda rng: run_ramp(steady.blocks(rng), settings, to_gate=to_gate)


def _pooled_ramp(queued: Queued, settings: AnalysisSettings) -> Callable[[Generator], Outcome]:
    return lambda rng: run_ramp(((step, pooled(block)) for step, block in queued.blocks(rng)), settings)


def _pair(success: float, ratio: float, rate: float = 1.0, clustering: float = 0.0) -> Steady:
    return Steady(always(Arm(success)), always(Arm(success * ratio)), rate=rate, clustering=clustering)


def _slower(factor: float, *, strata: bool = False) -> Steady:
    old = Arm(1.0, 1.0) if strata else Arm(1.0, 1.0, (1.0, 0.0, 0.0, 0.0, 0.0))
    return Steady(always(old), always(replace(old, slowness=factor)))


def _drift(passed: float) -> Arm:
    """Both sides of Simpson's case: an outage elsewhere lowers everyone's success half-way."""
    return Arm(0.98 if passed < 0.5 else 0.85)


def _paired(ratio: float, n: int) -> Callable[[Generator], Outcome]:
    return lambda rng: run_scores(paired_scores(rng, n, (0.7 * ratio, 0.7), 0.7), QUALITY_ALONE)


def _grouped(ratio: float, old_for_each: int, n: int) -> Callable[[Generator], Outcome]:
    return lambda rng: run_scores(grouped_scores(rng, n, (0.7 * ratio, 0.7), old_for_each), QUALITY_ALONE)


def _identical() -> list[Scenario]:
    counts = [
        Scenario("identical", f"identical, success {p}, {rate:g} req/s", 200, _ramp(_pair(p, 1.0, rate), COUNTS), quick)
        for p in (0.9, 0.97, 0.999)
        for rate, quick in ((0.2, 200), (1.0, 200), (5.0, 200))
    ]
    slow = Steady(always(Arm(0.97, 1.0)), always(Arm(0.97, 1.0)))
    timed = [
        Scenario(
            "identical", f"identical with latencies, {rate:g} req/s", 120, _ramp(replace(slow, rate=rate), ALL), 60
        )
        for rate in (0.5, 2.0)
    ]
    return [*counts, *timed]


def _success() -> list[Scenario]:
    found = []
    for ratio, ramps in ((0.93, 300), (0.9, 600), (0.8, 600), (0.5, 600)):
        quick = 60 if ratio == 0.9 else 0
        steady = _pair(0.97, ratio)
        found += [
            Scenario("success", f"ratio {ratio:g}", ramps, _ramp(steady, SUCCESS_ALONE), quick),
            Scenario("success-raw", f"ratio {ratio:g}, no limit for a block", ramps, _ramp(steady, RAW)),
            Scenario("success-split", f"ratio {ratio:g}, α split (K 2, S 10)", ramps, _ramp(steady, COUNTS)),
            Scenario("success-split4", f"ratio {ratio:g}, α split as for K 4, S 10", ramps, _ramp(steady, _as_if(4))),
        ]
    margin = _pair(0.97, 0.95)
    return [
        *found,
        Scenario(
            "margin",
            "ratio 0.95, the margin itself",
            400,
            _ramp(margin, SUCCESS_ONLY),
            12,
        ),
        Scenario("gate", "equal: gate", 300, _ramp(_pair(0.97, 1.0), SUCCESS_ALONE, to_gate=True)),
        Scenario("gate", "ratio 0.97: gate", 200, _ramp(_pair(0.97, 0.97), SUCCESS_ALONE, to_gate=True)),
        Scenario("gate-quiet", "equal at 0.05 req/s", 200, _ramp(_pair(0.97, 1.0, 0.05), COUNTS)),
        Scenario("errors", "old 0.1 %, errors ×30", 200, _ramp(_pair(0.999, 0.97 / 0.999), COUNTS)),
        Scenario("errors", "old 1 %, errors ×5", 200, _ramp(_pair(0.99, 0.95 / 0.99), COUNTS)),
        Scenario("errors-margin", "old 1 %, errors ×2, the guard itself", 400, _ramp(_pair(0.99, 0.98 / 0.99), COUNTS)),
    ]


def _as_if(metrics: int) -> AnalysisSettings:
    """One metric judged with the α that it would have among several."""
    return replace(SUCCESS_ONLY, rollback_alpha=COUNTS.rollback_alpha / metrics)


def _bursts() -> list[Scenario]:
    found = []
    for rho in (0.05, 0.2):
        within, margin = _pair(0.97, 0.97, clustering=rho), _pair(0.97, 0.95, clustering=rho)
        found += [
            Scenario("bursts", f"bursts {rho:g}, ratio 0.97", 200, _ramp(within, SUCCESS_ONLY), 12),
            Scenario("bursts-errors", f"bursts {rho:g}, ratio 0.97, with the error guard", 200, _ramp(within, COUNTS)),
            Scenario(
                "bursts-equal", f"bursts {rho:g}, identical", 200, _ramp(_pair(0.97, 1.0, clustering=rho), COUNTS)
            ),
            Scenario("bursts-raw", f"bursts {rho:g}, ratio 0.97, raw counts", 200, _ramp(within, RAW_SPLIT)),
            Scenario(
                "bursts-margin", f"bursts {rho:g}, ratio 0.95, gate", 400, _ramp(margin, SUCCESS_ONLY, to_gate=True), 20
            ),
            Scenario(
                "bursts-found", f"bursts {rho:g}, ratio 0.8", 100, _ramp(_pair(0.97, 0.8, clustering=rho), COUNTS)
            ),
        ]
    return found


def _load() -> list[Scenario]:
    busy = Queued(rate=5.0)
    return [
        Scenario("drift", "both drop from 0.98 to 0.85", 300, _ramp(Steady(_drift, _drift), COUNTS), 80),
        *(
            Scenario("load", f"identical, {u:.0%} utilisation, 2 req/s", ramps, _ramp(Queued(u), QUEUES), quick)
            for u, ramps, quick in ((0.5, 60, 0), (0.7, 400, 10), (0.85, 60, 0))
        ),
        Scenario("load", "identical, 70% utilisation, 5 req/s", 60, _ramp(busy, QUEUES), 0),
        Scenario("load-pooled", "pooled, 70% utilisation, 5 req/s", 40, _pooled_ramp(busy, QUEUES), 8),
        Scenario(
            "load-routing", "by load at routing, 70%, 5 req/s", 40, _ramp(replace(busy, at_routing=True), QUEUES), 0
        ),
        *_later("1.6× slower", Queued(utilisation=0.5, slowdown=1.6), FIRST_TOKEN_QUEUES, (300, 0)),
        *_later("success × 0.9", Steady(always(Arm(0.97)), _fault), COUNTS, (300, 12)),
    ]


def _later(
    what: str, model: Steady | Queued, settings: AnalysisSettings, ramps: tuple[int, int]
) -> tuple[Scenario, ...]:
    """A fault that begins half-way, met by a test per step, by one product over the swap, and by both."""
    kinds = (("test per step", 0.0), ("one product over the swap", 1.0), ("both, the default", settings.swap_share))
    full, quick = ramps
    return tuple(
        Scenario(
            "later", f"{what} from half time, {kind}", full, _ramp(model, replace(settings, swap_share=share)), quick
        )
        for kind, share in kinds
    )


def _fault(passed: float) -> Arm:
    return Arm(0.97 * (0.9 if passed >= 0.5 else 1.0))


def _latency() -> list[Scenario]:
    return [
        *(
            Scenario("latency", f"p95 ×{factor:g}", ramps, _ramp(_slower(factor), LATENCY_ALONE))
            for factor, ramps in ((1.3, 60), (1.5, 200), (2.0, 200), (3.0, 200))
        ),
        *(
            Scenario(
                "latency-strata",
                f"p95 ×{factor:g}, over five strata",
                100,
                _ramp(_slower(factor, strata=True), LATENCY_ALONE),
            )
            for factor in (1.5, 2.0, 3.0)
        ),
        Scenario("latency-split", "p95 ×1.5, α split as for K 4, S 10", 100, _ramp(_slower(1.5), _latency_split())),
        Scenario("latency-gate", "p95 equal: gate", 60, _ramp(_slower(1.0), LATENCY_ALONE, to_gate=True)),
        Scenario("latency-margin", "p95 ×1.2, the margin itself", 120, _ramp(_slower(1.2), _latency_split(1))),
    ]


def _latency_split(metrics: int = 4) -> AnalysisSettings:
    return replace(ALL, metrics=(MetricName.FIRST_TOKEN,), rollback_alpha=ALL.rollback_alpha / metrics)


def _quality() -> list[Scenario]:
    grouped = ((0.93, 9000, 100), (0.9, 4000, 300), (0.85, 2000, 300), (0.8, 2000, 300))
    paired = ((0.9, 4000, 300), (0.85, 2000, 300))
    return [
        *(Scenario("quality", f"quality {q:g}, 9 old for each new", n, _grouped(q, 9, most)) for q, most, n in grouped),
        *(
            Scenario("quality", f"quality {q:g}, one old for each new", n, _grouped(q, 1, most))
            for q, most, n in grouped[1:]
        ),
        *(Scenario("quality", f"quality {q:g}, paired, ρ 0.7", n, _paired(q, most)) for q, most, n in paired),
        Scenario("quality-gate", "quality equal, 9 old for each new", 200, _grouped(1.0, 9, 1500)),
        Scenario("quality-gate", "quality 0.98, 9 old for each new", 200, _grouped(0.98, 9, 3000)),
        Scenario("quality-gate", "quality equal, paired, ρ 0.7", 200, _paired(1.0, 1500)),
        Scenario("quality-margin", "quality 0.95, the margin itself", 400, _grouped(0.95, 1, 2000), 30),
    ]


SCENARIOS = (*_identical(), *_success(), *_bursts(), *_load(), *_latency(), *_quality())
"""All of them; `calibration` groups and claims."""
