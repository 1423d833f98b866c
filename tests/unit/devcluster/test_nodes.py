"""Which nodes are asked for, and what is refused; how a GPU node is marked."""

from __future__ import annotations

import json

import pytest

from devcluster import nodes
from devcluster.errors import DevclusterError
from devcluster.nodes import GPU_LABELS, GPU_RESOURCE, GPU_TAINT, GPU_TOLERATION, Shape


@pytest.mark.parametrize(
    ("wanted", "present", "count"),
    [
        pytest.param(None, 0, 1, id="one by default"),
        pytest.param(None, 3, 3, id="as many as there are"),
        pytest.param(2, 1, 2, id="one more"),
        pytest.param(2, 2, 2, id="as many again"),
    ],
)
def test_a_shape_says_how_many_nodes_are_wanted(wanted: int | None, present: int, count: int) -> None:
    """A second `up` without words keeps what is there."""
    assert Shape(wanted).resolved(present) == count


@pytest.mark.parametrize(
    ("wanted", "gpu_nodes", "present", "want"),
    [
        pytest.param(1, (), 2, "--nodes 1: the cluster has 2; take it down first", id="fewer than there are"),
        pytest.param(0, (), 0, "--nodes 0: must be from 1 to 9", id="none"),
        pytest.param(10, (), 0, "--nodes 10: must be from 1 to 9", id="too many"),
        pytest.param(None, (2,), 1, "--gpu-node 2: the cluster has 1 node; add --nodes 2", id="a node too many"),
        pytest.param(None, (0,), 1, "--gpu-node 0: must be the number of a node", id="no node's number"),
    ],
)
def test_a_shape_that_cannot_be_met_is_refused(
    wanted: int | None, gpu_nodes: tuple[int, ...], present: int, want: str
) -> None:
    """The message names the flag and what would be right."""
    with pytest.raises(DevclusterError, match=want):
        Shape(wanted, frozenset(gpu_nodes)).resolved(present)


def test_a_gpu_node_gets_labels_taint_and_resource() -> None:
    """In this order: a pod that comes for the GPU must tolerate the taint."""
    asked: list[tuple[str, ...]] = []

    def kubectl(*words: str) -> str:
        asked.append(words)
        return ""

    nodes.mark_gpu(kubectl, "node-2")

    label, taint, patch = asked
    assert set(label[4:]) == {f"{name}={content}" for name, content in GPU_LABELS.items()}
    assert taint == ("taint", "node", "node-2", "--overwrite", GPU_TAINT)
    assert patch[:4] == ("patch", "node", "node-2", "--subresource=status")
    changed = json.loads(patch[4].removeprefix("--patch="))
    assert changed == {"status": {kind: {GPU_RESOURCE: "1"} for kind in ("capacity", "allocatable")}}


def test_the_toleration_fits_the_taint() -> None:
    """DNS and the provisioner have it, because a GPU node may be the only one."""
    key, _, effect = GPU_TAINT.replace("=", ":").split(":")

    assert (GPU_TOLERATION["key"], GPU_TOLERATION["operator"], GPU_TOLERATION["effect"]) == (key, "Exists", effect)
