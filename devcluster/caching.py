"""Lets one builder at a time work in a cache of the user's, in a scratch directory that is gone afterwards.

The lock is the kernel's and ends with its holder, so whoever holds it may take away what a killed one left.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def locked(cache: Path, waits: str, report: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock on a cache, making it where there is none; report the line `waits` where another one holds it."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "lock").open("w")
    except OSError as error:
        raise DevclusterError(
            f"cannot write to {cache}: {error.strerror}; choose another place with XDG_CACHE_HOME"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(waits)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def scratch(cache: Path) -> Iterator[Path]:
    """Give a directory to work in, and take it away afterwards. The cache's lock must be held."""
    for left in cache.glob("unfinished-*"):  # of a build that was killed; the lock says that none is running
        shutil.rmtree(left, ignore_errors=True)
    room = Path(tempfile.mkdtemp(prefix="unfinished-", dir=cache))
    room.chmod(0o755)  # apt fetches packages into it as a user of its own
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)
