"""Gives the cluster two image registries, one open and one that asks for a password, and makes every node trust them.

They answer at the first node's address, so host, nodes and pods call an image by one name. They speak plain HTTP: an
authority that every tool would have to be taught is more than a network of one machine needs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from devcluster.native.components import Component

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devcluster.native.layout import Layout

USER, PASSWORD = "devcluster", "devcluster"
"""Who the private registry lets in. No secret: it is in the README, and what it guards is thrown away."""

HASHED = "$2b$05$arbiterdevclusterABCDu8HE7zL3v4jCdiOpDKfWvizof3r9y/.."
"""The password as bcrypt (crypt(5)) at its lowest cost: the registry reads no other form, and Python makes none."""

PORTS: Mapping[str, int] = {"registry": 5000, "registry-private": 5001}
"""Where each answers, by its component's name."""


def host(layout: Layout, name: str) -> str:
    """Give what stands before the first slash of an image's name."""
    return f"{layout.first.address}:{PORTS[name]}"


def registries(layout: Layout) -> tuple[Component, ...]:
    """Give both registries as components of the first node."""
    return tuple(_component(layout, name) for name in PORTS)


def trust(layout: Layout) -> Path:
    """Give the directory from which containerd learns how to reach a registry."""
    return layout.file("registries")


def configuration_files(layout: Layout) -> Mapping[Path, str]:
    """Give the content of every configuration file, by path."""
    files = {_passwords(layout): f"{USER}:{HASHED}\n"}
    for name in PORTS:
        server = f"http://{host(layout, name)}"
        known = f'server = "{server}"\n[host."{server}"]\ncapabilities = ["pull", "resolve"]\n'
        files[layout.file(f"{name}.json")] = json.dumps(configuration(layout, name), indent=2) + "\n"
        files[trust(layout) / host(layout, name) / "hosts.toml"] = known
    return files


def configuration(layout: Layout, name: str) -> dict[str, Any]:
    """Give the configuration of one registry: what is in it may be deleted, and everything is on this disk."""
    asked = {"auth": {"htpasswd": {"realm": name, "path": str(_passwords(layout))}}}
    return {
        "version": "0.1",
        "log": {"level": "info", "fields": {"service": name}},
        "storage": {
            "filesystem": {"rootdirectory": str(layout.state / name)},
            "delete": {"enabled": True},
        },
        "http": {"addr": host(layout, name)},
        **(asked if name == "registry-private" else {}),
    }


def manifests(layout: Layout) -> list[dict[str, Any]]:
    """Give what tells tools where to push (KEP-1755): they look for this ConfigMap and nothing else."""
    where = host(layout, "registry")
    keys = ("host", "hostFromClusterNetwork", "hostFromContainerRuntime")
    told = "".join(f"{key}: {json.dumps(where)}\n" for key in keys)
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "local-registry-hosting", "namespace": "kube-public"},
            "data": {"localRegistryHosting.v1": told},
        }
    ]


def _component(layout: Layout, name: str) -> Component:
    """Give one registry; it is up when it answers at its root, for which nobody is asked who they are."""
    return Component(
        name,
        layout.first,
        "registry",
        ("serve", str(layout.file(f"{name}.json"))),
        f"http://{host(layout, name)}/",
        environment={"OTEL_TRACES_EXPORTER": "none"},  # else it looks for a collector, again and again
    )


def _passwords(layout: Layout) -> Path:
    """Give the file of those who are let in."""
    return layout.file("registry.htpasswd")
