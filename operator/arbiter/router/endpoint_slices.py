"""Where a Service's pods answer: from its EndpointSlices to base addresses.

Only pods that are ready and not about to end; an endpoint that does not say is ready, as the API defines it. A Service
of two address families lists each pod in both, and then IPv4 alone is taken, or each pod would count twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PORT = "http"
"""The name of the port to use, where a Service has several."""


def ready_urls(slices: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The base addresses of a Service's pods that take requests, each once, in a steady order."""
    found: dict[str, set[str]] = {"IPv4": set(), "IPv6": set()}
    for each in slices:
        if (port := _port(each.get("ports") or ())) and (urls := found.get(each.get("addressType", ""))) is not None:
            urls.update(f"http://{host}:{port}" for host in _hosts(each.get("endpoints") or ()))
    return tuple(sorted(found["IPv4"] or found["IPv6"]))


def _hosts(endpoints: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for endpoint in endpoints:
        conditions = endpoint.get("conditions") or {}
        if conditions.get("ready") is not False and not conditions.get("terminating"):
            # All addresses of an endpoint are the same pod.
            address = endpoint["addresses"][0]
            yield f"[{address}]" if ":" in address else address


def _port(ports: Iterable[Mapping[str, Any]]) -> int | None:
    """The port to use; a slice without one says nothing about where to connect."""
    tcp = [each for each in ports if each.get("protocol", "TCP") == "TCP" and each.get("port")]
    chosen = next((each for each in tcp if each.get("name") == PORT), tcp[0] if tcp else {})
    return chosen.get("port")
