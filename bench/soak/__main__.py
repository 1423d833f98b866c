"""Swaps identical models for hours if need be: `python -m bench.soak [--ramps N] [--pools N] [--loaded] [--seed N]`.

Several pools at once, each with clients whose number changes, while a process takes a core now and then. The models
are three names of one stand-in, so every swap has to be promoted: the run fails if one is rolled back, or if a client
sees a failure. Each ramp is a line of a dated report, and what the routers counted in it is recorded beside that, to
be replayed by `bench.recorded`. A cluster that is up is used and left; else one is brought up and taken down.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import secrets
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import numpy as np

from bench import recordings
from bench.operator import ground
from bench.soak import report
from bench.soak.load import Clients, contend, rest
from bench.soak.models import MODELS, models
from bench.soak.ramps import policy, pool_wish, ramp_on
from bench.soak.routers import Routers
from tests.e2e.serving.operators import operators
from tests.e2e.serving.wishes import external

if TYPE_CHECKING:
    from bench.recordings import Recording
    from bench.soak.ramps import Ramp
    from tests.e2e.serving.operators import HostOperator, Operators

RESULTS = Path(__file__).parents[1] / "results"

NAMESPACE = "bench-soak"

ENDED = 143
"""The exit code of what was told to end."""

RESTART_S = 2.0
"""Seconds between two looks at whether the operator runs."""

READY_S = 600.0
"""Seconds within which each pool has to serve: many start at once, on a machine that may be busy."""


class Soak:
    """All pools of a soak, and where their ramps are written."""

    def __init__(self, started: Operators, names: list[str], seed: int, files: tuple[Path, Path]) -> None:
        """Soak these pools.

        Args:
            started: starts operators of their namespace, of which none runs yet.
            names: of the pools.
            seed: of how the load changes.
            files: the report, and the recordings.
        """
        chances = np.random.default_rng(seed).spawn(len(names) + 1)
        self.operators = [started.start()]
        self.clients: list[Clients] = []
        self.ramps: list[Ramp] = []
        self._started, self._place, self._names, self._chances = started, started.place, names, chances
        self._report, self._recordings = files

    def serve(self, address: str) -> None:
        """Have all pools serve models that run there."""
        self._place.apply(policy(), *(external(name, f"{address}/{name}", name) for name in MODELS))
        self._place.apply(*(pool_wish(name, 2 if number % 3 == 1 else 1) for number, name in enumerate(self._names)))
        for name, chance in zip(self._names, self._chances, strict=False):
            self._place.ready(f"modelpool/{name}", READY_S)
            self.clients.append(Clients(self._place.url(name), chance))

    async def run(self, ramps: int) -> None:
        """Ramp so many times, all pools together."""
        ended, turns = asyncio.Event(), iter(range(ramps))
        task = asyncio.current_task()
        if task is not None:
            # An exception out of a handler might be raised where it is ignored, and the soak would go on.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with ground.api(self._place) as api, aiohttp.ClientSession() as session:
            asking = [asyncio.create_task(each.ask(ended)) for each in self.clients]
            asking.append(asyncio.create_task(contend(self._chances[-1], ended)))
            asking.append(asyncio.create_task(self._keep_operator(ended)))
            try:
                async with asyncio.TaskGroup() as group:
                    for clients, name in zip(self.clients, self._names, strict=True):
                        group.create_task(ramp_on(api, clients, Routers(api, session, name), turns, self._ended))
            finally:
                ended.set()
                await asyncio.gather(*asking)

    async def _keep_operator(self, ended: asyncio.Event) -> None:
        """Start another operator when one ends, as its Deployment would: one that loses the lead does."""
        while not ended.is_set():
            if not self.operators[-1].runs:
                self.operators.append(self._started.start(leading=False))
            await rest(ended, RESTART_S)

    def _ended(self, ramp: Ramp, recording: Recording) -> None:
        self.ramps.append(ramp)
        line = report.row(ramp, time.strftime("%H:%M:%S", time.gmtime()))
        write(self._report, line)
        recordings.append(self._recordings, recording)


def write(path: Path, *lines: str) -> None:
    """Add lines to a file, and print them."""
    with path.open("a") as writing:
        writing.writelines(f"{line}\n" for line in lines)
    print("\n".join(lines), flush=True)


def main() -> int:
    """Run the soak, and say by the exit code whether it was clean."""
    options = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ENDED))  # so that what was started is ended too
    names = [f"soak-{number + 1}" for number in range(options.pools)]
    with tempfile.TemporaryDirectory() as folder, ground.cluster() as cluster, models() as address:
        if not options.loaded:
            ground.load_images()
        with ground.place(cluster, NAMESPACE) as place, operators(place, Path(folder)) as started:
            return 0 if _soaked(started, names, address, options) else 1


def _soaked(started: Operators, names: list[str], address: str, options: argparse.Namespace) -> bool:
    """Soak pools with these names, write all of it down, and say whether it was clean."""
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    date = time.strftime("%Y-%m-%d", time.gmtime())
    files = options.results / f"soak-{date}.md", options.results / f"recorded-slices-{date}.jsonl.gz"
    soak = Soak(started, names, seed, files)
    soak.serve(address)
    for path in files:
        path.unlink(missing_ok=True)
    write(files[0], *_head(options, seed, date), *report.HEAD)
    began = time.monotonic()
    try:
        asyncio.run(soak.run(options.ramps))
    except asyncio.CancelledError:
        sys.exit(ENDED)
    finally:
        clean = report.is_clean(soak.ramps, soak.clients, options.ramps)
        if not clean:
            _keep(soak.operators)
        minutes = (time.monotonic() - began) / 60
        write(files[0], "", *report.totals(soak.ramps, soak.clients, minutes, len(soak.operators) - 1))
    return clean


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--ramps", type=int, default=50, help="how many swaps in all")
    parser.add_argument("--pools", type=int, default=8, help="how many pools at once")
    parser.add_argument("--loaded", action="store_true", help="the images are in the cluster already")
    parser.add_argument("--seed", type=int, help="of how the load changes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder for the report and the recordings")
    return parser.parse_args()


def _keep(ran: list[HostOperator]) -> None:
    """Keep the operators' logs, which say why they decided as they did."""
    kept = Path(tempfile.gettempdir()) / "bench-soak-operator.log"
    kept.write_text("".join(each.log.read_text() for each in ran))
    print(f"the operator's log is kept in {kept}", file=sys.stderr)


def _head(options: argparse.Namespace, seed: int, date: str) -> tuple[str, ...]:
    machine = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    busy = os.getloadavg()[0]
    return (
        f"# Soak of swaps, {date}",
        "",
        f"`python -m bench.soak --ramps {options.ramps} --pools {options.pools} --seed {seed}`, on {machine};",
        f"load {busy:.1f} before.",
        "",
        "Swaps between identical models under traffic that changes. Of each metric: old side → new side, evidence for",
        "rollback and evidence for promotion, each with its bound. Times are UTC.",
        "",
    )


if __name__ == "__main__":
    sys.exit(main())
