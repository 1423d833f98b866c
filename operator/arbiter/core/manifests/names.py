"""Names, labels and owners of the objects that Arbiter makes for a pool or a model.

Rule: a name follows from what the object is for, so that a repeated pass means the same object; selectors use only
labels that never change, because Kubernetes lets nobody change a selector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arbiter.api.localmodel import EngineType
from arbiter.api.meta import GROUP, VERSION
from arbiter.core.actions import ObjectKey

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from arbiter.api.meta import ObjectMeta

POOL = f"{GROUP}/pool"
TASK = f"{GROUP}/task"
MODEL = f"{GROUP}/model"
REVISION = f"{GROUP}/revision"
ENGINE = f"{GROUP}/engine"
COMPONENT = "app.kubernetes.io/component"

ROUTER = "router"
ENGINES = "engine"
RESOLVER = "resolver"
CARRIER = "carrier"
OPERATOR = "operator"
"""The operator's own pods carry this as their component, and network policies let them in by it."""

_API_VERSIONS: Mapping[str, str] = {
    "ConfigMap": "v1",
    "Secret": "v1",
    "Service": "v1",
    "ServiceAccount": "v1",
    "ControllerRevision": "apps/v1",
    "Deployment": "apps/v1",
    "Job": "batch/v1",
    "ModelSwap": f"{GROUP}/{VERSION}",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
}
"""Every kind that a pool or model gets, with its API version; nothing of another kind is ever removed."""

POOL_KINDS = frozenset(_API_VERSIONS) - {"ModelSwap", "Secret"}
"""What a pool's plan keeps in its form and removes. The operator reads no Secrets: a pool's goes with the pool."""


def engine_name(pool: str, revision: str) -> str:
    """Name of the Deployment, the Service and the frozen form of a revision."""
    return f"{pool}-{revision}"


def shared_engine_name(pool: str) -> str:
    """Name of the same for the engine that the pool's Ollama models share."""
    return f"{pool}-ollama"


def router_name(pool: str) -> str:
    """Name of the routers' Deployment, their account, its role and their disruption budget."""
    return f"{pool}-router"


def routes_name(pool: str) -> str:
    """Name of the ConfigMap that holds the pool's table."""
    return f"{pool}-routes"


def feedback_name(pool: str) -> str:
    """Name of the Secret whose key signs ids of answers."""
    return f"{pool}-feedback"


def engines_policy_name(pool: str) -> str:
    """Name of the NetworkPolicy in front of the pool's engines."""
    return f"{pool}-engines"


def resolver_name(model: str) -> str:
    """Name of the Job that resolves a LocalModel's source."""
    return f"{model}-resolve"


def carrier_name(pool: str, revision: str, attempt: int) -> str:
    """Name of the Job that carries a revision's model into the shared engine, for the first time or once more."""
    return f"{pool}-{revision}-carry-{attempt}"


def router_selector(pool: str) -> dict[str, str]:
    """Labels that a pool's routers have, and nothing else."""
    return {POOL: pool, COMPONENT: ROUTER}


def engines_selector(pool: str) -> dict[str, str]:
    """Labels that all engine pods of a pool have, and nothing else."""
    return {POOL: pool, COMPONENT: ENGINES}


def engine_selector(pool: str, revision: str) -> dict[str, str]:
    """Labels of the pods of one revision."""
    return {**engines_selector(pool), REVISION: revision}


def shared_engine_selector(pool: str) -> dict[str, str]:
    """Labels of the pods that a pool's Ollama models share."""
    return {**engines_selector(pool), ENGINE: EngineType.Ollama.value}


def carriers_selector(pool: str) -> dict[str, str]:
    """Labels of all pods that carry models into a pool's shared engine, and of nothing else."""
    return {POOL: pool, COMPONENT: CARRIER}


def carrier_selector(pool: str, revision: str) -> dict[str, str]:
    """Labels of those that carry one revision's."""
    return {**carriers_selector(pool), REVISION: revision}


def resolver_selector(model: str) -> dict[str, str]:
    """Labels of the pods of a LocalModel's resolver."""
    return {MODEL: model, COMPONENT: RESOLVER}


def described(labels: Mapping[str, str], instance: str) -> dict[str, str]:
    """Add what tells any tool whose these objects are."""
    about = {"name": "arbiter", "instance": instance, "managed-by": "arbiter"}
    return {**{f"app.kubernetes.io/{key}": value for key, value in about.items()}, **labels}


def manifest(kind: str, name: str, owner: Mapping[str, Any], labels: Mapping[str, str], **parts: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of objects of many kinds
    """Give an object of one of our kinds.

    Args:
        kind: such as `Deployment`.
        name: its name.
        owner: what it goes away with, as `owner_of` gives it.
        labels: what it is found by, beside those that every object of ours has.
        parts: its other fields, such as `spec`; those that are empty are left out.
    """
    metadata = {
        "name": name,
        "namespace": owner["namespace"],
        "labels": described(labels, owner["reference"]["name"]),
        "ownerReferences": [owner["reference"]],
    }
    filled = {part: value for part, value in parts.items() if value not in ({}, [], None)}
    return {"apiVersion": _API_VERSIONS[kind], "kind": kind, "metadata": metadata, **filled}


def owner_of(kind: str, metadata: ObjectMeta) -> dict[str, Any]:
    """Give the owner of an object's children, and the namespace that they are in.

    Nothing is said about blocking: deleting the owner must never wait for a child.
    """
    reference = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": kind,
        "name": metadata.name,
        "uid": metadata.uid,
        "controller": True,
    }
    return {"namespace": metadata.namespace, "reference": reference}


def key_of(manifested: Mapping[str, Any]) -> ObjectKey:
    """Which object a manifest is about."""
    return ObjectKey(manifested["kind"], manifested["metadata"]["name"])
