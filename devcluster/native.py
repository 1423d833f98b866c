"""Runs the cluster's components as processes of this machine, around one node in namespaces of its own.

Three rules. What is done is written down first, so that `down` undoes all of it after whatever happened. Network and
mounts are private to the node's processes, so they are gone when the last of these is. And every wait has an end, at
which the component that is late is named, with the last line of its log.
"""

from __future__ import annotations

import json
import shutil
import ssl
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import TYPE_CHECKING, Any

from devcluster import dns, kernel, network, pki, processes
from devcluster.cgroups import ControlGroup
from devcluster.commands import last_line, run
from devcluster.components import PAUSE_IMAGE, Component, components, configuration_files
from devcluster.errors import DevclusterError
from devcluster.images import archive
from devcluster.layout import CONTROL_GROUP
from devcluster.state import Journal, State
from devcluster.waiting import Stopwatch, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from devcluster.layout import Layout
    from devcluster.processes import Process

NODE = "node"
"""The process that holds the node's namespaces and does nothing else."""

_NODE_SCRIPT = """\
mount --make-rshared / || exit 1
while [ $# -gt 0 ]; do mount --bind "$1" "$2" || exit 1; shift 2; done
exec sleep infinity
"""
"""Run inside new namespaces: lets pods' mounts reach each other, and hides the directories of other nodes."""

_PROCESSES = "components"
"""Part of the control group in which the components are; pods are elsewhere."""

_READY_S = 90.0
"""How long node and DNS may take once every component is up, in seconds; 3 are usual."""

_APPLY_S = 20.0
"""How long the API server may refuse our own objects, in seconds; usually it takes them at once."""

_KILL_S = 20.0
"""How long all processes together may take to be gone, in seconds; well under 1 is usual."""


class Cluster:
    """The one cluster under a state directory."""

    def __init__(self, layout: Layout, report: Callable[[str], None]) -> None:
        """Take the layout and where to tell what is being done."""
        self.layout = layout
        self.report = report
        self.journal = Journal(layout.journal)
        self.group = ControlGroup(CONTROL_GROUP)
        self.components = {component.name: component for component in components(layout)}

    def up(self) -> None:
        """Bring the cluster up; one that is up is used as it is, one that came only half way is begun anew."""
        state = self.journal.read()
        if state.is_complete and self._runs(state, NODE):
            self._resume(state)
            return
        if self.journal.exists():
            self.report("the last `up` did not finish or the machine was restarted: starting over")
            self._undo()
        remove_tree(self.layout.state)
        refuse_occupied(self.layout)
        try:
            self._begin()
        except (DevclusterError, KeyboardInterrupt):
            self.report(f"undoing what was done; the logs stay in {self.layout.logs} until the next command")
            self._undo()
            raise

    def down(self) -> None:
        """End everything of ours and undo everything that we did to the machine."""
        if self.journal.exists():
            self._undo()
        else:
            self.report("nothing is up")
        remove_tree(self.layout.state)

    def _begin(self) -> None:
        """Bring a cluster up from nothing."""
        self._prepare()
        self._start_node()
        self._start_control_plane()
        self._start_rest()
        self._await_ready()
        self.kubectl("label", "node", self.layout.node, "node-role.kubernetes.io/control-plane=")
        self.journal.note(is_complete=True)

    def _undo(self) -> None:
        """Undo what was done, in the opposite order, and then forget it. Logs are kept."""
        state = self.journal.read()
        self.journal.note(is_complete=False)
        if state.control_group:
            self.group.kill(_KILL_S)
        for process in state.processes.values():
            processes.stop(process, grace=0)
        for link in state.links:
            network.disconnect(link)
        if state.control_group:
            self.group.remove()
        kernel.restore(state.kernel_settings)
        for directory in reversed(state.directories):
            remove_if_empty(Path(directory))
        remove_tree(self.layout.state, spare=(self.layout.journal, self.layout.logs))
        self.layout.journal.unlink()

    def start(self, name: str) -> None:
        """Start one component that does not run, and wait until it is up."""
        state = self._running_state()
        component = self._component(name)
        if self._runs(state, name):
            self.report(f"{name} runs already")
            return
        self._spawn(component)
        self._await(component)

    def stop(self, name: str) -> None:
        """Stop one component, and leave it stopped."""
        state = self._running_state()
        component = self._component(name)
        process = state.processes.get(name)
        if process is None or not processes.is_running(process):
            self.report(f"{name} does not run")
        else:
            processes.stop(process, component.grace)
        self.journal.write(state.without_process(name))

    def status(self) -> tuple[dict[str, str], bool]:
        """Say of every component whether it is up, and whether the whole cluster is."""
        state = self.journal.read()
        holder = f"up (process {state.processes[NODE].pid})" if self._runs(state, NODE) else "not running"
        found = {NODE: holder}
        found |= {name: self._condition(state, component) for name, component in self.components.items()}
        is_up = state.is_complete and all(condition.startswith("up") for condition in found.values())
        if is_up:
            found[self.layout.node] = "up" if self._node_is_ready() else "not Ready"
            found["cluster DNS"] = "up" if self._dns_answers() else "does not answer"
        return found, is_up and all(condition.startswith("up") for condition in found.values())

    def log(self, name: str) -> str:
        """Give what a component wrote since the cluster came up; the node's own process is one of them."""
        if name != NODE:
            self._component(name)
        log = self.layout.log(name)
        return log.read_text(errors="replace") if log.exists() else ""

    def kubectl(self, *arguments: str, user: str = "admin", stdin: str = "") -> str:
        """Run kubectl on the cluster."""
        return run(self._program("kubectl"), f"--kubeconfig={self.layout.kubeconfig(user)}", *arguments, stdin=stdin)

    def _resume(self, state: State) -> None:
        """Start what was stopped of a cluster that is up."""
        missing = [component for name, component in self.components.items() if not self._runs(state, name)]
        self.report(f"already up; starting {', '.join(c.name for c in missing)}" if missing else "already up")
        for component in missing:
            self._spawn(component)
            self._await(component)
        self._await_ready()

    def _prepare(self) -> None:
        """Make control group, directories and configuration, each written down before."""
        layout = self.layout
        made = tuple(str(path) for path in layout.masks if not path.exists())
        self.journal.write(State(control_group=CONTROL_GROUP, kernel_settings=kernel.read(), directories=made))
        for part in (_PROCESSES, layout.pods_group):
            self.group.create(part)
        own = (layout.configuration, layout.logs, layout.cni_configuration, *layout.masks.values(), *layout.masks)
        for directory in own:
            directory.mkdir(parents=True, exist_ok=True)
        for path, content in configuration_files(layout).items():
            path.write_text(content)

    def _start_node(self) -> None:
        """Start the process that holds the node's namespaces, and join it to the host."""
        masks = [str(path) for seen, own in self.layout.masks.items() for path in (own, seen)]
        unshare = ("unshare", "--net", "--mount", "--propagation", "slave")
        process = self._record(NODE, (*unshare, "sh", "-c", _NODE_SCRIPT, "sh", *masks))
        program = Path(f"/proc/{process.pid}/cmdline")
        wait_until(lambda: not processes.is_running(process) or program.read_bytes().startswith(b"sleep"), 10)
        if not processes.is_running(process) or not program.read_bytes().startswith(b"sleep"):
            raise self._late(NODE, "has not made its namespaces")
        self.journal.note(links=(self.layout.link,))
        network.connect(self.layout, process.pid)

    def _start_control_plane(self) -> None:
        """Start what needs no API server, then that; images are loaded while it starts."""
        layout = self.layout
        for name in ("etcd", "containerd"):
            self._spawn(self.components[name])
        pki.make(layout)
        self._await(self.components["etcd"])
        self._spawn(self.components["kube-apiserver"])
        self._await(self.components["containerd"])
        pause = archive.Image(PAUSE_IMAGE, {"/pause": layout.programs["pause"]}, ("/pause",))
        for image in (pause, dns.image(layout.programs["coredns"])):
            file = layout.images / f"{image.entrypoint[0].strip('/')}.tar"
            archive.write_archive(image, file)
            archive.load(layout, file)
        self._await(self.components["kube-apiserver"])

    def _start_rest(self) -> None:
        """Start everything that talks to the API server, and hand it what we run in the cluster."""
        state = self.journal.read()
        rest = [component for name, component in self.components.items() if name not in state.processes]
        for component in rest:
            self._spawn(component)
        self._hand_over([*pki.bindings(), *dns.manifests(self.layout)])
        for component in rest:
            self._await(component)

    def _hand_over(self, objects: list[dict[str, Any]]) -> None:
        """Apply objects; a server that has just come up may refuse them until it has made its own."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        refused: list[DevclusterError] = []

        def is_applied() -> bool:
            try:
                self.kubectl("apply", "--server-side", "--filename=-", user="super-admin", stdin=document)
            except DevclusterError as error:
                refused.append(error)
                return False
            return True

        if not wait_until(is_applied, _APPLY_S, pause=0.5):
            raise refused[-1]

    def _await_ready(self) -> None:
        """Wait until the node is Ready and the cluster's DNS answers."""
        if not wait_until(self._node_is_ready, _READY_S, pause=0.2):
            raise self._late("kubelet", f"has not made {self.layout.node} Ready")
        if not wait_until(self._dns_answers, _READY_S, pause=0.1):
            raise self._late("kubelet", "runs no DNS that answers")

    def _node_is_ready(self) -> bool:
        """Say whether the node is Ready."""
        query = "-o=jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        try:
            return self.kubectl("get", "node", self.layout.node, "--ignore-not-found", query) == "True"
        except DevclusterError:
            return False

    def _dns_answers(self) -> bool:
        """Say whether the cluster's DNS answers."""
        return dns.answers(self.layout.addresses.dns, f"kubernetes.default.svc.{self.layout.domain}")

    def _spawn(self, component: Component) -> None:
        """Start a component in the node's namespaces."""
        node = self.journal.read().processes[NODE]
        if not processes.is_running(node):
            raise DevclusterError(f"{self.layout.node} is gone; take the cluster down and up again")
        enter = ("nsenter", "--target", str(node.pid), "--net", "--mount")
        program = str(self._program(component.name))
        self._record(component.name, (*enter, program, *component.arguments))

    def _program(self, name: str) -> Path:
        """Give a program that is built."""
        if name not in self.layout.programs:
            raise DevclusterError(f"{name} is not built; build it: python -m devcluster up")
        return self.layout.programs[name]

    def _record(self, name: str, command: Sequence[str]) -> Process:
        """Start a process that is in the state and in our control group before its program runs."""

        def record(process: Process) -> None:
            self.journal.write(self.journal.read().with_process(name, process))
            self.group.join(_PROCESSES, process.pid)

        environment = {"PATH": self.layout.path, "HOME": str(self.layout.node_root)}
        return processes.spawn(command, self.layout.log(name), environment, record)

    def _await(self, component: Component) -> None:
        """Wait until a component is up; stop waiting when it has ended."""
        process = self.journal.read().processes[component.name]
        watch = Stopwatch()

        def is_decided() -> bool:
            return not processes.is_running(process) or self._is_healthy(component)

        wait_until(is_decided, component.deadline)
        if not processes.is_running(process):
            raise self._late(component.name, "ended")
        if not self._is_healthy(component):
            raise self._late(component.name, f"is not up after {component.deadline:.0f} s")
        self.report(f"{component.name} is up ({watch.seconds():.1f} s)")

    def _is_healthy(self, component: Component) -> bool:
        """Ask a component whether it is up."""
        if component.health:
            return responds(component.health)
        with closing(socket(AF_UNIX, SOCK_STREAM)) as client:
            return client.connect_ex(str(self.layout.containerd_socket)) == 0

    def _condition(self, state: State, component: Component) -> str:
        """Say in words how a component is."""
        if not self._runs(state, component.name):
            return "not running"
        pid = state.processes[component.name].pid
        return f"up (process {pid})" if self._is_healthy(component) else f"not healthy (process {pid})"

    def _runs(self, state: State, name: str) -> bool:
        """Say whether a component's process runs."""
        return name in state.processes and processes.is_running(state.processes[name])

    def _running_state(self) -> State:
        """Give the state of a cluster that is up; raise where none is."""
        state = self.journal.read()
        if not self._runs(state, NODE):
            raise DevclusterError("the cluster is not up; bring it up: python -m devcluster up")
        return state

    def _component(self, name: str) -> Component:
        """Find a component by name."""
        if name not in self.components:
            raise DevclusterError(f"no component is named {name}; there are {', '.join(self.components)}")
        return self.components[name]

    def _late(self, name: str, complaint: str) -> DevclusterError:
        """Say what a component failed to do, and what it said last."""
        log = self.layout.log(name)
        said = last_line(log.read_text(errors="replace")) if log.exists() else "it said nothing"
        return DevclusterError(f"{name} {complaint}; last line of {log}: {said}")


def refuse_occupied(layout: Layout) -> None:
    """Raise where something that we would make is there already and not ours."""
    if ControlGroup(CONTROL_GROUP).exists():
        raise DevclusterError(
            f"a control group {CONTROL_GROUP} exists that {layout.state} knows nothing of; "
            "take the cluster down that made it (XDG_STATE_HOME says where its state is), or restart the machine"
        )
    network.refuse_taken(layout)


def responds(url: str) -> bool:
    """Say whether a URL answers 200. Certificates are not looked at: health is public, and the address is ours."""
    trust = ssl._create_unverified_context()  # noqa: SLF001, S323  as above
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
    try:
        with direct.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def remove_if_empty(directory: Path) -> None:
    """Remove a directory that we made, unless somebody else has put something into it since."""
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()


def remove_tree(state: Path, spare: tuple[Path, ...] = ()) -> None:
    """Remove the state directory, or all in it but what is spared; never through a mount."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    inside = [where for where in mounted if Path(where).is_relative_to(state)]
    if inside:
        raise DevclusterError(f"{inside[0]} is mounted; unmount it and run `down` again")
    for path in state.iterdir() if state.exists() else ():
        if path in spare:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if state.exists() and not spare:
        state.rmdir()
