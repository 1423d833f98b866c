"""Follows a router's table in its ConfigMap, and the endpoints of the Services that the table names.

- Endpoints of a Service that a table newly names are waited for, a moment, before the table comes into force, so that
  no request is routed by a table whose endpoints nobody knows yet.
- While the API server is away everything goes on as last seen. A router that starts then, or finds no good table,
  uses what was kept in its folder; a table of an older leader than the kept one is refused after a restart too.

Rule: nothing here ends the router. It goes on until it is cancelled, and what it cannot do it says once.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arbiter.kubeapi.resources import CONFIG_MAPS, ENDPOINT_SLICES, Selection
from arbiter.kubeapi.watching import Lost, Seen, Synced, watch
from arbiter.router.endpoint_slices import ready_urls
from arbiter.router.fence import Fence, Offer
from arbiter.router.kept_routes import Keeper, Kept, read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from arbiter.core.routes import RouteTable
    from arbiter.kubeapi.connection import Connection

    OnEndpoints = Callable[[str, tuple[str, ...]], None]

log = logging.getLogger(__name__)

KEY = "routes.json"
"""The ConfigMap's key that holds the table."""

SERVICE = "kubernetes.io/service-name"
"""The label by which an EndpointSlice says whose it is."""

ENDPOINTS_WAIT_S = 1.0
"""Seconds that a table waits for the endpoints of Services that it newly names."""

KEPT_AFTER_S = 2.0
"""Seconds without an answer of the API server, after which a starting router uses what was kept.

It is used at once when the server refuses the connection. Longer, and clients wait; shorter, and a slow server makes
a router begin with old endpoints.
"""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a router's table is.

    Attributes:
        connection: to the API server.
        namespace: of the pool.
        config_map: its name.
        folder: where the last good table is kept, or `None` to keep none.
        draw: numbers drawn evenly from [0, 1), for pauses.
    """

    connection: Connection
    namespace: str
    config_map: str
    folder: Path | None
    draw: Callable[[], float]


async def follow(
    source: Source,
    on_table: Callable[[RouteTable], None],
    on_refused: Callable[[str, str], None],
    on_endpoints: OnEndpoints,
) -> None:
    """Obey the tables of a ConfigMap until cancelled.

    Args:
        source: where the table is.
        on_table: see `Fence`.
        on_refused: see `Fence`.
        on_endpoints: called with a Service and the base addresses of all its ready pods, before the first table that
            names the Service, and at each change.
    """
    await _Following(source, Fence(on_table, on_refused), on_endpoints).run()


class _Following:
    """The table's watch, and one for each Service that it names."""

    def __init__(self, source: Source, fence: Fence, on_endpoints: OnEndpoints) -> None:
        self._source = source
        self._fence = fence
        self._on_endpoints = on_endpoints
        self._services: dict[str, _Service] = {}
        self._kept: Kept | None = None
        self._keeper = Keeper(source.folder, self._newest)

    async def run(self) -> None:
        if self._source.folder is not None:
            self._kept = await asyncio.to_thread(read, self._source.folder)
        if self._kept is not None:
            self._fence.remember(self._kept.table)
        spare = asyncio.get_running_loop().call_later(KEPT_AFTER_S, self._use_kept, "the API server does not answer")
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                group.create_task(self._keeper.run())
                await self._follow_table()
            finally:
                spare.cancel()

    async def _follow_table(self) -> None:
        source = self._source
        selection = Selection.named(CONFIG_MAPS, source.namespace, source.config_map)
        async with aclosing(watch(source.connection, selection, source.draw)) as events:
            async for event in events:
                match event:
                    case Seen(object=found) if found is not None:
                        await self._offered(found)
                    case Seen():
                        log.warning("ConfigMap %s is gone; the last good table stays in force", source.config_map)
                    case Synced():
                        log.info("following ConfigMap %s", source.config_map)
                        self._use_kept(f"ConfigMap {source.config_map} has no good table")
                    case Lost(reason):
                        log.warning("ConfigMap %s is no longer followed: %s", source.config_map, reason)
                        self._use_kept("the API server cannot be asked")

    async def _offered(self, config_map: Mapping[str, Any]) -> None:
        text = (config_map.get("data") or {}).get(KEY)
        problem = f"ConfigMap {self._source.config_map} has no key {KEY}"
        table = self._fence.judge(Offer(problem=problem) if text is None else Offer(text))
        if table is None:
            return
        await self._endpoints_known(table)
        self._fence.obey(table)
        self._drop_unnamed(table)
        self._keeper.changed()

    async def _endpoints_known(self, table: RouteTable) -> None:
        """Follow the Services that a table newly names, and wait until their endpoints were listed."""
        new = [self._follow_service(name) for name in _services(table) if name not in self._services]
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDPOINTS_WAIT_S):
                for service in new:
                    await service.listed.wait()

    def _use_kept(self, why: str) -> None:
        """Begin with what was kept, unless there is a table in force."""
        if self._kept is None or self._fence.current is not None:
            return
        table = self._kept.table
        log.warning("%s; serving by the table that was kept, of generation %d", why, table.generation)
        for name in _services(table):
            service = self._services.get(name) or self._follow_service(name)
            if not service.listed.is_set() and name in self._kept.endpoints:
                service.place(self._kept.endpoints[name])
        self._fence.fall_back(table)

    def _follow_service(self, name: str) -> _Service:
        service = self._services[name] = _Service(self._source, name, self._placed)
        service.task = self._group.create_task(service.follow())
        return service

    def _drop_unnamed(self, table: RouteTable) -> None:
        for name in self._services.keys() - _services(table):
            service = self._services.pop(name)
            if service.task is not None:
                service.task.cancel()

    def _placed(self, service: str, urls: tuple[str, ...]) -> None:
        self._on_endpoints(service, urls)
        self._keeper.changed()

    def _newest(self) -> Kept | None:
        table = self._fence.current
        known = {name: each.urls for name, each in self._services.items() if each.urls is not None}
        return None if table is None else Kept(table, known)


class _Service:
    """The endpoints of one Service.

    Attributes:
        listed: set once all its EndpointSlices were seen.
        urls: of its ready pods, `None` while that is not known.
        task: that follows it.
    """

    def __init__(self, source: Source, name: str, placed: OnEndpoints) -> None:
        self.listed = asyncio.Event()
        self.urls: tuple[str, ...] | None = None
        self.task: asyncio.Task[None] | None = None
        self._source = source
        self._name = name
        self._placed = placed
        self._slices: dict[str, Mapping[str, Any]] = {}

    async def follow(self) -> None:
        selection = Selection(ENDPOINT_SLICES, self._source.namespace, labels=f"{SERVICE}={self._name}")
        async with aclosing(watch(self._source.connection, selection, self._source.draw)) as events:
            async for event in events:
                match event:
                    case Seen(name, found) if found is not None:
                        self._slices[name] = found
                    case Seen(name):
                        self._slices.pop(name, None)
                    case Synced():
                        self.listed.set()
                    case Lost(reason):
                        log.warning("endpoints of Service %s are no longer followed: %s", self._name, reason)
                if self.listed.is_set():
                    self.place(ready_urls(self._slices.values()))

    def place(self, urls: tuple[str, ...]) -> None:
        """Tell these addresses, if they are others than those told before."""
        if urls != self.urls:
            self.urls = urls
            self._placed(self._name, urls)


def _services(table: RouteTable) -> set[str]:
    backends = (backend for task in table.tasks.values() for backend in task.backends)
    return {backend.service for backend in backends if backend.service is not None}
