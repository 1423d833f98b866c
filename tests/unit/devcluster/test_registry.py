"""The registries as values: one open, one with a password, both trusted by every node."""

from __future__ import annotations

import json
import re
import tomllib

import pytest

from devcluster import registry
from tests.unit.devcluster.example import LAYOUT


@pytest.mark.parametrize(
    ("name", "host"),
    [
        pytest.param("registry", "10.89.0.2:5000", id="the open one"),
        pytest.param("registry-private", "10.89.0.2:5001", id="the private one"),
    ],
)
def test_a_registry_answers_where_every_node_looks_for_it(name: str, host: str) -> None:
    """Containerd takes the directory's name for the host that an image's name begins with."""
    files = registry.configuration_files(LAYOUT)
    settings = json.loads(files[LAYOUT.file(f"{name}.json")])
    trust = tomllib.loads(files[LAYOUT.file("registries") / host / "hosts.toml"])

    assert registry.host(LAYOUT, name) == host
    assert settings["http"] == {"addr": host}
    assert trust["server"] == f"http://{host}"
    assert trust["host"] == {f"http://{host}": {"capabilities": ["pull", "resolve"]}}


def test_a_registry_keeps_everything_under_the_state_directory_and_lets_it_be_deleted() -> None:
    """`down` removes it, and a test of what happens without an image can take it away."""
    kept = [registry.configuration(LAYOUT, name)["storage"] for name in registry.PORTS]

    kept_in = [storage["filesystem"]["rootdirectory"] for storage in kept]
    assert kept_in == ["/state/registry", "/state/registry-private"]
    assert all(storage["delete"] == {"enabled": True} for storage in kept)


def test_only_the_private_registry_asks_who_comes() -> None:
    """It reads the file of those who are let in, which holds a hash and no password."""
    opened, private = (registry.configuration(LAYOUT, name) for name in registry.PORTS)
    passwords = registry.configuration_files(LAYOUT)[LAYOUT.file("registry.htpasswd")]

    assert "auth" not in opened
    assert private["auth"]["htpasswd"]["path"] == "/state/etc/registry.htpasswd"
    assert re.fullmatch(r"devcluster:\$2b\$05\$[./A-Za-z0-9]{53}\n", passwords)


def test_a_registry_is_started_with_its_file_and_is_asked_at_its_root() -> None:
    """At its root nobody is asked who they are, so both say whether they are up."""
    opened, private = registry.registries(LAYOUT)

    assert opened.arguments == ("serve", "/state/etc/registry.json")
    assert (opened.program, private.program) == ("registry", "registry")
    assert (opened.health, private.health) == ("http://10.89.0.2:5000/", "http://10.89.0.2:5001/")
    assert opened.environment == {"OTEL_TRACES_EXPORTER": "none"}


def test_tools_are_told_where_to_push() -> None:
    """The ConfigMap, its key and the fields are those of KEP-1755."""
    (told,) = registry.manifests(LAYOUT)

    assert (told["metadata"]["namespace"], told["metadata"]["name"]) == ("kube-public", "local-registry-hosting")
    lines = told["data"]["localRegistryHosting.v1"].splitlines()
    assert lines[0] == 'host: "10.89.0.2:5000"'
    assert [line.partition(":")[0] for line in lines] == ["host", "hostFromClusterNetwork", "hostFromContainerRuntime"]
