"""Looks at an operator that runs as a process on this machine: what it counts, what it uses, when it has settled."""

from __future__ import annotations

import re
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.operator.figures import LOOK_S
from bench.router.processes import memory, processor_s

if TYPE_CHECKING:
    from tests.e2e.serving.operators import HostOperator

_LINE = re.compile(r"^(arbiter_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)

QUIET_S = 2.0
"""Seconds without a pass, a job or anything due, after which it has settled."""


@dataclass(frozen=True)
class Counted:
    """What an operator counts, at one moment.

    Attributes:
        leads: whether it leads.
        passes: passes that ended.
        failed: those of them that did not end well.
        writes: what the API server wrote for it, Leases and events left out.
        busy: pools and models that are due, and jobs that run.
    """

    leads: bool
    passes: float
    failed: float
    writes: float
    busy: float


def counted(text: str) -> Counted:
    """Read Prometheus' text of an operator."""
    series = [(name, labels or "", float(value)) for name, labels, value in _LINE.findall(text)]

    def total(wanted: str) -> float:
        return sum(value for name, _, value in series if name == wanted)

    passes = [(labels, value) for name, labels, value in series if name == "arbiter_passes_total"]
    return Counted(
        leads=total("arbiter_leader") == 1,
        passes=sum(value for _, value in passes),
        failed=sum(value for labels, value in passes if 'outcome="ok"' not in labels),
        writes=total("arbiter_api_writes_total"),
        busy=total("arbiter_queue_depth") + total("arbiter_jobs_running"),
    )


@dataclass(frozen=True)
class Used:
    """What an operator has used, at one moment.

    Attributes:
        at: seconds of this machine's clock.
        processor_s: processor seconds since it started.
        resident: bytes of memory that it holds.
        proportional: the same, with shared pages divided among those who share them.
        most: the most bytes that it has held.
    """

    at: float
    processor_s: float
    resident: int
    proportional: int
    most: int


@dataclass(frozen=True)
class Settled:
    """How an operator came to rest.

    Attributes:
        led_at: when it led.
        rested_at: when its last pass had ended.
        passes: that it made until then.
    """

    led_at: float
    rested_at: float
    passes: float


def look(operator: HostOperator) -> Counted | None:
    """Ask an operator what it counts; None while it does not answer."""
    try:
        with urllib.request.urlopen(f"{operator.address}/metrics", timeout=5) as answer:  # noqa: S310  our own process
            return counted(answer.read().decode())
    except OSError:
        return None


def used(operator: HostOperator) -> Used:
    """Read from /proc what an operator has used."""
    pid = operator.process.pid
    status = Path(f"/proc/{pid}/status").read_text()
    sizes = {name: int(size) * 1024 for name, size in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", status, re.MULTILINE)}
    return Used(time.perf_counter(), processor_s({pid}), sizes["VmRSS"], memory({pid}), sizes["VmHWM"])


def settle(operator: HostOperator, least: int, seconds: float) -> Settled:
    """Wait until an operator leads, has passed so many, and rests.

    Args:
        operator: which.
        least: passes that it makes at least.
        seconds: within which it has to.
    """
    end = time.perf_counter() + seconds
    led_at = rested_at = 0.0
    passes = -1.0
    while (now := time.perf_counter()) < end:
        if not operator.runs:
            raise SystemExit(f"the operator ended:\n{operator.log.read_text()[-2000:]}")
        found = look(operator)
        if found is not None and found.leads:
            led_at = led_at or now
            if found.passes != passes or found.busy:
                passes, rested_at = found.passes, now
            elif passes >= least and now - rested_at >= QUIET_S:
                return Settled(led_at, rested_at, passes)
        time.sleep(LOOK_S)
    raise SystemExit(f"the operator has not settled after {seconds:g} s:\n{operator.log.read_text()[-2000:]}")
