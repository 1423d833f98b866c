"""The whole operator, in its own process's loop, against a small API server on the loopback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from arbiter.api.reasons import Reason, ReasonCode
from arbiter.controller import leader, main
from arbiter.controller.options import Options
from arbiter.core.actions import Apply, Emit, Plan, WriteStatus
from arbiter.core.manifests import names
from arbiter.core.manifests.drift import stamped
from arbiter.core.manifests.routes import ROUTES_KEY
from arbiter.core.routes import Limits, RouteTable
from arbiter.errors import InvalidInputError, RejectedError
from arbiter.kubeapi import lease, resources
from tests.unit.controller.cluster import Cluster
from tests.unit.controller.cluster_objects import child, model, pool
from tests.unit.kubeapi.api_server import connection_to

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from arbiter.api.modelswap import ModelSwap
    from arbiter.core.snapshot import ModelSnapshot, PolicySnapshot, PoolSnapshot
    from arbiter.kubeapi.connection import Request

LEASE = resources.LEASES.path("arbiter-system", lease.NAME)


class Planned:
    """Plans one ConfigMap for each pool, with the epoch in it, and a status."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self.broken: set[str] = set()

    def pool(self, snapshot: PoolSnapshot, now: datetime) -> Plan:
        """The pool's table, and that it was seen."""
        del now
        metadata = snapshot.pool.metadata
        if metadata.name in self.broken:
            raise ZeroDivisionError("a mistake of ours")
        owner = names.owner_of("ModelPool", metadata)
        data = {"epoch": str(snapshot.settings.epoch), "replicas": str(snapshot.pool.spec.replicas)}
        manifest = names.manifest("ConfigMap", f"{metadata.name}-seen", owner, {}, data=data)
        reason = Reason(ReasonCode.Compatible, "it fits")
        return Plan(
            (
                Apply(stamped(manifest)),
                WriteStatus("ModelPool", metadata.name, metadata.resource_version, {"observedGeneration": 1}),
                Emit("ModelPool", metadata.name, metadata.uid, reason),
            ),
            (reason,),
        )

    def strays(self, swaps: Sequence[ModelSwap], now: datetime) -> Plan:
        """Nothing."""
        del swaps, now
        return Plan()

    def model(self, snapshot: ModelSnapshot, now: datetime) -> Plan:
        """Nothing."""
        del now
        self.models.append(snapshot.model.metadata.name)
        return Plan()

    def policy(self, snapshot: PolicySnapshot, now: datetime) -> Plan:
        """Nothing."""
        del snapshot, now
        return Plan()


class Running:
    """An operator that runs.

    Attributes:
        cluster: its API server.
        planned: what decides.
        task: the operator itself.
        port: of its probes.
    """

    def __init__(self, cluster: Cluster, planned: Planned, task: asyncio.Task[int], port: int) -> None:
        self.cluster = cluster
        self.planned = planned
        self.task = task
        self.port = port

    async def until(self, happened: Callable[[], object]) -> None:
        """Wait until something holds, or fail."""
        async with asyncio.timeout(10.0):
            while not happened():
                assert not self.task.done(), self.task.result()
                await asyncio.sleep(0.01)

    async def ask(self, path: str) -> tuple[int, str]:
        """Ask its own port."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
            return answer.status, await answer.text()

    async def end(self) -> int:
        """Tell it to end, and give its exit code."""
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(10.0):
            return await self.task


@asynccontextmanager
async def running(
    tmp_path: Path,
    port: int,
    cluster: Cluster | None = None,
) -> AsyncGenerator[Running, None]:
    """An operator for the namespace `team`."""
    cluster = cluster or Cluster()
    async with cluster.up():
        await connection_to(cluster, tmp_path).close()
        kubeconfig = tmp_path / "kubeconfig"
        options = Options(("team",), kubeconfig=kubeconfig, host="127.0.0.1", port=port, identity="operator-0")
        planned = Planned()
        made = Running(cluster, planned, asyncio.create_task(main.operate(options, planned)), port)
        try:
            yield made
        finally:
            made.task.cancel()
            await asyncio.wait({made.task})


@pytest.fixture
def port() -> int:
    """A port of the loopback that nobody has."""
    import socket  # noqa: PLC0415  for this alone

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        found: int = bound.getsockname()[1]
        return found


def test_an_operator_leads_passes_answers_probes_and_gives_its_lease_back(tmp_path: Path, port: int) -> None:
    """From start to an orderly end."""

    async def story() -> None:
        cluster = Cluster()
        cluster.put(resources.MODEL_POOLS, pool())
        cluster.put(resources.LOCAL_MODELS, model())
        async with running(tmp_path, port, cluster) as made:
            await made.until(lambda: cluster.get(resources.CONFIG_MAPS, "assistant-seen"))
            await made.until(lambda: (cluster.get(resources.MODEL_POOLS, "assistant") or {}).get("status"))
            await made.until(lambda: made.planned.models)
            await made.until(lambda: any("/events/" in path for path in cluster.stored.objects))
            assert cluster.stored.objects[LEASE]["spec"]["holderIdentity"].startswith("operator-0_")
            assert await made.ask("/healthz") == (200, "ok\n")
            assert await made.ask("/readyz") == (200, "ok\n")
            _, metrics = await made.ask("/metrics")
            assert "arbiter_leader 1.0" in metrics
            assert 'arbiter_api_writes_total{kind="ConfigMap",verb="apply"} 1.0' in metrics
            assert 'arbiter_pool_ready{namespace="team",pool="assistant",reason="Unknown"} 0.0' in metrics
            cluster.put(resources.MODEL_POOLS, {**pool(replicas=3), "status": {"observedGeneration": 1}})

            def replicas() -> str:
                found = cluster.get(resources.CONFIG_MAPS, "assistant-seen")
                return "" if found is None else found["data"]["replicas"]

            await made.until(lambda: replicas() == "3")
            assert await made.end() == 0
            assert "holderIdentity" not in cluster.stored.objects[LEASE]["spec"]

    asyncio.run(story())


def test_at_rest_nothing_is_written_but_the_lease(tmp_path: Path, port: int) -> None:
    """What was written comes back by the watch, and is no news."""

    async def story() -> None:
        cluster = Cluster()
        cluster.put(resources.MODEL_POOLS, pool())
        async with running(tmp_path, port, cluster) as made:
            await made.until(lambda: (cluster.get(resources.MODEL_POOLS, "assistant") or {}).get("status"))
            await asyncio.sleep(0.3)
            written = [asked for asked in cluster.stored.writes if "leases" not in asked and "events" not in asked]
            assert len(written) == 2
            await made.end()

    asyncio.run(story())


def test_a_mistake_in_one_pool_keeps_no_other_from_its_pass(
    tmp_path: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with where it was made, and tried again."""

    async def story() -> None:
        cluster = Cluster()
        async with running(tmp_path, port, cluster) as made:
            made.planned.broken.add("broken")
            cluster.put(resources.MODEL_POOLS, pool("broken", uid="uid-broken"))
            cluster.put(resources.MODEL_POOLS, pool())
            await made.until(lambda: cluster.get(resources.CONFIG_MAPS, "assistant-seen"))
            await made.until(lambda: "a mistake of ours" in caplog.text)
            made.planned.broken.clear()
            await made.until(lambda: cluster.get(resources.CONFIG_MAPS, "broken-seen"))
            await made.end()

    asyncio.run(story())


def test_a_leader_begins_above_the_tables_that_stand(tmp_path: Path, port: int) -> None:
    """Of every pool, those that are being deleted too."""
    table = RouteTable(epoch=6, generation=2, slice_ms=15000, tasks={}, limits=Limits(), auth=None)
    text = json.loads(table.to_text())
    text["tasks"] = {"chat": _TASK}
    del text["hash"]

    async def story() -> None:
        cluster = Cluster()
        cluster.put(resources.MODEL_POOLS, pool())
        cluster.put(resources.CONFIG_MAPS, child("assistant-routes", data={ROUTES_KEY: json.dumps(text)}))
        async with running(tmp_path, port, cluster) as made:
            await made.until(lambda: cluster.get(resources.CONFIG_MAPS, "assistant-seen"))
            found = cluster.get(resources.CONFIG_MAPS, "assistant-seen")
            assert found is not None
            assert found["data"]["epoch"] == "7"
            await made.end()

    asyncio.run(story())


_TASK: dict[str, Any] = {
    "targets": [],
    "fallback": [],
    "hold": {"requests": 1, "ms": 1, "hopeless": ""},
    "swap": "",
    "capabilities": [],
    "contextWindow": None,
    "pins": {},
}


def test_one_that_waits_keeps_its_caches_warm_and_writes_nothing(tmp_path: Path, port: int) -> None:
    """It is ready, so that a rolling update goes on."""

    async def story() -> None:
        cluster = Cluster()
        cluster.put(resources.MODEL_POOLS, pool())
        held = {
            "holderIdentity": "operator-1_x",
            "leaseDurationSeconds": 3600,
            "renewTime": "2026-11-21T10:00:00.000000Z",
        }
        metadata = {"name": lease.NAME, "namespace": "arbiter-system"}
        cluster.put(resources.LEASES, {"kind": "Lease", "metadata": metadata, "spec": held})
        async with running(tmp_path, port, cluster) as made:
            await made.until(lambda: any(asked.path == LEASE for asked in cluster.asked))
            assert await made.ask("/readyz") == (200, "ok\n")
            assert "arbiter_leader 0.0" in (await made.ask("/metrics"))[1]
            assert cluster.stored.writes == []
            assert await made.end() == 0

    asyncio.run(story())


def test_a_leader_whose_lease_another_one_took_ends_its_process(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an exit code by which it is started anew."""
    monkeypatch.setattr(lease, "RENEW_S", 0.05)
    monkeypatch.setattr(leader, "FENCES_S", 0.02)

    async def story() -> None:
        cluster = Cluster()
        cluster.put(resources.MODEL_POOLS, pool())
        async with running(tmp_path, port, cluster) as made:
            await made.until(lambda: cluster.get(resources.CONFIG_MAPS, "assistant-seen"))
            taken = cluster.stored.objects[LEASE]
            taken["spec"]["holderIdentity"] = "operator-1_y"
            cluster.stored.put(LEASE, taken)
            async with asyncio.timeout(10.0):
                assert await made.task == 1

    asyncio.run(story())


def test_the_clock_of_the_lease_goes_on_while_the_machine_sleeps() -> None:
    """The kernel counts that in one of its clocks only; another one would take a leader that slept for fresh."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= main.elapsed() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_a_platform_without_that_clock_has_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """It never goes back either."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    before = main.elapsed()
    assert before <= main.elapsed()


def test_a_leader_that_was_held_up_writes_nothing_more_and_ends(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changed meanwhile is for the one who leads now."""
    held_up, clock = 0.0, main.elapsed
    monkeypatch.setattr(main, "elapsed", lambda: clock() + held_up)

    async def story() -> None:
        nonlocal held_up
        cluster = Cluster()
        cluster.put(resources.MODEL_POOLS, pool())
        async with running(tmp_path, port, cluster) as made:
            await made.until(lambda: (cluster.get(resources.MODEL_POOLS, "assistant") or {}).get("status"))
            await made.until(lambda: any("/events/" in path for path in cluster.stored.objects))
            held_up = lease.RENEW_WITHIN_S
            written = len(cluster.stored.writes)
            cluster.put(resources.MODEL_POOLS, {**pool(replicas=3), "status": {"observedGeneration": 1}})
            async with asyncio.timeout(10.0):
                assert await made.task == 1
            assert [asked for asked in cluster.stored.writes[written:] if "leases" not in asked] == []

    asyncio.run(story())


def test_a_port_that_is_taken_is_said_at_once(tmp_path: Path, port: int) -> None:
    """By the name of the flag."""

    async def story() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
        async with server, running(tmp_path, port) as made:
            with pytest.raises(InvalidInputError, match=rf"--port: {port} cannot be had"):
                await made.task

    asyncio.run(story())


def test_a_leader_rises_above_a_table_of_a_later_one(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster was restored under it, or somebody wrote one: nothing else would make routers obey again."""
    monkeypatch.setattr(leader, "FENCES_S", 0.02)

    async def story() -> None:
        cluster = Cluster()
        cluster.put(resources.MODEL_POOLS, pool())
        async with running(tmp_path, port, cluster) as made:
            await made.until(lambda: cluster.get(resources.CONFIG_MAPS, "assistant-seen"))
            table = RouteTable(epoch=50, generation=2, slice_ms=15000, tasks={}, limits=Limits(), auth=None)
            text = {**json.loads(table.to_text()), "tasks": {"chat": _TASK}}
            del text["hash"]
            cluster.put(resources.CONFIG_MAPS, child("assistant-routes", data={ROUTES_KEY: json.dumps(text)}))

            def epoch() -> str:
                found = cluster.get(resources.CONFIG_MAPS, "assistant-seen")
                return "" if found is None else found["data"]["epoch"]

            await made.until(lambda: epoch() == "51")
            await made.end()

    asyncio.run(story())


def test_a_name_that_somebody_has_is_taken_once_it_is_free(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What stands in the way is not touched."""
    monkeypatch.setattr(leader, "STRANGERS_S", 0.02)

    async def story() -> None:
        cluster = Cluster()
        theirs = cluster.put(resources.CONFIG_MAPS, child("assistant-seen", owner=None, data={"their": "own"}))
        cluster.put(resources.MODEL_POOLS, pool())
        async with running(tmp_path, port, cluster) as made:
            await made.until(lambda: "did not make it" in caplog.text)
            assert cluster.get(resources.CONFIG_MAPS, "assistant-seen") == theirs
            cluster.stored.remove(resources.CONFIG_MAPS.path("team", "assistant-seen"))
            await made.until(lambda: cluster.get(resources.CONFIG_MAPS, "assistant-seen"))
            await made.end()

    asyncio.run(story())


def test_a_pass_that_the_api_server_refuses_is_tried_again_and_counted(
    tmp_path: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Until its cause is gone."""

    async def story() -> None:
        cluster = Cluster()

        def refuse(request: Request) -> None:
            if request.method == "PATCH" and "configmaps" in request.path:
                raise RejectedError("that field is unheard of", 422)

        cluster.stored.fail = refuse
        cluster.put(resources.MODEL_POOLS, pool())
        async with running(tmp_path, port, cluster) as made:
            await made.until(lambda: "that field is unheard of" in caplog.text)
            assert (
                'arbiter_passes_total{kind="ModelPool",outcome="RejectedError"} 1.0' in (await made.ask("/metrics"))[1]
            )
            cluster.stored.fail = lambda _: None
            await made.until(lambda: cluster.get(resources.CONFIG_MAPS, "assistant-seen"))
            await made.end()

    asyncio.run(story())


def test_what_is_gone_is_forgotten(tmp_path: Path, port: int) -> None:
    """A pool that was deleted leaves no series and no pass behind."""

    async def story() -> None:
        cluster = Cluster()
        cluster.put(resources.MODEL_POOLS, pool())
        async with running(tmp_path, port, cluster) as made:
            await made.until(lambda: cluster.get(resources.CONFIG_MAPS, "assistant-seen"))
            await made.until(lambda: (cluster.get(resources.MODEL_POOLS, "assistant") or {}).get("status"))
            cluster.stored.remove(resources.MODEL_POOLS.path("team", "assistant"))
            await asyncio.sleep(0.2)
            assert "arbiter_pool_ready{" not in (await made.ask("/metrics"))[1]
            await made.end()

    asyncio.run(story())


def test_a_pool_that_is_made_anew_under_its_name_starts_from_nothing(tmp_path: Path, port: int) -> None:
    """What was kept for the one before was its own."""

    async def story() -> None:
        cluster = Cluster()
        cluster.put(resources.MODEL_POOLS, pool())
        async with running(tmp_path, port, cluster) as made:
            await made.until(lambda: (cluster.get(resources.MODEL_POOLS, "assistant") or {}).get("status"))
            cluster.stored.remove(resources.MODEL_POOLS.path("team", "assistant"))
            cluster.stored.remove(resources.CONFIG_MAPS.path("team", "assistant-seen"))
            cluster.put(resources.MODEL_POOLS, pool(uid="uid-again"))

            def owner() -> str:
                found = cluster.get(resources.CONFIG_MAPS, "assistant-seen")
                return "" if found is None else found["metadata"]["ownerReferences"][0]["uid"]

            await made.until(lambda: owner() == "uid-again")
            await made.end()

    asyncio.run(story())
