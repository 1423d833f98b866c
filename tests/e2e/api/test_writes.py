"""Writes on a real API server: what it takes, and what it refuses because something changed meanwhile."""

from __future__ import annotations

import asyncio
import base64
import itertools
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml

from arbiter.api.reasons import Reason, ReasonCode
from arbiter.errors import ConflictError, DeniedError, NotOursError, RejectedError
from arbiter.kubeapi import lease
from arbiter.kubeapi.access import (
    operator_cluster_rules,
    operator_home_rules,
    operator_rules,
    router_rules,
)
from arbiter.kubeapi.applying import apply, apply_onto, create, write_status
from arbiter.kubeapi.connection import Connection
from arbiter.kubeapi.deleting import Propagation, delete
from arbiter.kubeapi.events import Events, Importance
from arbiter.kubeapi.leading import Candidate, lead
from arbiter.kubeapi.reading import get, list_all
from arbiter.kubeapi.references import Reference
from arbiter.kubeapi.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    LEASES,
    MODEL_POOLS,
    MODEL_SWAPS,
    NETWORK_POLICIES,
    NODES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_ACCOUNTS,
    SERVICES,
    TASK_PROFILES,
    Resource,
    Selection,
)
from arbiter.kubeapi.retrying import Retrying
from tests.contract.manifests import GOOD, patched
from tests.e2e.api.objects import condition
from tests.e2e.running import ROOT, said

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.e2e.api.client import Api
    from tests.e2e.running import Cluster

pytestmark = pytest.mark.cluster

PATIENCE_S = 60.0
"""Seconds that one change may take to be seen; it takes far less, unless the machine is busy."""

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
NUMBERS = itertools.count(1)


class Writer:
    """A server to write to, and somebody else who writes there too.

    Attributes:
        pool: an object that owns what is written.
        namespace: where all is.
    """

    def __init__(self, api: Api, kubeconfig: Path) -> None:
        """Make the owner."""
        self._api = api
        self._kubeconfig = kubeconfig
        self.namespace = api.namespace
        self.pool = Reference.of(self.made("ModelPool"))

    def made(self, kind: str) -> dict[str, Any]:
        """Make an object of ours as a user does."""
        return self._api.create(patched(GOOD[kind], {"metadata": {"name": f"writes-{next(NUMBERS)}"}})).taken()

    def config_map(self, name: str, **data: str) -> dict[str, Any]:
        """Give a manifest."""
        about = {"name": name, "namespace": self.namespace}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data}

    def stranger(self, method: str, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Let somebody else do something to a ConfigMap."""
        path = f"/api/v1/namespaces/{self.namespace}/configmaps" + ("" if method == "POST" else f"/{name}")
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        return self._api.request(method, path, body, content=content, fieldManager="stranger").taken()

    def run(self, story: Callable[[Connection], Awaitable[None]]) -> None:
        """Run a story with a connection of its own."""

        async def told() -> None:
            connection = Connection.kubeconfig(self._kubeconfig)
            try:
                await asyncio.wait_for(story(connection), PATIENCE_S)
            finally:
                await connection.close()

        asyncio.run(told())


@pytest.fixture(scope="module")
def writer(api: Api, cluster: Cluster) -> Writer:
    """Give the server, with an owner in it."""
    return Writer(api, cluster.kubeconfig)


def test_an_object_becomes_what_is_wished_and_forgets_what_is_no_longer(writer: Writer, name: str) -> None:
    """What another one added stays; what was changed of ours is changed back, by force."""

    async def story(connection: Connection) -> None:
        asking = Retrying(connection, lambda: 0.5)
        made = await apply(asking, CONFIG_MAPS, writer.config_map(name, ours="1", former="1"), writer.pool)
        assert made["metadata"]["ownerReferences"] == [writer.pool.to_owner()]
        writer.stranger("PATCH", name, {"data": {"ours": "2", "theirs": "1"}})
        again = await apply(asking, CONFIG_MAPS, writer.config_map(name, ours="3"), writer.pool)
        assert again["data"] == {"ours": "3", "theirs": "1"}
        assert again["metadata"]["uid"] == made["metadata"]["uid"]
        same = await apply(asking, CONFIG_MAPS, writer.config_map(name, ours="3"), writer.pool)
        assert same["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"], "nothing changed"

    writer.run(story)


def test_a_strangers_object_is_not_adopted(writer: Writer, name: str) -> None:
    """Neither when it is seen, nor when it appears after the look."""

    async def story(connection: Connection) -> None:
        theirs = writer.stranger("POST", name, writer.config_map(name, theirs="1"))
        with pytest.raises(NotOursError):
            await apply(connection, CONFIG_MAPS, writer.config_map(name, ours="1"), writer.pool)
        with pytest.raises(ConflictError):
            await apply_onto(connection, CONFIG_MAPS, writer.config_map(name, ours="1"), writer.pool, None)
        with pytest.raises(NotOursError):
            await create(connection, CONFIG_MAPS, writer.config_map(name, ours="1"), writer.pool)
        assert await get(connection, CONFIG_MAPS, writer.namespace, name) == theirs

    writer.run(story)


@pytest.mark.parametrize("unchanged", [False, True])
def test_an_object_that_was_replaced_meanwhile_is_not_touched(writer: Writer, name: str, unchanged: bool) -> None:
    """Ours went, and a stranger took its name before our next write; or nobody did, and nothing is made."""

    async def story(connection: Connection) -> None:
        wish = writer.config_map(name, ours="1")
        seen = await apply(connection, CONFIG_MAPS, wish, writer.pool)
        writer.stranger("DELETE", name)
        with pytest.raises(ConflictError):
            await apply_onto(connection, CONFIG_MAPS, wish, writer.pool, seen, unchanged=unchanged)
        assert await get(connection, CONFIG_MAPS, writer.namespace, name) is None
        theirs = writer.stranger("POST", name, writer.config_map(name, theirs="1"))
        with pytest.raises(ConflictError):
            await apply_onto(connection, CONFIG_MAPS, wish, writer.pool, seen, unchanged=unchanged)
        with pytest.raises(ConflictError):
            await delete(connection, CONFIG_MAPS, seen)
        assert await get(connection, CONFIG_MAPS, writer.namespace, name) == theirs

    writer.run(story)


def test_a_decision_on_all_that_was_read_is_refused_once_anything_changed(writer: Writer, name: str) -> None:
    """An earlier leader cannot undo what the new one wrote."""

    async def story(connection: Connection) -> None:
        wish = writer.config_map(name, epoch="1")
        seen = await apply(connection, CONFIG_MAPS, wish, writer.pool)
        newer = await apply_onto(
            connection, CONFIG_MAPS, writer.config_map(name, epoch="2"), writer.pool, seen, unchanged=True
        )
        with pytest.raises(ConflictError):
            await apply_onto(connection, CONFIG_MAPS, wish, writer.pool, seen, unchanged=True)
        with pytest.raises(ConflictError):
            await delete(connection, CONFIG_MAPS, seen, unchanged=True)
        assert await get(connection, CONFIG_MAPS, writer.namespace, name) == newer
        assert (await apply_onto(connection, CONFIG_MAPS, wish, writer.pool, seen))["data"] == {"epoch": "1"}

    writer.run(story)


def test_a_dry_run_stores_nothing_and_mistakes_are_refused(writer: Writer, name: str) -> None:
    """A field that does not exist is not dropped without a word."""

    async def story(connection: Connection) -> None:
        wish = writer.config_map(name, ours="1")
        assert (await apply(connection, CONFIG_MAPS, wish, writer.pool, dry_run=True))["data"] == {"ours": "1"}
        assert (await create(connection, CONFIG_MAPS, wish, writer.pool, dry_run=True))["data"] == {"ours": "1"}
        for wrong in ({**wish, "dta": {}}, {**wish, "data": {"a/b": "not a key"}}):
            with pytest.raises(RejectedError):
                await apply(connection, CONFIG_MAPS, wrong, writer.pool)
        assert await get(connection, CONFIG_MAPS, writer.namespace, name) is None

    writer.run(story)


def test_what_is_made_once_is_made_once(writer: Writer, name: str) -> None:
    """However often a pass is repeated, and whatever it wishes then."""

    async def story(connection: Connection) -> None:
        swap = patched(GOOD["ModelSwap"], {"metadata": {"name": name, "namespace": writer.namespace}})
        made = await create(connection, MODEL_SWAPS, swap, writer.pool)
        again = await create(connection, MODEL_SWAPS, patched(swap, {"spec": {"intent": "Abort"}}), writer.pool)
        assert again == made
        profile = patched(GOOD["TaskProfile"], {"metadata": {"name": name, "namespace": writer.namespace}})
        kept = await create(connection, TASK_PROFILES, profile, None)
        assert "ownerReferences" not in kept["metadata"]
        assert await create(connection, TASK_PROFILES, profile, None) == kept

    writer.run(story)


def test_a_status_is_written_on_what_was_read_or_not_at_all(writer: Writer) -> None:
    """It replaces the whole status, those parts too that another one wrote, and touches nothing else."""

    async def story(connection: Connection) -> None:
        seen = writer.made("ModelPool")
        both = {"observedGeneration": 1, "conditions": [condition("Ready"), condition("Degraded")]}
        written = await write_status(connection, MODEL_POOLS, seen, both)
        assert (written["spec"], written["metadata"]["generation"]) == (seen["spec"], 1)
        assert {each["manager"] for each in written["metadata"]["managedFields"] if each.get("subresource")} == {
            "arbiter-status"
        }
        with pytest.raises(ConflictError):
            await write_status(connection, MODEL_POOLS, seen, {})
        later = await write_status(
            connection, MODEL_POOLS, written, {"observedGeneration": 1, "conditions": [condition("Ready")]}
        )
        assert [each["type"] for each in later["status"]["conditions"]] == ["Ready"]
        with pytest.raises(RejectedError):
            await write_status(connection, MODEL_POOLS, later, {"observedGeneration": "often"})
        assert await delete(connection, MODEL_POOLS, later, propagation=Propagation.FOREGROUND)
        with pytest.raises(ConflictError):
            await write_status(connection, MODEL_POOLS, later, {})

    writer.run(story)


def test_exactly_the_object_that_was_seen_is_deleted(writer: Writer, name: str) -> None:
    """And asking twice does no harm."""

    async def story(connection: Connection) -> None:
        seen = await apply(connection, CONFIG_MAPS, writer.config_map(name), writer.pool)
        assert await delete(connection, CONFIG_MAPS, seen, dry_run=True)
        assert await delete(connection, CONFIG_MAPS, seen, unchanged=True)
        assert not await delete(connection, CONFIG_MAPS, seen)
        assert await get(connection, CONFIG_MAPS, writer.namespace, name) is None

    writer.run(story)


def test_an_object_on_its_way_out_is_left_alone(writer: Writer, name: str) -> None:
    """What is applied to it would go with it; it is made anew once it is gone."""

    async def story(connection: Connection) -> None:
        wish = writer.config_map(name)
        held = {**wish, "metadata": {**wish["metadata"], "finalizers": ["a.example/held"]}}
        seen = await apply(connection, CONFIG_MAPS, held, writer.pool)
        assert await delete(connection, CONFIG_MAPS, seen)
        with pytest.raises(ConflictError, match="being deleted"):
            await apply(connection, CONFIG_MAPS, wish, writer.pool)
        writer.stranger("PATCH", name, {"metadata": {"finalizers": None}})

    writer.run(story)


def test_events_stand_with_their_object_and_count_repeats(writer: Writer, cluster: Cluster) -> None:
    """`kubectl describe` shows them, with the operator as their source."""
    pool = Reference.of(writer.made("ModelPool"))
    now = datetime.now(UTC)  # noqa: TID251  an event of another hour would be let go of

    async def story(connection: Connection) -> None:
        events = Events(connection, "arbiter-operator-0")
        reason = Reason(ReasonCode.NoNodeFits, "no node has 12 GiB free for gemma3: " + "x" * 2000)
        for second in range(4):
            events.tell(pool, reason, "Place", now + timedelta(seconds=second), Importance.WARNING)
            await events.send()
        events.tell(pool, Reason(ReasonCode.WindowOpen, "the window is open"), "Shift", now)
        node = replace(pool, api_version="v1", kind="Node", namespace="", name="of-no-cluster", uid=f"{pool.uid}-node")
        events.tell(node, reason, "Place", now)
        await events.send()
        assert events.lost == 0
        listed = await list_all(connection, Selection(EVENTS, writer.namespace))
        told = {each["reason"]: each for each in listed.items if each["regarding"]["uid"] == pool.uid}
        assert set(told) == {"NoNodeFits", "WindowOpen"}
        assert told["NoNodeFits"]["series"]["count"] == 4
        assert "series" not in told["WindowOpen"]
        assert await delete(connection, EVENTS, told["NoNodeFits"])
        for second in range(4, 8):
            events.tell(pool, reason, "Place", now + timedelta(seconds=second), Importance.WARNING)
        await events.send()
        assert events.lost == 0

    writer.run(story)
    shown = said(cluster.kubectl("describe", "modelpool", pool.name, f"--namespace={pool.namespace}"))
    assert "no node has 12 GiB free" in shown
    assert "arbiter.dev/operator" in shown


class Contender:
    """A process that wants to lead; it is killed at the end at the latest."""

    def __init__(self, cluster: Cluster, namespace: str, identity: str) -> None:
        """Start it."""
        command = [sys.executable, "-m", "tests.e2e.api.leader", str(cluster.kubeconfig), namespace, identity]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603  our own

    def leads(self) -> bool:
        """Wait until it says so."""
        assert self.process.stdout is not None
        return self.process.stdout.readline() == "leads\n"


@pytest.fixture
def contend(cluster: Cluster, writer: Writer) -> Iterator[Callable[[str], Contender]]:
    """Give what starts a process that wants to lead; none is left over."""
    started: list[Contender] = []

    def start(identity: str) -> Contender:
        started.append(Contender(cluster, writer.namespace, identity))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


def test_another_process_leads_after_the_leader_was_killed_or_ended(
    writer: Writer, contend: Callable[[str], Contender]
) -> None:
    """Killed, it is missed when its Lease runs out; ended in order, it gives the Lease back."""

    def holder() -> str:
        found: list[dict[str, Any] | None] = []

        async def story(connection: Connection) -> None:
            found.append(await get(connection, LEASES, writer.namespace, lease.NAME))

        writer.run(story)
        return lease.Record.of(found[0]).holder if found[0] else ""

    one = contend("one")
    assert one.leads()
    two = contend("two")
    assert holder() == "one"
    one.process.kill()
    assert two.leads()
    assert holder() == "two"
    three = contend("three")
    two.process.send_signal(signal.SIGTERM)
    assert two.process.wait(PATIENCE_S) == 0
    assert three.leads()
    assert holder() == "three"


@pytest.fixture(scope="module")
def operator(writer: Writer, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """Give the connection of a pod whose account may do exactly what the operator needs, in this namespace."""
    rbac = "rbac.authorization.k8s.io"
    inside = {"name": "operator", "namespace": writer.namespace}
    wide = {"name": f"{writer.namespace}-operator"}
    subjects = [{"kind": "ServiceAccount", **inside}]

    def bound(kind: str, about: dict[str, str], *rules: dict[str, list[str]]) -> list[dict[str, Any]]:
        role = {"apiVersion": f"{rbac}/v1", "kind": kind, "metadata": about, "rules": rules}
        ref = {"apiGroup": rbac, "kind": kind, "name": about["name"]}
        return [role, {**role, "kind": f"{kind}Binding", "roleRef": ref, "subjects": subjects}]

    objects = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": inside},
        *bound("Role", inside, *(rule.to_fields() for rule in (*operator_rules(), *operator_home_rules()))),
        *bound("ClusterRole", wide, *(rule.to_fields() for rule in operator_cluster_rules())),
    ]
    for each in objects:
        if each["kind"].endswith("Binding"):
            del each["rules"]
    cluster.apply(objects)
    folder = tmp_path_factory.mktemp("operator")
    token = said(cluster.kubectl("create", "token", "operator", f"--namespace={writer.namespace}"))
    (folder / "token").write_text(token.strip())
    known = yaml.safe_load(said(cluster.kubectl("config", "view", "--raw", "--flatten")))["clusters"][0]["cluster"]
    (folder / "ca.crt").write_bytes(base64.b64decode(known["certificate-authority-data"]))
    server = urlsplit(known["server"])
    environ = {"KUBERNETES_SERVICE_HOST": server.hostname or "", "KUBERNETES_SERVICE_PORT": str(server.port or 443)}
    yield Connection.in_cluster(str(folder), environ)
    said(cluster.kubectl("delete", "clusterrole,clusterrolebinding", wide["name"]))


def wishes(namespace: str, name: str) -> list[tuple[Resource, dict[str, Any]]]:
    """The smallest manifest of each kind that the operator keeps."""
    about = {"metadata": {"name": name, "namespace": namespace}}
    labels = {"arbiter.dev/pool": name}
    container = {"name": "main", "image": "arbiter"}
    ref = {"apiGroup": ROLES.group, "kind": "Role", "name": name}
    pods = {"matchLabels": labels}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    bodies: list[tuple[Resource, dict[str, Any]]] = [
        (CONFIG_MAPS, {"data": {}}),
        (SERVICES, {"spec": {"selector": labels, "ports": [{"port": 80}]}}),
        (SERVICE_ACCOUNTS, {}),
        (DEPLOYMENTS, {"spec": {"replicas": 0, "selector": pods, "template": template}}),
        (NETWORK_POLICIES, {"spec": {"podSelector": pods, "policyTypes": ["Ingress"]}}),
        (POD_DISRUPTION_BUDGETS, {"spec": {"maxUnavailable": 1, "selector": pods}}),
        (ROLES, {"rules": [rule.to_fields() for rule in router_rules(name)]}),
        (ROLE_BINDINGS, {"roleRef": ref, "subjects": [{"kind": "ServiceAccount", "name": name}]}),
    ]
    return [(kind, {"apiVersion": kind.api_version, "kind": kind.kind, **about, **body}) for kind, body in bodies]


def test_the_operators_rights_are_enough(writer: Writer, operator: Connection, name: str) -> None:
    """With the account that the chart makes, and no more, it does all that it has to."""
    pool = writer.made("ModelPool")
    owner = Reference.of(pool)

    async def work() -> str:
        kept = wishes(writer.namespace, name)
        all_made = [(resource, await apply(operator, resource, wish, owner)) for resource, wish in kept]
        for resource, wish in kept:
            assert (await apply(operator, resource, wish, owner))["metadata"]["name"] == name, resource
            await list_all(operator, Selection(resource, writer.namespace))
        for resource, made in all_made:
            assert await delete(operator, resource, made), resource
        pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "arbiter"}]}
        about = {"name": name, "namespace": writer.namespace}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": about}
        done = await create(operator, JOBS, {**job, "spec": {"suspend": True, "template": {"spec": pod}}}, owner)
        assert await delete(operator, JOBS, done)
        swap = patched(GOOD["ModelSwap"], {"metadata": about})
        assert await delete(operator, MODEL_SWAPS, await create(operator, MODEL_SWAPS, swap, owner))
        await create(operator, TASK_PROFILES, patched(GOOD["TaskProfile"], {"metadata": about}), None)
        await write_status(operator, MODEL_POOLS, pool, {"observedGeneration": 1})
        events = Events(operator, "arbiter-operator-0")
        events.tell(owner, Reason(ReasonCode.WindowOpen, "the window is open"), "Shift", NOON)
        events.tell(owner, Reason(ReasonCode.WindowOpen, "the window is open"), "Shift", NOON)
        await events.send()
        assert events.lost == 0
        await list_all(operator, Selection(NODES))
        await list_all(operator, Selection(PODS, writer.namespace))
        return "done"

    async def story() -> None:
        candidate = Candidate(operator, writer.namespace, "the-operator", asyncio.get_running_loop().time, lambda: NOON)
        try:
            assert await asyncio.wait_for(lead(candidate, work), PATIENCE_S) == "done"
        finally:
            await operator.close()

    asyncio.run(story())


def test_the_operator_may_do_nothing_else(writer: Writer, operator: Connection, name: str) -> None:
    """No Secret, no spec of a user's object, no role that is more than its own, no other namespace."""
    pool = writer.made("ModelPool")
    secrets = Resource("", "v1", "secrets", "Secret")
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
    about = {"name": name, "namespace": writer.namespace}
    role = {"apiVersion": ROLES.api_version, "kind": "Role", "metadata": about, "rules": rules}
    manifest = patched(GOOD["ModelPool"], {"metadata": {"name": pool["metadata"]["name"]}})

    async def story() -> None:
        try:
            for asked in (
                lambda: list_all(operator, Selection(secrets, writer.namespace)),
                lambda: get(operator, secrets, writer.namespace, "any"),
                lambda: list_all(operator, Selection(CONFIG_MAPS, "kube-system")),
                lambda: apply(operator, ROLES, role, writer.pool),
                lambda: delete(operator, MODEL_POOLS, pool),
                lambda: create(operator, MODEL_POOLS, patched(manifest, {"metadata": about}), None),
                lambda: apply_onto(operator, MODEL_POOLS, patched(manifest, {"metadata": about}), writer.pool, None),
            ):
                with pytest.raises(DeniedError):
                    await asked()
        finally:
            await operator.close()

    asyncio.run(story())
