"""Knows the route tables that pools' ConfigMaps hold, and which revision each of their sides was.

Rule: a table is read once for each resource version of its ConfigMap; one that cannot be read is None, for whoever
plans writes a good one in its place.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from arbiter.controller.answers import sides_of
from arbiter.core.manifests import names
from arbiter.core.manifests.routes import ROUTES_KEY
from arbiter.core.routes import RouteTable
from arbiter.errors import CorruptStateError
from arbiter.kubeapi.resources import CONFIG_MAPS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from arbiter.controller.answers import Sides
    from arbiter.controller.cache import Cache
    from arbiter.controller.queue import Subject

log = logging.getLogger(__name__)

KEPT = 64
"""Tables of a pool that are remembered, to tell of which revision an open request is."""


class Tables:
    """The tables of all pools."""

    def __init__(self, cache: Cache) -> None:
        """Read them from the cache."""
        self._cache = cache
        self._read: dict[Subject, tuple[str, str, RouteTable | None]] = {}
        self._sides: dict[Subject, dict[int, Mapping[tuple[str, str], str]]] = {}

    def of(self, pool: Subject) -> RouteTable | None:
        """The table that a pool's ConfigMap holds."""
        standing = self._cache.child(CONFIG_MAPS.kind, (pool.namespace, names.routes_name(pool.name)))
        if standing is None:
            return None
        version = str(standing.body["metadata"].get("resourceVersion"))
        known = self._read.get(pool)
        if known is None or known[:2] != (standing.uid, version):
            known = self._read[pool] = (standing.uid, version, _table(standing.body.get("data") or {}, pool))
            self._remember(pool, known[2])
        return known[2]

    def sides(self, pool: Subject) -> Sides:
        """Which revision each side of each task was, in the latest tables of a pool."""
        self.of(pool)
        return self._sides.get(pool, {})

    def all(self) -> Iterator[tuple[Subject, RouteTable]]:
        """Every table that stands, of pools that are gone too."""
        for subject, standing in self._cache.children(CONFIG_MAPS.kind):
            if standing.key.name == names.routes_name(subject.name) and (table := self.of(subject)) is not None:
                yield subject, table

    def forget(self, pool: Subject) -> None:
        """A pool is gone."""
        self._read.pop(pool, None)
        self._sides.pop(pool, None)

    def _remember(self, pool: Subject, table: RouteTable | None) -> None:
        if table is None:
            return
        sides = self._sides.setdefault(pool, {})
        sides[table.generation] = sides_of(table)
        for old in sorted(sides)[:-KEPT]:
            del sides[old]


def _table(data: dict[str, str], pool: Subject) -> RouteTable | None:
    try:
        return RouteTable.from_text(data.get(ROUTES_KEY, ""))
    except CorruptStateError as error:
        log.warning("the table of %s cannot be read and will be replaced: %s", pool, error, extra={"about": pool})
        return None
