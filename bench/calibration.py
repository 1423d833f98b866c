"""Simulates whole ramps through the real evidence and checks what the project claims about it.

    python -m bench.calibration [--quick] [--seed N] [--processes N] [--ramps FACTOR] [--report FILE] [--plots DIR]

Draws a seed when none is given and prints it first, so that any run can be repeated. Exits with 1 when a claim
fails. `--sabotage` breaks the evidence on purpose: then claims must fail, or the calibration itself is worthless.
"""

from __future__ import annotations

import argparse
import multiprocessing
import secrets
import shlex
import sys
import time
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from arbiter.core import count_evidence
from arbiter.core.eprocess import worse_log_e
from bench import fixed_rules, plots
from bench.claims import Result, claims, identical_counts
from bench.scenarios import SCENARIOS, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.claims import Claim
    from bench.ramps import Outcome

BATCH = 10
"""Ramps per task: small enough that both processes end together."""

SABOTAGES: dict[str, Callable[[float], float]] = {
    "generous": lambda gain: gain + 0.1,
    "deaf": lambda gain: min(gain, 0.0),
}
"""Ways to break the e-value of a block: one convicts everybody, the other nobody."""


def run_batch(task: tuple[int, int, int]) -> tuple[int, list[Outcome]]:
    """So many ramps of one scenario, from a seed of their own."""
    index, ramps, seed = task
    rng = np.random.default_rng((seed, index, ramps))
    return index, [SCENARIOS[index].run(rng) for _ in range(ramps)]


def simulate(chosen: Mapping[int, int], seed: int, processes: int) -> dict[str, Result]:
    """All chosen scenarios, by name. The outcome depends on the seed alone, not on the number of processes."""
    tasks = [
        (index, min(BATCH, ramps - start), seed * 1_000_003 + start)
        for index, ramps in chosen.items()
        for start in range(0, ramps, BATCH)
    ]
    outcomes: dict[int, list[Outcome]] = {index: [] for index in chosen}
    # Forked, so that a sabotage reaches the workers too.
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for index, batch in pool.imap(run_batch, tasks):
            outcomes[index] += batch
    return {SCENARIOS[index].name: Result(SCENARIOS[index], found) for index, found in outcomes.items()}


def table(results: Mapping[str, Result]) -> list[str]:
    """The results as a Markdown table."""
    lines = [
        "| scenario | ramps | rolled back | requests | hours | gates passed | requests | hours |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, result in results.items():
        cells = (
            name,
            str(len(result.outcomes)),
            f"{result.rolled_back / len(result.outcomes):.1%}",
            _number(result.found_after()),
            _number(result.found_minutes() / 60, ".1f"),
            f"{result.passed / len(result.outcomes):.1%}",
            _number(result.gate_after()),
            _number(result.gate_minutes() / 60, ".1f"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _number(value: float, form: str = ".0f") -> str:
    return format(value, form) if isfinite(value) and value else ""


def last_line(results: Mapping[str, Result]) -> str:
    """The figures that others read."""
    wrong, ramps = identical_counts(results)
    return (
        f"identical rolled back {wrong} of {ramps}; "
        f"ratio 0.90 found after a median of {results['ratio 0.9'].found_after():.0f} candidate requests"
    )


def write_report(path: Path, seed: int, seconds: float, lines: Sequence[str]) -> None:
    """Keep the run as a dated Markdown file."""
    command = shlex.join(["python", "-m", "bench.calibration", *_arguments_of_report(seed)])
    head = [
        f"# Calibration, {time.strftime('%Y-%m-%d')}",
        "",
        f"`{command}`, {seconds / 60:.0f} minutes. Requests are the new side's, or pairs of",
        "scores. Medians; a ramp in which nothing was found counts as infinite, and then the cell is empty.",
        "",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*head, *lines]) + "\n")


def _arguments_of_report(seed: int) -> list[str]:
    given = [each for each in sys.argv[1:] if not each.startswith("--seed")]
    if "--seed" in sys.argv:
        given.remove(sys.argv[sys.argv.index("--seed") + 1])
    return [*given, "--seed", str(seed)]


def sabotage(name: str) -> None:
    """Break the e-value of every block of counts in this process and those forked from it."""
    change = SABOTAGES[name]
    vars(count_evidence)["worse_log_e"] = lambda *given: change(worse_log_e(*given))


def main() -> int:
    """Simulate, print, write what was asked for, and say by the exit code whether every claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few ramps and wide limits")
    parser.add_argument("--seed", type=int, help="repeat a run")
    parser.add_argument(
        "--ramps", type=float, default=1.0, metavar="FACTOR", help="more or fewer ramps of each scenario"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--plots", type=Path)
    parser.add_argument("--sabotage", choices=sorted(SABOTAGES))
    given = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    if given.sabotage:
        sabotage(given.sabotage)
    began = time.monotonic()
    results = simulate(_chosen(given.ramps, quick=given.quick), seed, given.processes)
    found = claims(results, quick=given.quick)
    lines = [*table(results), "", *(f"- {claim}" for claim in found), ""]
    if not given.quick:
        lines += [*fixed_rules.table(fixed_rules.FIXED_RAMPS, seed), ""]
    print("\n".join(lines))
    if given.report:
        write_report(given.report, seed, time.monotonic() - began, [*lines, last_line(results)])
    if given.plots:
        plots.draw_all(given.plots, results, seed)
    print(f"{time.monotonic() - began:.0f} s")
    print(last_line(results))
    return _exit_code(found)


def _chosen(factor: float, *, quick: bool) -> dict[int, int]:
    """How many ramps of which scenario, by its place."""

    def wanted(scenario: Scenario) -> int:
        ramps = scenario.quick if quick else scenario.ramps
        return max(1, round(ramps * factor)) if ramps else 0

    return {index: ramps for index, scenario in enumerate(SCENARIOS) if (ramps := wanted(scenario))}


def _exit_code(found: Sequence[Claim]) -> int:
    return 0 if all(claim.holds for claim in found) else 1


if __name__ == "__main__":
    sys.exit(main())
