"""A cluster laid out under a directory that is nowhere, for tests of values."""

from __future__ import annotations

from pathlib import Path

from devcluster.native.layout import Layout

PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "containerd",
    "kubelet",
    "kube-proxy",
    "registry",
    "runc",
    "ctr",
    "kubectl",
    "kubeadm",
)
LAYOUT = Layout(
    Path("/state"),
    {**{name: Path("/programs/bin", name) for name in PROGRAMS}, "bridge": Path("/programs/cni/bridge")},
)
