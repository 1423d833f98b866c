"""Decides when the new side gets more requests, and when it loses them all: both sides serve at once.

Rule: a step counts from when every live router obeys it. It ends when it is long enough, has enough requests and,
before half and before all of them, enough evidence; what is proven worse, or broken, ends it at any moment.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from arbiter.api.reasons import Reason, ReasonCode
from arbiter.api.swappolicy import OnInconclusive
from arbiter.core import rollout
from arbiter.core.swap_begin import too_few_pods, weight_set
from arbiter.core.swap_commands import moves_at_once, promoted
from arbiter.core.swap_table import Event

if TYPE_CHECKING:
    from datetime import datetime

    from arbiter.core.swap_flight import Flight
    from arbiter.core.swap_seen import SwapSeen


def breaks(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Roll back at once for what needs no statistics."""
    if seen.new.broken is not None:
        return flight.moved(Event.REGRESSED, seen.new.broken, now)
    if flight.analysed and seen.first_failed >= flight.policy.rollback.first_failures:
        told = f"the first {seen.first_failed} requests that {flight.new_name} got all failed"
        return flight.moved(Event.REGRESSED, Reason(ReasonCode.FirstRequestsFailed, told), now)
    return None


def regresses(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Roll back what is proven worse."""
    if seen.judgement is None or not seen.judgement.must_roll_back or not flight.analysed:
        return None
    return flight.moved(Event.REGRESSED, seen.judgement.reason, now)


def moves_in_one_step(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Give the new side everything, where nobody waits for evidence, and end once routers obey."""
    if not moves_at_once(flight, seen):
        return None
    if flight.weight < 100 and not seen.new.has(seen.replicas):
        more = replace(flight, pods=seen.replicas)
        return more.waits(too_few_pods(flight, seen, seen.replicas), "all requests move")
    if flight.weight < 100:
        whole = replace(flight, step=len(flight.steps), pods=seen.replicas).weighted(100)
        return whole.waits(weight_set(whole, 100), "it ends once every router obeys")
    if not seen.obeyed:
        return waits_for_routers(flight, seen, now)
    return flight.moved(Event.PROMOTED, promoted(flight), now)


def is_obeyed(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Wait for the routers."""
    return None if seen.obeyed else waits_for_routers(flight, seen, now)


def waits_for_routers(flight: Flight, seen: SwapSeen, now: datetime) -> Flight:
    """Say which routers do not obey yet, and until when that is waited for before they are replaced.

    One that cannot be asked is waited for: it may obey, and whatever keeps the question from it would keep it from the
    next router too.
    """
    named = ", ".join(seen.laggards[:3])
    if named and set(seen.laggards) <= set(seen.unheard):
        told = f"the operator cannot reach {named} to ask which weights are obeyed"
        return flight.waits(Reason(ReasonCode.RoutersBehind, told), "weights move again once the routers answer")
    told = f"the newest weights are not obeyed yet by {named}" if named else "no router is there yet that could obey"
    waits_already = flight.reason.code is ReasonCode.RoutersBehind and flight.next is not None
    deadline = flight.next.at if waits_already and flight.next is not None else None
    at = deadline or now.replace(microsecond=0) + timedelta(seconds=ROUTER_DEADLINE_S)
    return flight.waits(Reason(ReasonCode.RoutersBehind, told), "routers that do not obey are replaced", at)


ROUTER_DEADLINE_S: Final = 30
"""Seconds that a router may take to obey; one that listens takes milliseconds."""


def is_blind(flight: Flight, seen: SwapSeen, _now: datetime) -> Flight | None:
    """Hold while routers do not say what they count, and while a metric that had figures has none."""
    if seen.unheard:
        told = f"the operator cannot reach {', '.join(seen.unheard[:3])}, so what is counted there is not known"
        return flight.waits(Reason(ReasonCode.MetricsUnavailable, told), "weights move again once the routers answer")
    if seen.judgement is None or not seen.judgement.must_hold:
        return None
    return flight.waits(seen.judgement.reason, "weights move again once there are figures")


def lasts(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Wait until the step is long enough."""
    due = _ends_at(flight, now)
    if now >= due:
        return None
    told = so_far(seen) or f"{flight.new_name} gets {flight.weight} % of new requests"
    return flight.waits(_held(flight, told), _step_ends(flight), due)


def has_evidence(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Hold a step once more that has too few requests, or stands before a gate without evidence; not for ever."""
    judgement = seen.judgement
    gate = rollout.asks_for_evidence(flight.weight, _weight_after(flight))
    if judgement is not None and judgement.enough and (judgement.gates_open or not gate):
        return None
    limit = flight.policy.analysis.max_extensions
    told = so_far(seen) or "no block of requests has compared both sides yet"
    if flight.extensions < limit:
        extended = _extended(flight, now)
        return extended.waits(_held(extended, told), _step_ends(flight), _ends_at(extended, now))
    match flight.policy.analysis.on_inconclusive:
        case OnInconclusive.Promote:
            return None
        case OnInconclusive.Hold:
            reason = Reason(ReasonCode.Inconclusive, f"held, with all {limit} extensions used up: {told}")
            return flight.waits(reason, "weights rise once there is evidence; Promote or Abort decides without")
        case OnInconclusive.Rollback:
            reason = Reason(ReasonCode.Inconclusive, f"all {limit} extensions are used up: {told}")
            return flight.moved(Event.REGRESSED, reason, now)


def has_pods(flight: Flight, seen: SwapSeen, _now: datetime) -> Flight | None:
    """Wait until the new side has the pods that its next share needs."""
    weight = _weight_after(flight)
    needed = rollout.pods_needed(weight, seen.replicas)
    if seen.new.has(needed):
        return None
    more = replace(flight, pods=max(flight.pods, needed))
    return more.waits(too_few_pods(flight, seen, needed), f"{flight.new_name} gets {weight} % of new requests")


def rises(flight: Flight, seen: SwapSeen, now: datetime) -> Flight:
    """Take the next step; after the last one the old side stays as a baseline."""
    weight = _weight_after(flight)
    pods = max(flight.pods, rollout.pods_needed(weight, seen.replicas))
    learnt = None if flight.learnt is None else flight.learnt.next_step()
    risen = replace(flight, extensions=0, pods=pods, learnt=learnt).weighted(weight)
    if flight.step < len(flight.steps):
        action = f"{weight} % are held once every router obeys"
        return replace(risen, step=flight.step + 1).waits(weight_set(flight, weight), action)
    told = f"{flight.new_name} gets {weight} %, and {flight.old_name} keeps {rollout.BASELINE} % as a baseline"
    return risen.moved(Event.SHIFTED, Reason(ReasonCode.BaselineWatched, told), now)


def is_watched(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Wait until the watch is over."""
    due = flight.since(now) + timedelta(seconds=flight.policy.rollout.watch.seconds)
    if now >= due:
        return None
    told = so_far(seen) or f"{flight.new_name} has {flight.weight} % of new requests"
    return flight.waits(Reason(ReasonCode.BaselineWatched, told), f"{flight.new_name} is promoted", due)


def is_promoted(flight: Flight, _seen: SwapSeen, now: datetime) -> Flight:
    """Promote."""
    return flight.moved(Event.PROMOTED, promoted(flight), now)


def so_far(seen: SwapSeen) -> str:
    """Say what the evidence shows; nothing before there is any."""
    return "" if seen.judgement is None else seen.judgement.reason.message


def _held(flight: Flight, told: str) -> Reason:
    if not flight.extensions:
        return Reason(ReasonCode.StepHeld, told)
    limit = flight.policy.analysis.max_extensions
    return Reason(ReasonCode.StepExtended, f"extension {flight.extensions} of {limit}: {told}")


def _weight_after(flight: Flight) -> int:
    return flight.steps[flight.step].weight if flight.step < len(flight.steps) else rollout.WATCHED


def _ends_at(flight: Flight, now: datetime) -> datetime:
    hold_s = flight.steps[flight.step - 1].hold_s
    return flight.since(now) + timedelta(seconds=hold_s * (1 + flight.extensions))


def _extended(flight: Flight, now: datetime) -> Flight:
    """Hold a step as long again. While something else has held it, no extension has passed."""
    extended = replace(flight, extensions=flight.extensions + 1)
    late = now.replace(microsecond=0) - _ends_at(extended, now)
    if late <= timedelta(0):
        return extended
    hold = timedelta(seconds=flight.steps[flight.step - 1].hold_s)
    return replace(extended, held_since=flight.since(now) + late + hold)


def _step_ends(flight: Flight) -> str:
    return f"step {flight.step} of {len(flight.steps)} ends"
