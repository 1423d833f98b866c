"""Snapshots: everything that the caches know of a pool or a model, and None for what they do not."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.api.swappolicy import DEFAULT_POLICY, Mode, SwapPolicySpec
from arbiter.controller.answers import read_router
from arbiter.controller.cache import Cache
from arbiter.controller.check_texts import CheckTexts
from arbiter.controller.jobs import HttpSending, Jobs
from arbiter.controller.options import Options
from arbiter.controller.scrape import AWAITED_S, ENGINE_S, TURN_S, Scrape
from arbiter.controller.snapshot import Assembly
from arbiter.controller.tables import Tables
from arbiter.core.actions import ObjectKey
from arbiter.core.feed import Feed
from arbiter.core.manifests.routes import ROUTES_KEY
from arbiter.core.snapshot import LoadedModel
from arbiter.kubeapi.resources import CONFIG_MAPS, DEPLOYMENTS
from tests.unit.controller.cluster_objects import MODEL, POOL, child, model, pod, policy, pool, swap
from tests.unit.controller.stored import Stored
from tests.unit.controller.test_answers import feed, routes

if TYPE_CHECKING:
    from collections.abc import Callable

    from arbiter.core.snapshot import ModelSnapshot, PoolSnapshot

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
SETTINGS = Options().settings(epoch=5)
ROUTER = {"arbiter.dev/pool": "assistant", "app.kubernetes.io/component": "router"}
ENGINE = {
    "arbiter.dev/pool": "assistant",
    "app.kubernetes.io/component": "engine",
    "arbiter.dev/revision": "0a0a0a0a0a",
    "arbiter.dev/engine": "LlamaCpp",
}
SHARED = {"arbiter.dev/pool": "assistant", "app.kubernetes.io/component": "engine", "arbiter.dev/engine": "Ollama"}
TARGET = {"side": "old", "weight": 100, "revision": "0a0a0a0a0a", "model": "m", "engine": "LlamaCpp", "service": "s"}
TABLE: dict[str, Any] = {
    "version": 1,
    "epoch": 3,
    "generation": 17,
    "sliceMs": 15000,
    "tasks": {
        "chat": {
            "targets": [TARGET],
            "fallback": [],
            "hold": {"requests": 1, "ms": 1, "hopeless": ""},
            "swap": "",
            "capabilities": [],
            "contextWindow": None,
            "pins": {},
        }
    },
    "limits": {"bodyBytes": 1, "headerMs": 1, "bodyMs": 1, "firstByteMs": 1, "idleMs": 1, "totalMs": 1},
    "auth": None,
}


class Answers:
    """What every server answers, by the end of its address."""

    def __init__(self, **answers: bytes) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def get(self, url: str) -> bytes:
        """Give the answer, or none."""
        self.asked.append(url)
        name = url.rpartition("/")[2]
        if name not in self.answers:
            raise OSError(f"{url} does not answer")
        return self.answers[name]


class World:
    """Caches, and what is made of them."""

    def __init__(self, answers: Answers) -> None:
        self.concerned: list[object] = []
        self.cache = Cache(self.concerned.append)
        self.tables = Tables(self.cache)
        self.scrape = Scrape(self.cache, answers, self.tables, self.concerned.append)
        jobs = Jobs(HttpSending(None), self.concerned.append, lambda: NOW)  # type: ignore[arg-type]  # nothing is sent
        self.stored = Stored()
        self.checks = CheckTexts(self.cache, self.stored, self.concerned.append)
        self.assembly = Assembly(self.cache, self.tables, self.scrape, jobs, self.checks)

    def pool(self) -> PoolSnapshot:
        """The pool's snapshot."""
        found = self.assembly.pool(POOL, SETTINGS)
        assert found is not None
        return found

    def model(self) -> ModelSnapshot:
        """The model's snapshot."""
        found = self.assembly.model(MODEL, SETTINGS)
        assert found is not None
        return found


def after(fill: Callable[[World], None], answers: Answers | None = None, asked: float = 0.0) -> World:
    """A world that was filled, and whose servers were asked once."""

    async def story() -> World:
        world = World(answers or Answers())
        fill(world)
        task = asyncio.create_task(world.scrape.run(lambda: asked, lambda: NOW))
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        return world

    return asyncio.run(story())


def put_pods(world: World, **labels: dict[str, str]) -> None:
    """Pods by their names."""
    for name, each in labels.items():
        world.cache.pod_seen(("team", name), pod(name, each))


def test_a_pool_that_is_gone_has_no_snapshot() -> None:
    """Nor has a model."""
    world = after(lambda _: None)
    assert world.assembly.pool(POOL, SETTINGS) is None
    assert world.assembly.model(MODEL, SETTINGS) is None


def test_a_pool_of_which_nothing_else_is_known_yet() -> None:
    """Nothing is there, and nothing is guessed."""
    snapshot = after(lambda world: world.cache.pool_seen(("team", "assistant"), pool())).pool()
    assert (snapshot.standing, snapshot.engines, snapshot.routers, snapshot.nodes) == ({}, {}, (), ())
    assert (snapshot.table, snapshot.jobs, snapshot.settings.epoch) == (None, {}, 5)


def fill(world: World) -> None:
    """A pool that serves."""
    world.cache.pool_seen(("team", "assistant"), pool())
    world.cache.model_seen(("team", "smollm2"), model())
    world.cache.child_seen(
        CONFIG_MAPS, ("team", "assistant-routes"), child("assistant-routes", data={ROUTES_KEY: json.dumps(TABLE)})
    )
    name = "assistant-0b0b0b0b0b"
    world.cache.child_seen(DEPLOYMENTS, ("team", name), child(name, labels={"app.kubernetes.io/component": "engine"}))
    put_pods(world, e1=ENGINE, r1=ROUTER, r2=ROUTER, o1=SHARED)
    labels = {"kubernetes.io/service-name": "assistant-0a0a0a0a0a", "arbiter.dev/pool": "assistant"}
    metadata = {"name": "s", "namespace": "team", "labels": labels}
    endpoint = {"addresses": ["10.244.0.7"], "conditions": {"ready": True}, "targetRef": {"name": "e1"}}
    world.cache.slice_seen(("team", "s"), {"metadata": metadata, "endpoints": [endpoint]})


def test_everything_that_is_known_of_a_pool() -> None:
    """Engines by their Deployments, those without pods too; routers with what they said."""
    answers = Answers(
        routes=routes(),
        slices=feed((17, "chat", "old", 3, 1)),
        ps=b'{"models": [{"name": "arbiter/m:0a", "digest": "d", "size": 7}]}',
        tags=b'{"models": [{"name": "arbiter/m:0a", "digest": "d"}]}',
    )
    world = after(fill, answers)
    snapshot = world.pool()
    assert set(snapshot.models) == {"smollm2"}
    assert ObjectKey("ConfigMap", "assistant-routes") in snapshot.standing
    assert snapshot.table is not None
    assert snapshot.table.generation == 17
    assert list(snapshot.engines) == ["assistant-0a0a0a0a0a", "assistant-0b0b0b0b0b", "assistant-ollama"]
    serving, empty, shared = snapshot.engines.values()
    assert ([each.name for each in serving.pods], serving.ready_endpoints, serving.loaded) == (["e1"], 1, None)
    assert (empty.pods, empty.ready_endpoints) == ((), 0)
    assert shared.loaded == (LoadedModel("arbiter/m:0a", "d", 7),)
    assert shared.stored == {"arbiter/m:0a": "d"}
    assert [router.pod.name for router in snapshot.routers] == ["r1", "r2"]
    router = snapshot.routers[0]
    assert (router.epoch, router.generation, router.hash, router.fence) == (3, 17, "9c0ffee123456789", 3)
    assert (router.read_at, router.in_flight) == (NOW, {"0a0a0a0a0a": 2})
    assert dict(world.scrape.fences())[POOL].generation == 17
    assert world.concerned.count(POOL) >= 3


def test_a_router_that_did_not_answer_has_said_nothing() -> None:
    """And it is counted."""
    world = after(fill)
    assert [router.read_at for router in world.pool().routers] == [None, None]
    assert [router.in_flight for router in world.pool().routers] == [None, None]
    assert world.scrape.failures == 3
    assert [router.silent for router in world.pool().routers] == [False, False]
    assert list(world.scrape.fences()) == []


def downloads(world: World, **state: dict[str, Any]) -> None:
    """An engine whose init container is in this state."""
    world.cache.pool_seen(("team", "assistant"), pool())
    body = pod("e1", ENGINE)
    body["status"].update({"phase": "Pending", "initContainerStatuses": [{"name": "fetch", "state": state}]})
    world.cache.pod_seen(("team", "e1"), body)


def test_a_download_is_shown_with_its_pod() -> None:
    """As far as it says."""
    answers = Answers(progress=b'{"bytes": 5, "total": 10}')
    (view,) = after(lambda world: downloads(world, running={}), answers).pool().engines["assistant-0a0a0a0a0a"].pods
    assert (view.fetched, view.fetching) == (5, 10)
    assert answers.asked == ["http://10.244.0.7:9093/progress"]


def test_a_download_that_is_over_is_shown_no_more() -> None:
    """What it said last is of the past: the engine starts, or it is said why the download failed."""
    world = after(lambda world: downloads(world, running={}), Answers(progress=b'{"bytes": 5, "total": 10}'))
    downloads(world, terminated={"exitCode": 1})
    (view,) = world.pool().engines["assistant-0a0a0a0a0a"].pods
    assert (view.fetched, view.fetching, view.last_container) == (None, None, "fetch")


def test_a_job_that_carries_a_model_is_shown_with_how_far_it_is() -> None:
    """By the name of the Job; and its shared engine is asked more often meanwhile."""

    def carries(world: World) -> None:
        fill(world)
        labels = {**ENGINE, "app.kubernetes.io/component": "carrier"}
        body = pod("c1", labels)
        owner = {"kind": "Job", "name": "assistant-0a0a0a0a0a-carry-1", "uid": "j", "controller": True}
        body["metadata"]["ownerReferences"] = [owner]
        body["status"]["containerStatuses"] = [{"name": "fetch", "state": {"running": {}}}]
        world.cache.pod_seen(("team", "c1"), body)

    answers = Answers(progress=b'{"bytes": 5, "total": 10}', ps=b'{"models": []}', tags=b'{"models": []}')
    world = after(carries, answers)
    ((name, (view,)),) = world.pool().carriers.items()
    assert (name, view.fetched, view.fetching) == ("assistant-0a0a0a0a0a-carry-1", 5, 10)
    assert "c1" not in {each.name for engine in world.pool().engines.values() for each in engine.pods}
    (shared,) = [each for each in world.cache.pods if each.view.name == "o1"]
    assert world.scrape.rhythm_s(shared) == AWAITED_S
    world.cache.pod_seen(("team", "c1"), None)
    assert world.scrape.rhythm_s(shared) == ENGINE_S
    assert world.pool().carriers == {}


def test_a_shared_engine_is_asked_at_once_where_something_was_done_there() -> None:
    """A pull that has ended is seen in the next turn, not seconds later."""

    async def story() -> list[int]:
        answers = Answers(ps=b'{"models": []}', tags=b'{"models": []}')
        world = World(answers)
        fill(world)
        task = asyncio.create_task(world.scrape.run(lambda: 0.0, lambda: NOW))
        counts = []
        for _ in range(2):
            for _ in range(20):
                await asyncio.sleep(TURN_S / 10)
            counts.append(sum(url.endswith("/api/ps") for url in answers.asked))
            world.scrape.soon(POOL)
        for _ in range(20):
            await asyncio.sleep(TURN_S / 10)
        counts.append(sum(url.endswith("/api/ps") for url in answers.asked))
        task.cancel()
        await asyncio.wait({task})
        return counts

    assert asyncio.run(story()) == [1, 2, 3]


@pytest.mark.parametrize(
    ("claims", "want"),
    [
        pytest.param((None, None), (), id="none has one"),
        pytest.param(("kept", "other"), (), id="each its own"),
        pytest.param(("kept", "kept"), ("second",), id="both the same"),
    ],
)
def test_pools_that_share_a_claim_are_known(claims: tuple[str | None, str | None], want: tuple[str, ...]) -> None:
    """What one of them does not need the other one may."""

    def two(world: World) -> None:
        for name, claim in zip(("assistant", "second"), claims, strict=True):
            cache: dict[str, Any] = {"cache": {"claim": claim}} if claim else {}
            world.cache.pool_seen(("team", name), pool(name, **cache))

    assert after(two).pool().same_claim == want


def test_a_model_knows_its_resolver_and_who_uses_it() -> None:
    """By name, or because it serves."""

    def used(world: World) -> None:
        world.cache.model_seen(("team", "smollm2"), model())
        world.cache.pool_seen(("team", "assistant"), pool())
        status = {"tasks": [{"name": "code", "active": {"model": "smollm2", "revision": "0a0a0a0a0a"}}]}
        tasks = [{"name": "code", "model": "gemma"}]
        world.cache.pool_seen(("team", "other"), pool("other", status=status, tasks=tasks))
        resolver = {"arbiter.dev/model": "smollm2", "app.kubernetes.io/component": "resolver"}
        put_pods(world, resolve=resolver, engine={**ENGINE, "arbiter.dev/model": "smollm2"})

    snapshot = after(used).model()
    assert [each.name for each in snapshot.resolver] == ["resolve"]
    assert snapshot.used_by == {"assistant": ("chat",), "other": ("code",)}


def test_each_is_asked_in_its_own_rhythm() -> None:
    """Often while a router obeys another table, seldom at rest, and ever more seldom in vain: then it is silent."""
    silences: list[bool] = []

    async def story() -> list[int]:
        now, counts = 0.0, []
        hash_of = json.loads(json.dumps(TABLE))
        answers = Answers(slices=feed())
        world = World(answers)
        world.cache.pool_seen(("team", "assistant"), pool())
        put_pods(world, r1=ROUTER)
        (router,) = world.cache.pods
        task = asyncio.create_task(world.scrape.run(lambda: now, lambda: NOW))

        async def turns(seconds: int) -> int:
            nonlocal now
            before = sum(url.endswith("routes") for url in answers.asked)
            for _ in range(seconds):
                now += 1.0
                await asyncio.sleep(0.001)
                await asyncio.sleep(0.001)
            return sum(url.endswith("routes") for url in answers.asked) - before

        counts.append(await turns(64))
        silences.append(world.scrape.is_silent(router))
        told = world.concerned.count(POOL)
        answers.answers["routes"] = routes()
        counts.append(await turns(60))
        silences.append(world.scrape.is_silent(router))
        assert world.concerned.count(POOL) > told
        body = child("assistant-routes", data={ROUTES_KEY: json.dumps(hash_of)})
        world.cache.child_seen(CONFIG_MAPS, ("team", "assistant-routes"), body)
        table = world.tables.of(POOL)
        assert table is not None
        answers.answers["routes"] = routes(table={"epoch": 3, "generation": 17, "hash": table.hash})
        counts.append(await turns(90))
        answers.answers["slices"] = feed((5, "chat", "old", 2, 1))
        counts.append(await turns(60))
        task.cancel()
        await asyncio.wait({task})
        return counts

    import arbiter.controller.scrape as module  # noqa: PLC0415  its pace is changed for this alone

    turn, module.TURN_S = module.TURN_S, 0.0
    try:
        in_vain, awaited, at_rest, draining = asyncio.run(story())
    finally:
        module.TURN_S = turn
    assert 4 <= in_vain <= 8
    assert silences == [True, False]
    assert 25 <= awaited <= 60
    assert 2 <= at_rest <= 5
    assert draining >= 15, "what is to go still has requests"


@pytest.mark.parametrize(
    ("side", "least", "most"),
    [
        pytest.param("old", 2, 5, id="requests on the side that keeps them"),
        pytest.param("new", 25, 60, id="requests on the side that is taken back"),
    ],
)
def test_a_router_is_asked_often_until_what_is_taken_back_is_idle(
    monkeypatch: pytest.MonkeyPatch, side: str, least: int, most: int
) -> None:
    """It stands in the table still, without weight; a swap ends only once its answers have."""
    monkeypatch.setattr("arbiter.controller.scrape.TURN_S", 0.0)
    new = {**TARGET, "side": "new", "weight": 0, "revision": "1b1b1b1b1b"}
    chat = {**TABLE["tasks"]["chat"], "targets": [new, TARGET]}
    text = json.dumps({**TABLE, "tasks": {"chat": chat}})

    async def story() -> int:
        now, answers = 0.0, Answers(slices=feed((17, "chat", side, 2, 1)))
        world = World(answers)
        world.cache.pool_seen(("team", "assistant"), pool())
        world.cache.child_seen(
            CONFIG_MAPS, ("team", "assistant-routes"), child("assistant-routes", data={ROUTES_KEY: text})
        )
        table = world.tables.of(POOL)
        assert table is not None
        answers.answers["routes"] = routes(table={"epoch": 3, "generation": 17, "hash": table.hash})
        put_pods(world, r1=ROUTER)
        task = asyncio.create_task(world.scrape.run(lambda: now, lambda: NOW))
        for _ in range(60):
            now += 1.0
            await asyncio.sleep(0.001)
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait({task})
        return sum(url.endswith("routes") for url in answers.asked)

    assert least <= asyncio.run(story()) <= most


def test_a_pool_knows_its_swaps_and_what_rules_them() -> None:
    """The policy that it names, the built-in one without, and none where that is not there."""
    world = World(Answers())
    world.cache.pool_seen(("team", "assistant"), pool())
    world.cache.swap_seen(("team", "assistant-chat-1"), swap())
    assert [each.metadata.name for each in world.pool().swaps] == ["assistant-chat-1"]
    assert world.pool().policy == DEFAULT_POLICY
    world.cache.pool_seen(("team", "assistant"), pool(version=2, swapPolicy="slow"))
    assert world.pool().policy is None
    world.cache.policy_seen(("team", "slow"), policy(mode="Automatic"))
    assert world.pool().policy == SwapPolicySpec(mode=Mode.Automatic)


def test_checks_are_read_by_name_and_concern_their_pool_when_they_change() -> None:
    """Often while a swap is to begin, seldom at rest; what nobody names any more is forgotten."""
    world = World(Answers())
    chat = {"name": "chat", "model": "smollm2", "checks": {"configMap": "capitals"}}
    world.cache.pool_seen(("team", "assistant"), pool(tasks=[chat]))
    path = "/api/v1/namespaces/team/configmaps/capitals"

    async def read(*times: float) -> None:
        for time in times:
            await world.checks.read_due(time)

    assert world.pool().checks == {}
    asyncio.run(read(0.0))
    assert world.pool().checks == {"capitals": None}
    world.stored.objects[path] = {"metadata": {"name": "capitals"}, "data": {"checks.yaml": "version: 1"}}
    asyncio.run(read(1.0, 59.0))
    assert world.pool().checks == {"capitals": None}
    world.concerned.clear()
    asyncio.run(read(60.0))
    assert world.pool().checks == {"capitals": "version: 1"}
    assert world.concerned == [POOL]
    world.cache.swap_seen(("team", "assistant-chat-1"), swap())
    world.stored.objects[path]["data"]["checks.yaml"] = "version: 2"
    asyncio.run(read(62.0))
    assert world.pool().checks == {"capitals": "version: 2"}
    world.cache.pool_seen(("team", "assistant"), pool(version=2))
    asyncio.run(read(63.0))
    assert world.pool().checks == {}


def test_a_router_is_read_whole_while_a_swap_learns_from_it() -> None:
    """Its counts are handed on, and each new count is news; at rest nobody keeps them."""
    counted = Feed("life", 15_000, ())
    obeyed = json.dumps({"table": None, "fence": None, "refused": ""}).encode()
    assert read_router(obeyed, counted.to_text().encode(), {}).feed is None
    assert read_router(obeyed, counted.to_text().encode(), {}, learning=True).feed == counted


BUSY = b"llamacpp:requests_processing 1\nllamacpp:requests_deferred 0\n"
IDLE = b"llamacpp:requests_processing 0\nllamacpp:requests_deferred 0\n"


@pytest.mark.parametrize(
    ("status", "metrics", "want"),
    [
        pytest.param({"phase": "RollingBack"}, BUSY, False, id="it computes"),
        pytest.param({"phase": "RollingBack"}, IDLE, True, id="it does not"),
        pytest.param({"phase": "Shifting", "stage": "ClearingOld"}, IDLE, True, id="one is to take its place"),
        pytest.param({"phase": "RollingBack"}, b"something else", None, id="it says something else"),
        pytest.param({"phase": "Shifting"}, IDLE, None, id="nobody waits for that"),
    ],
)
def test_an_engine_is_asked_what_it_computes_while_a_swap_waits_for_that(
    status: dict[str, Any], metrics: bytes, want: bool | None
) -> None:
    """Only then, and what it does not say is not taken for an end; a shared engine is never asked."""

    def swaps(world: World) -> None:
        fill(world)
        world.cache.swap_seen(("team", "assistant-chat-1"), swap(**status))

    answers = Answers(metrics=metrics, ps=b'{"models": []}', tags=b'{"models": []}')
    world = after(swaps, answers)
    serving, _, shared = world.pool().engines.values()
    assert (serving.idle, shared.idle) == (want, None)
    assert answers.asked.count("http://10.244.0.7:8080/metrics") == (0 if status == {"phase": "Shifting"} else 1)
