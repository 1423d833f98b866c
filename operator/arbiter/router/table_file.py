"""Follows a table in a file: one that a person edits, or a key of a mounted ConfigMap.

Two ways lead to the file, and each may find what the other misses:

- The folder is watched. When the kernel tells that a writer closed a file in it, or that something was moved there
  (a file, or the link that a mounted ConfigMap swaps), the file is read at once, and what it says counts if it is
  whole: half of a JSON object is never JSON. Anything else is left to the other way.
- The file is looked at forty times a second, which costs less than a hundredth of a core, and is read once it stays
  the same between two looks. So whatever is wrong with a file is told only when nobody writes it any more, and a
  change is seen within 50 ms where notices get lost: on network file systems, behind a link to a file elsewhere, or
  when the kernel has no more watches to give.

Looking more often instead would cost a hundredth of a core for each five hundred looks a second, for ever. Watching
alone would lose changes. And the first way decides nothing that the second would not decide the same a moment later.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from asyncinotify import Inotify, Mask

from arbiter.router.fence import Fence, Offer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from arbiter.core.routes import RouteTable

log = logging.getLogger(__name__)

LOOK_S = 0.025
"""Seconds between two looks."""

WATCH_AGAIN_S = 1.0
"""Seconds after which a folder that could not be watched, or is another one now, is tried again."""

MAX_BYTES = 1_048_576
"""Largest table: what a ConfigMap can hold."""

_WRITTEN = Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.CREATE
"""What a writer does last. CREATE is for links: a file that was just made is not whole yet, and left alone."""

_GONE = Mask.MOVE_SELF | Mask.IGNORED
"""The folder is no longer where it was, or no longer there."""


async def follow_file(
    path: Path, on_table: Callable[[RouteTable], None], on_refused: Callable[[str, str], None]
) -> None:
    """Obey the tables of a file until cancelled; the callbacks are those of `Fence`."""
    fence = Fence(on_table, on_refused)
    async with aclosing(offers(path)) as found:
        async for offer in found:
            fence.take(offer)


async def offers(path: Path) -> AsyncGenerator[Offer, None]:
    """What stands in a file, and again each time it changes. A file that is missing is an offer without a text.

    The same offer may come twice, once by each way.
    """
    noticed = asyncio.Event()
    watching = asyncio.create_task(_watch(path.parent, noticed))
    clock = asyncio.get_running_loop().time
    read: object = None
    taken = before = _stamp(path)
    look_at = clock()
    try:
        while True:
            if noticed.is_set():
                noticed.clear()
                if (stamp := _stamp(path)) != taken:
                    taken = stamp
                    if _is_whole(offer := _offer(path)):
                        yield offer
            if clock() >= look_at:
                stamp = _stamp(path)
                if stamp == before != read:
                    read = stamp
                    yield _offer(path)
                before = stamp
                look_at = clock() + LOOK_S
            with suppress(TimeoutError):
                async with asyncio.timeout_at(look_at):
                    await noticed.wait()
    finally:
        watching.cancel()


async def _watch(folder: Path, noticed: asyncio.Event) -> None:
    """Set `noticed` whenever something was written in a folder, until cancelled."""
    told = ""
    while True:
        try:
            with Inotify() as notices:
                notices.add_watch(folder, _WRITTEN | Mask.MOVE_SELF)
                told = ""
                async for notice in notices:
                    noticed.set()
                    if notice.mask & _GONE:
                        break
        except OSError as error:
            if told != (told := str(error)):
                log.info("%s cannot be watched, only looked at %.0f times a second: %s", folder, 1 / LOOK_S, error)
        await asyncio.sleep(WATCH_AGAIN_S)


def _is_whole(offer: Offer) -> bool:
    """Whether its text is JSON, whatever that means."""
    try:
        json.loads(offer.text)
    except (ValueError, RecursionError):
        return False
    return True


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
