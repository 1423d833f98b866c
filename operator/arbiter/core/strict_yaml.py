"""Reads YAML that a person wrote, strictly, and remembers the line of every value.

The rule: only what JSON can say, in YAML's comfortable form. Anchors, aliases, tags, doubled keys, several documents
and words that YAML 1.1 takes for something else (`yes`, `1:30`, `0x10`, dates) are refused, each with its line. The
parser's events are taken one by one and the first wrong one ends the reading: a text that is nested without end, or
that repeats itself by aliases, costs no more than its beginning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Final, NoReturn

import yaml

from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where PyYAML was built with it: twenty times as fast."""

DEEPEST: Final = 24
"""The most lists and mappings inside one another. libyaml takes minutes for 200 KB of opening brackets."""

_LONGEST_NUMBER: Final = 40
"""The most characters of a number: Python takes the square of the length to read a whole number."""

_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<broken>\.[0-9]+)?(?P<power>[eE][-+]?[0-9]+)?")
"""JSON's numbers."""

_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What YAML 1.1 does not allow anywhere in a text."""

_IMPLIED: Final = yaml.SafeLoader.yaml_implicit_resolvers
"""By first letter, the forms that YAML 1.1 takes for something else than text."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands.

    Attributes:
        source: what is read, such as `checks.yaml`.
        line: its line, from 1.
        path: the field, such as `checks[2].expect.regex`; empty for the whole.
    """

    source: str
    line: int
    path: str = ""

    def refuse(self, problem: str) -> NoReturn:
        """Raise InvalidInputError with line, field and this sentence."""
        raise InvalidInputError(f"{self.source} line {self.line}{self.path and f', {self.path}'}", problem)


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands.

    Attributes:
        value: text, number, truth value or None; a mapping of names to nodes; a tuple of nodes.
        place: where it begins.
    """

    value: str | float | bool | Mapping[str, Node] | tuple[Node, ...] | None
    place: Place

    def plain(self) -> object:
        """The value as JSON has it, without lines."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        return self.value

    def fields(self, known: Collection[str]) -> dict[str, Node]:
        """The fields of a mapping; raises InvalidInputError if it is none, or has another field than these."""
        if not isinstance(self.value, dict):
            self.place.refuse(f"must be a mapping with the fields {listed(known)}, not {self.kind}")
        for name, node in self.value.items():
            if name not in known:
                node.place.refuse(f"is not a field; there are {listed(known)}")
        return dict(self.value)

    def items(self, what: str) -> tuple[Node, ...]:
        """The items of a list; raises InvalidInputError if it is none."""
        return self.value if isinstance(self.value, tuple) else self.place.refuse(f"must be {what}, not {self.kind}")

    def text(self, what: str = "text") -> str:
        """The value as text; raises InvalidInputError if it is none."""
        hint = "" if isinstance(self.value, dict | tuple) else "; in quotes it would be text"
        return (
            self.value if isinstance(self.value, str) else self.place.refuse(f"must be {what}, not {self.kind}{hint}")
        )

    def number(self, what: str = "a number") -> float:
        """The value as a number; raises InvalidInputError if it is none."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            return self.place.refuse(f"must be {what}, not {self.kind}")
        return value

    def whole(self, least: int, most: int) -> int:
        """The value as a whole number in this range; raises InvalidInputError if it is none."""
        value = self.number(what := f"a whole number from {least} to {most}")
        if isinstance(value, int) and least <= value <= most:
            return value
        return self.place.refuse(f"must be {what}, not {value}")

    def flag(self) -> bool:
        """The value as true or false; raises InvalidInputError if it is neither."""
        return (
            self.value if isinstance(self.value, bool) else self.place.refuse(f"must be true or false, not {self.kind}")
        )

    @property
    def kind(self) -> str:
        """What the value is, in words."""
        value = self.value
        if value is None:
            return "nothing"
        if isinstance(value, bool):
            return "a truth value"
        if isinstance(value, str):
            return f"the text {shown(value)}"
        if isinstance(value, int | float):
            return f"the number {value}"
        return "a mapping" if isinstance(value, dict) else "a list"


def read_yaml(text: str, source: str, largest: int) -> Node:
    """Read one YAML document.

    Args:
        text: the document.
        source: its name in messages.
        largest: the most bytes that it may have.

    Raises:
        InvalidInputError: it is larger, or not the YAML described above; it names the line.
    """
    if unprintable := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, unprintable.start()) + 1
        Place(source, line).refuse(f"the character {unprintable[0]!a} is not allowed; use text in UTF-8")
    if (size := len(text.encode())) > largest:
        Place(source, 1).refuse(f"has {size} bytes; it may have {largest}")
    reader = _Reader(source, yaml.parse(text, Loader=_LOADER))
    try:
        return reader.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        Place(source, mark.line + 1 if mark else 1).refuse(f"is not YAML: {error.problem or error.context}")
    except yaml.YAMLError as error:
        Place(source, 1).refuse(f"is not YAML: {shown(str(error))}")


def listed(names: Collection[str]) -> str:
    """Names in the order given, as a person lists them."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def shown(text: str, most: int = 60) -> str:
    """The beginning of a text, on one line and in quotes."""
    line = "".join(letter if letter.isprintable() else " " for letter in text[: most + 1])
    return f"'{line}'" if len(text) <= most else f"'{line[: most - 1]}…'"


class _Reader:
    """Makes nodes of a parser's events."""

    def __init__(self, source: str, events: Iterator[yaml.Event]) -> None:
        self._source = source
        self._events = events

    def document(self) -> Node:
        next(self._events)
        begun = next(self._events)
        if isinstance(begun, yaml.StreamEndEvent):
            Place(self._source, 1).refuse("is empty")
        node = self._node(next(self._events), "", 0)
        next(self._events)
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._place(after, "").refuse("must be one document; remove the line --- and what follows")
        return node

    def _place(self, event: yaml.Event, path: str) -> Place:
        mark = event.start_mark
        return Place(self._source, mark.line + 1 if mark else 1, path)

    def _node(self, event: yaml.Event, path: str, depth: int) -> Node:
        place = self._place(event, path)
        if isinstance(event, yaml.AliasEvent):
            place.refuse(f"must not repeat another value by *{shown(event.anchor or '')[1:-1]}; write it out")
        if not isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent):
            place.refuse("is not YAML that can be read here")
        if event.anchor is not None:
            place.refuse(f"must not have an anchor (&{shown(event.anchor)[1:-1]}); write each value out")
        if event.tag is not None:
            place.refuse(f"must not have a tag ({shown(event.tag)[1:-1]}); text is written in quotes")
        if isinstance(event, yaml.ScalarEvent):
            return Node(self._scalar(event, place), place)
        if depth >= DEEPEST:
            place.refuse(f"is nested more than {DEEPEST} deep")
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(tuple(self._list(path, depth + 1)), place)
        return Node(self._mapping(path, depth + 1), place)

    def _list(self, path: str, depth: int) -> Iterator[Node]:
        index = 0
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, f"{path}[{index}]", depth)
            index += 1

    def _mapping(self, path: str, depth: int) -> dict[str, Node]:
        fields: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, path, depth)
            name = key.text("the name of a field")
            at = f"{path}.{shown(name)[1:-1]}" if path else shown(name)[1:-1]
            if name in fields:
                Place(self._source, key.place.line, at).refuse(
                    f"stands twice, first on line {fields[name].place.line}; keep one of the two"
                )
            node = self._node(next(self._events), at, depth)
            # An error about a field points to its name: a value may begin on a later line.
            fields[name] = Node(node.value, Place(self._source, key.place.line, at))
        return fields

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> str | float | bool | None:
        value: str = event.value
        if not event.implicit[0]:
            return value
        if value in ("", "~", "null"):
            return None
        if value in ("true", "false"):
            return value == "true"
        if number := _NUMBER.fullmatch(value):
            if len(value) > _LONGEST_NUMBER:
                place.refuse(f"is a number of more than {_LONGEST_NUMBER} characters; text is written in quotes")
            read = float(value) if number["broken"] or number["power"] else int(value)
            return read if isfinite(read) else place.refuse(f"is a number too large to compute with: {value}")
        if any(form.match(value) for _, form in (*_IMPLIED.get(value[0], ()), *_IMPLIED.get(None, ()))):
            place.refuse(
                f"{shown(value)} may mean a truth value, a number or a date; write text in quotes, numbers as 12 or "
                "-0.5, truth values as true or false"
            )
        return value
