"""Does what only the leader may: asks routers, runs jobs, passes who is due, and keeps the epoch above all routers.

Rule: it begins above every table that was obeyed before, and nothing is written until then.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from arbiter.api.meta import ConditionStatus
from arbiter.api.modelswap import Phase
from arbiter.api.reasons import ConditionType
from arbiter.controller.apply import Carrier
from arbiter.controller.check_texts import CheckTexts
from arbiter.controller.epoch import Epoch
from arbiter.controller.jobs import HttpSending, Jobs
from arbiter.controller.kinds import UNREAD
from arbiter.controller.passes import Passes
from arbiter.controller.scrape import HttpGetting, Scrape
from arbiter.controller.snapshot import Assembly
from arbiter.core.status import find_condition
from arbiter.errors import ClusterError, DeposedError
from arbiter.kubeapi import lease
from arbiter.kubeapi.reading import get
from arbiter.kubeapi.resources import LEASES

if TYPE_CHECKING:
    from collections.abc import Iterator

    import aiohttp

    from arbiter.controller.parts import Parts
    from arbiter.controller.passes import Planning
    from arbiter.controller.queue import Subject

log = logging.getLogger(__name__)

STRANGERS_S = 15.0
"""Seconds between two looks at an object of somebody else that stands in a pool's way."""

FENCES_S = 2.0
"""Seconds between two looks at how far routers are."""

UNREAD_S = 3600.0
"""Seconds after which what is never read is made again, in case that somebody removed it."""


class Leader:
    """What the leader does."""

    def __init__(self, parts: Parts, planning: Planning, session: aiohttp.ClientSession) -> None:
        """Lead nothing yet.

        Args:
            parts: what both replicas have.
            planning: decides.
            session: to routers and model servers.
        """
        self._parts = parts
        self._clock = asyncio.get_running_loop().time
        self.epoch = Epoch(self._still_leading)
        self.jobs = Jobs(HttpSending(session), self._job_told, parts.now)
        self.scrape = Scrape(parts.cache, HttpGetting(session), parts.tables, parts.concerned)
        self.checks = CheckTexts(parts.cache, parts.asking, parts.concerned)
        self.carrier = Carrier(
            asking=parts.asking,
            cache=parts.cache,
            jobs=self.jobs,
            events=parts.events,
            counting=parts.metrics,
            now=parts.now,
            secret=parts.secret,
        )
        self.passes = Passes(
            queue=parts.queue,
            assembly=Assembly(parts.cache, parts.tables, self.scrape, self.jobs, self.checks),
            planning=planning,
            carrier=self.carrier,
            watching=parts.metrics,
            settings=lambda: parts.options.settings(self.epoch.value),
            now=parts.now,
            gone=self._gone,
        )

    def _job_told(self, pool: Subject) -> None:
        """A job of a pool has something new; what it did in a shared engine is to be seen soon."""
        self.scrape.soon(pool)
        self._parts.concerned(pool)

    async def work(self) -> None:
        """Lead, until cancelled.

        Raises:
            DeposedError: we no longer do.
        """
        self._parts.metrics.lead(leads=True)
        try:
            await self.scrape.ask_routers(self._parts.now)
            await self._rise()
            self._everybody()
            async with asyncio.TaskGroup() as group:
                group.create_task(self.passes.run())
                group.create_task(self.scrape.run(self._clock, self._parts.now))
                group.create_task(self.checks.run(self._clock))
                group.create_task(self._parts.events.run())
                group.create_task(self._look_at_strangers())
                group.create_task(self._look_at_fences())
                group.create_task(self._forget_unread())
        finally:
            self._parts.metrics.lead(leads=False)
            await self.jobs.close()

    def exposition(self) -> bytes:
        """Prometheus' text."""
        parts = self._parts
        parts.metrics.see(
            depth=parts.queue.queue.depth(self._clock()),
            epoch=self.epoch.value,
            jobs=self.jobs.running,
            unanswered=self.scrape.failures,
            lost_events=parts.events.lost,
            watches=parts.watches.lost,
            pools=self._pools(),
            swaps=self._swaps(),
        )
        return parts.metrics.exposition()

    async def _rise(self) -> None:
        tables = [table.epoch for _, table in self._parts.tables.all()]
        await self.epoch.rise([*tables, *(fence.epoch for _, fence in self.scrape.fences())])

    async def _still_leading(self) -> None:
        """Look at the Lease.

        Raises:
            DeposedError: another one holds it.
            ClusterError: the API server did not say.
        """
        found = await get(self._parts.connection, LEASES, self._parts.options.namespace, lease.NAME)
        holder = "" if found is None else lease.Record.of(found).holder
        if holder != self._parts.identity:
            raise DeposedError(f"the Lease is held by {holder or 'nobody'}, not by {self._parts.identity}")

    async def _look_at_fences(self) -> None:
        """Rise again when a router is further than its pool's table."""
        while True:
            await asyncio.sleep(FENCES_S)
            if self.epoch.overtaken(self.scrape.fences(), self._parts.tables.all()):
                try:
                    await self._rise()
                except DeposedError:
                    raise
                except ClusterError as error:
                    log.warning("the epoch does not rise yet: %s", error)
                else:
                    self._everybody()

    async def _look_at_strangers(self) -> None:
        """See when an object that stands in somebody's way has gone."""
        while True:
            await asyncio.sleep(STRANGERS_S)
            for subject, key in self._parts.cache.strangers():
                try:
                    await self.carrier.look(subject, key)
                except ClusterError as error:
                    log.debug("%s was not seen: %s", key, error)

    async def _forget_unread(self) -> None:
        """Make what is never read once more."""
        while True:
            await asyncio.sleep(UNREAD_S)
            found = {subject for each in UNREAD for subject, _ in self._parts.cache.children(each.kind)}
            for subject in found:
                self._parts.cache.forget_unread(subject)
                self._parts.concerned(subject)

    def _everybody(self) -> None:
        """Every pool and model is due."""
        for subject in self._parts.cache.subjects():
            self._parts.concerned(subject)

    def _gone(self, subject: Subject) -> None:
        """A pool or model is no longer there."""
        self.jobs.forget(subject)
        self.carrier.forget(subject)
        self._parts.tables.forget(subject)
        self._parts.cache.forget(subject)

    def _swaps(self) -> Iterator[tuple[str, str, str]]:
        """Each swap that has not ended, with its pool and phase."""
        for swap in self._parts.cache.swaps:
            if swap.status.phase is not Phase.Ended:
                phase = Phase.Waiting if swap.status.phase is None else swap.status.phase
                yield swap.metadata.namespace, swap.spec.pool, phase.value

    def _pools(self) -> Iterator[tuple[str, str, str, bool]]:
        """Each pool with its reason, and whether it is Ready."""
        for pool in self._parts.cache.pools:
            ready = find_condition(pool.status.conditions, ConditionType.Ready)
            reason = "Unknown" if ready is None else ready.reason
            holds = ready is not None and ready.status is ConditionStatus.TRUE
            yield pool.metadata.namespace, pool.metadata.name, reason, holds
