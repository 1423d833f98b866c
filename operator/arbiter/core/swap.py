"""Decides what a swap does next: one question after the other, in the order in which they matter in its phase.

Each question looks at the flight and at what was seen, and either says what happens, or that it has nothing to say.
The first that says something decides, so the order of the lists below is the whole priority: whoever wants the old
side back stands before everything, a broken or worse new side before patience, patience before progress.

Rule: one call moves a swap by at most one transition or one step, so every state between is written down and seen by
routers before the next. Nothing rises unless every live router obeys what was told last, nothing rises in a closed
window, and what was seen wrong takes requests away at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from arbiter.api.modelswap import Phase
from arbiter.api.swappolicy import Strategy
from arbiter.core import swap_begin, swap_commands, swap_replace, swap_return, swap_shift

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from arbiter.core.swap_flight import Flight
    from arbiter.core.swap_seen import SwapSeen

    Question = Callable[[Flight, SwapSeen, datetime], Flight | None]


def advance(flight: Flight, seen: SwapSeen, now: datetime) -> Flight:
    """Decide what a swap does next, and give it as it is then; the same once it has ended."""
    if flight.ended:
        return flight
    if flight.moves_requests and seen.obeyed:
        flight = replace(flight, acknowledged=flight.weight, held_since=flight.since(now.replace(microsecond=0)))
    in_place = flight.strategy is Strategy.OneAtATime
    for ask in (_IN_PLACE if in_place else _SIDE_BY_SIDE)[flight.phase]:
        after = ask(flight, seen, now)
        if after is not None:
            turns = after.phase is Phase.RollingBack and flight.phase is not Phase.RollingBack
            return _turned(after, seen, now) if turns else after
    return flight


def _turned(flight: Flight, seen: SwapSeen, now: datetime) -> Flight:
    """Begin the way back at once: whoever is found worse gets no request more than it takes to tell the routers."""
    if seen.task_gone:
        return flight
    first = swap_replace.turns_back if flight.strategy is Strategy.OneAtATime else swap_return.gives_back
    stranded = None if flight.strategy is Strategy.OneAtATime else swap_return.is_stranded(flight, seen, now)
    return stranded or first(flight, seen, now) or flight


_BACK: Final[tuple[Question, ...]] = (
    swap_commands.is_withdrawn,
    swap_commands.is_aborted,
    swap_commands.is_superseded,
)
"""Who wants the old side back."""

_WAITING: Final[tuple[Question, ...]] = (
    *_BACK,
    swap_begin.is_incompatible,
    swap_begin.has_no_room,
    swap_begin.is_delayed,
    swap_commands.is_paused,
    swap_commands.waits_for_window,
    swap_begin.begins,
)

_PREPARING: Final[tuple[Question, ...]] = (
    *_BACK,
    swap_begin.fails_to_come_up,
    swap_begin.fails_its_checks,
    swap_begin.comes_up,
    swap_begin.is_warm,
    swap_begin.is_checked,
    swap_commands.is_paused,
    swap_commands.waits_for_window,
    swap_begin.is_prepared,
)

_SIDE_BY_SIDE: Final[Mapping[Phase, tuple[Question, ...]]] = {
    Phase.Waiting: _WAITING,
    Phase.Preparing: _PREPARING,
    Phase.Shifting: (
        swap_commands.is_active_already,
        *_BACK,
        swap_shift.breaks,
        swap_begin.fails_its_checks,
        swap_shift.regresses,
        swap_shift.moves_in_one_step,
        swap_shift.is_obeyed,
        swap_commands.is_paused,
        swap_shift.is_blind,
        swap_shift.lasts,
        swap_shift.has_evidence,
        swap_commands.waits_for_window,
        swap_shift.has_pods,
        swap_shift.rises,
    ),
    Phase.Watching: (
        swap_commands.is_active_already,
        *_BACK,
        swap_shift.breaks,
        swap_begin.fails_its_checks,
        swap_shift.regresses,
        swap_shift.moves_in_one_step,
        swap_shift.is_obeyed,
        swap_commands.is_paused,
        swap_shift.is_blind,
        swap_shift.is_watched,
        swap_shift.is_promoted,
    ),
    Phase.RollingBack: (
        swap_return.is_moot,
        swap_return.is_stranded,
        swap_return.gives_back,
        swap_shift.is_obeyed,
        swap_return.lets_go,
        swap_return.is_restored,
    ),
}
"""What is asked in each phase while both models can be there."""

_IN_PLACE: Final[Mapping[Phase, tuple[Question, ...]]] = {
    Phase.Waiting: _WAITING,
    Phase.Preparing: _PREPARING,
    Phase.Shifting: (
        swap_commands.is_active_already,
        *_BACK,
        swap_shift.breaks,
        swap_begin.fails_its_checks,
        swap_shift.is_obeyed,
        swap_replace.clears_the_old,
        swap_replace.lets_the_new_come,
        swap_replace.serves_alone,
    ),
    Phase.Watching: (
        swap_commands.is_active_already,
        *_BACK,
        swap_shift.breaks,
        swap_shift.is_obeyed,
        swap_commands.is_paused,
        swap_shift.is_watched,
        swap_shift.is_promoted,
    ),
    Phase.RollingBack: (
        swap_return.is_moot,
        swap_replace.turns_back,
        swap_shift.is_obeyed,
        swap_replace.clears_the_new,
        swap_replace.lets_the_old_come,
        swap_return.is_restored,
    ),
}
"""What is asked in each phase where one model takes the other's place."""
