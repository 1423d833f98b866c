"""Renders the Job that asks a LocalModel's source what it is.

Rule: one attempt, in the namespace and with the pull secret of the workload, and without a token of the cluster; when
it is tried again is decided by a pass, which makes another Job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from arbiter.core.manifests import names
from arbiter.core.manifests.restricted import LAST_WORDS, container_security, pod_security
from arbiter.engines.sources import ClaimSource, OciSource, OllamaSource
from arbiter.engines.trust import trust_mount, trust_variable, trust_volume

if TYPE_CHECKING:
    from arbiter.api.localmodel import LocalModel
    from arbiter.core.snapshot import OperatorSettings
    from arbiter.engines.sources import Source

DEADLINE_S: Final = 300
"""Seconds in which the resolver tells a result, pauses between its own attempts included."""

KEPT_S: Final = 3600
"""Seconds that a Job stays after its end: longer than any pause before the next one, for its result has to be read."""

_SCRATCH: Final = "/tmp"  # noqa: S108  a volume of the pod's own
_CREDENTIALS: Final = "/credentials"
_CLAIM: Final = "/claim"


def resolver_job(model: LocalModel, source: Source, settings: OperatorSettings) -> dict[str, Any]:
    """Give the Job."""
    name = model.metadata.name
    labels = names.resolver_selector(name)
    spec = {
        "backoffLimit": 0,
        # Starting the pod, with the image to be pulled, counts as well.
        "activeDeadlineSeconds": DEADLINE_S + 600,
        "ttlSecondsAfterFinished": KEPT_S,
        "template": {"metadata": {"labels": names.described(labels, name)}, "spec": _pod(model, source, settings)},
    }
    owner = names.owner_of("LocalModel", model.metadata)
    return names.manifest("Job", names.resolver_name(name), owner, labels, spec=spec)


def _pod(model: LocalModel, source: Source, settings: OperatorSettings) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [{"name": "scratch", "mountPath": _SCRATCH}]
    volumes: list[dict[str, Any]] = [{"name": "scratch", "emptyDir": {}}]
    arguments = ["resolve", f"--source={source.uri}", f"--deadline={DEADLINE_S}s"]
    arguments.append("--termination-log=/dev/termination-log")
    arguments += [f"--plain-http={registry}" for registry in settings.plain_http]
    if model.spec.sha256 is not None:
        arguments.append(f"--sha256={model.spec.sha256}")
    if isinstance(source, ClaimSource):
        arguments.append(f"--mounted={_CLAIM}")
        mounts.append({"name": "claim", "mountPath": _CLAIM, "readOnly": True})
        volumes.append({"name": "claim", "persistentVolumeClaim": {"claimName": source.claim, "readOnly": True}})
    if model.spec.pull_secret is not None:
        option, key, file = _credentials(source)
        arguments.append(f"{option}={_CREDENTIALS}/{file}")
        mounts.append({"name": "credentials", "mountPath": _CREDENTIALS, "readOnly": True})
        items = [{"key": key, "path": file}]
        # Without the Secret the pod would not start, and nobody who may not read its events would learn why.
        secret = {"secretName": model.spec.pull_secret, "items": items, "optional": True}
        volumes.append({"name": "credentials", "secret": secret})
    environment: list[dict[str, Any]] = [{"name": "HOME", "value": _SCRATCH}, {"name": "TMPDIR", "value": _SCRATCH}]
    if settings.engines.trusted:
        environment.append(dict(trust_variable()))
        mounts.append(dict(trust_mount()))
        volumes.append(dict(trust_volume(settings.engines.trusted)))
    container = {
        "name": "resolve",
        "image": settings.image,
        "imagePullPolicy": settings.engines.pull_policy.value,
        "args": arguments,
        "env": environment,
        "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": container_security(),
        "terminationMessagePolicy": LAST_WORDS,
        "volumeMounts": mounts,
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": volumes,
    }


def _credentials(source: Source) -> tuple[str, str, str]:
    """Give the option that takes the pull secret, the key in it and the file that it becomes."""
    if isinstance(source, OciSource | OllamaSource):
        return "--docker-config", ".dockerconfigjson", "config.json"
    return "--token-file", "token", "token"
