"""Following a table on a real API server, by an account that may do no more than a router needs."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml

from arbiter.api.localmodel import EngineType
from arbiter.core.routes import Backend, Hold, Limits, RouteTable, Target, Task
from arbiter.core.traffic import Side
from arbiter.errors import DeniedError
from arbiter.kubeapi.access import router_rules
from arbiter.kubeapi.connection import Connection
from arbiter.kubeapi.reading import get, list_all
from arbiter.kubeapi.resources import CONFIG_MAPS, Resource, Selection
from arbiter.router.follow import Source, follow
from arbiter.router.kept_routes import read
from tests.e2e.running import said

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine
    from pathlib import Path

    from tests.e2e.running import Cluster

pytestmark = pytest.mark.cluster

TABLE = "assistant-routes"
SERVICE = "engine"
PATIENCE_S = 60.0
"""Seconds that one change may take to arrive; it takes milliseconds, unless the machine is busy."""


def table(generation: int, epoch: int = 1) -> RouteTable:
    """A table of one task behind one Service."""
    backend = Backend("0a1b2c3d4e", "smollm2", EngineType.LlamaCpp, SERVICE)
    task = Task("chat", (Target(Side.NEW, backend, 100),), (), Hold(), "", (), None, {})
    return RouteTable(epoch, generation, 15_000, {"chat": task}, Limits(), None)


def config_map(namespace: str, text: str) -> dict[str, Any]:
    """The ConfigMap as the operator writes it."""
    metadata = {"name": TABLE, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"routes.json": text}}


def endpoint_slice(namespace: str, *hosts: str) -> dict[str, Any]:
    """What the cluster would write for a Service; made by hand, so that no pod is needed."""
    labels = {"kubernetes.io/service-name": SERVICE, "endpointslice.kubernetes.io/managed-by": "arbiter-tests"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{SERVICE}-1", "namespace": namespace, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [host], "conditions": {"ready": True}} for host in hosts],
    }


@pytest.fixture(scope="module")
def account(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Connection:
    """The connection of a pod whose account has exactly a router's role."""
    about = {"name": "router", "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    rules = [rule.to_fields() for rule in router_rules(TABLE)]
    cluster.apply(
        [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": about},
            {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": about, "rules": rules},
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "RoleBinding",
                "metadata": about,
                "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "router"},
                "subjects": [{"kind": "ServiceAccount", **about}],
            },
        ]
    )
    folder = tmp_path_factory.mktemp("account")
    token = said(cluster.kubectl("create", "token", "router", f"--namespace={namespace}"))
    (folder / "token").write_text(token.strip())
    known = yaml.safe_load(said(cluster.kubectl("config", "view", "--raw", "--flatten")))["clusters"][0]["cluster"]
    (folder / "ca.crt").write_bytes(base64.b64decode(known["certificate-authority-data"]))
    server = urlsplit(known["server"])
    environ = {"KUBERNETES_SERVICE_HOST": server.hostname or "", "KUBERNETES_SERVICE_PORT": str(server.port or 443)}
    return Connection.in_cluster(str(folder), environ)


class Told:
    """What a router was told, in order."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.calls: list[object] = []
        self.refusals: list[str] = []

    @asynccontextmanager
    async def following(self, connection: Connection, namespace: str, folder: Path) -> AsyncGenerator[None, None]:
        """Follow for as long as this lasts."""
        task = asyncio.create_task(
            follow(
                Source(connection, namespace, TABLE, folder, lambda: 0.5),
                lambda obeyed: self.calls.append(obeyed.generation),
                lambda reason, _: self.refusals.append(reason),
                lambda _, urls: self.calls.append(urls),
            )
        )
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await connection.close()


def run(story: Coroutine[None, None, None]) -> None:
    """Run a story in its time."""

    async def limited() -> None:
        await asyncio.wait_for(story, 3 * PATIENCE_S)

    asyncio.run(limited())


async def until(true: Callable[[], object]) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.01)


async def apply(cluster: Cluster, *objects: dict[str, Any]) -> None:
    """Apply objects while the loop goes on."""
    await asyncio.to_thread(cluster.apply, objects)


def test_tables_and_endpoints_arrive_and_bad_ones_are_refused(
    cluster: Cluster, namespace: str, account: Connection, tmp_path: Path
) -> None:
    """With the rights of the chart's role and no more: list and watch by name, which RBAC grants by name only."""

    async def story() -> None:
        told = Told()
        await apply(cluster, endpoint_slice(namespace, "10.244.9.1"), config_map(namespace, table(1).to_text()))
        async with told.following(account, namespace, tmp_path):
            await until(lambda: 1 in told.calls)
            await apply(cluster, endpoint_slice(namespace, "10.244.9.1", "10.244.9.2"))
            await until(lambda: len(told.calls) == 3)
            await apply(cluster, config_map(namespace, "{"))
            await until(lambda: told.refusals)
            await apply(cluster, config_map(namespace, replace(table(9), epoch=0).to_text()))
            await until(lambda: len(told.refusals) == 2)
            await apply(cluster, config_map(namespace, table(2).to_text()))
            await until(lambda: 2 in told.calls)
        one, two = "http://10.244.9.1:8080", "http://10.244.9.2:8080"
        assert told.calls == [(one,), 1, (one, two), 2]
        assert told.refusals == ["unreadable", "stale"]
        kept = read(tmp_path)
        assert kept is not None
        assert (kept.table.generation, dict(kept.endpoints)) == (2, {SERVICE: (one, two)})

    run(story())


def test_an_account_of_a_router_reads_nothing_else(cluster: Cluster, namespace: str, account: Connection) -> None:
    """A router that is broken into must not give away Secrets, or the tables of other pools."""

    async def story() -> None:
        assert await get(account, CONFIG_MAPS, namespace, TABLE)
        with pytest.raises(DeniedError, match="403"):
            await get(account, CONFIG_MAPS, namespace, "kube-root-ca.crt")
        for selection in (
            Selection(CONFIG_MAPS, namespace),
            Selection(Resource("", "v1", "secrets"), namespace),
            Selection.named(CONFIG_MAPS, "kube-system", TABLE),
        ):
            with pytest.raises(DeniedError, match="403"):
                await list_all(account, selection)
        await account.close()

    cluster.apply([config_map(namespace, table(1).to_text())])
    run(story())


def test_a_kubeconfig_leads_to_the_same_objects(cluster: Cluster, namespace: str) -> None:
    """That is how a router runs on a developer's machine, beside the cluster."""

    async def story() -> None:
        connection = Connection.kubeconfig(cluster.kubeconfig)
        await connection.open()
        found = await get(connection, CONFIG_MAPS, namespace, "kube-root-ca.crt")
        listed = await list_all(connection, Selection.named(CONFIG_MAPS, namespace, "kube-root-ca.crt"))
        await connection.close()
        assert found is not None
        assert [item["metadata"]["uid"] for item in listed.items] == [found["metadata"]["uid"]]
        assert int(listed.version) >= int(found["metadata"]["resourceVersion"])
        shown = cluster.kubectl("get", "configmap", "kube-root-ca.crt", f"--namespace={namespace}", "--output=json")
        assert json.loads(said(shown))["data"] == found["data"]

    run(story())
