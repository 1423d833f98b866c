"""Finds the addresses of Services in what the watches told, so that engines are asked without the cluster's DNS.

That spares a question for each job, and lets an operator run outside of the cluster where its addresses are reachable.

Rule: a name that is no Service of ours is the system's to resolve.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from arbiter.kubeapi.resources import SERVICES

if TYPE_CHECKING:
    from arbiter.controller.cache import Cache


class ServiceResolver(AbstractResolver):
    """Resolves names of hosts."""

    def __init__(self, cache: Cache, domain: str) -> None:
        """Know the Services of this cluster; needs a running loop.

        Args:
            cache: remembers the Services.
            domain: behind their names.
        """
        self._cache = cache
        self._suffix = f".svc.{domain}"
        self._others = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Give the addresses of a name."""
        address = self._service(host)
        if address is None:
            return await self._others.resolve(host, port, family)
        kind = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
        ]

    async def close(self) -> None:
        """Close what resolves other names."""
        await self._others.close()

    def _service(self, host: str) -> str | None:
        """The address of a Service of ours; None for what is none, or has none."""
        name, _, namespace = host.removesuffix(self._suffix).partition(".")
        if not host.endswith(self._suffix) or not namespace or "." in namespace:
            return None
        standing = self._cache.child(SERVICES.kind, (namespace, name))
        address = None if standing is None else (standing.body.get("spec") or {}).get("clusterIP")
        return address if address and address != "None" else None
