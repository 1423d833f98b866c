"""The part of JSON Schema that checks understand."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from arbiter.core.json_shape import Shape, read_shape
from arbiter.core.strict_yaml import read_yaml
from arbiter.errors import InvalidInputError

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from([0.5, 1.0, 2.0]) | st.text("ab1", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
TYPES = st.sampled_from(["object", "array", "string", "number", "integer", "boolean", "null"])
SCHEMAS: st.SearchStrategy[dict[str, Any]] = st.deferred(
    lambda: (
        st.fixed_dictionaries(
            {},
            optional={
                "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
                "properties": st.dictionaries(NAMES, SCHEMAS, max_size=2),
                "required": st.lists(NAMES, max_size=2, unique=True),
                "additionalProperties": st.booleans() | SCHEMAS,
                "items": SCHEMAS,
                "minItems": st.integers(0, 2),
                "maxItems": st.integers(0, 3),
                "minLength": st.integers(0, 2),
                "maxLength": st.integers(0, 3),
                "pattern": st.sampled_from(["^a", "b$", "[ab]1"]),
                "minimum": st.integers(-1, 2),
                "maximum": st.integers(-1, 2),
                "exclusiveMinimum": st.integers(-1, 2),
                "exclusiveMaximum": st.integers(-1, 2),
            },
        )
        | st.builds(lambda value: {"const": value}, VALUES)
        | st.builds(lambda values: {"enum": values}, st.lists(VALUES, min_size=1, max_size=3))
    )
)


def shape(schema: object) -> Shape:
    """Read a schema as it would stand in a file."""
    return read_shape(read_yaml(json.dumps(schema), "checks.yaml", 100_000))


@given(SCHEMAS, VALUES)
def test_what_is_understood_means_what_json_schema_says(schema: dict[str, Any], value: object) -> None:
    """A well-kept validator agrees on every value."""
    want = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (shape(schema).fault(value) == "") is want


@pytest.mark.parametrize(
    ("schema", "value", "want"),
    [
        ({"type": "object"}, [], "it must be object"),
        ({"type": ["string", "null"]}, 1, "it must be string or null"),
        ({"required": ["city"]}, {}, "it lacks the field city"),
        ({"properties": {"a": {"items": {"type": "string"}}}}, {"a": ["x", 1]}, "a[1] must be string"),
        ({"additionalProperties": False}, {"zip": 1}, "zip is a field that may not be there"),
        ({"enum": ["a"]}, "b", "it is none of the allowed values"),
        ({"const": 1}, True, "it is none of the allowed values"),
        ({"minimum": 3}, 2, "it is below 3"),
        ({"exclusiveMaximum": 3}, 3, "it is not below 3"),
        ({"maxItems": 0}, [1], "it has more items than 0"),
        ({"minLength": 2}, "a", "it is shorter than 2"),
        ({"pattern": "^a"}, "b", "it does not match the pattern ^a"),
    ],
)
def test_a_fault_says_where_and_why(schema: object, value: object, want: str) -> None:
    """A person sees what the model got wrong."""
    assert shape(schema).fault(value) == want


def test_a_fault_tells_little_of_what_a_model_wrote() -> None:
    """Names in an answer may hold anything, of any length."""
    fault = shape({"additionalProperties": False}).fault({"\n" + "x" * 5000: 1})
    assert len(fault) < 120
    assert fault.isprintable()


@pytest.mark.parametrize(
    ("schema", "want"),
    [
        ("{$ref: '#/a'}", "line 1, $ref: is not a field"),
        ("{oneOf: []}", "oneOf: is not a field"),
        ("{format: email}", "format: is not a field"),
        ("{type: text}", "type: must be one of object, array"),
        ("{type: []}", "type: must be one of object, array"),
        ("{type: [string, x]}", "type[1]: must be one of"),
        ("{enum: 3}", "enum: must be a list of values, not the number 3"),
        ("{enum: [1], const: 1}", "const: stands beside enum"),
        ("{required: [1]}", "required[0]: must be the name of a field, not the number 1; in quotes"),
        ("{properties: []}", "properties: must be a mapping of names to schemas, not a list"),
        ("{properties: {a: []}}", "properties.a: must be a mapping with the fields type, enum"),
        ("{additionalProperties: none}", "additionalProperties: must be a mapping"),
        ("{items: true}", "items: must be a mapping"),
        ("{minItems: -1}", "minItems: must be a whole number from 0 to 1000000, not -1"),
        ("{minLength: 1.5}", "minLength: must be a whole number"),
        ("{minimum: '1'}", "minimum: must be a number, not the text '1'"),
        (
            "{pattern: '(?=a)'}",
            "pattern: is not a regular expression that is understood here: near character 3: lookahead",
        ),
        ("{title: 3}", "title: must be text"),
        ("{enum: " + str(list(range(101))) + "}", "enum: has 101 items; it may have 100"),
        (yaml.safe_dump({"properties": {f"p{i}": {} for i in range(101)}}), "properties: has 101 fields"),
    ],
)
def test_the_rest_of_json_schema_is_refused_by_name(schema: str, want: str) -> None:
    """A keyword that was passed over would let wrong answers through."""
    with pytest.raises(InvalidInputError) as caught:
        read_shape(read_yaml(schema, "checks.yaml", 100_000))
    assert want in str(caught.value)
