"""Starts what is measured, each on its own core, and reads what it used from /proc."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TICKS = os.sysconf("SC_CLK_TCK")

_END_S = 10.0
"""Seconds that a process may take to end before it is killed."""


def cores() -> tuple[int, int, int]:
    """The cores of the proxy, of the upstream and of the load; with fewer than three, the last two share one."""
    there = sorted(os.sched_getaffinity(0))
    if len(there) < 2:
        raise SystemExit("this bench needs two cores: the proxy must have one to itself")
    return there[0], there[1], there[min(2, len(there) - 1)]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """The command that runs another on one core, with its children and threads."""
    return ["taskset", "--cpu-list", str(core), *command]


@contextmanager
def running(core: int, command: Sequence[str], port: int, log: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """Run a server on one core until the end of the block, and give its process id once its port answers."""
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603  our own peers
            pinned(core, command),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            env={**os.environ, **environment},
        )  # fmt: skip
    try:
        _await_port(process, port, log)
        yield process.pid
    finally:
        _end(process)


def _await_port(process: subprocess.Popen[bytes], port: int, log: Path, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.02)
    raise SystemExit(f"{process.args!r} does not listen on {port} after {seconds:g} s:\n{log.read_text()[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and what it started: they are one session of their own."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tree(pid: int) -> set[int]:
    """A process and all that descend from it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def processor_s(pids: set[int]) -> float:
    """Processor seconds that these processes have used, to 10 ms."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory(pids: set[int]) -> int:
    """Bytes that these processes hold, shared pages divided among those who share them."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            total += int(Path(f"/proc/{pid}/smaps_rollup").read_text().split("\nPss:", 1)[1].split()[0]) * 1024
    return total
