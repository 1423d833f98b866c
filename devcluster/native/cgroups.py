"""Keeps everything that the cluster runs in control groups of its own.

Whatever a component starts is in its group from birth and cannot leave it by accident, so the group is the kernel's own
list of what is ours: shims and containers too, which no process id of ours could name. Both versions of control groups
are served; on version 1 the group exists in every hierarchy, because the kubelet refuses to start without.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.native import processes
from devcluster.waiting import wait_until

_REMOVE_S = 10.0
"""How long groups may take to be removable after their last process, in seconds: the kernel does it in its own time."""


def hierarchies(mountinfo: str) -> tuple[Path, ...]:
    """Give where control groups are mounted, each hierarchy once.

    Beside version 1, an empty version 2 is often mounted too: runc makes groups there as well.
    """
    found: dict[str, Path] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        _, _, device, root, where = left.split(" ")[:5]
        if right.split(" ")[0] in {"cgroup", "cgroup2"} and root == "/":
            found.setdefault(device, Path(where))
    return tuple(found.values())


class ControlGroup:
    """One control group of ours, in every hierarchy; its name may be a path of groups."""

    def __init__(self, name: str, mounts: tuple[Path, ...] | None = None) -> None:
        """Name the group; `mounts` are the hierarchies, read from the system where they are not given."""
        self.name = name
        self._mounts = hierarchies(Path("/proc/self/mountinfo").read_text()) if mounts is None else mounts

    def exists(self) -> bool:
        """Say whether any hierarchy has a group of this name."""
        return any((mount / self.name).exists() for mount in self._mounts)

    def create(self, part: str) -> None:
        """Make the group and one part of it, in every hierarchy."""
        for group in self._mounts:
            parent = group
            for child in Path(self.name, part).parts:
                (parent / child).mkdir(exist_ok=True)
                _open_up(parent, parent / child)
                parent /= child

    def join(self, part: str, pid: int) -> None:
        """Move a process into a part of the group."""
        for mount in self._mounts:
            (mount / self.name / part / "cgroup.procs").write_text(str(pid))

    def members(self) -> set[int]:
        """Give the ids of all processes in the group and in the groups below it."""
        found: set[int] = set()
        for group in self._groups():
            with suppress(OSError):
                found.update(map(int, (group / "cgroup.procs").read_text().split()))
        return found - {0}

    def kill(self, seconds: float) -> None:
        """End every process in the group, again until none is left: a process may be born while we look."""

        def is_empty() -> bool:
            for pid in self.members():
                processes.kill(pid, lambda pid=pid: pid in self.members())  # type: ignore[misc]  # mypy gives a lambda with a default no type
            return not self.members()

        if not wait_until(is_empty, seconds):
            left = ", ".join(map(str, sorted(self.members())))
            raise DevclusterError(f"processes {left} did not end within {seconds:.0f} s; try `down` again")

    def remove(self) -> None:
        """Remove the group and the groups below it."""

        def is_gone() -> bool:
            for group in sorted(self._groups(), reverse=True):
                with suppress(OSError):
                    group.rmdir()
            return not self.exists()

        if not wait_until(is_gone, _REMOVE_S):
            raise DevclusterError(f"the control group {self.name} is still in use; try `down` again")

    def _groups(self) -> list[Path]:
        """Give the group's directories in all hierarchies, parents first; some may go while we look."""
        tops = [mount / self.name for mount in self._mounts]
        return [Path(group) for top in tops for group, _, _ in os.walk(top)]


def _open_up(parent: Path, group: Path) -> None:
    """Let processes and controllers into a new group: version 1 fills processors by hand, version 2 passes them on."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (group / "cgroup.controllers").exists() or not (group / name).exists():
            continue
        if not (group / name).read_text().strip():
            (group / name).write_text((parent / name).read_text())
    if (parent / "cgroup.subtree_control").exists():
        for controller in (parent / "cgroup.controllers").read_text().split():
            with suppress(OSError):
                (parent / "cgroup.subtree_control").write_text(f"+{controller}")
