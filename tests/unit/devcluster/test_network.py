"""Networks: whose addresses are refused, and which way packets go from a node."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from devcluster.native.layout import Addresses
from devcluster.native.network import addressed, first_taken, routes_to_pods
from devcluster.nodes import MOST_NODES
from tests.unit.devcluster.example import LAYOUT

LOOPBACK = {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]}
DEFAULT = {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"}


@pytest.mark.parametrize(
    ("addresses", "routes", "want"),
    [
        pytest.param([LOOPBACK], [DEFAULT], None, id="a machine without other networks"),
        pytest.param(
            [LOOPBACK, {"ifname": "eth1", "addr_info": [{"local": "10.89.0.7", "prefixlen": 24}]}],
            [],
            "the cluster needs 10.89.0.0/24, but 10.89.0.7/24 is in use on eth1; remove that address or route",
            id="an address in the network of the link",
        ),
        pytest.param(
            [LOOPBACK],
            [DEFAULT, {"dst": "10.0.0.0/8", "dev": "tun0"}],
            "the cluster needs 10.89.0.0/24, but 10.0.0.0/8 is in use on tun0; remove that address or route",
            id="a private network that holds all of ours",
        ),
        pytest.param(
            [LOOPBACK],
            [{"dst": "10.244.3.0/24", "dev": "flannel.1"}],
            "the cluster needs 10.244.0.0/16, but 10.244.3.0/24 is in use on flannel.1; remove that address or route",
            id="another cluster's pods",
        ),
        pytest.param(
            [LOOPBACK],
            [{"type": "blackhole", "dst": "10.96.0.1"}],
            "the cluster needs 10.96.0.0/16, but 10.96.0.1 is in use on a route; remove that address or route",
            id="a route without a link",
        ),
    ],
)
def test_a_network_that_somebody_else_uses_is_named(
    addresses: list[dict[str, Any]], routes: list[dict[str, Any]], want: str | None
) -> None:
    """One line says what is taken, by what, and what to do."""
    assert first_taken(Addresses(), addresses, routes) == want


@pytest.mark.parametrize("number", [1, 2, MOST_NODES])
def test_a_node_reaches_the_pods_of_every_other_node_and_keeps_its_own(number: int) -> None:
    """Also of those that do not exist yet, so that no node has to hear of a new one."""
    node = LAYOUT.node(number)

    routes = {line.split()[2]: line.split()[4] for line in routes_to_pods(LAYOUT, node)}

    others = [other for other in LAYOUT.nodes(MOST_NODES) if other != node]
    assert routes == {other.pods: other.address for other in others}


def test_a_pod_that_no_node_has_is_not_looked_for_outside() -> None:
    """Else its packets would go to the host and come back, until they are too old."""
    commands = addressed(LAYOUT, LAYOUT.first, "nodes")

    assert "route add unreachable 10.244.0.0/16" in commands
    assert "address add 10.89.0.2/24 dev nodes" in commands
    assert "route add default via 10.89.0.1" in commands


def test_the_ranges_of_all_nodes_pods_are_apart_and_within_the_clusters() -> None:
    """kube-proxy takes the cluster's range for that of all pods."""
    ranges = [ipaddress.ip_network(node.pods) for node in LAYOUT.nodes(MOST_NODES)]

    every = ipaddress.ip_network(LAYOUT.addresses.pods)
    assert all(isinstance(one, type(every)) and one.subnet_of(every) for one in ranges)  # type: ignore[arg-type]  # both are of version 4
    assert not any(one.overlaps(other) for one in ranges for other in ranges if one is not other)
