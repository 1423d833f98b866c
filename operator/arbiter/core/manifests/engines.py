"""Renders an engine from its frozen form: the Deployment and the Service of one revision, or of a shared engine.

Rule: what runs comes from the frozen form alone, where it runs and how often from the pool as it is now; so nothing
restarts because the operator was upgraded, a tag moved or a LocalModel went. One more pod starts before one goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from arbiter.api.amounts import Quantity
from arbiter.core.manifests import names
from arbiter.core.manifests.amounts import canonical, whole_mebibytes
from arbiter.core.manifests.restricted import LAST_WORDS
from arbiter.engines.runnable import CONTAINER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.api.modelpool import ModelPool, Placement
    from arbiter.core.revisions import FrozenRevision, FrozenShared

SERVICE_PORT: Final = 80
"""Port of an engine's Service, whatever its server listens on."""


def engine_deployment(pool: ModelPool, frozen: FrozenRevision, replicas: int) -> dict[str, Any]:
    """Give the servers of one revision, so many of them."""
    name = pool.metadata.name
    labels = names.engine_selector(name, frozen.revision)
    more = {names.ENGINE: frozen.engine.value, names.MODEL: frozen.model}
    return _deployment(
        pool,
        names.engine_name(name, frozen.revision),
        (labels, more),
        frozen.pod,
        replicas=replicas,
        deadline_s=frozen.startup_s,
    )


def engine_service(pool: ModelPool, frozen: FrozenRevision) -> dict[str, Any]:
    """Give the Service of one revision: the routers follow its endpoints."""
    name = pool.metadata.name
    return _service(
        pool, names.engine_name(name, frozen.revision), names.engine_selector(name, frozen.revision), frozen.port
    )


def shared_deployment(pool: ModelPool, shared: FrozenShared) -> dict[str, Any]:
    """Give the server that all Ollama models of the pool share: always one, for it holds what is loaded."""
    name = pool.metadata.name
    labels = names.shared_engine_selector(name)
    wanted = 1 if pool.spec.replicas else 0
    deployment = _deployment(
        pool, names.shared_engine_name(name), (labels, {}), _reserving(shared), replicas=wanted, deadline_s=600
    )
    # Two of them would not agree on what is loaded, and a claim may not let two in.
    deployment["spec"]["strategy"] = {"type": "Recreate"}
    return deployment


def shared_service(pool: ModelPool, shared: FrozenShared) -> dict[str, Any]:
    """Give the Service of the shared engine."""
    name = pool.metadata.name
    return _service(pool, names.shared_engine_name(name), names.shared_engine_selector(name), shared.port)


def placed(spec: Mapping[str, Any], placement: Placement) -> dict[str, Any]:
    """Add to a frozen pod where it runs, and write its amounts as the API server does."""
    where: dict[str, Any] = {
        "nodeSelector": dict(sorted(placement.node_selector.items())),
        "tolerations": [_written(toleration) for toleration in placement.tolerations],
        "affinity": None if placement.affinity is None else _written(placement.affinity),
        "runtimeClassName": placement.runtime_class_name,
    }
    pod = {**spec, **{field: value for field, value in where.items() if value}}
    for part in ("initContainers", "containers"):
        if part in spec:
            pod[part] = [_container(container) for container in spec[part]]
    if spec.get("volumes"):
        pod["volumes"] = [_volume(volume) for volume in spec["volumes"]]
    return {field: value for field, value in pod.items() if value not in ([], {}, None)}


def _reserving(shared: FrozenShared) -> dict[str, Any]:
    """Give the shared pod with what its node keeps for its models. No limit: it would kill it for a model more."""
    containers = []
    for container in shared.pod["containers"]:
        given = container.get("resources", {})
        said = any("memory" in given.get(part, {}) for part in ("requests", "limits"))
        if container["name"] == CONTAINER and shared.reserved and not said:
            requests = {**given.get("requests", {}), "memory": whole_mebibytes(shared.reserved)}
            containers.append({**container, "resources": {**given, "requests": requests}})
        else:
            containers.append(container)
    return {**shared.pod, "containers": containers}


def _deployment(  # noqa: PLR0913 - what a Deployment is made of, all named
    pool: ModelPool,
    name: str,
    labels: tuple[Mapping[str, str], Mapping[str, str]],
    pod: Mapping[str, Any],
    *,
    replicas: int,
    deadline_s: int,
) -> dict[str, Any]:
    selector, more = labels
    spec = {
        "replicas": replicas,
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": max(deadline_s, 600),
        "selector": {"matchLabels": dict(selector)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {
            "metadata": {"labels": names.described({**selector, **more}, pool.metadata.name)},
            "spec": placed(pod, pool.spec.placement),
        },
    }
    owner = names.owner_of("ModelPool", pool.metadata)
    return names.manifest("Deployment", name, owner, {**selector, **more}, spec=spec)


def _service(pool: ModelPool, name: str, selector: Mapping[str, str], port: int) -> dict[str, Any]:
    spec = {
        "type": "ClusterIP",
        "selector": dict(selector),
        "ports": [{"name": "http", "port": SERVICE_PORT, "protocol": "TCP", "targetPort": port}],
    }
    owner = names.owner_of("ModelPool", pool.metadata)
    return names.manifest("Service", name, owner, selector, spec=spec)


def _container(container: Mapping[str, Any]) -> dict[str, Any]:
    """Write a container as the API server tells it."""
    written = {"terminationMessagePolicy": LAST_WORDS, **container}
    if container.get("env"):
        # An empty value is what a variable without one has, and the API server leaves it out.
        written["env"] = [{part: text for part, text in one.items() if text != ""} for one in container["env"]]
    if "resources" in container:
        written["resources"] = {part: _amounts(amounts) for part, amounts in container["resources"].items()}
    return {field: value for field, value in written.items() if value not in ([], {}, None)}


def _volume(volume: Mapping[str, Any]) -> dict[str, Any]:
    scratch = volume.get("emptyDir")
    if not scratch or "sizeLimit" not in scratch:
        return dict(volume)
    return {**volume, "emptyDir": {**scratch, "sizeLimit": canonical(Quantity.parse(scratch["sizeLimit"]))}}


def _amounts(amounts: Mapping[str, Any]) -> dict[str, str]:
    return {resource: canonical(Quantity.parse(amounts[resource])) for resource in sorted(amounts)}


def _written(part: Any) -> dict[str, Any]:  # noqa: ANN401 - a toleration or an affinity
    """Give a part of a pod as it was written, without what means nothing; an empty selector means everything."""
    written: dict[str, Any] = part.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return written
