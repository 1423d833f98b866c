"""The cluster itself: pods answer each other and the host by name, and a component can fail and come back."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from typing import TYPE_CHECKING

import pytest

from devcluster.native.state import Journal
from devcluster.waiting import wait_until
from tests.e2e.devcluster.pods import apply, deployment, inside, pod, ready, service, value
from tests.e2e.running import Cluster, devcluster, said, up
from tests.e2e.traces import STATE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]


@pytest.fixture(scope="module")
def served(cluster: Cluster, namespace: str, web: Path) -> str:
    """Run two servers behind a Service, and a pod to ask them from; give their namespace."""
    assert web.exists()
    apply(cluster, namespace, deployment("web", 2), service("web"), pod("asker"))
    said(cluster.kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=90s"))
    ready(cluster, namespace, "asker")
    # Pods are ready before their Service is known everywhere: its addresses and its rules follow.
    assert wait_until(lambda: inside(cluster, namespace, "asker", "fetch", "http://web").returncode == 0, 30, pause=0.2)
    return namespace


def test_up_ends_with_how_long_it_took(cluster: Cluster) -> None:
    """The last line is for the person who waited."""
    printed = cluster.up or said(devcluster(*up()))

    assert printed.splitlines()[-1].startswith("ready in ")
    assert printed.splitlines()[-1].endswith(" s (native)")


@pytest.mark.usefixtures("cluster")
def test_status_says_that_everything_is_up() -> None:
    """And so does its exit code."""
    done = devcluster("status")

    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "the cluster is up"
    assert "not" not in done.stdout


def test_the_node_is_ready_and_runs_what_was_built(cluster: Cluster) -> None:
    """The version is that of the modules, not the v0.0.0 of an unstamped build."""
    node = json.loads(said(cluster.kubectl("get", "node", "node-1", "--output=json")))

    assert "node-role.kubernetes.io/control-plane" in node["metadata"]["labels"]
    assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.3"
    assert {c["type"]: c["status"] for c in node["status"]["conditions"]}["Ready"] == "True"


def test_a_service_answers_another_pod_by_name(cluster: Cluster, served: str) -> None:
    """DNS, the Service and both pods; exec is how we ask."""
    for name in ("web", f"web.{served}.svc", f"web.{served}.svc.cluster.local"):
        assert said(inside(cluster, served, "asker", "fetch", f"http://{name}/")).startswith("hello from web-")


def test_a_service_answers_a_pod_that_is_behind_it(cluster: Cluster, served: str) -> None:
    """The way back to oneself is the one that broken bridges lose."""
    for _ in range(8):  # each of the two pods is chosen at random
        answer = said(inside(cluster, served, "deployment/web", "fetch", "http://web"))
        assert answer.startswith("hello from web-")


def test_a_service_answers_the_host(cluster: Cluster, served: str) -> None:
    """Tests talk to Services without port-forwarding."""
    address = value(cluster, served, "service web", "{.spec.clusterIP}")

    with urllib.request.urlopen(f"http://{address}/from-the-host", timeout=10) as answer:
        assert answer.read().startswith(b"hello from web-")


def test_a_forwarded_port_answers_on_the_host(cluster: Cluster, served: str) -> None:
    """It goes through the API server and the kubelet, which no other way does."""
    where = (f"--kubeconfig={cluster.kubeconfig}", "-n", served)
    command = (cluster.program, *where, "port-forward", "pod/asker", ":8080")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forwarding:  # noqa: S603  our own tool
        try:
            assert forwarding.stdout is not None
            first = forwarding.stdout.readline()  # Forwarding from 127.0.0.1:40123 -> 8080
            port = first.partition("127.0.0.1:")[2].partition(" ")[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/forwarded", timeout=10) as answer:
                assert answer.read() == b"hello from asker\n"
        finally:
            forwarding.kill()


def test_logs_show_what_a_pod_wrote(cluster: Cluster, served: str) -> None:
    """The readiness probe asks every second, so there is something to show."""
    assert "asked for /ready" in said(cluster.kubectl("-n", served, "logs", "asker"))


def test_the_restricted_level_is_enforced(cluster: Cluster, served: str) -> None:
    """A pod that may become root is refused by the API server."""
    free = json.dumps(pod("free", securityContext={"privileged": True}))
    refused = cluster.kubectl("-n", served, "apply", "--filename=-", stdin=free)

    assert refused.returncode != 0
    assert 'violates PodSecurity "restricted:latest"' in refused.stderr


def test_two_appliers_share_an_object_and_one_field_has_one_owner(cluster: Cluster, served: str) -> None:
    """Server-side apply merges what they say, and refuses to change what another one said."""

    def apply_as(manager: str, data: dict[str, str]) -> subprocess.CompletedProcess[str]:
        metadata = {"name": "shared", "namespace": served}
        document = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
        return cluster.kubectl("apply", "--server-side", f"--field-manager={manager}", "--filename=-", stdin=document)

    said(apply_as("one", {"first": "1"}))
    said(apply_as("other", {"second": "2"}))
    refused = apply_as("other", {"second": "2", "first": "3"})

    assert json.loads(value(cluster, served, "configmap shared", "{.data}")) == {"first": "1", "second": "2"}
    assert refused.returncode != 0
    assert 'conflict with "one"' in refused.stderr


def test_a_second_up_uses_what_is_up(cluster: Cluster, served: str) -> None:
    """No process is replaced, and pods stay."""
    processes = Journal(STATE / "state.json").read().processes

    again = said(devcluster(*up()))

    assert "already up" in again.splitlines()
    assert Journal(STATE / "state.json").read().processes == processes
    assert said(cluster.kubectl("-n", served, "get", "pods", "--output=name")).count("pod/") == 3


@pytest.mark.usefixtures("cluster")
def test_a_component_can_be_stopped_and_started() -> None:
    """A fault is made on purpose, status says so, and it can be mended."""
    said(devcluster("stop", "kube-scheduler"))
    broken = devcluster("status")
    said(devcluster("start", "kube-scheduler"))

    assert broken.returncode == 1
    assert "kube-scheduler           not running" in broken.stdout
    assert devcluster("status").returncode == 0


@pytest.mark.usefixtures("cluster")
def test_a_component_that_was_stopped_is_started_by_up() -> None:
    """`up` means all of it."""
    said(devcluster("stop", "kube-controller-manager"))

    assert "already up; starting kube-controller-manager" in said(devcluster(*up())).splitlines()
    assert devcluster("status").returncode == 0


@pytest.mark.usefixtures("cluster")
def test_a_component_that_does_not_exist_is_refused_with_those_that_do() -> None:
    """The message is the list to choose from."""
    done = devcluster("stop", "kubeletd")

    assert done.returncode == 1
    assert done.stderr.startswith("devcluster: no component is named kubeletd; there are etcd, ")
