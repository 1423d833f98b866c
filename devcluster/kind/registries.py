"""Gives a kind cluster its two registries: containers on kind's network, which every node is told how to reach.

As kind's guide to local registries has it: host and nodes call a registry `localhost` with its port, and the nodes are
told that this is its container. Pods call it by the name of that container.
"""

from __future__ import annotations

import json
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

from devcluster import registry
from devcluster.errors import DevclusterError
from devcluster.kind.parts import NETWORK, registry_container

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = "docker.io/library/registry:3"
"""The program that is built for native clusters, as its makers publish it."""

_INSIDE = 5000
"""Where a registry listens in its container."""

_PASSWORDS = "/etc/registry.htpasswd"
"""Where its container has the file of those who are let in."""

TRUST = 'mkdir -p "$1" && cat >"$1/hosts.toml"'
"""Run in a node: writes down how containerd reaches a registry; it reads it at the next pull."""


def passwords() -> str:
    """Give the file of those whom the private registry lets in."""
    return f"{registry.USER}:{registry.HASHED}\n"


def run_command(name: str, passwords_file: Path) -> tuple[str, ...]:
    """Give the engine's command that starts a registry."""
    private = (
        *("--volume", f"{passwords_file}:{_PASSWORDS}:ro,Z"),
        *("--env", "REGISTRY_AUTH=htpasswd"),
        *("--env", f"REGISTRY_AUTH_HTPASSWD_REALM={name}"),
        *("--env", f"REGISTRY_AUTH_HTPASSWD_PATH={_PASSWORDS}"),
    )
    return (
        *("run", "--detach", "--name", registry_container(name), "--network", NETWORK),
        *("--publish", f"127.0.0.1:{registry.PORTS[name]}:{_INSIDE}"),
        *("--env", "REGISTRY_STORAGE_DELETE_ENABLED=true", "--env", "OTEL_TRACES_EXPORTER=none"),
        *(private if name == "registry-private" else ()),
        IMAGE,
    )


def trust(name: str) -> tuple[str, str]:
    """Give the directory in which containerd looks for a registry, and the file that is to be in it."""
    server = f"http://{registry_container(name)}:{_INSIDE}"
    known = f'server = "{server}"\n[host."{server}"]\ncapabilities = ["pull", "resolve"]\n'
    return f"/etc/containerd/certs.d/{_host(name)}", known


def manifest() -> dict[str, Any]:
    """Give what tells tools where to push (KEP-1755)."""
    told = {
        "host": _host("registry"),
        "hostFromContainerRuntime": _host("registry"),
        "hostFromClusterNetwork": f"{registry_container('registry')}:{_INSIDE}",
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "local-registry-hosting", "namespace": "kube-public"},
        "data": {"localRegistryHosting.v1": "".join(f"{key}: {json.dumps(value)}\n" for key, value in told.items())},
    }


def refuse_taken() -> None:
    """Raise where a port that a registry is to be published at is in use: the engine would say so at the very end."""
    for name, port in registry.PORTS.items():
        with closing(socket.socket()) as asked:
            asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                asked.bind(("127.0.0.1", port))
            except OSError:
                raise DevclusterError(
                    f"port {port} of this machine is in use, and the cluster's {name} needs it; "
                    f"find out by whom: ss --listening --tcp --processes 'sport = {port}'"
                ) from None


def _host(name: str) -> str:
    """Give what stands before the first slash of an image's name."""
    return f"localhost:{registry.PORTS[name]}"
