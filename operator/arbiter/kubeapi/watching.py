"""Follows the objects of a selection: lists them, then watches what changes, for ever.

- The watch goes on from the last resource version, which bookmarks keep fresh; when the server no longer keeps it
  (410, as a status or in the stream), everything is listed again, and what did not change is not told again.
- The server ends each watch after some minutes; a new one then goes on at once. One that breaks or is refused is
  tried again after a pause that grows, with a part of chance in it, so that a fleet does not come back all at once.
- A server that was away may have come back from a backup, where our resource version lies in the future and a watch
  is silent (kubernetes issue 107457). So everything is listed again after several failures in a row, and after a watch
  that ended without a word: a living one has a bookmark every minute.

Rule: it ends only when its reader does. Missing rights are waited for too, since a role may come after its account.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arbiter.errors import ClusterError, UnreachableError
from arbiter.kubeapi.connection import ExpiredError, failure, parsed
from arbiter.kubeapi.reading import list_all

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence

    from arbiter.kubeapi.connection import Connection
    from arbiter.kubeapi.resources import Selection

WATCH_S = (120.0, 240.0)
"""Seconds after which the server shall end a watch, drawn for each: what a silently lost one can cost at most."""

GRACE_S = 15.0
"""Seconds that the server may take longer to end it."""

STEADY_S = 1.0
"""A watch that the server ends in order sooner than this counts as a failure, or we would ask without a pause."""

PAUSE_S = (0.1, 10.0)
"""Seconds of pause after the first failure, which double with each, and their upper limit."""

AWAY = 3
"""Failures in a row after which the resource version is no longer trusted."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An object is new or changed, or it is gone.

    Attributes:
        name: its name.
        object: as the API server sent it, not to be changed; `None` when it is gone.
        namespace: where it is; empty for one without a namespace.
    """

    name: str
    object: Mapping[str, Any] | None
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Synced:
    """All that exists has been told; from here on changes come as they happen."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Changes no longer come, until the next `Synced`.

    Attributes:
        reason: why, as a sentence.
    """

    reason: str


Event = Seen | Synced | Lost


async def watch(connection: Connection, selection: Selection, draw: Callable[[], float]) -> AsyncGenerator[Event, None]:
    """Follow a selection; close the generator to end it.

    Args:
        connection: to the API server.
        selection: what to follow.
        draw: numbers drawn evenly from [0, 1), for pauses.
    """
    following = _Following(connection, selection, draw)
    async with aclosing(following.events()) as events:
        async for event in events:
            yield event


class _Following:
    """One watch loop: what was told, where to go on, and how often it failed in a row."""

    def __init__(self, connection: Connection, selection: Selection, draw: Callable[[], float]) -> None:
        self._connection = connection
        self._selection = selection
        self._draw = draw
        self._told: dict[tuple[str, str], str] = {}
        self._version = ""
        self._failures = 0
        self._standing: Synced | Lost | None = None

    async def events(self) -> AsyncGenerator[Event, None]:
        """All events, for ever."""
        while True:
            try:
                async with aclosing(self._round()) as events:
                    async for event in events:
                        yield event
            except ClusterError as error:
                if isinstance(error, ExpiredError):
                    self._version = ""
                    if not self._failures:
                        # Much happened while we were away: list at once, though not again and again.
                        self._failures = 1
                        continue
                self._failures += 1
                if self._failures >= AWAY:
                    self._version = ""
                if self._standing != (lost := Lost(str(error))):
                    self._standing = lost
                    yield lost
                asked = error.retry_after_s if isinstance(error, UnreachableError) else 0.0
                await asyncio.sleep(max(asked, pause_s(self._failures, self._draw())))

    async def _round(self) -> AsyncGenerator[Event, None]:
        """List if need be, then watch until the server ends the watch in order."""
        if not self._version:
            listed = await list_all(self._connection, self._selection)
            for seen in self._compared(listed.items):
                yield seen
            self._version = listed.version
        shortest, longest = WATCH_S
        seconds = shortest + (longest - shortest) * self._draw()
        query = {
            **self._selection.query,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(round(seconds)),
        }
        clock = asyncio.get_running_loop().time
        began, heard = clock(), False
        async with self._connection.lines(self._selection.path, query, seconds + GRACE_S) as lines:
            if not isinstance(self._standing, Synced):
                self._standing = Synced()
                yield self._standing
            async for line in lines:
                change = self._change(line)
                self._failures, heard = 0, True
                if change is not None:
                    yield change
        if clock() - began < STEADY_S:
            raise UnreachableError("the API server ended a watch as soon as it had begun")
        self._failures = 0
        if not heard:
            self._version = ""

    def _compared(self, items: Sequence[Mapping[str, Any]]) -> Iterator[Seen]:
        """What differs from what was told: first what is there, so that nothing seems gone that only moved."""
        there = set()
        for item in items:
            namespace, name, version = _identity(item)
            there.add((namespace, name))
            if self._told.get((namespace, name)) != version:
                self._told[namespace, name] = version
                yield Seen(name, item, namespace)
        for namespace, name in [key for key in self._told if key not in there]:
            del self._told[namespace, name]
            yield Seen(name, None, namespace)

    def _change(self, line: bytes) -> Seen | None:
        """What one line of a watch says; it moves the resource version on."""
        event = parsed(line)
        kind, item = event.get("type"), event.get("object")
        if not isinstance(item, dict):
            raise UnreachableError("an event of the API server has no object")
        match kind:
            case "ERROR":
                code = item.get("code")
                raise failure(code if isinstance(code, int) else 500, json.dumps(item).encode())
            case "BOOKMARK":
                self._version = _version(item)
                return None
            case "ADDED" | "MODIFIED" | "DELETED":
                namespace, name, version = _identity(item)
            case _:
                raise UnreachableError(f"the API server sent an unknown event, {str(kind)[:40]!r}")
        self._version = version
        if kind == "DELETED":
            return Seen(name, None, namespace) if self._told.pop((namespace, name), None) else None
        if self._told.get((namespace, name)) == version:
            return None
        self._told[namespace, name] = version
        return Seen(name, item, namespace)


def pause_s(failures: int, draw: float) -> float:
    """Seconds of pause after so many failures in a row, of which chance takes up to a half."""
    first, longest = PAUSE_S
    return min(longest, first * 2.0 ** min(failures - 1, 16)) * (1.0 - draw / 2.0)


def _identity(item: Mapping[str, Any]) -> tuple[str, str, str]:
    """Namespace, name and resource version of an object."""
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise UnreachableError("an object of the API server has no name")
    return metadata.get("namespace", ""), metadata["name"], _version(item)


def _version(item: Mapping[str, Any]) -> str:
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or not (version := metadata.get("resourceVersion")):
        raise UnreachableError("an object of the API server has no resource version")
    return str(version)
