"""The cluster's lifecycle as far as it decides: what is called how, and what is refused before anything is done."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from devcluster.errors import DevclusterError
from devcluster.native import processes
from devcluster.native.cluster import Cluster
from devcluster.native.state import State
from devcluster.nodes import Shape
from tests.unit.devcluster.example import LAYOUT

if TYPE_CHECKING:
    from pathlib import Path

OF_NODE_2 = ("containerd@node-2", "kubelet@node-2", "kube-proxy@node-2", "node-2")


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Give a cluster with two nodes whose first holder is this very process: nothing here may stop it."""
    given = Cluster(replace(LAYOUT, state=tmp_path), print)
    me = processes.identify(os.getpid())
    assert me is not None
    given.journal.write(State(is_complete=True, nodes=2, processes={"node-1": me}))
    return given


def test_components_are_named_by_their_node_but_for_the_first(cluster: Cluster) -> None:
    """Node 2 as a whole is one of the things that can fail."""
    assert cluster.components() == (
        *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
        *("containerd", "kubelet", "kube-proxy"),
        *("registry", "registry-private"),
        *OF_NODE_2,
    )


def test_a_cluster_of_one_node_names_no_other(tmp_path: Path) -> None:
    """Also where there is none yet."""
    given = Cluster(replace(LAYOUT, state=tmp_path), print)

    assert not given.exists()
    assert not set(given.components()) & set(OF_NODE_2)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        pytest.param("node-1", "node-1 runs the control plane; stop its components", id="the first node"),
        pytest.param("kubelet@node-3", "no component is named kubelet@node-3; there are etcd, ", id="a node too many"),
        pytest.param("etcd@node-2", "no component is named etcd@node-2", id="a component of the first node elsewhere"),
    ],
)
@pytest.mark.parametrize("verb", ["stop", "start"])
def test_what_cannot_be_stopped_is_refused(cluster: Cluster, verb: str, name: str, want: str) -> None:
    """The message is the list to choose from, or the reason."""
    with pytest.raises(DevclusterError, match=want):
        getattr(cluster, verb)(name)


@pytest.mark.parametrize("verb", ["stop", "start"])
def test_without_a_cluster_nothing_is_stopped_or_started(tmp_path: Path, verb: str) -> None:
    """The message says what to do."""
    given = Cluster(replace(LAYOUT, state=tmp_path), print)

    with pytest.raises(DevclusterError, match="the cluster is not up; bring it up"):
        getattr(given, verb)("kubelet")


def test_fewer_nodes_than_there_are_is_refused_before_anything_is_done(cluster: Cluster) -> None:
    """Taking a node out would take its pods' volumes along."""
    before = cluster.journal.read()

    with pytest.raises(DevclusterError, match="the cluster has 2; take it down first"):
        cluster.up(Shape(nodes=1))
    assert cluster.journal.read() == before


def test_a_gpu_node_that_a_new_cluster_would_not_have_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    """A cluster half made would have to be undone for it."""
    given = Cluster(replace(LAYOUT, state=tmp_path / "state"), print)

    with pytest.raises(DevclusterError, match="--gpu-node 2: the cluster has 1 node"):
        given.up(Shape(gpu_nodes=frozenset({2})))
    assert not (tmp_path / "state").exists()


def test_an_archive_that_is_not_there_is_refused_before_any_is_loaded(cluster: Cluster, tmp_path: Path) -> None:
    """Half of the images would be loaded otherwise."""
    (tmp_path / "there.tar").touch()

    with pytest.raises(DevclusterError, match=r"missing\.tar does not exist"):
        cluster.load([tmp_path / "there.tar", tmp_path / "missing.tar"])


def test_what_was_loaded_is_remembered_in_its_order_for_nodes_that_come_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two images with one name, the one that was loaded last counts, on every node; a stopped one comes later."""
    program = tmp_path / "ctr"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    given = Cluster(replace(LAYOUT, state=tmp_path / "state", programs={"ctr": program}), print)
    me = processes.identify(os.getpid())
    assert me is not None
    given.journal.write(State(is_complete=True, nodes=2, processes={"node-1": me, "containerd": me}))
    given.layout.first.root.mkdir()
    old, new = tmp_path / "old.tar", tmp_path / "new.tar"
    for archive in (old, new):
        archive.touch()

    for archives in ([old], [new], [old]):
        given.load(archives)

    assert given.journal.read().archives == (str(new), str(old))
    assert "node-2 does not run; it is given the images when it is started" in capsys.readouterr().out


def test_status_says_of_every_part_that_it_does_not_run(tmp_path: Path) -> None:
    """Asking after a cluster that is not there is no failure."""
    found, is_up = Cluster(replace(LAYOUT, state=tmp_path), print).status()

    assert not is_up
    assert set(found.values()) == {"not running"}
    assert "node-1" in found
