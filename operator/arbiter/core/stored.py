"""Reads back what Arbiter stored itself, strictly: every field named, typed and accounted for.

Nothing is repaired and nothing is guessed. A field that is missing, unknown, doubled or of another type is told
by its path in a `CorruptStateError`, because evidence that was read wrongly would decide wrongly and silently.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import NoReturn

from arbiter.errors import CorruptStateError


def to_json(value: object) -> str:
    """The compact form that is stored; floats keep every bit, and what JSON cannot say is refused."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


class Stored:
    """One JSON object, read field by field; `done` then refuses what nobody asked for.

    Attributes:
        path: where it stands, for messages, such as `evidence.metrics.success`.
    """

    __slots__ = ("_fields", "path")

    def __init__(self, fields: object, path: str) -> None:
        """Take an already parsed object."""
        if not isinstance(fields, dict):
            raise CorruptStateError(f"{path} must be an object")
        self._fields = dict(fields)
        self.path = path

    @staticmethod
    def parse(text: str, path: str, version: int) -> Stored:
        """Parse one object whose field `version` must be the one given."""
        try:
            loaded = json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise CorruptStateError(f"{path} is not JSON: {error}") from error
        read = Stored(loaded, path)
        if (found := read.integer("version")) != version:
            raise CorruptStateError(f"{path}.version is {found}, and only {version} can be read")
        return read

    def take(self, name: str) -> object:
        """The field, whatever it is."""
        if name not in self._fields:
            raise CorruptStateError(f"{self.path}.{name} is missing")
        return self._fields.pop(name)

    def child(self, name: str) -> Stored:
        """A field that is an object."""
        return Stored(self.take(name), f"{self.path}.{name}")

    def integer(self, name: str, minimum: int = 0) -> int:
        """A field that is a whole number."""
        return self._integer(self.take(name), name, minimum)

    def text(self, name: str) -> str:
        """A field that is text."""
        value = self.take(name)
        return value if isinstance(value, str) else self._refuse(name, "text")

    def items(self, name: str, length: int | None = None) -> list[object]:
        """A field that is a list, of that length if one is given."""
        value = self.take(name)
        if not isinstance(value, list):
            return self._refuse(name, "a list")
        if length is not None and len(value) != length:
            return self._refuse(name, f"a list of {length}")
        return value

    def integers(self, name: str, length: int) -> tuple[int, ...]:
        """A field that is a list of counts."""
        return tuple(self._integer(value, name, 0) for value in self.items(name, length))

    def numbers(self, name: str, length: int) -> tuple[float, ...]:
        """A field that is a list of finite numbers, each with every bit it was written with."""
        return tuple(self._number(value, name) for value in self.items(name, length))

    def texts(self, name: str, length: int) -> tuple[str, ...]:
        """A field that is a list of texts."""
        found = self.items(name, length)
        return tuple(text if isinstance(text, str) else self._refuse(name, "a list of texts") for text in found)

    def names(self) -> tuple[str, ...]:
        """The fields not taken yet."""
        return tuple(self._fields)

    def done(self) -> None:
        """Refuse fields that nobody took: they were written by something that we do not know."""
        if self._fields:
            raise CorruptStateError(f"{self.path} has unknown fields: {', '.join(sorted(self._fields))}")

    def _integer(self, value: object, name: str, minimum: int) -> int:
        # A bool is an int to Python, and would count as one.
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            return self._refuse(name, f"a whole number of at least {minimum}")
        return value

    def _number(self, value: object, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            return self._refuse(name, "a finite number")
        return float(value)

    def _refuse(self, name: str, wanted: str) -> NoReturn:
        raise CorruptStateError(f"{self.path}.{name} must be {wanted}")


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands twice")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
