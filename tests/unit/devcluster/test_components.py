"""The control plane, control groups and images as values: what is started, how, and from what."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from devcluster.images.archive import Image, write_archive
from devcluster.native import dns
from devcluster.native.cgroups import ControlGroup, hierarchies
from devcluster.native.components import Component, control_plane
from devcluster.native.node_components import kubelet_configuration
from devcluster.native.pki import bindings, kubeadm_configuration
from devcluster.nodes import GPU_TOLERATION
from tests.unit.devcluster.example import LAYOUT

NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def component(name: str) -> Component:
    """Find a component of the control plane by name."""
    return next(found for found in control_plane(LAYOUT) if found.name == name)


def test_components_start_in_the_order_of_their_needs() -> None:
    """A store before its server, and the server before all who ask it."""
    assert tuple(found.name for found in control_plane(LAYOUT)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_path_of_a_component_is_under_the_state_directory(name: str) -> None:
    """So that removing one directory removes what a component wrote, and two clusters could not meet."""
    values = [flag.partition("=")[2] for flag in component(name).arguments]
    assert [value for value in values if value.startswith("/") and not value.startswith("/state/")] == []


@pytest.mark.parametrize(
    ("name", "want"),
    [
        pytest.param("etcd", "--unsafe-no-fsync=true", id="etcd does not wait for the disk"),
        pytest.param("etcd", "--listen-client-urls=http://127.0.0.1:2379", id="etcd is heard inside the node only"),
        pytest.param("kube-apiserver", "--authorization-mode=Node,RBAC", id="rights are checked as in production"),
        pytest.param("kube-apiserver", "--enable-admission-plugins=NodeRestriction", id="a node minds its own"),
        pytest.param(
            "kube-apiserver", "--kubelet-preferred-address-types=InternalIP", id="logs and exec need no name lookup"
        ),
        pytest.param("kube-controller-manager", "--leader-elect=false", id="one controller manager elects nobody"),
        pytest.param("kube-controller-manager", "--allocate-node-cidrs=false", id="pod ranges are laid out by us"),
        pytest.param("kube-scheduler", "--leader-elect=false", id="one scheduler elects nobody"),
    ],
)
def test_command_lines_hold_what_the_cluster_depends_on(name: str, want: str) -> None:
    """Each was needed for a reason that the id tells."""
    assert want in component(name).arguments


def test_the_control_plane_runs_on_the_first_node_and_tells_its_health_there() -> None:
    """The host asks, and each component at a port of its own."""
    asked = {found.name: found.health for found in control_plane(LAYOUT)}

    assert {found.node for found in control_plane(LAYOUT)} == {LAYOUT.first}
    assert {health.split("//")[1].split(":")[0] for health in asked.values()} == {"10.89.0.2"}
    assert len(set(asked.values())) == len(asked)


def test_kubeadm_is_told_everything_that_it_would_look_up() -> None:
    """A version, a socket and an address that are not given are looked for on the network or on the host."""
    cluster, node = kubeadm_configuration(LAYOUT)

    assert cluster["kubernetesVersion"] == "v1.36.3"
    assert cluster["certificatesDir"] == "/state/pki"
    assert cluster["etcd"] == {"external": {"endpoints": ["http://127.0.0.1:2379"]}}
    assert node["localAPIEndpoint"]["advertiseAddress"] == "10.89.0.2"
    assert node["nodeRegistration"] == {"name": "node-1", "criSocket": "unix:///state/node-1/containerd.sock"}


def test_people_and_the_api_server_get_their_rights() -> None:
    """Without the first, admin.conf may do nothing; without the second, logs and exec are forbidden."""
    granted = {(found["subjects"][0]["name"], found["roleRef"]["name"]) for found in bindings()}

    assert granted == {
        ("kubeadm:cluster-admins", "cluster-admin"),
        ("kube-apiserver-kubelet-client", "system:kubelet-api-admin"),
    }


MOUNTS_V1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
33 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
34 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
35 99 0:29 / /srv/copy rw,relatime - cgroup cgroup rw,cpu
36 99 0:29 /docker/1 /srv/part rw,relatime - cgroup cgroup rw,cpu
"""
MOUNTS_V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("mountinfo", "want"),
    [
        pytest.param(
            MOUNTS_V1,
            ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"),
            id="version 1 with an empty version 2 beside it",
        ),
        pytest.param(MOUNTS_V2, ("/sys/fs/cgroup",), id="version 2"),
        pytest.param("22 27 0:21 / /proc rw,relatime - proc proc rw\n", (), id="none"),
    ],
)
def test_control_groups_are_found_where_they_are_mounted(mountinfo: str, want: tuple[str, ...]) -> None:
    """Each once, and none of which only a part is mounted: a container's view of its own."""
    assert hierarchies(mountinfo) == tuple(map(Path, want))


def test_a_control_group_is_made_in_every_hierarchy_with_processors_filled_in(tmp_path: Path) -> None:
    """In a new group of `cpuset` no process may run until it is given processors and memory."""
    cpu, cpuset = tmp_path / "cpu", tmp_path / "cpuset"
    for hierarchy in (cpu, cpuset):
        (hierarchy / "ours" / "node" / "pods").mkdir(parents=True)
    empty = [cpuset / path for path in ("ours", "ours/node", "ours/node/pods")]
    for group, value in ((cpuset, "0-1\n"), *((group, "\n") for group in empty)):
        for name in ("cpuset.cpus", "cpuset.mems"):
            (group / name).write_text(value)

    ControlGroup("ours/node", (cpu, cpuset)).create("pods")

    for name in ("cpuset.cpus", "cpuset.mems"):
        assert (cpuset / "ours" / "node" / "pods" / name).read_text() == "0-1\n"
    assert not (cpu / "ours" / "cpuset.cpus").exists()


def test_members_of_a_control_group_are_those_of_all_groups_below_it(tmp_path: Path) -> None:
    """A container is three levels down; `0` stands for a process of another namespace."""
    for path, content in (("ours", ""), ("ours/components", "7\n8\n"), ("ours/pods/kubepods/a", "9\n0\n")):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "cgroup.procs").write_text(content)

    assert ControlGroup("ours", (tmp_path,)).members() == {7, 8, 9}


def test_an_image_is_an_archive_in_which_every_blob_has_its_own_digest_as_its_name(tmp_path: Path) -> None:
    """The index leads to the manifest, the manifest to configuration and layer, and the layer holds the program."""
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    image = Image("example.test/program:1", {"/bin/program": program}, ("/bin/program",))

    write_archive(image, tmp_path / "image.tar")

    with tarfile.open(tmp_path / "image.tar") as tar:
        blobs = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]  # every entry is a file
    for name, content in blobs.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"
    index = json.loads(blobs["index.json"])["manifests"][0]
    manifest = json.loads(blobs["blobs/" + index["digest"].replace(":", "/")])
    settings = json.loads(blobs["blobs/" + manifest["config"]["digest"].replace(":", "/")])
    assert index["annotations"]["io.containerd.image.name"] == "example.test/program:1"
    assert settings["config"] == {"Entrypoint": ["/bin/program"], "User": "65532:65532"}
    assert settings["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]


def test_the_same_files_give_the_same_image(tmp_path: Path) -> None:
    """Owner and time of a file are not part of it."""
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    image = Image("example.test/program:1", {"/program": program}, ("/program",))

    write_archive(image, tmp_path / "one.tar")
    program.touch()
    write_archive(image, tmp_path / "two.tar")

    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_the_dns_service_has_the_address_that_pods_ask() -> None:
    """And its Deployment asks for no privilege, so that it would run at the restricted level."""
    objects = {found["kind"]: found for found in dns.manifests(LAYOUT)}
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]

    assert objects["Service"]["spec"]["clusterIP"] == kubelet_configuration(LAYOUT, LAYOUT.first)["clusterDNS"][0]
    assert {port["targetPort"] for port in objects["Service"]["spec"]["ports"]} == {dns.PORT}
    assert container["imagePullPolicy"] == "Never"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert GPU_TOLERATION in pod["tolerations"]
    assert pod["nodeSelector"] == {"kubernetes.io/hostname": "node-1"}
    assert f".:{dns.PORT} " in objects["ConfigMap"]["data"]["Corefile"]
