"""Reads the swaps of a pool: those in flight, those that have not been seen yet, and those that have ended.

Rule: at most one swap of a task is beyond waiting. What a status holds that does not read back is told and left alone;
only evidence that does not read back is begun anew, because the rest is enough to go on with.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from arbiter.api.modelswap import Phase
from arbiter.core.swap_record import read_flight
from arbiter.core.swap_requests import Command
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from arbiter.api.modelswap import ModelSwap
    from arbiter.core.swap_flight import Flight

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Flying:
    """A swap that has not ended.

    Attributes:
        swap: the object.
        flight: where it is; None before it has been seen, and where that does not read back.
        problem: why it does not read back; empty if it does.
    """

    swap: ModelSwap
    flight: Flight | None
    problem: str = ""

    @property
    def name(self) -> str:
        """Of the object."""
        return self.swap.metadata.name

    @property
    def is_current(self) -> bool:
        """Whether it has begun, so that others of the task wait for its end."""
        return self.flight is not None and self.flight.phase is not Phase.Waiting

    @property
    def command(self) -> Command:
        """The same as a request."""
        metadata = self.swap.metadata
        return Command(
            name=metadata.name,
            created_at=metadata.creation_timestamp or _LONG_AGO,
            to=self.swap.spec.to,
            revision=self.swap.spec.revision or "",
            ours=any(owner.controller for owner in metadata.owner_references),
            origin=None if self.flight is None else self.flight.old.model,
            begun=self.flight is not None,
        )


def flying(swaps: Iterable[ModelSwap]) -> tuple[Flying, ...]:
    """Give the swaps that have not ended, the oldest first."""
    found = [_read(swap) for swap in swaps if swap.status.phase is not Phase.Ended]
    return tuple(sorted(found, key=lambda each: each.command.order))


def _read(swap: ModelSwap) -> Flying:
    try:
        return Flying(swap, read_flight(swap))
    except CorruptStateError as error:
        if swap.status.evidence is None:
            return Flying(swap, None, str(error))
    bare = swap.model_copy(update={"status": swap.status.model_copy(update={"evidence": None})})
    try:
        return Flying(swap, read_flight(bare))
    except CorruptStateError as error:
        return Flying(swap, None, str(error))
