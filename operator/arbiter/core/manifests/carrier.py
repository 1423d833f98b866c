"""Renders the Job that carries a model into a pool's shared engine, where the engine cannot pull it itself.

Rule: one attempt with one container, in the namespace and with the pull secret of the workload, and without a token of
the cluster. An image and a claim are mounted, everything else is downloaded; when it is tried again is decided by a
pass, which makes another Job.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from arbiter.core.manifests import names
from arbiter.core.manifests.engines import placed
from arbiter.core.manifests.restricted import LAST_WORDS, container_security, pod_security
from arbiter.engines.runnable import FETCH_CONTAINER, PROGRESS_PORT, EnginePlace, RunnableModel
from arbiter.engines.sources import ClaimSource, OciSource, OllamaSource, parse_source
from arbiter.engines.trust import trust_mount, trust_variable, trust_volume
from arbiter.engines.weights import CACHE_FOLDER, kept_volume, weights

if TYPE_CHECKING:
    from arbiter.api.modelpool import ModelPool
    from arbiter.core.revisions import Carried, FrozenRevision
    from arbiter.core.snapshot import OperatorSettings
    from arbiter.engines.sources import Source

KEPT_S: Final = 3600
"""Seconds that a Job stays after its end: longer than any pause before the next one, for its end has to be read."""

_LONGEST_S: Final = 13 * 3600
"""Seconds for a Job: an hour more than `arbiter carry` gives itself, for the image to be pulled and a pod to start."""

_SCRATCH: Final = "/tmp"  # noqa: S108  a volume of the pod's own
_STORE: Final = "/store"
_CREDENTIALS: Final = "/credentials"


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the pod is made of, as far as it depends on the source: arguments, mounts, volumes and pull secrets."""

    arguments: tuple[str, ...] = ()
    mounts: tuple[dict[str, Any], ...] = ()
    volumes: tuple[dict[str, Any], ...] = ()
    pull_secrets: tuple[dict[str, Any], ...] = ()


def carrier_job(
    pool: ModelPool, frozen: FrozenRevision, carried: Carried, settings: OperatorSettings, attempt: int
) -> dict[str, Any]:
    """Give the Job.

    Args:
        pool: whose shared engine it is.
        frozen: what is carried.
        carried: what is needed for it beside the source.
        settings: of the operator.
        attempt: the how manieth in a row; it is part of the name, so an attempt is made once.
    """
    name = pool.metadata.name
    labels = names.carrier_selector(name, frozen.revision)
    described = names.described({**labels, names.MODEL: frozen.model}, name)
    spec = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": _LONGEST_S,
        "ttlSecondsAfterFinished": KEPT_S,
        "template": {"metadata": {"labels": described}, "spec": _pod(pool, frozen, carried, settings)},
    }
    owner = names.owner_of("ModelPool", pool.metadata)
    return names.manifest("Job", names.carrier_name(name, frozen.revision, attempt), owner, labels, spec=spec)


def _pod(pool: ModelPool, frozen: FrozenRevision, carried: Carried, settings: OperatorSettings) -> dict[str, Any]:
    parts = _parts(pool, frozen, carried, settings)
    environment: list[dict[str, Any]] = [{"name": name, "value": _SCRATCH} for name in ("HOME", "TMPDIR")]
    if settings.engines.trusted:
        environment.append(dict(trust_variable()))
    container = {
        "name": FETCH_CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.engines.pull_policy.value,
        "args": [*_arguments(pool, frozen, carried, settings), *parts.arguments],
        "env": environment,
        "ports": [{"name": "progress", "containerPort": PROGRESS_PORT, "protocol": "TCP"}],
        # Files just written count as the container's memory too, but the kernel takes those pages back.
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": container_security(),
        "terminationMessagePolicy": LAST_WORDS,
        "volumeMounts": [{"name": "scratch", "mountPath": _SCRATCH}, *parts.mounts],
    }
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": [{"name": "scratch", "emptyDir": {}}, *parts.volumes],
        "imagePullSecrets": list(parts.pull_secrets),
    }
    return _beside_the_engine(pool, placed(pod, pool.spec.placement))


def _arguments(
    pool: ModelPool, frozen: FrozenRevision, carried: Carried, settings: OperatorSettings
) -> tuple[str, ...]:
    engine = f"{names.shared_engine_name(pool.metadata.name)}.{pool.metadata.namespace}.svc.{settings.cluster_domain}"
    return (
        "carry",
        f"--source={frozen.source}",
        f"--digest={frozen.digest}",
        f"--engine=http://{engine}",
        f"--model={frozen.served}",
        f"--options={json.dumps(dict(frozen.options), sort_keys=True)}",
        f"--progress-port={PROGRESS_PORT}",
        "--termination-log=/dev/termination-log",
        *((f"--sha256={carried.sha256}",) if carried.sha256 else ()),
        *(f"--plain-http={registry}" for registry in settings.plain_http),
    )


def _parts(pool: ModelPool, frozen: FrozenRevision, carried: Carried, settings: OperatorSettings) -> _Parts:
    source = parse_source(frozen.source)
    if isinstance(source, OciSource | ClaimSource):
        return _mounted(frozen, source, carried, settings)
    return _downloaded(pool, frozen, source, carried, settings)


def _mounted(frozen: FrozenRevision, source: Source, carried: Carried, settings: OperatorSettings) -> _Parts:
    """Mount what lies in an image or a claim, as an engine of its own would have it."""
    model = RunnableModel(frozen.model, frozen.engine, source, frozen.digest, pull_secret=carried.pull_secret or None)
    found = weights(model, EnginePlace(), settings.engines)
    return _Parts(
        (f"--mounted={found.path}",),
        (dict(found.mount),),
        tuple(dict(volume) for volume in found.volumes),
        tuple({"name": name} for name in found.pull_secrets),
    )


def _downloaded(
    pool: ModelPool, frozen: FrozenRevision, source: Source, carried: Carried, settings: OperatorSettings
) -> _Parts:
    """Download beside the store of the engine if that is in a claim, so that an attempt goes on where one broke off."""
    place = EnginePlace.of(pool.spec)
    content = sha256(f"{frozen.source} {frozen.digest} {carried.sha256}".encode()).hexdigest()
    found = _Parts(
        (f"--to={_STORE}/{CACHE_FOLDER}/carried/{content}",),
        ({"name": "store", "mountPath": _STORE},),
        (dict(kept_volume("store", place)),),
    )
    if settings.engines.trusted:
        found = replace(
            found,
            mounts=(*found.mounts, dict(trust_mount())),
            volumes=(*found.volumes, dict(trust_volume(settings.engines.trusted))),
        )
    if not carried.pull_secret:
        return found
    library = isinstance(source, OllamaSource)
    option, key, file = (
        ("--docker-config", ".dockerconfigjson", "config.json") if library else ("--token-file", "token", "token")
    )
    # Without the Secret the pod would not start, and nobody who may not read its events would learn why.
    secret = {"secretName": carried.pull_secret, "items": [{"key": key, "path": file}], "optional": True}
    return replace(
        found,
        arguments=(*found.arguments, f"{option}={_CREDENTIALS}/{file}"),
        mounts=(*found.mounts, {"name": "credentials", "mountPath": _CREDENTIALS, "readOnly": True}),
        volumes=(*found.volumes, {"name": "credentials", "secret": secret}),
    )


def _beside_the_engine(pool: ModelPool, pod: dict[str, Any]) -> dict[str, Any]:
    """Put it onto the engine's node where both use one claim: many claims let one node in and no other."""
    if pool.spec.cache is None:
        return pod
    term = {
        "labelSelector": {"matchLabels": names.shared_engine_selector(pool.metadata.name)},
        "topologyKey": "kubernetes.io/hostname",
    }
    return {**pod, "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}
