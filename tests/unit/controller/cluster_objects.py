"""Objects as an API server tells them, for tests of the controller."""

from __future__ import annotations

from typing import Any

from arbiter.controller.queue import Subject

POOL = Subject("ModelPool", "team", "assistant")
MODEL = Subject("LocalModel", "team", "smollm2")


def pool(
    name: str = "assistant",
    *,
    version: int = 1,
    uid: str = "uid-pool",
    status: dict[str, Any] | None = None,
    **spec: Any,  # noqa: ANN401  any field of a spec
) -> dict[str, Any]:
    """A ModelPool with one task, served by smollm2."""
    return {
        "apiVersion": "arbiter.dev/v1alpha1",
        "kind": "ModelPool",
        "metadata": {"name": name, "namespace": "team", "uid": uid, "resourceVersion": str(version), "generation": 1},
        "spec": {"tasks": [{"name": "chat", "model": "smollm2"}], **spec},
        **({"status": status} if status is not None else {}),
    }


def model(name: str = "smollm2", *, version: int = 1, uid: str = "uid-model") -> dict[str, Any]:
    """A LocalModel of a server elsewhere."""
    return {
        "apiVersion": "arbiter.dev/v1alpha1",
        "kind": "LocalModel",
        "metadata": {"name": name, "namespace": "team", "uid": uid, "resourceVersion": str(version), "generation": 1},
        "spec": {"external": {"url": "http://mac.example:11434"}},
    }


def swap(name: str = "assistant-chat-1", *, version: int = 1, **status: Any) -> dict[str, Any]:  # noqa: ANN401  any field of a status
    """A ModelSwap of the pool's task."""
    return {
        "apiVersion": "arbiter.dev/v1alpha1",
        "kind": "ModelSwap",
        "metadata": {"name": name, "namespace": "team", "uid": f"uid-{name}", "resourceVersion": str(version)},
        "spec": {"pool": "assistant", "task": "chat", "to": "gemma"},
        **({"status": status} if status else {}),
    }


def policy(name: str = "slow", *, version: int = 1, **spec: Any) -> dict[str, Any]:  # noqa: ANN401  any field of a spec
    """A SwapPolicy."""
    return {
        "apiVersion": "arbiter.dev/v1alpha1",
        "kind": "SwapPolicy",
        "metadata": {"name": name, "namespace": "team", "uid": f"uid-{name}", "resourceVersion": str(version)},
        "spec": spec,
    }


def owned_by(kind: str, name: str, uid: str) -> list[dict[str, Any]]:
    """The reference of an object that one of ours controls."""
    return [{"apiVersion": "arbiter.dev/v1alpha1", "kind": kind, "name": name, "uid": uid, "controller": True}]


def child(
    name: str,
    *,
    version: int = 1,
    uid: str = "uid-child",
    owner: tuple[str, str, str] | None = ("ModelPool", "assistant", "uid-pool"),
    labels: dict[str, str] | None = None,
    **fields: Any,  # noqa: ANN401  any field of an object
) -> dict[str, Any]:
    """An object that a pool controls, as it stands in a list: without its kind."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "team",
        "uid": uid,
        "resourceVersion": str(version),
        "labels": labels or {},
        "managedFields": [{"manager": "arbiter"}],
    }
    if owner is not None:
        metadata["ownerReferences"] = owned_by(*owner)
    return {"metadata": metadata, **fields}


def pod(name: str, labels: dict[str, str], *, uid: str = "", ready: bool = True, **status: Any) -> dict[str, Any]:  # noqa: ANN401  any field of a status
    """A pod that runs."""
    return {
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": uid or f"uid-{name}",
            "resourceVersion": "1",
            "creationTimestamp": "2026-11-21T10:00:00Z",
            "labels": labels,
        },
        "spec": {
            "nodeName": "node-1",
            "containers": [{"name": "engine", "ports": [{"containerPort": 8080}]}],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.244.0.7",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            **status,
        },
    }
