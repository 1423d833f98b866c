"""Where everything is: no two nodes share anything, and names fit where the kernel wants them."""

from __future__ import annotations

from pathlib import Path

import pytest

from devcluster.native.layout import MASKED, Layout
from devcluster.nodes import MOST_NODES
from tests.unit.devcluster.example import LAYOUT

NODES = LAYOUT.nodes(MOST_NODES)


@pytest.mark.parametrize(
    "part",
    [
        "name",
        "root",
        "address",
        "pods",
        "configuration",
        "cni",
        "volumes",
        "volatile",
        "containerd_socket",
        "kubeconfig",
        "group",
        "pods_group",
        "link",
        "hardware_address",
    ],
)
def test_no_two_nodes_share(part: str) -> None:
    """Two kubelets that share a directory or an address undo each other's work."""
    assert len({getattr(node, part) for node in NODES}) == MOST_NODES


def test_addresses_follow_the_hosts() -> None:
    """They are the same on every machine, so that people may write them down."""
    assert [node.address for node in NODES[:2]] == ["10.89.0.2", "10.89.0.3"]
    assert [node.pods for node in NODES[:2]] == ["10.244.0.0/24", "10.244.1.0/24"]
    assert LAYOUT.addresses.link == "10.89.0.0/24"
    assert LAYOUT.server == "https://10.89.0.2:6443"


def test_a_hardware_address_is_one_that_nobody_sells_and_follows_from_the_ip_address() -> None:
    """Bit 1 of its first byte marks it as our own choice, bit 0 would make it a group's (IEEE 802)."""
    assert [node.hardware_address for node in NODES[:2]] == ["02:00:0a:59:00:02", "02:00:0a:59:00:03"]


def test_components_of_the_first_node_keep_their_programs_names() -> None:
    """With one node, nobody has to think of nodes."""
    assert [node.component("kubelet") for node in NODES[:2]] == ["kubelet", "kubelet@node-2"]


def test_every_masked_directory_is_the_nodes_own() -> None:
    """Another runtime of the machine is not disturbed, and neither is another node."""
    for node in NODES:
        assert set(node.masks) == {Path(masked) for masked in MASKED}
        assert all(own.is_relative_to(node.root) for own in node.masks.values())


def test_every_link_has_a_name_that_the_kernel_takes() -> None:
    """IFNAMSIZ is 16 with the final zero."""
    assert max(len(node.link) for node in NODES) <= 15


def test_our_programs_come_before_the_systems() -> None:
    """Debian's runc is too old, and containerd takes the first that it finds."""
    assert LAYOUT.path == "/programs/bin:/programs/cni:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.mark.parametrize(
    ("length", "want"), [pytest.param(60, False, id="short enough"), pytest.param(90, True, id="too long")]
)
def test_a_state_directory_too_long_for_sockets_is_noticed(length: int, want: bool) -> None:
    """The kernel's own message would name neither the path nor the limit."""
    assert Layout(Path("/" + "s" * length), {}).socket_is_too_long() is want
