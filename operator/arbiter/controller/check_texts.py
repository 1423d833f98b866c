"""Reads the ConfigMaps with tasks' checks, which are people's and carry no label of ours to be followed by.

Each is read by its name: often while a swap of its pool is to begin, seldom at rest.

Rule: a text is handed on as it stands; whether it means anything is decided where it is used.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from arbiter.api.modelswap import Phase
from arbiter.controller.cache import POOL
from arbiter.controller.queue import Subject
from arbiter.errors import ClusterError
from arbiter.kubeapi.reading import get
from arbiter.kubeapi.resources import CONFIG_MAPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from arbiter.api.modelpool import ModelPool
    from arbiter.controller.cache import Cache
    from arbiter.controller.store import Place
    from arbiter.kubeapi.connection import Asking

log = logging.getLogger(__name__)

KEY = "checks.yaml"
"""The key of the ConfigMap that holds the checks."""

TURN_S = 0.5
"""Seconds between two looks at which are due."""

AWAITED_S, AT_REST_S = 2.0, 60.0
"""Seconds between two reads of one: while a swap of its pool has not moved requests yet, and at rest."""

_TO_BEGIN = frozenset({None, Phase.Waiting})
"""Phases in which the checks that rule a swap are not settled."""


class CheckTexts:
    """The texts of all checks that a task names."""

    def __init__(self, cache: Cache, asking: Asking, concerned: Callable[[Subject], None]) -> None:
        """Nothing was read yet.

        Args:
            cache: knows the pools and their swaps.
            asking: reads.
            concerned: called for each pool of which a text is new.
        """
        self._cache = cache
        self._asking = asking
        self._concerned = concerned
        self._texts: dict[Place, str | None] = {}
        self._read_at: dict[Place, float] = {}

    def of(self, pool: ModelPool) -> Mapping[str, str | None]:
        """The texts that a pool's tasks name, as far as they were read."""
        namespace = pool.metadata.namespace
        return {name: self._texts[namespace, name] for name in _named(pool) if (namespace, name) in self._texts}

    async def run(self, clock: Callable[[], float]) -> None:
        """Read, for ever."""
        while True:
            await asyncio.sleep(TURN_S)
            await self.read_due(clock())

    async def read_due(self, now: float) -> None:
        """Read what is due, one after the other, and forget what nobody names any more."""
        pools: dict[Place, list[ModelPool]] = {}
        for pool in self._cache.pools:
            for name in _named(pool):
                pools.setdefault((pool.metadata.namespace, name), []).append(pool)
        for place in [place for place in self._texts if place not in pools]:
            del self._texts[place]
            self._read_at.pop(place, None)
        for place, naming in pools.items():
            awaited = any(self._awaits(pool) for pool in naming)
            if now >= self._read_at.get(place, float("-inf")) + (AWAITED_S if awaited else AT_REST_S):
                self._read_at[place] = now
                await self._read(place, naming)

    async def _read(self, place: Place, naming: list[ModelPool]) -> None:
        try:
            found = await get(self._asking, CONFIG_MAPS, *place)
        except ClusterError as error:
            log.debug("ConfigMap %s/%s was not read: %s", *place, error)
            return
        data = {} if found is None else found.get("data") or {}
        text = data.get(KEY)
        known = place in self._texts and self._texts[place] == text
        self._texts[place] = text
        if not known:
            for pool in naming:
                self._concerned(Subject(POOL, place[0], pool.metadata.name))

    def _awaits(self, pool: ModelPool) -> bool:
        swaps = self._cache.swaps.by((pool.metadata.namespace, pool.metadata.name))
        return any(swap.status.phase in _TO_BEGIN for swap in swaps)


def _named(pool: ModelPool) -> Iterator[str]:
    return iter(dict.fromkeys(task.checks.config_map for task in pool.spec.tasks if task.checks is not None))
