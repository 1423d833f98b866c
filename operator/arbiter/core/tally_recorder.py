"""Counts requests as they pass: the one mutable book, from which the router takes frozen tallies.

Rule: each routed request ends in exactly one of `succeed`, `fail`, `reject` and `leave`, on the recorder of the
slice in which it was routed. The methods only count, so they stay far below a microsecond.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from arbiter.core.traffic import Stratum, Tally, no_timings

if TYPE_CHECKING:
    from arbiter.core.traffic import Cause, Timings


class TallyRecorder:
    """The open book of one side in one slice."""

    __slots__ = (
        "failed",
        "first_token",
        "input_tokens",
        "left",
        "ok",
        "output_tokens",
        "per_token",
        "rejected",
        "routed",
        "total",
    )

    def __init__(self) -> None:
        self.routed = 0
        self.ok = 0
        self.failed: Counter[Cause] = Counter()
        self.rejected = 0
        self.left = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.first_token = no_timings()
        self.per_token = no_timings()
        self.total = no_timings()

    def route(self) -> None:
        """A request was sent to this side."""
        self.routed += 1

    def succeed(self) -> None:
        """It was answered in full."""
        self.ok += 1

    def fail(self, cause: Cause) -> None:
        """It failed."""
        self.failed[cause] += 1

    def reject(self) -> None:
        """It was answered with 4xx."""
        self.rejected += 1

    def leave(self) -> None:
        """The client went before the end."""
        self.left += 1

    def count_tokens(self, read: int, written: int) -> None:
        """Add the tokens of one request that ended."""
        self.input_tokens += read
        self.output_tokens += written

    def time_first_token(self, stratum: Stratum, seconds: float) -> None:
        """From routing to the first token; for a client that left before it, the time until then."""
        self.first_token[stratum].add(seconds)

    def time_per_token(self, stratum: Stratum, seconds: float) -> None:
        """The mean time of an answer's further tokens."""
        self.per_token[stratum].add(seconds)

    def time_total(self, stratum: Stratum, seconds: float) -> None:
        """From routing to the end."""
        self.total[stratum].add(seconds)

    def freeze(self) -> Tally:
        """The counts so far; later ones do not change it."""
        return Tally(
            routed=self.routed,
            ok=self.ok,
            failed=dict(self.failed),
            rejected=self.rejected,
            left=self.left,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            first_token=_copied(self.first_token),
            per_token=_copied(self.per_token),
            total=_copied(self.total),
        )


def _copied(timings: Timings) -> Timings:
    return tuple(histogram.copy() for histogram in timings)
