"""The kind provider, against an engine made of text: every command that it gives, in its order.

There is no container engine here, so nothing of this has run on a real one.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from devcluster import nodes, registry
from devcluster.errors import DevclusterError
from devcluster.kind import containers, registries
from devcluster.kind.cluster import KindCluster
from devcluster.kind.parts import configuration, parts
from devcluster.nodes import Shape
from tests.unit.devcluster.engine_of_text import FIRST, REGISTRIES, SECOND, Machine

PROGRAMS = {"kind": Path("/built/kind"), "kubectl": Path("/built/kubectl")}


class Here:
    """A machine with its state directory, and what was said."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.machine = Machine()
        self.said: list[str] = []

    def cluster(self, engine: str = "docker") -> KindCluster:
        """Give the cluster as the next command would."""
        return KindCluster(self.state, PROGRAMS, engine, self.said.append, self.machine.run)

    def up(self, **shape: Any) -> KindCluster:  # noqa: ANN401  what Shape takes
        """Bring it up, and forget how."""
        cluster = self.cluster()
        cluster.up(Shape(**shape))
        self.machine.commands.clear()
        self.machine.inputs.clear()
        self.said.clear()
        return cluster


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """Give a machine without a cluster; nobody has its registries' ports."""
    monkeypatch.setattr(registries, "refuse_taken", lambda: None)
    return Here(tmp_path / "state")


def test_a_new_cluster_is_made_in_this_order(here: Here) -> None:
    """The nodes are made, then come registries and trust in them, readiness, and the marks of GPU nodes."""
    here.cluster().up(Shape(2, frozenset({2})))

    kubeconfig = f"--kubeconfig={here.state}/kubeconfig"
    known = "/etc/containerd/certs.d/localhost"
    trust = ("sh", "-c", registries.TRUST, "sh")
    gpu = json.dumps({"status": {"capacity": {"nvidia.com/gpu": "1"}, "allocatable": {"nvidia.com/gpu": "1"}}})
    labels = [f"{name}={value}" for name, value in nodes.GPU_LABELS.items()]
    assert here.machine.told() == [
        ("kind", "create", "cluster", "--name", "arbiter-devcluster", "--config", "-",
         "--kubeconfig", f"{here.state}/kubeconfig", "--wait", "180s"),
        ("docker", "run", "--detach", "--name", "arbiter-devcluster-registry", "--network", "kind",
         "--publish", "127.0.0.1:5000:5000", "--env", "REGISTRY_STORAGE_DELETE_ENABLED=true",
         "--env", "OTEL_TRACES_EXPORTER=none", "docker.io/library/registry:3"),
        ("docker", "exec", "--interactive", FIRST, *trust, f"{known}:5000"),
        ("docker", "exec", "--interactive", SECOND, *trust, f"{known}:5000"),
        ("docker", "run", "--detach", "--name", "arbiter-devcluster-registry-private", "--network", "kind",
         "--publish", "127.0.0.1:5001:5000", "--env", "REGISTRY_STORAGE_DELETE_ENABLED=true",
         "--env", "OTEL_TRACES_EXPORTER=none",
         "--volume", f"{here.state}/registry.htpasswd:/etc/registry.htpasswd:ro,Z", "--env", "REGISTRY_AUTH=htpasswd",
         "--env", "REGISTRY_AUTH_HTPASSWD_REALM=registry-private",
         "--env", "REGISTRY_AUTH_HTPASSWD_PATH=/etc/registry.htpasswd", "docker.io/library/registry:3"),
        ("docker", "exec", "--interactive", FIRST, *trust, f"{known}:5001"),
        ("docker", "exec", "--interactive", SECOND, *trust, f"{known}:5001"),
        ("kubectl", kubeconfig, "apply", "--server-side", "--filename=-"),
        ("kubectl", kubeconfig, "wait", "--for=condition=Ready", "node", "--all", "--timeout=180s"),
        ("kubectl", kubeconfig, "-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=180s"),
        ("kubectl", kubeconfig, "label", "node", SECOND, "--overwrite", *labels),
        ("kubectl", kubeconfig, "taint", "node", SECOND, "--overwrite", "nvidia.com/gpu=present:NoSchedule"),
        ("kubectl", kubeconfig, "patch", "node", SECOND, "--subresource=status", f"--patch={gpu}"),
    ]  # fmt: skip
    assert json.loads(here.machine.input("kind", "create")) == configuration(2, {2})
    assert here.said == ["kind makes 2 nodes from kindest/node:v1.36.1, which it downloads the first time"]


def test_a_cluster_is_written_down_before_it_is_made(here: Here) -> None:
    """With its engine: whatever ends an `up`, `down` knows whom to ask."""
    seen: list[bool] = []
    run = here.machine.run

    def look(*command: str, **how: Any) -> str:  # noqa: ANN401  what a runner takes
        if "create" in command:
            seen.append(here.cluster("podman").exists())
        return run(*command, **how)

    KindCluster(here.state, PROGRAMS, "docker", here.said.append, look).up(Shape())

    assert seen == [True]
    assert json.loads((here.state / "kind.json").read_text()) == {"engine": "docker", "is_complete": True}


def test_a_second_up_uses_what_is_up(here: Here) -> None:
    """Nothing is made; what is not asked for stays as it is."""
    cluster = here.up(nodes=2)
    cluster.up(Shape())

    assert [command[2:4] for command in here.machine.told()] == [
        ("wait", "--for=condition=Ready"),
        ("-n", "kube-system"),
    ]
    assert here.said == ["already up"]


def test_an_up_starts_what_was_stopped(here: Here) -> None:
    """A node brings its services with it, so only what is missing then is started."""
    cluster = here.up(nodes=2)
    here.machine.containers |= {SECOND: "exited", REGISTRIES[0]: "exited"}
    here.machine.stopped.add((FIRST, "kube-scheduler"))
    cluster.up(Shape())

    manifests = "/etc/kubernetes/manifests"
    assert here.said == ["already up; starting node-2, registry, containerd@node-2, kubelet@node-2, kube-scheduler"]
    assert here.machine.told()[:3] == [
        ("docker", "start", SECOND),
        ("docker", "start", REGISTRIES[0]),
        ("docker", "exec", FIRST, "mv", f"{manifests}/../kube-scheduler.stopped", f"{manifests}/kube-scheduler.yaml"),
    ]


def test_a_node_of_a_cluster_that_is_up_can_be_marked(here: Here) -> None:
    """Labels, taint and resource are all kubectl's business by then."""
    here.up().up(Shape(gpu_nodes=frozenset({1})))

    verbs = [command[2:5] for command in here.machine.told()[-3:]]
    assert verbs == [("label", "node", FIRST), ("taint", "node", FIRST), ("patch", "node", FIRST)]


def test_a_cluster_that_is_up_gets_no_more_nodes(here: Here) -> None:
    """There is no command for it, so it is refused with what to do instead."""
    cluster = here.up()
    with pytest.raises(DevclusterError) as refused:
        cluster.up(Shape(3))

    assert str(refused.value) == (
        "--nodes 3: the cluster has 1, and kind cannot add nodes; take it down first: python -m devcluster down"
    )
    assert here.machine.told() == []


@pytest.mark.parametrize("containers", [{FIRST: "running"}, {}], ids=["with a node", "without one"])
def test_a_cluster_that_came_half_way_is_begun_anew(here: Here, containers: dict[str, str]) -> None:
    """By the engine that it was begun with."""
    here.state.mkdir()
    (here.state / "kind.json").write_text('{"engine": "podman", "is_complete": false}')
    here.machine.containers |= containers
    here.cluster("docker").up(Shape())

    assert here.said[0] == "the last `up` did not finish: starting over"
    assert [command[:3] for command in here.machine.told()][:2] == [
        ("kind", "delete", "cluster"),
        ("kind", "create", "cluster"),
    ]
    assert {command[0] for command in here.machine.commands} == {"kind", "podman", "kubectl"}


def test_somebody_elses_cluster_is_left_alone(here: Here) -> None:
    """Another user's, or that of another state directory: it is named, and nothing is done."""
    here.machine.containers[FIRST] = "running"
    with pytest.raises(
        DevclusterError, match=r"^docker has a kind cluster arbiter-devcluster that .* knows nothing of"
    ):
        here.cluster().up(Shape())

    assert here.machine.told() == []
    assert not here.state.exists()


@pytest.mark.parametrize("step", ["kind create", "registry-private", "rollout status"])
def test_a_failed_up_is_undone(here: Here, step: str) -> None:
    """Whatever it came to: no container is left, and no state."""
    here.machine.fails = step
    with pytest.raises(DevclusterError, match="failed: no"):
        here.cluster().up(Shape())

    assert here.machine.containers == {}
    assert not here.state.exists()
    assert here.said[-1] == "undoing what was done"


def test_down_deletes_nodes_and_registries_and_nothing_else(here: Here) -> None:
    """A container of somebody else's whose name begins like ours stays."""
    cluster = here.up(nodes=2)
    here.machine.containers["arbiter-devcluster-of-mine"] = "running"
    cluster.down()

    assert here.machine.told() == [
        ("kind", "delete", "cluster", "--name", "arbiter-devcluster", "--kubeconfig", f"{here.state}/kubeconfig"),
        ("docker", "rm", "--force", "--volumes", *REGISTRIES),
    ]
    assert not here.state.exists()


def test_a_second_down_is_fine(here: Here) -> None:
    """There is nothing to do, and nobody is asked."""
    here.up().down()
    here.machine.commands.clear()
    here.cluster("").down()

    assert here.said[-1] == "nothing is up"
    assert here.machine.commands == []


def test_status_of_a_cluster_that_is_up(here: Here) -> None:
    """Every part, and then nodes and DNS, which only the API server knows of."""
    cluster = here.up(nodes=2)
    here.machine.answers = {"get nodes": "True\nTrue\n", "get deployment coredns": "2"}
    found, is_up = cluster.status()

    assert is_up
    assert list(found) == [*(part.name for part in parts(2)), "cluster nodes", "cluster DNS"]
    assert set(found.values()) == {"up"}


@pytest.mark.parametrize(
    ("answers", "want"),
    [
        pytest.param({"get nodes": "True\nFalse\n", "coredns": "2"}, {"cluster nodes": "1 of 2 Ready"}, id="a node"),
        pytest.param({"get nodes": "True\nTrue\n", "coredns": ""}, {"cluster DNS": "does not run"}, id="DNS"),
    ],
)
def test_status_says_what_the_api_server_knows(here: Here, answers: dict[str, str], want: dict[str, str]) -> None:
    """Processes may be there, and the cluster useless."""
    cluster = here.up(nodes=2)
    here.machine.answers = answers
    found, is_up = cluster.status()

    assert not is_up
    assert {name: said for name, said in found.items() if said != "up"} == want


def test_status_survives_an_api_server_that_does_not_answer(here: Here) -> None:
    """It is what status is asked for."""
    cluster = here.up()
    here.machine.fails = "get nodes"
    found, is_up = cluster.status()

    assert not is_up
    assert found["cluster API"].startswith("does not answer: `kubectl ")


def test_status_says_which_part_does_not_run(here: Here) -> None:
    """A node that is stopped takes its services with it; other words of the engine are passed on."""
    cluster = here.up(nodes=2)
    here.machine.containers |= {SECOND: "exited", REGISTRIES[1]: "paused"}
    here.machine.stopped.add((FIRST, "etcd"))
    found, is_up = cluster.status()

    assert not is_up
    assert {name: said for name, said in found.items() if said != "up"} == {
        "node-2": "not running",
        "registry-private": "paused",
        "containerd@node-2": "not running",
        "kubelet@node-2": "not running",
        "etcd": "not running",
    }


def test_a_cluster_that_came_half_way_is_not_up(here: Here) -> None:
    """Though everything in it may run."""
    cluster = here.up()
    (here.state / "kind.json").write_text('{"engine": "docker", "is_complete": false}')

    assert not cluster.status()[1]


def test_images_are_loaded_into_all_nodes_by_kind(here: Here) -> None:
    """One command for all of them."""
    here.up().load([Path("/a.tar"), Path("/b.tar")])

    assert here.machine.told() == [
        ("kind", "load", "image-archive", "/a.tar", "/b.tar", "--name", "arbiter-devcluster")
    ]


MANIFESTS = "/etc/kubernetes/manifests"


@pytest.mark.parametrize(
    ("part", "stop", "start"),
    [
        pytest.param("node-2", ("stop", "-t", "0", SECOND), ("start", SECOND), id="a node is its container"),
        pytest.param(
            "registry", ("stop", "-t", "10", REGISTRIES[0]), ("start", REGISTRIES[0]), id="a registry is its container"
        ),
        pytest.param(
            "kubelet@node-2",
            ("exec", SECOND, "systemctl", "stop", "kubelet"),
            ("exec", SECOND, "systemctl", "start", "kubelet"),
            id="a service is systemd's",
        ),
        pytest.param(
            "etcd",
            ("exec", FIRST, "mv", f"{MANIFESTS}/etcd.yaml", f"{MANIFESTS}/../etcd.stopped"),
            ("exec", FIRST, "mv", f"{MANIFESTS}/../etcd.stopped", f"{MANIFESTS}/etcd.yaml"),
            id="a pod of the control plane is a file",
        ),
    ],
)
def test_a_part_is_stopped_and_started(here: Here, part: str, stop: tuple[str, ...], start: tuple[str, ...]) -> None:
    """Once each: what is stopped already is not stopped again."""
    cluster = here.up(nodes=2)
    for _ in range(2):
        cluster.stop(part)
    for _ in range(2):
        cluster.start(part)

    assert here.machine.told() == [("docker", *stop), ("docker", *start)]


def test_a_part_that_does_not_come_is_said_so(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every wait has an end, with where to look."""
    monkeypatch.setattr(containers, "_SWITCH_S", 0)
    monkeypatch.setattr(here.machine, "stopped", frozenset({(FIRST, "kubelet")}))
    cluster = here.cluster()
    here.state.mkdir()
    (here.state / "kind.json").write_text('{"engine": "docker", "is_complete": true}')
    here.machine.containers |= {FIRST: "exited"}
    with pytest.raises(DevclusterError) as late:
        cluster.start("node-1")

    assert str(late.value) == "node-1 is not up after 0 s; see what it says: python -m devcluster logs node-1"


@pytest.mark.parametrize(
    ("part", "want"),
    [
        pytest.param("node-1", ("logs", FIRST), id="a container"),
        pytest.param(
            "kubelet",
            ("exec", FIRST, "journalctl", "--no-pager", "--output=short-iso", "--unit=kubelet"),
            id="a service",
        ),
        pytest.param(
            "etcd",
            ("exec", FIRST, "sh", "-c", 'cat /var/log/pods/kube-system_"$1"-*/"$1"/*.log', "sh", "etcd"),
            id="a pod",
        ),
    ],
)
def test_a_log_is_both_streams(here: Here, part: str, want: tuple[str, ...]) -> None:
    """A registry writes to the one, a node to the other."""
    cluster = here.up()
    here.machine.answers = {"2>&1": "a line\n"}

    assert cluster.log(part) == "a line\n"
    assert here.machine.told() == [("sh", "-c", 'exec "$@" 2>&1', "sh", "docker", *want)]


def test_a_part_that_does_not_exist_is_refused_with_those_that_do(here: Here) -> None:
    """kube-proxy is a pod like any other here; whoever deletes it gets the next one."""
    cluster = here.up()
    with pytest.raises(DevclusterError, match=r"^no component is named kube-proxy; there are node-1, registry, "):
        cluster.stop("kube-proxy")


def test_a_users_own_settings_for_kind_do_not_reach_ours(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another network would be one without our registries; the engine is the one that was found to answer."""
    monkeypatch.setenv("KIND_EXPERIMENTAL_DOCKER_NETWORK", "mine")
    here.cluster("podman").up(Shape())
    environment = next(one for one in here.machine.environments if one)

    assert environment["KIND_EXPERIMENTAL_PROVIDER"] == "podman"
    assert "KIND_EXPERIMENTAL_DOCKER_NETWORK" not in environment
    assert environment["PATH"]


def test_a_node_is_told_that_localhost_is_a_container(here: Here) -> None:
    """Else containerd would look for the registry in the node itself, and over TLS."""
    here.cluster().up(Shape())
    here.machine.commands.reverse()
    here.machine.inputs.reverse()

    assert here.machine.input("docker", "exec", "--interactive") == (
        'server = "http://arbiter-devcluster-registry-private:5000"\n'
        '[host."http://arbiter-devcluster-registry-private:5000"]\n'
        'capabilities = ["pull", "resolve"]\n'
    )


def test_tools_are_told_where_to_push(here: Here) -> None:
    """By the ConfigMap that they look for."""
    here.cluster().up(Shape())
    applied = json.loads(here.machine.input("kubectl", f"--kubeconfig={here.state}/kubeconfig", "apply"))

    assert applied["metadata"] == {"name": "local-registry-hosting", "namespace": "kube-public"}
    assert applied["data"]["localRegistryHosting.v1"] == (
        'host: "localhost:5000"\n'
        'hostFromContainerRuntime: "localhost:5000"\n'
        'hostFromClusterNetwork: "arbiter-devcluster-registry:5000"\n'
    )


def test_a_port_that_is_taken_is_named_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine would say so after minutes, and in its own words."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(registry, "PORTS", {"registry": port})
        machine = Machine()
        with pytest.raises(DevclusterError) as refused:
            KindCluster(tmp_path / "state", PROGRAMS, "docker", print, machine.run).up(Shape())

    assert str(refused.value) == (
        f"port {port} of this machine is in use, and the cluster's registry needs it; "
        f"find out by whom: ss --listening --tcp --processes 'sport = {port}'"
    )
    assert machine.told() == []


def test_a_record_that_is_not_readable_is_said_so(here: Here) -> None:
    """With what to do by hand: nobody guesses at an engine."""
    here.state.mkdir()
    (here.state / "kind.json").write_text("{}")
    with pytest.raises(
        DevclusterError, match=r"kind\.json is not readable; run `kind delete cluster --name arbiter-dev"
    ):
        here.cluster()


def test_a_program_that_is_missing_is_named(here: Here) -> None:
    """As when the cache was removed under a cluster that is up."""
    here.up()
    cluster = KindCluster(here.state, {}, "docker", here.said.append, here.machine.run)
    with pytest.raises(DevclusterError, match=r"^kind is not built; build it: python -m devcluster up$"):
        cluster.down()
