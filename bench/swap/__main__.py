"""Measures swaps on a real cluster: `python -m bench.swap [--repeats N] [--loaded]`.

Two measurements in a namespace each, with an operator that runs as a process on this machine: how fast requests move
between models that are there, and what a swap to a model that is not there yet takes. A cluster that is up is used and
left; else one is brought up, as root, and taken down in the end.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

from bench.operator import ground
from bench.router.figures import spread, table
from bench.swap import cold, resident
from devcluster.images import built
from devcluster.pushing import Registry
from tests.e2e.serving.operators import operators
from tests.e2e.serving.wishes import REGISTRY
from tests.e2e.swap.upstream import upstream

LEAST_FOR_A_TAIL = 20
"""Values from which on a 95th percentile is one of them and not the longest."""


def main() -> None:
    """Measure, and print the figures as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.swap", description="Measure swaps on a real cluster.")
    parser.add_argument("--repeats", type=int, default=30, help="how often requests move each way")
    parser.add_argument("--loaded", action="store_true", help="the images are in the cluster already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ground.cluster() as cluster:
        if not options.loaded:
            ground.load_images()
        busy = os.getloadavg()[0]
        with ground.place(cluster, "bench-swap-resident") as place, operators(place, Path(folder)) as started:
            started.start()
            with upstream() as models:
                moves = resident.measured(place, models, options.repeats, _say)
        Registry(REGISTRY).push(built.archive("smollm2"), "models/smollm2", "1")
        with ground.place(cluster, "bench-swap-cold") as place, operators(place, Path(folder)) as started:
            started.start()
            found = []
            for number in range(max(options.repeats // 6, 1)):
                _say(f"cold, {number + 1} of {max(options.repeats // 6, 1)}")
                found.append(cold.measured(place, number))
    print(f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}; load {busy:.1f}")
    print(_told(moves))
    print()
    print(_told_cold(found))
    print()
    ours = statistics.median(each.ours for each in found)
    print(
        f"promote p95 {_p95(moves.promoted):.0f} ms; rollback p95 {_p95(moves.rolled_back):.0f} ms; "
        f"cold swap ours {ours * 1000:.0f} ms; failed {moves.failed}"
    )


def _told(moves: resident.Moves) -> str:
    rows = [
        ("told to promote; both routers send everything to the new model", moves.promoted),
        ("told to go back; both routers send everything to what served before", moves.undone),
        ("a regression is decided; both routers send everything to the old model", moves.rolled_back),
    ]
    lines = [
        [what, str(len(values)), f"{statistics.median(values) * 1000:.0f} ms", f"{_p95(values):.0f} ms",
         f"{max(values) * 1000:.0f} ms"]
        for what, values in rows
    ]  # fmt: skip
    head = ["models that are there, under traffic", "times", "median", "p95", "longest"]
    return f"{table(head, lines)}\n\n{moves.requests:,} requests meanwhile, {moves.failed} failed"


def _told_cold(found: list[cold.Cold]) -> str:
    lines = [
        [what, whose, spread([each.parts[index] for each in found], 1, "s")]
        for index, (what, whose) in enumerate(cold.PARTS)
    ]
    lines.append(["**asked for to first requests**", "", f"**{spread([sum(each.parts) for each in found], 1, 's')}**"])
    lines.append(["**of which ours**", "", f"**{spread([each.ours for each in found], 1, 's')}**"])
    return table([f"a model that is not there yet; {len(found)} times", "whose", "seconds"], lines)


def _p95(values: tuple[float, ...]) -> float:
    """Give the 95th percentile in milliseconds; of few values the longest."""
    if len(values) < LEAST_FOR_A_TAIL:
        return max(values) * 1000
    return statistics.quantiles(values, n=20)[18] * 1000


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
