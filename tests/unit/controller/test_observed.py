"""Pods, nodes and what they hold, as decisions read them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from arbiter.api.pod import TaintEffect
from arbiter.controller.observed import held_by_pod, node_facts, owner_of, seen_pod
from arbiter.core.facts import Taint
from arbiter.core.snapshot import PodPhase
from tests.unit.controller.cluster_objects import pod

LABELS = {"arbiter.dev/pool": "assistant"}
MIB = 1024**2


def ended(code: int, at: str, message: str = "", reason: str = "Error") -> dict[str, Any]:
    """The state of a container that has ended."""
    return {"terminated": {"exitCode": code, "finishedAt": at, "message": message, "reason": reason}}


def test_a_pod_that_runs() -> None:
    """Everything that a snapshot shows of it."""
    seen = seen_pod(pod("p", LABELS))
    view = seen.view
    assert (view.name, view.phase, view.ready, view.deleting) == ("p", PodPhase.RUNNING, True, False)
    assert (view.address, view.node) == ("10.244.0.7", "node-1")
    assert view.created_at == datetime(2026, 11, 21, 10, tzinfo=UTC)
    assert (view.waiting, view.restarts, view.last_exit, view.evicted) == ("", 0, None, "")
    assert (seen.namespace, seen.labels, seen.port, seen.fetching) == ("team", LABELS, 8080, False)


def test_a_pod_that_is_on_its_way_out_is_not_ready() -> None:
    """Though its condition may still say so."""
    body = pod("p", LABELS)
    body["metadata"]["deletionTimestamp"] = "2026-11-21T10:01:00Z"
    view = seen_pod(body).view
    assert (view.ready, view.deleting) == (False, True)


@pytest.mark.parametrize(
    ("status", "want"),
    [
        pytest.param(
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
                ]
            },
            {"unschedulable": "0/1 nodes"},
            id="the scheduler finds no node",
        ),
        pytest.param(
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]},
            {"unschedulable": ""},
            id="the scheduler has not tried",
        ),
        pytest.param(
            {"containerStatuses": [{"name": "engine", "state": {"waiting": {"reason": "ContainerCreating"}}}]},
            {"waiting": ""},
            id="it only starts",
        ),
        pytest.param(
            {
                "containerStatuses": [
                    {"name": "engine", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}
                ]
            },
            {"waiting": "ImagePullBackOff", "waiting_message": "no", "waiting_container": "engine"},
            id="its image does not come",
        ),
        pytest.param(
            {
                "initContainerStatuses": [
                    {"name": "fetch", "restartCount": 1, "state": ended(0, "2026-11-21T10:00:05Z", reason="Completed")}
                ],
                "containerStatuses": [
                    {"name": "engine", "restartCount": 2, "lastState": ended(1, "2026-11-21T10:00:09Z", " no model \n")}
                ],
            },
            {"restarts": 3, "last_exit": 1, "last_message": "no model", "last_container": "engine"},
            id="the last end counts, and its words",
        ),
        pytest.param(
            {
                "containerStatuses": [
                    {"name": "engine", "lastState": ended(137, "2026-11-21T10:00:09Z", reason="OOMKilled")}
                ]
            },
            {"last_exit": 137, "last_message": "OOMKilled"},
            id="without words the reason counts",
        ),
        pytest.param(
            {"containerStatuses": [{"name": "engine", "lastState": ended(2, "2026-11-21T10:00:09Z")}]},
            {"last_exit": 2, "last_message": ""},
            id="unless it says nothing",
        ),
        pytest.param(
            {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
            {"phase": PodPhase.FAILED, "evicted": "low on memory"},
            id="the kubelet threw it out",
        ),
        pytest.param(
            {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]},
            {"evicted": "PreemptionByScheduler"},
            id="the scheduler threw it out",
        ),
        pytest.param({"phase": "Odd"}, {"phase": PodPhase.PENDING}, id="an unheard-of phase"),
    ],
)
def test_what_is_wrong_with_a_pod(status: dict[str, Any], want: dict[str, Any]) -> None:
    """In the words of whoever noticed it."""
    view = seen_pod(pod("p", LABELS, **status)).view
    assert {name: getattr(view, name) for name in want} == want


def test_a_download_that_runs_is_seen() -> None:
    """It can be asked how far it is."""
    running = [{"name": "fetch", "state": {"running": {}}}]
    assert seen_pod(pod("p", LABELS, initContainerStatuses=running)).fetching


def test_a_pod_of_which_nothing_is_known_yet_is_read_too() -> None:
    """The API server tells of it before the kubelet does."""
    view = seen_pod({"metadata": {"name": "p"}}).view
    assert (view.phase, view.ready, view.address) == (PodPhase.PENDING, False, "")


def container(restart: str = "", **requests: str) -> dict[str, Any]:
    """A container that asks for something."""
    return {"resources": {"requests": requests}, **({"restartPolicy": restart} if restart else {})}


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        pytest.param({"containers": [container(memory="1Mi"), container(memory="2Mi")]}, 3 * MIB, id="all containers"),
        pytest.param(
            {"initContainers": [container(memory="8Mi")], "containers": [container(memory="2Mi")]},
            8 * MIB,
            id="a larger one before",
        ),
        pytest.param(
            {
                "initContainers": [container("Always", memory="3Mi"), container(memory="4Mi")],
                "containers": [container(memory="2Mi")],
            },
            7 * MIB,
            id="one before beside a sidecar",
        ),
        pytest.param(
            {
                "initContainers": [container("Always", memory="3Mi")],
                "containers": [container(memory="2Mi")],
                "overhead": {"memory": "1Mi"},
            },
            6 * MIB,
            id="a sidecar and the runtime's own",
        ),
        pytest.param(
            {"containers": [container(memory="2Mi")], "resources": {"requests": {"memory": "9Mi"}}},
            9 * MIB,
            id="said for the whole pod",
        ),
        pytest.param({"containers": [container(memory="-1")]}, None, id="nonsense"),
    ],
)
def test_what_a_pod_holds_is_counted_as_the_scheduler_does(spec: dict[str, Any], want: int | None) -> None:
    """By requests; a pod takes one of the node's places for pods too."""
    held = held_by_pod({"spec": {"nodeName": "n", **spec}, "status": {"phase": "Running"}})
    assert held is not None
    assert held.node == "n"
    assert dict(held.amounts) == {"pods": 1, **({} if want is None else {"memory": want})}


def test_cores_are_counted_in_thousandths() -> None:
    """Pods ask for parts of them, and what is asked for is rounded up."""
    spec = {"containers": [container(cpu="1"), container(cpu="250m"), container(cpu="0.0001")]}
    held = held_by_pod({"spec": {"nodeName": "n", **spec}, "status": {"phase": "Running"}})
    assert held is not None
    assert dict(held.amounts) == {"pods": 1, "cpu": 1251}
    assert node_facts({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "1930m"}}}).allocatable == {
        "cpu": 1930
    }


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"spec": {}, "status": {"phase": "Pending"}}, id="not bound"),
        pytest.param({"spec": {"nodeName": "n"}, "status": {"phase": "Failed"}}, id="ended"),
    ],
)
def test_a_pod_that_holds_nothing(body: dict[str, Any]) -> None:
    """Takes no room."""
    assert held_by_pod(body) is None


def test_a_node_with_its_taints() -> None:
    """An effect that nobody knows yet is left out."""
    body = {
        "metadata": {"name": "n", "labels": {"a": "b"}},
        "spec": {
            "unschedulable": True,
            "taints": [
                {"key": "gpu", "effect": "NoSchedule", "value": "yes"},
                {"key": "new", "effect": "NoBreakfast"},
            ],
        },
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
    }
    facts = node_facts(body)
    assert (facts.ready, facts.schedulable, facts.labels) == (False, False, {"a": "b"})
    assert facts.taints == (Taint("gpu", TaintEffect.NoSchedule, "yes"),)
    assert facts.allocatable == {}


def test_the_owner_of_an_object_is_who_controls_it() -> None:
    """Not just anybody who is named."""
    references = [{"kind": "A", "name": "a", "uid": "1"}, {"kind": "B", "name": "b", "uid": "2", "controller": True}]
    found = owner_of({"metadata": {"ownerReferences": references}})
    assert found is not None
    assert found.uid == "2"
    assert owner_of({"metadata": {}}) is None
