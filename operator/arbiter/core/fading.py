"""Lets counts fade, half as much weight for each half-life of age, so that they still merge without loss.

Rule: counts are whole numbers and are kept apart by period, which is one half-life of wall clock since the Unix epoch.
Nothing is multiplied before it is read. So merging adds what is of the same period and drops what is too old by the
newest period of all: in any order, on any machine, it gives the same bits.
"""

from __future__ import annotations

from math import ldexp
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

HALF_LIFE_MS: Final = 7 * 86_400_000
"""A week, so that weekdays and weekends weigh alike in what is known."""

KEPT: Final = 8
"""Periods kept before the newest one: what is older would count less than 1/256."""


class Addable(Protocol):
    """Counts that add up: `merge` is associative, commutative and exact."""

    def merge(self, other: Self, /) -> Self:
        """Both together."""
        ...  # pragma: no cover


C = TypeVar("C", bound=Addable)


def period_of(at_ms: int, half_life_ms: int) -> int:
    """The period that a moment is in."""
    return at_ms // half_life_ms


def weight_of(period: int, reference: int) -> float:
    """How much a count of that period is worth in a later one: half as much for each period between them."""
    return ldexp(1.0, period - reference)


def is_kept(period: int, newest: int) -> bool:
    """Whether counts of that period are kept beside those of the newest."""
    return period >= newest - KEPT


def added(first: Mapping[int, C], second: Mapping[int, C], newest: int) -> dict[int, C]:
    """Both together by period, without those that are too old beside the newest."""
    total = kept(first, newest)
    for period, counts in second.items():
        if is_kept(period, newest):
            before = total.get(period)
            total[period] = counts if before is None else before.merge(counts)
    return total


def kept(counts: Mapping[int, C], newest: int) -> dict[int, C]:
    """The same without what is too old beside the newest period."""
    return {period: each for period, each in counts.items() if is_kept(period, newest)}
