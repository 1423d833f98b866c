"""Measures a pool from `kubectl apply` to its first completion, with all images on the node, and whose time it took.

A real llama-server with a real small model. What happens is taken from watches, at the moments at which they tell; a
client asks from the beginning, over and over, at the address that the pool's Service has.

What the resolver's program takes cannot be seen from outside: the kubelet tells of starts and ends within a second.
So it is run once more on this machine, beside, with the same source.

Rule: a moment that was not seen is an error, and never a part of nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from arbiter.core.manifests import names
from arbiter.kubeapi.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    JOBS,
    LOCAL_MODELS,
    MODEL_POOLS,
    PODS,
    SERVICES,
)
from bench.operator.figures import First
from bench.operator.ground import Told, api, condition, table_of
from tests.e2e.serving import wishes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bench.operator.ground import Api
    from tests.e2e.serving.place import Place

WATCHED = (LOCAL_MODELS, MODEL_POOLS, JOBS, DEPLOYMENTS, PODS, ENDPOINT_SLICES, CONFIG_MAPS, SERVICES)
"""What the moments are taken from."""

POOL, MODEL = "first", "first-model"

PATIENCE_S = 120.0
"""Seconds within which a pool has to answer."""

AGAIN_S = 0.01
"""Seconds between two attempts of a client whose connection is refused or that is told to come back."""

NEVER = float("inf")


@dataclass(frozen=True)
class Sent:
    """What was done from here.

    Attributes:
        at: when the pool was applied.
        answered: when the API server had answered that.
        reached: when the engine's Service took a connection, and the pool's.
        completed: when the first completion had come.
        completion_s: seconds that one more takes, through the same Service and without what its engine remembers.
    """

    at: float
    answered: float
    reached: tuple[float, float]
    completed: float
    completion_s: float


async def measured(place: Place, *, known: bool) -> First:
    """Apply a pool, ask until it answers, and take it away again.

    Args:
        place: a namespace that an operator serves.
        known: the model was there before and is resolved; else both are applied together.
    """
    told: list[Told] = []
    busy = os.getloadavg()[0]
    async with api(place) as server:
        if known:
            await server.apply(LOCAL_MODELS, wishes.model(MODEL))
            await asyncio.to_thread(place.ready, f"localmodel/{MODEL}")
        async with server.watched(WATCHED, told.append):
            sent = await _asked(server, told, known=known)
            await _until(lambda: _ready_at(told) != NEVER, "the pool is Ready")
            await asyncio.sleep(0.5)
        await asyncio.to_thread(place.delete, f"modelpool/{POOL}", f"localmodel/{MODEL}")
        await asyncio.to_thread(_gone, place)
    resolver_s = 0.0 if known else await asyncio.to_thread(_resolver_s)
    return First(known, moments(told, sent, known=known), resolver_s, busy)


def _resolver_s() -> float:
    """Seconds that the resolver's program takes here for the same source."""
    source = wishes.model(MODEL)["spec"]["source"]
    words = ("resolve", f"--source={source}", f"--plain-http={wishes.REGISTRY}")
    began = time.perf_counter()
    subprocess.run((sys.executable, "-m", "arbiter.cli.main", *words), check=True, capture_output=True)  # noqa: S603  our own program
    return time.perf_counter() - began


async def _asked(server: Api, told: Sequence[Told], *, known: bool) -> Sent:
    """Apply and ask."""
    at = time.perf_counter()
    if not known:
        await server.apply(LOCAL_MODELS, wishes.model(MODEL))
    await server.apply(MODEL_POOLS, wishes.pool(POOL, MODEL))
    answered = time.perf_counter()
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        engine = group.create_task(_reached(told, names.ENGINES))
        routers = group.create_task(_reached(told, names.ROUTER))
        asking = group.create_task(_completions(told))
    completed, completion_s = asking.result()
    return Sent(at, answered, (engine.result(), routers.result()), completed, completion_s)


async def _reached(told: Sequence[Told], component: str) -> float:
    """Wait until a Service takes a connection: every node has to hear of its endpoints first."""
    while True:
        with suppress(OSError, LookupError):
            _, writer = await asyncio.open_connection(*_address(told, component))
            writer.close()
            return time.perf_counter()
        await asyncio.sleep(AGAIN_S)


async def _completions(told: Sequence[Told]) -> tuple[float, float]:
    """Ask until a completion comes, and once more; give when the first came, and the seconds of the other."""
    async with aiohttp.ClientSession() as session:
        while not await _completion(session, told):  # noqa: ASYNC110  it is asked over the network
            await asyncio.sleep(AGAIN_S)
        completed = time.perf_counter()
        await _completion(session, told, cache_prompt=False)
        return completed, time.perf_counter() - completed


async def _completion(session: aiohttp.ClientSession, told: Sequence[Told], **more: object) -> bool:
    """Ask for a completion, whatever comes of it, with these further fields."""
    try:
        host, port = _address(told, names.ROUTER)
        url, times = f"http://{host}:{port}/v1/chat/completions", aiohttp.ClientTimeout(sock_connect=0.5)
        async with session.post(url, json={**wishes.QUESTION, **more}, timeout=times) as answer:
            text = await answer.text()
    except (aiohttp.ClientError, TimeoutError, LookupError):
        return False
    if answer.status != 200:
        return False
    said = json.loads(text)["choices"][0]["message"]["content"]
    if "Paris" not in said:
        raise SystemExit(f"that is no answer: {said!r}")
    return True


async def _until(fact: Callable[[], bool], what: str) -> None:
    end = time.perf_counter() + PATIENCE_S
    while not fact():
        if time.perf_counter() > end:
            raise SystemExit(f"not within {PATIENCE_S:g} s: {what}")
        await asyncio.sleep(0.002)


def _address(told: Iterable[Told], component: str) -> tuple[str, int]:
    """Give the address and the port of a component's Service.

    Raises:
        LookupError: it has none yet.
    """
    specs = [each.body["spec"] for each in _labelled(told, "Service", component) if each.body is not None]
    return specs[0]["clusterIP"], specs[0]["ports"][0]["port"]


def _gone(place: Place) -> None:
    place.until(lambda: not place.left_of(POOL), f"nothing is left of {POOL}", 120)
    place.until(lambda: not place.listed("pods"), "no pod is left", 180)


def moments(told: Sequence[Told], sent: Sent, *, known: bool) -> dict[str, float]:
    """Give what happened; seconds since the pool was applied, but for `one more`, which is a length of time.

    Raises:
        LookupError: something that must have happened was not seen.
    """
    # The operator's own question and the first completion went through the Services, whenever ours did.
    active = _first(told, "ModelPool", POOL, _active)
    found = {
        "applied": sent.answered,
        **({} if known else _resolver_moments(told)),
        **_pod_moments(told, "engine", names.ENGINES),
        "engine reached": min(sent.reached[0], active),
        "active": active,
        "routed": _first(told, "ConfigMap", names.routes_name(POOL), _routed),
        **_pod_moments(told, "router", names.ROUTER),
        "router reached": min(sent.reached[1], sent.completed - sent.completion_s),
        "completed": sent.completed,
        "ready": _ready_at(told),
    }
    if unseen := [name for name, at in found.items() if at == NEVER]:
        raise LookupError(f"these were not seen: {', '.join(unseen)}")
    return {**{name: at - sent.at for name, at in found.items()}, "one more": sent.completion_s}


def _resolver_moments(told: Sequence[Told]) -> dict[str, float]:
    job = names.resolver_name(MODEL)
    return {
        "resolver made": _first(told, "Job", job, lambda _: True),
        "resolver runs": _pod(told, names.RESOLVER, _started),
        "resolver ended": _pod(told, names.RESOLVER, _ended),
        "resolved": _first(told, "LocalModel", MODEL, lambda body: condition(body).get("status") == "True"),
    }


def _pod_moments(told: Sequence[Told], what: str, component: str) -> dict[str, float]:
    """Give the moments of the first pod of a component, from its Deployment to its endpoint."""
    return {
        f"{what} made": min((each.at for each in _labelled(told, "Deployment", component)), default=NEVER),
        f"{what} pod": _pod(told, component, lambda _: True),
        f"{what} scheduled": _pod(told, component, lambda body: bool(body["spec"].get("nodeName"))),
        f"{what} runs": _pod(told, component, _started),
        f"{what} ready": _pod(told, component, lambda body: condition(body).get("status") == "True"),
        f"{what} listed": min(
            (each.at for each in _labelled(told, "EndpointSlice", component) if _listed(each.body)), default=NEVER
        ),
    }


def _labelled(told: Iterable[Told], kind: str, component: str) -> list[Told]:
    return [
        each
        for each in told
        if each.kind == kind
        and each.body is not None
        and (each.body["metadata"].get("labels") or {}).get(names.COMPONENT) == component
    ]


def _pod(told: Iterable[Told], component: str, fact: Callable[[Mapping[str, Any]], bool]) -> float:
    found = _labelled(told, "Pod", component)
    return min((each.at for each in found if each.body is not None and fact(each.body)), default=NEVER)


def _first(told: Iterable[Told], kind: str, name: str, fact: Callable[[Mapping[str, Any]], bool]) -> float:
    found = (each for each in told if (each.kind, each.name) == (kind, name))
    return min((each.at for each in found if each.body is not None and fact(each.body)), default=NEVER)


def _states(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each.get("state") or {} for each in (body.get("status") or {}).get("containerStatuses") or ()]


def _started(body: Mapping[str, Any]) -> bool:
    states = _states(body)
    return bool(states) and all("running" in state or "terminated" in state for state in states)


def _ended(body: Mapping[str, Any]) -> bool:
    states = _states(body)
    return bool(states) and all("terminated" in state for state in states)


def _listed(body: Mapping[str, Any] | None) -> bool:
    endpoints = (body or {}).get("endpoints") or ()
    return any((each.get("conditions") or {}).get("ready") for each in endpoints)


def _active(body: Mapping[str, Any]) -> bool:
    return any(task.get("active") for task in (body.get("status") or {}).get("tasks") or ())


def _routed(body: Mapping[str, Any]) -> bool:
    return any(task["targets"] for task in table_of(body).get("tasks", {}).values())


def _ready_at(told: Iterable[Told]) -> float:
    return _first(told, "ModelPool", POOL, lambda body: condition(body).get("status") == "True")
