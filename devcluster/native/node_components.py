"""Says how the components of a node are started, with which configuration files, and where they tell their health.

Pure values of a layout and one of its nodes. What differs from a component's defaults stands here, with the reason
where it is not the name. Every path is the node's own, or one kubelet would tidy up what is another's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from devcluster import registry
from devcluster.native.components import Component, flags

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devcluster.native.layout import Layout, Node

PAUSE_IMAGE = "devcluster.local/pause:1"
"""The image that holds a pod's namespaces."""


def node_components(node: Node) -> tuple[Component, ...]:
    """Give the components of a node, in the order in which they are started."""
    return containerd(node), kubelet(node), kube_proxy(node)


def containerd(node: Node) -> Component:
    """Give the container runtime."""
    arguments = flags({"config": node.file("containerd.toml")})
    return Component(node.component("containerd"), node, "containerd", arguments, f"unix://{node.containerd_socket}")


def kubelet(node: Node) -> Component:
    """Give the kubelet."""
    arguments = flags(
        {
            "config": node.file("kubelet.json"),
            "kubeconfig": node.kubeconfig,
            "hostname-override": node.name,
            "node-ip": node.address,
            "root-dir": node.root / "kubelet",
            "cert-dir": node.root / "kubelet-pki",
        }
    )
    return Component(node.component("kubelet"), node, "kubelet", arguments, f"http://{node.address}:10248/healthz")


def kube_proxy(node: Node) -> Component:
    """Give the proxy that makes Services reachable."""
    arguments = flags({"config": node.file("kube-proxy.json")})
    name = node.component("kube-proxy")
    return Component(name, node, "kube-proxy", arguments, f"http://{node.address}:10256/healthz")


def configuration_files(layout: Layout, node: Node) -> Mapping[Path, str]:
    """Give the content of every configuration file of a node, by path. JSON is YAML, so Kubernetes reads it."""
    documents = {
        node.file("kubelet.json"): kubelet_configuration(layout, node),
        node.file("kube-proxy.json"): kube_proxy_configuration(layout, node),
        node.cni / "10-devcluster.conflist": cni_configuration(node),
    }
    return {
        node.file("containerd.toml"): containerd_configuration(layout, node),
        # Empty: pods must not ask the host's name servers, which they could not reach.
        node.file("resolv.conf"): "# no name servers beyond the cluster\n",
        **{path: json.dumps(document, indent=2) + "\n" for path, document in documents.items()},
    }


def containerd_configuration(layout: Layout, node: Node) -> str:
    """Give containerd's configuration (its version 3)."""
    root, run, socket, path = node.root, node.volatile, node.containerd_socket, json.dumps
    cri, runc = "io.containerd.cri.v1", "io.containerd.cri.v1.runtime'.containerd.runtimes.runc"
    return f"""\
version = 3
root = {path(str(root / "containerd"))}
state = {path(str(run / "containerd"))}
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
[plugins.'{cri}.images'.registry]
config_path = {path(str(registry.trust(layout)))}
[plugins.'{cri}.runtime']
# Without CAP_SYS_RESOURCE, as in many virtual machines, a lower score could not be set and no pod would start.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins.'{cri}.runtime'.cni]
bin_dirs = [{path(str(layout.programs["bridge"].parent))}]
conf_dir = {path(str(node.cni))}
[plugins.'{runc}]
runtime_type = 'io.containerd.runc.v2'
[plugins.'{runc}.options]
BinaryName = {path(str(layout.programs["runc"]))}
Root = {path(str(run / "runc"))}
SystemdCgroup = false
"""


def kubelet_configuration(layout: Layout, node: Node) -> dict[str, Any]:
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
        "containerRuntimeEndpoint": f"unix://{node.containerd_socket}",
        "clusterDNS": [layout.addresses.dns],
        "clusterDomain": layout.domain,
        "resolvConf": str(node.file("resolv.conf")),
        "healthzBindAddress": node.address,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.pods_group}",
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "podLogsDir": str(node.root / "pod-logs"),
        "volumePluginDir": str(node.root / "volume-plugins"),
        # What `devcluster load` brought is anybody's, also where the same image was pulled under another name since.
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        # A disk that is full is the developer's business; pods and images are never thrown out for it.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
    }


def kube_proxy_configuration(layout: Layout, node: Node) -> dict[str, Any]:
    """Give the proxy's configuration: nftables, and no word about the host's connection tracking."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(layout.kubeconfig("kube-proxy"))},
        "clusterCIDR": layout.addresses.pods,
        "hostnameOverride": node.name,
        "conntrack": {"maxPerCore": 0},
        "healthzBindAddress": f"{node.address}:10256",
        "metricsBindAddress": f"{node.address}:10249",
    }


def cni_configuration(node: Node) -> dict[str, Any]:
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
                    "dataDir": str(node.root / "addresses"),
                    "ranges": [[{"subnet": node.pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": True}},
        ],
    }
