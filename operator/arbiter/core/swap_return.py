"""Decides how the old side gets its requests back, and when the new one may go.

Rule: requests never go to a side that cannot answer while the other one can. The new side keeps its engine until its
answers have ended, or have had the time that the policy grants.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.swap_table import Event

if TYPE_CHECKING:
    from datetime import datetime

    from arbiter.core.swap_flight import Flight
    from arbiter.core.swap_seen import SwapSeen


def is_stranded(flight: Flight, seen: SwapSeen, _now: datetime) -> Flight | None:
    """Leave requests where they can be answered, as long as the old side cannot."""
    if seen.old.ready or not seen.new.serves:
        return None
    told = f"{flight.old_name} cannot take requests, so {flight.new_name} keeps them: {seen.old.reason.message}"
    return flight.weighted(100).waits(Reason(ReasonCode.OldSideDown, told), f"{flight.old_name} is ready again")


def is_moot(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """End where there are no requests to give back: with the task, its routes have gone."""
    return flight.moved(Event.RESTORED, flight.history[-1].reason, now) if seen.task_gone else None


def gives_back(flight: Flight, _seen: SwapSeen, _now: datetime) -> Flight | None:
    """Give the old side everything."""
    if flight.weight == 0:
        return None
    told = f"{flight.old_name} gets all new requests for {flight.task} back: {flight.history[-1].reason.message}"
    return flight.weighted(0).waits(Reason(ReasonCode.RollingBack, told), "every router obeys")


def lets_go(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Let the new side end its answers."""
    deadline = flight.since(now) + timedelta(seconds=flight.policy.rollback.drain.seconds)
    if seen.new.idle is True or not seen.new.ready or now >= deadline:
        return None
    told = f"{flight.old_name} serves all new requests; {flight.new_name} ends those that it has"
    return flight.waits(Reason(ReasonCode.RollingBack, told), "the swap ends", deadline)


def is_restored(flight: Flight, _seen: SwapSeen, now: datetime) -> Flight:
    """End, as what began the way back said."""
    return flight.moved(Event.RESTORED, flight.history[-1].reason, now)
