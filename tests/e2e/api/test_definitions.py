"""Our definitions on a live API server: installed, served by all their names, and explained field by field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from arbiter.api import crd
from arbiter.api.meta import GROUP, VERSION
from devcluster.waiting import wait_until
from tests.contract.manifests import GOOD, KINDS, patched
from tests.e2e.running import ROOT, Cluster, said

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.api.client import Api

pytestmark = pytest.mark.cluster

DEFINITIONS = crd.definitions()
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OPENAPI = f"/openapi/v3/apis/{GROUP}/{VERSION}"

VERBS = {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

PUBLISHED_WITHIN = 30.0
"""Seconds until the API server has rebuilt its OpenAPI document; it does so in the background, in about one."""

EVERY = 25
"""`kubectl explain` is run for every 25th field: each run costs a process, and all fields would take a minute."""


def schema_of(plural: str) -> dict[str, Any]:
    """Give the schema of a kind as our code says it."""
    schema: dict[str, Any] = DEFINITIONS[plural]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def described(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Give every field below a schema with what is said about it."""
    inner = schema.get("items", schema)
    for name, child in inner.get("properties", {}).items():
        yield f"{path}{name}", child.get("description", "")
        yield from described(child, f"{path}{name}.")


def ours(schema: dict[str, Any]) -> dict[str, str]:
    """Give what is said about the fields that are ours: what lies in spec and status."""
    parts = {name: schema["properties"][name] for name in ("spec", "status")}
    return dict(described({"properties": parts}))


EXPLAINED = {
    f"{plural}.{path}": words for plural in DEFINITIONS for path, words in sorted(ours(schema_of(plural)).items())
}


@pytest.fixture(scope="module")
def published(api: Api) -> dict[str, dict[str, Any]]:
    """Give the schema of each kind as the API server publishes it, by its plural."""
    said_of_kind: dict[str, dict[str, Any]] = {}

    def is_there() -> bool:
        schemas = api.request("GET", OPENAPI).body.get("components", {}).get("schemas", {})
        found = {name.rpartition(".")[2]: schema for name, schema in schemas.items() if name.startswith("dev.arbiter.")}
        said_of_kind.update({KINDS[kind].names.plural: schema for kind, schema in found.items() if kind in KINDS})
        return set(said_of_kind) == set(DEFINITIONS)

    assert wait_until(is_there, PUBLISHED_WITHIN)
    return said_of_kind


def test_definitions_install_as_the_readme_says(installed: str) -> None:
    """One command installs all of them, and the API server serves each."""
    for definition in DEFINITIONS.values():
        name = definition["metadata"]["name"]
        assert f"customresourcedefinition.apiextensions.k8s.io/{name} serverside-applied" in installed
        assert f"customresourcedefinition.apiextensions.k8s.io/{name} condition met" in installed


@pytest.mark.usefixtures("installed")
def test_installing_a_second_time_changes_nothing(cluster: Cluster, api: Api) -> None:
    """An upgrade that brings the same definitions disturbs nobody who watches them."""

    def versions() -> dict[str, str]:
        items = api.request("GET", CRDS).taken()["items"]
        return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in items}

    before = versions()
    said(cluster.kubectl("apply", "--server-side", f"--filename={ROOT / 'crds'}"))

    assert versions() == before


@pytest.mark.parametrize("plural", DEFINITIONS)
def test_definition_is_kept_as_it_was_written(api: Api, plural: str) -> None:
    """The API server takes every word of the schema; one that it dropped would promise what nobody holds."""
    stored = api.request("GET", f"{CRDS}/{plural}.{GROUP}").taken()

    assert stored["spec"]["versions"] == DEFINITIONS[plural]["spec"]["versions"]
    assert stored["status"]["storedVersions"] == [VERSION]
    conditions = {condition["type"]: condition["status"] for condition in stored["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


@pytest.mark.parametrize("kind", KINDS)
def test_kind_is_found_by_its_names(api: Api, kind: str) -> None:
    """Clients discover the kind with its short name and category, namespaced, with every verb and its subresources."""
    names = KINDS[kind].names
    served = {each["name"]: each for each in api.request("GET", f"/apis/{GROUP}/{VERSION}").taken()["resources"]}
    found = served[names.plural]

    assert found["kind"] == kind
    assert found["singularName"] == kind.lower()
    assert found["shortNames"] == list(names.short)
    assert found["categories"] == ["arbiter"]
    assert found["namespaced"]
    assert set(found["verbs"]) == VERBS
    subresources = {name.partition("/")[2]: served[name]["kind"] for name in served if f"{names.plural}/" in name}
    assert subresources == {"status": kind} | ({"scale": "Scale"} if kind == "ModelPool" else {})


def test_kubectl_gets_all_kinds_by_short_names_and_by_category(
    cluster: Cluster, api: Api, name: str, tmp_path: Path
) -> None:
    """`kubectl get arbiter` shows everything, and nobody has to type a plural."""
    for manifest in GOOD.values():
        api.create(patched(manifest, {"metadata": {"name": name, "labels": {"shown": "by-name"}}})).taken()
    want = sorted(f"{kind.lower()}.{GROUP}/{name}" for kind in KINDS)

    for asked in ("arbiter", ",".join(short for kind in KINDS.values() for short in kind.names.short)):
        where = (f"--namespace={api.namespace}", "--selector=shown=by-name", f"--cache-dir={tmp_path}")
        assert sorted(said(cluster.kubectl("get", asked, *where, "--output=name")).split()) == want


@pytest.mark.parametrize("plural", DEFINITIONS)
def test_every_field_is_explained_by_the_server(published: dict[str, dict[str, Any]], plural: str) -> None:
    """What `kubectl explain` and editors read has a sentence for every field, the one that our code says."""
    served = published[plural]

    assert ours(served) == ours(schema_of(plural))
    assert [path for path, words in ours(served).items() if not words.endswith(".")] == []
    assert served["description"] == schema_of(plural)["description"]
    assert all(served["properties"][name]["description"] for name in ("apiVersion", "kind", "metadata"))


@pytest.mark.parametrize("plural", DEFINITIONS)
@pytest.mark.usefixtures("published")
def test_kubectl_explains_the_whole_tree(cluster: Cluster, plural: str) -> None:
    """`kubectl explain --recursive` shows every field at its place."""
    place: list[str] = []
    shown = set()
    for line in (
        said(cluster.kubectl("explain", f"{plural}.{GROUP}", "--recursive")).partition("FIELDS:")[2].split("\n")
    ):
        field, tab, _ = line.partition("\t")
        if tab:
            place[(len(field) - len(field.lstrip())) // 2 - 1 :] = [field.strip()]
            shown.add(".".join(place))

    assert {path for path in shown if path.split(".")[0] in ("spec", "status")} == set(ours(schema_of(plural)))


@pytest.mark.parametrize("path", list(EXPLAINED)[::EVERY])
@pytest.mark.usefixtures("published")
def test_kubectl_explains_a_field(cluster: Cluster, path: str) -> None:
    """The command that the documentation names prints the sentence."""
    shown = " ".join(said(cluster.kubectl("explain", path)).split())

    assert f"FIELD: {path.rpartition('.')[2]} " in shown
    assert " ".join(EXPLAINED[path].split()) in shown
