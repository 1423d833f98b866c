"""Runs operators as processes on the host, where tests can kill, stop and watch them; they serve one namespace only.

A host process reaches pods and Services at their own addresses, as the README's `arbiter operator --kubeconfig` does.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from devcluster.images.recipes import reference
from devcluster.waiting import wait_until
from tests.e2e.running import ROOT
from tests.e2e.serving.wishes import PRIVATE_REGISTRY, REGISTRY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.e2e.serving.place import Place


@dataclass
class HostOperator:
    """An operator that runs.

    Attributes:
        process: it.
        log: where it writes its log.
        address: where its probes and metrics are.
    """

    process: subprocess.Popen[bytes]
    log: Path
    address: str

    @property
    def name(self) -> str:
        """What it is called; in the Lease and in events with `_` and a word of chance behind it."""
        return self.log.stem

    def lines(self) -> list[dict[str, Any]]:
        """Give its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def metric(self, name: str) -> float:
        """Give one metric, such as `arbiter_leader`; 0 where it has none of that name."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self._fetched("/metrics"), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def total(self, name: str) -> float:
        """Give the sum of all series of a metric, such as `arbiter_api_writes_total`."""
        found = re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", self._fetched("/metrics"), re.MULTILINE)
        return sum(float(each) for each in found)

    @property
    def leads(self) -> bool:
        """Whether it leads; one that does not answer does not."""
        try:
            return self.metric("arbiter_leader") == 1
        except OSError:
            return False

    @property
    def ready(self) -> bool:
        """Whether it has seen everything that it follows, and could lead."""
        try:
            return self._fetched("/readyz") == "ok\n"
        except OSError:
            return False

    @property
    def runs(self) -> bool:
        """Whether its process has not ended."""
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, such as SIGKILL, SIGSTOP or SIGCONT."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as if its machine had failed, and wait for that."""
        self.process.kill()
        self.process.wait(30)

    def end(self) -> int:
        """Tell it to end, and give its exit code."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def _fetched(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.address}{path}", timeout=2) as answer:  # noqa: S310  our own process
            content: bytes = answer.read()
        return content.decode()


@dataclass
class Operators:
    """Starts operators of one namespace, and ends in the end what still runs.

    Attributes:
        place: whose pools they serve; their Lease is there too.
        folder: for their logs.
    """

    place: Place
    folder: Path
    _stack: ExitStack = field(default_factory=ExitStack)
    _begun: int = 0

    def start(
        self,
        *more: str,
        leading: bool = True,
        environment: Mapping[str, str] | None = None,
        program: tuple[str, ...] = ("arbiter.cli.main",),
        group: int | None = None,
    ) -> HostOperator:
        """Start one more.

        Args:
            more: further options.
            leading: wait until it leads.
            environment: further variables, such as a point at which it is to fail.
            program: the module that is run, and what it takes before the operator's own command.
            group: its group, by which a test can tell its packets from others; that of the tests if None.
        """
        self._begun += 1
        name = f"operator-{self._begun}"
        log = self.folder / f"{name}.log"
        port = _free_port()
        options = (
            f"--kubeconfig={self.place.cluster.kubeconfig}",
            f"--namespaces={self.place.namespace}",
            f"--namespace={self.place.namespace}",
            f"--identity={name}",
            "--host=127.0.0.1",
            f"--port={port}",
            f"--image={reference('arbiter')}",
            f"--llama-server-image={reference('llama-server')}",
            f"--ollama-image={reference('ollama')}",
            f"--plain-http={REGISTRY},{PRIVATE_REGISTRY}",
        )
        command = (sys.executable, "-m", *program, "operator", *options, *more)
        variables = {**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}{os.pathsep}{ROOT}", **(environment or {})}
        with log.open("wb") as writing:
            process = subprocess.Popen(  # noqa: S603  our own program
                command, stderr=writing, env=variables, group=group
            )
        operator = HostOperator(process, log, f"http://127.0.0.1:{port}")
        self._stack.callback(_ended, operator)
        if leading:
            assert wait_until(lambda: operator.leads or not operator.runs, 60, pause=0.1), log.read_text()
            assert operator.leads, log.read_text()
        return operator

    def close(self) -> None:
        """End all that run."""
        self._stack.close()


@contextmanager
def operators(place: Place, folder: Path) -> Iterator[Operators]:
    """Give what starts operators, and end them all in the end."""
    started = Operators(place, folder)
    try:
        yield started
    finally:
        started.close()


def _ended(operator: HostOperator) -> None:
    if operator.runs:
        operator.end()


def _free_port() -> int:
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        port: int = probing.getsockname()[1]
    return port
