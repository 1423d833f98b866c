"""Which nodes can take an engine pod, and what each other node lacks."""

from __future__ import annotations

from typing import Any

import pytest

from arbiter.api.modelpool import Placement
from arbiter.api.pod import TaintEffect
from arbiter.core.facts import NodeFacts, Room, Taint, spell_bytes
from arbiter.core.placement import Finding, gpu_memory, inspect_nodes, without_active

GI = 1024**3
GFD = {"nvidia.com/gpu.memory": "16384", "nvidia.com/gpu.product": "Tesla-T4"}


def ask(node: NodeFacts, room: Room | None = None, **placement: Any) -> Finding:  # noqa: ANN401 - as in a manifest
    """Ask one node, with the placement as a manifest writes it."""
    (finding,) = inspect_nodes(Placement.model_validate(placement), room or Room(), [node])
    return finding


def lacks(*words: str) -> Finding:
    """Build what node `n1` answers when it lacks something."""
    return Finding("n1", lacks=words)


def test_a_bare_node_takes_a_pod_that_asks_for_nothing() -> None:
    """Without demands every ready node fits."""
    finding = ask(NodeFacts("n1"))
    assert finding == Finding("n1")
    assert finding.fits


@pytest.mark.parametrize(
    ("node", "want_words"),
    [
        pytest.param(NodeFacts("n1", ready=False), "is not ready", id="not ready"),
        pytest.param(NodeFacts("n1", schedulable=False), "is cordoned", id="cordoned"),
        pytest.param(
            NodeFacts("n1", taints=(Taint("dedicated", TaintEffect.NoSchedule, "ml"),)),
            "has the taint dedicated=ml:NoSchedule, which placement.tolerations does not cover",
            id="tainted",
        ),
        pytest.param(
            NodeFacts("n1", taints=(Taint("drain", TaintEffect.NoExecute),)),
            "has the taint drain:NoExecute, which placement.tolerations does not cover",
            id="tainted without a value",
        ),
    ],
)
def test_nodes_that_take_no_pods(node: NodeFacts, want_words: str) -> None:
    """A node that the scheduler would pass over says why."""
    finding = ask(node)
    assert finding == lacks(want_words)
    assert not finding.fits


def test_a_taint_that_only_prefers_does_not_bar() -> None:
    """PreferNoSchedule is a wish."""
    assert ask(NodeFacts("n1", taints=(Taint("busy", TaintEffect.PreferNoSchedule),))).fits


@pytest.mark.parametrize(
    ("toleration", "want_fits"),
    [
        pytest.param({"operator": "Exists"}, True, id="exists without key tolerates all"),
        pytest.param({"key": "dedicated", "operator": "Exists"}, True, id="exists with the key"),
        pytest.param({"key": "other", "operator": "Exists"}, False, id="exists with another key"),
        pytest.param({"key": "dedicated", "value": "ml"}, True, id="equal with the value"),
        pytest.param({"key": "dedicated", "value": "web"}, False, id="equal with another value"),
        pytest.param({"key": "dedicated"}, False, id="equal without a value"),
        pytest.param({"value": "ml"}, False, id="equal without a key"),
        pytest.param({"key": "dedicated", "value": "ml", "effect": "NoSchedule"}, True, id="the effect"),
        pytest.param({"key": "dedicated", "value": "ml", "effect": "NoExecute"}, False, id="another effect"),
        pytest.param({"operator": "Exists", "effect": "NoExecute"}, False, id="all of another effect"),
    ],
)
def test_tolerations(toleration: dict[str, str], want_fits: bool) -> None:
    """A toleration covers a taint by key, value and effect, as in Kubernetes."""
    node = NodeFacts("n1", taints=(Taint("dedicated", TaintEffect.NoSchedule, "ml"),))
    assert ask(node, tolerations=[toleration]).fits is want_fits


def test_an_empty_value_is_tolerated_by_no_value() -> None:
    """A toleration without a value equals a taint without one."""
    node = NodeFacts("n1", taints=(Taint("gpu", TaintEffect.NoSchedule),))
    assert ask(node, tolerations=[{"key": "gpu"}]).fits


def test_node_selector_names_each_missing_label() -> None:
    """Every label that differs is named, in order."""
    node = NodeFacts("n1", labels={"zone": "b", "disk": "ssd"})
    finding = ask(node, nodeSelector={"zone": "a", "disk": "ssd", "arch": "arm64"})
    assert finding == lacks(
        "lacks the label arch=arm64 of placement.nodeSelector", "lacks the label zone=a of placement.nodeSelector"
    )


@pytest.mark.parametrize(
    ("expression", "want_fits"),
    [
        pytest.param({"key": "zone", "operator": "In", "values": ["a", "b"]}, True, id="in"),
        pytest.param({"key": "zone", "operator": "In", "values": ["c"]}, False, id="not in"),
        pytest.param({"key": "rack", "operator": "In", "values": ["a"]}, False, id="in, but absent"),
        pytest.param({"key": "zone", "operator": "NotIn", "values": ["c"]}, True, id="outside"),
        pytest.param({"key": "zone", "operator": "NotIn", "values": ["a"]}, False, id="not outside"),
        pytest.param({"key": "rack", "operator": "NotIn", "values": ["a"]}, True, id="absent is outside"),
        pytest.param({"key": "zone", "operator": "Exists"}, True, id="exists"),
        pytest.param({"key": "rack", "operator": "Exists"}, False, id="does not exist"),
        pytest.param({"key": "rack", "operator": "DoesNotExist"}, True, id="absent as wanted"),
        pytest.param({"key": "zone", "operator": "DoesNotExist"}, False, id="present against the wish"),
        pytest.param({"key": "gen", "operator": "Gt", "values": ["6"]}, True, id="greater"),
        pytest.param({"key": "gen", "operator": "Gt", "values": ["7"]}, False, id="equal is not greater"),
        pytest.param({"key": "gen", "operator": "Lt", "values": ["8"]}, True, id="less"),
        pytest.param({"key": "gen", "operator": "Lt", "values": ["7"]}, False, id="equal is not less"),
        pytest.param({"key": "zone", "operator": "Gt", "values": ["1"]}, False, id="a word is not greater"),
        pytest.param({"key": "rack", "operator": "Lt", "values": ["1"]}, False, id="nothing is not less"),
        pytest.param({"key": "gen", "operator": "Gt", "values": ["x"]}, False, id="no bound"),
        pytest.param({"key": "gen", "operator": "Gt", "values": ["1", "2"]}, False, id="two bounds"),
        pytest.param({"key": "cold", "operator": "Lt", "values": ["-4"]}, True, id="below zero"),
    ],
)
def test_required_affinity(expression: dict[str, Any], want_fits: bool) -> None:
    """Required node affinity is read as the scheduler reads it."""
    node = NodeFacts("n1", labels={"zone": "a", "gen": "7", "cold": "-5"})
    finding = ask(node, affinity=required({"matchExpressions": [expression]}))
    want_lacks = () if want_fits else ("does not meet the node affinity that placement.affinity requires",)
    assert finding.lacks == want_lacks


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    """Write required node affinity."""
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


HAS_ZONE = {"key": "zone", "operator": "Exists"}
HAS_RACK = {"key": "rack", "operator": "Exists"}
IS_N1 = {"key": "metadata.name", "operator": "In", "values": ["n1"]}
IS_N2 = {"key": "metadata.name", "operator": "In", "values": ["n2"]}


@pytest.mark.parametrize(
    ("affinity", "want_fits"),
    [
        pytest.param(required({"matchExpressions": [HAS_ZONE, HAS_RACK]}), False, id="all conditions of a term"),
        pytest.param(required({"matchExpressions": [HAS_RACK]}, {"matchExpressions": [HAS_ZONE]}), True, id="any term"),
        pytest.param(required({}), False, id="a term without conditions chooses nothing"),
        pytest.param(required({"matchFields": [IS_N1]}), True, id="by name"),
        pytest.param(required({"matchFields": [IS_N2]}), False, id="by another name"),
        pytest.param(required({"matchExpressions": [HAS_ZONE], "matchFields": [IS_N2]}), False, id="labels and name"),
        pytest.param({"nodeAffinity": {}}, True, id="nothing required"),
        pytest.param({"podAntiAffinity": {}}, True, id="pods are the scheduler's business"),
    ],
)
def test_affinity_terms(affinity: dict[str, Any], want_fits: bool) -> None:
    """One term must hold, and all of it."""
    assert ask(NodeFacts("n1", labels={"zone": "a"}), affinity=affinity).fits is want_fits


@pytest.mark.parametrize(
    ("allocatable", "requested", "want_lacks"),
    [
        pytest.param({}, {}, ("has no nvidia.com/gpu",), id="no GPUs"),
        pytest.param({"nvidia.com/gpu": 4}, {"nvidia.com/gpu": 2}, (), id="just enough"),
        pytest.param({"nvidia.com/gpu": 4}, {}, (), id="all free"),
        pytest.param(
            {"nvidia.com/gpu": 4}, {"nvidia.com/gpu": 3}, ("has 1 of 2 nvidia.com/gpu free",), id="one too few"
        ),
        pytest.param(
            {"nvidia.com/gpu": 0},
            {"nvidia.com/gpu": 1},
            ("has 0 of 2 nvidia.com/gpu free",),
            id="broken ones, still held",
        ),
    ],
)
def test_gpus(allocatable: dict[str, int], requested: dict[str, int], want_lacks: tuple[str, ...]) -> None:
    """GPUs are counted as the scheduler counts them."""
    node = NodeFacts("n1", labels=GFD, allocatable=allocatable, requested=requested)
    assert ask(node, gpus={"count": 2}) == Finding("n1", want_lacks)


@pytest.mark.parametrize(
    ("allocatable", "requested", "want"),
    [
        pytest.param({"memory": 8 * GI}, {"memory": 2 * GI}, Finding("n1"), id="just enough"),
        pytest.param(
            {"memory": 8 * GI},
            {"memory": 5 * GI},
            lacks("has 3Gi of memory free, 6Gi is needed"),
            id="too little",
        ),
        pytest.param(
            {"memory": 8 * GI},
            {"memory": 9 * GI},
            lacks("has 0 of memory free, 6Gi is needed"),
            id="more held than there is",
        ),
        pytest.param({}, {}, Finding("n1", unknown=("memory that it offers to pods",)), id="not known"),
    ],
)
def test_memory(allocatable: dict[str, int], requested: dict[str, int], want: Finding) -> None:
    """What is free is what the node offers less what its pods ask for."""
    assert ask(NodeFacts("n1", allocatable=allocatable, requested=requested), Room(memory=6 * GI)) == want


def test_memory_that_is_not_asked_for_is_not_counted() -> None:
    """A pod without a request fits anywhere."""
    assert ask(NodeFacts("n1"), Room(memory=None)) == Finding("n1")


@pytest.mark.parametrize(
    ("gpus", "labels", "needed", "want"),
    [
        pytest.param({}, GFD, 16 * GI, Finding("n1"), id="just enough"),
        pytest.param(
            {}, GFD, 20 * GI, lacks("has 16Gi of memory on a nvidia.com/gpu, 20Gi is needed"), id="too little on one"
        ),
        pytest.param({"count": 2}, GFD, 32 * GI, Finding("n1"), id="just enough on two"),
        pytest.param(
            {"count": 2},
            GFD,
            40 * GI,
            lacks("has 32Gi of memory on 2 nvidia.com/gpu, 40Gi is needed"),
            id="too little on two",
        ),
        pytest.param({}, {}, GI, Finding("n1", unknown=("memory of its nvidia.com/gpu",)), id="not labelled"),
        pytest.param({}, {}, None, Finding("n1"), id="nothing is known to be needed"),
    ],
)
def test_gpu_memory_on_a_node(gpus: dict[str, Any], labels: dict[str, str], needed: int | None, want: Finding) -> None:
    """The model must fit on the GPUs that its pod gets, which the scheduler does not look at."""
    node = NodeFacts("n1", labels=labels, allocatable={"nvidia.com/gpu": 8})
    assert ask(node, Room(gpu_memory=needed), gpus=gpus) == want


@pytest.mark.parametrize(
    "node",
    [
        pytest.param(NodeFacts("n1"), id="none"),
        pytest.param(NodeFacts("n1", allocatable={"nvidia.com/gpu": 0}), id="all broken"),
    ],
)
def test_the_memory_of_absent_gpus_is_no_second_complaint(node: NodeFacts) -> None:
    """A node without GPUs lacks GPUs; that their memory is unknown is not worth a word."""
    finding = ask(node, Room(gpu_memory=GI), gpus={})
    assert (len(finding.lacks), finding.unknown) == (1, ())


def test_gpu_memory_counts_only_where_gpus_are_asked_for() -> None:
    """A pool without GPUs does not look at theirs."""
    assert ask(NodeFacts("n1", allocatable={"nvidia.com/gpu": 8}), Room(gpu_memory=GI)) == Finding("n1")


@pytest.mark.parametrize(
    ("resource", "labels", "want_bytes"),
    [
        pytest.param("nvidia.com/gpu", {"nvidia.com/gpu.memory": "81559"}, 81559 * 1024**2, id="a whole GPU, in MiB"),
        pytest.param(
            "nvidia.com/gpu",
            {"nvidia.com/gpu.memory": "16384", "nvidia.com/gpu.product": "T4", "nvidia.com/gpu.replicas": "1"},
            16 * GI,
            id="a whole GPU with its replicas",
        ),
        pytest.param(
            "nvidia.com/gpu",
            {"nvidia.com/gpu.memory": "16384", "nvidia.com/gpu.product": "T4-SHARED", "nvidia.com/gpu.replicas": "4"},
            4 * GI,
            id="a shared GPU is divided",
        ),
        pytest.param(
            "nvidia.com/gpu.shared",
            {"nvidia.com/gpu.memory": "16384", "nvidia.com/gpu.product": "T4", "nvidia.com/gpu.replicas": "4"},
            4 * GI,
            id="a shared GPU under its own resource is divided",
        ),
        pytest.param(
            "nvidia.com/gpu",
            {"nvidia.com/gpu.memory": "16384", "nvidia.com/gpu.product": "T4-SHARED"},
            None,
            id="shared by nobody knows how many",
        ),
        pytest.param(
            "nvidia.com/gpu",
            {"nvidia.com/gpu.memory": "16384", "nvidia.com/gpu.product": "T4-SHARED", "nvidia.com/gpu.replicas": "0"},
            None,
            id="shared by none",
        ),
        pytest.param(
            "nvidia.com/mig-1g.10gb",
            {"nvidia.com/mig-1g.10gb.memory": "9728", "nvidia.com/gpu.memory": "81559"},
            9728 * 1024**2,
            id="a MIG slice has its own label",
        ),
        pytest.param("nvidia.com/gpu", {"nvidia.com/gpu.memory": "16GB"}, None, id="a label that is no number"),
        pytest.param("nvidia.com/gpu", {"nvidia.com/gpu.memory": "0"}, None, id="no memory"),
        pytest.param("nvidia.com/gpu", {}, None, id="no labels"),
        pytest.param("amd.com/gpu", {"amd.com/gpu.vram": "64G"}, 64 * GI, id="AMD"),
        pytest.param("amd.com/gpu", {"beta.amd.com/gpu.vram": "512M"}, 512 * 1024**2, id="AMD, beta and small"),
        pytest.param("amd.com/gpu", {"beta.amd.com/gpu.vram.16G": "1"}, 16 * GI, id="AMD, in the key"),
        pytest.param(
            "amd.com/gpu",
            {"beta.amd.com/gpu.vram.64G": "2", "beta.amd.com/gpu.vram.16G": "1", "amd.com/gpu.cu-count": "60"},
            16 * GI,
            id="AMD, of several kinds the smallest",
        ),
        pytest.param("amd.com/gpu", {"amd.com/gpu.vram": "much"}, None, id="AMD, no size"),
        pytest.param("amd.com/gpu", {"nvidia.com/gpu.memory": "16384"}, None, id="another maker's label"),
        pytest.param("gpu.intel.com/i915", {"nvidia.com/gpu.memory": "16384"}, None, id="a maker without labels"),
    ],
)
def test_gpu_memory(resource: str, labels: dict[str, str], want_bytes: int | None) -> None:
    """The labels of NVIDIA's and AMD's discovery say how much memory one GPU has."""
    assert gpu_memory(resource, labels) == want_bytes


def test_every_node_is_asked_everything_in_order_of_names() -> None:
    """A person reads at once all that stands against each node."""
    bad = NodeFacts(
        "n1",
        labels=GFD,
        ready=False,
        schedulable=False,
        taints=(Taint("a", TaintEffect.NoSchedule),),
        allocatable={"memory": GI, "nvidia.com/gpu": 1},
    )
    good = NodeFacts("n2", {**GFD, "zone": "a"}, allocatable={"memory": 64 * GI, "nvidia.com/gpu": 2})
    placement = Placement.model_validate(
        {"nodeSelector": {"zone": "a"}, "gpus": {"count": 2}, "affinity": required({"matchExpressions": [HAS_ZONE]})}
    )
    assert inspect_nodes(placement, Room(memory=2 * GI, gpu_memory=32 * GI), [good, bad]) == (
        lacks(
            "is not ready",
            "is cordoned",
            "has the taint a:NoSchedule, which placement.tolerations does not cover",
            "lacks the label zone=a of placement.nodeSelector",
            "does not meet the node affinity that placement.affinity requires",
            "has 1 of 2 nvidia.com/gpu free",
            "has 1Gi of memory free, 2Gi is needed",
        ),
        Finding("n2"),
    )


def test_without_active_gives_back_what_its_pods_hold() -> None:
    """Draining the active revision frees what its pods ask for, and nothing else."""
    node = NodeFacts("n1", requested={"memory": 5, "pods": 2}, held_by_active={"memory": 3})
    assert without_active(node) == NodeFacts("n1", requested={"memory": 2, "pods": 2})


@pytest.mark.parametrize(
    ("count", "want_text"),
    [
        (0, "0"),
        (1023, "1023"),
        (1024, "1Ki"),
        (1536, "1.5Ki"),
        (512 * 1024**2, "512Mi"),
        (6 * GI, "6Gi"),
        (int(6.25 * GI), "6.25Gi"),
        (100 * GI, "100Gi"),
        (16376 * 1024**2, "15.99Gi"),
        (2 * 1024**4, "2Ti"),
    ],
)
def test_bytes_are_told_as_quantities(count: int, want_text: str) -> None:
    """Bytes are told with the largest binary suffix."""
    assert spell_bytes(count) == want_text
