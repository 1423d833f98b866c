"""Renders a pool's routers: their Deployment, the Service in front of them and their disruption budget.

Rule: a router that goes is out of the Service before it stops taking requests, and then has as long as a request may
take to end what it began, within a bound; one more starts before one goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from arbiter.api.router import ServiceType
from arbiter.core.manifests import names
from arbiter.core.manifests.amounts import resources
from arbiter.core.manifests.restricted import LAST_WORDS, container_security, pod_security

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arbiter.api.modelpool import ModelPool
    from arbiter.api.router import Router
    from arbiter.core.snapshot import OperatorSettings

PORT: Final = 8080
"""The clients' port of a router; its Service has it as port 80."""

ADMIN_PORT: Final = 9090
"""The operator's and Prometheus' port of a router."""

LEAVE_S: Final = 5
"""Seconds that a router still takes requests after it was told to go: until every node knows that it does."""

_LONGEST_DRAIN_S: Final = 900
"""Most seconds that requests under way get: a node that is drained does not wait for ever."""

_KEPT = "/var/lib/arbiter/kept"
_FEEDBACK = "/etc/arbiter/feedback"
_KEYS = "/etc/arbiter/keys"
_BACKEND_KEYS = "/etc/arbiter/backend-keys"

KEYS_FILE: Final = "keys"
"""Key of the Secret `router.auth.keysSecret` that holds the file of API keys."""

TOKEN: Final = "token"  # noqa: S105 - the name of a field, not its content
"""Key of a model server's Secret that holds what it wants to see."""


def router_deployment(pool: ModelPool, settings: OperatorSettings, backend_keys: Sequence[str]) -> dict[str, Any]:
    """Give the routers.

    Args:
        pool: whose they are.
        settings: of the operator, which say the image of `arbiter`.
        backend_keys: the Secrets of model servers that want a key, sorted.
    """
    name, router = pool.metadata.name, pool.spec.router
    labels = names.router_selector(name)
    spec = {
        "replicas": router.replicas,
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": labels},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {
            "metadata": {"labels": names.described(labels, name)},
            "spec": _pod(pool, settings, backend_keys),
        },
    }
    owner = names.owner_of("ModelPool", pool.metadata)
    return names.manifest("Deployment", names.router_name(name), owner, labels, spec=spec)


def endpoint_service(pool: ModelPool) -> dict[str, Any]:
    """Give the Service that clients reach the pool by: it has the pool's own name."""
    name, expose = pool.metadata.name, pool.spec.router.expose
    spec = {
        "type": expose.service_type.value,
        "selector": names.router_selector(name),
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": PORT}],
    }
    owner = names.owner_of("ModelPool", pool.metadata)
    service = names.manifest("Service", name, owner, names.router_selector(name), spec=spec)
    if expose.annotations:
        service["metadata"]["annotations"] = dict(sorted(expose.annotations.items()))
    if expose.service_type is not ServiceType.ClusterIP:
        # A client of a load balancer may stay with a node that has no router; every node takes it on.
        service["spec"]["externalTrafficPolicy"] = "Cluster"
    return service


def disruption_budget(pool: ModelPool) -> dict[str, Any]:
    """Let one router at a time be taken away; one that is broken may always go."""
    name = pool.metadata.name
    labels = names.router_selector(name)
    spec = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": labels},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    owner = names.owner_of("ModelPool", pool.metadata)
    return names.manifest("PodDisruptionBudget", names.router_name(name), owner, labels, spec=spec)


def mounted_keys(deployment: Mapping[str, Any]) -> frozenset[str]:
    """Give the Secrets of model servers that a routers' Deployment mounts, as the API server tells it."""
    volumes = deployment.get("spec", {}).get("template", {}).get("spec", {}).get("volumes", ())
    return frozenset(
        source["secret"]["name"]
        for volume in volumes
        if volume["name"] == "backend-keys"
        for source in volume["projected"]["sources"]
    )


def drain_s(router: Router) -> int:
    """Seconds that requests under way get when a router goes."""
    return min(int(router.limits.total_timeout.seconds), _LONGEST_DRAIN_S)


def _pod(pool: ModelPool, settings: OperatorSettings, backend_keys: Sequence[str]) -> dict[str, Any]:
    name, router = pool.metadata.name, pool.spec.router
    mounts = _mounts(pool, backend_keys)
    return {
        "serviceAccountName": names.router_name(name),
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
        "terminationGracePeriodSeconds": LEAVE_S + drain_s(router) + 5,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": names.router_selector(name)},
            }
        ],
        "containers": [
            {
                "name": "router",
                "image": settings.image,
                "imagePullPolicy": settings.engines.pull_policy.value,
                "args": _arguments(pool, backend_keys),
                "ports": [
                    {"name": "http", "containerPort": PORT, "protocol": "TCP"},
                    {"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
                ],
                "readinessProbe": _probe("/readyz", period_s=1, failures=3),
                "livenessProbe": _probe("/healthz", period_s=10, failures=3),
                "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_S}}},
                "resources": _resources(router),
                "securityContext": container_security(),
                "terminationMessagePolicy": LAST_WORDS,
                "volumeMounts": [mount for mount, _ in mounts],
            }
        ],
        "volumes": [volume for _, volume in mounts],
    }


def _arguments(pool: ModelPool, backend_keys: Sequence[str]) -> list[str]:
    name, router = pool.metadata.name, pool.spec.router
    always = [
        "router",
        f"--config-map={names.routes_name(name)}",
        f"--namespace={pool.metadata.namespace}",
        f"--kept={_KEPT}",
        "--host=0.0.0.0",
        f"--port={PORT}",
        "--admin-host=0.0.0.0",
        f"--admin-port={ADMIN_PORT}",
        f"--drain={drain_s(router)}",
        f"--feedback-key={_FEEDBACK}/key",
    ]
    keys = [f"--keys={_KEYS}/{KEYS_FILE}"] if router.auth is not None else []
    backends = [f"--backend-keys={_BACKEND_KEYS}"] if backend_keys else []
    return [*always, *keys, *backends]


def _mounts(pool: ModelPool, backend_keys: Sequence[str]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Give each volume with the place where it is mounted."""
    auth = pool.spec.router.auth
    found = [
        _mounted("kept", _KEPT, {"emptyDir": {"sizeLimit": "16Mi"}}),
        _mounted("feedback", _FEEDBACK, {"secret": {"secretName": names.feedback_name(pool.metadata.name)}}),
    ]
    if auth is not None:
        found.append(_mounted("keys", _KEYS, {"secret": {"secretName": auth.keys_secret}}))
    if backend_keys:
        found.append(_mounted("backend-keys", _BACKEND_KEYS, _projected(backend_keys)))
    return found


def _mounted(name: str, path: str, source: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    mount: dict[str, Any] = {"name": name, "mountPath": path}
    if "emptyDir" not in source:
        mount["readOnly"] = True
    return mount, {"name": name, **source}


def _projected(secrets: Sequence[str]) -> dict[str, Any]:
    """Give one folder with a file for each Secret. One that is missing keeps no router from starting: it says so."""
    sources = [
        {"secret": {"name": secret, "items": [{"key": TOKEN, "path": secret}], "optional": True}} for secret in secrets
    ]
    return {"projected": {"sources": sources}}


def _probe(path: str, *, period_s: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": ADMIN_PORT},
        "periodSeconds": period_s,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _resources(router: Router) -> dict[str, dict[str, str]]:
    if router.resources is not None:
        return resources(router.resources)
    return {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
