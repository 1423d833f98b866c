"""Says how every component is started: its command line, its configuration files, and where it tells its health.

Pure values of a layout. What differs from a component's defaults stands here, with the reason where it is not the name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devcluster.layout import CONTROL_GROUP

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devcluster.layout import Layout

PAUSE_IMAGE = "devcluster.local/pause:1"
"""The image that holds a pod's namespaces."""

ETCD_URL = "http://127.0.0.1:2379"
"""etcd answers inside the node's network namespace only, so it needs no certificates."""


@dataclass(frozen=True)
class Component:
    """One long-running program.

    Attributes:
        name: what people call it, and its program.
        arguments: its command line after the program.
        health: URL that answers 200 when it is up; empty for containerd, which is up when its socket answers.
        deadline: how long it may take to be up, in seconds; generous, for a machine that is busy with other things.
        grace: how long it may take to end by itself when it is stopped, in seconds.
    """

    name: str
    arguments: tuple[str, ...]
    health: str
    deadline: float = 60.0
    grace: float = 10.0


def components(layout: Layout) -> tuple[Component, ...]:
    """Give all components, in the order in which they are started."""
    return (
        etcd(layout),
        containerd(layout),
        apiserver(layout),
        controller_manager(layout),
        scheduler(layout),
        kubelet(layout),
        kube_proxy(layout),
    )


def etcd(layout: Layout) -> Component:
    """Give etcd: without waiting for the disk, because its data is thrown away with the cluster."""
    peer = "http://127.0.0.1:2380"
    health = f"http://{layout.addresses.node}:2381"
    return Component(
        "etcd",
        _flags(
            {
                "name": layout.node,
                "data-dir": layout.state / "etcd",
                "listen-client-urls": ETCD_URL,
                "advertise-client-urls": ETCD_URL,
                "listen-peer-urls": peer,
                "initial-advertise-peer-urls": peer,
                "initial-cluster": f"{layout.node}={peer}",
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
    return Component(
        "kube-apiserver",
        _flags(
            {
                "advertise-address": layout.addresses.node,
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
    return Component(
        "kube-controller-manager",
        _flags(
            {
                **_controller(layout, "controller-manager"),
                "allocate-node-cidrs": "false",
                "client-ca-file": authority,
                "cluster-name": "arbiter-devcluster",
                "cluster-signing-cert-file": authority,
                "cluster-signing-key-file": key,
                "requestheader-client-ca-file": layout.certificate("front-proxy-ca")[0],
                "root-ca-file": authority,
                "service-account-private-key-file": layout.pki / "sa.key",
                "use-service-account-credentials": "true",
            }
        ),
        f"https://{layout.addresses.node}:10257/healthz",
    )


def scheduler(layout: Layout) -> Component:
    """Give the scheduler."""
    flags = _flags(_controller(layout, "scheduler"))
    return Component("kube-scheduler", flags, f"https://{layout.addresses.node}:10259/healthz")


def containerd(layout: Layout) -> Component:
    """Give the container runtime."""
    return Component("containerd", _flags({"config": layout.file("containerd.toml")}), "")


def kubelet(layout: Layout) -> Component:
    """Give the kubelet."""
    return Component(
        "kubelet",
        _flags(
            {
                "config": layout.file("kubelet.json"),
                "kubeconfig": layout.kubeconfig("kubelet"),
                "hostname-override": layout.node,
                "node-ip": layout.addresses.node,
                "root-dir": layout.node_root / "kubelet",
                "cert-dir": layout.node_root / "kubelet-pki",
            }
        ),
        f"http://{layout.addresses.node}:10248/healthz",
    )


def kube_proxy(layout: Layout) -> Component:
    """Give the proxy that makes Services reachable."""
    flags = _flags({"config": layout.file("kube-proxy.json")})
    return Component("kube-proxy", flags, f"http://{layout.addresses.node}:10256/healthz")


def configuration_files(layout: Layout) -> Mapping[Path, str]:
    """Give the content of every configuration file, by path. JSON is YAML, so Kubernetes reads it."""
    documents = {
        layout.file("kubelet.json"): kubelet_configuration(layout),
        layout.file("kube-proxy.json"): kube_proxy_configuration(layout),
        layout.cni_configuration / "10-devcluster.conflist": cni_configuration(layout),
    }
    return {
        layout.file("containerd.toml"): containerd_configuration(layout),
        # Empty: pods must not ask the host's name servers, which they could not reach.
        layout.file("resolv.conf"): "# no name servers beyond the cluster\n",
        **{path: json.dumps(document, indent=2) + "\n" for path, document in documents.items()},
    }


def containerd_configuration(layout: Layout) -> str:
    """Give containerd's configuration (its version 3)."""
    root, socket, path = layout.node_root, layout.containerd_socket, json.dumps
    cri, runc = "io.containerd.cri.v1", "io.containerd.cri.v1.runtime'.containerd.runtimes.runc"
    return f"""\
version = 3
root = {path(str(root / "containerd"))}
state = {path(str(root / "run"))}
[grpc]
address = {path(str(socket))}
[ttrpc]
address = {path(f"{socket}.ttrpc")}
[plugins.'io.containerd.internal.v1.opt']
path = {path(str(root / "opt"))}
[plugins.'io.containerd.nri.v1.nri']
disable = true
[plugins.'{cri}.images'.pinned_images]
sandbox = {path(PAUSE_IMAGE)}
[plugins.'{cri}.runtime']
# Without CAP_SYS_RESOURCE, as in many virtual machines, a lower score could not be set and no pod would start.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins.'{cri}.runtime'.cni]
bin_dirs = [{path(str(layout.programs["bridge"].parent))}]
conf_dir = {path(str(layout.cni_configuration))}
[plugins.'{runc}]
runtime_type = 'io.containerd.runc.v2'
[plugins.'{runc}.options]
BinaryName = {path(str(layout.programs["runc"]))}
Root = {path(str(root / "runc"))}
SystemdCgroup = false
"""


def kubelet_configuration(layout: Layout) -> dict[str, Any]:
    """Give the kubelet's configuration: strict about who asks it, and lenient about the machine it is on."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.certificate("ca")[0])},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "clusterDNS": [layout.addresses.dns],
        "clusterDomain": layout.domain,
        "resolvConf": str(layout.file("resolv.conf")),
        "healthzBindAddress": layout.addresses.node,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CONTROL_GROUP}/{layout.pods_group}",
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "podLogsDir": str(layout.node_root / "pod-logs"),
        "volumePluginDir": str(layout.node_root / "volume-plugins"),
        # A disk that is full is the developer's business; pods and images are never thrown out for it.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
    }


def kube_proxy_configuration(layout: Layout) -> dict[str, Any]:
    """Give the proxy's configuration: nftables, and no word about the host's connection tracking."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(layout.kubeconfig("kube-proxy"))},
        "clusterCIDR": layout.addresses.pods,
        "hostnameOverride": layout.node,
        "conntrack": {"maxPerCore": 0},
        "healthzBindAddress": f"{layout.addresses.node}:10256",
        "metricsBindAddress": f"{layout.addresses.node}:10249",
    }


def cni_configuration(layout: Layout) -> dict[str, Any]:
    """Give the pod network: one bridge. Pods are routed, not masqueraded: nobody outside is to be reached."""
    return {
        "cniVersion": "1.0.0",
        "name": "devcluster",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(layout.node_root / "addresses"),
                    "ranges": [[{"subnet": layout.addresses.node_pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": True}},
        ],
    }


def _controller(layout: Layout, user: str) -> dict[str, str | Path]:
    """Give the flags that controller manager and scheduler share. There is one of each, so none is elected."""
    kubeconfig = layout.kubeconfig(user)
    return {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": layout.addresses.node,
        "leader-elect": "false",
    }


def _flags(flags: Mapping[str, str | Path]) -> tuple[str, ...]:
    """Write flags as a command line."""
    return tuple(f"--{name}={value}" for name, value in flags.items())
