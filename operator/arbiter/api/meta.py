"""What the five kinds share: their base classes, metadata, conditions, and the marks for their schemas.

A mark is a value in `Annotated[...]` or in a class's `rules`; it travels with the field into the CRD. A rule that
crosses fields is said once, as CEL with a sentence for the person whose manifest breaks it, and the API server is
its only judge: nothing is checked a second time in Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

GROUP = "arbiter.dev"
VERSION = "v1alpha1"

NAME_LIMIT = 40
"""Longest name of one of our objects, in characters: children append up to 23, and a DNS label holds 63."""

VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule with the sentence that its violation prints.

    Attributes:
        cel: the expression; `self` is the value that the rule is attached to.
        message: what would be right, as a sentence. The API server puts the field's path before it.
        field_path: a child of the value that the error should point at, such as `.source`.
    """

    cel: str
    message: str
    field_path: str | None = None

    def to_schema(self) -> dict[str, Any]:
        """Give the entry of `x-kubernetes-validations`."""
        entry: dict[str, Any] = {"rule": self.cel, "message": self.message}
        if self.field_path:
            entry["fieldPath"] = self.field_path
        return entry

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the rule to the schema of the value that it annotates."""
        schema = handler(core)
        return {**schema, VALIDATIONS: [*schema.get(VALIDATIONS, []), self.to_schema()]}


@dataclass(frozen=True, slots=True)
class Mark:
    """A Kubernetes schema extension or bound that pydantic has no word for.

    Attributes:
        entries: what is added to the schema of the annotated value.
    """

    entries: tuple[tuple[str, Any], ...]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the entries to the schema of the value that it annotates."""
        return {**handler(core), **dict(self.entries)}


def list_map(*keys: str) -> Mark:
    """Mark a list whose items are told apart by `keys`: server-side apply merges it item by item."""
    return Mark((("x-kubernetes-list-type", "map"), ("x-kubernetes-list-map-keys", list(keys))))


LIST_SET = Mark((("x-kubernetes-list-type", "set"),))
"""A list without repeats whose order means nothing: server-side apply merges it value by value."""

LIST_ATOMIC = Mark((("x-kubernetes-list-type", "atomic"),))
"""A list whose order means something: server-side apply replaces it whole."""


class Part(BaseModel):
    """A value inside one of the kinds.

    Unknown fields are dropped on the way in, because a CRD may be newer than the process that reads it; whoever
    wants them refused (a linter, a test) validates with `extra="forbid"`, as the API server does for clients.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="ignore",
        frozen=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
        validate_by_alias=True,
        validate_by_name=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
    """What must hold between the fields of this value."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the rules of the class to its schema."""
        schema = handler.resolve_ref_schema(handler(core))
        if cls.rules:
            schema[VALIDATIONS] = [rule.to_schema() for rule in cls.rules]
        return schema

    def to_dict(self) -> dict[str, Any]:
        """Give the value as Kubernetes writes it: camelCase, absent fields left out."""
        return self.model_dump(mode="json", exclude_none=True)


ObjectName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=NAME_LIMIT),
    Rule(
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        f"must be the name of an object: lower-case letters, digits and '-', at most {NAME_LIMIT} characters",
    ),
]
"""The name of one of our objects in the same namespace."""

ReferenceName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253),
    Rule(
        "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
        "must be the name of an object in this namespace: lower-case letters, digits, '-' and '.'",
    ),
]
"""The name of an object of Kubernetes' own kinds (Secret, ConfigMap, PersistentVolumeClaim) in the namespace."""

Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""

Percent = Annotated[int, Field(ge=0, le=100)]
"""Whole percent of new requests."""

Text = Annotated[str, StringConstraints(max_length=1024)]
"""A sentence for people."""

Label = Annotated[str, StringConstraints(min_length=1, max_length=63)]
"""A short word that people choose, such as a family or a version."""


class ConditionStatus(StrEnum):
    """Whether a condition holds; `Unknown` says that it has not been found out yet."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Part):
    """One aspect of an object's state, as Kubernetes' own `metav1.Condition`."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=316)]
    """What the condition is about, such as `Ready`."""

    status: ConditionStatus
    """Whether it holds."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """The `metadata.generation` that this was found for."""

    last_transition_time: AwareDatetime
    """When `status` last changed (RFC 3339)."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    """The reason code, in CamelCase."""

    message: Annotated[str, StringConstraints(max_length=32768)]
    """The reason as a sentence that says what a person can do."""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=32), list_map("type")]
"""Conditions, one of each type."""


class OwnerReference(Part):
    """The object that this one goes away with."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False


class ObjectMeta(Part):
    """What Arbiter reads of an object's metadata. It is never written back."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: tuple[OwnerReference, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column of `kubectl get`.

    Attributes:
        name: the header.
        path: JSONPath of a single value.
        type: `string`, `integer`, `date` …
        description: what the column tells.
        wide: shown with `-o wide` only.
    """

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Names:
    """How the API server and kubectl call a kind, and what they show of it.

    Attributes:
        plural: the name in URLs.
        short: abbreviations for kubectl.
        columns: printer columns, in order; the age is added behind them.
        selectable: JSONPaths usable in `--field-selector`.
        scale: paths of spec replicas, status replicas and label selector, where the kind can be scaled.
    """

    plural: str
    short: tuple[str, ...]
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()
    scale: tuple[str, str, str] | None = None


class Resource(Part):
    """One of our kinds as it stands in the cluster; its class is named as the kind is."""

    names: ClassVar[Names]
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.metadata.name.size() <= {NAME_LIMIT}",
            f"metadata.name must be at most {NAME_LIMIT} characters, because the names of what Arbiter makes for "
            "this object are longer",
        ),
    )

    metadata: ObjectMeta


def immutable_except(part: type[Part], *mutable: str) -> tuple[Rule, ...]:
    """Make the rules that freeze every field of `part` once the object exists, but for those in `mutable`.

    One rule a field, so that the error names the field that was touched.
    """
    rules = []
    for name, field in part.model_fields.items():
        if name in mutable:
            continue
        alias = field.alias or name
        same = f"self.{alias} == oldSelf.{alias}"
        if not field.is_required():
            same = f"has(self.{alias}) == has(oldSelf.{alias}) && (!has(self.{alias}) || {same})"
        rules.append(Rule(same, f"{alias} is immutable: make a new object instead", f".{alias}"))
    return tuple(rules)
