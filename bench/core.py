"""Measures the operations that must be cheap: `python -m bench.core [--repeats N]`.

Prints the median of the repeats of each figure beside the figure to hold, and all four on the last line. Medians,
because the machine is shared and the best run of many says nothing about the next.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arbiter.api import crd
from arbiter.core.analysis_settings import AnalysisSettings
from arbiter.core.evidence import Evidence
from arbiter.core.histogram import Histogram
from bench.traffic_model import Arm, Steady, always

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        name: what was done once.
        limit_s: what it must stay below.
        median_s: what it took, in seconds.
    """

    name: str
    limit_s: float
    median_s: float

    def __str__(self) -> str:
        return f"{self.name} {_readable(self.median_s)} (below {_readable(self.limit_s)})"


def _readable(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def median_time(act: Callable[[], object], times: int, repeats: int) -> float:
    """Seconds for one call, as the median over repeats of `times` calls each."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(times):
            act()
        taken.append((time.perf_counter() - began) / times)
    return statistics.median(taken)


def evidence_block(repeats: int) -> float:
    """One block of 5 requests a second at equal weights, four metrics, five strata, evidence half an hour old."""
    settings = AnalysisSettings()
    steady = Steady(always(Arm(0.97, 1.0)), always(Arm(0.97, 1.0)), rate=5.0, hours=9.0)
    blocks = [block for step, block in steady.blocks(np.random.default_rng(1)) if step == 4][:40]
    evidence = Evidence.begin(settings, 0)
    for block in blocks[:30]:
        evidence = evidence.observe(block, settings)
    return median_time(lambda: evidence.observe(blocks[30], settings), 100, repeats)


def histogram_add(repeats: int) -> float:
    """One duration into a histogram that has many."""
    durations = np.random.default_rng(1).lognormal(-1.0, 0.6, 10_000).tolist()
    histogram = Histogram()

    def add_all() -> None:
        add = histogram.add
        for duration in durations:
            add(duration)

    return median_time(add_all, 1, repeats) / len(durations)


def histogram_merge(repeats: int) -> float:
    """Eight histograms of 2,000 durations each into one."""
    rng = np.random.default_rng(1)
    eight = []
    for _ in range(8):
        histogram = Histogram()
        for duration in rng.lognormal(-1.0, 0.6, 2_000).tolist():
            histogram.add(duration)
        eight.append(histogram)
    return median_time(lambda: Histogram.merged(eight), 100, repeats)


def schema_generation(repeats: int) -> float:
    """The definitions of all kinds, from their classes."""
    return median_time(crd.definitions, 1, min(repeats, 5))


def main() -> int:
    """Measure, print, and fail when a figure is not held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args().repeats
    figures = (
        Figure("evidence block", 500e-6, evidence_block(repeats)),
        Figure("histogram add", 1e-6, histogram_add(repeats)),
        Figure("merge of 8", 1e-3, histogram_merge(repeats)),
        Figure("schemas", 1.0, schema_generation(repeats)),
    )
    for figure in figures:
        print(figure)
    print("; ".join(str(figure) for figure in figures))
    return int(any(figure.median_s >= figure.limit_s for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
