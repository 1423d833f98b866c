"""Makes one node: namespaces with a process that holds them, a network, a container runtime and a kubelet.

A node is begun from what its last life left on the disk, as a machine is when its power comes back; whatever else is
left of that life is ended and cleared away first. So a node that was stopped, one that a killed `up` left half made and
one that never was are begun in the same way.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.commands import run
from devcluster.native import network, pki, processes
from devcluster.native.cgroups import ControlGroup
from devcluster.native.node_components import configuration_files, node_components
from devcluster.native.supervision import PROCESSES
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devcluster.native.layout import Layout, Node
    from devcluster.native.supervision import Supervisor

_SCRIPT = """\
mount --make-rshared / || exit 1
while [ $# -gt 0 ]; do mount --bind "$1" "$2" || exit 1; shift 2; done
exec sleep infinity
"""
"""Run inside new namespaces: lets pods' mounts reach each other, and hides the directories of other nodes."""

_NAMESPACES_S = 10.0
"""How long a node may take to make its namespaces, in seconds; a hundredth is usual."""

_KILL_S = 20.0
"""How long all processes of a node may take to be gone, in seconds; well under 1 is usual."""

_IMPORT_S = 300.0
"""How long an import may take, in seconds; a large image on a busy disk takes tens."""


def begin(supervisor: Supervisor, node: Node) -> None:
    """Give a node its files, namespaces and network; nothing runs on it yet but the process that holds them."""
    clear(supervisor, node)
    _prepare(supervisor.layout, node)
    _hold(supervisor, node)
    _connect(supervisor, node)


def add(supervisor: Supervisor, node: Node, archives: Sequence[Path]) -> None:
    """Begin a further node, and start everything on it; its kubelet brings it into the cluster."""
    begin(supervisor, node)
    runtime, *rest = node_components(node)
    supervisor.spawn(runtime)
    pki.admit(supervisor.layout, node)
    supervisor.await_up(runtime)
    load(supervisor.layout, node, archives)
    for component in rest:
        supervisor.spawn(component)
    for component in rest:
        supervisor.await_up(component)


def clear(supervisor: Supervisor, node: Node) -> None:
    """End everything of a node at once, as when its power fails; what is on its disk stays."""
    group = ControlGroup(node.group)
    if group.exists():
        group.kill(_KILL_S)
    state = supervisor.journal.read()
    own = (node.name, *(component.name for component in node_components(node)))
    for name in own:
        if name in state.processes:
            processes.stop(state.processes[name], grace=0)
    supervisor.journal.write(state.without_processes(*own))
    if group.exists():
        group.remove()
    if not node.is_first:
        network.disconnect(node.link, within=supervisor.holder(supervisor.layout.first).pid)


def load(layout: Layout, node: Node, archives: Sequence[Path], *, again: bool = False) -> None:
    """Put the images of archives into a node's store; those that it was given already only where `again` says so."""
    record, address = node.root / "loaded.json", ("--address", node.containerd_socket, "--namespace", "k8s.io")
    known: dict[str, list[int]] = json.loads(record.read_text()) if record.exists() else {}
    for archive in archives:
        version = [archive.stat().st_mtime_ns, archive.stat().st_size]
        if again or known.get(str(archive)) != version:
            run(layout.programs["ctr"], *address, "images", "import", archive, seconds=_IMPORT_S)
            known[str(archive)] = version
    draft = record.with_suffix(".new")
    draft.write_text(json.dumps(known))
    draft.replace(record)


def _prepare(layout: Layout, node: Node) -> None:
    """Make a node's control group, directories and configuration."""
    group = ControlGroup(node.group)
    for part in (PROCESSES, Path(node.pods_group).name):
        group.create(part)
    if node.volatile.exists():
        shutil.rmtree(node.volatile)
    for directory in (node.configuration, node.cni, *node.masks.values(), *node.masks):
        directory.mkdir(parents=True, exist_ok=True)
    for path, content in configuration_files(layout, node).items():
        path.write_text(content)


def _hold(supervisor: Supervisor, node: Node) -> None:
    """Start the process that holds a node's namespaces, and wait until it has made them."""
    masks = [str(path) for seen, own in node.masks.items() for path in (own, seen)]
    unshare = ("unshare", "--net", "--mount", "--propagation", "slave")
    process = supervisor.record(node.name, node, (*unshare, "sh", "-c", _SCRIPT, "sh", *masks))

    def has_them() -> bool:
        with suppress(OSError):
            return Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"sleep")
        return False

    wait_until(lambda: has_them() or not processes.is_running(process), _NAMESPACES_S)
    if not has_them():
        raise supervisor.late(node.name, "has not made its namespaces")


def _connect(supervisor: Supervisor, node: Node) -> None:
    """Join a node's network to the host, or to the first node's; a link on the host is written down before."""
    pid = supervisor.holder(node).pid
    if node.is_first:
        supervisor.journal.note(links=(node.link,))
        network.connect_first(supervisor.layout, pid)
    else:
        first = supervisor.holder(supervisor.layout.first).pid
        network.connect_further(supervisor.layout, node, first, pid)
