"""Decides which models a shared engine loads and which it lets go.

Rule: what is referred to is loaded, in the order of its purpose, and never taken out; neither is what requests are
using, nor what nobody can say that of. Of the rest the least recently used goes first, and only where its room is
needed: an idle model costs nothing that the engine's pod does not hold anyway. An engine without bounds never needs
it, and its pod would grow and grow, so there what is idle goes at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arbiter.core.facts import spell_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model that has to be loaded.

    Attributes:
        name: as the engine knows it.
        memory: bytes that it needs; None if that is not known, and then it is tried.
    """

    name: str
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A model that is loaded.

    Attributes:
        name: as the engine knows it.
        memory: bytes that it holds.
        used_at: when a request last used it; None if none ever did.
        busy: whether requests are using it; None if that is not known.
    """

    name: str
    memory: int
    used_at: datetime | None = None
    busy: bool | None = False


@dataclass(frozen=True, slots=True)
class Residency:
    """What is done about it.

    Attributes:
        load: names to be loaded now, in this order.
        unload: names to be unloaded now; what needs their room is loaded once they are gone.
        refused: why a wanted model cannot be loaded, as a sentence, by name.
    """

    load: tuple[str, ...] = ()
    unload: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Room:
    """What is left of the engine while the wanted are gone through."""

    memory: int | None
    models: int | None

    def takes(self, memory: int) -> bool:
        return (self.memory is None or memory <= self.memory) and (self.models is None or self.models >= 1)

    def change(self, memory: int, models: int) -> None:
        self.memory = None if self.memory is None else self.memory + memory
        self.models = None if self.models is None else self.models + models


def settle(wanted: Sequence[Wanted], held: Sequence[Held], memory: int | None, models: int | None) -> Residency:
    """Decide.

    Args:
        wanted: what has to be loaded, what matters most first.
        held: what is loaded.
        memory: bytes for all models together; None: not bounded.
        models: how many may be loaded at once; None: not bounded.
    """
    names = {each.name for each in wanted}
    room = _Room(
        None if memory is None else memory - sum(each.memory for each in held),
        None if models is None else models - len(held),
    )
    idle = sorted(
        (each for each in held if each.name not in names and each.busy is False),
        key=lambda each: (each.used_at is not None, each.used_at.timestamp() if each.used_at else 0.0, each.name),
    )
    load, unload, refused = [], [], {}
    loaded = {each.name for each in held}
    for each in wanted:
        if each.name in loaded:
            continue
        need = each.memory or 0
        going = _who_goes(need, room, idle)
        if going is None:
            refused[each.name] = _why(need, memory, models, held)
            continue
        for one in going:
            idle.remove(one)
            unload.append(one.name)
            room.change(one.memory, 1)
        room.change(-need, -1)
        if not going:
            load.append(each.name)
    if memory is None and models is None:
        unload += [one.name for one in idle]
    return Residency(tuple(load), tuple(unload), refused)


def _who_goes(need: int, room: _Room, idle: Sequence[Held]) -> list[Held] | None:
    """Choose who makes room, as few as possible from the front; None if all of them would not be enough."""
    after = _Room(room.memory, room.models)
    going: list[Held] = []
    for one in (*idle, None):
        if after.takes(need):
            return going
        if one is not None:
            going.append(one)
            after.change(one.memory, 1)
    return None


def _why(need: int, memory: int | None, models: int | None, held: Sequence[Held]) -> str:
    bounds = []
    if memory is not None:
        bounds.append(f"{spell_bytes(memory)} of memory")
    if models is not None:
        bounds.append(f"{models} models")
    used = sum(each.memory for each in held)
    needs = f"needs {spell_bytes(need)}" if need else "needs a place"
    return (
        f"{needs}, and the pool's shared engine may hold {' and '.join(bounds)}, of which {len(held)} loaded models "
        f"hold {spell_bytes(used)}; raise spec.capacity of the pool, or use fewer models in it"
    )
