"""Looks at the machine before anything is done to it, and puts it back as it was.

Undoing follows the state alone, in the opposite order, and takes what was never done for done and undone.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError
from devcluster.native import kernel, network, processes
from devcluster.native.cgroups import ControlGroup
from devcluster.native.layout import CONTROL_GROUP

if TYPE_CHECKING:
    from devcluster.native.layout import Layout
    from devcluster.native.state import Journal

_KILL_S = 20.0
"""How long all processes together may take to be gone, in seconds; well under 1 is usual."""


_NEEDED = 600 * 10**6
"""Bytes of disk for each node: the images that every node is given, unpacked, and room for its first pods."""

_MOUNTS = Path("/proc/self/mountinfo")
"""The kernel's table of what is mounted."""


def refuse_occupied(layout: Layout) -> None:
    """Raise where something that we would make is there already and not ours."""
    if ControlGroup(CONTROL_GROUP).exists():
        raise DevclusterError(
            f"a control group {CONTROL_GROUP} exists that {layout.state} knows nothing of; "
            "take the cluster down that made it (XDG_STATE_HOME says where its state is), or restart the machine"
        )
    network.refuse_taken(layout)


def refuse_small(state: Path, nodes: int) -> None:
    """Raise where the disk under the state directory has no room for so many nodes."""
    standing = next(path for path in (state, *state.parents) if path.exists())
    free, needed = shutil.disk_usage(standing).free, nodes * _NEEDED
    if free < needed:
        raise DevclusterError(
            f"too little disk: {nodes} nodes need about {needed / 1e9:.1f} GB, and there are {free / 1e9:.1f} GB free "
            f"for {state}; make room, or choose another disk with XDG_STATE_HOME"
        )


def undo(layout: Layout, journal: Journal) -> None:
    """Undo everything that was done to the machine, and then forget it. Logs are kept."""
    state = journal.read()
    journal.note(is_complete=False)
    group = ControlGroup(CONTROL_GROUP)
    if state.control_group:
        group.kill(_KILL_S)
    for process in state.processes.values():
        processes.stop(process, grace=0)
    for link in state.links:
        network.disconnect(link)
    if state.control_group:
        group.remove()
    kernel.restore(state.kernel_settings)
    for directory in reversed(state.directories):
        remove_if_empty(Path(directory))
    remove_tree(layout.state, spare=(layout.journal, layout.logs))
    layout.journal.unlink()


def remove_if_empty(directory: Path) -> None:
    """Remove a directory that we made, unless somebody else has put something into it since."""
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()


def remove_tree(tree: Path, spare: tuple[Path, ...] = ()) -> None:
    """Remove a directory, or all in it but what is spared; never through a mount."""
    mounted = [line.split()[4] for line in _MOUNTS.read_text().splitlines()]
    inside = [where for where in mounted if Path(where).is_relative_to(tree)]
    if inside:
        raise DevclusterError(f"{inside[0]} is mounted; unmount it and run `down` again")
    for path in tree.iterdir() if tree.exists() else ():
        if path in spare:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if tree.exists() and not spare:
        tree.rmdir()
