"""Decides the steps of a rollout: the weights, how long each is held, and how many engine pods each side needs.

Rule: the steps follow from the frozen policy alone. The old side keeps all its pods to the end; the new side has as
many as its share of requests needs, before it gets that share.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

from arbiter.api.amounts import Duration
from arbiter.api.swappolicy import Ramp

if TYPE_CHECKING:
    from arbiter.api.swappolicy import Rollout

BASELINE: Final = 2
"""Percent of requests that the old side keeps while the new one is watched: enough to be compared with."""

WATCHED: Final = 100 - BASELINE
"""Percent that the new side has then."""

HALF: Final = 50
"""Percent before which evidence is asked for, so that no unproven model serves most requests."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        weight: percent of new requests for the new side.
        hold_s: seconds that it lasts at least, from when every router obeys it.
    """

    weight: int
    hold_s: float


def steps_of(rollout: Rollout) -> tuple[Step, ...]:
    """Give the steps, each with more weight than the one before; at least one."""
    if rollout.steps is not None:
        return tuple(Step(step.weight, step.hold.seconds) for step in rollout.steps)
    ramp = rollout.ramp or Ramp()
    weights = range(ramp.start, WATCHED, ramp.increment)
    return tuple(Step(weight, ramp.hold.seconds) for weight in weights)


def asks_for_evidence(before: int, after: int) -> bool:
    """Whether the change from one weight to the next is a gate: before half, and before the watch."""
    return before < HALF <= after or after >= WATCHED


def pods_needed(weight: int, replicas: int) -> int:
    """Give how many engine pods a share of requests needs: of N pods as much as its share, and one at least."""
    return max(ceil(weight * replicas / 100), 1)


def planned(rollout: Rollout) -> Duration:
    """Give how long the steps and the watch take at least."""
    total = sum(step.hold_s for step in steps_of(rollout)) + rollout.watch.seconds
    return Duration.parse(f"{round(total)}s")
