"""Joins the nodes' network namespaces to each other and to the host, and nothing further.

A bridge in the first node's namespace is the network of the nodes: on it are the host, by one pair of virtual
interfaces, and each further node. Pods are routed to by their node's address. What is on the host goes with its link,
what is in a node goes with its namespace. The host is not asked to forward or to masquerade anything, so the cluster
reaches the host and nobody else. Addresses that somebody else uses are refused.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devcluster import nodes
from devcluster.commands import run
from devcluster.errors import DevclusterError
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from devcluster.native.layout import Addresses, Layout, Node

_BRIDGE = "nodes"
"""The bridge in the first node's namespace. It has the node's address, which a port of it could not have."""

_LINK_GONE_S = 10.0
"""How long a link may take to go, in seconds: the kernel clears a network namespace in its own time."""


def refuse_taken(layout: Layout) -> None:
    """Raise where a link, an address or a route of this machine is in the way."""
    addresses = json.loads(run("ip", "-json", "-4", "addr"))
    routes = json.loads(run("ip", "-json", "-4", "route", "show", "table", "all"))
    link = layout.first.link
    if link in _links():
        raise DevclusterError(f"a link named {link} exists already; remove it: ip link delete {link}")
    taken = first_taken(layout.addresses, addresses, routes)
    if taken:
        raise DevclusterError(taken)


def first_taken(
    ours: Addresses, addresses: Sequence[Mapping[str, Any]], routes: Sequence[Mapping[str, Any]]
) -> str | None:
    """Say which of our networks somebody else uses, from what `ip -json` prints; None where all are free."""
    networks = [ipaddress.ip_network(text) for text in (ours.link, ours.services, ours.pods)]
    for text, device in (*_addresses(addresses), *_routes(routes)):
        other = ipaddress.ip_network(text, strict=False)
        for network in networks:
            if network.overlaps(other):
                return f"the cluster needs {network}, but {text} is in use on {device}; remove that address or route"
    return None


def _addresses(links: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Give every address with its network and its link."""
    return [(f"{info['local']}/{info['prefixlen']}", link["ifname"]) for link in links for info in link["addr_info"]]


def _routes(routes: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Give every route but the default one, with its link."""
    return [(route["dst"], route.get("dev", "a route")) for route in routes if route["dst"] != "default"]


def connect_first(layout: Layout, pid: int) -> None:
    """Join the first node, which is in the network namespace of process `pid`, to the host."""
    host, node = layout.addresses.host, layout.first
    if not Path("/proc/sys/net/bridge").exists():
        raise DevclusterError("the kernel does not filter bridged traffic; load its module: modprobe br_netfilter")
    _set_up(pid)
    _batch(
        f"link add {node.link} type veth peer name eth0 netns {pid}",
        f"address add {host}/{layout.addresses.prefix} dev {node.link}",
        f"link set {node.link} up",
    )
    _batch(
        "link set lo up",
        f"link add {_BRIDGE} address {node.hardware_address} type bridge",
        f"link set eth0 master {_BRIDGE} up",
        *addressed(layout, node, _BRIDGE),
        within=pid,
    )
    _batch(
        f"route add {layout.addresses.services} via {node.address}",
        f"route add {layout.addresses.pods} via {node.address}",
        *routes_to_pods(layout, node),
    )


def connect_further(layout: Layout, node: Node, first: int, pid: int) -> None:
    """Join a further node, in the namespace of process `pid`, to the first one, in that of process `first`."""
    _set_up(pid)
    _batch(
        f"link add {node.link} type veth peer name eth0 address {node.hardware_address} netns {pid}",
        f"link set {node.link} master {_BRIDGE} up",
        within=first,
    )
    _batch("link set lo up", *addressed(layout, node, "eth0"), within=pid)


def _set_up(pid: int) -> None:
    """Let a node forward and let Services reach bridged pods; nobody is told of a shorter way past a Service."""
    settings = {
        "ipv4/ip_forward": 1,
        "ipv4/conf/all/send_redirects": 0,
        "ipv4/conf/default/send_redirects": 0,
        "bridge/bridge-nf-call-iptables": 1,
    }
    script = "\n".join(f"echo {value} >/proc/sys/net/{name} || exit 1" for name, value in settings.items())
    run(*_within(pid), "sh", "-c", script)


def addressed(layout: Layout, node: Node, device: str) -> tuple[str, ...]:
    """Give the commands that give a node its address and its routes. A pod that no node has is nowhere else."""
    return (
        f"address add {node.address}/{layout.addresses.prefix} dev {device}",
        f"link set {device} up",
        f"route add default via {layout.addresses.host}",
        f"route add unreachable {layout.addresses.pods}",
        *routes_to_pods(layout, node),
    )


def routes_to_pods(layout: Layout, node: Node) -> tuple[str, ...]:
    """Give the routes to the pods of all other nodes that there may be, so that none is changed when one comes."""
    others = (other for other in layout.nodes(nodes.MOST_NODES) if other != node)
    return tuple(f"route add {other.pods} via {other.address}" for other in others)


def disconnect(link: str, within: int | None = None) -> None:
    """Remove a link of ours on the host, or in a process's namespace, and with it its addresses and routes."""

    def is_gone() -> bool:
        return link not in _links(within)

    if not is_gone():
        try:
            run(*_within(within), "ip", "link", "delete", link)
        except DevclusterError:
            if not wait_until(is_gone, _LINK_GONE_S):  # it went with its namespace between our look and our command
                raise


def _batch(*lines: str, within: int | None = None) -> None:
    """Run `ip` commands in one go, in a process's network namespace where one is named."""
    run(*_within(within), "ip", "-batch", "-", stdin="".join(f"{line}\n" for line in lines))


def _links(within: int | None = None) -> set[str]:
    """Name the links of the host, or of a process's network namespace."""
    return {link["ifname"] for link in json.loads(run(*_within(within), "ip", "-json", "link"))}


def _within(pid: int | None) -> tuple[str, ...]:
    """Give what stands before a command that is run in a process's network namespace, where one is named."""
    return () if pid is None else ("nsenter", "--target", str(pid), "--net")
