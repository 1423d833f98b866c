"""A pool from `kubectl apply` to a real completion, by an operator that runs in the cluster as its users install it.

The tests tell one story, in this order: the pool comes up and answers, its model is edited, and it is deleted.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest

from devcluster import build
from devcluster.images import built
from devcluster.images.recipes import reference
from devcluster.waiting import wait_until
from tests.e2e.devcluster.pushing import Registry
from tests.e2e.engines import answers
from tests.e2e.running import ROOT, Cluster, run, said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

REGISTRY = "10.89.0.2:5000"
RELEASE = "arbiter"
ASKED: dict[str, Any] = {
    "model": "chat",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France?"},
    ],
    "temperature": 0,
    "max_tokens": 24,
}

MODEL: dict[str, Any] = {
    "apiVersion": "arbiter.dev/v1alpha1",
    "kind": "LocalModel",
    "metadata": {"name": "smollm2"},
    "spec": {
        "source": f"oci://{REGISTRY}/models/smollm2:1#/model.gguf",
        "engine": {
            "type": "LlamaCpp",
            # One thread, or it counts the machine's processors and waits for time slices that its limit does not give.
            "args": ["--threads", "1"],
            "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        },
        "capabilities": ["chat"],
        "contextWindow": 1024,
    },
}

POOL: dict[str, Any] = {
    "apiVersion": "arbiter.dev/v1alpha1",
    "kind": "ModelPool",
    "metadata": {"name": "assistant"},
    "spec": {"tasks": [{"name": "chat", "model": "smollm2"}]},
}


def image(name: str) -> dict[str, str]:
    """Give one of our images as the chart's values name it."""
    repository, _, tag = reference(name).rpartition(":")
    return {"repository": repository, "tag": tag}


@pytest.fixture(scope="module")
def there(cluster: Cluster, namespace: str, images: None) -> Iterator[Callable[..., str]]:
    """Install the operator for one namespace, with the model in the cluster's registry; give kubectl for it."""
    assert images is None
    Registry(REGISTRY).push(built.archive("smollm2"), "models/smollm2", "1")
    settings = {
        "image": image("arbiter"),
        "engines": {"llamaServer": image("llama-server"), "ollama": image("ollama")},
        "watch": {"namespaces": [namespace]},
        "plainHttpRegistries": [REGISTRY],
        "rbac": {"userRoles": cluster.kubectl("get", "clusterrole", "arbiter-view").returncode != 0},
    }
    flags = [f"--set-json={key}={json.dumps(value)}" for key, value in settings.items()]
    helm = (str(build.binaries()["helm"]), f"--kubeconfig={cluster.kubeconfig}", f"--namespace={namespace}")
    chart = str(ROOT / "charts" / "arbiter")

    def kubectl(*arguments: str, stdin: str = "") -> str:
        return said(cluster.kubectl(f"--namespace={namespace}", *arguments, stdin=stdin))

    try:
        said(run(*helm, "install", RELEASE, chart, "--take-ownership", "--force-conflicts", *flags, timeout=300))
        kubectl("rollout", "status", f"deployment/{RELEASE}", "--timeout=120s")
        yield kubectl
    finally:
        run(*helm, "uninstall", RELEASE, "--ignore-not-found", timeout=300)


def wishes(kubectl: Callable[..., str]) -> list[Any]:
    """Give what people wrote, as it stands now: everything but the status and who wrote which field."""
    items = json.loads(kubectl("get", "localmodels,modelpools", "--output=json"))["items"]
    left_out = ("managedFields", "resourceVersion")
    metadata = [{key: value for key, value in item["metadata"].items() if key not in left_out} for item in items]
    return [[item["kind"], item["spec"], about] for item, about in zip(items, metadata, strict=True)]


def pods(kubectl: Callable[..., str]) -> dict[str, str]:
    """Give the pods of the pool, with their uids."""
    items = json.loads(kubectl("get", "pods", "--selector=arbiter.dev/pool", "--output=json"))["items"]
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in items}


def test_a_pool_answers(there: Callable[..., str], count: Callable[..., None]) -> None:
    """What was applied is all that a person does; the answer names what gave it, and no wish was touched."""
    there("apply", "--server-side", "--filename=-", stdin=json.dumps(MODEL))
    there("apply", "--server-side", "--filename=-", stdin=json.dumps(POOL))
    before = wishes(there)
    there("wait", "--for=condition=Ready", "modelpool/assistant", "--timeout=150s")
    count("engines started")

    address = there("get", "service", "assistant", "--output=jsonpath={.spec.clusterIP}")
    assert wait_until(lambda: answers(f"http://{address}/v1/models"), 30, pause=0.2)
    with openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(**ASKED)
        said_whole = raw.parse().choices[0].message.content or ""
        stream = client.chat.completions.create(**ASKED, stream=True)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    count("completions served", 2)

    assert "Paris" in said_whole
    assert streamed == said_whole
    assert raw.headers["x-arbiter-model"] == "smollm2"
    status = json.loads(there("get", "modelpool", "assistant", "--output=json"))["status"]
    assert status["tasks"][0]["active"]["model"] == "smollm2"
    assert raw.headers["x-arbiter-revision"] == status["tasks"][0]["active"]["revision"]
    assert wishes(there) == before


def test_an_edited_model_is_reported_and_nothing_restarts(there: Callable[..., str]) -> None:
    """Swaps come later; until then what serves goes on serving, and the status says what was asked for."""
    standing = pods(there)
    other = {**MODEL, "metadata": {"name": "another"}}
    there("apply", "--server-side", "--filename=-", stdin=json.dumps(other))
    edited = {**POOL, "spec": {"tasks": [{"name": "chat", "model": "another"}]}}
    there("apply", "--server-side", "--filename=-", stdin=json.dumps(edited))

    def task() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(there("get", "modelpool", "assistant", "--output=json"))["status"]["tasks"][
            0
        ]
        return found

    assert wait_until(lambda: task().get("reason") == "SwapRequested", 30, pause=0.3), task()
    assert task()["active"]["model"] == "smollm2"
    assert pods(there) == standing


def test_a_deleted_pool_leaves_nothing(there: Callable[..., str]) -> None:
    """Its objects go with it, by their owner references; pods take the time that answers under way may need."""
    there("delete", "modelpool", "assistant", "--wait=true")
    kinds = "deployments,services,configmaps,secrets,roles,rolebindings,serviceaccounts,controllerrevisions"
    selector = "--selector=arbiter.dev/pool=assistant"
    assert wait_until(lambda: not there("get", kinds, selector, "--output=name").strip(), 90, pause=0.5)

    def staying() -> list[str]:
        items = json.loads(there("get", "pods", selector, "--output=json"))["items"]
        return [item["metadata"]["name"] for item in items if "deletionTimestamp" not in item["metadata"]]

    assert wait_until(lambda: not staying(), 60, pause=0.5), staying()
