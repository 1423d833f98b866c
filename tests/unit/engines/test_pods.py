"""How each kind of engine runs: whole pods as goldens, and what every one of them keeps to."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from arbiter.api.localmodel import EngineType, LocalModelSpec
from arbiter.api.modelpool import ModelPoolSpec
from arbiter.api.pod import ResourceRequirements
from arbiter.cli import fetch
from arbiter.engines.pods import render_pod, revision_of, served_name
from arbiter.engines.runnable import EnginePlace, EnginePod, EngineSettings, PullPolicy, RunnableModel
from arbiter.errors import InvalidInputError
from tests.unit.engines.runnable_examples import (
    COMMIT,
    GPU_SETTINGS,
    GPUS,
    IMAGE_DIGEST,
    SETTINGS,
    SUM,
    model,
    place,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

GOLDENS = Path(__file__).parent / "goldens"
GIB = 1024**3

Case = tuple[RunnableModel, EnginePlace, EngineSettings]

CASES: Mapping[str, Case] = {
    "llamacpp from a model image": (
        model(
            "oci://arbiter.local/arbiter-model-smollm2:0.1.2",
            digest=IMAGE_DIGEST,
            contextWindow=2048,
            memory=GIB // 4,
            pullSecret="registry-login",
            settings={"resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1500m"}}},
        ),
        place(),
        SETTINGS,
    ),
    "llamacpp from a file of an image, by tag": (
        model("oci://registry.example/models/gemma3:q4#/files/gemma.gguf", digest=IMAGE_DIGEST, pin_image=False),
        place(timeout_s=20),
        SETTINGS,
    ),
    "llamacpp from a claim": (
        model("pvc://models/gemma/gemma-00001-of-00002.gguf", settings={"startupDeadline": "10m", "port": 9000}),
        place(),
        SETTINGS,
    ),
    "llamacpp from a hub into the pod": (
        model("hf://Qwen/Qwen3-8B-GGUF/Qwen3-8B-Q4_K_M.gguf", digest=COMMIT, memory=7 * GIB),
        place(),
        SETTINGS,
    ),
    "llamacpp from a hub into the cache, on gpus": (
        model(
            "hf://Qwen/Qwen3-8B-GGUF/Qwen3-8B-Q4_K_M.gguf@main",
            name="qwen3-8b",
            digest=COMMIT,
            sha256=SUM,
            pullSecret="hub-token",
            contextWindow=32768,
            memory=7 * GIB,
            settings={
                "args": ["--parallel", "4"],
                "env": [{"name": "TMPDIR", "value": "/var/other"}, {"name": "LLAMA_ARG_FLASH_ATTN", "value": "on"}],
            },
        ),
        place("model-cache", **GPUS),
        GPU_SETTINGS,
    ),
    "llamacpp that embeds, from an address": (
        model(
            "https://files.example/embed.gguf?download=true",
            digest=f"sha256:{SUM}",
            sha256=SUM,
            capabilities=frozenset({"embeddings"}),
        ),
        place("model-cache"),
        SETTINGS,
    ),
    "custom from an address of a server that the organisation trusts": (
        model(
            "https://files.example/m.gguf",
            EngineType.Custom,
            digest=f"sha256:{SUM}",
            sha256=SUM,
            settings={"image": "registry.example/server:1"},
        ),
        place(),
        replace(SETTINGS, trusted="company-authorities"),
    ),
    "ollama": (
        model("ollama://smollm2:135m", EngineType.Ollama, digest=IMAGE_DIGEST, contextWindow=4096),
        place(capacity={"memory": "2Gi", "maxLoadedModels": 2}),
        SETTINGS,
    ),
    "ollama on gpus with a cache": (
        model("ollama://smollm2:135m", EngineType.Ollama, digest=IMAGE_DIGEST),
        place("model-cache", capacity={"memory": "40Gi"}, **GPUS),
        GPU_SETTINGS,
    ),
    "vllm from a hub": (
        model(
            "hf://Qwen/Qwen3-8B",
            EngineType.VLLM,
            name="qwen3-8b",
            digest=IMAGE_DIGEST,
            resolved=f"hf://Qwen/Qwen3-8B@{COMMIT}",
            pullSecret="hub-token",
            contextWindow=32768,
            memory=20 * GIB,
            settings={
                "args": ["--enable-prefix-caching"],
                "env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub-token", "key": "token"}}}],
            },
        ),
        place("model-cache", **GPUS),
        SETTINGS,
    ),
    "vllm from a folder of an image": (
        model("oci://registry.example/models/qwen3@" + IMAGE_DIGEST + "#/qwen3", EngineType.VLLM, digest=IMAGE_DIGEST),
        place(**GPUS),
        SETTINGS,
    ),
    "custom from a folder of a claim": (
        model(
            "pvc://models/qwen3",
            EngineType.Custom,
            memory=GIB,
            settings={
                "type": "Custom",
                "image": "registry.example/mlc:1",
                "args": ["serve", "$(ARBITER_MODEL_PATH)", "--port", "$(ARBITER_PORT)"],
                "port": 8080,
            },
        ),
        place(),
        SETTINGS,
    ),
    "custom from a whole repository": (
        model("hf://Qwen/Qwen3-8B", EngineType.Custom, digest=COMMIT, settings={"image": "registry.example/tgi:3"}),
        place(),
        SETTINGS,
    ),
}  # fmt: skip
"""Each kind of engine with each kind of source that it takes."""


def rendered(name: str) -> EnginePod:
    """Build one of the cases."""
    pod = render_pod(*CASES[name])
    assert pod is not None
    return pod


def serving(pod: EnginePod) -> dict[str, Any]:
    """Give the container that serves, as JSON has it."""
    container: dict[str, Any] = plain(pod.spec)["containers"][0]
    return container


def plain(value: object) -> Any:  # noqa: ANN401  JSON
    """Give a value as JSON has it, which is what the API server is sent."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("name", CASES)
def test_pods_are_what_the_goldens_say(name: str) -> None:
    """`UPDATE_GOLDENS=1` writes them, and a person reads the difference: each one is a new revision for users."""
    pod = rendered(name)
    told = {
        "served as": served_name(CASES[name][0], revision_of(pod, CASES[name][0].digest)),
        "port": pod.port,
        "progress port": pod.progress_port,
        "shared": pod.shared,
        "model options": plain(pod.model_options),
        "pod": plain(pod.spec),
    }
    text = yaml.safe_dump(told, sort_keys=False, width=118)
    path = GOLDENS / f"{name.replace(',', '').replace(' ', '_')}.yaml"
    if os.environ.get("UPDATE_GOLDENS"):
        path.write_text(text)
    assert text == path.read_text()


def test_every_golden_has_its_case() -> None:
    """One that nobody compares with would only mislead."""
    want_names = {f"{name.replace(',', '').replace(' ', '_')}.yaml" for name in CASES}
    assert {path.name for path in GOLDENS.iterdir()} == want_names


@pytest.mark.parametrize("name", CASES)
def test_every_pod_keeps_to_the_restricted_level(name: str) -> None:
    """A pod that does not is refused in a namespace that enforces it, and the pool never serves."""
    spec = plain(rendered(name).spec)
    want_volumes = {"configMap", "emptyDir", "persistentVolumeClaim", "secret", "image"}

    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"] + spec.get("initContainers", []):
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert rights["readOnlyRootFilesystem"] is True
        assert not any("hostPort" in port for port in container["ports"])
    for volume in spec["volumes"]:
        assert set(volume) - {"name"} <= want_volumes
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)


@pytest.mark.parametrize("name", CASES)
def test_no_pod_can_ask_the_cluster_for_anything(name: str) -> None:
    """An engine computes what strangers wrote; a token of the cluster is nothing for it."""
    spec = plain(rendered(name).spec)
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False


@pytest.mark.parametrize("name", CASES)
def test_only_the_download_sees_the_token_and_may_write_the_weights(name: str) -> None:
    """The server reads its model and nothing else."""
    for mount in serving(rendered(name))["volumeMounts"]:
        assert mount["name"] != "token"
        assert mount.get("readOnly") is (True if mount["name"] == "model" else None)


@pytest.mark.parametrize("name", CASES)
def test_no_server_is_killed_for_being_busy(name: str) -> None:
    """Liveness only opens a connection: an answer may take long where the most is to do."""
    container = serving(rendered(name))
    probe = container["livenessProbe"]
    assert set(probe) == {"tcpSocket", "periodSeconds", "timeoutSeconds", "failureThreshold"}
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 120
    assert "httpGet" in container["readinessProbe"]


@pytest.mark.parametrize("name", CASES)
def test_every_mount_has_its_volume(name: str) -> None:
    """Else the API server refuses the pod."""
    spec = plain(rendered(name).spec)
    volumes = {volume["name"] for volume in spec["volumes"]}
    mounted = [
        mount
        for container in spec["containers"] + spec.get("initContainers", [])
        for mount in container["volumeMounts"]
    ]
    assert {mount["name"] for mount in mounted} == volumes


@pytest.mark.parametrize("name", CASES)
def test_no_variable_is_given_twice(name: str) -> None:
    """Server-side apply merges them by name and refuses doubles."""
    names = [variable["name"] for variable in serving(rendered(name))["env"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("timeout_s", "want_sleep", "want_grace"),
    [
        pytest.param(3600, 120, 150, id="an hour is more than a node that is drained waits for"),
        pytest.param(20, 20, 50, id="no answer takes longer than that"),
        pytest.param(0.2, 5, 35, id="routers need a moment to see it"),
    ],
)
def test_an_image_of_which_nothing_is_known_sleeps(timeout_s: float, want_sleep: int, want_grace: int) -> None:
    """It sleeps while routers turn away from it, and the grace period holds the sleep and the server's own end."""
    pod = render_pod(CASES["custom from a whole repository"][0], place(timeout_s=timeout_s), SETTINGS)
    assert pod is not None
    assert serving(pod)["lifecycle"] == {"preStop": {"sleep": {"seconds": want_sleep}}}
    assert pod.spec["terminationGracePeriodSeconds"] == want_grace


@pytest.mark.parametrize(
    ("deadline", "want_failures"),
    [
        pytest.param("30m", 1800, id="usual"),
        pytest.param("2500ms", 3, id="rounded up"),
        pytest.param("0s", 1, id="at least one"),
    ],
)
def test_a_server_has_until_its_deadline_to_start(deadline: str, want_failures: int) -> None:
    """Every second it is asked, so that a start is seen soon."""
    pod = render_pod(model("pvc://m/a.gguf", settings={"startupDeadline": deadline}), place(), SETTINGS)
    assert pod is not None
    probe = serving(pod)["startupProbe"]
    assert (probe["periodSeconds"], probe["failureThreshold"]) == (1, want_failures)


RESOURCES = [
    pytest.param({}, None, {}, id="nothing known, nothing asked"),
    pytest.param(
        {}, 4 * GIB, {"requests": {"memory": "4096Mi"}, "limits": {"memory": "5120Mi"}}, id="a quarter of headroom"
    ),
    pytest.param(
        {}, GIB, {"requests": {"memory": "1024Mi"}, "limits": {"memory": "1536Mi"}}, id="at least half a gibibyte"
    ),
    pytest.param(
        {}, GIB + 1, {"requests": {"memory": "1025Mi"}, "limits": {"memory": "1537Mi"}}, id="rounded up"
    ),
    pytest.param({"limits": {"memory": "3Gi"}}, GIB, {"limits": {"memory": "3Gi"}}, id="the owner's figure stays"),
    pytest.param(
        {"requests": {"memory": "3Gi"}}, GIB, {"requests": {"memory": "3Gi"}}, id="no limit is added to a request"
    ),
    pytest.param(
        {"requests": {"cpu": 2}},
        GIB,
        {"requests": {"cpu": "2", "memory": "1024Mi"}, "limits": {"memory": "1536Mi"}},
        id="beside other resources",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("given", "memory", "want"), RESOURCES)
def test_a_container_gets_what_its_owner_says_and_else_what_the_model_needs(
    given: dict[str, Any], memory: int | None, want: dict[str, Any]
) -> None:
    """What is asked for is what placement was decided by."""
    pod = render_pod(model("pvc://m/a.gguf", memory=memory, settings={"resources": given}), place(), SETTINGS)
    assert pod is not None
    assert serving(pod)["resources"] == want


def test_shared_memory_is_added_to_the_limit_of_vllm() -> None:
    """Files there count as the container's memory: without it the kernel would end the server."""
    limit = serving(rendered("vllm from a hub"))["resources"]["limits"]["memory"]
    assert limit == f"{(20 + 5 + 2) * 1024}Mi"


@pytest.mark.parametrize(
    ("args", "want_slots"),
    [
        pytest.param([], 1, id="one by default"),
        pytest.param(["--parallel", "4"], 4, id="four asked for"),
        pytest.param(["-np", "2", "--parallel", "3"], 3, id="the last one counts"),
        pytest.param(["--parallel=2"], 2, id="in one word"),
        pytest.param(["--parallel", "many"], 1, id="no number"),
        pytest.param(["--parallel", "0"], 1, id="none"),
        pytest.param(["--parallel"], 1, id="without a value"),
    ],
)
def test_each_request_gets_the_context_that_was_promised(args: list[str], want_slots: int) -> None:
    """llama-server divides its context by its slots, whoever asks for them."""
    pod = render_pod(model("pvc://m/a.gguf", contextWindow=2048, settings={"args": args}), place(), SETTINGS)
    assert pod is not None
    given = serving(pod)["args"]
    assert given[given.index("--parallel") + 1] == str(want_slots)
    assert given[given.index("--ctx-size") + 1] == str(2048 * want_slots)
    assert given[len(given) - len(args) :] == args


def test_amounts_of_gpus_must_not_contradict_each_other() -> None:
    """Whoever reads the pool must be able to believe it."""
    given = {"resources": {"limits": {"nvidia.com/gpu": 4}}}
    with pytest.raises(InvalidInputError) as caught:
        render_pod(model("pvc://m/a.gguf", settings=given), place(**GPUS), GPU_SETTINGS)
    assert caught.value.field == "spec.engine.resources.limits"
    assert "placement.gpus gives each pod 2" in caught.value.problem


def test_the_same_amount_of_gpus_is_no_contradiction() -> None:
    """It says nothing new."""
    given = {"resources": {"limits": {"nvidia.com/gpu": 2}}}
    pod = render_pod(model("pvc://m/a.gguf", settings=given), place(**GPUS), GPU_SETTINGS)
    assert pod is not None
    assert serving(pod)["resources"]["requests"] == {"nvidia.com/gpu": "2"}


@pytest.mark.parametrize(
    "runs", [model("pvc://m/a.gguf"), model("ollama://a:b", EngineType.Ollama)], ids=["llamacpp", "ollama"]
)
def test_an_image_for_cpus_is_not_run_on_gpus(runs: RunnableModel) -> None:
    """It would hold the GPUs, compute on the CPU, and look merely slow."""
    with pytest.raises(InvalidInputError) as caught:
        render_pod(runs, place(**GPUS), SETTINGS)
    assert caught.value.field == "spec.placement.gpus"


def test_the_owners_image_is_trusted_with_gpus() -> None:
    """Whoever names an image knows what it can do."""
    pod = render_pod(model("pvc://m/a.gguf", settings={"image": "mine:1"}), place(**GPUS), SETTINGS)
    assert pod is not None
    assert serving(pod)["image"] == "mine:1"


def test_a_custom_engine_needs_an_image() -> None:
    """The API server asks for it as well, of objects that are as new as its rules."""
    with pytest.raises(InvalidInputError, match=r"spec\.engine\.image"):
        render_pod(model("pvc://m/a", EngineType.Custom), place(), SETTINGS)


def test_no_pod_of_its_own_loads_what_only_ollama_reads() -> None:
    """Such a model never gets so far; if it does, that is our own fault."""
    with pytest.raises(ValueError, match="nothing that a pod of VLLM loads"):
        render_pod(model("ollama://a:b", EngineType.VLLM), place(), SETTINGS)


def test_a_server_elsewhere_has_no_pod() -> None:
    """Its address and the model's name are all that is known, and they are its identity."""
    mac = model("http://mac.example:11434", EngineType.External)
    assert render_pod(mac, place(), SETTINGS) is None
    assert mac.digest == "http://mac.example:11434#smollm2"
    assert served_name(mac, "0" * 10) == "smollm2"
    spec = LocalModelSpec.model_validate({"external": {"url": "http://mac.example:11434", "model": "qwen3:30b"}})
    named = RunnableModel.of("m", spec, engine=EngineType.External)
    assert served_name(named, "0" * 10) == "qwen3:30b"
    assert revision_of(None, mac.digest) != revision_of(None, named.digest)


def test_ollama_models_do_not_stand_in_the_pod_they_share() -> None:
    """Otherwise each new model would restart the server under all others."""
    one = render_pod(model("ollama://a:b", EngineType.Ollama, contextWindow=4096), place(), SETTINGS)
    two = render_pod(model("ollama://c:d", EngineType.Ollama), place(), SETTINGS)
    assert one is not None
    assert two is not None
    assert one.spec == two.spec
    assert one.model_options == {"num_ctx": 4096}
    assert revision_of(one, "d") != revision_of(two, "d")


def test_each_revision_is_a_model_of_its_own_in_a_shared_server() -> None:
    """Both sides of a swap must be there at once, though they come from one tag."""
    smollm2 = model("ollama://smollm2:135m", EngineType.Ollama)
    assert served_name(smollm2, "0123456789") == "arbiter/smollm2:0123456789"


def test_the_cpu_limit_of_an_ollama_model_is_its_number_of_threads() -> None:
    """The server would else count the node's processors."""
    limited = model("ollama://a:b", EngineType.Ollama, settings={"resources": {"limits": {"cpu": "1500m"}}})
    pod = render_pod(limited, place(), SETTINGS)
    assert pod is not None
    assert pod.model_options == {"num_thread": 2}
    assert serving(pod)["resources"] == {}


def test_the_operator_can_bound_what_ollama_gets_beside_memory() -> None:
    """A pool's capacity says memory alone."""
    settings = EngineSettings(
        "l", "o", "a", ollama_resources=ResourceRequirements.model_validate({"limits": {"cpu": 2}})
    )
    pod = render_pod(model("ollama://a:b", EngineType.Ollama), place(capacity={"memory": "2Gi"}), settings)
    assert pod is not None
    assert serving(pod)["resources"] == {"requests": {"memory": "2048Mi"}, "limits": {"cpu": "2", "memory": "2560Mi"}}
    assert pod.model_options == {"num_thread": 2}


def test_a_pool_says_where_and_how_its_engines_run() -> None:
    """All of it is read from the pool's own spec, the router's time limit with it."""
    pool = ModelPoolSpec.model_validate(
        {
            "tasks": [{"name": "chat", "model": "smollm2"}],
            "placement": {"gpus": {"count": 2}},
            "capacity": {"memory": "2Gi"},
            "cache": {"claim": "weights"},
            "router": {"limits": {"totalTimeout": "90s"}},
        }
    )
    want = place("weights", 90, {"memory": "2Gi"}, gpus={"count": 2})
    assert EnginePlace.of(pool) == want


def test_an_empty_variable_is_written_as_the_api_server_keeps_it() -> None:
    """Else what stands would differ from what is wanted for ever, and be applied again in each pass."""
    given = {"env": [{"name": "HOME", "value": ""}, {"name": "B", "value": "2"}]}
    pod = render_pod(model("pvc://m/a.gguf", settings=given), place(), SETTINGS)
    assert pod is not None
    assert serving(pod)["env"] == [{"name": "TMPDIR", "value": "/tmp"}, {"name": "HOME"}, {"name": "B", "value": "2"}]  # noqa: S108  of the pod


def test_the_pull_policy_holds_for_every_image() -> None:
    """On a node without a registry, one image that is asked for would keep the pod from starting."""
    settings = EngineSettings("l", "o", "a", pull_policy=PullPolicy.Never)
    for source in ("oci://registry.example/m:1", "hf://a/b/c.gguf"):
        pod = render_pod(model(source), place(), settings)
        assert pod is not None
        text = json.dumps(pod.spec)
        assert '"imagePullPolicy": "Never"' in text
        assert "IfNotPresent" not in text


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case[0].source.uri.startswith(("hf", "https"))]
)
def test_the_download_is_told_what_the_program_understands(name: str) -> None:
    """A flag that it does not know would end every start of the pod."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    fetch.add(parser.add_subparsers())
    (container,) = plain(rendered(name).spec)["initContainers"]
    told = parser.parse_args(container["args"])
    runs = CASES[name][0]
    assert (told.source, told.digest, told.sha256) == (runs.source.uri, runs.digest, runs.sha256 or "")
    assert told.progress_port == container["ports"][0]["containerPort"]
    assert str(told.to).startswith("/store/arbiter/weights/")


def test_a_file_under_two_addresses_is_kept_once() -> None:
    """Its sum is its name in the cache; without one, what it was resolved from."""

    def folder(source: str, **facts: Any) -> str:  # noqa: ANN401  as in a manifest
        pod = render_pod(model(source, **facts), place("cache"), SETTINGS)
        assert pod is not None
        path: str = serving(pod)["volumeMounts"][0]["subPath"]
        return path

    assert folder("https://a.example/m.gguf", sha256=SUM) == folder("hf://a/b/m.gguf", sha256=SUM, digest=COMMIT)
    assert folder("hf://a/b/m.gguf", digest=COMMIT) == folder("hf://a/b/m.gguf@main", digest=COMMIT)
    assert folder("hf://a/b/m.gguf", digest=COMMIT) != folder("hf://a/b/m.gguf", digest="1" * 40)
    assert folder("hf://a/b/m.gguf", digest=COMMIT) != folder("hf://a/b/n.gguf", digest=COMMIT)
    assert folder("hf://a/b/m.gguf", digest=f"sha256:{SUM}") == f"arbiter/weights/sha256-{SUM}"


@pytest.mark.parametrize(
    ("source", "pin_image", "want"),
    [
        pytest.param("hf://a/b/c.gguf", True, f"hf://a/b/c.gguf@{COMMIT}", id="a hub by commit"),
        pytest.param("hf://a/b/c.gguf", False, f"hf://a/b/c.gguf@{COMMIT}", id="a hub is no image"),
        pytest.param("oci://r.example/m:1", False, "oci://r.example/m:1", id="an image by tag"),
    ],
)
def test_what_the_resolver_gave_back_is_what_is_fetched(source: str, pin_image: bool, want: str) -> None:
    """The digest of a repository is its content's, by which nothing can be asked for."""
    resolved = f"hf://a/b/c.gguf@{COMMIT}" if source.startswith("hf") else f"oci://r.example/m@{IMAGE_DIGEST}"
    runs = model(source, digest=IMAGE_DIGEST, resolved=resolved, pin_image=pin_image)
    assert (runs.source.uri, runs.digest) == (want, IMAGE_DIGEST)
