"""Decides what people's commands and other requests do to a swap, and what every phase asks first.

Rule: whoever wants the old side back gets it, whatever else is wanted; Abort stands before Promote. Nobody waits for a
window to go back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arbiter.api.modelswap import Intent
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.swap_table import Event

if TYPE_CHECKING:
    from datetime import datetime

    from arbiter.core.swap_flight import Flight
    from arbiter.core.swap_seen import SwapSeen


def is_active_already(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """End what the pool says is active: a pass promoted it and ended before it could say so here."""
    return flight.moved(Event.PROMOTED, promoted(flight), now) if seen.is_active else None


def is_withdrawn(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Abort what nobody needs any more: its task or its model is gone."""
    return None if seen.withdrawn is None else flight.moved(Event.ABORTED, seen.withdrawn, now)


def is_aborted(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Abort when told to."""
    if seen.intent is not Intent.Abort:
        return None
    told = f"told to abort: {flight.old_name} serves {flight.task} as before"
    return flight.moved(Event.ABORTED, Reason(ReasonCode.Aborted, told), now)


def is_superseded(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Make way for another request."""
    return None if seen.superseded is None else flight.moved(Event.SUPERSEDED, seen.superseded, now)


def is_paused(flight: Flight, seen: SwapSeen, _now: datetime) -> Flight | None:
    """Stay when told to."""
    if seen.intent is not Intent.Pause:
        return None
    where = f"{flight.new_name} keeps {flight.weight} % of requests" if flight.weight else "no request has moved"
    return flight.waits(Reason(ReasonCode.Paused, f"told to pause: {where}"), "it goes on once its intent is Run")


def waits_for_window(flight: Flight, seen: SwapSeen, _now: datetime) -> Flight | None:
    """Wait until weights may rise. A person who says Promote does not wait, and neither does who goes back."""
    if seen.window.open or moves_at_once(flight, seen):
        return None
    action = "weights rise" if flight.moves_requests else f"the swap to {flight.new_name} goes on"
    return flight.waits(seen.window.reason, action, seen.window.changes_at)


def moves_at_once(flight: Flight, seen: SwapSeen) -> bool:
    """Whether all requests move in one step: back to what was active, or because a person says so."""
    return not flight.analysed or seen.intent is Intent.Promote


def promoted(flight: Flight) -> Reason:
    """Say that the new side serves for good."""
    return Reason(ReasonCode.Promoted, f"{flight.new_name} serves {flight.task} in place of {flight.old_name}")
