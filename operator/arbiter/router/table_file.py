"""Follows a table in a file: one that a person edits, or a key of a mounted ConfigMap.

The file is looked at forty times a second, which costs less than a hundredth of a core and works everywhere, while
notifications get lost when a link to another folder is swapped. It is read once it stays the same between two looks:
so a writer that replaces it is seen within 50 ms, and one that writes in place is not read half way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from arbiter.router.fence import Fence, Offer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from arbiter.core.routes import RouteTable

LOOK_S = 0.025
"""Seconds between two looks."""

MAX_BYTES = 1_048_576
"""Largest table: what a ConfigMap can hold."""


async def follow_file(
    path: Path, on_table: Callable[[RouteTable], None], on_refused: Callable[[str, str], None]
) -> None:
    """Obey the tables of a file until cancelled; the callbacks are those of `Fence`."""
    fence = Fence(on_table, on_refused)
    async for offer in offers(path):
        fence.take(offer)


async def offers(path: Path) -> AsyncGenerator[Offer, None]:
    """What stands in a file, and again each time it changes. A file that is missing is an offer without a text."""
    read: object = None
    before = _stamp(path)
    while True:
        stamp = _stamp(path)
        if stamp == before != read:
            read = stamp
            yield _offer(path)
        before = stamp
        await asyncio.sleep(LOOK_S)


def _stamp(path: Path) -> object:
    """What differs when the file does: the one behind the links, so that a swapped link is seen."""
    try:
        stat = path.stat()
    except OSError as error:
        return error.errno
    return (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)


def _offer(path: Path) -> Offer:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode()
    except OSError as error:
        return Offer(problem=f"{path} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        return Offer(problem=f"{path} must be UTF-8 text")
    if len(data) > MAX_BYTES:
        return Offer(problem=f"{path} must not be larger than {MAX_BYTES} bytes")
    return Offer(text)
