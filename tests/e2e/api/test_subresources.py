"""Status and scale beside the spec: who can write what, what counts as a new generation, and who waits for what."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.manifests import GOOD, KINDS, patched
from tests.e2e.api.objects import STATUSES, condition, whole
from tests.e2e.running import Cluster, said

if TYPE_CHECKING:
    from tests.e2e.api.client import Api

pytestmark = pytest.mark.cluster

TOUCHED: dict[str, dict[str, Any]] = {
    "LocalModel": {"deprecated": "superseded"},
    "ModelPool": {"suspend": True},
    "SwapPolicy": {"mode": "Automatic"},
    "ModelSwap": {"intent": "Pause"},
    "TaskProfile": {"prior": {"knowledge": {}}},
}
"""A change of the spec that each kind allows."""

SELECTOR = "arbiter.dev/pool=assistant,arbiter.dev/role=engine"


def begun(api: Api, kind: str, name: str) -> dict[str, Any]:
    """Make the smallest object of a kind."""
    return api.create(patched(GOOD[kind], {"metadata": {"name": name}})).taken()


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_of_the_spec_does_not_touch_the_status(api: Api, name: str, kind: str) -> None:
    """Nobody can make an object say that it is ready, neither when it is made nor when its spec is edited."""
    claim = {"observedGeneration": 9, "conditions": [condition("Ready")]}
    made = api.create({**patched(GOOD[kind], {"metadata": {"name": name}}), "status": claim}).taken()
    assert made["status"] == {"observedGeneration": 0}

    edited = api.replace({**made, "spec": made["spec"] | TOUCHED[kind], "status": claim}).taken()
    assert edited["status"] == {"observedGeneration": 0}
    assert patched(edited["spec"], TOUCHED[kind]) == edited["spec"]
    assert api.merge(edited, {"status": claim}).taken()["status"] == {"observedGeneration": 0}


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_of_the_status_touches_nothing_else(api: Api, name: str, kind: str) -> None:
    """A mistake in the operator cannot change what a user wants, nor whom an object belongs to."""
    made = begun(api, kind, name)
    greedy = patched(made, {"spec": TOUCHED[kind], "metadata": {"labels": {"a": "b"}, "finalizers": ["a.example/b"]}})

    after = api.replace({**greedy, "status": STATUSES[kind]}, "status").taken()

    assert after["spec"] == made["spec"]
    assert {"labels", "finalizers", "ownerReferences"} & after["metadata"].keys() == set()
    assert patched(after["status"], STATUSES[kind]) == after["status"]


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_change_of_the_spec_is_a_new_generation(api: Api, name: str, kind: str) -> None:
    """The operator knows by comparing two numbers whether its status is about the spec in hand."""
    made = begun(api, kind, name)
    generations = [made["metadata"]["generation"]]
    for patch, subresource in (
        ({"metadata": {"labels": {"a": "b"}}}, ""),
        ({"status": {"observedGeneration": 1}}, "status"),
        ({"spec": TOUCHED[kind]}, ""),
        ({"spec": TOUCHED[kind]}, ""),
    ):
        after = api.merge(made, patch, subresource).taken()
        generations.append(after["metadata"]["generation"])

    assert generations == [1, 1, 1, 2, 2]
    assert after["status"]["observedGeneration"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_goes_as_soon_as_it_is_deleted(api: Api, name: str, kind: str) -> None:
    """Nothing of ours holds it back: it can be deleted while no operator runs, or after that was uninstalled."""
    made = begun(api, kind, name)
    api.merge(made, {"status": STATUSES[kind]}, "status").taken()

    assert api.delete(made).taken()["status"] == "Success"
    assert api.get(made).code == 404


def test_scale_shows_what_an_autoscaler_reads(api: Api, name: str) -> None:
    """A HorizontalPodAutoscaler finds the pods by the selector and compares wanted with present replicas."""
    made = begun(api, "ModelPool", name)
    assert api.get(made, "scale").taken()["spec"] == {"replicas": 1}
    api.merge(made, {"status": {"replicas": 1, "selector": SELECTOR}}, "status").taken()

    scale = api.get(made, "scale").taken()

    assert (scale["apiVersion"], scale["kind"]) == ("autoscaling/v1", "Scale")
    assert scale["spec"] == {"replicas": 1}
    assert scale["status"] == {"replicas": 1, "selector": SELECTOR}


@pytest.mark.parametrize("replicas", [3, 0])
def test_kubectl_scales_a_pool_and_nothing_else(cluster: Cluster, api: Api, name: str, replicas: int) -> None:
    """`kubectl scale` sets the one number, to nothing too; the rest of the pool stays as it was."""
    made = api.create(whole("ModelPool", name)).taken()

    said(cluster.kubectl("scale", f"lmpool/{name}", f"--namespace={api.namespace}", f"--replicas={replicas}"))

    after = api.get(made).taken()
    assert after["spec"] == {**made["spec"], "replicas": replicas}
    assert after["metadata"]["generation"] == 2
    assert after["status"] == made["status"]


@pytest.mark.parametrize(
    ("replicas", "says"),
    [
        pytest.param(-1, "spec.replicas: Invalid value: -1: should be a non-negative integer", id="less than nothing"),
        pytest.param(101, "should be less than or equal to 100", id="more than a pool may have"),
    ],
)
def test_a_pool_is_not_scaled_beyond_its_bounds(api: Api, name: str, replicas: int, says: str) -> None:
    """The bounds of the field hold for autoscalers too."""
    made = begun(api, "ModelPool", name)

    assert any(says in each for each in api.merge(made, {"spec": {"replicas": replicas}}, "scale").refused())
    assert api.get(made).taken()["spec"]["replicas"] == 1


def test_a_manifest_without_replicas_leaves_them_to_the_autoscaler(api: Api, name: str) -> None:
    """What Git does not say it does not set back, however often it is applied."""
    pool = patched(GOOD["ModelPool"], {"metadata": {"name": name}})
    made = api.apply(pool, "git").taken()
    api.merge(made, {"spec": {"replicas": 4}}, "scale", fieldManager="autoscaler").taken()

    assert api.apply(pool, "git").taken()["spec"]["replicas"] == 4


def test_a_manifest_with_replicas_is_told_who_scales(api: Api, name: str) -> None:
    """Git and an autoscaler that both want to decide do not undo each other's work in turn, unseen."""
    pool = patched(GOOD["ModelPool"], {"metadata": {"name": name}, "spec": {"replicas": 2}})
    made = api.apply(pool, "git").taken()
    api.merge(made, {"spec": {"replicas": 4}}, "scale", fieldManager="autoscaler").taken()

    [says] = api.apply(pool, "git").refused()
    assert says.startswith('.spec.replicas: conflict with "autoscaler" with subresource "scale"')
    without = patched(pool, {"spec": {"replicas": None}})
    assert api.apply(without, "git").taken()["spec"]["replicas"] == 4


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "ModelPool"])
def test_only_pools_can_be_scaled(api: Api, name: str, kind: str) -> None:
    """Nothing else has replicas, and says so."""
    assert api.get(begun(api, kind, name), "scale").code == 404


@pytest.mark.parametrize("kind", KINDS)
def test_kubectl_waits_until_an_object_is_ready(cluster: Cluster, api: Api, name: str, kind: str) -> None:
    """`kubectl wait --for=condition=Ready`, as the documentation shows it, ends when the status says so."""
    made = begun(api, kind, name)
    api.merge(made, {"status": {"observedGeneration": 1, "conditions": [condition("Ready")]}}, "status").taken()
    what = (f"{KINDS[kind].names.plural}/{name}", f"--namespace={api.namespace}")

    assert "condition met" in said(cluster.kubectl("wait", "--for=condition=Ready", *what, "--timeout=10s"))


@pytest.mark.parametrize(
    "conditions",
    [
        pytest.param([], id="nothing is known"),
        pytest.param([condition("Ready", "False")], id="it is not ready"),
        pytest.param([condition("Ready", generation=1)], id="it was ready before it was edited"),
    ],
)
def test_kubectl_goes_on_waiting(cluster: Cluster, api: Api, name: str, conditions: list[dict[str, Any]]) -> None:
    """Who waits for the newest spec is not let go by what was true of an older one."""
    made = begun(api, "ModelPool", name)
    edited = api.merge(made, {"spec": TOUCHED["ModelPool"]}).taken()
    api.merge(edited, {"status": {"conditions": conditions}}, "status").taken()
    what = (f"modelpools/{name}", f"--namespace={api.namespace}")

    looked = cluster.kubectl("wait", "--for=condition=Ready", *what, "--timeout=0s")  # it looks once

    assert looked.returncode == 1
    assert re.search(rf"condition .*modelpools/{name}", looked.stderr)
