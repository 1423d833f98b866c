"""What the soak loads a machine with: clients that come and go, and a process that takes a core now and then.

Rule: somebody asks at every moment. The next clients begin before the last ones end, so load changes and never stops.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.traffic.driver import Driver, Load

if TYPE_CHECKING:
    from numpy.random import Generator

    from tests.traffic.attempts import Report

CLIENTS = (12, 24)
"""Fewest and most clients of a pool at a time. With the fewest, both sides still have streams in every slice."""

PAUSES_S = (0.1, 0.5)
"""Shortest and longest rest of a client between two requests, in seconds."""

TOKENS = (4, 9)
"""Fewest tokens of a stream, and one more than most."""

TIDE_S = (15.0, 60.0)
"""How long the same clients ask, in seconds: several times in each ramp, the load is another one."""

BUSY_S, CALM_S = (10.0, 30.0), (15.0, 60.0)
"""How long a core is taken, and how long it is left, in seconds."""

MOST_TOLD = 3
"""Failures of a pool that are told one by one."""

_SPIN = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
"""Computes, and ends by itself should nobody be left who ends it."""


@dataclass
class Clients:
    """The clients of one pool, and what they saw.

    Attributes:
        url: where they ask.
        chance: decides how many they are and how they ask.
        requests: that ended.
        failed: that failed.
        told: the first of those in words.
    """

    url: str
    chance: Generator
    requests: int = 0
    failed: int = 0
    told: list[str] = field(default_factory=list)

    async def ask(self, ended: asyncio.Event) -> None:
        """Ask until that has happened, by other clients each time."""
        now: Driver | None = None
        while not ended.is_set():
            following = Driver(self.url, self._load())
            await following.start()
            if now is not None:
                self._seen(await now.stop())
            now = following
            await rest(ended, self.chance.uniform(*TIDE_S))
        if now is not None:
            self._seen(await now.stop())

    def _load(self) -> Load:
        return Load(
            task="chat",
            clients=int(self.chance.integers(CLIENTS[0], CLIENTS[1] + 1)),
            stream_tokens=int(self.chance.integers(*TOKENS)),
            plain_tokens=2,
            pause_s=float(self.chance.uniform(*PAUSES_S)),
        )

    def _seen(self, report: Report) -> None:
        self.requests += len(report.attempts)
        self.failed += len(report.failed)
        self.told += [f"{each.failure.fault}: {each.failure.text}" for each in report.failed if each.failure][
            : MOST_TOLD - len(self.told)
        ]


async def contend(chance: Generator, ended: asyncio.Event) -> None:
    """Take a core for a while, leave it for a while, until that has happened."""
    await rest(ended, chance.uniform(*CALM_S))
    while not ended.is_set():
        seconds = chance.uniform(*BUSY_S)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", _SPIN.format(seconds=seconds + 5))
        try:
            await rest(ended, seconds)
        finally:
            process.kill()
            await process.wait()
        await rest(ended, chance.uniform(*CALM_S))


async def rest(ended: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until that has happened."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ended.wait()
