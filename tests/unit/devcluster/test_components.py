"""Components, networks and images as values: what is started, with which files, and what is refused beforehand."""

from __future__ import annotations

import hashlib
import json
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

from devcluster import dns
from devcluster.cgroups import ControlGroup, hierarchies
from devcluster.components import Component, cni_configuration, components, configuration_files
from devcluster.images.archive import Image, write_archive
from devcluster.layout import Addresses, Layout
from devcluster.network import first_taken
from devcluster.pki import bindings, kubeadm_configuration

NAMES = (
    "etcd",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
)
PROGRAMS = {name: Path("/programs/bin", name) for name in (*NAMES, "runc", "ctr", "kubectl", "kubeadm")}
LAYOUT = Layout(Path("/state"), {**PROGRAMS, "bridge": Path("/programs/cni/bridge")})


def component(name: str) -> Component:
    """Find a component by name."""
    return next(found for found in components(LAYOUT) if found.name == name)


def configuration(name: str) -> dict[str, Any]:
    """Read a JSON configuration file of ours."""
    content: dict[str, Any] = json.loads(configuration_files(LAYOUT)[LAYOUT.file(name)])
    return content


def test_components_start_in_the_order_of_their_needs() -> None:
    """A store before its server, a runtime before its kubelet, and the server before all who ask it."""
    assert tuple(found.name for found in components(LAYOUT)) == NAMES


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
        pytest.param("kubelet", "--node-ip=10.89.0.2", id="the kubelet is reached at the node's address"),
        pytest.param("kubelet", "--hostname-override=node-1", id="the node has our name, not the machine's"),
        pytest.param("kube-proxy", "--config=/state/etc/kube-proxy.json", id="the proxy reads its file"),
        pytest.param("containerd", "--config=/state/etc/containerd.toml", id="containerd reads its file"),
    ],
)
def test_command_lines_hold_what_the_cluster_depends_on(name: str, want: str) -> None:
    """Each was needed for a reason that the id tells."""
    assert want in component(name).arguments


def test_every_component_tells_its_health_at_the_nodes_address() -> None:
    """The host asks; containerd has a socket instead."""
    asked = {found.name: found.health for found in components(LAYOUT)}

    assert asked.pop("containerd") == ""
    assert {health.split("//")[1].split(":")[0] for health in asked.values()} == {"10.89.0.2"}
    assert len(set(asked.values())) == len(asked)


def test_the_kubelet_runs_on_a_machine_with_old_control_groups_and_a_full_disk() -> None:
    """Version 1 is tolerated, pods stay in our own control group, and nothing is evicted for the developer's disk."""
    kubelet = configuration("kubelet.json")

    assert kubelet["failCgroupV1"] is False
    assert kubelet["cgroupRoot"] == "/arbiter-devcluster/pods-node-1"
    assert kubelet["cgroupDriver"] == "cgroupfs"
    assert kubelet["enforceNodeAllocatable"] == []
    assert set(kubelet["evictionHard"].values()) == {"0%"}
    assert kubelet["imageGCHighThresholdPercent"] == 100


def test_the_kubelet_answers_nobody_without_a_name() -> None:
    """Who asks it for logs or exec is authenticated and authorised, as in production."""
    kubelet = configuration("kubelet.json")

    assert kubelet["authentication"]["anonymous"]["enabled"] is False
    assert kubelet["authentication"]["x509"]["clientCAFile"] == "/state/pki/ca.crt"
    assert kubelet["authorization"] == {"mode": "Webhook"}


def test_pods_ask_the_clusters_dns_and_no_other() -> None:
    """The host's name servers are out of reach from the node."""
    kubelet = configuration("kubelet.json")

    assert kubelet["clusterDNS"] == ["10.96.0.10"]
    assert "nameserver " not in configuration_files(LAYOUT)[Path(kubelet["resolvConf"])]


def test_the_proxy_uses_nftables_and_leaves_connection_tracking_alone() -> None:
    """The size of the tracking table belongs to the whole machine."""
    proxy = configuration("kube-proxy.json")

    assert proxy["mode"] == "nftables"
    assert proxy["conntrack"] == {"maxPerCore": 0}
    assert proxy["clusterCIDR"] == "10.244.0.0/16"


def test_containerd_keeps_to_its_own_directories() -> None:
    """The configuration is TOML, of the third form, and no path in it is shared with another containerd."""
    toml = tomllib.loads(configuration_files(LAYOUT)[LAYOUT.file("containerd.toml")])
    plugins = toml["plugins"]
    runtime = plugins["io.containerd.cri.v1.runtime"]

    assert toml["version"] == 3
    assert {toml["root"], toml["state"]} == {"/state/node-1/containerd", "/state/node-1/run"}
    assert toml["grpc"]["address"] == "/state/node-1/containerd.sock"
    assert plugins["io.containerd.internal.v1.opt"]["path"] == "/state/node-1/opt"
    assert plugins["io.containerd.cri.v1.images"]["pinned_images"] == {"sandbox": "devcluster.local/pause:1"}
    assert runtime["restrict_oom_score_adj"] is True
    assert runtime["cni"] == {"bin_dirs": ["/programs/cni"], "conf_dir": "/state/node-1/cni"}
    assert runtime["containerd"]["runtimes"]["runc"]["options"]["BinaryName"] == "/programs/bin/runc"


def test_pods_get_addresses_of_their_node_and_are_not_masqueraded() -> None:
    """They are routed to the host and no further."""
    bridge = cni_configuration(LAYOUT)["plugins"][0]

    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.244.0.0/24"}]]
    assert "ipMasq" not in bridge


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


def test_our_programs_come_before_the_systems() -> None:
    """Debian's runc is too old, and containerd takes the first that it finds."""
    assert LAYOUT.path == "/programs/bin:/programs/cni:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.mark.parametrize(
    ("length", "want"), [pytest.param(60, False, id="short enough"), pytest.param(90, True, id="too long")]
)
def test_a_state_directory_too_long_for_sockets_is_noticed(length: int, want: bool) -> None:
    """The kernel's own message would name neither the path nor the limit."""
    assert Layout(Path("/" + "s" * length), {}).socket_is_too_long() is want


def test_the_link_to_the_node_has_a_name_that_the_kernel_takes() -> None:
    """IFNAMSIZ is 16 with the final zero."""
    assert len(LAYOUT.link) <= 15


LOOPBACK = {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]}
DEFAULT = {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"}


@pytest.mark.parametrize(
    ("addresses", "routes", "want"),
    [
        pytest.param([LOOPBACK], [DEFAULT], None, id="a machine without other networks"),
        pytest.param(
            [LOOPBACK, {"ifname": "eth1", "addr_info": [{"local": "10.89.0.7", "prefixlen": 24}]}],
            [],
            "the cluster needs 10.89.0.0/24, but 10.89.0.7/24 is in use on eth1; remove that address or route",
            id="an address in the network of the link",
        ),
        pytest.param(
            [LOOPBACK],
            [DEFAULT, {"dst": "10.0.0.0/8", "dev": "tun0"}],
            "the cluster needs 10.89.0.0/24, but 10.0.0.0/8 is in use on tun0; remove that address or route",
            id="a private network that holds all of ours",
        ),
        pytest.param(
            [LOOPBACK],
            [{"dst": "10.244.3.0/24", "dev": "flannel.1"}],
            "the cluster needs 10.244.0.0/16, but 10.244.3.0/24 is in use on flannel.1; remove that address or route",
            id="another cluster's pods",
        ),
        pytest.param(
            [LOOPBACK],
            [{"type": "blackhole", "dst": "10.96.0.1"}],
            "the cluster needs 10.96.0.0/16, but 10.96.0.1 is in use on a route; remove that address or route",
            id="a route without a link",
        ),
    ],
)
def test_a_network_that_somebody_else_uses_is_named(
    addresses: list[dict[str, Any]], routes: list[dict[str, Any]], want: str | None
) -> None:
    """One line says what is taken, by what, and what to do."""
    assert first_taken(Addresses(), addresses, routes) == want


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
        (hierarchy / "ours" / "pods").mkdir(parents=True)
    for group, value in ((cpuset, "0-1\n"), (cpuset / "ours", "\n"), (cpuset / "ours" / "pods", "\n")):
        for name in ("cpuset.cpus", "cpuset.mems"):
            (group / name).write_text(value)

    ControlGroup("ours", (cpu, cpuset)).create("pods")

    assert (cpuset / "ours" / "pods" / "cpuset.cpus").read_text() == "0-1\n"
    assert (cpuset / "ours" / "pods" / "cpuset.mems").read_text() == "0-1\n"
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

    assert objects["Service"]["spec"]["clusterIP"] == configuration("kubelet.json")["clusterDNS"][0]
    assert {port["targetPort"] for port in objects["Service"]["spec"]["ports"]} == {dns.PORT}
    assert container["imagePullPolicy"] == "Never"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f".:{dns.PORT} " in objects["ConfigMap"]["data"]["Corefile"]
