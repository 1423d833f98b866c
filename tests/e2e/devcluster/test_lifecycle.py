"""Afterwards the machine is as it was, whatever ended an `up`.

These tests take the cluster down, so they come last, and they are skipped where it is somebody's.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devcluster.native.state import Journal
from devcluster.waiting import wait_until
from tests.e2e.devcluster.pods import apply, pod, ready
from tests.e2e.running import ROOT, Cluster, devcluster, said, up
from tests.e2e.traces import STATE, traces

if TYPE_CHECKING:
    from collections.abc import Callable

    from devcluster.native.state import State

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]


@pytest.fixture(autouse=True)
def of_ours(cluster: Cluster) -> None:
    """Skip what takes the cluster down, where it is somebody's."""
    if cluster.was_up:
        pytest.skip("a cluster was up before the tests; `python -m devcluster down`, then run this again")


def test_down_leaves_nothing(cluster: Cluster, before: dict[str, Any], namespace: str, web: Path) -> None:
    """No process, namespace, mount, link, route, rule, group, setting or directory, though pods run on two nodes."""
    assert web.exists()
    said(devcluster(*up("--nodes", "2")))
    apply(cluster, namespace, pod("one", node="node-1"), pod("two", node="node-2"))
    ready(cluster, namespace, "one", "two")
    holders = [Journal(STATE / "state.json").read().processes[name].pid for name in ("node-1", "node-2")]
    spaces = {Path(f"/proc/{pid}/ns/{kind}").readlink() for pid in holders for kind in ("net", "mnt")}

    said(devcluster("down"))

    assert traces() == before
    left = [space for kind in ("net", "mnt") for space in Path("/proc").glob(f"[0-9]*/ns/{kind}")]
    assert not [space for space in left if points_into(space, spaces)]


def points_into(link: Path, spaces: set[Path]) -> bool:
    """Say whether a process's namespace is one of these; a process that has just ended has none."""
    try:
        return link.readlink() in spaces
    except OSError:
        return False


def test_a_second_down_is_fine(before: dict[str, Any]) -> None:
    """There is nothing to do, and that is no fault."""
    devcluster("down")
    assert "nothing is up" in said(devcluster("down"))
    assert devcluster("status").returncode == 1
    assert traces() == before


def test_up_recovers_from_killed_ups(before: dict[str, Any]) -> None:
    """Killed with nothing but the first note, with a network, with a control plane, with pods, with a second node."""
    devcluster("down")
    for component in ("", "node-1", "kube-apiserver", "kube-proxy", "kubelet@node-2"):
        kill_when(begun_as_far_as(component), "--nodes", "2")
        assert devcluster("status").returncode == 1

    assert "the last `up` did not finish" in said(devcluster(*up()))
    assert devcluster("status").returncode == 0
    assert "kubelet@node-2" in Journal(STATE / "state.json").read().processes
    said(devcluster("down"))
    assert traces() == before


def test_a_node_that_cannot_be_added_is_taken_out_again(cluster: Cluster, tmp_path: Path) -> None:
    """An image that it is to be given is broken by now: one line says so, and the cluster is as it was."""
    one_node()
    (tmp_path / "image.tar").write_bytes((STATE / "images" / "pause.tar").read_bytes())
    said(devcluster("load", str(tmp_path / "image.tar")))
    (tmp_path / "image.tar").write_text("no archive")

    refused = devcluster(*up("--nodes", "2"))

    assert refused.returncode == 1
    assert "image.tar" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert devcluster("status").returncode == 0
    assert said(cluster.kubectl("get", "nodes", "--output=name")).split() == ["node/node-1"]
    (tmp_path / "image.tar").unlink()  # what is gone is not asked for


def test_a_cluster_survives_ups_that_were_killed_while_they_added_a_node(before: dict[str, Any]) -> None:
    """The first node goes on; the next `up` finishes the second."""
    one_node()
    first = Journal(STATE / "state.json").read().processes
    for component in ("", "node-2", "kubelet@node-2"):
        kill_when(grown_as_far_as(component), "--nodes", "2")
        assert devcluster("status").returncode == 1

    said(devcluster(*up()))

    assert devcluster("status").returncode == 0
    processes = Journal(STATE / "state.json").read().processes
    assert "kubelet@node-2" in processes
    assert first.items() <= processes.items()
    said(devcluster("down"))
    assert traces() == before


def one_node() -> None:
    """Have a cluster of one node, new unless the last test left one."""
    state = Journal(STATE / "state.json").read()
    if not (state.is_complete and state.nodes == 1):
        devcluster("down")
    said(devcluster(*up()))


def kill_when(has_come: Callable[[State], bool], *options: str) -> None:
    """Begin an `up` and kill it as soon as the state says that it has come so far."""
    journal = Journal(STATE / "state.json")
    command = (sys.executable, "-m", "devcluster", *up(*options))
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as begun:  # noqa: S603  our own tool
        assert wait_until(lambda: journal.exists() and has_come(journal.read()), 60, pause=0.01)
        begun.kill()


def begun_as_far_as(component: str) -> Callable[[State], bool]:
    """Give what holds when an `up` from nothing starts this component, or wrote its first note if none is named."""
    return lambda state: not state.is_complete and (not component or component in state.processes)


def grown_as_far_as(component: str) -> Callable[[State], bool]:
    """Give what holds when a second node is being added and this component started, or is noted if none is named."""
    return lambda state: state.nodes == 2 and (not component or component in state.processes)
