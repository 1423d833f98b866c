"""Runs a router as a process on the host, in front of engines in pods, and reads what it has booked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arbiter.core.feed import Feed
from arbiter.core.routes import Backend, Hold, Limits, RouteTable, Target, Task
from arbiter.core.traffic import Side
from devcluster.waiting import wait_until
from tests.e2e.running import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from arbiter.api.localmodel import EngineType

REVISION = "0a0a0a0a0a"
"""Of every model in these tables."""

_PORTS = re.compile(r"serving on port (\d+), admin on port (\d+)")


@dataclass(frozen=True)
class Booked:
    """What the books say of one task, all slices added up.

    Attributes:
        routed: attempts sent to its engine.
        ok: answered in full.
        failed: the engine's failures.
        rejected: refused by the engine.
        left: clients that went before the end.
        read: tokens of prompts.
        written: tokens generated.
    """

    routed: int
    ok: int
    failed: int
    rejected: int
    left: int
    read: int
    written: int

    @property
    def open(self) -> int:
        """How many are still on their way."""
        return self.routed - self.ok - self.failed - self.rejected - self.left


@dataclass(frozen=True)
class HostRouter:
    """A router that runs.

    Attributes:
        url: where clients ask.
        admin: where its books are read.
    """

    url: str
    admin: str

    def booked(self, task: str) -> Booked:
        """What has become of the requests for one task, once all have ended: its client knows a moment before."""
        ended = wait_until(lambda: not self._read(task).open, 10)
        assert ended, f"a request for {task} is still on its way"
        return self._read(task)

    def _read(self, task: str) -> Booked:
        feed = Feed.from_text(fetched(f"{self.admin}/internal/slices").decode())
        sides = [each.side(Side.OLD) for each in feed.slices if each.task == task]
        return Booked(
            routed=sum(side.routed for side in sides),
            ok=sum(side.ok for side in sides),
            failed=sum(side.failures for side in sides),
            rejected=sum(side.rejected for side in sides),
            left=sum(side.left for side in sides),
            read=sum(side.input_tokens for side in sides),
            written=sum(side.output_tokens for side in sides),
        )

    def metric(self, line: str) -> int:
        """The value of one line of the metrics; 0 where there is none yet."""
        found = re.search(rf"^{re.escape(line)} (\d+)$", fetched(f"{self.admin}/metrics").decode(), re.MULTILINE)
        return int(found[1]) if found else 0


@dataclass(frozen=True)
class Reply:
    """An answer to a request made by hand."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def fields(self) -> Any:  # noqa: ANN401  JSON
        """The body, which is JSON."""
        return json.loads(self.body)


def served_by(name: str, engine: EngineType, model: str, url: str) -> Task:
    """A task that one engine at one address serves."""
    target = Target(Side.OLD, Backend(REVISION, model, engine, None, (url,)), 100)
    return Task(name, (target,), (), Hold(), "", ("chat", "tools"), 1024, {})


@contextmanager
def router(folder: Path, *tasks: Task, trusting: Path | None = None) -> Iterator[HostRouter]:
    """Run a router that serves these tasks until the block ends.

    Args:
        folder: for its table and its log.
        tasks: what it serves.
        trusting: the certificates of authorities whose engines it may ask by https; the system's without it.
    """
    table = RouteTable(1, 1, 15_000, {task.name: task for task in tasks}, Limits(), None)
    routes, log = folder / "routes.json", folder / "router.log"
    routes.write_text(table.to_text())
    command = [sys.executable, "-m", "arbiter.cli.main", "router", "--routes", str(routes), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator")}
    if trusting is not None:
        environment["SSL_CERT_FILE"] = str(trusting)
    with (
        log.open("wb") as errors,
        subprocess.Popen([*command, "--admin-port", "0"], stderr=errors, env=environment) as process,  # noqa: S603  our own program
    ):
        try:
            assert wait_until(lambda: bool(_PORTS.search(log.read_text())), 30, pause=0.05), log.read_text()
            found = _PORTS.search(log.read_text())
            assert found is not None
            running = HostRouter(f"http://127.0.0.1:{found[1]}", f"http://127.0.0.1:{found[2]}")
            ready = f"{running.admin}/readyz"
            assert wait_until(lambda: reply(ready).status == 200, 30, pause=0.05), log.read_text()
            yield running
        finally:
            process.terminate()
            process.wait(60)


def fetched(url: str) -> bytes:
    """Get what is at an address, which must be there."""
    found = reply(url)
    assert found.status == 200, found
    return found.body


def reply(url: str, fields: Mapping[str, object] | None = None) -> Reply:
    """Get an address, or post fields as JSON to it; give the answer, whatever its status."""
    data = None if fields is None else json.dumps(fields).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310  an address of the cluster or of the loopback
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310  as above
            return Reply(answer.status, _lower(answer.headers.items()), answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, _lower(error.headers.items()), error.read())


def _lower(headers: list[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}
