"""Feeds random requests to our reader and to h11, and random answers to our pool's link; stops at a finding.

    python -m tests.fuzz --seed 7 --seconds 60

Every run prints its seed, and the same seed finds the same. A finding is made as small as it gets and printed as a
row for the table in `tests/unit/router/wire/strict_requests.py`, with what is wrong about it.
"""

from __future__ import annotations

import argparse
import random  # noqa: TID251  this is the edge: the seed is an argument of the command
import sys
import time
from typing import TYPE_CHECKING

from tests.fuzz import answers, requests
from tests.fuzz.mutation import smallest

if TYPE_CHECKING:
    from collections.abc import Callable

    Target = tuple[str, Callable[[random.Random], bytes], Callable[[bytes], str]]

TARGETS: tuple[Target, ...] = (
    ("requests", requests.make, requests.fault),
    ("answers", answers.make, answers.fault),
)
"""Name, maker of inputs, and what is wrong with how one is taken (empty for nothing)."""

ROUND = 500
"""Inputs of one target before the other has its turn and the clock is read."""


def main() -> int:
    """Run until the time is up or something is found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)  # noqa: TID251  a new one each run
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    source = random.Random(given.seed)  # noqa: S311  not for secrets
    print(f"fuzz: seed {given.seed}, {given.seconds:g} s", flush=True)  # noqa: T201  a command prints
    end = time.monotonic() + given.seconds  # noqa: TID251  the edge of the command
    tried = dict.fromkeys((name for name, _, _ in TARGETS), 0)
    while time.monotonic() < end:  # noqa: TID251  the edge of the command
        for name, make, fault in TARGETS:
            for _ in range(ROUND):
                data = make(source)
                tried[name] += 1
                if found := fault(data):
                    small = smallest(data, lambda each, fault=fault: bool(fault(each)))  # type: ignore[misc]  # bound now
                    print(f"finding in {name}, seed {given.seed}: {fault(small) or found}")  # noqa: T201  as above
                    print(f'    pytest.param({small!r}, 400, id="fuzz-{given.seed}"),')  # noqa: T201  as above
                    return 1
    told = ", ".join(f"{number} {name}" for name, number in tried.items())
    print(f"fuzz: seed {given.seed}: {told}, nothing found")  # noqa: T201  as above
    return 0


if __name__ == "__main__":
    sys.exit(main())
