"""Replays thousands of ramps over what routers counted in real ones, and checks what the project claims about them.

    python -m bench.recorded [--recordings FILE ...] [--seed N] [--ramps FACTOR] [--processes N] [--report FILE]

The ramps of a soak (`bench.soak`) are between identical models, on a machine with other work. They are replayed as they
were, and new ones are drawn from them, at other lengths, loads and weights (`bench.resample`); each goes through what
decides in the operator. The same ramps with a fault planted in the new side must be rolled back, or the replay is
worthless. Draws a seed when none is given and prints it first. Exits with 1 when a claim fails.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import secrets
import shlex
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from arbiter.api.swappolicy import SwapPolicySpec
from arbiter.core.rollout import WATCHED
from bench import recordings
from bench.claims import Claim, Result, rare
from bench.replay import as_recorded, replayed
from bench.resample import Design, factor_of, failing, slower, stretches
from bench.scenarios import Scenario
from bench.soak.ramps import WEIGHTS, policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.random import Generator

    from bench.ramps import Outcome
    from bench.recordings import Recording
    from bench.resample import Stretch

RESULTS = Path(__file__).with_name("results")

BATCH = 10
"""Ramps per task: small enough that all processes end together."""

ALPHA = 0.01
"""How often an identical model may be rolled back: the default of `analysis.rollbackErrorRate`."""

FOUND = 0.9
"""Share of the ramps with a planted fault that have to be rolled back."""

TWO_STEPS = (*WEIGHTS, WATCHED)
"""The weights of the soak's own policy, the watch with them."""

NINE_STEPS = (10, 20, 30, 40, 50, 60, 70, 80, 90, WATCHED)
"""The weights of the built-in policy."""

SLOWER, WITHIN = 64, 9
"""Buckets that a planted slowness moves durations by: beyond the margin of 1.2, and within it."""


ERRORS = "errors in a tenth of the new side"
"""The fault whose name stands in the last line."""

IDENTICAL = ("recorded", "identical")
"""Groups in which the two sides are the same model."""


def scenarios(recorded: Sequence[Recording], there: Sequence[Stretch]) -> list[Scenario]:
    """Give all that is replayed. What has the same name belongs together, as the recorded ramps do."""
    spec = SwapPolicySpec.model_validate(policy()["spec"])

    def drawn(group: str, name: str, ramps: int, design: Design) -> Scenario:
        def run(rng: Generator) -> Outcome:
            return replayed(design.looks(rng, there), spec, len(design.weights))

        return Scenario(group, name, ramps, run)

    def real(recording: Recording) -> Scenario:
        return Scenario("recorded", "as recorded", 1, lambda _: replayed(as_recorded(recording), spec, len(TWO_STEPS)))

    two, nine = Design(TWO_STEPS, (120, 360)), Design(NINE_STEPS, (30, 120))
    beyond, within = f"× {factor_of(SLOWER):g}", f"× {factor_of(WITHIN):.2f}"
    return [
        *map(real, recorded),
        drawn("identical", "identical, two steps", 800, two),
        drawn("identical", "identical, two steps, the load of six ramps", 500, replace(two, sources=6)),
        drawn("identical", "identical, two steps, 2 % of both sides fail", 400, replace(two, both=failing(0.02))),
        drawn("identical", "identical, nine steps", 500, nine),
        drawn(
            "within", f"first token {within}, within the margin", 200, replace(two, fault=slower(first_token=WITHIN))
        ),
        drawn("fault", ERRORS, 200, replace(two, fault=failing(0.1))),
        drawn("fault", f"first token {beyond}", 200, replace(two, fault=slower(first_token=SLOWER))),
        drawn("fault", f"per token {beyond}", 200, replace(two, fault=slower(per_token=SLOWER))),
    ]


_replayed: list[Scenario] = []
"""What this process and those forked from it replay: recordings are too big to be sent to each of them."""


def run_batch(task: tuple[int, int, int]) -> tuple[int, list[Outcome]]:
    """So many ramps of one scenario, from a seed of their own."""
    index, ramps, seed = task
    rng = np.random.default_rng((seed, index, ramps))
    return index, [_replayed[index].run(rng) for _ in range(ramps)]


def simulate(chosen: Sequence[Scenario], factor: float, seed: int, processes: int) -> dict[str, Result]:
    """All of them, by name. The outcome depends on the seed alone, not on the number of processes."""
    _replayed[:] = chosen
    tasks = [
        (index, min(BATCH, ramps - start), seed * 1_000_003 + start)
        for index, scenario in enumerate(chosen)
        for ramps in (max(1, round(scenario.ramps * factor)),)
        for start in range(0, ramps, BATCH)
    ]
    results: dict[str, Result] = {}
    with ExitStack() as stack:
        pool = stack.enter_context(multiprocessing.get_context("fork").Pool(processes)) if processes > 1 else None
        for index, batch in map(run_batch, tasks) if pool is None else pool.imap(run_batch, tasks):
            scenario = chosen[index]
            before = results[scenario.name].outcomes if scenario.name in results else ()
            results[scenario.name] = Result(scenario, [*before, *batch])
    return results


def identical_counts(results: Mapping[str, Result]) -> tuple[int, int]:
    """How many identical models were rolled back, of how many."""
    same = [result for result in results.values() if result.scenario.group in IDENTICAL]
    return sum(result.rolled_back for result in same), sum(len(result.outcomes) for result in same)


def claims(results: Mapping[str, Result]) -> list[Claim]:
    """All claims: identical models stay, what is within the margin stays, what is at fault goes."""
    wrong, ramps = identical_counts(results)
    text = f"identical models rolled back {wrong} of {ramps}, to be at most {ALPHA:.0%}, the policy's rollbackErrorRate"
    found = [Claim(text, wrong <= ALPHA * ramps)]
    for result in results.values():
        count = len(result.outcomes)
        match result.scenario.group:
            case "within":
                found.append(rare(result, rollback=ALPHA))
            case "fault":
                text = (
                    f"{result.scenario.name}: rolled back {result.rolled_back} of {count}, to be at least {FOUND:.0%}"
                )
                found.append(Claim(text, result.rolled_back >= FOUND * count))
            case _:
                pass
    return found


def table(results: Mapping[str, Result]) -> list[str]:
    """The results as a Markdown table."""
    lines = [
        "| scenario | ramps | rolled back | requests | minutes | gates passed | requests | minutes |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, result in results.items():
        cells = (
            name,
            str(len(result.outcomes)),
            f"{result.rolled_back / len(result.outcomes):.1%}",
            _number(result.found_after()),
            _number(result.found_minutes(), ".1f"),
            f"{result.passed / len(result.outcomes):.1%}",
            _number(result.gate_after()),
            _number(result.gate_minutes(), ".1f"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _number(value: float, form: str = ".0f") -> str:
    return format(value, form) if isfinite(value) and value else ""


def last_line(results: Mapping[str, Result]) -> str:
    """The figures that others read."""
    wrong, ramps = identical_counts(results)
    return (
        f"on recorded slices, identical models rolled back: {wrong} of {ramps}; "
        f"{ERRORS} found after a median of {results[ERRORS].found_after():.0f} candidate requests"
    )


def told(recorded: Sequence[Recording], there: Sequence[Stretch]) -> str:
    """Say what the ramps are drawn from."""
    seconds = [second for stretch in there for second in stretch]
    requests = sum(second.old.routed + second.new.routed for second in seconds)
    rates = sorted(sum(each.old.routed + each.new.routed for each in stretch) / len(stretch) for stretch in there)
    return (
        f"{len(recorded)} ramps were recorded, and others drawn from {len(there)} of their steps: "
        f"{len(seconds):,} seconds with {requests:,} requests, from {rates[0]:.0f} to {rates[-1]:.0f} a second."
    )


def write_report(path: Path, command: Sequence[str], seconds: float, lines: Sequence[str]) -> None:
    """Keep the run as a dated Markdown file, with the command that repeats it."""
    head = [
        f"# Calibration on recorded slices, {time.strftime('%Y-%m-%d', time.gmtime())}",
        "",
        f"`{shlex.join(command)}`, {seconds / 60:.0f} minutes.",
        "Requests are the new side's. Medians; a ramp in which nothing was found counts as infinite, and then the cell",
        "is empty.",
        "",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*head, *lines]) + "\n")


def main() -> int:
    """Replay, print, write the report, and say by the exit code whether every claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, nargs="+", help="what a soak recorded; left out: the newest results")
    parser.add_argument("--seed", type=int, help="repeat a run")
    parser.add_argument("--ramps", type=float, default=1.0, metavar="FACTOR", help="more or fewer ramps of each kind")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--report", type=Path, help="where the report goes; left out: a dated file in the results")
    given = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    files = given.recordings or newest(RESULTS)
    recorded = [each for path in files for each in recordings.read(path)]
    there = stretches(recorded)
    results = simulate(scenarios(recorded, there), given.ramps, seed, given.processes)
    found = claims(results)
    lines = [told(recorded, there), "", *table(results), "", *(f"- {claim}" for claim in found), ""]
    print("\n".join(lines))
    dated = RESULTS / f"calibration-recorded-{time.strftime('%Y-%m-%d', time.gmtime())}.md"
    command = ["python", "-m", "bench.recorded", "--recordings", *map(_spelled, files), "--seed", str(seed)]
    command += [] if given.ramps == 1.0 else ["--ramps", f"{given.ramps:g}"]
    write_report(given.report or dated, command, time.monotonic() - began, [*lines, last_line(results)])
    print(f"{time.monotonic() - began:.0f} s")
    print(last_line(results))
    return 0 if all(claim.holds for claim in found) else 1


def _spelled(path: Path) -> str:
    """Give a path as people type it at the repository's root; of what lies elsewhere its name alone."""
    whole, root = path.resolve(), RESULTS.parents[1]
    return str(whole.relative_to(root)) if whole.is_relative_to(root) else whole.name


def newest(folder: Path) -> list[Path]:
    """Give the newest recording of a folder."""
    found = sorted(folder.glob("recorded-slices-*.jsonl.gz"))
    if not found:
        raise SystemExit(f"{folder} has no recorded slices: make soak-swap records some")
    return found[-1:]


if __name__ == "__main__":
    sys.exit(main())
