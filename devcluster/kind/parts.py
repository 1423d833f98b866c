"""Says what a kind cluster consists of: its containers, kind's configuration, and the parts that can be stopped.

Pure values. Parts have the names that they have natively (`kubelet`, `kubelet@node-2`), so that whoever makes a fault
need not know who runs the cluster.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devcluster import nodes, registry

if TYPE_CHECKING:
    from collections.abc import Collection

CLUSTER = "arbiter-devcluster"
"""The cluster's name: every container's begins with it."""

NODE_IMAGE = "kindest/node:v1.36.1@sha256:3489c7674813ba5d8b1a9977baea8a6e553784dab7b84759d1014dbd78f7ebd5"
"""What a node is made from: the image that kind v0.32.0 itself names (its pkg/apis/config/defaults/image.go)."""

NETWORK = "kind"
"""The engine's network that kind joins all its containers to; it makes it, and keeps it for the next cluster."""

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
"""Pods that the first node's kubelet runs from files, one container each."""

UNITS = ("containerd", "kubelet")
"""Services of systemd on every node."""

MANIFESTS = "/etc/kubernetes/manifests"
"""Where the kubelet looks for the control plane's pods."""


@dataclass(frozen=True)
class Part:
    """One thing that can be stopped and started, and has a log.

    Attributes:
        name: what people call it.
        container: the engine's container that it is, or is in.
        unit: the service that it is, for one of systemd.
        pod: the pod that it is, for one of the control plane.
        services: those that must run before it is up, for a node.
    """

    name: str
    container: str
    unit: str = ""
    pod: str = ""
    services: tuple[str, ...] = ()

    @property
    def inside(self) -> str:
        """Give what it is called in its container; nothing where it is the container."""
        return self.unit or self.pod

    def switch(self, verb: str) -> tuple[str, ...]:
        """Give the engine's command that stops or starts it: a node stops as when its power fails, all else gently."""
        within = ("exec", self.container)
        if self.unit:
            return (*within, "systemctl", verb, self.unit)
        if self.pod:
            read, aside = f"{MANIFESTS}/{self.pod}.yaml", f"{MANIFESTS}/../{self.pod}.stopped"
            return (*within, "mv", *((read, aside) if verb == "stop" else (aside, read)))
        return (
            ("stop", "-t", "0" if self.services else "10", self.container) if verb == "stop" else (verb, self.container)
        )

    def log(self) -> tuple[str, ...]:
        """Give the engine's command that prints what it wrote, that of its earlier containers too."""
        within = ("exec", self.container)
        if self.unit:
            return (*within, "journalctl", "--no-pager", "--output=short-iso", f"--unit={self.unit}")
        if self.pod:
            return (*within, "sh", "-c", 'cat /var/log/pods/kube-system_"$1"-*/"$1"/*.log', "sh", self.pod)
        return ("logs", self.container)


def container(number: int) -> str:
    """Give the name that kind gives to a node: to its container, and to it in Kubernetes."""
    if number == 1:
        return f"{CLUSTER}-control-plane"
    return f"{CLUSTER}-worker" if number == 2 else f"{CLUSTER}-worker{number - 1}"


def registry_container(name: str) -> str:
    """Give the container of a registry."""
    return f"{CLUSTER}-{name}"


def parts(count: int) -> tuple[Part, ...]:
    """Give all parts of a cluster of so many nodes, in the order in which they can be started."""
    numbers = range(1, count + 1)
    return (
        *(Part(nodes.name(number), container(number), services=UNITS) for number in numbers),
        *(Part(name, registry_container(name)) for name in registry.PORTS),
        *(Part(_on(unit, number), container(number), unit=unit) for number in numbers for unit in UNITS),
        *(Part(pod, container(1), pod=pod) for pod in CONTROL_PLANE),
    )


def configuration(count: int, gpu_nodes: Collection[int]) -> dict[str, Any]:
    """Give kind's configuration. Image volumes and trust in our registries need no word: both are defaults by now."""
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": CLUSTER,
        "nodes": [_node(number, count, is_gpu=number in gpu_nodes) for number in range(1, count + 1)],
    }


def _node(number: int, count: int, *, is_gpu: bool) -> dict[str, Any]:
    """Give one node. Its labels are set again whenever it registers anew, which those of kubectl are not."""
    node: dict[str, Any] = {"role": "control-plane" if number == 1 else "worker", "image": NODE_IMAGE}
    if is_gpu:
        node["labels"] = dict(nodes.GPU_LABELS)
    if number == 1 and count > 1:
        # The first node runs pods too. Of a single node kind takes the taint away itself, and fails if there is none.
        untainted = {"kind": "InitConfiguration", "nodeRegistration": {"taints": []}}
        node["kubeadmConfigPatches"] = [json.dumps(untainted)]
    return node


def _on(unit: str, number: int) -> str:
    """Give the name of a service on a node."""
    return unit if number == 1 else f"{unit}@{nodes.name(number)}"
