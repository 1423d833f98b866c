"""Dynamic volumes as values: who makes them, where, and with how little privilege."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from devcluster.images.archive import write_archive
from devcluster.native import storage
from devcluster.nodes import GPU_TOLERATION, MOST_NODES
from tests.unit.devcluster.example import LAYOUT


def found(kind: str) -> dict[str, Any]:
    """Find the object of a kind."""
    return next(one for one in storage.manifests(LAYOUT) if one["kind"] == kind)


def test_the_class_is_the_default_and_waits_for_a_pod() -> None:
    """A claim without a class gets a volume, on the node where its pod is to run."""
    storage_class = found("StorageClass")

    assert storage_class["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}
    assert storage_class["volumeBindingMode"] == "WaitForFirstConsumer"
    assert storage_class["reclaimPolicy"] == "Delete"


def test_every_node_has_a_directory_of_its_own_for_volumes() -> None:
    """All nodes see the same disk, and also those that come later are known: the file is read once."""
    places = json.loads(storage.settings(LAYOUT)["config.json"])["nodePathMap"]

    assert {place["node"]: place["paths"] for place in places} == {
        f"node-{number}": [f"/state/node-{number}/volumes"] for number in range(1, MOST_NODES + 1)
    }


def test_the_provisioner_runs_with_no_privilege_on_the_first_node_even_if_that_has_a_gpu() -> None:
    """It asks the API server and nobody else; short pods do what needs a node."""
    pod = found("Deployment")["spec"]["template"]["spec"]

    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert GPU_TOLERATION in pod["tolerations"]
    assert pod["nodeSelector"] == {"kubernetes.io/hostname": "node-1"}


def test_the_provisioner_reads_the_files_that_it_is_given() -> None:
    """A file that it looked for elsewhere would be one of its makers, with their images."""
    container = found("Deployment")["spec"]["template"]["spec"]["containers"][0]
    mounted = container["volumeMounts"][0]["mountPath"]
    asked = {arg.partition("=")[2] for arg in container["args"] if arg.partition("=")[2].startswith("/")}

    assert {Path(path).name for path in asked} <= set(found("ConfigMap")["data"])
    assert {str(Path(path).parent) for path in asked} == {mounted}


def test_a_short_pod_is_root_for_files_of_others_and_for_nothing_else() -> None:
    """What a volume's pods wrote belongs to them, and must be removable."""
    container = json.loads(storage.settings(LAYOUT)["helperPod.yaml"])["spec"]["containers"][0]

    assert container["securityContext"]["runAsUser"] == 0
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["DAC_OVERRIDE", "FOWNER"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("script", ["setup", "teardown"])
def test_a_script_runs_what_its_image_holds(script: str, tmp_path: Path) -> None:
    """The image holds three programs, all of which are one file."""
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"\x7fELF")
    write_archive(storage.tools(busybox), tmp_path / "image.tar")

    with tarfile.open(tmp_path / "image.tar") as tar:
        blobs = [tar.extractfile(entry) for entry in tar if entry.name.startswith("blobs/")]
        layer = next(blob for blob in blobs if blob is not None and blob.read(5) == b"bin/s")
        layer.seek(0)
        with tarfile.open(fileobj=layer) as content:
            programs = {Path(name).name for name in content.getnames()}
    assert programs == {"sh", "mkdir", "rm"}
    assert storage.settings(LAYOUT)[script].split()[0] in programs


def test_rights_are_no_wider_than_its_work() -> None:
    """It makes volumes for everybody, but pods in its own namespace only."""
    everywhere = {resource for rule in found("ClusterRole")["rules"] for resource in rule["resources"]}
    here = found("Role")

    assert everywhere == {"nodes", "persistentvolumeclaims", "persistentvolumes", "events", "storageclasses"}
    assert here["metadata"]["namespace"] == storage.NAMESPACE
    assert here["rules"][0]["resources"] == ["pods", "pods/log"]
