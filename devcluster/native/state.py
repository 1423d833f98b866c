"""Remembers what the cluster has done to this machine, so that all of it can be undone.

Whatever outlives the command that does it is written down before it is done, in one file that is replaced as a whole.
Undoing something that was written down but never happened is nothing; the other way round could not be mended.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devcluster.errors import DevclusterError
from devcluster.native.processes import Process

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 2
"""The form of the file. A file of another form is not guessed at."""


@dataclass(frozen=True)
class State:
    """What has been done to the machine.

    Attributes:
        provider: who runs the cluster.
        is_complete: whether the cluster ever came up; without it, the next `up` starts over.
        nodes: how many nodes it is to have: those that an `up` began to add count already.
        gpu_nodes: numbers of those that are marked as GPU nodes.
        archives: files of images that were loaded, for nodes that come later.
        control_group: the group that holds every process of ours.
        links: network links of ours on the host; their routes go with them.
        directories: directories outside the state directory that we made, parents first.
        kernel_settings: values before us, by name, of settings that the kubelet changes for the whole machine.
        processes: what runs, by component.
    """

    provider: str = "native"
    is_complete: bool = False
    nodes: int = 0
    gpu_nodes: tuple[int, ...] = ()
    archives: tuple[str, ...] = ()
    control_group: str = ""
    links: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    kernel_settings: Mapping[str, str] = field(default_factory=dict)
    processes: Mapping[str, Process] = field(default_factory=dict)

    def with_process(self, name: str, process: Process) -> State:
        """Give the state in which a component runs."""
        return replace(self, processes={**self.processes, name: process})

    def without_processes(self, *names: str) -> State:
        """Give the state in which components do not run."""
        return replace(self, processes={key: kept for key, kept in self.processes.items() if key not in names})


def directory(environment: Mapping[str, str]) -> Path:
    """Give the state directory: under XDG_STATE_HOME where that is set, else the one of the machine."""
    home = environment.get("XDG_STATE_HOME", "")
    return Path(home if home.startswith("/") else "/var/lib") / "arbiter-devcluster"


class Journal:
    """The file that holds the state."""

    def __init__(self, path: Path) -> None:
        """Name the file; it need not exist."""
        self.path = path

    def exists(self) -> bool:
        """Say whether anything was ever done."""
        return self.path.exists()

    def read(self) -> State:
        """Give the state as it was written last; an empty one where nothing was."""
        if not self.exists():
            return State()
        try:
            content = json.loads(self.path.read_text())
        except ValueError:
            raise DevclusterError(f"{self.path} is not readable; restart the machine and remove the file") from None
        return decode(content, self.path)

    def write(self, state: State) -> None:
        """Replace the file, so that a reader sees the old state or the new one and nothing between."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".new")
        with draft.open("w") as file:
            json.dump({"version": VERSION, **asdict(state)}, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)

    def note(self, **changes: Any) -> None:  # noqa: ANN401  the fields of State, each with its type
        """Write the state down with some fields changed."""
        self.write(replace(self.read(), **changes))


def decode(content: Any, path: Path) -> State:  # noqa: ANN401  whatever JSON the file holds
    """Read a state from what the file holds."""
    no_state = DevclusterError(f"{path} does not hold a state; restart the machine and remove the file")
    if not isinstance(content, dict):
        raise no_state
    if content.get("version") != VERSION:
        said = content.get("version")
        raise DevclusterError(f"{path} has version {said}, not {VERSION}; run `down` with the devcluster that wrote it")
    try:
        fields = {name: value for name, value in content.items() if name != "version"}
        for name in ("links", "directories", "gpu_nodes", "archives"):
            fields[name] = tuple(fields[name])
        fields["processes"] = {name: Process(**process) for name, process in fields["processes"].items()}
        return State(**fields)
    except (KeyError, TypeError):
        raise no_state from None
