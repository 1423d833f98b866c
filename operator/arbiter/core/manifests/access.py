"""Renders what a pool's routers may do, who may reach them and the engines, and the key that signs ids of answers.

Rule: the least that works. A router reads its own table and the addresses behind Services; engines are reached by the
pool's routers, by what carries models to them and by the operator's namespace alone, because a model server has no
door of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from arbiter.core.manifests import names
from arbiter.core.manifests.router import ADMIN_PORT, PORT

if TYPE_CHECKING:
    from arbiter.api.modelpool import ModelPool

_READ: Final = ["get", "list", "watch"]
_RBAC: Final = "rbac.authorization.k8s.io"


def router_account(pool: ModelPool) -> dict[str, Any]:
    """Give the account that routers act as; its token goes into routers alone, and not by default."""
    return names.manifest(
        "ServiceAccount",
        names.router_name(pool.metadata.name),
        names.owner_of("ModelPool", pool.metadata),
        names.router_selector(pool.metadata.name),
        automountServiceAccountToken=False,
    )


def router_role(pool: ModelPool) -> dict[str, Any]:
    """Give what routers may do, the same as `kubeapi.access.router_rules` says."""
    rules = [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "verbs": _READ,
            "resourceNames": [names.routes_name(pool.metadata.name)],
        },
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _READ},
    ]
    return names.manifest(
        "Role",
        names.router_name(pool.metadata.name),
        names.owner_of("ModelPool", pool.metadata),
        names.router_selector(pool.metadata.name),
        rules=rules,
    )


def router_role_binding(pool: ModelPool) -> dict[str, Any]:
    """Give the account its role."""
    name = names.router_name(pool.metadata.name)
    return names.manifest(
        "RoleBinding",
        name,
        names.owner_of("ModelPool", pool.metadata),
        names.router_selector(pool.metadata.name),
        roleRef={"apiGroup": _RBAC, "kind": "Role", "name": name},
        subjects=[{"kind": "ServiceAccount", "name": name, "namespace": pool.metadata.namespace}],
    )


def feedback_secret(pool: ModelPool) -> dict[str, Any]:
    """Give the Secret that signs ids of answers; its empty value is filled with chance where it is made."""
    return names.manifest(
        "Secret",
        names.feedback_name(pool.metadata.name),
        names.owner_of("ModelPool", pool.metadata),
        names.router_selector(pool.metadata.name),
        type="Opaque",
        stringData={"key": ""},
    )


def engines_policy(pool: ModelPool, operator_namespace: str) -> dict[str, Any]:
    """Let the pool's routers, what brings models, and the operator's namespace reach the engines, and nobody else."""
    name = pool.metadata.name
    spec = {
        "podSelector": {"matchLabels": names.engines_selector(name)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [
                    {"podSelector": {"matchLabels": names.router_selector(name)}},
                    {"podSelector": {"matchLabels": names.carriers_selector(name)}},
                    _namespace(operator_namespace),
                ]
            }
        ],
    }
    owner = names.owner_of("ModelPool", pool.metadata)
    return names.manifest(
        "NetworkPolicy", names.engines_policy_name(name), owner, names.engines_selector(name), spec=spec
    )


def router_policy(pool: ModelPool, operator_namespace: str) -> dict[str, Any]:
    """Let everybody reach the routers' clients' port, and the operator's namespace alone the other one."""
    name = pool.metadata.name
    spec = {
        "podSelector": {"matchLabels": names.router_selector(name)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"ports": [{"port": PORT, "protocol": "TCP"}]},
            {"ports": [{"port": ADMIN_PORT, "protocol": "TCP"}], "from": [_namespace(operator_namespace)]},
        ],
    }
    owner = names.owner_of("ModelPool", pool.metadata)
    return names.manifest("NetworkPolicy", names.router_name(name), owner, names.router_selector(name), spec=spec)


def _namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
