"""Where engines run: on labelled nodes and on GPUs, and what is told while no node can take them.

The cluster gets a second node, which it keeps, with the labels, the resource and the taint of a GPU node; nothing
computes on it, so the engine is the one for CPUs. The tests tell one story, in this order: the first pool has the GPU,
the others wait for it or for something else, and each goes on once that is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest

from devcluster.images.recipes import reference
from devcluster.nodes import GPU_LABELS, GPU_TOLERATION
from tests.e2e.running import devcluster, said, up
from tests.e2e.serving.odd_engine import QUIET, OddEngine
from tests.e2e.serving.wishes import ONE_THREAD, QUESTION, model, pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.serving.operators import HostOperator, Operators
    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

LABEL, DISK = "stories.example/disk", "fast"
"""What a pool wants of its node; no node has it at first."""

GPU = {"gpus": {"count": 1}, "tolerations": [GPU_TOLERATION]}
"""A placement on a GPU node, as its owner writes it."""

MEMORY = "nvidia.com/gpu.memory"
"""The label that says how many MiB a GPU has."""


@pytest.fixture(scope="module")
def nodes(place: Place) -> Iterator[Place]:
    """Give the cluster a node with a GPU; what is changed of nodes meanwhile is put back."""
    said(devcluster(*up("--nodes", "2", "--gpu-node", "2")))
    try:
        yield place
    finally:
        place.kubectl("label", "node", "node-1", f"{LABEL}-")
        place.kubectl("label", "node", "node-2", "--overwrite", f"{MEMORY}={GPU_LABELS[MEMORY]}")


@pytest.fixture(scope="module")
def operator(nodes: Place, weights: str, hosts: Operators, tmp_path_factory: pytest.TempPathFactory) -> HostOperator:
    """Run an operator, give the GPU to the first pool, and apply the others then."""
    assert weights
    odd = OddEngine.build(nodes, tmp_path_factory.mktemp("odd"))
    started = hosts.start(f"--llama-server-gpu-image={reference('llama-server')}")
    nodes.apply(
        model("small"),
        model("huge", engine={**ONE_THREAD, "resources": {}}, memory="40Gi"),
        odd.model("any"),
        pool("labelled", "any", **QUIET, placement={"nodeSelector": {LABEL: DISK}}),
        pool("first", "small", placement=GPU, router={"replicas": 1}),
    )
    nodes.until(lambda: where(nodes, "first") == ["node-2"], "the first pool has the GPU", 90)
    nodes.apply(
        pool("second", "small", **QUIET, placement=GPU),
        pool("intolerant", "small", **QUIET, placement={"gpus": {"count": 1}}),
        pool("huge", "huge", **QUIET, placement=GPU),
    )
    return started


def where(place: Place, name: str) -> list[str]:
    """Give the nodes on which a pool's engines are."""
    engines = place.listed("pods", f"arbiter.dev/pool={name},app.kubernetes.io/component=engine")
    return [each["spec"]["nodeName"] for each in engines if "nodeName" in each["spec"]]


def test_an_engine_on_a_gpu_node_answers(nodes: Place, operator: HostOperator, count: Callable[..., None]) -> None:
    """It is put where the resource is, asks for one of it, and a client gets its answer."""
    assert operator.runs
    nodes.ready("modelpool/first", 180)
    with openai.OpenAI(base_url=f"{nodes.url('first')}/v1", api_key="none", max_retries=0) as client:
        found = client.chat.completions.create(**QUESTION)
    count("engines started")
    count("completions served")

    assert "Paris" in (found.choices[0].message.content or "")
    assert where(nodes, "first") == ["node-2"]
    (pod,) = nodes.listed("pods", "arbiter.dev/pool=first,app.kubernetes.io/component=engine")
    assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


TOLD = {
    "labelled": ("WaitingForNode", ("no node can take labelled-", f"node-1 lacks the label {LABEL}={DISK}")),
    "second": ("WaitingForGPU", ("node node-2 has 0 of 1 nvidia.com/gpu free", "node node-1 has no nvidia.com/gpu")),
    "intolerant": (
        "WaitingForGPU",
        ("node-2 has the taint nvidia.com/gpu=present:NoSchedule", "placement.tolerations"),
    ),
    "huge": ("WaitingForGPU", ("node-2 has", "22.49Gi of memory on a nvidia.com/gpu, 40Gi is needed")),
}
"""What each pool says: the reason, and what its message must hold."""


@pytest.mark.parametrize("name", TOLD)
def test_what_a_node_lacks_is_told(nodes: Place, operator: HostOperator, name: str) -> None:
    """Whether it waits for a node, a GPU or memory is the reason; which node lacks what is the message."""
    assert operator.runs
    reason, words = TOLD[name]
    message = nodes.says(f"modelpool/{name}", reason, seconds=90, words=words)
    assert nodes.status(f"modelpool/{name}")["tasks"][0]["message"] == message


def test_a_node_that_gets_the_label_gets_the_engine(
    nodes: Place, operator: HostOperator, count: Callable[..., None]
) -> None:
    """The scheduler sees it, and so does the pool."""
    nodes.kubectl("label", "node", "node-1", f"{LABEL}={DISK}")
    nodes.ready("modelpool/labelled")
    assert operator.runs
    assert where(nodes, "labelled") == ["node-1"]
    count("engines started")


def test_a_larger_gpu_is_seen(nodes: Place, operator: HostOperator) -> None:
    """What is said of the GPU's memory follows the node's label; that somebody else has the GPU is said still."""
    nodes.kubectl("label", "node", "node-2", "--overwrite", f"{MEMORY}=81559")
    nodes.until(lambda: "22.49Gi" not in nodes.condition("modelpool/huge")["message"], "the label is obeyed")
    assert "node-2 has 0 of 1 nvidia.com/gpu free" in nodes.says("modelpool/huge", "WaitingForGPU")
    assert operator.runs


def test_the_gpu_goes_to_who_waited_for_it(nodes: Place, operator: HostOperator, count: Callable[..., None]) -> None:
    """Its pod has been there all the time, so it starts as soon as the first pool is gone."""
    assert where(nodes, "second") == []
    waiting = nodes.pods("second", "engine")
    assert nodes.condition("modelpool/second")["reason"] == "WaitingForGPU"
    nodes.delete("modelpool/huge", "modelpool/intolerant", "modelpool/first")
    nodes.ready("modelpool/second", 180)
    assert where(nodes, "second") == ["node-2"]
    assert nodes.pods("second", "engine") == waiting
    assert operator.runs
    count("engines started")
