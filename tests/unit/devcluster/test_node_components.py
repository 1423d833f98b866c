"""The components of a node as values: what they are told, and that it is the node's own."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from devcluster.native.node_components import cni_configuration, configuration_files, node_components
from tests.unit.devcluster.example import LAYOUT

FIRST, SECOND = LAYOUT.nodes(2)


def configuration(name: str) -> dict[str, Any]:
    """Read a JSON configuration file of the first node."""
    content: dict[str, Any] = json.loads(configuration_files(LAYOUT, FIRST)[FIRST.file(name)])
    return content


def test_components_start_in_the_order_of_their_needs() -> None:
    """A runtime before its kubelet."""
    assert [found.program for found in node_components(SECOND)] == ["containerd", "kubelet", "kube-proxy"]
    assert [found.name for found in node_components(FIRST)] == ["containerd", "kubelet", "kube-proxy"]
    assert [found.name for found in node_components(SECOND)] == [
        "containerd@node-2",
        "kubelet@node-2",
        "kube-proxy@node-2",
    ]


def test_everything_that_a_component_is_told_is_its_nodes_own() -> None:
    """A kubelet that is shown another's pod logs removes them as orphans."""
    arguments = [flag for found in node_components(SECOND) for flag in found.arguments]
    told = "\n".join([*arguments, *(found.health for found in node_components(SECOND))])
    files = configuration_files(LAYOUT, SECOND)

    assert "node-1" not in told + "\n".join(files.values()) + "\n".join(map(str, files))
    assert "10.89.0.2:10" not in told + "\n".join(files.values())
    assert all(path.is_relative_to(SECOND.root) for path in files)


@pytest.mark.parametrize(
    ("program", "want"),
    [
        pytest.param("kubelet", "--node-ip=10.89.0.3", id="the kubelet is reached at the node's address"),
        pytest.param("kubelet", "--hostname-override=node-2", id="the node has our name, not the machine's"),
        pytest.param("kubelet", "--kubeconfig=/state/node-2/etc/kubelet.conf", id="the kubelet is this node"),
        pytest.param("kube-proxy", "--config=/state/node-2/etc/kube-proxy.json", id="the proxy reads its file"),
        pytest.param("containerd", "--config=/state/node-2/etc/containerd.toml", id="containerd reads its file"),
    ],
)
def test_command_lines_hold_what_the_node_depends_on(program: str, want: str) -> None:
    """Each is the node's own."""
    assert want in next(found for found in node_components(SECOND) if found.program == program).arguments


def test_every_component_tells_its_health_at_the_nodes_address() -> None:
    """The host asks; containerd has a socket instead."""
    runtime, *others = [found.health for found in node_components(SECOND)]

    assert runtime == "unix:///state/node-2/containerd.sock"
    assert {health.split("//")[1].split(":")[0] for health in others} == {"10.89.0.3"}


def test_the_kubelet_runs_on_a_machine_with_old_control_groups_and_a_full_disk() -> None:
    """Version 1 is tolerated, pods stay in our own control group, and nothing is evicted for the developer's disk."""
    kubelet = configuration("kubelet.json")

    assert kubelet["failCgroupV1"] is False
    assert kubelet["cgroupRoot"] == "/arbiter-devcluster/node-1/pods"
    assert kubelet["cgroupDriver"] == "cgroupfs"
    assert kubelet["enforceNodeAllocatable"] == []
    assert set(kubelet["evictionHard"].values()) == {"0%"}
    assert kubelet["imageGCHighThresholdPercent"] == 100


def test_the_kubelet_answers_nobody_without_a_name() -> None:
    """Who asks it for logs or exec is authenticated and authorised, as in production."""
    kubelet = configuration("kubelet.json")

    assert kubelet["authentication"]["anonymous"]["enabled"] is False
    assert kubelet["authentication"]["x509"]["clientCAFile"] == "/state/pki/ca.crt"
    assert kubelet["authorization"] == {"mode": "Webhook"}


def test_pods_ask_the_clusters_dns_and_no_other() -> None:
    """The host's name servers are out of reach from the node."""
    kubelet = configuration("kubelet.json")

    assert kubelet["clusterDNS"] == ["10.96.0.10"]
    assert "nameserver " not in configuration_files(LAYOUT, FIRST)[Path(kubelet["resolvConf"])]


def test_the_proxy_uses_nftables_and_leaves_connection_tracking_alone() -> None:
    """The size of the tracking table belongs to the whole machine."""
    proxy = configuration("kube-proxy.json")

    assert proxy["mode"] == "nftables"
    assert proxy["conntrack"] == {"maxPerCore": 0}
    assert proxy["clusterCIDR"] == "10.244.0.0/16"


def test_containerd_keeps_to_its_own_directories() -> None:
    """The configuration is TOML, of the third form, and no path in it is shared with another containerd."""
    toml = tomllib.loads(configuration_files(LAYOUT, FIRST)[FIRST.file("containerd.toml")])
    plugins = toml["plugins"]
    images, runtime = plugins["io.containerd.cri.v1.images"], plugins["io.containerd.cri.v1.runtime"]

    assert toml["version"] == 3
    assert {toml["root"], toml["state"]} == {"/state/node-1/containerd", "/state/node-1/run/containerd"}
    assert toml["grpc"]["address"] == "/state/node-1/containerd.sock"
    assert plugins["io.containerd.internal.v1.opt"]["path"] == "/state/node-1/opt"
    assert images["pinned_images"] == {"sandbox": "devcluster.local/pause:1"}
    assert images["registry"] == {"config_path": "/state/etc/registries"}
    assert runtime["restrict_oom_score_adj"] is True
    assert runtime["cni"] == {"bin_dirs": ["/programs/cni"], "conf_dir": "/state/node-1/cni"}
    runc = runtime["containerd"]["runtimes"]["runc"]["options"]
    assert (runc["BinaryName"], runc["Root"]) == ("/programs/bin/runc", "/state/node-1/run/runc")


def test_pods_get_addresses_of_their_node_and_are_not_masqueraded() -> None:
    """They are routed to the host and to the other nodes, and no further."""
    bridge = cni_configuration(SECOND)["plugins"][0]

    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}]]
    assert "ipMasq" not in bridge
