"""Runs the cluster's components as processes of this machine, around nodes in namespaces of their own.

Two rules. What is done is written down first, so that `down` undoes all of it after whatever happened. And network and
mounts are private to a node's processes, so they are gone when the last of these is.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import registry
from devcluster.errors import DevclusterError
from devcluster.images import archive
from devcluster.native import components, dns, kernel, machine, node, pki, storage
from devcluster.native.api import Api
from devcluster.native.layout import CONTROL_GROUP
from devcluster.native.node_components import PAUSE_IMAGE, node_components
from devcluster.native.state import Journal, State
from devcluster.native.supervision import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from devcluster.native.components import Component
    from devcluster.native.layout import Layout, Node
    from devcluster.nodes import Shape


class Cluster:
    """The one cluster under a state directory."""

    name = "native"

    def __init__(self, layout: Layout, report: Callable[[str], None]) -> None:
        """Take the layout and where to tell what is being done."""
        self.layout = layout
        self.report = report
        self.journal = Journal(layout.journal)
        self.supervisor = Supervisor(layout, self.journal, report)
        self.api = Api(self.supervisor)

    def up(self, shape: Shape) -> None:
        """Bring the cluster up; one that is up is used and grows, one that came only half way is begun anew."""
        state = self.journal.read()
        if state.is_complete and self.supervisor.runs(state, self.layout.first.name):
            self._resume(state, shape)
            return
        count = shape.resolved(0 if shape.nodes else state.nodes)
        gpu_nodes = _gpu_nodes(shape, state, count)
        if self.journal.exists():
            self.report("the last `up` did not finish or the machine was restarted: starting over")
            machine.undo(self.layout, self.journal)
        machine.remove_tree(self.layout.state)
        machine.refuse_occupied(self.layout)
        machine.refuse_small(self.layout.state, count)
        try:
            self._begin(count, gpu_nodes)
        except (DevclusterError, OSError, KeyboardInterrupt):
            self.report(f"undoing what was done; the logs stay in {self.layout.logs} until the next command")
            machine.undo(self.layout, self.journal)
            raise

    def down(self) -> None:
        """End everything of ours and undo everything that we did to the machine."""
        if self.journal.exists():
            machine.undo(self.layout, self.journal)
        else:
            self.report("nothing is up")
        machine.remove_tree(self.layout.state)

    def exists(self) -> bool:
        """Say whether anything was done to the machine that is not undone."""
        return self.journal.exists()

    def status(self) -> tuple[dict[str, str], bool]:
        """Say of every component and node whether it is up, and whether the whole cluster is."""
        state = self.journal.read()
        found = {name: self.supervisor.condition(state, one) for name, one in self._components(state).items()}
        ready = self.api.ready_nodes() if self.supervisor.runs(state, self.layout.first.name) else set()
        for one in self._nodes(state):
            said = "up" if one.name in ready else "not Ready"
            found[one.name] = said if self.supervisor.runs(state, one.name) else "not running"
        if _is_well(state, found):
            found["cluster DNS"] = "up" if self.api.dns_answers() else "does not answer"
        return found, _is_well(state, found)

    def registry(self) -> str:
        """Give the address at which everybody reaches the open registry."""
        return registry.host(self.layout, "registry")

    def kubeconfig(self) -> Path:
        """Give the administrator's kubeconfig."""
        return self.layout.kubeconfig("admin")

    def load(self, archives: Sequence[Path]) -> None:
        """Put the images of OCI archives into the store of every node, and of those that come later."""
        state = self._running_state()
        for path in archives:
            if not path.exists():
                raise DevclusterError(f"{path} does not exist")
        paths = [path.resolve() for path in archives]
        for one in self._nodes(state):
            if self.supervisor.runs(state, one.component("containerd")):
                node.load(self.layout, one, paths, again=True)
            else:
                self.report(f"{one.name} does not run; it is given the images when it is started")
        loaded = [str(path) for path in paths]  # in the order of loading: of two images with one name, the last counts
        self.journal.note(archives=(*(path for path in state.archives if path not in loaded), *loaded))

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl as the administrator, and give what it printed."""
        return self.api.kubectl(*arguments, stdin=stdin)

    def components(self) -> tuple[str, ...]:
        """Name everything that can be stopped and started: components, and all nodes but the first."""
        return tuple(self._table())

    def start(self, name: str) -> None:
        """Start a component or a node that does not run, and wait until it is up."""
        state = self._running_state()
        found = self._found(name)
        if self.supervisor.runs(state, name):
            self.report(f"{name} runs already")
        elif isinstance(found, components.Component):
            self.supervisor.start(found)
        else:
            node.add(self.supervisor, found, self._archives(state))
            self.api.await_ready([found])

    def stop(self, name: str) -> None:
        """Stop a component gently, or a node as when its power fails; either stays stopped."""
        self._running_state()
        found = self._found(name)
        if isinstance(found, components.Component):
            self.supervisor.stop(found)
        else:
            node.clear(self.supervisor, found)

    def log(self, name: str) -> str:
        """Give what a component wrote since the cluster came up, or the process that holds a node's namespaces."""
        if name != self.layout.first.name:
            self._found(name)
        log = self.layout.log(name)
        return log.read_text(errors="replace") if log.exists() else ""

    def _begin(self, count: int, gpu_nodes: tuple[int, ...]) -> None:
        """Bring a cluster up from nothing."""
        first, *further = self.layout.nodes(count)
        self._prepare(State(nodes=count, gpu_nodes=gpu_nodes, control_group=CONTROL_GROUP))
        node.begin(self.supervisor, first)
        self._start_first(first)
        for one in further:
            node.add(self.supervisor, one, self._images())
        for number in gpu_nodes:
            self.api.mark_gpu(self.layout.node(number))
        self.api.await_ready((first, *further))
        self.api.kubectl("label", "node", first.name, "node-role.kubernetes.io/control-plane=")
        self.journal.note(is_complete=True)

    def _prepare(self, state: State) -> None:
        """Write the first note, with the machine as it is before us, and the files that belong to no single node."""
        masked = tuple(str(path) for path in self.layout.first.masks if not path.exists())
        self.journal.write(replace(state, kernel_settings=kernel.read(), directories=masked))
        for directory in (self.layout.configuration, self.layout.logs):
            directory.mkdir(parents=True, exist_ok=True)
        for path, content in registry.configuration_files(self.layout).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def _start_first(self, first: Node) -> None:
        """Start what needs no API server, then that, then the rest; images are loaded while it starts."""
        every = self._components(State(nodes=1))
        server = every["kube-apiserver"]
        early = [every[name] for name in ("etcd", "containerd", *registry.PORTS)]
        late = [component for component in every.values() if component not in (*early, server)]
        for component in early:
            self.supervisor.spawn(component)
        pki.make(self.layout)
        pki.admit(self.layout, first)
        self.supervisor.await_up(every["etcd"])
        self.supervisor.spawn(server)
        for component in early[1:]:
            self.supervisor.await_up(component)
        node.load(self.layout, first, self._images())
        self.supervisor.await_up(server)
        for component in late:
            self.supervisor.spawn(component)
        ours = (dns.manifests(self.layout), storage.manifests(self.layout), registry.manifests(self.layout))
        self.api.apply([*pki.bindings(), *(manifest for manifests in ours for manifest in manifests)])
        for component in late:
            self.supervisor.await_up(component)

    def _resume(self, state: State, shape: Shape) -> None:
        """Start what was stopped of a cluster that is up, and add what the shape has more."""
        count = shape.resolved(state.nodes)
        machine.refuse_small(self.layout.state, count - state.nodes)
        gpu_nodes = _gpu_nodes(shape, state, count)
        dead = [one for one in self._nodes(state) if not self.supervisor.runs(state, one.name)]
        every = [component for component in self._components(state).values() if component.node not in dead]
        missing = [component for component in every if not self.supervisor.runs(state, component.name)]
        names = ", ".join([*(component.name for component in missing), *(one.name for one in dead)])
        self.report(f"already up; starting {names}" if names else "already up")
        for component in missing:
            self.supervisor.start(component)
        for one in dead:
            node.add(self.supervisor, one, self._archives(state))
        self.journal.note(nodes=count, gpu_nodes=gpu_nodes)
        for one in self.layout.nodes(count)[state.nodes :]:
            self._grow(one, self._archives(state))
        for number in gpu_nodes:
            self.api.mark_gpu(self.layout.node(number))
        self.api.await_ready(self.layout.nodes(count))

    def _grow(self, one: Node, archives: Sequence[Path]) -> None:
        """Add a node to a cluster that is up; if it does not come up, it is taken out again."""
        self.report(f"adding {one.name}")
        try:
            node.add(self.supervisor, one, archives)
        except (DevclusterError, OSError, KeyboardInterrupt):
            self.report(f"taking {one.name} out again; its logs stay in {self.layout.logs}")
            node.clear(self.supervisor, one)
            with suppress(DevclusterError):  # without an API server it is not known there either
                self.api.kubectl("delete", "node", one.name, "--ignore-not-found")
            machine.remove_tree(one.root)
            gpu_nodes = self.journal.read().gpu_nodes
            self.journal.note(nodes=one.number - 1, gpu_nodes=tuple(each for each in gpu_nodes if each < one.number))
            raise

    def _archives(self, state: State) -> tuple[Path, ...]:
        """Give the archives that every node is given: ours, and those that were loaded and are still there."""
        return *self._images(), *(path for path in map(Path, state.archives) if path.exists())

    def _images(self) -> tuple[Path, ...]:
        """Give the archives of the images that the cluster itself runs; they are made once."""
        programs = self.layout.programs
        pause = archive.Image(PAUSE_IMAGE, {"/pause": programs["pause"]}, ("/pause",))
        made = []
        for image in (pause, dns.image(programs["coredns"]), *storage.images(programs["local-path-provisioner"])):
            path = self.layout.images / f"{image.name.rpartition('/')[2].partition(':')[0]}.tar"
            if not path.exists():
                draft = path.with_suffix(".new")
                archive.write_archive(image, draft)
                draft.rename(path)
            made.append(path)
        return tuple(made)

    def _nodes(self, state: State) -> tuple[Node, ...]:
        """Give the nodes that the cluster is to have; one where there is no cluster."""
        return self.layout.nodes(max(state.nodes, 1))

    def _components(self, state: State) -> dict[str, Component]:
        """Give all components by name, in the order in which they are started."""
        first, *further = self._nodes(state)
        every = (
            *components.control_plane(self.layout),
            *node_components(first),
            *registry.registries(self.layout),
            *(component for one in further for component in node_components(one)),
        )
        return {component.name: component for component in every}

    def _table(self) -> dict[str, Component | Node]:
        """Give everything that can be stopped, by name. The first node is not: the control plane is on it."""
        state = self.journal.read()
        return {**self._components(state), **{one.name: one for one in self._nodes(state)[1:]}}

    def _found(self, name: str) -> Component | Node:
        """Find what is called so, and can be stopped."""
        table = self._table()
        if name == self.layout.first.name:
            raise DevclusterError(f"{name} runs the control plane; stop its components, or take the cluster down")
        if name not in table:
            raise DevclusterError(f"no component is named {name}; there are {', '.join(table)}")
        return table[name]

    def _running_state(self) -> State:
        """Give the state of a cluster that is up; raise where none is."""
        state = self.journal.read()
        if not self.supervisor.runs(state, self.layout.first.name):
            raise DevclusterError("the cluster is not up; bring it up: python -m devcluster up")
        return state


def _gpu_nodes(shape: Shape, state: State, count: int) -> tuple[int, ...]:
    """Give the numbers of the GPU nodes among so many nodes: those asked for, and those marked before."""
    return tuple(number for number in sorted({*shape.gpu_nodes, *state.gpu_nodes}) if number <= count)


def _is_well(state: State, found: dict[str, str]) -> bool:
    """Say whether a cluster is up of which everything that was looked at is."""
    return state.is_complete and all(condition.startswith("up") for condition in found.values())
