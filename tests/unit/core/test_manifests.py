"""Rendered objects: amounts as Kubernetes writes them, drift that is seen, and what must never be in a pod."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.api.amounts import Quantity
from arbiter.api.modelpool import Placement
from arbiter.core.actions import Apply, Create
from arbiter.core.manifests import access, names
from arbiter.core.manifests.amounts import bytes_quantity, canonical, whole_mebibytes
from arbiter.core.manifests.drift import CONTENT, says, stamped
from arbiter.core.manifests.engines import placed
from arbiter.core.manifests.resolver import resolver_job
from arbiter.core.manifests.router import (
    disruption_budget,
    drain_s,
    endpoint_service,
    mounted_keys,
    router_deployment,
)
from arbiter.core.plan import plan_pool
from arbiter.engines.sources import read_source
from arbiter.kubeapi.access import router_rules
from tests.unit.core.serving_cluster import SETTINGS, cluster
from tests.unit.core.test_serving_repeats import settle, whole
from tests.unit.core.test_serving_stories import CARRIED, EXTERNAL, OLLAMA, SIX_LINES, TWO_MODELS

if TYPE_CHECKING:
    from arbiter.api.modelpool import ModelPool


def pool(**spec: Any) -> ModelPool:  # noqa: ANN401 - fields of a spec
    """Give the six-line pool with these fields."""
    story = cluster(SIX_LINES)
    story.edit(**spec)
    return story.pool


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1.5", "1500m"),
        ("2", "2"),
        ("2000", "2k"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1536Mi", "1536Mi"),
        ("1025Ki", "1025Ki"),
        ("1000000", "1M"),
        ("1e3", "1e3"),
        ("1E", "1E"),
        ("0.5Ki", "512"),
        ("100u", "100u"),
    ],
)
def test_an_amount_is_written_as_the_api_server_tells_it(written: str, told: str) -> None:
    """What was sent and what stands compare as text."""
    assert canonical(Quantity.parse(written)) == told


@given(st.integers(1, 2**60))
def test_bytes_read_back_as_they_were(count: int) -> None:
    """Nothing is lost, and what is rounded is rounded up by less than a mebibyte."""
    assert int(Quantity.parse(bytes_quantity(count))) == count
    assert 0 <= int(Quantity.parse(whole_mebibytes(count))) - count < 1024**2


def test_what_stands_says_what_was_asked_for_whatever_was_added() -> None:
    """Defaults and fields of others are no drift."""
    wanted = stamped(router_deployment(pool(), SETTINGS, ()))
    body = copy.deepcopy(wanted)
    body["metadata"]["uid"] = "1"
    pod = body["spec"]["template"]["spec"]
    pod["dnsPolicy"] = "ClusterFirst"
    pod["volumes"].insert(0, {"name": "injected", "emptyDir": {}})
    assert says(body, wanted)


@pytest.mark.parametrize("change", ["value", "gone", "item", "annotation"])
def test_drift_is_seen(change: str) -> None:
    """A field with another value, one that is missing, an item that is missing and a field that is no longer wanted."""
    wanted = stamped(router_deployment(pool(), SETTINGS, ()))
    body = copy.deepcopy(wanted)
    match change:
        case "value":
            body["spec"]["replicas"] = 3
        case "gone":
            del body["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"]
        case "item":
            body["spec"]["template"]["spec"]["volumes"].pop()
        case _:
            body["metadata"]["annotations"][CONTENT] = "before"
    assert not says(body, wanted)


def test_an_annotation_that_is_no_longer_wanted_is_drift() -> None:
    """What stands holds more than is asked for; only the sum of the content tells that it once was ours."""
    exposed = {"expose": {"annotations": {"example.com/lb": "inside"}}}
    before = stamped(endpoint_service(pool(router=exposed)))
    assert not says(before, stamped(endpoint_service(pool())))


def test_the_routers_role_is_the_one_that_they_were_tried_with() -> None:
    """The pure core cannot import the room of the cluster, so the two say the same thing twice."""
    role = access.router_role(pool())
    assert role["rules"] == [rule.to_fields() for rule in router_rules("assistant-routes")]


@pytest.mark.parametrize("manifests", [SIX_LINES, OLLAMA, CARRIED, EXTERNAL, TWO_MODELS])
def test_no_pod_has_rights_or_a_token_that_it_does_not_need(manifests: str) -> None:
    """Every pod fits the restricted level; only routers have a token."""
    story = cluster(manifests)
    settle(story, whole())
    pods = {
        str(key): kept.body["spec"]["template"]["spec"]
        for key, kept in story.objects.items()
        if key.kind in {"Deployment", "Job"}
    }
    assert pods
    for name, spec in pods.items():
        assert spec["automountServiceAccountToken"] is (name == "Deployment/assistant-router"), name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"], name
            assert rights["capabilities"] == {"drop": ["ALL"]}, name
            assert not rights["allowPrivilegeEscalation"], name
            assert "memory" in container["resources"]["requests"], name
            assert container["terminationMessagePolicy"] == "FallbackToLogsOnError", name


@pytest.mark.parametrize("manifests", [SIX_LINES, OLLAMA, CARRIED, EXTERNAL, TWO_MODELS])
def test_nothing_empty_is_written(manifests: str) -> None:
    """What is empty the API server leaves out, and it would show as drift for ever."""
    story = cluster(manifests)
    settle(story, whole())
    for key, kept in story.objects.items():
        if key.kind not in {"ControllerRevision", "Job"}:
            assert not list(_empty(kept.body)), key


def _empty(value: object, path: str = "") -> list[str]:
    if isinstance(value, dict):
        here = [f"{path}.{name}" for name, part in value.items() if part in ([], None, "") or _is_void(name, part)]
        return here + [found for name, part in value.items() for found in _empty(part, f"{path}.{name}")]
    if isinstance(value, list):
        return [found for index, part in enumerate(value) for found in _empty(part, f"{path}[{index}]")]
    return []


def _is_void(name: str, part: object) -> bool:
    return part == {} and name != "emptyDir"


def test_every_object_is_the_pools_and_is_found_by_its_labels() -> None:
    """Each names the pool as its controller, in its namespace, with the labels by which people look."""
    story = cluster(SIX_LINES)
    for action in plan_pool(story.snapshot(), story.now).actions:
        if isinstance(action, Apply | Create):
            metadata = action.manifest["metadata"]
            (owner,) = metadata["ownerReferences"]
            assert (owner["kind"], owner["uid"], owner["controller"]) == ("ModelPool", "ModelPool-1", True)
            assert metadata["namespace"] == "demo"
            assert metadata["labels"][names.POOL] == "assistant"
            assert metadata["labels"]["app.kubernetes.io/managed-by"] == "arbiter"


def test_routers_see_keys_and_a_long_request_ends_before_they_do() -> None:
    """Keys are mounted by the names of their Secrets, and requests get their time within a bound."""
    exposed = pool(router={"auth": {"keysSecret": "people"}, "limits": {"totalTimeout": "2h"}, "replicas": 3})
    deployment = router_deployment(exposed, SETTINGS, ("cloud", "mac"))
    spec = deployment["spec"]["template"]["spec"]
    assert mounted_keys(deployment) == {"cloud", "mac"}
    arguments = spec["containers"][0]["args"]
    assert "--keys=/etc/arbiter/keys/keys" in arguments
    assert "--backend-keys=/etc/arbiter/backend-keys" in arguments
    assert f"--drain={drain_s(exposed.spec.router)}" in arguments
    assert spec["terminationGracePeriodSeconds"] > drain_s(exposed.spec.router) == 900
    assert disruption_budget(exposed)["spec"]["maxUnavailable"] == 1


def test_placement_is_added_to_what_was_frozen() -> None:
    """Where an engine runs comes from the pool as it is now, and an empty selector keeps its meaning."""
    near = {"labelSelector": {}, "topologyKey": "kubernetes.io/hostname"}
    placement = Placement.model_validate(
        {
            "nodeSelector": {"gpu": "yes"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [near]}},
            "runtimeClassName": "nvidia",
        }
    )
    spec = placed({"containers": [{"name": "engine", "resources": {"requests": {"memory": "1024Mi"}}}]}, placement)
    assert spec["containers"][0]["resources"] == {"requests": {"memory": "1Gi"}}
    assert spec["nodeSelector"] == {"gpu": "yes"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert spec["affinity"] == {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [near]}}
    assert spec["runtimeClassName"] == "nvidia"


@pytest.mark.parametrize(
    ("source", "spec", "mounted"),
    [
        ("oci://registry.example/m:1", {"pullSecret": "login"}, "--docker-config=/credentials/config.json"),
        ("hf://org/repo/m.gguf", {"pullSecret": "hub"}, "--token-file=/credentials/token"),
        ("pvc://claim/m.gguf", {}, "--mounted=/claim"),
        ("https://files.example/m.gguf", {"sha256": "a" * 64}, f"--sha256={'a' * 64}"),
    ],
)
def test_a_resolver_gets_what_its_source_asks_for(source: str, spec: dict[str, str], mounted: str) -> None:
    """The workload's own secret or claim, and nothing else."""
    story = cluster(SIX_LINES)
    fields = story.models["smollm2"].to_dict()
    model = type(story.models["smollm2"]).model_validate({**fields, "spec": {"source": source, **spec}})
    job = resolver_job(model, read_source("smollm2", model.spec), SETTINGS)
    pod = job["spec"]["template"]["spec"]
    assert mounted in pod["containers"][0]["args"]
    assert job["spec"]["backoffLimit"] == 0
    assert len(pod["volumes"]) == len(pod["containers"][0]["volumeMounts"])
    assert all(volume["secret"]["optional"] for volume in pod["volumes"] if "secret" in volume)


def test_a_resolver_trusts_further_authorities_where_the_operator_is_told_so() -> None:
    """They come from a ConfigMap that may be missing: then the server is not trusted, and that is said."""
    model = cluster(SIX_LINES).models["smollm2"]
    settings = replace(SETTINGS, engines=replace(SETTINGS.engines, trusted="authorities"))
    pod = resolver_job(model, read_source("smollm2", model.spec), settings)["spec"]["template"]["spec"]
    (volume,) = [each["configMap"] for each in pod["volumes"] if "configMap" in each]
    assert (volume["name"], volume["optional"]) == ("authorities", True)
    container = pod["containers"][0]
    assert {"name": "SSL_CERT_FILE", "value": "/trust/ca.crt"} in container["env"]
    assert {"name": "trust", "mountPath": "/trust", "readOnly": True} in container["volumeMounts"]


def test_a_resolver_asks_without_tls_only_where_the_operator_is_told_so() -> None:
    """Its operator names the registries; a model cannot."""
    model = cluster(SIX_LINES).models["smollm2"]
    plain = replace(SETTINGS, plain_http=("registry.example:5000",))
    told = [
        resolver_job(model, read_source("smollm2", model.spec), settings)["spec"]["template"]["spec"]["containers"][0]
        for settings in (SETTINGS, plain)
    ]
    asked = [[word for word in container["args"] if "plain-http" in word] for container in told]
    assert asked == [[], ["--plain-http=registry.example:5000"]]
