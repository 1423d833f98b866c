"""Keeps what routers counted in real ramps, in a small file, so that the ramps can be replayed.

A file is compressed text, a line of JSON for each ramp. Rule: what a decision reads is kept exact: counts, and the
durations to first token and per token by stratum, in their buckets. Left out is what no decision reads: tokens, total
times and sums of durations.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arbiter.core.histogram import Histogram
from arbiter.core.stored import to_json
from arbiter.core.traffic import Cause, Side, Slice, Tally, no_timings
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from arbiter.core.traffic import Timings

VERSION = 1
"""Version of the form; one that is not known is refused."""

_SIDES = (Side.OLD, Side.NEW)
"""In the order in which they are stored."""

_UNSUMMED = "0;0;"
"""How the text of a histogram begins that has no zeros and no sum."""


@dataclass(frozen=True)
class Recording:
    """One ramp as its routers counted it.

    Attributes:
        pool: whose routers.
        swap: the ModelSwap.
        task: whose requests.
        length_ms: of a slice.
        weights: percent of new requests for the new side, by generation of the table.
        routers: slices of each router, oldest first; one of them has one epoch.
    """

    pool: str
    swap: str
    task: str
    length_ms: int
    weights: Mapping[int, int]
    routers: tuple[tuple[Slice, ...], ...]

    def to_line(self) -> str:
        """Give the stored form, without the line's end."""
        began = min((each.start_ms for router in self.routers for each in router), default=0)
        fields: dict[str, object] = {
            "version": VERSION,
            "pool": self.pool,
            "swap": self.swap,
            "task": self.task,
            "lengthMs": self.length_ms,
            "beganMs": began,
            "weights": {str(generation): weight for generation, weight in sorted(self.weights.items())},
            "routers": [[self._row(each, began) for each in router] for router in self.routers],
        }
        return to_json(fields)

    def _row(self, each: Slice, began: int) -> list[object]:
        sides = [_columns(each.sides[side]) if side in each.sides else [] for side in _SIDES]
        return [(each.start_ms - began) // self.length_ms, each.generation, *sides]

    @staticmethod
    def from_line(line: str) -> Recording:
        """Read back what `to_line` wrote.

        Raises:
            CorruptStateError: it is of another version.
        """
        fields: dict[str, Any] = json.loads(line)
        if fields["version"] != VERSION:
            raise CorruptStateError(f"the recording is of version {fields['version']}, and only {VERSION} can be read")
        task, length_ms, began = fields["task"], fields["lengthMs"], fields["beganMs"]

        def slice_of(router: int, row: list[Any]) -> Slice:
            start, generation, *sides = row
            tallies = {side: _tally(columns) for side, columns in zip(_SIDES, sides, strict=True) if columns}
            return Slice(f"router-{router}", generation, task, began + start * length_ms, length_ms, tallies)

        routers = (tuple(slice_of(number, row) for row in rows) for number, rows in enumerate(fields["routers"]))
        weights = {int(generation): weight for generation, weight in fields["weights"].items()}
        return Recording(fields["pool"], fields["swap"], task, length_ms, weights, tuple(routers))


def _columns(tally: Tally) -> list[object]:
    """Counts, failures by cause, and both timings; trailing empty strata are left out."""
    counts = [tally.routed, tally.ok, tally.rejected, tally.left]
    failed = {cause.value: count for cause, count in tally.failed.items()}
    return [*counts, failed, _texts(tally.first_token), _texts(tally.per_token)]


def _texts(timings: Timings) -> list[str]:
    texts = [Histogram(each.buckets, each.zero).to_text().removeprefix(_UNSUMMED) for each in timings]
    while texts and not texts[-1]:
        texts.pop()
    return texts


def _tally(columns: list[Any]) -> Tally:
    routed, ok, rejected, left, failed, first_token, per_token = columns
    causes = {Cause(cause): count for cause, count in failed.items()}
    timings = _timings(first_token), _timings(per_token)
    return Tally(routed, ok, causes, rejected, left, first_token=timings[0], per_token=timings[1])


def _timings(texts: list[str]) -> Timings:
    whole = (text if ";" in text or not text else _UNSUMMED + text for text in texts)
    found = tuple(Histogram.from_text(text) for text in whole)
    return found + no_timings()[len(found) :]


def append(path: Path, recording: Recording) -> None:
    """Add a ramp to a file. What is there already stays readable, whenever this is cut short."""
    with gzip.open(path, "at", compresslevel=9) as writing:
        writing.write(recording.to_line() + "\n")


def read(path: Path) -> tuple[Recording, ...]:
    """Give all ramps of a file."""
    with gzip.open(path, "rt") as reading:
        return tuple(Recording.from_line(line) for line in reading)
