"""Keeps images, and what they are made from, in the user's cache.

What is kept has a key in its name that says what it was made from, and appears there in one step or not at all. Only
who holds the lock makes or removes anything.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from devcluster import build
from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from pathlib import Path

KEPT = 2
"""States of one thing that are kept: this one, and the one before for whoever goes back to it or never left it."""


def root() -> Path:
    """Where it all is: beside the cluster's programs."""
    return build.cache().parent / "images"


def place(name: str, key: str, suffix: str = "") -> Path:
    """Where this state of a thing is kept, or will be."""
    return root() / f"{name}-{key}{suffix}"


def mark_used(path: Path) -> None:
    """Write down that it is used now; its time is the record."""
    with suppress(OSError):  # another user's cache is not ours to write to
        os.utime(path)


def keep(made: Path, kept: Path) -> Path:
    """Move what is complete to its place, and remove what it is too new a successor of."""
    made.rename(kept)  # in one step: nobody ever sees half of it
    mark_used(kept)
    named = re.fullmatch(r"(.+)-[0-9a-f]{16}(\.\w+)?", kept.name)
    if named is None:
        raise ValueError(kept.name)
    alike = re.compile(rf"{re.escape(named[1])}-[0-9a-f]{{16}}{re.escape(named[2] or '')}")
    states = [path for path in root().iterdir() if alike.fullmatch(path.name)]
    for old in sorted(states, key=lambda path: path.stat().st_mtime_ns, reverse=True)[KEPT:]:
        _remove(old)
    return kept


def check_disk(needed: int) -> None:
    """Raise where fewer than `needed` bytes are free for what is made here."""
    free = shutil.disk_usage(root()).free
    if free < needed:
        raise DevclusterError(
            f"too little disk: images need about {needed / 1e9:.0f} GB while they are built, and there are "
            f"{free / 1e9:.1f} GB free for {root()}; make room, or choose another disk with XDG_CACHE_HOME"
        )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
