"""Reads what the routers of a pool count while it swaps, as the operator reads it, and remembers it by ramp.

Routers forget a slice after forty of them and go on counting in those whose requests still run. So they are asked more
often than that, and the last word about a slice counts.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp

from arbiter.core.feed import Feed
from arbiter.core.manifests import names
from arbiter.core.manifests.router import ADMIN_PORT
from arbiter.core.routes import RouteTable
from arbiter.core.traffic import Side
from arbiter.errors import ClusterError
from arbiter.kubeapi.resources import CONFIG_MAPS, PODS
from bench.recordings import Recording

if TYPE_CHECKING:
    from arbiter.core.traffic import Slice
    from bench.operator.ground import Api

log = logging.getLogger(__name__)

LOOK_S = 4.0
"""Seconds between two looks: routers keep forty slices of a second, and the shortest step lasts ten seconds."""

ANSWER_S = 5.0
"""Seconds that a router may take for its answer."""


@dataclass
class Routers:
    """The routers of one pool, and what they have counted.

    Attributes:
        api: the API server.
        session: asks the routers.
        pool: whose routers.
        task: whose requests are remembered.
    """

    api: Api
    session: aiohttp.ClientSession
    pool: str
    task: str = "chat"
    _tables: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    _slices: dict[str, dict[tuple[int, int], Slice]] = field(default_factory=dict)

    async def look(self) -> None:
        """Read the table and all routers once. What does not answer is asked the next time."""
        try:
            told = await self.api.get(CONFIG_MAPS, names.routes_name(self.pool))
            selector = ",".join(f"{label}={value}" for label, value in names.router_selector(self.pool).items())
            pods = await self.api.listed(PODS, selector)
        except ClusterError as error:
            log.info("%s: %s", self.pool, error)
            return
        self.noted(RouteTable.from_text(told["data"]["routes.json"]))
        addresses = [pod["status"]["podIP"] for pod in pods if pod["status"].get("podIP")]
        await asyncio.gather(*map(self._read, addresses))

    async def _read(self, address: str) -> None:
        try:
            url = f"http://{address}:{ADMIN_PORT}/internal/slices"
            async with self.session.get(url, timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as answer:
                self.heard(Feed.from_text(await answer.text()))
        except (aiohttp.ClientError, TimeoutError) as error:
            log.info("%s: router %s: %s", self.pool, address, error)

    def noted(self, table: RouteTable) -> None:
        """Remember which swap a table is of, and what it says."""
        swapped = table.tasks[self.task]
        weight = sum(target.weight for target in swapped.targets if target.side is Side.NEW)
        self._tables[table.generation] = (swapped.swap, weight, table.slice_ms)

    def heard(self, feed: Feed) -> None:
        """Remember what a router told of the slices that are over; the last word about each counts."""
        known = self._slices.setdefault(feed.epoch, {})
        for each in feed.slices:
            if each.task == self.task and each.end_ms <= feed.read_ms:
                known[each.start_ms, each.generation] = each

    def forget(self) -> None:
        """Begin anew: what was counted before belongs to another ramp."""
        self._tables.clear()
        self._slices.clear()

    def recording(self, swap: str) -> Recording:
        """Give what they counted while this swap moved requests and both sides had some."""
        tables = {
            generation: (weight, length_ms)
            for generation, (name, weight, length_ms) in self._tables.items()
            if name == swap and 0 < weight < 100
        }
        routers = (
            tuple(each for _, each in sorted(known.items()) if each.generation in tables)
            for known in self._slices.values()
        )
        return Recording(
            self.pool,
            swap,
            self.task,
            min((length_ms for _, length_ms in tables.values()), default=1000),
            {generation: weight for generation, (weight, _) in tables.items()},
            tuple(slices for slices in routers if slices),
        )
