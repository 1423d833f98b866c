"""Judges a JSON value by a small part of JSON Schema, and refuses the rest of it by name.

The rule: what is accepted means what JSON Schema 2020-12 says, and costs time that grows with value and schema alone.
References, combinations (`oneOf`, `not`, `if`) and formats are left out: they can make a schema of a few lines
arbitrarily costly, or mean something else in each validator. `pattern` is searched for without backtracking.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import TYPE_CHECKING, Final

from arbiter.core.linear_pattern import Pattern, PatternError
from arbiter.core.strict_yaml import listed, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from arbiter.core.strict_yaml import Node

_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": (int, float),
    "boolean": bool,
    "null": type(None),
}
"""The types by JSON Schema's names."""

KEYWORDS: Final = (
    "type",
    "enum",
    "const",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "title",
    "description",
)
"""What is understood; `title` and `description` are for people."""

_COUNTED: Final = 1_000_000
"""The highest count that a schema may name."""

_MOST_NAMED: Final = 100
"""The most values, fields or types that one schema may list: each may be looked at for each item of an answer."""

_SHOWN: Final = 60

_LIMITS: Final[dict[str, tuple[type, Callable[[float, float], bool], str]]] = {
    "minLength": (str, ge, "is shorter than"),
    "maxLength": (str, le, "is longer than"),
    "minItems": (list, ge, "has fewer items than"),
    "maxItems": (list, le, "has more items than"),
    "minimum": (float, ge, "is below"),
    "maximum": (float, le, "is above"),
    "exclusiveMinimum": (float, gt, "is not above"),
    "exclusiveMaximum": (float, lt, "is not below"),
}
"""What is measured, what must hold between it and the limit, and what is said if it does not."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A schema, read.

    Attributes:
        types: names of the types that fit; empty if all do.
        allowed: the values that fit; `None` if all do.
        properties: schemas of the fields of an object.
        required: fields that must be there.
        others: schema of its other fields; False if there may be none, True if they may be anything.
        items: schema of each item of a list; None if they may be anything.
        limits: keywords that measure, and their limits.
        pattern: what must be found in a text.
    """

    types: tuple[str, ...] = ()
    allowed: tuple[object, ...] | None = None
    properties: tuple[tuple[str, Shape], ...] = ()
    required: tuple[str, ...] = ()
    others: Shape | bool = True
    items: Shape | None = None
    limits: tuple[tuple[str, float], ...] = ()
    pattern: Pattern | None = None

    def fault(self, value: object, path: str = "") -> str:
        """Say where and why a JSON value does not fit; empty if it does."""
        at = _shortened(path)
        if self.types and not any(_is(value, name) for name in self.types):
            return f"{at} must be {' or '.join(self.types)}"
        if self.allowed is not None and not any(_equal(value, one) for one in self.allowed):
            return f"{at} is none of the allowed values"
        if problem := self._measured(value):
            return f"{at} {problem}"
        return self._inner_fault(value, path)

    def _inner_fault(self, value: object, path: str) -> str:
        if isinstance(value, dict):
            return self._object_fault(value, path)
        if isinstance(value, list) and self.items is not None:
            faults = (self.items.fault(item, f"{path}[{index}]") for index, item in enumerate(value))
            return next((fault for fault in faults if fault), "")
        return ""

    def _measured(self, value: object) -> str:
        """What is too little or too much of it."""
        if isinstance(value, bool) or not isinstance(value, str | list | int | float):
            return ""
        kind, size = (float, value) if isinstance(value, int | float) else (type(value), len(value))
        for name, limit in self.limits:
            measures, holds, words = _LIMITS[name]
            if measures is kind and not holds(size, limit):
                return f"{words} {limit:g}"
        if isinstance(value, str) and self.pattern is not None and not self.pattern.found_in(value):
            return f"does not match the pattern {self.pattern.text}"
        return ""

    def _object_fault(self, value: Mapping[str, object], path: str) -> str:
        for name in self.required:
            if name not in value:
                return f"{_shortened(path)} lacks the field {name}"
        known = dict(self.properties)
        for name, inner in value.items():
            shape = known.get(name, self.others)
            at = f"{path}.{name}" if path else name
            if shape is False:
                return f"{_shortened(at)} is a field that may not be there"
            if isinstance(shape, Shape) and (problem := shape.fault(inner, at)):
                return problem
        return ""


def read_shape(node: Node) -> Shape:
    """Read a schema.

    Raises:
        InvalidInputError: it has another keyword, or one with another value; with line and field.
    """
    fields = node.fields(KEYWORDS)
    for name in ("title", "description"):
        if name in fields:
            fields[name].text()
    return Shape(
        types=_types(fields["type"]) if "type" in fields else (),
        allowed=_allowed(fields),
        properties=_properties(fields["properties"]) if "properties" in fields else (),
        required=_names(fields["required"]) if "required" in fields else (),
        others=_others(fields["additionalProperties"]) if "additionalProperties" in fields else True,
        items=read_shape(fields["items"]) if "items" in fields else None,
        limits=tuple((name, _limit(name, fields[name])) for name in _LIMITS if name in fields),
        pattern=read_pattern(fields["pattern"]) if "pattern" in fields else None,
    )


def read_pattern(node: Node) -> Pattern:
    """Read a regular expression; raises InvalidInputError with its line if it is none that is understood."""
    try:
        return Pattern(node.text("a regular expression"))
    except PatternError as error:
        node.place.refuse(f"is not a regular expression that is understood here: {error}")


def _types(node: Node) -> tuple[str, ...]:
    nodes = _few(node, "a list of types") if isinstance(node.value, tuple) else (node,)
    for one in nodes or (node,):
        if one.value not in _TYPES:
            one.place.refuse(f"must be one of {listed(_TYPES)}, or a list of them, not {one.kind}")
    return tuple(one.text() for one in nodes)


def _names(node: Node) -> tuple[str, ...]:
    return tuple(one.text("the name of a field") for one in _few(node, "a list of names of fields"))


def _properties(node: Node) -> tuple[tuple[str, Shape], ...]:
    if not isinstance(node.value, dict):
        node.place.refuse(f"must be a mapping of names to schemas, not {node.kind}")
    if len(node.value) > _MOST_NAMED:
        node.place.refuse(f"has {len(node.value)} fields; it may have {_MOST_NAMED}")
    return tuple((name, read_shape(inner)) for name, inner in node.value.items())


def _others(node: Node) -> Shape | bool:
    return node.value if isinstance(node.value, bool) else read_shape(node)


def _allowed(fields: Mapping[str, Node]) -> tuple[object, ...] | None:
    if "enum" in fields and "const" in fields:
        fields["const"].place.refuse("stands beside enum; keep one of the two")
    if "const" in fields:
        return (fields["const"].plain(),)
    return tuple(one.plain() for one in _few(fields["enum"], "a list of values")) if "enum" in fields else None


def _few(node: Node, what: str) -> tuple[Node, ...]:
    nodes = node.items(what)
    if len(nodes) > _MOST_NAMED:
        node.place.refuse(f"has {len(nodes)} items; it may have {_MOST_NAMED}")
    return nodes


def _limit(name: str, node: Node) -> float:
    return node.whole(0, _COUNTED) if name.endswith(("Length", "Items")) else node.number()


def _shortened(path: str) -> str:
    """A path into an answer, which may hold anything, as far as a sentence has room for it."""
    return shown(path, _SHOWN)[1:-1] or "it"


def _is(value: object, name: str) -> bool:
    if name == "integer":
        # JSON has one kind of number: 1.0 is a whole one.
        return _is(value, "number") and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _equal(one: object, other: object) -> bool:
    """Whether two JSON values are the same; to Python, true would be 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(inner, other[name]) for name, inner in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other
