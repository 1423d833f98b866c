"""Pods of one small program, as manifests, and what is asked of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from devcluster.nodes import GPU_TOLERATION
from tests.e2e.running import RESTRICTED, Cluster, said

if TYPE_CHECKING:
    import subprocess

WEB = "devcluster.test/web:1"
"""The image of tests/e2e/web: it serves a greeting, asks for one, writes and reads."""


_OF_CONTAINER = ("image", "imagePullPolicy", "resources", "securityContext", "volumeMounts")


def pod(name: str, *arguments: str, node: str = "", **fields: Any) -> dict[str, Any]:  # noqa: ANN401  fields of a pod or its container
    """Give a pod at the restricted level; without arguments it serves. With a node, it runs there and nowhere else."""
    container = {
        "name": "web",
        "image": WEB,
        "imagePullPolicy": "Never",
        "args": list(arguments) or ["serve"],
        "securityContext": RESTRICTED,
        **{field: content for field, content in fields.items() if field in _OF_CONTAINER},
    }
    if not arguments:
        container["readinessProbe"] = {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1}
    spec = {
        "containers": [container],
        "restartPolicy": "Never" if arguments else "Always",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        **{field: content for field, content in fields.items() if field not in _OF_CONTAINER},
    }
    if node:
        spec |= {"nodeSelector": {"kubernetes.io/hostname": node}, "tolerations": [GPU_TOLERATION]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def deployment(name: str, replicas: int) -> dict[str, Any]:
    """Give a Deployment of pods that serve."""
    template = {"metadata": {"labels": {"app": name}}, "spec": pod(name)["spec"]}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def service(name: str) -> dict[str, Any]:
    """Give the Service of the pods of a name."""
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def apply(cluster: Cluster, namespace: str, *objects: dict[str, Any]) -> None:
    """Apply objects to a namespace."""
    cluster.apply([{**one, "metadata": {**one["metadata"], "namespace": namespace}} for one in objects])


def ready(cluster: Cluster, namespace: str, *names: str) -> None:
    """Wait until pods are ready."""
    pods = [f"pod/{name}" for name in names]
    done = cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "--timeout=90s", *pods)
    assert done.returncode == 0, done.stderr + cluster.kubectl("-n", namespace, "describe", *pods).stdout


def finished(cluster: Cluster, namespace: str, name: str) -> str:
    """Wait until a pod has done its work, and give what it printed."""
    wait = ("wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=90s", f"pod/{name}")
    done = cluster.kubectl("-n", namespace, *wait)
    assert done.returncode == 0, done.stderr + cluster.kubectl("-n", namespace, "describe", "pod", name).stdout
    return said(cluster.kubectl("-n", namespace, "logs", name))


def inside(cluster: Cluster, namespace: str, where: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the pods' program once more, inside one of them."""
    return cluster.kubectl("-n", namespace, "exec", where, "--", "/web", *words)


def value(cluster: Cluster, namespace: str, what: str, path: str) -> str:
    """Give one value of an object, by JSON path."""
    return said(cluster.kubectl("-n", namespace, "get", *what.split(), f"--output=jsonpath={path}"))


def status_of(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    """Give a pod's status."""
    found: dict[str, Any] = json.loads(said(cluster.kubectl("-n", namespace, "get", "pod", name, "--output=json")))
    status: dict[str, Any] = found["status"]
    return status
