"""Carrying out a plan: in order, nothing in vain, nothing of strangers, and a new look after each conflict."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.api.modelswap import Phase
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.controller.apply import Carried, Carrier
from arbiter.controller.cache import Cache
from arbiter.controller.jobs import Jobs
from arbiter.core.actions import (
    Action,
    Apply,
    Create,
    Emit,
    ObjectKey,
    Plan,
    Remove,
    StartJob,
    StopJob,
    WriteStatus,
)
from arbiter.core.manifests.drift import stamped
from arbiter.engines.calls import Call
from arbiter.errors import UnreachableError
from arbiter.kubeapi.events import Events
from arbiter.kubeapi.resources import CONFIG_MAPS, DEPLOYMENTS, SERVICES
from tests.unit.controller.cluster_objects import POOL, child, owned_by, pool, swap
from tests.unit.controller.stored import Stored

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from arbiter.api.modelswap import ModelSwapStatus
    from arbiter.controller.jobs import Came
    from arbiter.controller.queue import Subject
    from arbiter.kubeapi.connection import Request

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
DEPLOYMENT = "/apis/apps/v1/namespaces/team/deployments/assistant-router"
ROUTES = "/api/v1/namespaces/team/configmaps/assistant-routes"


class Silent:
    """Sends nothing, and never has an answer."""

    async def send(self, url: str, call: Call) -> AsyncGenerator[Came, None]:
        """Wait."""
        del url, call
        await asyncio.sleep(3600)
        yield  # type: ignore[misc]  # it makes this a generator

    def __init__(self) -> None:
        """Nothing has moved."""
        self.moved: list[tuple[Phase | None, Phase | None]] = []

    def wrote(self, kind: str, verb: str) -> None:
        """Count nothing."""

    def swap_moved(self, before: ModelSwapStatus, after: ModelSwapStatus) -> None:
        """Note from where to where."""
        self.moved.append((before.phase, after.phase))


class World:
    """A carrier with everything that it touches."""

    def __init__(self) -> None:
        self.stored = Stored()
        self.concerned: list[Subject] = []
        self.cache = Cache(self.concerned.append)
        silent = self.counting = Silent()
        self.jobs = Jobs(silent, self.concerned.append, lambda: NOW)
        self.events = Events(self.stored, "operator-0")
        self.carrier = Carrier(
            asking=self.stored,
            cache=self.cache,
            jobs=self.jobs,
            events=self.events,
            counting=silent,
            now=lambda: NOW,
            secret=lambda: "nobody-can-guess",
        )
        self.cache.pool_seen(("team", "assistant"), pool())

    async def carry_out(self, *actions: Action) -> Carried:
        """Carry out these actions for the pool."""
        return await self.carrier.carry_out(POOL, "uid-pool", Plan(actions))


def told(story: Callable[[World], Any]) -> World:
    """What is left of a world after a story."""

    async def run() -> World:
        world = World()
        await story(world)
        await world.jobs.close()
        return world

    return asyncio.run(run())


def deployment(**spec: Any) -> Apply:  # noqa: ANN401  any field of a spec
    """An Apply of the routers' Deployment."""
    metadata = {
        "name": "assistant-router",
        "namespace": "team",
        "labels": {"app.kubernetes.io/managed-by": "arbiter"},
        "ownerReferences": owned_by("ModelPool", "assistant", "uid-pool"),
    }
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": 2, **spec}}
    return Apply(stamped(manifest))


def test_what_stands_as_it_is_wanted_is_not_written_again() -> None:
    """Neither at once, by what was written, nor later, by what a watch told."""

    async def story(world: World) -> None:
        assert await world.carry_out(deployment()) is Carried.WHOLE
        assert await world.carry_out(deployment()) is Carried.WHOLE
        fresh = World()
        fresh.stored = world.stored
        fresh.cache.child_seen(DEPLOYMENTS, ("team", "assistant-router"), world.stored.objects[DEPLOYMENT])
        assert await fresh.carry_out(deployment()) is Carried.WHOLE

    world = told(story)
    assert world.stored.writes == [f"PATCH {DEPLOYMENT}"]
    assert world.stored.objects[DEPLOYMENT]["metadata"]["ownerReferences"][0]["uid"] == "uid-pool"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda body: body["spec"].update(replicas=7), id="a field of ours"),
        pytest.param(lambda body: body["metadata"]["labels"].clear(), id="a label of ours"),
        pytest.param(lambda body: body["metadata"].pop("annotations"), id="the sum of its content"),
        pytest.param(lambda body: body.pop("spec"), id="a whole part"),
    ],
)
def test_what_somebody_changed_of_ours_is_changed_back(change: Callable[[dict[str, Any]], object]) -> None:
    """And fields that are theirs stay."""

    async def story(world: World) -> None:
        await world.carry_out(deployment())
        body = world.stored.objects[DEPLOYMENT]
        change(body)
        body["metadata"]["annotations"] = {**body["metadata"].get("annotations", {}), "theirs": "stays"}
        world.cache.child_seen(DEPLOYMENTS, ("team", "assistant-router"), world.stored.put(DEPLOYMENT, body))
        await world.carry_out(deployment())

    world = told(story)
    healed = world.stored.objects[DEPLOYMENT]
    assert healed["spec"] == {"replicas": 2}
    assert healed["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "arbiter"}
    assert healed["metadata"]["annotations"]["theirs"] == "stays"
    assert len(world.stored.writes) == 2


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        pytest.param({"cpu": "1000m"}, {"cpu": "1"}, id="amounts in its own way"),
        pytest.param({"empty": {}, "list": []}, {}, id="nothing of what is empty"),
        pytest.param({"port": "80"}, {"port": 80}, id="a number"),
        pytest.param(
            {"items": [{"name": "a", "x": "1.0"}]}, {"items": [{"name": "b"}, {"name": "a", "x": "1"}]}, id="a list"
        ),
    ],
)
def test_what_the_server_stores_otherwise_is_not_written_for_ever(wanted: dict[str, Any], kept: dict[str, Any]) -> None:
    """Our last write is remembered with what came of it, also while others change what is theirs."""

    def normalize(body: dict[str, Any]) -> dict[str, Any]:
        body["spec"] = {"replicas": body["spec"]["replicas"], **kept}
        return body

    async def story(world: World) -> None:
        world.stored.normalize = normalize
        for ready in range(4):
            await world.carry_out(deployment(**wanted))
            body = {**world.stored.objects[DEPLOYMENT], "status": {"readyReplicas": ready}}
            world.cache.child_seen(DEPLOYMENTS, ("team", "assistant-router"), world.stored.put(DEPLOYMENT, body))
        assert len(world.stored.writes) == 1
        await world.carry_out(deployment(**wanted, more="x"))
        assert len(world.stored.writes) == 2, "a new wish is written"
        body = world.stored.objects[DEPLOYMENT]
        body["spec"]["replicas"] = 9
        world.cache.child_seen(DEPLOYMENTS, ("team", "assistant-router"), world.stored.put(DEPLOYMENT, body))
        await world.carry_out(deployment(**wanted, more="x"))

    world = told(story)
    assert len(world.stored.writes) == 3, "a change by somebody is healed"
    assert world.stored.objects[DEPLOYMENT]["spec"]["replicas"] == 2


def test_a_name_that_somebody_has_ends_the_plan_and_is_shown_to_the_next_pass() -> None:
    """It is not touched; and once it is gone, the next look says so."""

    async def story(world: World) -> None:
        theirs = child("assistant-router", owner=None, spec={"replicas": 1})
        world.stored.put(DEPLOYMENT, theirs)
        world.concerned.clear()
        assert await world.carry_out(deployment(), Emit("ModelPool", "assistant", "u", REASON)) is Carried.OVERTAKEN
        assert world.stored.writes == [f"PATCH {DEPLOYMENT}"]
        assert world.stored.objects[DEPLOYMENT]["spec"] == {"replicas": 1}
        standing = world.cache.standing(POOL)[ObjectKey("Deployment", "assistant-router")]
        assert standing.owner == ""
        assert world.concerned == [POOL]
        assert await world.carry_out(deployment()) is Carried.OVERTAKEN
        assert len(world.stored.writes) == 1, "what is known to be somebody's is not even tried"
        del world.stored.objects[DEPLOYMENT]
        await world.carrier.look(POOL, standing.key)
        assert world.cache.standing(POOL) == {}
        assert await world.carry_out(deployment()) is Carried.WHOLE

    told(story)


REASON = Reason(ReasonCode.Compatible, "it fits")


def test_an_object_of_ours_that_no_watch_told_yet_is_found_by_its_name() -> None:
    """A new leader whose watch lags behind asks, and goes on at its next pass."""

    async def story(world: World) -> None:
        metadata = {**deployment().manifest["metadata"], "uid": "uid-ours"}
        world.stored.put(DEPLOYMENT, {**deployment().manifest, "metadata": metadata})
        assert await world.carry_out(deployment(replicas=3)) is Carried.OVERTAKEN
        assert await world.carry_out(deployment(replicas=3)) is Carried.WHOLE

    assert told(story).stored.objects[DEPLOYMENT]["spec"]["replicas"] == 3


def test_a_status_is_written_when_it_differs_and_a_conflict_reads_the_object_anew() -> None:
    """What was read is what it is decided on, so an edit in between ends the pass."""
    path = "/apis/arbiter.dev/v1alpha1/namespaces/team/modelpools/assistant"

    async def story(world: World) -> None:
        world.cache.pool_seen(("team", "assistant"), world.stored.put(path, pool()))
        seen = world.cache.pools.get(("team", "assistant"))
        assert seen is not None
        same = WriteStatus("ModelPool", "assistant", seen.metadata.resource_version, seen.status.to_dict())
        assert await world.carry_out(same) is Carried.WHOLE
        assert world.stored.writes == []
        world.stored.put(path, {**world.stored.objects[path], "spec": {"tasks": [{"name": "chat", "model": "gemma"}]}})
        write = WriteStatus("ModelPool", "assistant", seen.metadata.resource_version, {"observedGeneration": 1})
        assert await world.carry_out(write) is Carried.OVERTAKEN
        edited = world.cache.pools.get(("team", "assistant"))
        assert edited is not None
        assert edited.spec.tasks[0].model == "gemma"
        again = WriteStatus("ModelPool", "assistant", edited.metadata.resource_version, {"observedGeneration": 1})
        assert await world.carry_out(again) is Carried.WHOLE
        written = world.cache.pools.get(("team", "assistant"))
        assert written is not None
        assert written.status.observed_generation == 1

    assert told(story).stored.writes == [f"PUT {path}/status"] * 2


def test_a_table_is_never_written_over_one_that_was_not_seen() -> None:
    """Another leader wrote it: whoever was replaced, and does not know it, must not take routers back."""

    def table(text: str) -> Apply:
        owner = owned_by("ModelPool", "assistant", "uid-pool")
        metadata = {"name": "assistant-routes", "namespace": "team", "ownerReferences": owner}
        return Apply(stamped({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"table": text}}))

    async def story(world: World) -> None:
        assert await world.carry_out(table("of the first leader")) is Carried.WHOLE
        stands = world.stored.objects[ROUTES]
        world.stored.put(ROUTES, {**stands, "metadata": {**stands["metadata"]}, "data": {"table": "of the second"}})
        assert await world.carry_out(table("of the first, later")) is Carried.OVERTAKEN
        assert world.stored.objects[ROUTES]["data"] == {"table": "of the second"}
        assert await world.carry_out(table("of the third")) is Carried.WHOLE, "it has seen what stands by now"

    assert told(story).stored.objects[ROUTES]["data"] == {"table": "of the third"}


def test_a_secret_is_made_once_filled_with_chance_and_never_read() -> None:
    """One that is there already stays, whoever made it."""
    path = "/api/v1/namespaces/team/secrets"
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**deployment().manifest["metadata"], "name": "assistant-feedback"},
        "stringData": {"key": "", "fixed": "as-it-is"},
    }

    async def story(world: World) -> None:
        await world.carry_out(Create(manifest))
        await world.carry_out(Create(manifest))
        stored = world.stored.objects[f"{path}/assistant-feedback"]
        assert stored["stringData"] == {"key": "nobody-can-guess", "fixed": "as-it-is"}
        standing = world.cache.standing(POOL)[ObjectKey("Secret", "assistant-feedback")]
        assert "stringData" not in standing.body
        assert standing.owner == "uid-pool"
        world.cache.forget_unread(POOL)
        assert await world.carry_out(Create(manifest)) is Carried.WHOLE

    assert told(story).stored.asked == [f"POST {path}"] * 2


def test_only_the_object_that_was_seen_is_removed() -> None:
    """Another one that took its name stays; one that is gone already is no error."""

    async def story(world: World) -> None:
        await world.carry_out(deployment())
        key = ObjectKey("Deployment", "assistant-router")
        assert await world.carry_out(Remove(key, "uid-of-another")) is Carried.OVERTAKEN
        assert DEPLOYMENT in world.stored.objects
        uid = world.stored.objects[DEPLOYMENT]["metadata"]["uid"]
        assert await world.carry_out(Remove(key, uid), Remove(key, uid)) is Carried.WHOLE
        assert DEPLOYMENT not in world.stored.objects

    told(story)


def test_a_failure_ends_the_plan_where_it_stands() -> None:
    """What is behind it is left for the next pass, and the error says when to try again."""
    service = {**deployment().manifest, "apiVersion": "v1", "kind": "Service"}

    def away(request: Request) -> None:
        if "services" in request.path:
            raise UnreachableError("the API server is away", 7.0)

    async def story(world: World) -> None:
        world.stored.fail = away
        with pytest.raises(UnreachableError) as raised:
            await world.carry_out(deployment(), Apply(service), StartJob("prove/x", "http://x", Call("GET", "/")))
        assert raised.value.retry_after_s == 7.0
        assert world.jobs.running == 0

    assert told(story).stored.writes == [f"PATCH {DEPLOYMENT}", f"PATCH {SERVICES.path('team', 'assistant-router')}"]


def test_jobs_and_events_are_handed_on() -> None:
    """A job begins and ends by its key; an event names its object."""

    async def story(world: World) -> None:
        await world.carry_out(StartJob("prove/x", "http://x", Call("GET", "/")))
        assert set(world.jobs.results(POOL)) == {"prove/x"}
        await world.carry_out(StopJob("prove/x"), Emit("ModelPool", "assistant", "uid-pool", REASON, warning=True))
        assert world.jobs.results(POOL) == {}
        await world.events.send()

    world = told(story)
    (event,) = (body for path, body in world.stored.objects.items() if "/events/" in path)
    assert (event["reason"], event["type"], event["regarding"]["name"]) == ("Compatible", "Warning", "assistant")


def test_what_was_written_for_a_pool_that_is_gone_is_forgotten() -> None:
    """Memory does not grow with pools that come and go."""

    async def story(world: World) -> None:
        await world.carry_out(deployment())
        world.carrier.forget(POOL)
        world.cache.child_seen(CONFIG_MAPS, ("team", "assistant-routes"), child("assistant-routes"))
        assert await world.carry_out(deployment()) is Carried.WHOLE

    assert len(told(story).stored.writes) == 1
    assert ROUTES.endswith("assistant-routes")


def test_the_status_of_a_swap_is_written_once_and_counted() -> None:
    """With the version that was read; the same once more is no write."""
    path = "/apis/arbiter.dev/v1alpha1/namespaces/team/modelswaps/assistant-chat-1"
    status = {"phase": "Waiting", "reason": "SwapRequested", "message": "it is asked for"}

    async def story(world: World) -> None:
        stored = swap()
        world.stored.objects[path] = stored
        world.cache.swap_seen(("team", "assistant-chat-1"), stored)
        write = WriteStatus("ModelSwap", "assistant-chat-1", stored["metadata"]["resourceVersion"], status)
        assert await world.carry_out(write) is Carried.WHOLE
        assert await world.carry_out(write) is Carried.WHOLE

    world = told(story)
    assert world.stored.writes == [f"PUT {path}/status"]
    assert world.counting.moved == [(None, Phase.Waiting)]
    known = world.cache.swaps.get(("team", "assistant-chat-1"))
    assert known is not None
    assert known.status.phase is Phase.Waiting
