"""What all engine pods have in common: rights, probes, how they end, what they are given, where they run.

The rule: every pod fits the restricted Pod Security level with a read-only root, has no credentials of the cluster,
and is never killed for being busy.
"""

from __future__ import annotations

from decimal import Decimal
from math import ceil
from typing import TYPE_CHECKING, Final

from arbiter.engines.draining import drain_by_sleeping
from arbiter.engines.runnable import CONTAINER
from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from arbiter.api.localmodel import EngineType
    from arbiter.api.modelpool import Gpus, Placement
    from arbiter.api.pod import EnvVar, ResourceRequirements
    from arbiter.engines.draining import Drain
    from arbiter.engines.runnable import EnginePlace, EngineSettings, Fields
    from arbiter.engines.weights import Weights

USER: Final = 65532
"""The user and group of every engine: that of our images, and nobody's on a node."""

SCRATCH: Final = "/tmp"  # noqa: S108  a folder of the pod's own
"""Where a server may write what it needs for itself; gone with the pod."""

MIB: Final = 1024**2

LEAST_HEADROOM: Final = 512 * MIB
"""The least that a container may use beyond the model's own memory, in bytes: the server itself, its buffers, and the
prompts that it keeps."""

PLACEMENT_FIELDS: Final = frozenset({"affinity", "nodeSelector", "runtimeClassName", "tolerations"})
"""Fields of a pod's spec that say where it runs and nothing about what runs."""

CONTAINER_RIGHTS: Final[Mapping[str, object]] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What a container may do: what the restricted Pod Security level allows at most, and a read-only root."""

POD_RIGHTS: Final[Mapping[str, object]] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    # A claim with many files must not be walked again at each start.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What a pod may do."""

_STARTUP_PERIOD_S: Final = 1
"""Seconds between two questions whether a server has started: it adds half of that to each start, on average."""

_ENDING_S: Final = 30
"""Seconds for a server to end by itself once it is told to."""


def pod_spec(  # noqa: PLR0913  what a pod is made of, all named
    place: EnginePlace,
    settings: EngineSettings,
    container: Fields,
    brought: Weights | None,
    more_volumes: Sequence[Mapping[str, object]] = (),
    *,
    drains: Drain | None = None,
) -> Fields:
    """Build a pod's spec around the container that serves.

    Args:
        place: what the pool says about where engines run.
        settings: what the operator is set to.
        container: the one that serves, without what all have in common.
        brought: how its weights come; None if they do not come with the pod.
        more_volumes: beside those of the weights.
        drains: how it lets its answers end; None for an image of which nothing is known.
    """
    drain = drains or drain_by_sleeping(place.total_timeout_s)
    serving = {
        "name": CONTAINER,
        "imagePullPolicy": settings.pull_policy.value,
        "securityContext": dict(CONTAINER_RIGHTS),
        "lifecycle": {"preStop": drain.handler},
        **container,
    }
    fetching = () if brought is None else brought.fetching
    secrets = [{"name": name} for name in (() if brought is None else brought.pull_secrets)]
    volumes = () if brought is None else brought.volumes
    return {
        **({"initContainers": list(fetching)} if fetching else {}),
        "containers": [serving],
        "volumes": [*volumes, *more_volumes, {"name": "scratch", "emptyDir": {}}],
        "securityContext": dict(POD_RIGHTS),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": drain.longest_s + _ENDING_S,
        **({"imagePullSecrets": secrets} if secrets else {}),
        **_placed(place.placement),
    }


def probes(path: str, deadline_s: float) -> Fields:
    """Build the three probes of a server that answers `path` once it can serve.

    The liveness probe only opens a connection, which the kernel accepts for a process however busy it is, and gives up
    after minutes. Killing a server that is slow to answer would cut all its streams and load the model anew, at the
    very moment when there is most to do; a server that accepts and never answers is seen by the router's breaker.
    """
    get = {"path": path, "port": "http"}
    return {
        "startupProbe": {
            "httpGet": get,
            "periodSeconds": _STARTUP_PERIOD_S,
            "timeoutSeconds": 5,
            "failureThreshold": max(ceil(deadline_s / _STARTUP_PERIOD_S), 1),
        },
        "readinessProbe": {"httpGet": get, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 6},
        "livenessProbe": {
            "tcpSocket": {"port": "http"},
            "periodSeconds": 20,
            "timeoutSeconds": 10,
            "failureThreshold": 6,
        },
    }


def ports(port: int) -> list[Mapping[str, object]]:
    """Build the list of the serving container's ports: one, by the name that the probes use."""
    return [{"name": "http", "containerPort": port, "protocol": "TCP"}]


def scratch_mount() -> Fields:
    """Build the mount of the volume for what a container writes for itself; every pod has it."""
    return {"name": "scratch", "mountPath": SCRATCH}


def environment(own: Mapping[str, str], given: Iterable[EnvVar] = ()) -> list[Mapping[str, object]]:
    """Build the list of environment variables: ours, then the owner's, who wins where both name one.

    An empty value is left out, as the API server does: what stands can then be compared with what was sent.
    """
    entries: dict[str, Mapping[str, object]] = {name: {"name": name, "value": value} for name, value in own.items()}
    for variable in given:
        entries.pop(variable.name, None)
        entries[variable.name] = variable.to_dict()
    return [{field: value for field, value in entry.items() if value != ""} for entry in entries.values()]


def resources(given: ResourceRequirements, memory: int | None, gpus: Gpus | None, extra: int = 0) -> Fields:
    """Build what the serving container is given.

    Memory that is not given is asked for as the model needs it, which is what placement was decided by, and limited to
    a quarter more, at least `LEAST_HEADROOM`.

    Args:
        given: what its owner wrote.
        memory: bytes that the model, or all models of a shared engine, need; `None`: not known.
        gpus: the pool's GPUs for each pod.
        extra: further bytes of the limit, such as shared memory, which counts as the container's.

    Raises:
        InvalidInputError: the owner names the GPU resource with another amount than the pool.
    """
    requests = {name: str(amount) for name, amount in given.requests.items()}
    limits = {name: str(amount) for name, amount in given.limits.items()}
    if memory is not None and "memory" not in requests and "memory" not in limits:
        requests["memory"] = spelled(memory)
        limits["memory"] = spelled(memory + max(memory // 4, LEAST_HEADROOM) + extra)
    if gpus is not None:
        for name, amounts in (("requests", given.requests), ("limits", given.limits)):
            if gpus.resource in amounts and int(amounts[gpus.resource]) != gpus.count:
                raise InvalidInputError(
                    f"spec.engine.resources.{name}",
                    f"must not name {gpus.resource}: the pool's placement.gpus gives each pod {gpus.count}",
                )
        requests[gpus.resource] = limits[gpus.resource] = str(gpus.count)
    sorted_amounts = {"requests": dict(sorted(requests.items())), "limits": dict(sorted(limits.items()))}
    return {name: amounts for name, amounts in sorted_amounts.items() if amounts}


def threads(given: ResourceRequirements) -> int | None:
    """Give the threads that a CPU limit is worth, at least one; `None` without a limit.

    A server that counts the node's processors instead waits for time slices that its limit does not give.
    """
    limit = given.limits.get("cpu")
    return None if limit is None else max(int(limit), 1)


def image_for(kind: EngineType, own: str, chosen: str | None, place: EnginePlace, settings: EngineSettings) -> str:
    """Choose an engine's image: the owner's, else on GPUs the one for them, else our own.

    Raises:
        InvalidInputError: the pool asks for GPUs, and there is no image that can use them.
    """
    if chosen is not None:
        return chosen
    if place.placement.gpus is None:
        return own
    if kind not in settings.gpu_images:
        raise InvalidInputError(
            "spec.placement.gpus",
            f"needs an image of {kind} that can use GPUs: Arbiter's own is for CPUs; name one in the operator's "
            "settings, or for LlamaCpp in the model's spec.engine.image",
        )
    return settings.gpu_images[kind]


def spelled(count: int) -> str:
    """Write bytes as a quantity, rounded up to whole mebibytes."""
    return f"{ceil(Decimal(count) / MIB)}Mi"


def _placed(placement: Placement) -> Fields:
    """Build the fields that say where a pod runs, with what was written and nothing that was not."""
    written = {
        "nodeSelector": dict(placement.node_selector),
        "tolerations": [one.model_dump(mode="json", exclude_unset=True) for one in placement.tolerations],
        "affinity": None
        if placement.affinity is None
        else placement.affinity.model_dump(mode="json", exclude_unset=True, exclude_none=True),
        "runtimeClassName": placement.runtime_class_name,
    }
    return {name: value for name, value in written.items() if value}
