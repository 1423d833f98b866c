"""Where the operator is measured: the cluster that is up, or one brought up for this; a namespace; a way to its API.

The definitions are installed as the README says. What was there before stays; what was brought is taken away again,
but for definitions that somebody else has objects of by then.

Rule: times are those of this process's clock, at which a request is sent, an answer has come or a watch has told.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arbiter.api import crd
from arbiter.kubeapi.applying import APPLY
from arbiter.kubeapi.connection import Connection, Request
from arbiter.kubeapi.resources import Selection
from arbiter.kubeapi.watching import Lost, Seen, Synced, watch
from devcluster import build
from devcluster.images.recipes import NAMES
from tests.e2e.running import ROOT, Cluster, devcluster, run, said
from tests.e2e.serving.place import Place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from arbiter.kubeapi.resources import Resource

MANAGER = "bench"
"""Under which name our fields stand in objects."""

MERGE = "application/merge-patch+json"

GONE_S = 300.0
"""Seconds within which a namespace has to be gone."""

DEFINITIONS = tuple(definition["metadata"]["name"] for definition in crd.definitions().values())


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Give the machine's cluster with our definitions; one that this brought up is taken down in the end."""
    was_up = devcluster("kubeconfig").returncode == 0
    try:
        if not was_up:
            said(devcluster("up", "--install"))
        path = Path(said(devcluster("kubeconfig")).strip())
        found = Cluster(path, str(build.binaries()["kubectl"]), was_up=was_up)
        with _definitions(found):
            yield found
    finally:
        if not was_up:
            devcluster("down")


def load_images() -> None:
    """Build our images where they are not built, and put them into the cluster."""
    said(run(sys.executable, "-m", "devcluster.images", "--install", cwd=ROOT, timeout=3600))
    said(devcluster("load", *NAMES))


@contextmanager
def _definitions(found: Cluster) -> Iterator[None]:
    there = said(found.kubectl("get", "crds", "--output=name"))
    made = [
        name for name in DEFINITIONS if f"customresourcedefinition.apiextensions.k8s.io/{name}" not in there.split()
    ]
    said(found.kubectl("apply", "--server-side", f"--filename={ROOT / 'crds'}"))
    said(found.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crds", *DEFINITIONS))
    try:
        yield
    finally:
        others = found.kubectl("get", ",".join(made), "--all-namespaces", "--output=name").stdout if made else ""
        if made and not others.strip():
            said(found.kubectl("delete", "crds", *made))


@contextmanager
def place(found: Cluster, name: str) -> Iterator[Place]:
    """Give a namespace of this name, made anew, and wait in the end until it is gone."""
    _remove(found, name)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    found.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}])
    try:
        yield Place(found, name)
    finally:
        _remove(found, name)


def _remove(found: Cluster, name: str) -> None:
    wait = ("--ignore-not-found", "--wait=true", f"--timeout={GONE_S:g}s")
    said(found.kubectl("delete", "namespace", name, *wait, seconds=GONE_S + 30))


@dataclass(frozen=True)
class Told:
    """What a watch told.

    Attributes:
        at: when.
        kind: of the object.
        name: of the object.
        body: the object; None when it is gone.
    """

    at: float
    kind: str
    name: str
    body: Mapping[str, Any] | None


class Api:
    """The API server, as somebody who applies, edits and looks; it belongs to one loop."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        """Ask over this connection, about this namespace."""
        self._connection = connection
        self._namespace = namespace

    async def apply(self, resource: Resource, wish: Mapping[str, Any]) -> dict[str, Any]:
        """Apply an object, and give it as it was stored."""
        path = resource.path(self._namespace, wish["metadata"]["name"])
        query = {"fieldManager": MANAGER, "force": "true"}
        return await self._connection.ask(Request("PATCH", path, query, wish, APPLY))

    async def edit(self, resource: Resource, name: str, change: Mapping[str, Any]) -> dict[str, Any]:
        """Merge a change into an object, and give it as it was stored."""
        path = resource.path(self._namespace, name)
        return await self._connection.ask(Request("PATCH", path, {"fieldManager": MANAGER}, change, MERGE))

    async def get(self, resource: Resource, name: str) -> dict[str, Any]:
        """Give an object as it is stored."""
        return await self._connection.ask(Request("GET", resource.path(self._namespace, name), {}))

    async def listed(self, resource: Resource, labels: str) -> list[dict[str, Any]]:
        """Give all objects of a kind that have these labels."""
        path = resource.path(self._namespace)
        found = await self._connection.ask(Request("GET", path, {"labelSelector": labels}))
        return list(found["items"])

    @asynccontextmanager
    async def watched(
        self, resources: Sequence[Resource], told: Callable[[Told], None], labels: str = ""
    ) -> AsyncIterator[None]:
        """Have everything told that there is of these kinds and what happens to it, inside the block."""
        ready = [asyncio.Event() for _ in resources]
        following = [
            asyncio.create_task(self._follow(resource, labels, told, synced))
            for resource, synced in zip(resources, ready, strict=True)
        ]
        try:
            await asyncio.gather(*(each.wait() for each in ready))
            yield
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)

    async def _follow(
        self, resource: Resource, labels: str, told: Callable[[Told], None], synced: asyncio.Event
    ) -> None:
        selection = Selection(resource, self._namespace, labels)
        async with aclosing(watch(self._connection, selection, lambda: 0.5)) as events:
            async for event in events:
                match event:
                    case Seen(name, body):
                        told(Told(time.perf_counter(), resource.kind, name, body))
                    case Synced():
                        synced.set()
                    case Lost(reason):
                        # What happened meanwhile would be told late.
                        raise SystemExit(f"{resource.plural} are no longer followed: {reason}")


@asynccontextmanager
async def api(found: Place) -> AsyncIterator[Api]:
    """Give a way to the API server."""
    connection = Connection.kubeconfig(found.cluster.kubeconfig)
    try:
        yield Api(connection, found.namespace)
    finally:
        await connection.close()


def condition(body: Mapping[str, Any] | None, kind: str = "Ready") -> Mapping[str, Any]:
    """Give one condition of an object; empty before it has it."""
    status = (body or {}).get("status") or {}
    return next((each for each in status.get("conditions") or () if each["type"] == kind), {})


def table_of(config_map: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give the route table that a pool's ConfigMap holds; empty before it has one."""
    found: dict[str, Any] = json.loads(((config_map or {}).get("data") or {}).get("routes.json", "{}"))
    return found
