"""A pool from `kubectl apply` to a real completion, by an operator that runs in the cluster as its users install it.

The tests tell one story, in this order: the pool comes up and answers, its model is edited, and it is deleted.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import openai
import pytest

from devcluster import build
from devcluster.images.recipes import reference
from tests.e2e.running import ROOT, run, said
from tests.e2e.serving.wishes import QUESTION, REGISTRY, model, pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

RELEASE = "arbiter"


def image(name: str) -> dict[str, str]:
    """Give one of our images as the chart's values name it."""
    repository, _, tag = reference(name).rpartition(":")
    return {"repository": repository, "tag": tag}


@pytest.fixture(scope="module")
def there(place: Place, weights: str) -> Iterator[Place]:
    """Install the operator for this namespace with Helm; give the namespace."""
    assert weights
    cluster, namespace = place.cluster, place.namespace
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
    try:
        said(run(*helm, "install", RELEASE, chart, "--take-ownership", "--force-conflicts", *flags, timeout=300))
        place.kubectl("rollout", "status", f"deployment/{RELEASE}", "--timeout=120s")
        yield place
    finally:
        run(*helm, "uninstall", RELEASE, "--ignore-not-found", timeout=300)


def test_a_pool_answers(there: Place, count: Callable[..., None]) -> None:
    """What was applied is all that a person does; the answer names what gave it, and no wish was touched."""
    there.apply(model("smollm2"))
    there.apply(pool("assistant", "smollm2"))
    before = there.wishes()
    there.ready("modelpool/assistant")
    count("engines started")

    url = there.url("assistant")
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(**QUESTION)
        said_whole = raw.parse().choices[0].message.content or ""
        stream = client.chat.completions.create(**QUESTION, stream=True)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    count("completions served", 2)

    assert "Paris" in said_whole
    assert streamed == said_whole
    assert raw.headers["x-arbiter-model"] == "smollm2"
    active = there.status("modelpool/assistant")["tasks"][0]["active"]
    assert active["model"] == "smollm2"
    assert raw.headers["x-arbiter-revision"] == active["revision"]
    assert there.wishes() == before


def test_an_edited_model_is_swapped_and_nothing_restarts(there: Place) -> None:
    """It gets its first requests beside what serves; an edit back ends that, and only what served before is left."""
    standing = there.pods("assistant")
    there.apply(model("another"), pool("assistant", "another"))

    def shifts() -> bool:
        swaps = there.listed("modelswaps")
        return bool(swaps and swaps[0].get("status", {}).get("phase") == "Shifting")

    there.until(shifts, "the new model gets its first requests", 90)
    task = there.status("modelpool/assistant")["tasks"][0]
    assert (task["active"]["model"], task["candidate"]["model"]) == ("smollm2", "another")
    assert task["weights"] == "90/10 (shifting)"
    assert there.condition("modelpool/assistant")["status"] == "True"
    assert standing.items() <= there.pods("assistant").items()

    there.apply(pool("assistant", "smollm2"))
    there.until(lambda: there.listed("modelswaps")[0]["status"].get("outcome") == "Aborted", "it is aborted", 60)
    there.until(lambda: there.pods("assistant") == standing, "what served before is left", 60)


def test_a_deleted_pool_leaves_nothing(there: Place) -> None:
    """Its objects go with it, by their owner references, and its engine ends as soon as no answer is under way."""
    there.delete("modelpool/assistant")
    there.until(lambda: not there.left_of("assistant"), "nothing is left", 60)

    def ended() -> bool:
        return not there.listed("pods", "app.kubernetes.io/component=engine")

    there.until(ended, "its engine has ended", 60)
