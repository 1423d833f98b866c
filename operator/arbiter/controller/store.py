"""Keeps values by namespace and name, and finds them by what else they belong to.

Rule: an index is a function of the value alone, so it can never say anything else than the values do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

Value = TypeVar("Value")

Place = tuple[str, str]
"""Namespace and name; the namespace is empty for what has none."""


class Store(Generic[Value]):
    """Values of one type."""

    def __init__(self, index: Callable[[Value], Iterable[Hashable]] = lambda _: ()) -> None:
        """It is empty.

        Args:
            index: everything that a value is found by, beside its place.
        """
        self._index = index
        self._values: dict[Place, Value] = {}
        self._found: dict[Hashable, dict[Place, Value]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Value]:
        return iter(tuple(self._values.values()))

    def get(self, place: Place) -> Value | None:
        """The value at a place."""
        return self._values.get(place)

    def by(self, key: Hashable) -> tuple[Value, ...]:
        """All values that are found by this key, in the order in which they came."""
        return tuple(self._found.get(key, {}).values())

    def put(self, place: Place, value: Value) -> Value | None:
        """Keep a value; gives the one that it replaces."""
        before = self._unindex(place)
        self._values[place] = value
        for key in self._index(value):
            self._found.setdefault(key, {})[place] = value
        return before

    def drop(self, place: Place) -> Value | None:
        """Forget a value; gives it back."""
        before = self._unindex(place)
        self._values.pop(place, None)
        return before

    def _unindex(self, place: Place) -> Value | None:
        before = self._values.get(place)
        if before is not None:
            for key in self._index(before):
                found = self._found[key]
                del found[place]
                if not found:
                    del self._found[key]
        return before
