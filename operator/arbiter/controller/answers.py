"""Reads what routers, engines and downloads answer about themselves.

Rule: an answer is believed whole or not at all; one that does not read is an error that says where it came from.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from arbiter.core.feed import Feed
from arbiter.core.snapshot import LoadedModel
from arbiter.engines.calls import EngineReplyError, Reply
from arbiter.engines.load import read_load
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.api.localmodel import EngineType
    from arbiter.core.routes import RouteTable

Sides: TypeAlias = "Mapping[int, Mapping[tuple[str, str], str]]"
"""Which revision each side of each task was, by generation of the table."""

_WRONG = (KeyError, TypeError, ValueError, AttributeError, RecursionError)
"""How Python says that an answer is not what it should be."""

UNKNOWN = ""
"""The revision of requests that were routed by a table that is not known any more."""


@dataclass(frozen=True, slots=True, order=True)
class Fence:
    """The newest table that a router has obeyed; an older one it refuses."""

    epoch: int
    generation: int


@dataclass(frozen=True, slots=True)
class RouterAnswer:
    """What a router said.

    Attributes:
        epoch: of the table that all its workers obey; None while they differ, or before the first.
        generation: the same.
        hash: the same; empty then.
        fence: the newest table that any of them has obeyed; None before the first.
        refused: why it refused the newest one offered; empty when it did not.
        in_flight: requests that it serves, by revision; one that serves none is left out.
        feed: what it has counted; None where nobody learns from that.
    """

    epoch: int | None = None
    generation: int | None = None
    hash: str = ""
    fence: Fence | None = None
    refused: str = ""
    in_flight: tuple[tuple[str, int], ...] = ()
    feed: Feed | None = None

    @property
    def meaning(self) -> tuple[object, ...]:
        """What a pass would act on: numbers of requests change all the time, that there are none matters.

        Where a swap learns from them, they matter too.
        """
        serving = {name for name, _ in self.in_flight}
        counted = None if self.feed is None else self.feed.slices
        return (self.epoch, self.generation, self.hash, self.fence, self.refused, serving, counted)


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """What a shared engine holds.

    Attributes:
        loaded: in memory.
        stored: on disk: names with digests.
    """

    loaded: tuple[LoadedModel, ...]
    stored: tuple[tuple[str, str], ...]

    @property
    def meaning(self) -> EngineAnswer:
        """All of it."""
        return self


@dataclass(frozen=True, slots=True)
class FetchAnswer:
    """How far a download is: bytes that are there, and in all; None where it did not say."""

    fetched: int | None
    fetching: int | None

    @property
    def meaning(self) -> FetchAnswer:
        """All of it."""
        return self


@dataclass(frozen=True, slots=True)
class LoadAnswer:
    """Whether an engine of one model computes nothing."""

    idle: bool

    @property
    def meaning(self) -> LoadAnswer:
        """All of it."""
        return self


Answer = RouterAnswer | EngineAnswer | FetchAnswer | LoadAnswer


def sides_of(table: RouteTable) -> Mapping[tuple[str, str], str]:
    """Which revision each side of each task is."""
    return {
        (task.name, target.side.value): target.backend.revision
        for task in table.tasks.values()
        for target in task.targets
    }


def read_router(routes: bytes, slices: bytes, sides: Sides, *, learning: bool = False) -> RouterAnswer:
    """Read `/internal/routes` and `/internal/slices` of a router.

    Args:
        routes: the one.
        slices: the other.
        sides: which revision each side was.
        learning: whether a swap learns from what it has counted.

    Raises:
        CorruptStateError: they are not what a router answers.
    """
    try:
        told, feed = _object(routes), _object(slices)
        table, fence = told["table"], told["fence"]
        return RouterAnswer(
            epoch=None if table is None else int(table["epoch"]),
            generation=None if table is None else int(table["generation"]),
            hash="" if table is None else str(table["hash"]),
            fence=None if fence is None else Fence(int(fence["epoch"]), int(fence["generation"])),
            refused=str(told["refused"]),
            in_flight=_open_requests(feed["slices"], sides),
            feed=Feed.from_text(slices.decode()) if learning else None,
        )
    except _WRONG as error:
        raise CorruptStateError(f"a router's answer cannot be read: {error!r}") from error


def _open_requests(slices: list[Any], sides: Sides) -> tuple[tuple[str, int], ...]:
    """Requests that were routed and have not ended, by revision."""
    found: Counter[str] = Counter()
    for each in slices:
        known = sides.get(each["generation"], {})
        for side, tally in each["sides"].items():
            ended = tally["ok"] + sum(tally["failed"].values()) + tally["rejected"] + tally["left"]
            found[known.get((each["task"], side), UNKNOWN)] += tally["routed"] - ended
    return tuple(sorted((revision, count) for revision, count in found.items() if count > 0))


def read_ollama(running: bytes, tags: bytes) -> EngineAnswer:
    """Read `/api/ps` and `/api/tags` of an Ollama server.

    Raises:
        CorruptStateError: they are not what it answers.
    """
    try:
        loaded = tuple(
            LoadedModel(str(each["name"]), str(each.get("digest") or ""), int(each.get("size") or 0))
            for each in _object(running)["models"] or ()
        )
        stored = tuple(
            sorted((str(each["name"]), str(each.get("digest") or "")) for each in _object(tags)["models"] or ())
        )
        return EngineAnswer(tuple(sorted(loaded, key=lambda each: each.name)), stored)
    except _WRONG as error:
        raise CorruptStateError(f"an engine's answer cannot be read: {error!r}") from error


def read_engine_load(engine: EngineType, asked: str, metrics: bytes) -> LoadAnswer:
    """Read what an engine answers that was asked for its load.

    Args:
        engine: which kind it is.
        asked: what it was asked, for messages.
        metrics: its answer.

    Raises:
        CorruptStateError: it is not what such an engine answers.
    """
    try:
        load = read_load(engine, Reply(asked, 200, metrics))
    except EngineReplyError as error:
        raise CorruptStateError(f"an engine's answer cannot be read: {error}") from error
    if load is None:
        raise CorruptStateError(f"an engine of kind {engine} cannot say what it computes")
    return LoadAnswer(load.idle)


def read_fetch(progress: bytes) -> FetchAnswer:
    """Read `/progress` of a download.

    Raises:
        CorruptStateError: it is not what a download answers.
    """
    try:
        told = _object(progress)
        return FetchAnswer(_count(told["bytes"]), _count(told["total"]))
    except _WRONG as error:
        raise CorruptStateError(f"a download's answer cannot be read: {error!r}") from error


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _object(body: bytes) -> dict[str, Any]:
    found = json.loads(body)
    if not isinstance(found, dict):
        raise TypeError("it is no JSON object")
    return found
