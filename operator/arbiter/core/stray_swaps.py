"""Plans swaps whose pool is not there: what was only asked for waits for the pool, and what was under way ends.

Rule: with a pool its routes and engines have gone, so there is nothing to give back and nothing to wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arbiter.api.modelswap import Phase
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.actions import Action, Emit, Plan, WriteStatus
from arbiter.core.pool_flights import flying
from arbiter.core.swap_record import Shown, SideNow, swap_status, unknown_status
from arbiter.core.swap_table import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from arbiter.api.modelswap import ModelSwap, ModelSwapStatus, SwapSide
    from arbiter.core.pool_flights import Flying
    from arbiter.core.swap_flight import Flight


def plan_stray_swaps(swaps: Iterable[ModelSwap], now: datetime) -> Plan:
    """Plan one pass over the swaps of a pool that is not there."""
    return Plan(tuple(action for stray in flying(swaps) for action in _actions(stray, now)))


def _actions(stray: Flying, now: datetime) -> Iterator[Action]:
    swap, metadata = stray.swap, stray.swap.metadata
    gone = f"there is no ModelPool {swap.spec.pool} in namespace {metadata.namespace}"
    withdrawn = Reason(ReasonCode.Withdrawn, f"{gone} any more")
    ended = None if stray.flight is None else _ended(stray.flight, withdrawn, now)
    if ended is not None:
        status = swap_status(ended, swap, _shown(swap.status), now)
    else:
        told = f"{gone}: create it, or delete this ModelSwap and make one for another pool"
        status = unknown_status(swap, Reason(ReasonCode.PoolNotFound, told), now)
    if status.to_dict() == swap.status.to_dict():
        return
    yield WriteStatus("ModelSwap", metadata.name, metadata.resource_version, status.to_dict())
    if ended is not None:
        yield Emit("ModelSwap", metadata.name, metadata.uid, ended.reason)


def _ended(flight: Flight, gone: Reason, now: datetime) -> Flight:
    """End a swap, by the arrows that any other takes."""
    if flight.phase is not Phase.RollingBack:
        flight = flight.moved(Event.ABORTED, gone, now)
    return flight if flight.ended else flight.moved(Event.RESTORED, flight.history[-1].reason, now)


def _shown(before: ModelSwapStatus) -> Shown:
    """Keep what was counted of both sides; their engines are gone."""
    return Shown(_counted(before.from_), _counted(before.to))


def _counted(side: SwapSide | None) -> SideNow:
    return SideNow() if side is None else SideNow(digest=side.digest or "", requests=side.requests)
