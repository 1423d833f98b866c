"""Draws the plots of docs/evidence.md from a calibration run: small SVG files, the same for the same seed."""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from arbiter.core.analysis_settings import MetricName
from arbiter.core.count_evidence import CountEvidence
from bench.fixed_rules import FIXED_RAMPS, RATES, RULES, false_rollbacks
from bench.ramps import judged
from bench.scenarios import SUCCESS_ONLY
from bench.traffic_model import Arm, Steady, always

mpl.use("Agg")
import matplotlib.pyplot as plt  # after the choice of a backend without a screen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.figure import Figure

    from bench.claims import Result

STYLE: Any = {
    "svg.hashsalt": "arbiter",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw_all(folder: Path, results: Mapping[str, Result], seed: int) -> None:
    """Write all plots."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        drawings = {
            "calibration-fixed-rules": fixed_rules(results, seed),
            "calibration-detection": detection(results),
            "calibration-path": path(seed),
            "calibration-drift": drift(seed),
            "calibration-load": load(results),
        }
        for name, figure in drawings.items():
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")
            plt.close(figure)


def fixed_rules(results: Mapping[str, Result], seed: int) -> Figure:
    """How often rules with fixed thresholds roll back an identical model, by traffic."""
    figure, axes = plt.subplots(figsize=(6.4, 3.0))
    width = 0.2
    places = np.arange(len(RATES))
    for i, (name, rule) in enumerate(RULES.items()):
        shares = [100 * false_rollbacks(rule, rate, FIXED_RAMPS, seed) for rate in RATES]
        axes.bar(places + (i - 1.5) * width, shares, width, label=name)
    ours = [results.get(f"identical, success 0.97, {rate:g} req/s") for rate in RATES]
    shares = [100 * each.rolled_back / len(each.outcomes) if each else 0.0 for each in ours]
    axes.bar(places + 1.5 * width, shares, width, label="Arbiter", color="black")
    for place, share in zip(places, shares, strict=True):
        axes.annotate(f"{share:.0f} %", (place + 1.5 * width, share), ha="center", va="bottom", fontsize=8)
    axes.set_xticks(places, [f"{rate:g} requests/s" for rate in RATES])
    axes.set_ylabel("identical models rolled back, %")
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def detection(results: Mapping[str, Result]) -> Figure:
    """How many requests of the new side it takes to find a worse success rate."""
    figure, axes = plt.subplots(figsize=(6.4, 3.0))
    ratios = (0.93, 0.9, 0.8, 0.5)
    kinds = {
        "success alone, one test": "ratio {:g}",
        "success, α as among four metrics": "ratio {:g}, α split as for K 4, S 10",
        "success and error guard, α split": "ratio {:g}, α split (K 2, S 10)",
    }
    for label, form in kinds.items():
        known = [
            (ratio, results[form.format(ratio)].found_after()) for ratio in ratios if form.format(ratio) in results
        ]
        if known:
            axes.plot(*zip(*known, strict=True), marker="o", label=label)
    axes.set_yscale("log")
    axes.invert_xaxis()
    axes.set_xlabel("true ratio of success, new to old (old 0.97)")
    axes.set_ylabel("median new-side requests")
    axes.legend(frameon=False, fontsize=8)
    return figure


def path(seed: int) -> Figure:
    """The evidence of two single ramps: an identical model, and one with 0.9 of the old side's success."""
    figure, (rollback, gate) = plt.subplots(1, 2, figsize=(6.4, 2.8))
    for label, ratio in (("identical", 1.0), ("ratio 0.90", 0.9)):
        steady = Steady(always(Arm(0.97)), always(Arm(0.97 * ratio)))
        hours, swap_logs, gate_logs = [], [], []
        for block, judgement in judged(steady.blocks(np.random.default_rng(seed)), SUCCESS_ONLY):
            success = judgement.evidence.metrics[0]
            if not isinstance(success, CountEvidence):
                raise TypeError(MetricName.SUCCESS)
            hours.append(block.end_ms / 3.6e6)
            swap_logs.append(exp(max(success.swap.log_e, -20.0)))
            gate_logs.append(exp(max(success.gate.wealth.log_e, -20.0)))
            if judgement.must_roll_back or hours[-1] > 3.0:
                break
        rollback.plot(hours, swap_logs, label=label)
        gate.plot(hours, gate_logs, label=label)
    for axes, bound, title in (
        (rollback, exp(SUCCESS_ONLY.swap_bound(1)), "towards rollback, whole swap"),
        (gate, exp(SUCCESS_ONLY.gate_bound), "towards the gates"),
    ):
        axes.axhline(bound, color="black", linestyle="--", linewidth=0.8)
        axes.set_yscale("log")
        axes.set_ylim(1e-6, 1e5)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("hours")
    rollback.set_ylabel("e-value")
    gate.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def drift(seed: int) -> Figure:
    """Two identical sides whose success drops half-way: compared hour by hour, and pooled over the ramp."""
    figure, axes = plt.subplots(figsize=(6.4, 2.8))

    def drop(passed: float) -> Arm:
        return Arm(0.98 if passed < 0.5 else 0.85)

    counts = np.zeros((9, 4))
    for step, block in Steady(drop, drop).blocks(np.random.default_rng(seed)):
        counts[step] += (block.new.ok, block.new.judged, block.old.ok, block.old.judged)
    sums = counts.cumsum(axis=0)
    hours = np.arange(1, 10)
    axes.plot(hours, (counts[:, 0] / counts[:, 1]) / (counts[:, 2] / counts[:, 3]), marker="o", label="within the hour")
    axes.plot(hours, (sums[:, 0] / sums[:, 1]) / (sums[:, 2] / sums[:, 3]), marker="s", label="pooled since the start")
    axes.axhline(0.95, color="black", linestyle="--", linewidth=0.8, label="margin")
    axes.set_xlabel("hours")
    axes.set_ylabel("success, new to old")
    axes.legend(frameon=False, fontsize=8)
    return figure


def load(results: Mapping[str, Result]) -> Figure:
    """Identical models rolled back for their latency, by how load is taken into account."""
    figure, axes = plt.subplots(figsize=(6.4, 1.8))
    kinds = {
        "not at all (pooled)": "pooled, 70% utilisation, 5 req/s",
        "load met at routing": "by load at routing, 70%, 5 req/s",
        "mean load while timed": "identical, 70% utilisation, 5 req/s",
    }
    known = {label: results[name] for label, name in kinds.items() if name in results}
    shares = [100 * each.rolled_back / len(each.outcomes) for each in known.values()]
    bars = axes.barh(list(known), shares, color="tab:blue")
    axes.bar_label(
        bars, [f"{each.rolled_back} of {len(each.outcomes)}" for each in known.values()], padding=3, fontsize=8
    )
    axes.set_xlim(0, 115)
    axes.set_xlabel("identical models rolled back, %")
    axes.invert_yaxis()
    return figure
