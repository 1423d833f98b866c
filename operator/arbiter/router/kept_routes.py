"""Keeps the last good table and the endpoints in a folder, so that a router starts while the API server is away.

The folder is the pod's own (an emptyDir): it outlives the process and not the pod. Everything is one file, replaced as
a whole, so that what is read back belonged together. A file that does not read back is as good as none.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arbiter.core.routes import RouteTable
from arbiter.core.stored import Stored, to_json
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

FILE = "kept-routes.json"
KEPT_VERSION = 1
"""Version of the JSON form of the file."""

Endpoints = dict[str, tuple[str, ...]]
"""Base addresses by Service."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What was in force.

    Attributes:
        table: the table.
        endpoints: the ready endpoints of its Services, as far as they were known.
    """

    table: RouteTable
    endpoints: Mapping[str, tuple[str, ...]] = field(default_factory=Endpoints)

    def to_text(self) -> str:
        """The JSON form."""
        endpoints = {service: list(urls) for service, urls in self.endpoints.items()}
        return to_json({"version": KEPT_VERSION, "routes": self.table.to_text(), "endpoints": endpoints})

    @staticmethod
    def from_text(text: str) -> Kept:
        """Read back what `to_text` wrote.

        Raises:
            CorruptStateError: it does not read back.
        """
        stored = Stored.parse(text, "kept", KEPT_VERSION)
        table, named = RouteTable.from_text(stored.text("routes")), stored.child("endpoints")
        endpoints = {service: _texts(named, service) for service in named.names()}
        stored.done()
        return Kept(table, endpoints)


def read(folder: Path) -> Kept | None:
    """What was kept; `None` when there is nothing that reads back."""
    path = folder / FILE
    try:
        return Kept.from_text(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, CorruptStateError) as error:
        log.warning("%s is left aside: %s", path, error)
        return None


def write(folder: Path, kept: Kept) -> None:
    """Replace what was kept.

    Raises:
        OSError: the folder cannot be written.
    """
    path, new = folder / FILE, folder / f"{FILE}.new"
    new.write_text(kept.to_text(), encoding="utf-8")
    os.replace(new, path)  # noqa: PTH105  says that it replaces


class Keeper:
    """Writes what changed, beside the loop: a slow disk must not hold up a stream."""

    def __init__(self, folder: Path | None, newest: Callable[[], Kept | None]) -> None:
        """Write what `newest` gives into the folder; without a folder nothing is kept."""
        self._folder = folder
        self._newest = newest
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """There is something new."""
        self._changed.set()

    async def run(self) -> None:
        """Write until cancelled. A disk that fails is told once, and tried again at the next change."""
        told = ""
        while True:
            await self._changed.wait()
            self._changed.clear()
            kept = self._newest()
            if self._folder is None or kept is None:
                continue
            try:
                await asyncio.to_thread(write, self._folder, kept)
                told = ""
            except OSError as error:
                if told != (told := str(error)):
                    log.warning("the table cannot be kept for a restart: %s", error)


def _texts(named: Stored, service: str) -> tuple[str, ...]:
    urls = named.items(service)
    if not all(isinstance(url, str) for url in urls):
        raise CorruptStateError(f"{named.path}.{service} must be a list of texts")
    return tuple(str(url) for url in urls)
