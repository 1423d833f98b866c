"""Measures the local cluster with its programs built: `python -m bench.devcluster [--repeats N]`, as root.

Prints, as medians over the repeats, how long `up`, a second `up` and `down` take for one node and for two, and what an
idle cluster needs. It takes the machine's cluster up and down, so it refuses to start while one is up.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from devcluster.native.cgroups import ControlGroup
from devcluster.native.layout import CONTROL_GROUP

ROOT = Path(__file__).parents[1]
SETTLING_S = 60.0
"""After this time nothing of starting up is left to do."""

IDLE_S = 30.0
"""How long processor time is counted."""

TICKS = os.sysconf("SC_CLK_TCK")


def devcluster(*arguments: str) -> float:
    """Run one command and give its seconds."""
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603  our own tool
        (sys.executable, "-m", "devcluster", *arguments), cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - began


def memory() -> int:
    """Bytes that the cluster's processes and pods hold, shared pages divided among those who share them."""
    total = 0
    for pid in ControlGroup(CONTROL_GROUP).members():
        with suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(text.split("\nPss:", 1)[1].split()[0]) * 1024
    return total


def processor_s() -> float:
    """Processor seconds that they have used."""
    total = 0
    for pid in ControlGroup(CONTROL_GROUP).members():
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    if ControlGroup(CONTROL_GROUP).exists():
        sys.exit("a cluster is up; take it down first: python -m devcluster down")
    print("| nodes | `up` | `up` again | `down` | memory when idle | processor when idle |")
    print("| --- | --- | --- | --- | --- | --- |")
    for nodes in ("1", "2"):
        taken: dict[str, list[float]] = {"up": [], "again": [], "down": []}
        for repeat in range(repeats):
            taken["up"].append(devcluster("up", "--nodes", nodes))
            taken["again"].append(devcluster("up"))
            if repeat == 0:
                time.sleep(SETTLING_S)
                before = processor_s()
                time.sleep(IDLE_S)
                share, held = (processor_s() - before) / IDLE_S, memory()
            taken["down"].append(devcluster("down"))
        up, again, down = (f"{statistics.median(times):.1f} s" for times in taken.values())
        print(f"| {nodes} | {up} | {again} | {down} | {held / 2**20:.0f} MiB | {share:.0%} of one core |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
