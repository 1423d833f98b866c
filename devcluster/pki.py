"""Makes the cluster's keys, certificates and kubeconfigs, with kubeadm.

Nothing of it is made by hand: what kubeadm would hand to a real cluster is what ours gets.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from devcluster.commands import run

if TYPE_CHECKING:
    from devcluster.layout import Layout


def kubeadm_configuration(layout: Layout) -> tuple[dict[str, Any], ...]:
    """Give kubeadm's two documents. The version is spelled out, or kubeadm would ask the network for the newest."""
    ours = layout.addresses
    cluster = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": "arbiter-devcluster",
        "kubernetesVersion": layout.version,
        "certificatesDir": str(layout.pki),
        "controlPlaneEndpoint": f"{ours.node}:6443",
        "encryptionAlgorithm": "ECDSA-P256",  # made in milliseconds, where RSA takes seconds
        "apiServer": {"certSANs": ["127.0.0.1", "localhost"]},
        "etcd": {"external": {"endpoints": ["http://127.0.0.1:2379"]}},
        "networking": {"serviceSubnet": ours.services, "podSubnet": ours.pods, "dnsDomain": layout.domain},
    }
    node = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": ours.node, "bindPort": 6443},
        "nodeRegistration": {"name": layout.node, "criSocket": f"unix://{layout.containerd_socket}"},
    }
    return cluster, node


def make(layout: Layout) -> None:
    """Write keys and certificates, and a kubeconfig for every component and for people."""
    configuration = layout.file("kubeadm.yaml")
    documents = kubeadm_configuration(layout)
    configuration.write_text("\n---\n".join(json.dumps(document, indent=2) for document in documents) + "\n")
    kubeadm = layout.programs["kubeadm"]
    run(kubeadm, "init", "phase", "certs", "all", "--config", configuration)
    run(
        *(kubeadm, "init", "phase", "kubeconfig", "all", "--config", configuration),
        *("--kubeconfig-dir", layout.configuration),
    )
    proxy = run(kubeadm, "kubeconfig", "user", "--config", configuration, "--client-name", "system:kube-proxy")
    path = layout.kubeconfig("kube-proxy")
    path.touch(mode=0o600)
    path.write_text(proxy)


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
