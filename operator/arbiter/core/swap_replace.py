"""Decides how two models change places where only one of them can be there at a time, and how they change back.

Requests are held meanwhile. There is no concurrent evidence, so the task's checks and what breaks have to do.

Rule: an engine goes only once its answers have ended or have had the time that requests may wait for that, and whoever
takes its place gets requests only once it has answered.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from arbiter.api.modelswap import Stage
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.swap_begin import weight_set
from arbiter.core.swap_commands import moves_at_once, promoted
from arbiter.core.swap_table import Event

if TYPE_CHECKING:
    from datetime import datetime

    from arbiter.core.swap_flight import Flight
    from arbiter.core.swap_seen import SwapSeen


def clears_the_old(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Wait until the old side has ended its answers, and let it go."""
    if flight.stage is not Stage.ClearingOld:
        return None
    deadline = _longest_hold(flight, now)
    if seen.old.idle is not True and now < deadline:
        told = f"{flight.old_name} ends the answers that it is giving; new requests for {flight.task} are held"
        return flight.waits(Reason(ReasonCode.RequestsHeld, told), f"{flight.old_name} makes room", deadline)
    told = f"{flight.old_name} goes, and {flight.new_name} takes its place; requests for {flight.task} are held"
    staged = replace(flight.staged(Stage.NewComes), pods=seen.replicas)
    return staged.waits(Reason(ReasonCode.RequestsHeld, told), f"{flight.new_name} comes up")


def lets_the_new_come(flight: Flight, seen: SwapSeen, _now: datetime) -> Flight | None:
    """Wait until the new side has answered and passed its checks, and give it all requests."""
    if flight.stage is not Stage.NewComes:
        return None
    if not seen.new.serves:
        return flight.waits(_held(flight, seen.new.reason), f"{flight.new_name} is checked")
    if seen.checks is not None and not seen.checks.done and flight.analysed:
        return flight.waits(_held(flight, Reason(ReasonCode.ChecksRunning, seen.checks.told)), "the checks end")
    return flight.staged(Stage.NewAlone).waits(weight_set(flight, 100), "it is watched once every router obeys")


def serves_alone(flight: Flight, seen: SwapSeen, now: datetime) -> Flight:
    """Watch the new side, with nothing to compare it with; or end, where nobody wants to wait."""
    if moves_at_once(flight, seen):
        return flight.moved(Event.PROMOTED, promoted(flight), now)
    told = f"{flight.new_name} serves alone: nothing is left to compare it with, so only what breaks takes it back"
    return flight.moved(Event.SHIFTED, Reason(ReasonCode.WatchedAlone, told), now)


def turns_back(flight: Flight, _seen: SwapSeen, _now: datetime) -> Flight | None:
    """Take the first stage of the way back."""
    match flight.stage:
        case Stage.ClearingOld:
            told = f"{flight.old_name} is still there and takes requests again"
            staged = flight.staged(Stage.Shared)
        case Stage.NewComes:
            told = f"{flight.new_name} goes before it served, and {flight.old_name} takes its place again"
            staged = replace(flight.staged(Stage.OldComes), pods=0)
        case Stage.NewAlone:
            told = f"requests for {flight.task} are held while {flight.new_name} ends the answers that it is giving"
            staged = flight.staged(Stage.ClearingNew)
        case _:
            return None
    return staged.waits(Reason(ReasonCode.RollingBack, told), f"{flight.old_name} serves again")


def clears_the_new(flight: Flight, seen: SwapSeen, now: datetime) -> Flight | None:
    """Wait until the new side has ended its answers, and let it go."""
    if flight.stage is not Stage.ClearingNew:
        return None
    deadline = _longest_hold(flight, now)
    if seen.new.idle is not True and seen.new.ready and now < deadline:
        told = f"{flight.new_name} ends the answers that it is giving; new requests for {flight.task} are held"
        return flight.waits(Reason(ReasonCode.RollingBack, told), f"{flight.new_name} makes room", deadline)
    told = f"{flight.new_name} goes, and {flight.old_name} takes its place again"
    staged = replace(flight.staged(Stage.OldComes), pods=0)
    return staged.waits(Reason(ReasonCode.RollingBack, told), f"{flight.old_name} serves again")


def lets_the_old_come(flight: Flight, seen: SwapSeen, _now: datetime) -> Flight | None:
    """Wait until the old side takes requests, and give it all of them."""
    if flight.stage is not Stage.OldComes:
        return None
    if not seen.old.ready:
        return flight.waits(_held(flight, seen.old.reason), f"{flight.old_name} serves again")
    told = f"{flight.old_name} is there again and takes all requests for {flight.task}"
    return flight.staged(Stage.Shared).waits(Reason(ReasonCode.RollingBack, told), "every router obeys")


def _held(flight: Flight, reason: Reason) -> Reason:
    """Say what an engine waits for, and what that means for those who ask."""
    return Reason(reason.code, f"requests for {flight.task} are held: {reason.message}")


def _longest_hold(flight: Flight, now: datetime) -> datetime:
    return flight.since(now) + timedelta(seconds=flight.policy.rollout.max_hold.seconds)
