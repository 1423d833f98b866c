"""Measures an operator that has a thousand models and a hundred pools: coming to rest, resting, edits, restarts.

All models run at one server elsewhere, a stand-in that answers at once, and no pool has routers, so that nothing but
the operator and the API server takes part. Everything is in one namespace, which is the harder case: each pass of a
pool sees all of its namespace's models.

Rule: nothing is read off the operator alone. What it wrote at rest is counted by watches too, and an edit is reconciled
when a watch has told of everything that it leads to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arbiter.core.manifests import names
from arbiter.kubeapi.resources import (
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    LEASES,
    LOCAL_MODELS,
    MODEL_POOLS,
    NETWORK_POLICIES,
    SERVICES,
)
from bench.operator import process
from bench.operator.figures import Crowd, Edit, Restart, Window
from bench.operator.ground import Told, api, condition, table_of
from tests.e2e.serving import wishes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.operator.ground import Api
    from tests.e2e.serving.operators import HostOperator, Operators
    from tests.e2e.serving.place import Place

AT_ONCE = 16
"""Objects that are applied at a time."""

PATIENCE_S = 120.0
"""Seconds for anything that is waited for."""

BETWEEN_S = 0.1
"""Seconds between two edits: each is measured alone."""

REST_S = 5.0
"""Seconds before the first window of rest."""

WRITTEN = (LOCAL_MODELS, MODEL_POOLS, CONFIG_MAPS, CONTROLLER_REVISIONS, DEPLOYMENTS, JOBS, NETWORK_POLICIES, SERVICES)
"""Kinds that the operator may write here, beside events and its Lease."""


@dataclass(frozen=True)
class Size:
    """How much there is, and for how long it is looked at.

    Attributes:
        models: LocalModels.
        pools: ModelPools; each has an equal share of the models.
        windows: how often rest is measured.
        window_s: seconds of each.
        edits: of pools and of models each, at most one for each pool.
        restarts: of each way.
    """

    models: int
    pools: int
    windows: int
    window_s: float
    edits: int
    restarts: int

    @property
    def share(self) -> int:
        """Models of each pool."""
        return self.models // self.pools


def model_name(number: int) -> str:
    """Give the name of a model."""
    return f"model-{number:04d}"


def pool_name(number: int) -> str:
    """Give the name of a pool."""
    return f"pool-{number:03d}"


def models(size: Size, url: str) -> Iterator[dict[str, Any]]:
    """Give all models; each has a name of its own at the server, else they would be one revision."""
    for number in range(size.models):
        yield wishes.external(model_name(number), url, model_name(number))


def pools(size: Size) -> Iterator[dict[str, Any]]:
    """Give all pools: a task with its model and a fallback; the rest of its models are candidates that nobody chose."""
    for number in range(size.pools):
        own = [model_name(number * size.share + each) for each in range(size.share)]
        task = {"name": "chat", "model": own[0], "fallback": [own[1]]}
        spec = {"tasks": [task], "models": own, "router": {"replicas": 0}}
        yield {**wishes.pool(pool_name(number), own[0]), "spec": spec}


class _Seen:
    """The latest of every object, and whoever waits for one to be otherwise."""

    def __init__(self) -> None:
        self.bodies: dict[tuple[str, str], Told] = {}
        self.events = 0
        self._changed = asyncio.Event()

    def told(self, told: Told) -> None:
        self.bodies[told.kind, told.name] = told
        self.events += 1
        self._changed.set()

    async def until(self, fact: Callable[[], float | None], what: str) -> float:
        """Wait until a fact holds, and give the moment that it names."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while (at := fact()) is None:
                    self._changed.clear()
                    await self._changed.wait()
                return at
        except TimeoutError:
            raise SystemExit(f"not within {PATIENCE_S:g} s: {what}") from None

    def of(self, kind: str, name: str) -> Told | None:
        return self.bodies.get((kind, name))


async def measured(place: Place, started: Operators, size: Size, url: str, say: Callable[[str], None]) -> Crowd:
    """Measure all of it.

    Args:
        place: a namespace with nothing in it.
        started: starts operators for it.
        size: how much.
        url: of the server that all models run at.
        say: tells how far it is.
    """
    async with api(place) as server:
        seen = _Seen()
        async with server.watched((LOCAL_MODELS, MODEL_POOLS, CONFIG_MAPS), seen.told):
            crowd = Crowd(size.models, size.pools)
            operator = await asyncio.to_thread(started.start)
            say(f"{size.models} models and {size.pools} pools are applied")
            await _apply_all(server, seen, size, url, crowd)
            least = size.models + size.pools
            settled = await asyncio.to_thread(process.settle, operator, least, PATIENCE_S)
            crowd.passes = settled.passes
            say(f"{size.edits} edits of pools, {size.edits} of models")
            await _edit_all(server, seen, size, crowd)
            await asyncio.to_thread(process.settle, operator, least, PATIENCE_S)
            await asyncio.sleep(REST_S)
            for number in range(size.windows):
                say(f"rest, window {number + 1} of {size.windows}, {size.window_s:g} s")
                crowd.windows.append(await _rest(server, operator, size))
            crowd.failed = _counted(operator).failed
            for number in range(size.restarts):
                for killed in (True, False):
                    say(f"restart {number + 1} of {size.restarts}, {'killed' if killed else 'in order'}")
                    operator, restart = await asyncio.to_thread(_restart, operator, started, least, killed=killed)
                    crowd.restarts.append(restart)
        return crowd


async def _apply_all(server: Api, seen: _Seen, size: Size, url: str, crowd: Crowd) -> None:
    """Apply everything, and wait until all pools are Ready."""
    at_once = asyncio.Semaphore(AT_ONCE)

    async def apply(resource: Any, wish: dict[str, Any]) -> None:  # noqa: ANN401  a kind of ours
        async with at_once:
            await server.apply(resource, wish)

    began = time.perf_counter()
    await asyncio.gather(*(apply(LOCAL_MODELS, each) for each in models(size, url)))
    await asyncio.gather(*(apply(MODEL_POOLS, each) for each in pools(size)))
    crowd.applied_s = time.perf_counter() - began
    wanted = [("ModelPool", pool_name(number)) for number in range(size.pools)]
    wanted += [("LocalModel", model_name(number)) for number in range(size.models)]

    def ready() -> float | None:
        told = [seen.of(*each) for each in wanted]
        holds = all(each is not None and condition(each.body).get("status") == "True" for each in told)
        return max(each.at for each in told if each is not None) if holds else None

    crowd.settled_s = await seen.until(ready, "all pools and models are Ready") - began


async def _edit_all(server: Api, seen: _Seen, size: Size, crowd: Crowd) -> None:
    """Edit one pool after the other, and one model after the other."""
    for number in range(size.edits):
        crowd.pool_edits.append(await _edit_pool(server, seen, size, number % size.pools))
        await asyncio.sleep(BETWEEN_S)
    for number in range(size.edits):
        crowd.model_edits.append(await _edit_model(server, seen, size, number % size.pools))
        await asyncio.sleep(BETWEEN_S)


async def _edit_pool(server: Api, seen: _Seen, size: Size, number: int) -> Edit:
    """Give a pool another fallback, which has to be asked before routers are told of it."""
    name, base = pool_name(number), number * size.share
    fallback = model_name(base + 2)
    task = {"name": "chat", "model": model_name(base), "fallback": [fallback]}
    sent = time.perf_counter()
    stored = await server.edit(MODEL_POOLS, name, {"spec": {"tasks": [task]}})
    answered = time.perf_counter()
    generation = stored["metadata"]["generation"]

    def said() -> float | None:
        return _observed(seen.of("ModelPool", name), generation)

    def routed() -> float | None:
        told = seen.of("ConfigMap", names.routes_name(name))
        if told is None:
            return None
        backends = table_of(told.body)["tasks"]["chat"]["fallback"]
        return told.at if [each["model"] for each in backends] == [fallback] else None

    return Edit(
        sent, answered, await seen.until(said, f"{name} says so"), await seen.until(routed, f"{name} is routed")
    )


async def _edit_model(server: Api, seen: _Seen, size: Size, number: int) -> Edit:
    """Mark a model that a pool may use as deprecated."""
    name = model_name(number * size.share + size.share - 1)
    sent = time.perf_counter()
    stored = await server.edit(LOCAL_MODELS, name, {"spec": {"deprecated": "a newer one is there"}})
    answered = time.perf_counter()
    generation = stored["metadata"]["generation"]
    said = await seen.until(lambda: _observed(seen.of("LocalModel", name), generation), f"{name} says so")
    return Edit(sent, answered, said, said)


def _observed(told: Told | None, generation: int) -> float | None:
    """When the status was about this generation; None while it is not."""
    if told is None or told.body is None:
        return None
    return told.at if (told.body.get("status") or {}).get("observedGeneration", 0) >= generation else None


async def _rest(server: Api, operator: HostOperator, size: Size) -> Window:
    """Look at an operator at rest, from outside: its own port is asked before and after only."""
    seen, renewed, events = _Seen(), _Seen(), _Seen()
    async with (
        server.watched(WRITTEN, seen.told),
        server.watched((LEASES,), renewed.told),
        server.watched((EVENTS,), events.told),
    ):
        busy = os.getloadavg()[0]
        told = seen.events, renewed.events, events.events
        before, counted = process.used(operator), _counted(operator)
        await asyncio.sleep(size.window_s)
        after, writes = process.used(operator), _counted(operator).writes - counted.writes
    return Window(
        seconds=after.at - before.at,
        core=(after.processor_s - before.processor_s) / (after.at - before.at),
        resident=after.resident,
        proportional=after.proportional,
        most=after.most,
        writes=int(writes),
        changes=seen.events - told[0],
        renewals=renewed.events - told[1],
        events=events.events - told[2],
        busy=busy,
    )


def _counted(operator: HostOperator) -> process.Counted:
    found = process.look(operator)
    if found is None:
        raise SystemExit(f"the operator does not answer:\n{operator.log.read_text()[-2000:]}")
    return found


def _restart(operator: HostOperator, started: Operators, least: int, *, killed: bool) -> tuple[HostOperator, Restart]:
    """End an operator, start another at once, and wait until it rests."""
    began = time.perf_counter()
    if killed:
        operator.signal(signal.SIGKILL)
        operator.process.wait(30)
    else:
        operator.end()
    ended = time.perf_counter()
    successor = started.start(leading=False)
    settled = process.settle(successor, least, PATIENCE_S)
    writes = _counted(successor).writes
    return successor, Restart(
        killed=killed,
        ended_s=ended - began,
        leads_s=settled.led_at - began,
        rests_s=settled.rested_at - began,
        passes=settled.passes,
        writes=int(writes),
    )
