"""Makes the cluster's keys, certificates and kubeconfigs, with kubeadm.

Nothing of it is made by hand: what kubeadm would hand to a real cluster is what ours gets.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from devcluster.commands import run

if TYPE_CHECKING:
    from pathlib import Path

    from devcluster.native.layout import Layout, Node


def kubeadm_configuration(layout: Layout) -> tuple[dict[str, Any], ...]:
    """Give kubeadm's two documents. The version is spelled out, or kubeadm would ask the network for the newest."""
    ours = layout.addresses
    cluster = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": "arbiter-devcluster",
        "kubernetesVersion": layout.version,
        "certificatesDir": str(layout.pki),
        "controlPlaneEndpoint": f"{layout.first.address}:6443",
        "encryptionAlgorithm": "ECDSA-P256",  # made in milliseconds, where RSA takes seconds
        "apiServer": {"certSANs": ["127.0.0.1", "localhost"]},
        "etcd": {"external": {"endpoints": ["http://127.0.0.1:2379"]}},
        "networking": {"serviceSubnet": ours.services, "podSubnet": ours.pods, "dnsDomain": layout.domain},
    }
    node = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": layout.first.address, "bindPort": 6443},
        "nodeRegistration": {"name": layout.first.name, "criSocket": f"unix://{layout.first.containerd_socket}"},
    }
    return cluster, node


def make(layout: Layout) -> None:
    """Write keys and certificates, and a kubeconfig for people and for everything but the kubelets."""
    configuration = _configuration(layout)
    documents = kubeadm_configuration(layout)
    configuration.write_text("\n---\n".join(json.dumps(document, indent=2) for document in documents) + "\n")
    kubeadm = layout.programs["kubeadm"]
    run(kubeadm, "init", "phase", "certs", "all", "--config", configuration)
    for user in ("admin", "super-admin", "controller-manager", "scheduler"):
        phase = (kubeadm, "init", "phase", "kubeconfig", user)
        run(*phase, "--config", configuration, "--kubeconfig-dir", layout.configuration)
    _write_kubeconfig(layout, layout.kubeconfig("kube-proxy"), "system:kube-proxy")


def admit(layout: Layout, node: Node) -> None:
    """Write the kubeconfig of a node's kubelet, whose name and group let it mind this node and no other."""
    _write_kubeconfig(layout, node.kubeconfig, f"system:node:{node.name}", "--org", "system:nodes")


def _write_kubeconfig(layout: Layout, path: Path, name: str, *more: str) -> None:
    """Write a kubeconfig with a certificate for one name."""
    user = (layout.programs["kubeadm"], "kubeconfig", "user", "--client-name", name)
    kubeconfig = run(*user, "--config", _configuration(layout), *more)
    path.touch(mode=0o600)
    path.write_text(kubeconfig)


def _configuration(layout: Layout) -> Path:
    """Give the file that holds kubeadm's documents."""
    return layout.file("kubeadm.yaml")


def bindings() -> list[dict[str, Any]]:
    """Give two certificates their rights: people's, and the one by which the API server asks the kubelet for logs.

    `kubeadm init` binds them too, outside of the phases that we run (its kubeconfig and bootstrap-token phases).
    """
    people = {"kind": "Group", "name": "kubeadm:cluster-admins"}
    server = {"kind": "User", "name": "kube-apiserver-kubelet-client"}
    return [
        _binding("kubeadm:cluster-admins", "cluster-admin", people),
        _binding("kubeadm:apiserver-kubelet-client", "system:kubelet-api-admin", server),
    ]


def _binding(name: str, role: str, subject: dict[str, str]) -> dict[str, Any]:
    """Give the binding of a role of the whole cluster."""
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, **subject}],
    }
