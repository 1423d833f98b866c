"""What keeps an engine from serving: the first answer of the chain, in words that a person can act on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from arbiter.api.modelpool import Placement
from arbiter.api.reasons import ReasonCode
from arbiter.core.engine_health import GOES_ON, STUCK, Asked, explain, share
from arbiter.core.facts import NodeFacts
from arbiter.core.snapshot import EngineView, PodPhase, PodView

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
GIB = 1024**3


def pod(**fields: Any) -> PodView:  # noqa: ANN401 - fields of a PodView
    """Give a pod that starts."""
    usual: dict[str, Any] = {
        "name": "engine-0",
        "phase": PodPhase.PENDING,
        "ready": False,
        "deleting": False,
        "address": "",
        "node": "node-1",
        "created_at": NOW - timedelta(seconds=10),
    }
    return PodView(**{**usual, **fields})


def said(*pods: PodView, deployment: dict[str, Any] | None = None, **asked: Any) -> tuple[ReasonCode, str]:  # noqa: ANN401 - fields of Asked
    """Give code and words for an engine with these pods."""
    fields: dict[str, Any] = {"placement": Placement(), "memory": GIB, "gpu_memory": None, "startup_s": 1800, **asked}
    nodes = fields.pop("nodes", ())
    found = explain(EngineView("engine", pods), deployment or {}, Asked(**fields), nodes, NOW)
    return found.reason.code, found.reason.message


FAILED = {"type": "ReplicaFailure", "status": "True", "message": 'pods "engine-1" is forbidden: exceeded quota'}


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({}, ReasonCode.EngineStarting, "engine starts on node node-1"),
        ({"waiting": "ImagePullBackOff", "waiting_container": "engine"}, ReasonCode.ImageNotPulled, "container engine"),
        ({"waiting": "CreateContainerConfigError", "waiting_message": 'secret "x" not found'}, None, 'secret "x"'),
        ({"waiting": "CrashLoopBackOff", "last_exit": 137}, ReasonCode.EngineCrashed, "more memory than its limit"),
        ({"restarts": 2, "last_exit": 1, "last_message": "bad\nfile"}, ReasonCode.EngineCrashed, "code 1: bad file"),
        (
            {"waiting": "CrashLoopBackOff", "waiting_container": "fetch", "last_message": "sum is wrong"},
            ReasonCode.FetchFailed,
            "could not be fetched: sum is wrong",
        ),
        (
            {"restarts": 1, "last_exit": 1, "last_container": "fetch", "last_message": "sum is wrong"},
            ReasonCode.FetchFailed,
            "could not be fetched: sum is wrong",
        ),
        ({"fetched": 50, "fetching": 1000}, ReasonCode.Downloading, "5 % of 1000"),
        ({"fetched": 50, "fetching": 1000, "restarts": 1, "last_exit": 1}, ReasonCode.Downloading, "5 % of 1000"),
        ({"created_at": NOW - timedelta(hours=1)}, ReasonCode.StartedTooSlowly, "30 minutes after its start"),
        ({"unschedulable": "0/3 nodes are available"}, ReasonCode.WaitingForNode, "0/3 nodes are available"),
    ],
)
def test_a_pod_that_waits_is_explained(fields: dict[str, Any], code: ReasonCode | None, words: str) -> None:
    """Each cause has its code and says what to look at."""
    found, message = said(pod(**fields))
    assert found == (code or ReasonCode.EngineMisconfigured)
    assert words in message


def test_pods_that_the_cluster_refuses_are_told_from_pods_that_start() -> None:
    """A quota shows at the Deployment alone."""
    assert said() == (ReasonCode.EngineStarting, "engine has no pods yet")
    code, message = said(deployment={"status": {"conditions": [FAILED]}})
    assert code == ReasonCode.PodsRefused
    assert "exceeded quota" in message


def test_what_was_evicted_is_told_until_another_pod_says_more() -> None:
    """The one that is gone explains why another starts; what keeps that one comes first."""
    gone = pod(name="engine-1", phase=PodPhase.FAILED, evicted="The node was low on memory.")
    assert said(gone, pod())[0] == ReasonCode.PodEvicted
    assert said(gone, pod(waiting="ErrImagePull"))[0] == ReasonCode.ImageNotPulled


@pytest.mark.parametrize(
    ("node", "code"),
    [
        (NodeFacts("n", labels={}), ReasonCode.WaitingForNode),
        (NodeFacts("n", labels={"gpu": "yes"}), ReasonCode.WaitingForGPU),
        (NodeFacts("n", labels={"gpu": "yes"}, allocatable={"nvidia.com/gpu": 1}), None),
        (
            NodeFacts("n", labels={"gpu": "yes"}, allocatable={"nvidia.com/gpu": 1, "memory": GIB // 2}),
            ReasonCode.WaitingForMemory,
        ),
        (
            NodeFacts(
                "n",
                labels={"gpu": "yes", "nvidia.com/gpu.memory": "512"},
                allocatable={"nvidia.com/gpu": 1, "memory": 2 * GIB},
            ),
            ReasonCode.WaitingForGPU,
        ),
    ],
)
def test_what_stands_in_the_way_first_is_told(node: NodeFacts, code: ReasonCode | None) -> None:
    """Whether a node may be used at all, then its GPUs, then its memory; else the scheduler's own words."""
    placement = Placement.model_validate({"nodeSelector": {"gpu": "yes"}, "gpus": {"count": 1}})
    found, message = said(pod(unschedulable="said so"), placement=placement, gpu_memory=GIB, nodes=(node,))
    assert found == (code or ReasonCode.WaitingForNode)
    assert ("said so" in message) is (code is None)


def test_progress_moves_in_steps() -> None:
    """A status is not written at every byte."""
    assert [share(have, 1000) for have in (0, 49, 50, 999, 1000, 2000)] == [
        "0 % of 1000",
        "0 % of 1000",
        "5 % of 1000",
        "95 % of 1000",
        "100 % of 1000",
        "100 % of 1000",
    ]


def test_no_reason_both_passes_by_itself_and_needs_a_person() -> None:
    """Else a pool would be told to wait and to act."""
    assert not GOES_ON & STUCK
