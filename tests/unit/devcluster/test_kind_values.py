"""What a kind cluster is made of, as values, and where its state and its program are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devcluster import nodes
from devcluster.kind import cluster as kind
from devcluster.kind.parts import NODE_IMAGE, configuration, container, parts
from tests.unit.devcluster.engine_of_text import FIRST, SECOND


def test_one_node_is_a_control_plane() -> None:
    """Of a single node kind itself takes the taint away, and fails where a patch has done it before."""
    assert configuration(1, frozenset()) == {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": "arbiter-devcluster",
        "nodes": [{"role": "control-plane", "image": NODE_IMAGE}],
    }


def test_of_several_nodes_the_first_runs_pods_too() -> None:
    """As it does natively; kubeadm would keep it to itself."""
    first, second, third = configuration(3, frozenset())["nodes"]

    assert [json.loads(patch) for patch in first.pop("kubeadmConfigPatches")] == [
        {"kind": "InitConfiguration", "nodeRegistration": {"taints": []}}
    ]
    assert first == {"role": "control-plane", "image": NODE_IMAGE}
    assert second == third == {"role": "worker", "image": NODE_IMAGE}


def test_a_gpu_node_has_its_labels_from_the_start() -> None:
    """The kubelet sets them whenever it registers, so a node that was deleted comes back with them."""
    first, second = configuration(2, frozenset({2}))["nodes"]

    assert "labels" not in first
    assert second["labels"] == nodes.GPU_LABELS


def test_a_node_is_made_from_one_image_of_the_kubernetes_that_is_tested() -> None:
    """By digest: a tag of it is built anew for other versions of kind."""
    tag, digest = NODE_IMAGE.split("@")

    assert tag.startswith("kindest/node:v1.36.")
    assert digest.startswith("sha256:")
    assert len(digest) == len("sha256:") + 64


@pytest.mark.parametrize(
    ("number", "want"),
    [(1, FIRST), (2, SECOND), (3, "arbiter-devcluster-worker2"), (9, "arbiter-devcluster-worker8")],
)
def test_nodes_are_named_as_kind_names_them(number: int, want: str) -> None:
    """It counts workers from the second on."""
    assert container(number) == want


def test_parts_are_named_as_they_are_natively() -> None:
    """Whoever stops a kubelet need not know who runs it."""
    assert [part.name for part in parts(2)] == [
        "node-1", "node-2", "registry", "registry-private", "containerd", "kubelet", "containerd@node-2",
        "kubelet@node-2", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "uid", "want"),
    [
        pytest.param({"XDG_STATE_HOME": "/state"}, 1000, "/state/arbiter-devcluster-kind", id="where it is asked for"),
        pytest.param({}, 0, "/var/lib/arbiter-devcluster-kind", id="root's"),
        pytest.param({"XDG_STATE_HOME": "state"}, 1000, "/home/me/.local/state/arbiter-devcluster-kind", id="a user's"),
    ],
)
def test_the_state_is_where_the_user_may_write(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], uid: int, want: str
) -> None:
    """This provider needs no root."""
    monkeypatch.setenv("HOME", "/home/me")
    assert kind.directory(environment, uid) == Path(want)


@pytest.mark.parametrize(
    ("says", "is_used"),
    [
        pytest.param("kind v0.32.0 go1.26.8 linux/amd64", True, id="the one that we would build"),
        pytest.param("kind v0.100.1 go1.30.0 linux/amd64", True, id="a newer one"),
        pytest.param("kind v0.29.1 go1.24.0 linux/amd64", False, id="an older one"),
        pytest.param("another program of that name", False, id="something else"),
    ],
)
def test_a_kind_on_the_path_is_used_if_it_knows_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, is_used: bool
) -> None:
    """An older one may not be able to run the node image; then ours is built, and that is said."""
    found = tmp_path / "kind"
    found.write_text("")
    found.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []

    assert kind.on_path(said.append, lambda *_: f"{says}\n") == (found if is_used else None)
    assert said == ([] if is_used else [f"{found} is {says}, and the node image needs v0.32.0: using one of our own"])


def test_without_a_kind_on_the_path_one_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked for its version."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kind.on_path(print, lambda *_: pytest.fail("asked")) is None
