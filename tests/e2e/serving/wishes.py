"""What people write in these tests: models and pools, as small as they can be for two cores."""

from __future__ import annotations

from typing import Any

REGISTRY, PRIVATE_REGISTRY = "10.89.0.2:5000", "10.89.0.2:5001"
"""The cluster's registries: an open one, and one that asks for a password."""

ONE_THREAD = {
    "type": "LlamaCpp",
    # Else it counts the machine's processors and waits for time slices that its limit does not give.
    "args": ["--threads", "1"],
    "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
}
"""A llama-server that leaves the machine to the others."""

QUESTION: dict[str, Any] = {
    "model": "chat",
    "messages": [
        # The small model was taught with this one, and knows less without it.
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France?"},
    ],
    "temperature": 0,
    "max_tokens": 24,
}
"""What the small model answers with Paris."""


def model(name: str, source: str = f"oci://{REGISTRY}/models/smollm2:1#/model.gguf", **spec: object) -> dict[str, Any]:
    """Give a LocalModel; without more a small real one."""
    fields = {"source": source, "engine": ONE_THREAD, "capabilities": ["chat"], "contextWindow": 1024, **spec}
    return _object("LocalModel", name, fields)


def external(name: str, url: str, served: str = "", **spec: object) -> dict[str, Any]:
    """Give a LocalModel that runs at a server elsewhere."""
    elsewhere = {"url": url, **({"model": served} if served else {})}
    return _object("LocalModel", name, {"external": elsewhere, "capabilities": ["chat"], **spec})


def pool(name: str, served: str, task: str = "chat", **spec: object) -> dict[str, Any]:
    """Give a ModelPool with one task."""
    return _object("ModelPool", name, {"tasks": [{"name": task, "model": served}], **spec})


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "arbiter.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
