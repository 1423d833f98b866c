"""Starts components in the namespaces of their node, and knows which of them are up.

What is started is in the state and in its node's control group before its program runs. Every wait has an end, at which
the component that is late is named, with the last line of its log.
"""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from contextlib import closing
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import TYPE_CHECKING

from devcluster.commands import last_line
from devcluster.errors import DevclusterError
from devcluster.native import processes
from devcluster.native.cgroups import ControlGroup
from devcluster.waiting import Stopwatch, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from devcluster.native.components import Component
    from devcluster.native.layout import Layout, Node
    from devcluster.native.processes import Process
    from devcluster.native.state import Journal, State

PROCESSES = "components"
"""Part of a node's control group in which its components are; pods are elsewhere."""


class Supervisor:
    """Starts, stops and asks the components of one cluster."""

    def __init__(self, layout: Layout, journal: Journal, report: Callable[[str], None]) -> None:
        """Take the layout, where processes are written down, and where to tell what is being done."""
        self.layout = layout
        self.journal = journal
        self.report = report

    def start(self, component: Component) -> None:
        """Start a component, and wait until it is up."""
        self.spawn(component)
        self.await_up(component)

    def spawn(self, component: Component) -> None:
        """Start a component in its node's namespaces."""
        node = component.node
        enter = ("nsenter", "--target", str(self.holder(node).pid), "--net", "--mount")
        command = (*enter, str(self.program(component.program)), *component.arguments)
        self.record(component.name, node, command, component.environment)

    def stop(self, component: Component) -> None:
        """Stop a component, and leave it stopped."""
        state = self.journal.read()
        if self.runs(state, component.name):
            processes.stop(state.processes[component.name], component.grace)
        else:
            self.report(f"{component.name} does not run")
        self.journal.write(state.without_processes(component.name))

    def holder(self, node: Node) -> Process:
        """Give the process that holds a node's namespaces; raise where it does not run."""
        process = self.journal.read().processes.get(node.name)
        if process is None or not processes.is_running(process):
            raise DevclusterError(f"{node.name} does not run; start what is missing: python -m devcluster up")
        return process

    def program(self, name: str) -> Path:
        """Give a program that is built."""
        if name not in self.layout.programs:
            raise DevclusterError(f"{name} is not built; build it: python -m devcluster up")
        return self.layout.programs[name]

    def record(
        self, name: str, node: Node, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start a process that is in the state and in its node's control group before its program runs."""
        group = ControlGroup(node.group)

        def note(process: Process) -> None:
            self.journal.write(self.journal.read().with_process(name, process))
            group.join(PROCESSES, process.pid)

        known = {"PATH": self.layout.path, "HOME": str(node.root), **(environment or {})}
        return processes.spawn(command, self.layout.log(name), known, note)

    def await_up(self, component: Component) -> None:
        """Wait until a component is up; stop waiting when it has ended."""
        process = self.journal.read().processes[component.name]
        watch = Stopwatch()

        def is_decided() -> bool:
            return not processes.is_running(process) or is_healthy(component)

        wait_until(is_decided, component.deadline)
        if not processes.is_running(process):
            raise self.late(component.name, "ended")
        if not is_healthy(component):
            raise self.late(component.name, f"is not up after {component.deadline:.0f} s")
        self.report(f"{component.name} is up ({watch.seconds():.1f} s)")

    def runs(self, state: State, name: str) -> bool:
        """Say whether a component's process runs."""
        return name in state.processes and processes.is_running(state.processes[name])

    def condition(self, state: State, component: Component) -> str:
        """Say in words how a component is."""
        if not self.runs(state, component.name):
            return "not running"
        pid = state.processes[component.name].pid
        return f"up (process {pid})" if is_healthy(component) else f"not healthy (process {pid})"

    def late(self, name: str, complaint: str) -> DevclusterError:
        """Say what a component failed to do, and what it said last."""
        log = self.layout.log(name)
        said = last_line(log.read_text(errors="replace")) if log.exists() else "it said nothing"
        return DevclusterError(f"{name} {complaint}; last line of {log}: {said}")


def is_healthy(component: Component) -> bool:
    """Ask a component whether it is up."""
    if not component.health.startswith("unix://"):
        return responds(component.health)
    with closing(socket(AF_UNIX, SOCK_STREAM)) as client:
        return client.connect_ex(component.health.removeprefix("unix://")) == 0


def responds(url: str) -> bool:
    """Say whether a URL answers 200. Certificates are not looked at: health is public, and the address is ours."""
    trust = ssl._create_unverified_context()  # noqa: SLF001, S323  as above
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
    try:
        with direct.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
