"""The base of the kinds: frozen values, unknown fields, and the marks that end up in schemas."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, ClassVar

import pytest
from pydantic import ValidationError

from arbiter.api.meta import (
    LIST_SET,
    Condition,
    ConditionStatus,
    ObjectMeta,
    Part,
    Rule,
    immutable_except,
    list_map,
)
from arbiter.errors import ArbiterError, CorruptStateError, InvalidInputError


class Inner(Part):
    """A value with a rule."""

    low: int
    high: int = 9

    rules: ClassVar = (Rule("self.low <= self.high", "low must not exceed high", ".low"),)


class Outer(Part):
    """A value around it."""

    inner_value: Annotated[Inner, Rule("has(self.low)", "low is needed")]
    names: Annotated[tuple[str, ...], LIST_SET] = ()
    parts: Annotated[tuple[Inner, ...], list_map("low", "high")] = ()


def test_rules_and_marks_reach_the_schema() -> None:
    """A rule of a class and a rule of a field both stand where the API server looks for them."""
    schema = Outer.model_json_schema()

    assert schema["$defs"]["Inner"]["x-kubernetes-validations"] == [
        {"rule": "self.low <= self.high", "message": "low must not exceed high", "fieldPath": ".low"}
    ]
    assert schema["properties"]["innerValue"]["x-kubernetes-validations"] == [
        {"rule": "has(self.low)", "message": "low is needed"}
    ]
    assert schema["properties"]["names"]["x-kubernetes-list-type"] == "set"
    assert schema["properties"]["parts"]["x-kubernetes-list-type"] == "map"
    assert schema["properties"]["parts"]["x-kubernetes-list-map-keys"] == ["low", "high"]


def test_unknown_fields_are_dropped_unless_they_are_to_be_refused() -> None:
    """A newer definition does not stop an older process; a linter can still refuse a misspelt field."""
    assert Inner.model_validate({"low": 1, "new": True}) == Inner(low=1)
    with pytest.raises(ValidationError, match="new"):
        Inner.model_validate({"low": 1, "new": True}, extra="forbid")


def test_values_are_frozen() -> None:
    """What one room hands to another cannot change on the way."""
    inner = Inner(low=1)
    with pytest.raises(ValidationError, match="frozen"):
        inner.__setattr__("low", 2)


def test_values_are_written_as_kubernetes_writes_them() -> None:
    """CamelCase names, and no nulls: an applied null would take the field away from its owner."""

    class Optional(Part):
        some_name: str | None = None
        other_name: int = 3

    assert Optional().to_dict() == {"otherName": 3}


def test_immutability_is_said_field_by_field() -> None:
    """A required field is compared, an optional one may not come or go either."""
    assert immutable_except(Inner, "nothing") == (
        Rule("self.low == oldSelf.low", "low is immutable: make a new object instead", ".low"),
        Rule(
            "has(self.high) == has(oldSelf.high) && (!has(self.high) || self.high == oldSelf.high)",
            "high is immutable: make a new object instead",
            ".high",
        ),
    )
    assert [rule.field_path for rule in immutable_except(Inner, "low")] == [".high"]


def test_metadata_is_read_as_the_api_server_writes_it() -> None:
    """Only what is read is kept; what is absent has a value that means absent."""
    meta = ObjectMeta.model_validate(
        {
            "name": "assistant",
            "namespace": "team",
            "resourceVersion": "17",
            "managedFields": [],
            "creationTimestamp": "2026-11-21T08:00:00Z",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": True}],
        }
    )

    assert meta.resource_version == "17"
    assert meta.creation_timestamp == datetime(2026, 11, 21, 8, tzinfo=UTC)
    assert meta.deletion_timestamp is None
    assert meta.owner_references[0].controller
    assert (meta.uid, meta.generation, meta.labels, meta.annotations) == ("", 0, {}, {})


def test_condition_needs_a_time_with_a_zone() -> None:
    """A time without its zone would mean another moment on another machine."""
    good = {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }

    assert Condition.model_validate(good).status is ConditionStatus.TRUE
    with pytest.raises(ValidationError, match="timezone"):
        Condition.model_validate({**good, "lastTransitionTime": "2026-01-01T00:00:00"})


def test_errors_name_the_field_and_stay_apart() -> None:
    """A user's mistake and a damaged state are told apart by type, and the field is kept on its own."""
    error = InvalidInputError("spec.windows[0].cron", "must be five fields")

    assert str(error) == "spec.windows[0].cron: must be five fields"
    assert (error.field, error.problem) == ("spec.windows[0].cron", "must be five fields")
    assert isinstance(error, ArbiterError)
    assert issubclass(CorruptStateError, ArbiterError)
    assert not issubclass(CorruptStateError, InvalidInputError)
