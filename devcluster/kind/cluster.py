"""Runs the cluster with kind, whose nodes are containers of an engine.

What is begun is written down first, with the engine that runs it, so that `down` and the next `up` know of a cluster
that came only half way. kind makes and deletes nodes; everything after that is asked of the engine and of kubectl.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import nodes, programs, registry
from devcluster.commands import run as run_command
from devcluster.errors import DevclusterError
from devcluster.kind import registries
from devcluster.kind.containers import Containers, is_up
from devcluster.kind.parts import CLUSTER, NODE_IMAGE, configuration, container, parts, registry_container
from devcluster.provider import KIND

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from devcluster.kind.parts import Part
    from devcluster.nodes import Shape

_CREATE_S = 1800.0
"""How long making the nodes may take, in seconds: the first time, their image of about 1 GB comes over the network."""

_READY_S = 180
"""How long nodes and DNS may take to be ready after that, in seconds."""

_LOAD_S = 600.0
"""How long loading images may take, in seconds: a model is copied into every node."""

_DELETE_S = 300.0
"""How long deleting all nodes may take, in seconds; a few are usual."""


@dataclass(frozen=True)
class Record:
    """What is written down about a cluster.

    Attributes:
        engine: the engine whose containers the nodes are.
        is_complete: whether an `up` came to its end.
    """

    engine: str
    is_complete: bool = False


class KindCluster:
    """The one cluster under a state directory."""

    name = KIND

    def __init__(
        self,
        state: Path,
        built: Mapping[str, Path],
        engine: str,
        report: Callable[[str], None],
        run: Callable[..., str] = run_command,
    ) -> None:
        """Take where it is written down, its programs, the engine for a new one, and where to tell what is done."""
        self.state = state
        self.programs = built
        self.report = report
        self._run = run
        self._file = state / "kind.json"
        self._engine = self._read().engine if self.exists() else engine
        self._containers = Containers(self._engine, run)

    def up(self, shape: Shape) -> None:
        """Bring the cluster up; kind gives no nodes to one that is there, so asking for more is refused."""
        present = len(self._nodes())
        if self.exists() and (not present or not self._read().is_complete):
            self.report("the last `up` did not finish: starting over")
            self._undo()
            present = 0
        elif not self.exists() and present:
            raise DevclusterError(
                f"{self._engine} has a kind cluster {CLUSTER} that {self.state} knows nothing of; take it down with "
                f"the devcluster that made it, or by hand: kind delete cluster --name {CLUSTER}"
            )
        count = shape.resolved(present)
        if present and count > present:
            raise DevclusterError(
                f"--nodes {count}: the cluster has {present}, and kind cannot add nodes; take it down first: "
                "python -m devcluster down"
            )
        if present:
            self._resume(shape)
            return
        registries.refuse_taken()
        try:
            self._begin(count, shape)
        except (DevclusterError, KeyboardInterrupt):
            self.report("undoing what was done")
            self._undo()
            raise

    def down(self) -> None:
        """Delete nodes and registries; the engine keeps kind's network and the images that it downloaded."""
        if self.exists():
            self._undo()
        else:
            self.report("nothing is up")

    def exists(self) -> bool:
        """Say whether a cluster is written down."""
        return self._file.exists()

    def status(self) -> tuple[dict[str, str], bool]:
        """Say of every part whether it is up, and of the nodes and the DNS too where all parts are."""
        found = self._containers.conditions(self._parts())
        is_whole = self.exists() and self._read().is_complete and all(map(is_up, found.values()))
        if is_whole:
            found |= self._answers()
        return found, is_whole and all(map(is_up, found.values()))

    def registry(self) -> str:
        """Give the address at which the host and the nodes reach the open registry."""
        return f"localhost:{registry.PORTS['registry']}"

    def kubeconfig(self) -> Path:
        """Give the kubeconfig that kind writes for us alone."""
        return self.state / "kubeconfig"

    def load(self, archives: Sequence[Path]) -> None:
        """Put the images of archives into the store of every node."""
        self._kind("load", "image-archive", *archives, "--name", CLUSTER, seconds=_LOAD_S)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl on the cluster."""
        return self._run(
            self._program("kubectl"),
            f"--kubeconfig={self.kubeconfig()}",
            *arguments,
            stdin=stdin,
            seconds=_READY_S + 60.0,
        )

    def components(self) -> tuple[str, ...]:
        """Name every part."""
        return tuple(part.name for part in self._parts())

    def start(self, name: str) -> None:
        """Start a part, and wait until it runs."""
        self._containers.switch(self._part(name), "start")

    def stop(self, name: str) -> None:
        """Stop a part, and wait until it does not run."""
        self._containers.switch(self._part(name), "stop")

    def log(self, name: str) -> str:
        """Give what a part wrote."""
        return self._containers.log(self._part(name))

    def _begin(self, count: int, shape: Shape) -> None:
        """Bring a cluster up from nothing."""
        self.state.mkdir(parents=True, exist_ok=True)
        self._write(Record(self._engine))
        node_image = NODE_IMAGE.partition("@")[0]
        self.report(f"kind makes {count} node{'s' * (count > 1)} from {node_image}, which it downloads the first time")
        self._kind(
            *("create", "cluster", "--name", CLUSTER, "--config", "-", "--kubeconfig", self.kubeconfig()),
            *("--wait", f"{_READY_S}s"),
            stdin=json.dumps(configuration(count, shape.gpu_nodes)),
            seconds=_CREATE_S,
        )
        self._start_registries(count)
        self._await_ready()
        self._mark(shape)
        self._write(Record(self._engine, is_complete=True))

    def _start_registries(self, count: int) -> None:
        """Start the registries, and tell every node and the cluster's users where they are."""
        passwords = self.state / "registry.htpasswd"
        passwords.write_text(registries.passwords())
        for name in registry.PORTS:
            self._containers.command(*registries.run_command(name, passwords))
            directory, content = registries.trust(name)
            for number in range(1, count + 1):
                within = ("exec", "--interactive", container(number))
                self._containers.command(*within, "sh", "-c", registries.TRUST, "sh", directory, stdin=content)
        manifest = json.dumps(registries.manifest())
        self.kubectl("apply", "--server-side", "--filename=-", stdin=manifest)

    def _resume(self, shape: Shape) -> None:
        """Start what was stopped of a cluster that is there."""
        every = self._parts()
        found = self._containers.conditions(every)
        missing = [part for part in every if not is_up(found[part.name])]
        self.report(f"already up; starting {', '.join(part.name for part in missing)}" if missing else "already up")
        for part in missing:
            self._containers.switch(part, "start")  # nothing to do for one that came with its node
        self._await_ready()
        self._mark(shape)

    def _undo(self) -> None:
        """Delete everything of ours, and then forget it."""
        self._write(Record(self._engine))
        self._kind("delete", "cluster", "--name", CLUSTER, "--kubeconfig", self.kubeconfig(), seconds=_DELETE_S)
        there = self._containers.states()
        if left := [one for one in map(registry_container, registry.PORTS) if one in there]:
            self._containers.command("rm", "--force", "--volumes", *left)
        shutil.rmtree(self.state)

    def _await_ready(self) -> None:
        """Wait until every node is Ready and the cluster's DNS runs."""
        self.kubectl("wait", "--for=condition=Ready", "node", "--all", f"--timeout={_READY_S}s")
        self.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", f"--timeout={_READY_S}s")

    def _mark(self, shape: Shape) -> None:
        """Mark the nodes that are to have a GPU."""
        for number in sorted(shape.gpu_nodes):
            nodes.mark_gpu(self.kubectl, container(number))

    def _answers(self) -> dict[str, str]:
        """Ask the API server about nodes and DNS."""
        states = "-o=jsonpath={range .items[*]}{.status.conditions[?(@.type=='Ready')].status}{'\\n'}{end}"
        try:
            ready = self.kubectl("get", "nodes", states).split()
            dns = self.kubectl(
                *("-n", "kube-system", "get", "deployment", "coredns", "-o=jsonpath={.status.availableReplicas}")
            )
        except DevclusterError as error:
            return {"cluster API": f"does not answer: {error}"}
        return {
            "cluster nodes": "up" if set(ready) == {"True"} else f"{ready.count('True')} of {len(ready)} Ready",
            "cluster DNS": "up" if dns.strip() not in {"", "0"} else "does not run",
        }

    def _parts(self) -> tuple[Part, ...]:
        """Give the parts of the cluster that is there."""
        return parts(len(self._nodes()))

    def _part(self, name: str) -> Part:
        """Find a part by its name."""
        every = {part.name: part for part in self._parts()}
        if name not in every:
            raise DevclusterError(f"no component is named {name}; there are {', '.join(every)}")
        return every[name]

    def _nodes(self) -> list[str]:
        """Name the containers that are nodes."""
        known = [container(number) for number in range(1, nodes.MOST_NODES + 1)]
        return [name for name in self._containers.states() if name in known]

    def _kind(self, *arguments: str | Path, stdin: str = "", seconds: float) -> str:
        """Run kind on our engine; a user's own settings for other clusters do not reach it."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KIND_")}
        environment["KIND_EXPERIMENTAL_PROVIDER"] = self._engine
        return self._run(self._program("kind"), *arguments, stdin=stdin, environment=environment, seconds=seconds)

    def _program(self, name: str) -> Path:
        """Give a program that is built or was found."""
        if name not in self.programs:
            raise DevclusterError(f"{name} is not built; build it: python -m devcluster up")
        return self.programs[name]

    def _read(self) -> Record:
        """Read what is written down."""
        try:
            return Record(**json.loads(self._file.read_text()))
        except (ValueError, TypeError):
            raise DevclusterError(
                f"{self._file} is not readable; run `kind delete cluster --name {CLUSTER}` and remove {self.state}"
            ) from None

    def _write(self, record: Record) -> None:
        """Write it down: a reader sees the old record or the new one and nothing between."""
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps(asdict(record)))
        draft.replace(self._file)


def directory(environment: Mapping[str, str], uid: int) -> Path:
    """Give the state directory; a user who is not root has one of their own."""
    home = environment.get("XDG_STATE_HOME", "")
    if not home.startswith("/"):
        home = "/var/lib" if uid == 0 else str(Path.home() / ".local" / "state")
    return Path(home) / f"{CLUSTER}-kind"


def on_path(report: Callable[[str], None], run: Callable[..., str] = run_command) -> Path | None:
    """Find a kind on PATH that knows the node image, or none, for which one is built."""
    found = shutil.which("kind")
    if found is None:
        return None
    program = programs.named("kind")
    wanted = programs.version_of(program)["version"] if isinstance(program, programs.Program) else ""
    said = run(found, "version")
    version = re.match(r"kind (v\d+\.\d+\.\d+)", said)
    if version and _numbers(version[1]) >= _numbers(wanted):
        return Path(found)
    report(f"{found} is {said.strip()}, and the node image needs {wanted}: using one of our own")
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """Give a version to compare with."""
    return tuple(map(int, re.findall(r"\d+", version)))
