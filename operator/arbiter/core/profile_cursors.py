"""Says which slices of which routers a profile has folded.

Rule: slices of one life of a router are folded in the order of their start, so its newest start says it all, with the
parts of that start beside it. A life is forgotten once it is far behind the newest start of all, and from then on
nothing that old is folded any more: whether it was counted is no longer known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arbiter.core.stored import Stored
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOK_BACK_MS: Final = 1_800_000
"""Half an hour: three times what a router's feed holds, so routers whose clocks differ by minutes are all counted."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far the slices of one life of a router are folded.

    Attributes:
        start_ms: of the newest slice; those that start before are folded or lost.
        parts: of that slice, which generations and sides are folded.
    """

    start_ms: int
    parts: frozenset[str]

    def has(self, start_ms: int, part: str) -> bool:
        """Whether that part of the slice of that start is folded or lost."""
        return start_ms < self.start_ms or (start_ms == self.start_ms and part in self.parts)

    def merge(self, other: Place) -> Place:
        """The further one of the two; the parts of both at the same start."""
        if self.start_ms != other.start_ms:
            return self if self.start_ms > other.start_ms else other
        return Place(self.start_ms, self.parts | other.parts)


Cursors = Mapping[str, Place]
"""By epoch, which is one life of one router."""


def newest_start(cursors: Cursors) -> int:
    """The newest start that is folded; 0 for none."""
    return max((place.start_ms for place in cursors.values()), default=0)


def merged_cursors(first: Cursors, second: Cursors) -> dict[str, Place]:
    """What either has folded, without lives that are far behind."""
    total = dict(first)
    for epoch, place in second.items():
        before = total.get(epoch)
        total[epoch] = place if before is None else before.merge(place)
    oldest = newest_start(total) - LOOK_BACK_MS
    return {epoch: place for epoch, place in total.items() if place.start_ms >= oldest}


def cursor_fields(cursors: Cursors) -> dict[str, object]:
    """The stored form: by epoch the start and its parts."""
    return {epoch: [cursors[epoch].start_ms, *sorted(cursors[epoch].parts)] for epoch in sorted(cursors)}


def read_cursors(stored: Stored, now_ms: int) -> dict[str, Place]:
    """Read back what `cursor_fields` wrote at that moment or before."""
    cursors = dict(_places(stored))
    if newest_start(cursors) > now_ms + LOOK_BACK_MS:
        raise CorruptStateError(f"{stored.path} tell of slices that have not come yet")
    if merged_cursors(cursors, {}) != cursors:
        raise CorruptStateError(f"{stored.path} tell of lives that should have been forgotten")
    return cursors


def _places(stored: Stored) -> Iterator[tuple[str, Place]]:
    for epoch in stored.names():
        start, *parts = stored.items(epoch) or (None,)
        start_ms = Stored({epoch: start}, stored.path).integer(epoch)
        named = Stored({epoch: parts}, stored.path).texts(epoch, len(parts))
        if not named:
            raise CorruptStateError(f"{stored.path}.{epoch} has no parts")
        yield epoch, Place(start_ms, frozenset(named))
