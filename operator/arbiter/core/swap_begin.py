"""Decides whether a swap begins, and when its new side is good enough for its first requests.

Rule: no user sees a model that has not answered, that fails the task's checks where the old one passes them, or that
has fewer engine pods than its first share of requests needs.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from arbiter.api.modelswap import Stage
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.api.swappolicy import Strategy
from arbiter.core import rollout
from arbiter.core.candidacy import Check
from arbiter.core.swap_commands import moves_at_once
from arbiter.core.swap_table import Event

if TYPE_CHECKING:
    from datetime import datetime

    from arbiter.core.swap_flight import Flight
    from arbiter.core.swap_seen import SwapSeen


def is_incompatible(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Refuse what cannot do. What was active before needs no permission to come back."""
    if seen.fit is None or seen.fit.compatible or seen.fit.lacks_only(Check.NodeFits) or not flight.analysed:
        return None
    return flight.moved(Event.REFUSED, seen.fit.reason, now)


def has_no_room(flight: Flight, seen: SwapSeen, _now: datetime) -> Flight | None:
    """Wait for a node: nodes come back, are labelled and are emptied, and no model is at fault meanwhile."""
    action = f"{flight.new_name} is prepared on the first node that can take it"
    if seen.fit is not None and seen.fit.lacks_only(Check.NodeFits):
        return flight.waits(seen.fit.reason, action)
    if seen.choice.strategy is None and seen.choice.may_change:
        return flight.waits(seen.choice.reason, action)
    return None


def is_delayed(flight: Flight, seen: SwapSeen, _now: datetime) -> Flight | None:
    """Wait for what stands in the way of beginning."""
    if seen.delayed is None:
        return None
    return flight.waits(seen.delayed.reason, f"{flight.new_name} is prepared", seen.delayed.changes_at)


def begins(flight: Flight, seen: SwapSeen, now: datetime) -> Flight:
    """Begin, in the way that the room there is allows; or refuse, where it allows none."""
    choice = seen.choice
    if choice.strategy is None:
        return flight.moved(Event.REFUSED, choice.reason, now)
    weight = 100 if moves_at_once(flight, seen) else flight.steps[0].weight
    pods = rollout.pods_needed(weight, seen.replicas) if choice.strategy is Strategy.SideBySide else 0
    begun = replace(flight, strategy=choice.strategy, started_at=now.replace(microsecond=0), pods=pods)
    return begun.moved(Event.STARTED, choice.reason, now)


def fails_to_come_up(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Refuse an engine that will not serve without a person."""
    if flight.strategy is Strategy.OneAtATime or seen.new.serves or seen.new.broken is None:
        return None
    return flight.moved(Event.REFUSED, seen.new.broken, now)


def comes_up(flight: Flight, seen: SwapSeen, _now: datetime) -> Flight | None:
    """Wait for the new side's engine, if it can be there beside the old one."""
    if flight.strategy is Strategy.OneAtATime or seen.new.has(flight.pods):
        return None
    reason = too_few_pods(flight, seen, flight.pods) if seen.new.serves else seen.new.reason
    return flight.waits(reason, f"{flight.new_name} is checked")


def is_warm(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Wait for the first completions; a side that does not give them in time is refused."""
    if seen.warming is None or flight.strategy is Strategy.OneAtATime or not flight.analysed:
        return None
    return _in_time(flight, seen.warming, "the task's checks are asked", now)


def fails_its_checks(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Refuse, or take back, what is clearly worse at the task's checks."""
    if seen.checks is None or seen.checks.worse is None or not flight.analysed:
        return None
    return flight.moved(Event.REGRESSED if flight.moves_requests else Event.REFUSED, seen.checks.worse, now)


def is_checked(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Wait for the checks; a side that does not answer them in time is refused."""
    if seen.checks is None or seen.checks.done or not flight.analysed:
        return None
    return _in_time(flight, Reason(ReasonCode.ChecksRunning, seen.checks.told), "the checks end", now)


def is_prepared(flight: Flight, seen: SwapSeen, now: datetime) -> Flight:
    """Give the new side its first requests, or hold them while it takes the old one's place."""
    told = f"; {seen.checks.told}" if seen.checks is not None and flight.analysed else ""
    if flight.strategy is Strategy.OneAtATime:
        held = f"requests for {flight.task} are held while {flight.new_name} takes the place of {flight.old_name}"
        reason = Reason(ReasonCode.RequestsHeld, f"{held}{told}")
        return flight.staged(Stage.ClearingOld).moved(Event.PREPARED, reason, now)
    if moves_at_once(flight, seen):
        # With too few pods for everything it starts with the first step, and rises once they are there.
        enough = seen.new.has(seen.replicas)
        weight, step = (100, len(flight.steps)) if enough else (flight.steps[0].weight, 1)
    else:
        weight, step = flight.steps[0].weight, 1
    fresh = replace(flight, step=step, held_since=None)
    return fresh.weighted(weight).moved(Event.PREPARED, weight_set(flight, weight, told), now)


def _in_time(flight: Flight, reason: Reason, action: str, now: datetime) -> Flight:
    """Wait for what the new side is asked, up to the policy's deadline for all of it."""
    since = flight.held_since or now.replace(microsecond=0)
    deadline = since + timedelta(seconds=flight.policy.warm_up.deadline.seconds)
    if now < deadline:
        return replace(flight, held_since=since).waits(reason, action, deadline)
    told = (
        f"what {flight.new_name} is asked first did not end within {flight.policy.warm_up.deadline}: {reason.message}"
    )
    return flight.moved(Event.REFUSED, Reason(ReasonCode.ChecksTooSlow, told), now)


def weight_set(flight: Flight, weight: int, more: str = "") -> Reason:
    """Say how many requests the new side gets."""
    return Reason(ReasonCode.WeightSet, f"{flight.new_name} gets {weight} % of new requests for {flight.task}{more}")


def too_few_pods(flight: Flight, seen: SwapSeen, wanted: int) -> Reason:
    """Say that the new side has fewer engine pods than its share of requests needs."""
    told = f"{seen.new.ready} of {wanted} engine pods of {flight.new_name} are ready: {seen.new.reason.message}"
    return Reason(ReasonCode.WaitingForPods, told)
