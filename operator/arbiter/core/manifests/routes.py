"""Renders the ConfigMap that tells a pool's routers what to do.

Rule: its one key holds the table as text, to the byte as `RouteTable.to_text` writes it: routers compare hashes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from arbiter.core.manifests import names

if TYPE_CHECKING:
    from arbiter.api.modelpool import ModelPool
    from arbiter.core.routes import RouteTable

ROUTES_KEY: Final = "routes.json"
"""The key that routers follow."""


def routes_config_map(pool: ModelPool, table: RouteTable) -> dict[str, Any]:
    """Give the table in its ConfigMap."""
    name = pool.metadata.name
    owner = names.owner_of("ModelPool", pool.metadata)
    data = {ROUTES_KEY: table.to_text()}
    return names.manifest("ConfigMap", names.routes_name(name), owner, names.router_selector(name), data=data)
