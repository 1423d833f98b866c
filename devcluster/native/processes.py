"""Starts processes that outlive us, and stops the very same ones again.

A process is named by its id, its start time and the boot it belongs to, and it is written down before its program runs:
until then a shell holds its place and leaves when nobody tells it to go on. So nothing of ours is ever unrecorded, and
a process that merely has the same number is never touched.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_GATE = 'read -r _ && exec "$@" </dev/null'
"""Waits for one line before it becomes the program; without one (we were killed) it ends."""

_KILL_S = 10.0
"""How long a killed process may take to be gone, in seconds: a busy disk delays the kernel, nothing else does."""


@dataclass(frozen=True)
class Process:
    """One process, told apart from every other that had or will have its number.

    Attributes:
        pid: its id.
        started: when it started, in clock ticks since the boot (field 22 of /proc/PID/stat).
        boot: the boot's id; after a restart of the machine the other two may repeat.
    """

    pid: int
    started: int
    boot: str


def identify(pid: int) -> Process | None:
    """Give the process that has this id now; None where there is none, or only its exit status is left."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()
    if state in "ZX":
        return None
    return Process(pid, int(fields[18]), Path("/proc/sys/kernel/random/boot_id").read_text().strip())


def is_running(process: Process) -> bool:
    """Say whether this very process still runs."""
    return identify(process.pid) == process


def spawn(
    command: Sequence[str], log: Path, environment: Mapping[str, str], record: Callable[[Process], None]
) -> Process:
    """Start a command in a session of its own, writing to `log`; `record` is called before the program runs."""
    gate, opener = os.pipe()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    wiring = [(os.POSIX_SPAWN_DUP2, gate, 0), (os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    try:
        waiting = ["sh", "-c", _GATE, "sh", *command]
        pid = os.posix_spawn("/bin/sh", waiting, environment, file_actions=wiring, setsid=True)
        process = identify(pid)
        assert process is not None, "the gate is held by us"  # noqa: S101  it cannot end before we let go
        record(process)
        os.write(opener, b"go\n")
    finally:
        for descriptor in (gate, opener, output):
            os.close(descriptor)
    return process


def stop(process: Process, grace: float) -> None:
    """Ask the process to end, and end it after `grace` seconds; one that is gone, or another, is left alone."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if is_running(process):
            _end(handle, grace)
    finally:
        os.close(handle)
    reap(process.pid)


def kill(pid: int, is_ours: Callable[[], bool]) -> None:
    """End the process with this id at once, if it is ours still when we hold it."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if is_ours():
            _end(handle, 0)
    finally:
        os.close(handle)
    reap(pid)


def reap(pid: int) -> None:
    """Take the exit status of a child of ours, so that it does not linger; others have their own parent for that."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _end(handle: int, grace: float) -> None:
    """End the process behind a handle, gently for as long as `grace` lasts."""
    ended = select.poll()
    ended.register(handle, select.POLLIN)
    with suppress(ProcessLookupError):
        if grace > 0:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            if ended.poll(grace * 1000):
                return
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        ended.poll(_KILL_S * 1000)
