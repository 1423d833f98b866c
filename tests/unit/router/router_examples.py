"""Tables and small tools that the tests of the router's books share."""

from __future__ import annotations

from dataclasses import replace

from arbiter.api.localmodel import EngineType
from arbiter.core.routes import Backend, Hold, Limits, RouteTable, Target, Task
from arbiter.core.traffic import Side

START_MS = 1_700_000_010_000
"""A wall clock that stands at the beginning of a slice of 15 s, in Unix milliseconds."""


def backend(revision: str) -> Backend:
    """A revision that answers at one address."""
    return Backend(revision, f"model-{revision}", EngineType.LlamaCpp, None, ("http://engine.example:8080",))


def task(name: str = "chat", *, sides: tuple[Side, ...] = (Side.NEW, Side.OLD)) -> Task:
    """A task with a target for each side; the first has a tenth of the weight when there are two."""
    weights = (10, 90) if len(sides) == 2 else (100,)
    targets = tuple(Target(side, backend(side.value), weight) for side, weight in zip(sides, weights, strict=True))
    return Task(name, targets, (backend("spare"),), Hold(), "", (), None, {})


def table(generation: int = 1, *tasks: Task, slice_ms: int = 15_000) -> RouteTable:
    """A table of these tasks, or of `chat` with both sides."""
    named = {each.name: each for each in tasks or (task(),)}
    return RouteTable(1, generation, slice_ms, named, Limits(), None)


def with_hold(held: Task, hold: Hold) -> Task:
    """The same task with other rules for waiting."""
    return replace(held, hold=hold)
