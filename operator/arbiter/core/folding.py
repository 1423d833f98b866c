"""Says whether one router's counts of one slice may be folded into a profile, and if not why.

Rule: an ordered chain, and the first reason that applies is told. A slice is folded when it is closed: it is over, and
its requests have ended or their deadline has passed, as for blocks. What cannot be right is refused: a guess would be
averaged in for weeks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from arbiter.core.blocks import BlockRules
from arbiter.core.profile_cursors import LOOK_BACK_MS, newest_start
from arbiter.core.task_counts import MILLION, NO_SCORES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.core.profile_cursors import Cursors, Place
    from arbiter.core.revision_record import RevisionName
    from arbiter.core.task_counts import Complexity, Outcomes, Scores
    from arbiter.core.traffic import Side, Slice, Tally

DEADLINE_MS: Final = BlockRules().deadline_ms
"""After the end of a slice its open requests have failed, as for blocks."""

AHEAD_MS: Final = 60_000
"""How far another clock may be ahead of ours: nodes that run NTP are within a second."""


class Refusal(StrEnum):
    """Why something was not counted."""

    COUNTED = "Counted"
    """It is counted already, or something later of the same source is."""

    OPEN = "Open"
    """It is not over, or requests in it are still running: look again."""

    AHEAD = "Ahead"
    """It is of a time that has not come yet: the clock that it was read from is wrong, or ours is."""

    TOO_OLD = "TooOld"
    """It is so old that nobody remembers whether it was counted."""

    IMPOSSIBLE = "Impossible"
    """Its counts went back: more ended than was begun."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that was not counted.

    Attributes:
        code: why, for machines.
        message: the same as a sentence.
    """

    code: Refusal
    message: str


@dataclass(frozen=True, slots=True)
class Share:
    """One router's counts of one side in one slice, and which revision that side was.

    Attributes:
        epoch: which life of which router.
        generation: of the table that it obeyed.
        side: of the table.
        start_ms: of the slice.
        end_ms: of the slice.
        read_ms: the router's own clock when it told of it.
        revision: which one the side was.
        tally: the counts; for the same slice they only grow.
        millijoules: energy that its requests took; None where nobody measured.
        feedback: scores that clients gave.
        complexity: its requests by complexity, as far as it is known.
    """

    epoch: str
    generation: int
    side: Side
    start_ms: int
    end_ms: int
    read_ms: int
    revision: RevisionName
    tally: Tally
    millijoules: int | None = None
    feedback: Scores = NO_SCORES
    complexity: Mapping[Complexity, Outcomes] = field(default_factory=dict)

    @staticmethod
    def of(each: Slice, side: Side, revision: RevisionName, read_ms: int) -> Share:
        """A side's share of a slice."""
        return Share(each.epoch, each.generation, side, each.start_ms, each.end_ms, read_ms, revision, each.side(side))

    @property
    def part(self) -> str:
        """What tells it apart from the others of the same router and start: tables change within a slice."""
        return f"{self.generation}/{self.side.value}"

    def __str__(self) -> str:
        return f"slice {self.start_ms} ({self.part}) of router {self.epoch}"


@dataclass(frozen=True, slots=True)
class _Look:
    """What a share is judged by: how far its router is folded, the newest start of all, our clock and the deadline."""

    place: Place | None
    newest_ms: int
    now_ms: int
    deadline_ms: int


def refusal_of(share: Share, cursors: Cursors, now_ms: int, deadline_ms: int) -> Refused | None:
    """Why a share may not be folded; None if it may.

    Args:
        share: the counts.
        cursors: what is folded.
        now_ms: the operator's clock.
        deadline_ms: after the end of a slice; then open requests have failed by timeout.
    """
    look = _Look(cursors.get(share.epoch), newest_start(cursors), now_ms, deadline_ms)
    for code, problem_of in CHAIN:
        if problem := problem_of(share, look):
            return Refused(code, f"{share} {problem}")
    return None


def _counted(share: Share, look: _Look) -> str:
    place = look.place
    return "is counted already" if place and place.has(share.start_ms, share.part) else ""


def _ahead(share: Share, look: _Look) -> str:
    return f"begins later than now, {look.now_ms}" if share.start_ms > look.now_ms + AHEAD_MS else ""


def _too_old(share: Share, look: _Look) -> str:
    oldest_ms = max(1, look.newest_ms - LOOK_BACK_MS)
    return f"begins before {oldest_ms}, and what is that old may be counted" if share.start_ms < oldest_ms else ""


def _impossible(share: Share, _: _Look) -> str:
    tally, scores = share.tally, share.feedback
    counts = (tally.ok, *tally.failed.values(), tally.rejected, tally.left, tally.input_tokens, tally.output_tokens)
    if tally.open < 0 or min(*counts, share.millijoules or 0) < 0:
        return "tells of more endings than requests, or of less than nothing"
    if not 0 <= scores.millionths <= scores.n * MILLION:
        return "tells of scores outside 0 to 1"
    if any(not 0 <= each.successes <= each.samples for each in share.complexity.values()):
        return "tells of more successes than requests of a complexity"
    return ""


def _open(share: Share, look: _Look) -> str:
    # Not even the deadline closes a slice that was read before its end: the rest of it was never told.
    if share.read_ms < share.end_ms:
        return "was not over when it was read"
    is_overdue = look.now_ms >= share.end_ms + look.deadline_ms
    return f"has {share.tally.open} requests still running" if share.tally.open and not is_overdue else ""


CHAIN: Final = (
    (Refusal.COUNTED, _counted),
    (Refusal.AHEAD, _ahead),
    (Refusal.TOO_OLD, _too_old),
    (Refusal.IMPOSSIBLE, _impossible),
    (Refusal.OPEN, _open),
)
"""Each reason with what finds it, in the order in which they are told: what will never be counted comes first."""
