"""Shows model servers outside the cluster the keys that they want: bearer tokens, each in a file of one folder.

A table names a key and never holds one: tables stand in ConfigMaps, in logs and on disks. The key is in a file of that
name, in a folder that is mounted from Secrets and read again when it changes.

Rule: a key goes to the backend that names it and to nobody else, and no log line, metric or answer holds one. A backend
whose key is not there gets no requests; without the key they would only fail there, and look like the model's fault.
A file that cannot be used leaves the last good key in use, while one that was taken away takes its key along.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, NamedTuple

from arbiter.errors import InvalidInputError
from arbiter.router.metric_families import BACKEND_KEYS_MISSING, KEYS_REFUSED
from arbiter.router.refusal import Refusal

if TYPE_CHECKING:
    from pathlib import Path

    from arbiter.core.routes import Backend, RouteTable
    from arbiter.router.metrics import Meter

log = logging.getLogger(__name__)

MAX_BYTES = 4096
"""Largest key: servers refuse requests with longer header fields."""

RETRY_S = 10
"""Seconds after which a client may ask again; a key that was just made takes longer to be mounted."""

_KEY = re.compile(rb"[!-~]+")
"""What fits into a header field as one word."""

Header = tuple[bytes, bytes]


class _Held(NamedTuple):
    """What is known of one key.

    Attributes:
        stamp: of the file when it was read.
        header: that shows the key; None when there is none to show.
        problem: why the file could not be used, as a sentence; empty when it could.
    """

    stamp: object
    header: Header | None
    problem: str


class BackendKeys:
    """The keys that the table in force names."""

    def __init__(self, folder: Path | None = None) -> None:
        """Read nothing yet; without a folder there are no keys.

        Raises:
            InvalidInputError: the folder is none.
        """
        if folder is not None and not folder.is_dir():
            raise InvalidInputError("--backend-keys", f"{folder} must be a folder with a file for each key")
        self._folder = folder
        self._held: dict[str, _Held] = {}
        self._refused = 0
        self._told: set[tuple[str, str]] = set()

    def added_to(self, headers: tuple[Header, ...], backend: Backend) -> tuple[Header, ...]:
        """The header fields that a backend is sent: these, and its key if it names one.

        Raises:
            Refusal: there is no such key; it names the model and not the key, which is nobody's business outside.
        """
        if backend.key is None:
            return headers
        held = self._held.get(backend.key)
        if held is None or held.header is None:
            message = f"the model {backend.model} cannot be asked now: this router has no key for its server"
            raise Refusal(503, "no_backend_key", message, retry_after=RETRY_S)
        return (*headers, held.header)

    def obey(self, table: RouteTable) -> None:
        """Hold the keys that a table names, and no others."""
        named = {backend.key for task in table.tasks.values() for backend in task.backends if backend.key is not None}
        self._held = {name: held for name, held in self._held.items() if name in named}
        for name in sorted(named):
            self._look(name)

    def refresh(self, table: RouteTable, meter: Meter) -> None:
        """Read files again that changed, and tell which models lack their key; to be called a few times a second."""
        for name in self._held:
            self._look(name)
        if self._refused:
            meter.count(KEYS_REFUSED, (), self._refused)
            self._refused = 0
        missing = dict.fromkeys(self._told, 0)  # of those that need a key no longer, too
        self._told = set()
        for task in table.tasks.values():
            for backend in task.backends:
                if backend.key is not None:
                    labels, held = (task.name, backend.model), self._held.get(backend.key)
                    missing[labels] = max(missing.get(labels, 0), int(held is None or held.header is None))
                    self._told.add(labels)
        for labels, number in missing.items():
            meter.set(BACKEND_KEYS_MISSING, labels, number)

    def _look(self, name: str) -> None:
        """Read the file of a key if it is another one than before."""
        before = self._held.get(name)
        stamp = None if self._folder is None else _stamp(self._folder / name)
        if before is not None and before.stamp == stamp:
            return
        try:
            header, problem = self._read(name), ""
        except FileNotFoundError:
            header, problem = None, "is not there"
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            header, problem = before.header if before else None, f"cannot be used: {why}"
            self._refused += 1
        self._held[name] = held = _Held(stamp, header, problem)
        _log(name, before, held)

    def _read(self, name: str) -> Header:
        if self._folder is None:
            raise FileNotFoundError
        with (self._folder / name).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"it must not be longer than {MAX_BYTES} bytes")
        key = data.rstrip(b"\r\n")
        if not _KEY.fullmatch(key):
            raise ValueError("it must be one word of visible ASCII characters, without blanks and control characters")
        return (b"authorization", b"Bearer " + key)


def _stamp(path: Path) -> object:
    """What differs when the file does; a mounted Secret is replaced by a link to another folder."""
    try:
        stat = path.stat()
    except OSError as error:
        return error.errno
    return (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)


def _log(name: str, before: _Held | None, held: _Held) -> None:
    if not held.problem:
        log.info("backend key %s is in use", name)
    elif before is None or before.problem != held.problem:
        so = "models that need it get no requests" if held.header is None else "the last good one stays in use"
        log.warning("backend key %s %s; %s", name, held.problem, so)
