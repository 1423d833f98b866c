"""Measures the operator on the real API server: `python -m bench.operator [--quick] [--only NAME] [--repeats N]`.

Two measurements, each in a namespace of its own and with an operator that runs as a process on this machine: many
models and pools at servers elsewhere, and one pool with a real engine from `kubectl apply` to its first completion. A
cluster that is up is used and left; else one is brought up, as root, and taken down in the end. What else runs on the
machine is in the figures, so the load average before each measurement is told with them.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from bench.operator import crowd, figures, first, ground
from bench.router.peers import ROOT
from bench.router.processes import cores, free_port, running
from devcluster.images import built
from devcluster.pushing import Registry
from tests.e2e.serving.operators import operators
from tests.e2e.serving.wishes import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.operator.figures import Crowd, First
    from tests.e2e.running import Cluster

CROWD, FIRST = "crowd", "first"

NAMESPACES = {CROWD: "bench-operator-crowd", FIRST: "bench-operator-first"}


def measured_crowd(cluster: Cluster, folder: Path, size: crowd.Size) -> Crowd:
    """Measure many models and pools."""
    _say(f"many models and pools; load average {os.getloadavg()[0]:.1f}")
    with (
        _standin(folder) as url,
        ground.place(cluster, NAMESPACES[CROWD]) as place,
        operators(place, folder) as started,
    ):
        return uvloop.run(crowd.measured(place, started, size, url, _say))


def measured_first(cluster: Cluster, folder: Path, repeats: int) -> list[First]:
    """Measure pools from `kubectl apply` to their first completion, both kinds in turns."""
    Registry(REGISTRY).push(built.archive("smollm2"), "models/smollm2", "1")
    found = []
    with ground.place(cluster, NAMESPACES[FIRST]) as place, operators(place, folder) as started:
        started.start()
        for repeat in range(repeats):
            for known in (False, True):
                what = "its model known" if known else "with its model"
                busy = os.getloadavg()[0]
                _say(f"first completion {repeat + 1} of {repeats}, {what}; load average {busy:.1f}")
                found.append(uvloop.run(first.measured(place, known=known)))
    return found


@contextmanager
def _standin(folder: Path) -> Iterator[str]:
    """Run the server that all models run at, and give its URL."""
    old, new = free_port(), free_port()
    command = (sys.executable, "-m", "bench.router.standin", str(old), str(new))
    with running(cores()[1], command, new, folder / "standin.log", {"PYTHONPATH": str(ROOT)}):
        yield f"http://127.0.0.1:{old}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.operator", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 models, 10 pools, one short window, one repeat")
    parser.add_argument("--loaded", action="store_true", help="the cluster has our images: build and load none")
    parser.add_argument("--only", choices=(CROWD, FIRST), help="one of the two measurements")
    parser.add_argument(
        "--repeats", type=int, help="windows of rest, restarts of each way, first completions of each kind"
    )
    return parser.parse_args()


def _size(arguments: argparse.Namespace) -> crowd.Size:
    if arguments.quick:
        return crowd.Size(models=100, pools=10, windows=1, window_s=5.0, edits=10, restarts=1)
    repeats = arguments.repeats or 5
    return crowd.Size(models=1000, pools=100, windows=repeats, window_s=60.0, edits=100, restarts=repeats)


def told(many: Crowd | None, firsts: list[First]) -> Iterator[str]:
    """Give the report, part by part; the line with the figures to hold comes last."""
    yield f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    if many is not None:
        yield (
            f"{many.models} models and {many.pools} pools were applied in {many.applied_s:.1f} s and Ready "
            f"{many.settled_s:.1f} s after the first, in {many.passes:,.0f} passes; {many.failed:.0f} of all passes "
            "did not end well"
        )
        yield figures.rest_table(many)
        yield figures.edit_table(many)
        yield figures.restart_table(many)
    if firsts:
        busy = ", ".join(f"{each.busy:.1f}" for each in firsts)
        yield f"load average of the minute before each first completion: {busy}"
        yield figures.first_tables(firsts)
    yield figures.goals_table(many, firsts)
    if many is not None:
        yield figures.last_line(many)


def main() -> int:
    """Measure, and print the tables."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended too
    size = _size(arguments)
    many, firsts = None, []
    with tempfile.TemporaryDirectory(prefix="bench-operator-") as made, ground.cluster() as cluster:
        if arguments.only != CROWD:
            if not arguments.loaded:
                ground.load_images()
            firsts = measured_first(cluster, Path(made), arguments.repeats or (1 if arguments.quick else 5))
        if arguments.only != FIRST:
            many = measured_crowd(cluster, Path(made), size)
    print("\n\n".join(told(many, firsts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
