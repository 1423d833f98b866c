"""RouteTables for tests."""

from __future__ import annotations

from arbiter.api.localmodel import EngineType
from arbiter.core.routes import Backend, Hold, Limits, RouteTable, Target, Task
from arbiter.core.traffic import Side


def backend(model: str = "smollm2", engine: EngineType = EngineType.LlamaCpp) -> Backend:
    """One revision behind a Service."""
    return Backend(revision="0a1b2c3d4e", model=model, engine=engine, service=f"{model}-0a1b2c3d4e")


def task(new: int | None = None, old: int | None = 100, name: str = "chat") -> Task:
    """A task with these weights; `None` leaves a side out."""
    sides = ((Side.NEW, new, "qwen3"), (Side.OLD, old, "smollm2"))
    return Task(
        name=name,
        targets=tuple(Target(side, backend(model), weight) for side, weight, model in sides if weight is not None),
        fallback=(Backend("ext", "gemma3:4b", EngineType.External, None, ("https://mac.example:11434/base",)),),
        hold=Hold(requests=10, seconds=1.5, hopeless=""),
        swap="chat-to-qwen3",
        capabilities=("chat", "tools"),
        context_window=8192,
        pins={"cache_prompt": True},
    )


def table(*tasks: Task) -> RouteTable:
    """A table of these tasks, or of one."""
    named = {each.name: each for each in tasks or (task(10, 90),)}
    return RouteTable(epoch=3, generation=17, slice_ms=15_000, tasks=named, limits=Limits(), auth=None)
