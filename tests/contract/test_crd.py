"""What the API server, and clients that read schemas, say about our definitions themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from kubernetes.client import V1JSONSchemaProps

from arbiter.api import crd
from arbiter.cli import crds as command
from tests.contract.judge import Judge

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DEFINITIONS = crd.definitions()

CLIENT_SIDE_APPLY_LIMIT = 262_144
"""Bytes of annotations that an object may hold; client-side apply keeps the whole manifest in one."""


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Give every schema below this one, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from walk(schema[key], f"{path}[]")


def schema_of(plural: str) -> dict[str, Any]:
    """Give the schema of a kind."""
    schema: dict[str, Any] = DEFINITIONS[plural]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


FIELDS = {
    f"{plural}{path}": schema
    for plural in DEFINITIONS
    for path, schema in walk(schema_of(plural))
    if path and path != ".metadata"
}
LISTS = {path: schema for path, schema in FIELDS.items() if schema.get("type") == "array"}


@pytest.mark.parametrize("plural", DEFINITIONS)
def test_api_server_accepts_the_definition(plural: str) -> None:
    """The schema is structural, its rules compile, and their cost stays well within the API server's budget."""
    with Judge() as judge:
        registration = judge.inspect(DEFINITIONS[plural])

    assert registration.errors == ()
    assert registration.warnings == ()
    assert [cost for cost in registration.costs if cost.cost > cost.limit // 2] == []


@pytest.mark.parametrize("plural", DEFINITIONS)
def test_python_client_accepts_the_schema(plural: str) -> None:
    """The client's own model of a schema, which refuses unknown words, takes it whole."""

    def typed(schema: dict[str, Any]) -> V1JSONSchemaProps:
        words = {python_name(key): value for key, value in schema.items()}
        if "properties" in words:
            words["properties"] = {name: typed(child) for name, child in words["properties"].items()}
        for key in {"items", "additional_properties"} & words.keys():
            typed(words[key])  # the client holds these as plain objects, so they are tried on their own
        return V1JSONSchemaProps(**words)

    assert typed(schema_of(plural)).type == "object"


def python_name(key: str) -> str:
    """Give the name that the client gives to a word of a schema."""
    names = {field.alias or name: name for name, field in V1JSONSchemaProps.model_fields.items()}
    return names.get(key) or key.replace("-", "_")


@pytest.mark.parametrize("plural", DEFINITIONS)
def test_golden_definition_is_what_is_generated(plural: str) -> None:
    """The committed file is the golden copy: a change of the kinds shows in a review as a change of it."""
    assert yaml.safe_load((ROOT / "crds" / f"{plural}.yaml").read_text()) == DEFINITIONS[plural]


def test_every_generated_file_is_in_sync() -> None:
    """Definitions, the chart's copies and the reference say what the code says."""
    assert command.drifted(ROOT, command.generated()) == []


@pytest.mark.parametrize("plural", DEFINITIONS)
def test_chart_installs_the_same_definition(plural: str) -> None:
    """Between its conditions, the template is the definition, marked as the chart's and kept on uninstall."""
    template = (ROOT / "charts" / "arbiter" / "templates" / "crds" / f"{plural}.yaml").read_text()
    plain = "\n".join(line for line in template.splitlines() if not line.lstrip().startswith("{{-"))
    installed = yaml.safe_load(plain)

    assert installed["metadata"].pop("annotations") == {
        "arbiter.dev/owner": "chart",
        "helm.sh/resource-policy": "keep",
    }
    assert installed == DEFINITIONS[plural]


@pytest.mark.parametrize("schema", FIELDS.values(), ids=FIELDS)
def test_field_is_explained(schema: dict[str, Any]) -> None:
    """`kubectl explain` has a sentence for every field, and so has every item that is an object."""
    if schema.get("type") == "object" and "properties" not in schema:
        return
    described = schema.get("description", "")
    assert described == "" or described.endswith(".")
    for name, child in schema.get("properties", {}).items():
        assert child.get("description", "").endswith("."), name


@pytest.mark.parametrize("schema", FIELDS.values(), ids=FIELDS)
def test_field_is_bounded(schema: dict[str, Any]) -> None:
    """No list, map or string grows without limit: an object has to fit into etcd, and rules have to end."""
    match schema.get("type"):
        case "array":
            assert "maxItems" in schema
        case "object" if "additionalProperties" in schema:
            assert "maxProperties" in schema
        case "string":
            assert {"maxLength", "enum", "format"} & schema.keys()
        case _:
            pass


@pytest.mark.parametrize("schema", LISTS.values(), ids=LISTS)
def test_list_says_how_it_is_merged(schema: dict[str, Any]) -> None:
    """Two owners of one list know whether they share it; the keys of its items are required."""
    assert schema["x-kubernetes-list-type"] in ("atomic", "set", "map")
    for key in schema.get("x-kubernetes-list-map-keys", []):
        assert key in schema["items"]["required"]


def test_definitions_fit_into_client_side_apply() -> None:
    """`kubectl apply` without --server-side works too."""
    for definition in DEFINITIONS.values():
        assert len(crd.to_yaml(definition).encode()) < CLIENT_SIDE_APPLY_LIMIT


def test_every_kind_is_known_to_kubectl_by_its_promised_names() -> None:
    """Short names and the category are part of what users type."""
    names = {name: definition["spec"]["names"] for name, definition in DEFINITIONS.items()}

    assert {name: spec["shortNames"] for name, spec in names.items()} == {
        "localmodels": ["lm"],
        "modelpools": ["lmpool"],
        "swappolicies": ["swappolicy"],
        "modelswaps": ["mswap"],
        "taskprofiles": ["tprofile"],
    }
    assert all(spec["categories"] == ["arbiter"] for spec in names.values())


def test_only_pools_are_scaled() -> None:
    """`kubectl scale` and autoscalers see the engine replicas of a pool."""
    subresources = {name: made["spec"]["versions"][0]["subresources"] for name, made in DEFINITIONS.items()}

    assert all("status" in each for each in subresources.values())
    assert {name for name, each in subresources.items() if "scale" in each} == {"modelpools"}
