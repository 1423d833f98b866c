"""Gives the cluster its DNS: CoreDNS as an ordinary Deployment, and a question that shows whether it answers.

It answers for the cluster's own names and no others: nothing is forwarded, because nothing outside is to be asked.
"""

from __future__ import annotations

import secrets  # noqa: TID251  a query's number must not be guessed from the last one
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

from devcluster import nodes
from devcluster.images.archive import Image

if TYPE_CHECKING:
    from pathlib import Path

    from devcluster.native.layout import Layout

IMAGE = "devcluster.local/coredns:1"
"""The image around the CoreDNS program."""

PORT = 1053
"""Where CoreDNS listens in its pod: a port that needs no privilege. The Service has it on 53."""

_LABELS = {"k8s-app": "kube-dns"}
_ANSWER_S = 0.5
"""How long one question waits for its answer, in seconds."""


def image(program: Path) -> Image:
    """Give the image around the CoreDNS program."""
    return Image(IMAGE, {"/coredns": program}, ("/coredns",))


def corefile(domain: str) -> str:
    """Give CoreDNS's configuration: without a cache, which would keep a name unknown after its Service is there."""
    return f"""\
.:{PORT} {{
    errors
    ready :8181
    kubernetes {domain} in-addr.arpa ip6.arpa {{
        pods insecure
        ttl 5
    }}
    loadbalance
}}
"""


def manifests(layout: Layout) -> list[dict[str, Any]]:
    """Give everything that CoreDNS consists of in the cluster."""
    return [
        _object("v1", "ServiceAccount", {}),
        _object("v1", "ConfigMap", {"data": {"Corefile": corefile(layout.domain)}}),
        *_rights(),
        _object("v1", "Service", {"spec": _service(layout.addresses.dns)}, name="kube-dns"),
        _object("apps/v1", "Deployment", {"spec": _deployment(layout.first.name)}),
    ]


def answers(server: str, name: str) -> bool:
    """Ask a name server for a name's IPv4 address, and say whether it gave one."""
    number = secrets.token_bytes(2)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = number + b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.settimeout(_ANSWER_S)
        try:
            client.connect((server, 53))
            client.send(question)
            reply = client.recv(512)
        except OSError:
            return False
    found = int.from_bytes(reply[6:8], "big")
    return reply[:2] == number and found > 0


def _rights() -> list[dict[str, Any]]:
    """Give what CoreDNS may read: Services and where their pods are."""
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    group, name = "rbac.authorization.k8s.io", "system:coredns"
    binding = {
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}],
    }
    return [
        _object(f"{group}/v1", "ClusterRole", {"rules": rules}, name=name, namespace=""),
        _object(f"{group}/v1", "ClusterRoleBinding", binding, name=name, namespace=""),
    ]


def _service(address: str) -> dict[str, Any]:
    """Give the Service, on the address that the kubelet writes into every pod."""
    ports = [
        {"name": f"dns-{protocol.lower()}", "port": 53, "targetPort": PORT, "protocol": protocol}
        for protocol in ("UDP", "TCP")
    ]
    return {"clusterIP": address, "selector": _LABELS, "ports": ports}


def _deployment(node: str) -> dict[str, Any]:
    """Give the Deployment: one replica, as little privilege as the restricted level asks, looked at every second.

    It is on the node that cannot be stopped as a whole, so that a fault of another one is not one of DNS too.
    """
    container = {
        "name": "coredns",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "volumeMounts": [{"name": "configuration", "mountPath": "/etc/coredns", "readOnly": True}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    pod = {
        "serviceAccountName": "coredns",
        "dnsPolicy": "Default",
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/hostname": node},
        "tolerations": [nodes.GPU_TOLERATION],  # this one may be a GPU node
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "configuration", "configMap": {"name": "coredns"}}],
    }
    return {
        "replicas": 1,
        "selector": {"matchLabels": _LABELS},
        "template": {"metadata": {"labels": _LABELS}, "spec": pod},
    }


def _object(
    version: str, kind: str, content: dict[str, Any], name: str = "coredns", namespace: str = "kube-system"
) -> dict[str, Any]:
    """Give one object with its name."""
    metadata: dict[str, Any] = {"name": name, "labels": _LABELS} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}
