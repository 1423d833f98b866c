"""Says which nodes a cluster has and how one with GPUs is marked: the same for whoever runs the cluster.

Nothing computes on a node that is marked: it has the labels, the resource and the taint of a GPU node, so that the
scheduler and people's selectors treat it as one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_NODES = 9
"""More than anybody needs on one machine; each has an address and a range of pods of its own."""

GPU_RESOURCE = "nvidia.com/gpu"
"""The extended resource that NVIDIA's device plugin reports."""

GPU_TAINT = "nvidia.com/gpu=present:NoSchedule"
"""The taint that GKE and many others put on GPU nodes, so that only pods that ask for a GPU go there."""

GPU_TOLERATION: Mapping[str, str] = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
"""What a pod says that may run on a tainted GPU node."""

GPU_LABELS: Mapping[str, str] = {
    "feature.node.kubernetes.io/pci-10de.present": "true",
    "nvidia.com/cuda.driver-version.full": "570.172.08",
    "nvidia.com/cuda.driver-version.major": "570",
    "nvidia.com/cuda.driver-version.minor": "172",
    "nvidia.com/cuda.driver-version.revision": "08",
    "nvidia.com/cuda.runtime-version.full": "12.8",
    "nvidia.com/cuda.runtime-version.major": "12",
    "nvidia.com/cuda.runtime-version.minor": "8",
    "nvidia.com/gpu.compute.major": "8",
    "nvidia.com/gpu.compute.minor": "9",
    "nvidia.com/gpu.count": "1",
    "nvidia.com/gpu.family": "ada-lovelace",
    "nvidia.com/gpu.memory": "23034",
    "nvidia.com/gpu.mode": "compute",
    "nvidia.com/gpu.present": "true",
    "nvidia.com/gpu.product": "NVIDIA-L4",
    "nvidia.com/gpu.replicas": "1",
    "nvidia.com/gpu.sharing-strategy": "none",
    "nvidia.com/mig.capable": "false",
    "nvidia.com/mps.capable": "false",
    "nvidia.com/vgpu.present": "false",
}
"""What NVIDIA's GPU Feature Discovery sets on a node with one L4 (k8s-device-plugin, docs/gpu-feature-discovery)."""


@dataclass(frozen=True)
class Shape:
    """What nodes a cluster is asked to have, numbered from 1; the first runs the control plane and pods as well.

    Attributes:
        nodes: how many; None leaves it to the cluster that is up, and is one for a new cluster.
        gpu_nodes: numbers of those that are marked as GPU nodes, in addition to those that are marked already.
    """

    nodes: int | None = None
    gpu_nodes: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Refuse numbers that no cluster of ours has."""
        if self.nodes is not None and not 1 <= self.nodes <= MOST_NODES:
            raise DevclusterError(f"--nodes {self.nodes}: must be from 1 to {MOST_NODES}")
        for number in sorted(self.gpu_nodes):
            if not 1 <= number <= MOST_NODES:
                raise DevclusterError(f"--gpu-node {number}: must be the number of a node, from 1 to {MOST_NODES}")

    def resolved(self, present: int = 0) -> int:
        """Give how many nodes are wanted where `present` are there; raise where that cannot be met.

        Raises:
            DevclusterError: fewer are wanted than there are, or a GPU node's number is beyond the last node.
        """
        count = max(present, 1) if self.nodes is None else self.nodes
        if count < present:
            raise DevclusterError(
                f"--nodes {count}: the cluster has {present}; take it down first (python -m devcluster down)"
            )
        if beyond := [number for number in sorted(self.gpu_nodes) if number > count]:
            has = "1 node" if count == 1 else f"{count} nodes"
            raise DevclusterError(f"--gpu-node {beyond[0]}: the cluster has {has}; add --nodes {beyond[0]}")
        return count


def name(number: int) -> str:
    """Give the name of a node."""
    return f"node-{number}"


def mark_gpu(kubectl: Callable[..., str], node: str) -> None:
    """Mark a node as one with a GPU, by the administrator's kubectl; one that is marked stays as it is."""
    kubectl("label", "node", node, "--overwrite", *(f"{label}={value}" for label, value in GPU_LABELS.items()))
    kubectl("taint", "node", node, "--overwrite", GPU_TAINT)
    has = {GPU_RESOURCE: "1"}
    patch = json.dumps({"status": {"capacity": has, "allocatable": has}})
    kubectl("patch", "node", node, "--subresource=status", f"--patch={patch}")
