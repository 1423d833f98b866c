"""Gives containers that ask sources the further authorities that an organisation has for its own servers.

The rule: they come from one ConfigMap of the workload's namespace, under the key that trust-manager and Kubernetes
itself use. Where it is missing the pod starts all the same, and a server that is not trusted is told of by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from arbiter.engines.runnable import Fields

KEY: Final = "ca.crt"
"""The ConfigMap's key with the certificates, as PEM."""

_FOLDER: Final = "/trust"
_VOLUME: Final = "trust"


def trust_volume(config_map: str) -> Fields:
    """Build the pod's volume of the authorities."""
    items = [{"key": KEY, "path": KEY}]
    return {"name": _VOLUME, "configMap": {"name": config_map, "items": items, "optional": True}}


def trust_mount() -> Fields:
    """Build a container's mount of the authorities."""
    return {"name": _VOLUME, "mountPath": _FOLDER, "readOnly": True}


def trust_variable() -> Fields:
    """Build the variable by which OpenSSL reads them, beside those of the image."""
    return {"name": "SSL_CERT_FILE", "value": f"{_FOLDER}/{KEY}"}
