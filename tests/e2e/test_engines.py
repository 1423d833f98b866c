"""Real engines answer from pods: llama-server with its model mounted as an image volume, and Ollama.

Every pod is held to the restricted level, with a read-only root. Each engine has one thread: two cores carry the
cluster as well.
"""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from devcluster.images.recipes import reference
from tests.e2e.engines import llama_server, ollama_server
from tests.e2e.running import RESTRICTED, Cluster, said

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.cluster

QUESTION = {
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France?"},
    ],
    "temperature": 0,
    "seed": 1,
    "max_tokens": 24,
}


def ask(url: str, body: dict[str, Any]) -> bytes:
    """Post a JSON body and give the whole answer."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310  an address of the cluster
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310  as above
        content: bytes = answer.read()
    return content


def test_llama_server_completes_a_chat_with_a_model_from_an_image_volume(
    start: Callable[[list[dict[str, Any]]], str], count: Callable[[str], None]
) -> None:
    """The model that answers is the one whose image is mounted, and it knows its geography."""
    url = start(llama_server("smollm2"))
    count("engines started")

    answer = json.loads(ask(f"{url}/v1/chat/completions", QUESTION))
    count("completions served")
    events = ask(f"{url}/v1/chat/completions", QUESTION | {"stream": True}).decode().split("\n\n")
    count("completions served")

    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] > 0
    assert [event for event in events if event][-1] == "data: [DONE]"
    streamed = [json.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in events[:-2]]
    assert "".join(delta.get("content") or "" for delta in streamed) == answer["choices"][0]["message"]["content"]


def test_a_base_model_is_served_as_well(
    start: Callable[[list[dict[str, Any]]], str], count: Callable[[str], None]
) -> None:
    """Gemma 3 270M is not tuned to follow instructions: a real example of the worse candidate."""
    url = start(llama_server("gemma3-270m"))
    count("engines started")

    answer = json.loads(ask(f"{url}/v1/completions", {"prompt": "The capital of France is", "max_tokens": 8}))
    count("completions served")

    assert answer["usage"]["completion_tokens"] > 0
    assert answer["choices"][0]["text"].strip()


def test_ollama_creates_a_model_from_a_file_and_completes_a_chat(
    cluster: Cluster,
    namespace: str,
    start: Callable[[list[dict[str, Any]]], str],
    count: Callable[[str], None],
) -> None:
    """Asked in its own protocol and in OpenAI's, a real Ollama answers with the same model."""
    url = start(ollama_server("smollm2"))
    count("engines started")
    inside = ("-n", namespace, "exec", "--stdin", "deployment/ollama", "--")
    # One thread, or it counts the machine's processors and waits for time slices that its limit does not give.
    lines = "FROM /model/model.gguf\nPARAMETER num_thread 1\n"
    said(cluster.kubectl(*inside, "sh", "-c", "cat >/models/Modelfile", stdin=lines))
    said(cluster.kubectl(*inside, "ollama", "create", "smollm2:135m", "--file", "/models/Modelfile"))

    own = ask(
        f"{url}/api/chat",
        {
            "model": "smollm2:135m",
            "messages": QUESTION["messages"],
            "stream": False,
            "options": {"temperature": 0, "num_predict": 24},
        },
    )
    count("completions served")
    openai = ask(f"{url}/v1/chat/completions", QUESTION | {"model": "smollm2:135m"})
    count("completions served")

    assert "Paris" in json.loads(own)["message"]["content"]
    assert json.loads(own)["eval_count"] > 0
    assert "Paris" in json.loads(openai)["choices"][0]["message"]["content"]


def test_the_arbiter_image_runs_without_root_and_without_writing(
    cluster: Cluster, namespace: str, images: None
) -> None:
    """It says its version under the restricted level with a read-only root."""
    assert images is None
    container = {
        "name": "arbiter",
        "image": reference("arbiter"),
        "imagePullPolicy": "IfNotPresent",
        "args": ["--version"],
        "securityContext": RESTRICTED,
    }
    pod = {"containers": [container], "restartPolicy": "Never", "automountServiceAccountToken": False}
    metadata = {"name": "version", "namespace": namespace}
    cluster.apply([{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}])
    said(
        cluster.kubectl(
            "-n", namespace, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/version", "--timeout=60s"
        )
    )

    assert said(cluster.kubectl("-n", namespace, "logs", "version")).startswith("arbiter ")
