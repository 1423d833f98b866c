"""What our processes must be allowed: the smallest roles that they work with.

A router's ConfigMap is named, so a router cannot read the tables of other pools. EndpointSlices cannot be named,
because their names are made up by the cluster; they hold addresses only.

The operator reads no Secret. It makes one for each pool, and writes the names of others into pods; the kubelet reads
them, and of one that is missing the pod's status tells. Nor does it read logs: the end of a failed container's log
stands in its pod's status, where `terminationMessagePolicy` asks for it. Who may make pods in a namespace can make one
that shows its Secrets, so against an operator that was broken into this is no wall; but none gets into its memory, its
caches or its log.

Of our five kinds it may write the status, and no spec: a pool's wish stays its user's. It sets no finalizers, grants
nothing that it does not have itself, and hence needs neither `escalate` nor `bind`.
"""

from __future__ import annotations

from dataclasses import dataclass

from arbiter.kubeapi import lease
from arbiter.kubeapi.resources import (
    APPLIED,
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    ENDPOINT_SLICES,
    EVENTS,
    JOBS,
    LEASES,
    MODEL_SWAPS,
    NODES,
    OUR_KINDS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SECRETS,
    TASK_PROFILES,
    Resource,
)

READ = ("get", "list", "watch")
"""What following an object needs; `get` is for a person who looks with the router's account."""

KEEP = (*READ, "create", "patch", "delete")
"""What keeping an object as it shall be needs: server-side apply is a patch, and a create where there is none."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a Role.

    Attributes:
        resource: the kind of object.
        verbs: what may be done with it.
        names: with which objects; empty for all in the namespace.
        subresource: which part of the object alone; empty for all but those parts.
        why: what it is needed for, as a sentence for the administrator who grants it.
    """

    resource: Resource
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()
    subresource: str = ""
    why: str = ""

    @property
    def plural(self) -> str:
        """What a Role calls it."""
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural

    def to_fields(self) -> dict[str, list[str]]:
        """The form that a Role has it in."""
        fields = {
            "apiGroups": [self.resource.group],
            "resources": [self.plural],
            "verbs": list(self.verbs),
        }
        return {**fields, "resourceNames": list(self.names)} if self.names else fields


def router_rules(config_map: str) -> tuple[Rule, ...]:
    """The Role of a router that follows this ConfigMap."""
    return (Rule(CONFIG_MAPS, READ, (config_map,)), Rule(ENDPOINT_SLICES, READ))


def operator_rules() -> tuple[Rule, ...]:
    """What the operator needs in each namespace that it watches: a ClusterRole, bound for all or in each."""
    return (
        *(Rule(each, READ, why="It follows what people want.") for each in OUR_KINDS),
        *(
            Rule(each, ("update",), subresource="status", why="It says how things are, and writes nothing else of it.")
            for each in OUR_KINDS
        ),
        Rule(MODEL_SWAPS, ("create", "delete"), why="A changed model is a swap; it keeps its newest ten per task."),
        Rule(TASK_PROFILES, ("create",), why="What it learns of a task has to stand somewhere."),
        *(Rule(each, KEEP, why=_KEPT[each.kind]) for each in APPLIED),
        Rule(CONTROLLER_REVISIONS, KEEP, why="What a model runs as is written down, so that no update changes it."),
        Rule(SECRETS, ("create",), why="A pool's routers sign ids of answers with a key that only they can read."),
        Rule(JOBS, (*READ, "create", "delete"), why="They find out what a source is; a Job is never changed."),
        Rule(
            PODS,
            (*READ, "delete"),
            why="It sees what starts, fails and is ready, and replaces a router that no longer listens.",
        ),
        Rule(ENDPOINT_SLICES, READ, why="It sees who can serve, and may give a router the same right."),
        Rule(PERSISTENT_VOLUME_CLAIMS, READ, why="It says that a claim of a model or a cache is not there."),
        Rule(EVENTS, ("create", "patch"), why="It tells what it decided, and counts what it says again."),
    )


def operator_cluster_rules() -> tuple[Rule, ...]:
    """What the operator needs beside that of the whole cluster."""
    return (
        Rule(NODES, READ, why="It finds out where a model fits before it starts one."),
        Rule(PODS, READ, why="Pods of other namespaces hold a part of each node."),
    )


def operator_home_rules() -> tuple[Rule, ...]:
    """What the operator needs in the namespace that it runs in."""
    return (
        Rule(LEASES, ("create",), why="The first one makes the Lease; a right to create cannot be tied to a name."),
        Rule(LEASES, ("get", "update"), (lease.NAME,), why="One of its processes leads."),
    )


_KEPT = {
    "ConfigMap": "Each pool's routers are told by one which models serve, and people keep checks in others.",
    "Service": "A pool has an address, and so have its engines.",
    "ServiceAccount": "Each pool's routers have an account of their own.",
    "Deployment": "Routers and engines run in them.",
    "NetworkPolicy": "Engines are reached by routers only.",
    "PodDisruptionBudget": "A drained node does not take all routers or engines at once.",
    "Role": "A router may read its own ConfigMap and addresses, and no more.",
    "RoleBinding": "It ties that role to that account.",
}
"""What each kind that the operator keeps is for."""
