"""Keeps the epoch of this leadership above every table that a router has obeyed.

A router refuses what is older than what it obeyed. So a new leader begins above everything that it finds, in ConfigMaps
and at routers, and rises again when a router turns out to be further than what was written: one that did not answer
before, or the cluster was restored from a backup under a leader that goes on (docs/decisions, restored clusters).

Rule: it never rises without a look at the Lease that was asked for after the router answered, and shows that we still
hold it. Else a leader that was replaced would see the new one's epoch at the routers, take it for a restored backup,
and overtake it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from arbiter.controller.answers import Fence

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from arbiter.controller.queue import Subject
    from arbiter.core.routes import RouteTable

log = logging.getLogger(__name__)

_ANY = 2**63
"""A generation above all others."""


class Epoch:
    """The epoch of this leadership.

    Attributes:
        value: it; 0 before we lead.
    """

    def __init__(self, still_leading: Callable[[], Awaitable[None]]) -> None:
        """Lead nothing yet.

        Args:
            still_leading: looks at the Lease; raises DeposedError when it is not ours.
        """
        self.value = 0
        self._still_leading = still_leading
        self._suspected: frozenset[Subject] = frozenset()

    def overtaken(self, fences: Iterable[tuple[Subject, Fence]], tables: Iterable[tuple[Subject, RouteTable]]) -> bool:
        """Whether a table is above our epoch, or a router is further than its pool's, at this look and the last.

        One look is not enough: a watch may tell for a moment what was before our own last write.

        Args:
            fences: the newest table that each router has obeyed, with its pool.
            tables: those that pools' ConfigMaps hold.
        """
        standing = dict(tables)
        above = {pool for pool, table in standing.items() if table.epoch > self.value}
        found = above | {pool for pool, fence in fences if fence > self._standing(standing.get(pool))}
        sure = found & self._suspected
        self._suspected = frozenset(found)
        return bool(sure)

    def _standing(self, table: RouteTable | None) -> Fence:
        """What a router may have obeyed; without a table, anything of our own epoch."""
        return Fence(self.value, _ANY) if table is None else Fence(table.epoch, table.generation)

    async def rise(self, found: Iterable[int]) -> None:
        """Rise above these epochs, once it is sure that we still lead.

        Raises:
            DeposedError: we do not.
            ClusterError: nobody says whether we do.
        """
        highest = max(found, default=0)
        await self._still_leading()
        before, self.value = self.value, max(highest, self.value) + 1
        self._suspected = frozenset()
        log.info("the epoch rises from %d to %d", before, self.value, extra={"reason": "EpochRaised"})
