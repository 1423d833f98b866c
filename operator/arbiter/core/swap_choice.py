"""Decides how two models change places: side by side, one in the other's place, or not at all.

Rule: what is chosen follows from the room that there really is, and is said with it. A swap that cannot have its second
engine takes the place of the first, waits for room on a node, or is refused where only a person can make room; it never
waits beside a pod that no node will take.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from arbiter.api.reasons import Reason, ReasonCode
from arbiter.api.swappolicy import Strategy
from arbiter.core.candidacy import Check, Level
from arbiter.core.facts import spell_bytes
from arbiter.core.swap_seen import Choice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arbiter.core.candidacy import Fit
    from arbiter.core.facts import NodeFacts


@dataclass(frozen=True, slots=True)
class SharedRoom:
    """What an engine that holds several models has room for.

    Attributes:
        most_memory: bytes for all its models; None without a bound that is known.
        most_models: models at a time; None without a bound.
        memory: bytes that those which have to stay hold together, the new one included; None where one is not known.
        models: how many they are, the new one included.
        rivals: both sides are made of the same weights with other options, which the engine can load once only.
    """

    most_memory: int | None
    most_models: int | None
    memory: int | None
    models: int
    rivals: bool = False

    def lacks(self) -> str:
        """Say what both models together are too much for; empty if nothing is known to be."""
        if self.rivals:
            return "both are made of the same weights with other options, which the shared engine holds once only"
        if self.most_models is not None and self.models > self.most_models:
            return f"the shared engine may hold {self.most_models} models, and {self.models} would have to be there"
        if self.most_memory is not None and self.memory is not None and self.memory > self.most_memory:
            return (
                f"the shared engine has {spell_bytes(self.most_memory)} of memory, and its models would need "
                f"{spell_bytes(self.memory)}"
            )
        return ""


def choose_strategy(
    asked: Strategy, fit: Fit | None, shared: SharedRoom | None, held_by: str, names: tuple[str, str]
) -> Choice:
    """Choose.

    Args:
        asked: what the policy says.
        fit: what compatibility found, the nodes among it; None where that was not asked.
        shared: the room in the engine that both would share; None where they would not.
        held_by: what else needs the old side's engine, so that nothing can take its place; empty if nothing.
        names: the old model and the new one.
    """
    old, new = names
    obstacle = _beside(fit, shared)
    if asked is not Strategy.OneAtATime and not obstacle:
        told = f"{new} has room beside {old}, so both are compared while they serve"
        return Choice(Strategy.SideBySide, Reason(ReasonCode.RoomForBoth, told))
    why = obstacle or "the policy asks for OneAtATime"
    if asked is Strategy.SideBySide:
        told = f"{new} cannot be there beside {old}, and the policy allows nothing else than SideBySide: {why}"
        return Choice(None, Reason(ReasonCode.NoRoom, told), may_change=shared is None)
    if held_by:
        told = f"{new} cannot be there beside {old}, nor in its place, which {held_by} needs: {why}"
        return Choice(None, Reason(ReasonCode.NoRoom, told), may_change=shared is None and bool(obstacle))
    told = (
        f"{new} takes the place of {old}, because {why}; requests are held meanwhile, and nothing can be compared "
        "at once, so only the task's checks and what breaks decide"
    )
    return Choice(Strategy.OneAtATime, Reason(ReasonCode.RoomForOne, told))


def with_held(nodes: Iterable[NodeFacts], held: Iterable[tuple[str, Mapping[str, int]]]) -> tuple[NodeFacts, ...]:
    """Say of each node what the active model's pods on it would give back.

    Args:
        nodes: as they were seen.
        held: for each of its pods the node that it is on, and what it asks of it.
    """
    found: dict[str, dict[str, int]] = {}
    for node, amounts in held:
        given = found.setdefault(node, {})
        for resource, amount in amounts.items():
            given[resource] = given.get(resource, 0) + amount
    return tuple(replace(node, held_by_active=found.get(node.name, {})) for node in nodes)


def _beside(fit: Fit | None, shared: SharedRoom | None) -> str:
    """Say what keeps both from being there at once; empty if nothing is known to."""
    if shared is not None:
        return shared.lacks()
    placed = None if fit is None else next((each for each in fit.verdicts if each.check is Check.NodeFits), None)
    if placed is None or placed.reason.code is not ReasonCode.FitsOnlyInPlace or placed.level is Level.Ok:
        return ""
    return placed.reason.message
