"""Putting the machine back: only what is ours goes, and never through a mount."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from devcluster.errors import DevclusterError
from devcluster.native import machine

if TYPE_CHECKING:
    from pathlib import Path


def test_a_directory_that_somebody_has_put_something_into_is_kept(tmp_path: Path) -> None:
    """It was ours when we made it; /run/containerd may be another runtime's by now."""
    empty, used = tmp_path / "empty", tmp_path / "used"
    for directory in (empty, used):
        directory.mkdir()
    (used / "containerd.sock").touch()

    for directory in (empty, used, tmp_path / "gone"):
        machine.remove_if_empty(directory)

    assert not empty.exists()
    assert used.exists()


def test_a_tree_is_removed_but_for_what_is_spared(tmp_path: Path) -> None:
    """The state and the logs outlive the rest until they have been read; a link is removed, not what it leads to."""
    state, outside = tmp_path / "state", tmp_path / "outside"
    for directory in (state / "logs", state / "node-1" / "kubelet", outside):
        directory.mkdir(parents=True)
    for file in (state / "state.json", state / "logs" / "etcd.log", outside / "kept"):
        file.touch()
    (state / "link").symlink_to(outside)

    machine.remove_tree(state, spare=(state / "state.json", state / "logs"))

    assert sorted(path.name for path in state.rglob("*")) == ["etcd.log", "logs", "state.json"]
    assert (outside / "kept").exists()
    machine.remove_tree(state)
    assert not state.exists()
    machine.remove_tree(state)


@pytest.mark.parametrize(
    ("nodes", "free", "want"),
    [
        pytest.param(2, 1_300_000_000, "", id="enough for two"),
        pytest.param(2, 1_100_000_000, "2 nodes need about 1.2 GB, and there are 1.1 GB free", id="enough for one"),
        pytest.param(0, 0, "", id="no node more"),
    ],
)
def test_a_disk_without_room_is_refused(
    nodes: int, free: int, want: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says how much is missing and where, before etcd falls over it; the directory need not exist."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    refused = ""
    try:
        machine.refuse_small(tmp_path / "not" / "there", nodes)
    except DevclusterError as error:
        refused = str(error)
    assert want in refused
    assert bool(refused) == bool(want)


def test_a_tree_with_a_mount_in_it_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is mounted may be anybody's."""
    (tmp_path / "state" / "node-1").mkdir(parents=True)
    table = tmp_path / "mountinfo"
    table.write_text(f"36 35 98:0 / {tmp_path}/state/node-1 rw,noatime - ext3 /dev/root rw\n")
    monkeypatch.setattr(machine, "_MOUNTS", table)

    with pytest.raises(DevclusterError, match="node-1 is mounted; unmount it and run `down` again"):
        machine.remove_tree(tmp_path / "state")
    assert (tmp_path / "state" / "node-1").exists()
