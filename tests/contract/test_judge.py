"""The judge itself: it says what an API server says, so that other tests may rely on it."""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.contract.judge import Judge, JudgeError, build

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["label"],
            "properties": {
                "label": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 20},
                "litres": {"type": "integer", "minimum": 1, "default": 2},
                "colour": {"type": "string", "enum": ["red", "blue"]},
                "owner": {
                    "type": "string",
                    "maxLength": 20,
                    "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "owner is immutable"}],
                },
                "cups": {
                    "type": "array",
                    "default": [],
                    "maxItems": 8,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string", "maxLength": 20}},
                    },
                },
            },
            "x-kubernetes-validations": [
                {
                    "rule": "self.litres <= 5 || size(self.cups) > 1",
                    "message": "a kettle above 5 litres needs two cups",
                }
            ],
        },
        "status": {"type": "object", "properties": {"boiled": {"type": "integer", "minimum": 0}}},
    },
}


def definition(spec: Mapping[str, object] | None = None, *, scope: str = "Namespaced") -> dict[str, Any]:
    """Builds the definition of a kettle, with some keywords of its spec's schema replaced."""
    schema = copy.deepcopy(SCHEMA)
    schema["properties"]["spec"] |= spec or {}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "kettles.example.com"},
        "spec": {
            "group": "example.com",
            "scope": scope,
            "names": {"plural": "kettles", "kind": "Kettle"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def kettle(name: str = "copper", **spec: object) -> dict[str, Any]:
    """Builds a kettle."""
    return {
        "apiVersion": "example.com/v1",
        "kind": "Kettle",
        "metadata": {"name": name},
        "spec": {"label": "tea"} | spec,
    }


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """A judge that serves kettles."""
    with Judge() as judge:
        assert judge.register(definition()) == []
        yield judge


def test_a_good_object_is_allowed_and_defaulted(judge: Judge) -> None:
    """A valid object is allowed, and comes back with its defaults."""
    verdict = judge.review(kettle())
    assert verdict.allowed
    assert verdict.errors == ()
    assert verdict.object == {
        "apiVersion": "example.com/v1",
        "kind": "Kettle",
        "metadata": {"name": "copper", "namespace": "default", "generation": 1},
        "spec": {"label": "tea", "litres": 2, "cups": []},
    }


@pytest.mark.parametrize(
    ("obj", "want_message"),
    [
        pytest.param(kettle(lid=True), 'strict decoding error: unknown field "spec.lid"', id="an unknown field"),
        pytest.param(
            kettle() | {"metadata": {"name": "copper", "lid": 1}},
            'strict decoding error: unknown field "metadata.lid"',
            id="an unknown field of metadata",
        ),
        pytest.param(
            kettle(label="Tea"),
            "spec.label: Invalid value: \"Tea\": spec.label in body should match '^[a-z]+$'",
            id="a string outside its pattern",
        ),
        pytest.param(
            kettle(colour="green"),
            'spec.colour: Unsupported value: "green": supported values: "red", "blue"',
            id="a word outside its enum",
        ),
        pytest.param(
            kettle(litres=0),
            "spec.litres: Invalid value: 0: spec.litres in body should be greater than or equal to 1",
            id="a number below its minimum",
        ),
        pytest.param(
            kettle(litres="two"),
            'spec.litres: Invalid value: "string": spec.litres in body must be of type integer: "string"',
            id="a string for a number",
        ),
        pytest.param(
            kettle(litres=6),
            "spec: Invalid value: a kettle above 5 litres needs two cups",
            id="a broken rule",
        ),
        pytest.param(
            kettle(cups=[{"name": "a"}, {"name": "a"}]),
            'spec.cups[1]: Duplicate value: {"name":"a"}',
            id="two entries of a map list with one key",
        ),
        pytest.param(
            kettle() | {"kind": "Pot"},
            'no matches for kind "Pot" in version "example.com/v1"',
            id="a kind that is not served",
        ),
    ],
)
def test_a_bad_object_is_refused(judge: Judge, obj: dict[str, Any], want_message: str) -> None:
    """An invalid object is refused in the words of the API server."""
    verdict = judge.review(obj)
    assert not verdict.allowed
    assert want_message in [error.message for error in verdict.errors]


def test_a_name_must_be_a_dns_subdomain(judge: Judge) -> None:
    """Metadata is validated like the schema is, and an error names its field and type."""
    verdict = judge.review(kettle(name="Copper_Kettle"))
    assert [(error.field, error.type) for error in verdict.errors] == [("metadata.name", "FieldValueInvalid")]


def test_an_immutable_field_cannot_change(judge: Judge) -> None:
    """A transition rule refuses a changed value, and lets an unchanged one pass."""
    verdict = judge.review(kettle(owner="ann"), old=kettle(owner="bob"))
    assert [error.message for error in verdict.errors] == ['spec.owner: Invalid value: "ann": owner is immutable']
    assert verdict.errors[0].detail == "owner is immutable"
    assert judge.review(kettle(owner="bob", litres=3), old=kettle(owner="bob")).allowed


def test_a_stored_bad_value_may_stay(judge: Judge) -> None:
    """An update is not refused for a bad value that it leaves as it was, but for every new one."""
    assert judge.review(kettle(label="Tea", litres=3), old=kettle(label="Tea")).allowed
    assert not judge.review(kettle(label="Mate"), old=kettle(label="Tea")).allowed


def test_an_update_counts_generations(judge: Judge) -> None:
    """A changed spec raises the generation, a changed label does not."""
    old = judge.review(kettle()).object
    assert judge.review(kettle(litres=3), old=old).object["metadata"]["generation"] == 2
    labelled = kettle() | {"metadata": {"name": "copper", "namespace": "default", "labels": {"a": "b"}}}
    assert judge.review(labelled, old=old).object["metadata"]["generation"] == 1


def test_a_status_is_only_written_through_its_subresource(judge: Judge) -> None:
    """A create drops the status, an update of the status drops all else, and the schema holds for it too."""
    boiled = kettle(litres=4) | {"status": {"boiled": 3}}
    assert "status" not in judge.review(boiled).object
    verdict = judge.review(boiled, old=kettle(), status=True)
    assert verdict.object["status"] == {"boiled": 3}
    assert verdict.object["spec"]["litres"] == 2
    wrong = kettle() | {"status": {"boiled": -1}}
    assert [error.field for error in judge.review(wrong, old=kettle(), status=True).errors] == ["status.boiled"]


@pytest.mark.parametrize(
    ("crd", "want_field", "want_detail"),
    [
        pytest.param(
            definition({"properties": {"label": {"maxLength": 20}}}),
            "spec.validation.openAPIV3Schema.properties[spec].properties[label].type",
            "must not be empty for specified object fields",
            id="a schema that is not structural",
        ),
        pytest.param(
            definition(
                {
                    "properties": {"tags": {"type": "array", "items": {"type": "string"}}},
                    "required": [],
                    "x-kubernetes-validations": [{"rule": "self.tags.all(a, self.tags.exists(b, a != b))"}],
                }
            ),
            "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule",
            "estimated rule cost exceeds budget by factor of more than 100x",
            id="a rule without bounds that costs too much",
        ),
        pytest.param(
            definition({"x-kubernetes-validations": [{"rule": "self.lid"}]}),
            "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule",
            "undefined field 'lid'",
            id="a rule that does not compile",
        ),
        pytest.param(
            definition({"default": {"label": 1}}),
            "spec.validation.openAPIV3Schema.properties[spec].default.label",
            'must be of type string: "integer"',
            id="a default that is not valid",
        ),
        pytest.param(
            definition({"minimun": 1}),
            "spec.versions[0].schema.openAPIV3Schema.properties.spec.minimun",
            "unknown field",
            id="a misspelt keyword",
        ),
        pytest.param(definition(scope="Galaxy"), "spec.scope", "supported values", id="a scope that does not exist"),
    ],
)
def test_a_bad_definition_is_refused(judge: Judge, crd: dict[str, Any], want_field: str, want_detail: str) -> None:
    """A definition that no API server accepts is refused, and the one registered before is still served."""
    found = [error for error in judge.register(crd) if error.field == want_field]
    assert any(want_detail in error.detail for error in found), judge.register(crd)
    assert judge.review(kettle()).allowed


def test_costs_show_the_headroom_of_every_rule(judge: Judge) -> None:
    """Each rule's estimated cost is told beside its limit, and their sum beside the limit of the schema."""
    costs = judge.inspect(definition()).costs
    assert [cost.rule for cost in costs] == [
        "self.litres <= 5 || size(self.cups) > 1",
        "self == oldSelf",
        "",
    ]
    assert [cost.limit for cost in costs] == [10_000_000, 10_000_000, 100_000_000]
    assert all(0 < cost.cost < cost.limit for cost in costs)
    assert costs[-1].cost == costs[0].cost + costs[1].cost


def test_a_request_that_cannot_be_read_is_told_apart(judge: Judge) -> None:
    """What is no object at all is our mistake, not a verdict, and the judge goes on."""
    with pytest.raises(JudgeError, match="old cannot have been stored"):
        judge.review(kettle(), old=kettle() | {"metadata": "copper"})
    assert judge.review(kettle()).allowed


def test_a_closed_judge_says_so() -> None:
    """After its end a judge raises, and ending it again is harmless."""
    with Judge() as judge:
        pass
    judge.close()
    with pytest.raises(JudgeError, match="closed"):
        judge.review(kettle())


def test_without_go_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is skipped when the compiler is missing: one line tells what to install."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JudgeError, match=r"no `go` on PATH: install Go 1\.26") as caught:
        build()
    assert "\n" not in str(caught.value)


def test_the_program_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in the cache is used without a compiler."""
    built = build()
    monkeypatch.setenv("PATH", "")
    assert build() == built
