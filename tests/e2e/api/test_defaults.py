"""What a live API server stores where a manifest says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.manifests import GOOD, KINDS, patched
from tests.e2e.api.objects import SPECS, STATUSES, whole

if TYPE_CHECKING:
    from tests.e2e.api.client import Api

pytestmark = pytest.mark.cluster

POLICY = {
    "mode": "Manual",
    "trigger": {
        "cooldown": "5m",
        "minSamples": 10,
        "performanceThreshold": 0.8,
        "qualityFactor": 0.9,
        "minImprovement": 0.05,
    },
    "compatibility": {"strict": True, "minSuccess": 0.9, "keepCapabilities": True, "keepContextWindow": True},
    "warmUp": {"completions": 3, "skipRequests": 10, "deadline": "10m"},
    "rollout": {"strategy": "Auto", "watch": "1h", "keepHot": "1h", "keepWarm": "168h", "maxHold": "2m"},
    "analysis": {
        "rollbackErrorRate": 0.01,
        "promotionErrorRate": 0.05,
        "minSuccessRatio": 0.95,
        "maxErrorRatio": 2,
        "maxFirstTokenRatio": 1.2,
        "maxPerTokenRatio": 1.2,
        "minQualityRatio": 0.95,
        "minRequests": 50,
        "blockLength": "60s",
        "slice": "15s",
        "maxExtensions": 3,
        "maxSilentBlocks": 5,
        "onInconclusive": "Rollback",
    },
    "rollback": {"firstFailures": 12, "drain": "30s", "cooldown": "6h", "maxCooldown": "48h"},
}

STORED: dict[str, dict[str, Any]] = {
    "LocalModel": {"source": "ollama://smollm2:135m"},
    "ModelPool": {
        "tasks": [{"name": "chat", "model": "smollm2"}],
        "placement": {},
        "capacity": {},
        "replicas": 1,
        "router": {
            "replicas": 2,
            "limits": {
                "body": "10Mi",
                "headerTimeout": "10s",
                "bodyTimeout": "60s",
                "firstByteTimeout": "5m",
                "idleTimeout": "60s",
                "totalTimeout": "1h",
                "heldRequests": 100,
                "holdTimeout": "60s",
            },
            "expose": {"serviceType": "ClusterIP"},
        },
        "suspend": False,
    },
    "SwapPolicy": POLICY,
    "ModelSwap": {"pool": "assistant", "task": "chat", "to": "gemma3", "reason": "requested", "intent": "Run"},
    "TaskProfile": {"pool": "assistant", "task": "chat"},
}
"""What is stored of the smallest manifests; written out, so that no default changes unseen."""


@pytest.mark.parametrize("kind", STORED)
def test_what_a_small_manifest_leaves_out_is_filled_in(api: Api, name: str, kind: str) -> None:
    """`kubectl get -o yaml` shows what holds, and what has no default is not there at all."""
    made = api.create(patched(GOOD[kind], {"metadata": {"name": name}})).taken()

    assert made["spec"] == STORED[kind]
    assert made["status"] == {"observedGeneration": 0}


@pytest.mark.parametrize("kind", SPECS)
def test_what_a_whole_manifest_says_is_kept(api: Api, name: str, kind: str) -> None:
    """No value that a user gave is replaced by a default, false, 0 and 1 included."""
    made = api.create(whole(kind, name)).taken()

    assert patched(made["spec"], SPECS[kind]) == made["spec"]


@pytest.mark.parametrize("kind", STATUSES)
def test_every_field_of_a_status_is_kept(api: Api, name: str, kind: str) -> None:
    """What the operator writes is what it reads after a restart: no field is dropped on the way, none is refused."""
    made = api.create(patched(GOOD[kind], {"metadata": {"name": name}})).taken()

    stored = api.merge(made, {"status": STATUSES[kind]}, "status").taken()["status"]

    read = KINDS[kind].model_validate({**made, "status": stored}).to_dict()["status"]
    written = KINDS[kind].model_validate({**made, "status": STATUSES[kind]}).to_dict()["status"]
    assert patched(stored, STATUSES[kind]) == stored
    assert read == written
    assert set(stored) == set(read)


def test_a_policy_needs_no_spec(api: Api, name: str) -> None:
    """The built-in policy can be looked at: make one that says nothing."""
    assert api.create(patched(GOOD["SwapPolicy"], {"metadata": {"name": name}, "spec": None})).taken()["spec"] == POLICY


def test_null_means_left_out(api: Api, name: str) -> None:
    """Templates that render an unset value as null get the default, and not an error about a type."""
    pool = patched(GOOD["ModelPool"], {"metadata": {"name": name}})
    nothing = {"replicas": None, "suspend": None, "router": None, "models": None, "swapPolicy": None}

    made = api.create({**pool, "spec": {**pool["spec"], **nothing}}).taken()

    assert made["spec"] == STORED["ModelPool"]


@pytest.mark.parametrize(
    ("kind", "change", "want"),
    [
        pytest.param(
            "LocalModel",
            {"spec": {"engine": {}}},
            {"spec": {"engine": {"startupDeadline": "30m"}}},
            id="an engine has its deadline",
        ),
        pytest.param(
            "ModelPool",
            {"spec": {"placement": {"gpus": {}, "tolerations": [{"key": "gpu"}]}}},
            {
                "spec": {
                    "placement": {
                        "gpus": {"resource": "nvidia.com/gpu", "count": 1},
                        "tolerations": [{"key": "gpu", "operator": "Equal"}],
                    }
                }
            },
            id="a GPU is one of NVIDIA's",
        ),
        pytest.param(
            "ModelPool",
            {"spec": {"tasks": [{"name": "chat", "model": "smollm2", "weights": {"quality": 1}}]}},
            {
                "spec": {
                    "tasks": [
                        {
                            "name": "chat",
                            "model": "smollm2",
                            "weights": {
                                "quality": 1,
                                "latency": 0.3,
                                "memory": 0.1,
                                "reliability": 0.1,
                                "recency": 0.1,
                            },
                        }
                    ]
                }
            },
            id="a weight beside the one that is given",
        ),
        pytest.param(
            "SwapPolicy",
            {"spec": {"rollout": {"ramp": {"start": 5}}}},
            {"spec": {"rollout": {"ramp": {"start": 5, "increment": 10, "hold": "1h"}}}},
            id="a ramp that is begun",
        ),
        pytest.param(
            "SwapPolicy",
            {"spec": {"windows": [{"cron": "0 22 * * *", "duration": "8h"}]}},
            {"spec": {"windows": [{"cron": "0 22 * * *", "duration": "8h", "timeZone": "UTC"}]}},
            id="a window's time zone",
        ),
        pytest.param(
            "TaskProfile",
            {"spec": {"prior": {"knowledge": {}}}},
            {"spec": {"prior": {"discount": 0.5, "knowledge": {}}}},
            id="a prior counts half",
        ),
    ],
)
def test_a_part_that_is_begun_is_filled_in(
    api: Api, name: str, kind: str, change: dict[str, Any], want: dict[str, Any]
) -> None:
    """Whoever gives one value of a part gets the defaults of its others."""
    made = api.create(patched(patched(GOOD[kind], {"metadata": {"name": name}}), change)).taken()

    assert patched(made, want) == made


def test_steps_do_not_bring_a_ramp_with_them(api: Api, name: str) -> None:
    """Ramp and steps exclude each other, so neither may come by default."""
    steps = {"rollout": {"steps": [{"weight": 10, "hold": "1h"}]}}

    made = api.create(patched(GOOD["SwapPolicy"], {"metadata": {"name": name}, "spec": steps})).taken()

    assert made["spec"]["rollout"] == POLICY["rollout"] | steps["rollout"]  # type: ignore[operator]  # one big table
