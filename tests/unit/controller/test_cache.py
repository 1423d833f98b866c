"""The cache: what it remembers, what it finds again, and whom each change concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from arbiter.controller.cache import Cache, models_used
from arbiter.core.actions import ObjectKey
from arbiter.kubeapi.resources import CONFIG_MAPS, DEPLOYMENTS, SECRETS
from tests.unit.controller.cluster_objects import MODEL, POOL, child, model, pod, policy, pool, swap

if TYPE_CHECKING:
    from arbiter.controller.queue import Subject

PLACE = ("team", "assistant")


class Told:
    """A cache, and whom its changes concerned since the last look."""

    def __init__(self) -> None:
        self._concerned: list[Subject] = []
        self.cache = Cache(self._concerned.append)

    def concerned(self) -> set[str]:
        """Kinds and names, once."""
        found = {f"{each.kind}/{each.name}" for each in self._concerned}
        self._concerned.clear()
        return found


def test_a_pool_concerns_itself_and_the_models_that_it_names_or_named() -> None:
    """A model shows who uses it, so it has to hear of both."""
    told = Told()
    told.cache.pool_seen(PLACE, pool())
    assert told.concerned() == {"ModelPool/assistant", "LocalModel/smollm2"}
    told.cache.pool_seen(PLACE, pool(version=2, replicas=2))
    assert told.concerned() == {"ModelPool/assistant"}
    told.cache.pool_seen(PLACE, pool(version=3, tasks=[{"name": "chat", "model": "gemma"}]))
    assert told.concerned() == {"ModelPool/assistant", "LocalModel/smollm2", "LocalModel/gemma"}
    told.cache.pool_seen(PLACE, None)
    assert told.concerned() == {"ModelPool/assistant", "LocalModel/gemma"}
    assert told.cache.pools.get(PLACE) is None


def test_a_model_hears_that_another_task_uses_it_now() -> None:
    """A pool may name the same models as before and use them otherwise; what uses none of it anew hears nothing."""
    told = Told()
    both = ["smollm2", "gemma", "qwen"]
    chat = {"name": "chat", "model": "smollm2"}
    told.cache.pool_seen(PLACE, pool(tasks=[{**chat, "fallback": ["gemma"]}], models=both))
    told.concerned()
    told.cache.pool_seen(PLACE, pool(version=2, tasks=[chat, {"name": "code", "model": "gemma"}], models=both))
    assert told.concerned() == {"ModelPool/assistant", "LocalModel/gemma"}
    assert models_used(told.cache.pools.get(PLACE)) == {"smollm2": ("chat",), "gemma": ("code",), "qwen": ()}


def test_what_was_seen_before_concerns_nobody() -> None:
    """A watch that lists again, or tells of our own write, causes no pass."""
    told = Told()
    told.cache.pool_seen(PLACE, pool())
    told.cache.model_seen(("team", "smollm2"), model())
    told.cache.child_seen(CONFIG_MAPS, ("team", "assistant-routes"), child("assistant-routes"))
    told.cache.pod_seen(("team", "p"), pod("p", {"arbiter.dev/pool": "assistant"}))
    told.concerned()
    told.cache.pool_seen(PLACE, pool())
    told.cache.model_seen(("team", "smollm2"), model())
    told.cache.written(CONFIG_MAPS, child("assistant-routes"))
    told.cache.pod_seen(("team", "p"), pod("p", {"arbiter.dev/pool": "assistant"}))
    assert told.concerned() == set()


def test_a_model_concerns_pools_that_name_it_or_choose_by_labels() -> None:
    """And no others of its namespace."""
    told = Told()
    told.cache.pool_seen(PLACE, pool())
    told.cache.pool_seen(("team", "other"), pool("other", tasks=[{"name": "chat", "model": "gemma"}]))
    chooses = pool("chooses", tasks=[{"name": "chat"}], modelSelector={"matchLabels": {"family": "smollm2"}})
    told.cache.pool_seen(("team", "chooses"), chooses)
    told.concerned()
    told.cache.model_seen(("team", "smollm2"), model())
    assert told.concerned() == {"LocalModel/smollm2", "ModelPool/assistant", "ModelPool/chooses"}
    assert set(told.cache.models_in("team")) == {"smollm2"}
    told.cache.model_seen(("team", "smollm2"), None)
    assert told.cache.models_in("team") == {}
    assert told.concerned() == {"LocalModel/smollm2", "ModelPool/assistant", "ModelPool/chooses"}


def test_the_models_of_a_namespace_are_one_mapping_until_one_of_them_changes() -> None:
    """A thousand models are not copied for each pass, and nobody can change them."""
    told = Told()
    told.cache.model_seen(("team", "smollm2"), model())
    before = told.cache.models_in("team")
    assert told.cache.models_in("team") is before
    told.cache.model_seen(("team", "smollm2"), model(version=2))
    assert told.cache.models_in("team")["smollm2"].metadata.resource_version == "2"
    assert before["smollm2"].metadata.resource_version == "1"


def test_every_way_to_name_a_model_counts() -> None:
    """What serves counts too, though the spec no longer names it."""
    told = Told()
    status = {"tasks": [{"name": "chat", "active": {"model": "serving", "revision": "0a1b2c3d4e"}}]}
    task = {"name": "chat", "model": "a", "candidates": ["b"], "fallback": ["c"]}
    told.cache.pool_seen(PLACE, pool(status=status, tasks=[task], models=["a", "d"], preload=["e"]))
    assert set(models_used(told.cache.pools.get(PLACE))) == {"a", "b", "c", "d", "e", "serving"}
    assert models_used(None) == {}


def test_a_child_concerns_who_controls_it_and_is_kept_whole_with_its_kind() -> None:
    """But for managedFields, which are the larger half of an object. Lists do not say of which kind their items are."""
    told = Told()
    body = child("assistant-router", spec={"replicas": 2})
    told.cache.child_seen(DEPLOYMENTS, ("team", "assistant-router"), body)
    assert told.concerned() == {"ModelPool/assistant"}
    standing = told.cache.standing(POOL)[ObjectKey("Deployment", "assistant-router")]
    assert (standing.uid, standing.owner, standing.deleting) == ("uid-child", "uid-pool", False)
    assert (standing.body["apiVersion"], standing.body["kind"]) == ("apps/v1", "Deployment")
    assert standing.body["spec"] == {"replicas": 2}
    assert "managedFields" not in standing.body["metadata"]
    assert "managedFields" in body["metadata"], "what the watch gave is not changed"
    told.cache.child_seen(DEPLOYMENTS, ("team", "assistant-router"), None)
    assert told.concerned() == {"ModelPool/assistant"}
    assert told.cache.standing(POOL) == {}


def test_a_child_that_changes_hands_concerns_both() -> None:
    """And one that nobody of ours controls any more is not remembered."""
    told = Told()
    place = ("team", "x")
    told.cache.child_seen(DEPLOYMENTS, place, child("x"))
    told.concerned()
    told.cache.child_seen(DEPLOYMENTS, place, child("x", version=2, owner=("ModelPool", "other", "uid-other")))
    assert told.concerned() == {"ModelPool/assistant", "ModelPool/other"}
    told.cache.child_seen(DEPLOYMENTS, place, child("x", version=3, owner=None))
    assert told.concerned() == {"ModelPool/other"}
    assert told.cache.child("Deployment", place) is None


def test_a_stranger_in_the_way_is_shown_until_it_is_gone() -> None:
    """Each change of that concerns the pool, once."""
    told = Told()
    told.cache.child_seen(DEPLOYMENTS, ("team", "y"), child("y", owner=("ModelPool", "other", "uid-other")))
    standing = told.cache.child("Deployment", ("team", "y"))
    assert standing is not None
    told.concerned()
    told.cache.stranger(POOL, standing.key, standing)
    told.cache.stranger(POOL, standing.key, standing)
    assert told.concerned() == {"ModelPool/assistant"}
    assert told.cache.standing(POOL) == {standing.key: standing}
    assert told.cache.strangers() == ((POOL, standing.key),)
    told.cache.stranger(POOL, standing.key, None)
    assert told.concerned() == {"ModelPool/assistant"}
    assert told.cache.standing(POOL) == {}
    told.cache.stranger(POOL, standing.key, None)
    assert told.concerned() == set()


@pytest.mark.parametrize(
    ("labels", "want_concerned"),
    [
        pytest.param({"arbiter.dev/pool": "assistant"}, {"ModelPool/assistant"}, id="a router"),
        pytest.param({"arbiter.dev/model": "smollm2"}, {"LocalModel/smollm2"}, id="a resolver"),
        pytest.param({}, set(), id="nobody's"),
    ],
)
def test_a_pod_concerns_whose_labels_it_has(labels: dict[str, str], want_concerned: set[str]) -> None:
    """When it comes, changes and goes; not when its heartbeat alone changes."""
    told = Told()
    told.cache.pod_seen(("team", "p"), pod("p", labels))
    assert told.concerned() == want_concerned
    told.cache.pod_seen(("team", "p"), pod("p", labels, ready=False))
    assert told.concerned() == want_concerned
    told.cache.pod_seen(("team", "p"), None)
    assert told.concerned() == want_concerned


def node(name: str, **metadata: Any) -> dict[str, Any]:  # noqa: ANN401  any metadata
    """A node with two GPUs."""
    return {
        "metadata": {"name": name, **metadata},
        "spec": {},
        "status": {
            "allocatable": {"memory": "8Gi", "cpu": "4", "nvidia.com/gpu": "2", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def held(name: str, gpus: str, node_name: str = "node-1", phase: str = "Running") -> dict[str, Any]:
    """A pod of somebody else on a node."""
    resources = {"requests": {"memory": "1Gi", "cpu": "1500m"}, "limits": {}}
    if gpus:
        resources["requests"]["nvidia.com/gpu"] = gpus
    return {
        "metadata": {"name": name, "namespace": "else"},
        "spec": {"nodeName": node_name, "containers": [{"name": "c", "resources": resources}]},
        "status": {"phase": phase},
    }


def test_what_all_pods_hold_of_a_node_is_added_up_and_given_back() -> None:
    """Also of pods that change or end, and whichever was told first."""
    told = Told()
    told.cache.bound_pod_seen(("else", "a"), held("a", "1"))
    told.cache.node_seen(("", "node-1"), node("node-1"))
    told.cache.bound_pod_seen(("else", "b"), held("b", ""))
    (facts,) = told.cache.nodes
    assert facts.allocatable == {"memory": 8 * 1024**3, "cpu": 4000, "nvidia.com/gpu": 2, "pods": 110}
    assert facts.requested == {"memory": 2 * 1024**3, "cpu": 3000, "nvidia.com/gpu": 1, "pods": 2}
    assert told.cache.nodes is told.cache.nodes
    told.cache.bound_pod_seen(("else", "a"), held("a", "2"))
    assert told.cache.nodes[0].requested["nvidia.com/gpu"] == 2
    told.cache.bound_pod_seen(("else", "a"), held("a", "2", phase="Succeeded"))
    told.cache.bound_pod_seen(("else", "b"), None)
    assert told.cache.nodes[0].requested == {}


def test_a_node_concerns_every_pool_when_a_decision_would_read_the_change() -> None:
    """A heartbeat is none."""
    told = Told()
    told.cache.pool_seen(PLACE, pool())
    told.concerned()
    told.cache.node_seen(("", "node-1"), node("node-1"))
    assert told.concerned() == {"ModelPool/assistant"}
    beat = node("node-1", resourceVersion="77")
    beat["status"]["conditions"][0]["lastHeartbeatTime"] = "2026-11-21T10:00:00Z"
    told.cache.node_seen(("", "node-1"), beat)
    assert told.concerned() == set()
    told.cache.node_seen(("", "node-1"), node("node-1", labels={"gpu": "yes"}))
    assert told.concerned() == {"ModelPool/assistant"}


def test_endpoints_are_counted_over_all_slices_of_a_service() -> None:
    """Each pod once, though it stands in slices of two address families."""
    told = Told()
    labels = {"kubernetes.io/service-name": "assistant-0a", "arbiter.dev/pool": "assistant"}

    def slice_of(name: str, *pods: tuple[str, bool]) -> dict[str, Any]:
        endpoints = [
            {"addresses": [f"{name}-{each}"], "targetRef": {"name": each}, "conditions": {"ready": ready}}
            for each, ready in pods
        ]
        return {"metadata": {"name": name, "namespace": "team", "labels": labels}, "endpoints": endpoints}

    told.cache.slice_seen(("team", "v4"), slice_of("v4", ("a", True), ("b", False), ("c", True)))
    assert told.concerned() == {"ModelPool/assistant"}
    told.cache.slice_seen(("team", "v6"), slice_of("v6", ("a", True)))
    count = told.cache.ready_endpoints("team")
    assert (count("assistant-0a"), count("another")) == (2, 0)
    told.cache.slice_seen(("team", "v4"), None)
    assert count("assistant-0a") == 1


def test_a_pool_that_cannot_be_read_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is passed for it, and the log says what is wrong with it."""
    told = Told()
    told.cache.pool_seen(PLACE, pool(tasks="none"))
    assert told.cache.pools.get(PLACE) is None
    assert "ModelPool team/assistant cannot be read" in caplog.text


def test_what_a_pool_had_of_what_is_never_read_goes_with_it() -> None:
    """A pool that is made anew under its name gets its Secret anew."""
    told = Told()

    told.cache.pool_seen(PLACE, pool())
    told.cache.written(SECRETS, child("assistant-feedback"))
    assert ObjectKey("Secret", "assistant-feedback") in told.cache.standing(POOL)
    told.cache.pool_seen(PLACE, pool(version=9, uid="uid-again"))
    assert told.cache.standing(POOL) == {}
    told.cache.written(SECRETS, child("assistant-feedback"))
    told.cache.forget(POOL)
    assert told.cache.standing(POOL) == {}
    assert tuple(told.cache.subjects()) == (POOL,)
    assert MODEL.kind == "LocalModel"


def test_a_swap_concerns_the_pool_that_it_names() -> None:
    """When it comes, changes and goes; the same told twice is no news."""
    told, place = Told(), ("team", "assistant-chat-1")
    told.cache.swap_seen(place, swap())
    assert told.concerned() == {"ModelPool/assistant"}
    told.cache.swap_seen(place, swap())
    assert told.concerned() == set()
    told.cache.swap_seen(place, swap(version=2, phase="Waiting"))
    assert told.concerned() == {"ModelPool/assistant"}
    assert [each.metadata.name for each in told.cache.swaps.by(PLACE)] == ["assistant-chat-1"]
    told.cache.swap_seen(place, None)
    assert told.concerned() == {"ModelPool/assistant"}


def test_a_policy_concerns_the_pools_that_name_it() -> None:
    """And itself, for it says who uses it; a change of its status alone concerns no pool."""
    told = Told()
    told.cache.pool_seen(PLACE, pool(swapPolicy="slow"))
    assert "SwapPolicy/slow" in told.concerned()
    told.cache.pool_seen(("team", "other"), pool("other"))
    told.concerned()
    told.cache.policy_seen(("team", "slow"), policy(mode="Automatic"))
    assert told.concerned() == {"SwapPolicy/slow", "ModelPool/assistant"}
    told.cache.policy_seen(("team", "slow"), {**policy(version=2, mode="Automatic"), "status": {"poolCount": 1}})
    assert told.concerned() == {"SwapPolicy/slow"}
    told.cache.policy_seen(("team", "slow"), None)
    assert told.concerned() == {"SwapPolicy/slow", "ModelPool/assistant"}
