"""Knows where each model answers, and which endpoint of it takes the next request.

Rule: the one with the fewest requests in flight, among those that are ready and whose breaker lets it pass. Equal ones
take turns. What is no longer named is forgotten; requests on their way there go on to their end.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from arbiter.core.occupancy import Occupancy
from arbiter.router import metric_families as families
from arbiter.router.backend_keys import BackendKeys
from arbiter.router.breaker import Breaker, State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from arbiter.core.routes import Backend, RouteTable
    from arbiter.router.metrics import Meter
    from arbiter.router.wire.client import Pool
    from arbiter.router.wire.limits import PoolLimits


class Endpoint:
    """One address of an engine.

    Attributes:
        url: where it answers.
        pool: the connections to it.
        occupancy: the requests in flight there.
        breaker: whether requests pass.
        opened_told: how often it had opened when that was last told.
    """

    __slots__ = ("breaker", "occupancy", "opened_told", "pool", "url")

    def __init__(self, url: str, pool: Pool, now: float) -> None:
        """Nothing sent yet."""
        self.url = url
        self.pool = pool
        self.occupancy = Occupancy(now)
        self.breaker = Breaker()
        self.opened_told = 0


class Endpoints:
    """All endpoints that the table names, by their address, and which of them are ready.

    Attributes:
        keys: what must be shown there.
    """

    def __init__(self, connect: Callable[[str], Pool], keys: BackendKeys | None = None) -> None:
        """Know none; `connect` makes the pool of an address."""
        self.keys = keys or BackendKeys()
        self._connect = connect
        self._known: dict[str, Endpoint] = {}
        self._services: dict[str, tuple[Endpoint, ...]] = {}
        self._listed: dict[tuple[str, ...], tuple[Endpoint, ...]] = {}
        self._limits: PoolLimits | None = None
        self._turn = 0

    def obey(self, table: RouteTable, limits: PoolLimits, now: float) -> None:
        """Take over what a table lists, and forget what it no longer names."""
        backends = [backend for task in table.tasks.values() for backend in task.backends]
        self._limits = limits
        self.keys.obey(table)
        services = {backend.service for backend in backends if backend.service is not None}
        self._services = {name: found for name, found in self._services.items() if name in services}
        lists = {backend.endpoints for backend in backends if backend.service is None}
        self._listed = {urls: self._endpoints(urls, now) for urls in lists}
        self._forget()
        for endpoint in self._known.values():
            endpoint.pool.limits = limits

    def place(self, service: str, urls: Iterable[str], now: float) -> None:
        """Take over which endpoints of a service are ready."""
        self._services[service] = self._endpoints(tuple(urls), now)
        self._forget()

    def ready(self, backend: Backend) -> tuple[Endpoint, ...]:
        """The endpoints of a model that are ready, whatever their breakers say."""
        if backend.service is None:
            return self._listed.get(backend.endpoints, ())
        return self._services.get(backend.service, ())

    def choose(self, backend: Backend, tried: Collection[Endpoint], now: float) -> Endpoint | None:
        """The endpoint that takes a request now; None when there is none, or no breaker lets it pass."""
        ready = self.ready(backend)
        if len(ready) == 1 and not tried:
            return ready[0] if ready[0].breaker.passes(now) else None
        self._turn += 1
        chosen = None
        for place in range(len(ready)):
            endpoint = ready[(place + self._turn) % len(ready)]
            if (
                (chosen is None or endpoint.occupancy.in_flight < chosen.occupancy.in_flight)
                and endpoint not in tried
                and endpoint.breaker.passes(now)
            ):
                chosen = endpoint
        return chosen

    def tell_breakers(self, table: RouteTable, meter: Meter) -> None:
        """Tell how many breakers of each model are open, and how often they have opened since this was last told."""
        still_open: Counter[tuple[str, str]] = Counter()
        opened: Counter[tuple[str, str]] = Counter()
        for task in table.tasks.values():
            for backend in task.backends:
                labels = (task.name, backend.model)
                still_open[labels] += 0  # told even when no endpoint is left
                for endpoint in self.ready(backend):
                    still_open[labels] += endpoint.breaker.state is not State.CLOSED
                    opened[labels] += endpoint.breaker.opened - endpoint.opened_told
        for endpoint in self._known.values():
            endpoint.opened_told = endpoint.breaker.opened
        for labels, number in still_open.items():
            meter.set(families.BREAKERS_OPEN, labels, number)
            meter.count(families.BREAKER_OPENED, labels, opened[labels])

    def close(self) -> None:
        """Keep no connections any more."""
        self._services.clear()
        self._listed.clear()
        self._forget()

    def _endpoints(self, urls: Iterable[str], now: float) -> tuple[Endpoint, ...]:
        return tuple(self._known.get(url) or self._made(url, now) for url in urls)

    def _made(self, url: str, now: float) -> Endpoint:
        endpoint = self._known[url] = Endpoint(url, self._connect(url), now)
        if self._limits is not None:  # a pod that comes after the table is bound by it as well
            endpoint.pool.limits = self._limits
        return endpoint

    def _forget(self) -> None:
        used = {each.url for found in (*self._services.values(), *self._listed.values()) for each in found}
        for url in [url for url in self._known if url not in used]:
            self._known.pop(url).pool.close()
