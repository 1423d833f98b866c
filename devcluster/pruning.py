"""Removes from the cache what nobody has used for a month: sets of links, and then programs that no set leads to.

Only what has the form of our own work is looked at. A program that another checkout uses is in a set of that checkout,
which says when it was used; one that was built for a set that never came to be goes by its own age.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

UNUSED_DAYS = 30
"""Days after which nobody is expected back: a month covers a branch that is put aside for a while."""

_SET = re.compile(r"programs-[0-9a-f]{16}")
_PROGRAM = re.compile(r"(.+)-[0-9a-f]{16}")


def mark_used(links: Path) -> None:
    """Write down that a set of links is used now; its directory's time is the record."""
    with suppress(OSError):  # another user's cache is not ours to write to
        os.utime(links)


def prune(cache: Path) -> list[str]:
    """Remove what is unused, and name it. The cache's lock must be held."""
    oldest = _now(cache) - UNUSED_DAYS * 24 * 3600
    sets = [path for path in sorted(cache.iterdir()) if _SET.fullmatch(path.name)]
    stale = [path for path in sets if path.stat().st_mtime < oldest]
    used = {link.resolve().parent for links in sets if links not in stale for link in links.glob("*/*")}
    unused = [
        path
        for path in sorted(cache.iterdir())
        if _is_program(path) and path.resolve() not in used and path.stat().st_mtime < oldest
    ]
    for path in (*stale, *unused):  # sets first: none may lead to a program that is gone
        shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in (*stale, *unused)]


def _is_program(path: Path) -> bool:
    """Say whether a directory of the cache holds one program that we built."""
    named = _PROGRAM.fullmatch(path.name)
    return named is not None and path.is_dir() and [entry.name for entry in path.iterdir()] == [named[1]]


def _now(cache: Path) -> float:
    """Give the time by the clock that stamps the files of the cache, which may be another machine's."""
    lock = cache / "lock"
    os.utime(lock)
    return lock.stat().st_mtime
