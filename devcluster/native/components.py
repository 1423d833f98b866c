"""Says how each component of the control plane is started: its command line, and where it tells its health.

Pure values of a layout. What differs from a component's defaults stands here, with the reason where it is not the name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devcluster.native.layout import Layout, Node

ETCD_URL = "http://127.0.0.1:2379"
"""etcd answers inside the first node's network namespace only, so it needs no certificates."""


@dataclass(frozen=True)
class Component:
    """One long-running program in the namespaces of one node.

    Attributes:
        name: what people call it.
        node: where it runs.
        program: what is run.
        arguments: its command line after the program.
        health: where to ask whether it is up: a URL that answers 200, or a socket that answers (unix://…).
        environment: what it is told beside that.
        deadline: how long it may take to be up, in seconds; generous, for a machine that is busy with other things.
        grace: how long it may take to end by itself when it is stopped, in seconds.
    """

    name: str
    node: Node
    program: str
    arguments: tuple[str, ...]
    health: str
    environment: Mapping[str, str] = field(default_factory=dict)
    deadline: float = 60.0
    grace: float = 10.0


def control_plane(layout: Layout) -> tuple[Component, ...]:
    """Give the components of the control plane, in the order in which they are started."""
    return (etcd(layout), apiserver(layout), controller_manager(layout), scheduler(layout))


def etcd(layout: Layout) -> Component:
    """Give etcd: without waiting for the disk, because its data is thrown away with the cluster."""
    peer = "http://127.0.0.1:2380"
    health = f"http://{layout.first.address}:2381"
    return _component(
        layout,
        "etcd",
        flags(
            {
                "name": layout.first.name,
                "data-dir": layout.state / "etcd",
                "listen-client-urls": ETCD_URL,
                "advertise-client-urls": ETCD_URL,
                "listen-peer-urls": peer,
                "initial-advertise-peer-urls": peer,
                "initial-cluster": f"{layout.first.name}={peer}",
                "listen-metrics-urls": health,
                "unsafe-no-fsync": "true",
                "log-level": "warn",
            }
        ),
        f"{health}/readyz",
    )


def apiserver(layout: Layout) -> Component:
    """Give the API server."""
    certificate, key = layout.certificate("apiserver")
    kubelet_certificate, kubelet_key = layout.certificate("apiserver-kubelet-client")
    proxy_certificate, proxy_key = layout.certificate("front-proxy-client")
    return _component(
        layout,
        "kube-apiserver",
        flags(
            {
                "advertise-address": layout.first.address,
                "secure-port": "6443",
                "etcd-servers": ETCD_URL,
                "service-cluster-ip-range": layout.addresses.services,
                "authorization-mode": "Node,RBAC",
                "enable-admission-plugins": "NodeRestriction",
                "allow-privileged": "true",
                "client-ca-file": layout.certificate("ca")[0],
                "tls-cert-file": certificate,
                "tls-private-key-file": key,
                "kubelet-client-certificate": kubelet_certificate,
                "kubelet-client-key": kubelet_key,
                # Without it, logs and exec look the node's name up in DNS.
                "kubelet-preferred-address-types": "InternalIP",
                "service-account-issuer": f"https://kubernetes.default.svc.{layout.domain}",
                "service-account-key-file": layout.pki / "sa.pub",
                "service-account-signing-key-file": layout.pki / "sa.key",
                "proxy-client-cert-file": proxy_certificate,
                "proxy-client-key-file": proxy_key,
                "requestheader-client-ca-file": layout.certificate("front-proxy-ca")[0],
                "requestheader-allowed-names": "front-proxy-client",
                "requestheader-extra-headers-prefix": "X-Remote-Extra-",
                "requestheader-group-headers": "X-Remote-Group",
                "requestheader-username-headers": "X-Remote-User",
            }
        ),
        f"{layout.server}/readyz",
    )


def controller_manager(layout: Layout) -> Component:
    """Give the controller manager; a node's range of pod addresses is laid out by us, not by it."""
    authority, key = layout.certificate("ca")
    return _component(
        layout,
        "kube-controller-manager",
        flags(
            {
                **_controller(layout, "controller-manager"),
                "allocate-node-cidrs": "false",
                "client-ca-file": authority,
                "cluster-name": "arbiter-devcluster",
                "cluster-signing-cert-file": authority,
                "cluster-signing-key-file": key,
                # Each of its controllers fetches credentials of its own; at 20 questions a second that takes 4 s.
                "kube-api-burst": "400",
                "kube-api-qps": "200",
                "requestheader-client-ca-file": layout.certificate("front-proxy-ca")[0],
                "root-ca-file": authority,
                "service-account-private-key-file": layout.pki / "sa.key",
                "use-service-account-credentials": "true",
            }
        ),
        f"https://{layout.first.address}:10257/healthz",
    )


def scheduler(layout: Layout) -> Component:
    """Give the scheduler."""
    asked = f"https://{layout.first.address}:10259/healthz"
    return _component(layout, "kube-scheduler", flags(_controller(layout, "scheduler")), asked)


def flags(values: Mapping[str, str | Path]) -> tuple[str, ...]:
    """Write flags as a command line."""
    return tuple(f"--{name}={value}" for name, value in values.items())


def _component(layout: Layout, name: str, arguments: tuple[str, ...], health: str) -> Component:
    """Give a component of the control plane."""
    return Component(name, layout.first, name, arguments, health)


def _controller(layout: Layout, user: str) -> dict[str, str | Path]:
    """Give the flags that controller manager and scheduler share. There is one of each, so none is elected."""
    kubeconfig = layout.kubeconfig(user)
    return {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": layout.first.address,
        "leader-elect": "false",
    }
