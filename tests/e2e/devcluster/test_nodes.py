"""Several nodes: one comes to a running cluster, is reached from everywhere, gets a GPU's marks, fails and comes back.

A cluster that was up before keeps the second node that it is given here.
"""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from devcluster.nodes import GPU_LABELS, GPU_RESOURCE, GPU_TOLERATION
from devcluster.pushing import Registry
from devcluster.waiting import wait_until
from tests.e2e.devcluster.pods import apply, inside, pod, ready, service, status_of, value
from tests.e2e.running import Cluster, devcluster, said, up

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

NODES = ("node-1", "node-2")
REGISTRY = "10.89.0.2:5000"


@pytest.fixture(scope="module")
def both(cluster: Cluster, namespace: str, web: Path) -> str:
    """Give the cluster a second node, and run a server with a Service on each; give their namespace."""
    assert web.exists()
    said(devcluster(*up("--nodes", "2")))
    apply(cluster, namespace, *(one for name in NODES for one in (pod(name, node=name), service(name))))
    ready(cluster, namespace, *NODES)

    def all_answer() -> bool:  # a Service's rules come to each node in their own time
        return all(answers(cluster, namespace, asking, asked) for asking in NODES for asked in NODES)

    assert wait_until(all_answer, 30, pause=0.2)
    return namespace


@pytest.fixture(scope="module")
def gpu(both: str) -> str:
    """Mark the second node as one with a GPU; give the namespace."""
    said(devcluster(*up("--gpu-node", "2")))
    return both


def answers(cluster: Cluster, namespace: str, asking: str, asked: str) -> bool:
    """Say whether a pod on one node gets an answer from the Service of a pod on another."""
    done = inside(cluster, namespace, asking, "fetch", f"http://{asked}.{namespace}.svc.cluster.local")
    return done.stdout == f"hello from {asked}\n"


def node(cluster: Cluster, name: str) -> dict[str, Any]:
    """Give a node."""
    found: dict[str, Any] = json.loads(said(cluster.kubectl("get", "node", name, "--output=json")))
    return found


def why_not(cluster: Cluster, namespace: str, name: str) -> str:
    """Say why a pod is not scheduled; nothing where it is."""
    conditions = status_of(cluster, namespace, name).get("conditions", [])
    return next((one["message"] for one in conditions if one.get("reason") == "Unschedulable"), "")


def registrations() -> int:
    """Count how often the second node's kubelet has made itself known."""
    return said(devcluster("logs", "kubelet@node-2")).count('"Successfully registered node"')


def wants_gpu(name: str) -> dict[str, Any]:
    """Give a pod that asks for one GPU."""
    return pod(name, resources={"limits": {GPU_RESOURCE: "1"}}, tolerations=[GPU_TOLERATION])


def test_a_node_comes_to_a_running_cluster(cluster: Cluster, both: str) -> None:
    """Both are Ready, and the images that were loaded before it came are there too."""
    assert both
    found = [node(cluster, name) for name in NODES]

    conditions = [{c["type"]: c["status"] for c in one["status"]["conditions"]} for one in found]
    assert [one["Ready"] for one in conditions] == ["True", "True"]
    assert [one["status"]["addresses"][0]["address"] for one in found] == ["10.89.0.2", "10.89.0.3"]
    assert devcluster("status").returncode == 0


def test_every_node_has_pods_of_its_own_range(cluster: Cluster, both: str) -> None:
    """The routes depend on it."""
    addresses = [value(cluster, both, f"pod {name}", "{.status.podIP}") for name in NODES]

    assert [address.rpartition(".")[0] for address in addresses] == ["10.244.0", "10.244.1"]


@pytest.mark.parametrize("asked", NODES)
@pytest.mark.parametrize("asking", NODES)
def test_a_pod_reaches_a_service_on_any_node_by_name(cluster: Cluster, both: str, asking: str, asked: str) -> None:
    """From a pod through DNS and the Service to a pod, on the same node and across, in both directions."""
    assert answers(cluster, both, asking, asked)


def test_the_host_reaches_pods_and_services_of_the_second_node(cluster: Cluster, both: str) -> None:
    """At a Service's address, which the first node translates, and at the pod's own."""
    service_address = value(cluster, both, "service node-2", "{.spec.clusterIP}")
    pod_address = value(cluster, both, "pod node-2", "{.status.podIP}")
    for place in (f"{service_address}:80", f"{pod_address}:8080"):
        with urllib.request.urlopen(f"http://{place}/from-the-host", timeout=10) as answer:
            assert answer.read() == b"hello from node-2\n"

    assert said(cluster.kubectl("-n", both, "logs", "node-2")).count("asked for /from-the-host") == 2


def test_the_second_node_pulls_from_the_registry(cluster: Cluster, both: str, other_web: Path) -> None:
    """It trusts the registry under the same name as the first."""
    Registry(REGISTRY).push(other_web, "tests/second", "1")
    image = f"{REGISTRY}/tests/second:1"
    apply(cluster, both, pod("pulled", node="node-2", image=image, imagePullPolicy="Always"))

    ready(cluster, both, "pulled")


def test_a_gpu_node_has_the_labels_the_taint_and_the_resource(cluster: Cluster, gpu: str) -> None:
    """As GPU Feature Discovery and the device plugin leave a real one."""
    assert gpu
    found = node(cluster, "node-2")

    assert GPU_LABELS.items() <= found["metadata"]["labels"].items()
    assert {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"} in found["spec"]["taints"]
    assert found["status"]["capacity"][GPU_RESOURCE] == found["status"]["allocatable"][GPU_RESOURCE] == "1"


def test_one_gpu_is_given_to_one_pod(cluster: Cluster, gpu: str) -> None:
    """The first that asks runs there; the second waits, and its status says what for."""
    apply(cluster, gpu, wants_gpu("first"))
    ready(cluster, gpu, "first")
    apply(cluster, gpu, wants_gpu("second"))

    assert value(cluster, gpu, "pod first", "{.spec.nodeName}") == "node-2"
    assert wait_until(lambda: "Insufficient nvidia.com/gpu" in why_not(cluster, gpu, "second"), 15, pause=0.2)


def test_a_pod_that_does_not_tolerate_the_taint_does_not_go_to_a_gpu_node(cluster: Cluster, gpu: str) -> None:
    """Although nothing but the taint keeps it away."""
    apply(cluster, gpu, pod("other", nodeSelector={"nvidia.com/gpu.product": "NVIDIA-L4"}))

    assert wait_until(lambda: "untolerated taint" in why_not(cluster, gpu, "other"), 15, pause=0.2)


def test_a_gpu_node_keeps_its_resource_and_its_pod_when_the_kubelet_restarts(cluster: Cluster, gpu: str) -> None:
    """A kubelet that takes its node for a new one sets such resources to zero, and refuses the pod that has one."""
    apply(cluster, gpu, wants_gpu("first"))
    ready(cluster, gpu, "first")
    before = registrations()
    said(devcluster("stop", "kubelet@node-2"))
    said(devcluster("start", "kubelet@node-2"))

    assert wait_until(lambda: registrations() > before, 30, pause=0.2)
    assert node(cluster, "node-2")["status"]["allocatable"][GPU_RESOURCE] == "1"
    assert status_of(cluster, gpu, "first")["phase"] == "Running"


def test_a_node_whose_power_fails_comes_back_with_its_pods(cluster: Cluster, both: str) -> None:
    """All on it ends at once and status says so; the rest goes on; then its pods are started again and are reached."""
    said(devcluster("stop", "node-2"))
    broken = devcluster("status")
    assert broken.returncode == 1
    assert "node-2                   not running" in broken.stdout
    assert answers(cluster, both, "node-1", "node-1")
    assert not answers(cluster, both, "node-1", "node-2")

    said(devcluster("start", "node-2"))

    assert devcluster("status").returncode == 0
    assert wait_until(lambda: answers(cluster, both, "node-1", "node-2"), 60, pause=0.2)
    assert status_of(cluster, both, "node-2")["containerStatuses"][0]["restartCount"] == 1


def test_a_node_that_was_stopped_is_started_by_up(cluster: Cluster, both: str) -> None:
    """`up` means all of it, with as many nodes as there are."""
    said(devcluster("stop", "node-2"))

    assert "already up; starting node-2" in said(devcluster(*up())).splitlines()
    assert devcluster("status").returncode == 0
    assert wait_until(lambda: answers(cluster, both, "node-2", "node-1"), 60, pause=0.2)


def test_fewer_nodes_than_there_are_is_refused(both: str) -> None:
    """Taking a node out would take its volumes along."""
    assert both
    refused = devcluster(*up("--nodes", "1"))

    assert refused.returncode == 1
    assert refused.stderr.startswith("devcluster: --nodes 1: the cluster has 2; take it down first")
