"""Joins the node's network namespace to the host, and nothing further.

One pair of virtual interfaces, and on the host one route each for Services and pods; all of it goes with the link. The
host is not asked to forward or to masquerade anything, so the cluster reaches the host and nobody else. Addresses that
somebody else uses are refused.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devcluster.commands import run
from devcluster.errors import DevclusterError
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from devcluster.layout import Addresses, Layout

_LINK_GONE_S = 10.0
"""How long a link may take to go, in seconds: the kernel clears a network namespace in its own time."""


def refuse_taken(layout: Layout) -> None:
    """Raise where a link, an address or a route of this machine is in the way."""
    addresses = json.loads(run("ip", "-json", "-4", "addr"))
    routes = json.loads(run("ip", "-json", "-4", "route", "show", "table", "all"))
    if any(link["ifname"] == layout.link for link in json.loads(run("ip", "-json", "link"))):
        raise DevclusterError(f"a link named {layout.link} exists already; remove it: ip link delete {layout.link}")
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


def connect(layout: Layout, pid: int) -> None:
    """Join the network namespace of process `pid` to the host."""
    ours = layout.addresses
    if not Path("/proc/sys/net/bridge").exists():
        raise DevclusterError("the kernel does not filter bridged traffic; load its module: modprobe br_netfilter")
    _batch(
        f"link add {layout.link} type veth peer name eth0 netns {pid}",
        f"address add {ours.host}/{ours.prefix} dev {layout.link}",
        f"link set {layout.link} up",
    )
    _batch(
        "link set lo up",
        f"address add {ours.node}/{ours.prefix} dev eth0",
        "link set eth0 up",
        f"route add default via {ours.host}",
        within=pid,
    )
    _batch(f"route add {ours.services} via {ours.node}", f"route add {ours.pods} via {ours.node}")
    for setting in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        run("nsenter", "--target", str(pid), "--net", "sh", "-c", f"echo 1 >/proc/sys/{setting}")


def disconnect(link: str) -> None:
    """Remove a link of ours, and with it its addresses and routes."""

    def is_gone() -> bool:
        return not Path("/sys/class/net", link).exists()

    if not is_gone():
        try:
            run("ip", "link", "delete", link)
        except DevclusterError:
            if not wait_until(is_gone, _LINK_GONE_S):  # it went with its namespace between our look and our command
                raise


def _batch(*lines: str, within: int | None = None) -> None:
    """Run `ip` commands in one go, in a process's network namespace where one is named."""
    entering = () if within is None else ("nsenter", "--target", str(within), "--net")
    run(*entering, "ip", "-batch", "-", stdin="".join(f"{line}\n" for line in lines))
