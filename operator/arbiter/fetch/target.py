"""Keeps what belongs to one target on a volume: the file itself, its unfinished part, its record and its lock.

Rule: a file stands under its name only once it is whole and its sum is right; everything before lies beside it under
names that begin with a dot, so that a model server that lists the folder does not see it.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import shutil
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from arbiter.fetch.failures import FailureCode, SourceError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
    from pathlib import Path

_LOOK_AGAIN_S = 1.0
"""Seconds between two tries for a lock that another one holds; a wait inside the kernel could not be cancelled."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a file is known to be.

    Attributes:
        identity: the sum that it must have, or has: `sha256:…` or `gitsha1:…`.
        size: its bytes; None while they are not known.
        validator: the entity tag of the address that an unfinished part comes from; empty without.
        modified_ns: when the finished file was changed last; 0 of an unfinished one.
    """

    identity: str
    size: int | None = None
    validator: str = ""
    modified_ns: int = 0


class Target:
    """One file to be, and what lies beside it."""

    def __init__(self, path: Path) -> None:
        """Name the file."""
        self.path = path
        self.partial = path.with_name(f".{path.name}.partial")
        self._state = path.with_name(f".{path.name}.partial.json")
        self._verified = path.with_name(f".{path.name}.verified.json")

    def is_verified(self, identity: str) -> bool:
        """Say whether the file is there and was found to be this one, and has not been touched since."""
        record = _read(self._verified)
        try:
            status = self.path.stat()
        except OSError:
            return False
        return (
            record is not None
            and record.identity == identity
            and record.size == status.st_size
            and record.modified_ns == status.st_mtime_ns
        )

    def unfinished(self, identity: str) -> tuple[int, str]:
        """Give how many bytes of this very file are there, and the entity tag that they came with."""
        record = _read(self._state)
        try:
            size = self.partial.stat().st_size
        except OSError:
            return 0, ""
        if record is None or record.identity != identity:
            self.discard()
            return 0, ""
        return size, record.validator

    def begin(self, record: Record) -> None:
        """Write down what the unfinished part will be."""
        _write(self._state, record)

    def discard(self) -> None:
        """Remove the unfinished part."""
        with disk(self.partial):
            self.partial.unlink(missing_ok=True)
            self._state.unlink(missing_ok=True)

    def finish(self, identity: str) -> None:
        """Give the whole, checked part its name; whoever has the old file open keeps that."""
        with disk(self.path):
            self._verified.unlink(missing_ok=True)
            self.partial.replace(self.path)
            _settle(self.path.parent)
            self.keep(identity)
            self._state.unlink(missing_ok=True)

    def keep(self, identity: str) -> None:
        """Write down that the file under its name is the right one."""
        with disk(self.path):
            status = self.path.stat()
            _write(self._verified, Record(identity, status.st_size, modified_ns=status.st_mtime_ns))

    def need(self, count: int) -> None:
        """Refuse to begin what cannot end: so many bytes have to be free.

        Raises:
            SourceError: NoSpace.
        """
        with disk(self.path):
            free = shutil.disk_usage(self.path.parent).free
        if free < count:
            raise SourceError(
                FailureCode.NoSpace,
                f"{count} bytes more are needed in {self.path.parent}, {free} are free there: make the volume larger",
            )


class Shelf:
    """What was fetched to one place as a whole: one file, or a folder of them.

    With its record nobody has to be asked when a node starts the same model again, not even for what it consists of.
    """

    def __init__(self, to: Path) -> None:
        """Name the place."""
        self._to = to
        self._record = to.with_name(f".{to.name}.fetched.json")

    def target(self, name: str) -> Target:
        """Give one of its files; without a name the place itself."""
        return Target(self._to / name if name else self._to)

    def there(self, digest: str) -> Mapping[str, str] | None:
        """Give the files, with their sums, if all of what a digest names is there and untouched."""
        try:
            told = json.loads(self._record.read_bytes())
            files: dict[str, str] = dict(told["files"]) if told["digest"] == digest else {}
            whole = all(self.target(name).is_verified(identity) for name, identity in files.items())
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return files if files and whole else None

    def size(self, files: Iterable[str]) -> int:
        """Give the bytes of files that are there."""
        with disk(self._to):
            return sum(self.target(name).path.stat().st_size for name in files)

    def keep(self, digest: str, files: Mapping[str, str]) -> None:
        """Write down what is there."""
        with disk(self._record):
            fresh = self._record.with_name(f"{self._record.name}.new")
            fresh.write_text(json.dumps({"digest": digest, "files": dict(files)}))
            fresh.replace(self._record)


@asynccontextmanager
async def locked(
    path: Path, waiting: Callable[[], None], sleep: Callable[[float], Awaitable[object]]
) -> AsyncIterator[None]:
    """Hold a target alone; whoever comes second waits, and says so once.

    The lock is the kernel's, so it goes with its holder, however that ends.
    """
    lock = path.with_name(f".{path.name}.lock")
    with disk(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
    try:
        said = False
        while not _try_lock(descriptor, lock):
            if not said:
                waiting()
                said = True
            await sleep(_LOOK_AGAIN_S)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Name what the volume could not do.

    Raises:
        SourceError: NoSpace or VolumeFailed.
    """
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise SourceError(
                FailureCode.NoSpace, f"there is no space left for {path}: make the volume larger"
            ) from error
        raise SourceError(FailureCode.VolumeFailed, f"{path} cannot be written: {said}") from error


async def on_disk(path: Path, work: Callable[[], object]) -> None:
    """Do something slow on the volume without holding up everybody else; it is finished even when we are cancelled."""

    def guarded() -> None:
        with disk(path):
            work()

    task = asyncio.ensure_future(asyncio.to_thread(guarded))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _try_lock(descriptor: int, lock: Path) -> bool:
    """Take the lock if nobody has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise SourceError(FailureCode.VolumeFailed, f"{lock} cannot be locked: {error.strerror}") from error
    return True


def _read(path: Path) -> Record | None:
    """Read a record; None for what is none, which only costs a download."""
    try:
        found = json.loads(path.read_bytes())
        record = Record(**found)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return record


def _write(path: Path, record: Record) -> None:
    """Replace a record in one step."""
    with disk(path):
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(json.dumps(asdict(record)))
        fresh.replace(path)


def _settle(folder: Path) -> None:
    """Have names on the disk before anybody relies on them."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
