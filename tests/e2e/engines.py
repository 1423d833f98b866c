"""Engines as manifests: one Deployment with its Service each, held to the restricted level."""

from __future__ import annotations

import urllib.request
from typing import Any

from devcluster.images.recipes import reference
from tests.e2e.running import RESTRICTED

SMALL = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}


def engine(name: str, port: int, ready: str, container: dict[str, Any], volumes: list[dict[str, Any]]) -> list[Any]:
    """Give a Deployment of one engine and its Service."""
    labels = {"app": name}
    serving = {
        "name": "engine",
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"containerPort": port}],
        "readinessProbe": {"httpGet": {"path": ready, "port": port}, "periodSeconds": 1},
        "resources": SMALL,
        "securityContext": RESTRICTED,
        **container,
    }
    pod = {"containers": [serving], "volumes": volumes, "automountServiceAccountToken": False}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    service = {"selector": labels, "ports": [{"port": port}]}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": service},
    ]


def model_volume(model: str) -> dict[str, Any]:
    """Give the volume that is a model's image."""
    return {"name": "model", "image": {"reference": reference(model), "pullPolicy": "IfNotPresent"}}


def llama_server(model: str, slots: int = 1, *more: str, name: str = "") -> list[dict[str, Any]]:
    """Give a llama-server that serves one model, to so many requests at a time.

    Args:
        model: the name of its image.
        slots: requests at a time.
        more: further arguments of the program.
        name: of the Deployment and its Service; made of the model's without it.
    """
    sizes = ("--threads", "1", "--ctx-size", str(1024 * slots), "--parallel", str(slots))
    container = {
        "image": reference("llama-server"),
        "args": ["--model", "/model/model.gguf", *sizes, *more],
        "volumeMounts": [{"name": "model", "mountPath": "/model", "readOnly": True}],
    }
    return engine(name or f"llama-{model}", 8080, "/health", container, [model_volume(model)])


def ollama_server(model: str) -> list[dict[str, Any]]:
    """Give an Ollama that has one model's file at hand in /model, and nothing in its store yet."""
    mounts = [("model", "/model"), ("store", "/models")]
    container = {
        "image": reference("ollama"),
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts],
    }
    volumes = [model_volume(model), {"name": "store", "emptyDir": {}}]
    return engine("ollama", 11434, "/api/version", container, volumes)


def answers(url: str) -> bool:
    """Say whether anything answers there: a pod is ready before its Service's rules are everywhere."""
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310  an address of the cluster
            return True
    except OSError:
        return False
