"""The phases of a swap and what leads from one to the next, as data.

Theory of operation. A swap changes which revision serves one task. It waits until it may begin, prepares the new side
beside the old one or in its place, and moves requests to it in steps. Each step begins once every live router obeys it,
and lasts until it is long enough, has enough requests and, before half and before all of them, enough evidence. Then
the old side stays for a while with a small share, as a baseline, and the swap ends.

Until requests have moved, whatever goes wrong ends the swap at once, because nothing has to be undone. Once they have,
every way out but promotion leads through RollingBack, in which the old side first gets everything back and the new one
then ends its answers. So the old side keeps its whole capacity from the first moment to the last, and a swap that is
interrupted anywhere ends with one of the two serving everything.

A rollback that has begun is not turned round: whoever wants the new side all the same asks for another swap. What asks
for the end of a swap also says how it will have ended, and that is kept on the way back.

Rule: one event moves a swap by one arrow. An event that a phase has no arrow for is a mistake of ours; it raises, and
changes nothing. The diagram in the documentation is drawn from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from arbiter.api.modelswap import Outcome, Phase

if TYPE_CHECKING:
    from collections.abc import Mapping


class Event(StrEnum):
    """What moves a swap from one phase to another."""

    STARTED = "Started"
    """It may begin."""

    REFUSED = "Refused"
    """The new side cannot do, or did clearly worse before any user saw it."""

    PREPARED = "Prepared"
    """The new side has answered and passed what it was asked."""

    SHIFTED = "Shifted"
    """The last step has been held long enough, and nothing speaks against the new side."""

    PROMOTED = "Promoted"
    """The new side serves for good."""

    REGRESSED = "Regressed"
    """The new side is worse, or broken."""

    ABORTED = "Aborted"
    """A person wants the old side back, or what the swap was for is gone."""

    SUPERSEDED = "Superseded"
    """Another request for the same task takes its place."""

    RESTORED = "Restored"
    """The old side serves everything again, and the new one has ended its answers."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """Where an event leads.

    Attributes:
        to: the phase that begins.
        outcome: how the swap ends, or how it will have ended once the old side is restored; None while that is open.
    """

    to: Phase
    outcome: Outcome | None = None


class IllegalTransitionError(Exception):
    """A phase has no arrow for an event: a mistake of ours, never a person's."""

    def __init__(self, phase: Phase, event: Event) -> None:
        """Name both."""
        super().__init__(f"a swap that is {phase} knows no {event}")


TABLE: Final[Mapping[tuple[Phase, Event], Arrow]] = {
    (Phase.Waiting, Event.STARTED): Arrow(Phase.Preparing),
    (Phase.Waiting, Event.REFUSED): Arrow(Phase.Ended, Outcome.Rejected),
    (Phase.Waiting, Event.ABORTED): Arrow(Phase.Ended, Outcome.Aborted),
    (Phase.Waiting, Event.SUPERSEDED): Arrow(Phase.Ended, Outcome.Superseded),
    (Phase.Preparing, Event.PREPARED): Arrow(Phase.Shifting),
    (Phase.Preparing, Event.REFUSED): Arrow(Phase.Ended, Outcome.Rejected),
    (Phase.Preparing, Event.ABORTED): Arrow(Phase.Ended, Outcome.Aborted),
    (Phase.Preparing, Event.SUPERSEDED): Arrow(Phase.Ended, Outcome.Superseded),
    (Phase.Shifting, Event.SHIFTED): Arrow(Phase.Watching),
    (Phase.Shifting, Event.PROMOTED): Arrow(Phase.Ended, Outcome.Promoted),
    (Phase.Shifting, Event.REGRESSED): Arrow(Phase.RollingBack, Outcome.RolledBack),
    (Phase.Shifting, Event.ABORTED): Arrow(Phase.RollingBack, Outcome.Aborted),
    (Phase.Shifting, Event.SUPERSEDED): Arrow(Phase.RollingBack, Outcome.Superseded),
    (Phase.Watching, Event.PROMOTED): Arrow(Phase.Ended, Outcome.Promoted),
    (Phase.Watching, Event.REGRESSED): Arrow(Phase.RollingBack, Outcome.RolledBack),
    (Phase.Watching, Event.ABORTED): Arrow(Phase.RollingBack, Outcome.Aborted),
    (Phase.Watching, Event.SUPERSEDED): Arrow(Phase.RollingBack, Outcome.Superseded),
    (Phase.RollingBack, Event.RESTORED): Arrow(Phase.Ended),
}
"""Every arrow there is. The last one ends the swap as the event said that began its way back."""


def follow(phase: Phase, event: Event) -> Arrow:
    """Give where an event leads from a phase.

    Raises:
        IllegalTransitionError: nowhere.
    """
    arrow = TABLE.get((phase, event))
    if arrow is None:
        raise IllegalTransitionError(phase, event)
    return arrow


def diagram() -> str:
    """Draw the table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> Waiting"]
    for (phase, event), arrow in TABLE.items():
        if arrow.to is Phase.Ended:
            how = f" ({arrow.outcome})" if arrow.outcome is not None else " (as it was to end)"
            lines.append(f"    {phase} --> [*]: {event}{how}")
        else:
            lines.append(f"    {phase} --> {arrow.to}: {event}")
    return "\n".join(lines) + "\n"
