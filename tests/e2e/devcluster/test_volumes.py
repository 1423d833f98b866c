"""Volumes: a claim gets a directory that outlives its pods and goes with it, and an image is a volume too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from devcluster.images.archive import Image, write_archive
from devcluster.waiting import wait_until
from tests.e2e.devcluster.pods import apply, finished, inside, pod, ready, value
from tests.e2e.running import Cluster, devcluster, said
from tests.e2e.traces import STATE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

CLAIM: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "notes"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
}


def noting(name: str, *arguments: str) -> dict[str, Any]:
    """Give a pod that uses the claim."""
    mounts = [{"name": "notes", "mountPath": "/notes"}]
    volumes = [{"name": "notes", "persistentVolumeClaim": {"claimName": "notes"}}]
    return pod(name, *arguments, volumeMounts=mounts, volumes=volumes)


def directories(volume: str) -> list[Path]:
    """Give the directories of a volume, on whichever node they are."""
    return list(STATE.glob(f"node-*/volumes/{volume}_*"))


def test_what_one_pod_writes_the_next_reads_until_the_claim_is_deleted(
    cluster: Cluster, namespace: str, web: Path
) -> None:
    """A claim that names no class gets a volume; pods without any privilege use it; it leaves nothing on the disk."""
    assert web.exists()
    apply(cluster, namespace, CLAIM, noting("writer", "write", "/notes/today", "it rains"))
    finished(cluster, namespace, "writer")
    said(cluster.kubectl("-n", namespace, "delete", "pod", "writer"))
    apply(cluster, namespace, noting("reader", "read", "/notes/today"))

    assert finished(cluster, namespace, "reader") == "it rains"
    volume = value(cluster, namespace, "persistentvolumeclaim notes", "{.spec.volumeName}")
    assert len(directories(volume)) == 1

    said(cluster.kubectl("-n", namespace, "delete", "pod/reader", "persistentvolumeclaim/notes"))
    said(cluster.kubectl("wait", "--for=delete", f"persistentvolume/{volume}", "--timeout=60s"))
    assert wait_until(lambda: not directories(volume), 10)


def test_an_image_is_a_volume_that_nobody_writes_to(
    cluster: Cluster, namespace: str, web: Path, tmp_path: Path
) -> None:
    """That is how a model gets to its server without a network."""
    assert web.exists()
    (tmp_path / "greeting").write_text("good morning\n")
    image = Image("devcluster.test/greeting:1", {"/greeting": tmp_path / "greeting"}, ())
    write_archive(image, tmp_path / "greeting.tar")
    said(devcluster("load", str(tmp_path / "greeting.tar")))
    mounts = [{"name": "greeting", "mountPath": "/volume"}]
    volumes = [{"name": "greeting", "image": {"reference": image.name, "pullPolicy": "Never"}}]
    apply(cluster, namespace, pod("greeted", volumeMounts=mounts, volumes=volumes))
    ready(cluster, namespace, "greeted")

    assert said(inside(cluster, namespace, "greeted", "read", "/volume/greeting")) == "good morning\n"
    refused = inside(cluster, namespace, "greeted", "write", "/volume/greeting", "good night")
    assert refused.returncode != 0
    assert "read-only file system" in refused.stderr
