"""Decides how a model's weights come into its pod: as an image volume, from a claim, or downloaded before it starts.

The rule: wherever they come from, the server finds them under `/model`, read-only, and sees no other model's. What is
downloaded lies under a name made of its content, so that a second pod on the same claim finds it there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from arbiter.api.localmodel import EngineType
from arbiter.engines.pod_parts import CONTAINER_RIGHTS, scratch_mount
from arbiter.engines.runnable import FETCH_CONTAINER, PROGRESS_PORT
from arbiter.engines.sources import (
    IMAGE_MODEL_PATH,
    ClaimSource,
    ExternalSource,
    HttpsSource,
    HubSource,
    OciSource,
    OllamaSource,
)
from arbiter.engines.trust import trust_mount, trust_variable, trust_volume

if TYPE_CHECKING:
    from arbiter.engines.runnable import EnginePlace, EngineSettings, Fields, RunnableModel

MODEL_FOLDER: Final = "/model"
"""Where a server finds its weights."""

CACHE_FOLDER: Final = "arbiter"
"""The folder of a cache claim under which all is kept that Arbiter puts there; the rest is its owner's."""

_STORE: Final = "/store"
_TOKEN_FOLDER: Final = "/token"  # noqa: S105  a folder
_TERMINATION_LOG: Final = "/dev/termination-log"
_TOKEN_KEY: Final = "token"  # noqa: S105  the key of a Secret, not its value

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

_FETCH_RESOURCES: Final[Fields] = {
    "requests": {"cpu": "100m", "memory": "128Mi"},
    # Files just written count as the container's memory too, but the kernel takes those pages back.
    "limits": {"memory": "512Mi"},
}


@dataclass(frozen=True, slots=True)
class Weights:
    """How weights come into a pod.

    Attributes:
        path: where the server finds them: a file, or a folder.
        mount: the serving container's mount of them.
        volumes: the pod's volumes for them.
        fetching: the init containers that bring them; they need the scratch volume.
        pull_secrets: Secrets with which a node asks for the image that they are.
        progress_port: where `fetching` tells how far it is; `None` where there is none.
    """

    path: str
    mount: Fields
    volumes: tuple[Fields, ...]
    fetching: tuple[Fields, ...] = ()
    pull_secrets: tuple[str, ...] = ()
    progress_port: int | None = None


def weights(model: RunnableModel, place: EnginePlace, settings: EngineSettings) -> Weights:
    """Decide how the weights of a model come into its pod.

    Raises:
        ValueError: an ollama:// source or a server elsewhere, which no pod of its own is made for.
    """
    match model.source:
        case OciSource():
            return _from_image(model, model.source, settings)
        case ClaimSource():
            return _from_claim(model.source)
        case HubSource() | HttpsSource():
            return _downloaded(model, model.source, place, settings)
        case OllamaSource() | ExternalSource():
            raise ValueError(f"{model.source.uri} is nothing that a pod of {model.engine} loads")


def _from_image(model: RunnableModel, source: OciSource, settings: EngineSettings) -> Weights:
    """Mount the image: the node's container runtime fetches, keeps and shares it."""
    # A folder's image without a path is the folder; our own model images hold one file.
    usual = IMAGE_MODEL_PATH if model.engine in {EngineType.LlamaCpp, EngineType.Ollama} else None
    path = source.path or usual
    image = {"reference": source.reference, "pullPolicy": settings.pull_policy.value}
    return Weights(
        path=MODEL_FOLDER if path is None else f"{MODEL_FOLDER}/{path}",
        mount={"name": "model", "mountPath": MODEL_FOLDER, "readOnly": True},
        volumes=({"name": "model", "image": image},),
        pull_secrets=() if model.pull_secret is None else (model.pull_secret,),
    )


def _from_claim(source: ClaimSource) -> Weights:
    """Mount the folder of a claim in which the file lies: a model in several files needs those beside it."""
    folder, _, name = source.path.rpartition("/")
    mount = {"name": "model", "mountPath": MODEL_FOLDER, "readOnly": True}
    return Weights(
        path=f"{MODEL_FOLDER}/{name}",
        mount=mount | ({"subPath": folder} if folder else {}),
        volumes=({"name": "model", "persistentVolumeClaim": {"claimName": source.claim, "readOnly": True}},),
    )


def _downloaded(
    model: RunnableModel, source: HubSource | HttpsSource, place: EnginePlace, settings: EngineSettings
) -> Weights:
    """Download into the pool's cache claim, or into the pod where there is none."""
    folder = f"{CACHE_FOLDER}/weights/{_content(model)}"
    name = None if source.path is None else source.path.rpartition("/")[2]
    target = f"{_STORE}/{folder}" + ("" if name is None else f"/{name}")
    token = model.pull_secret is not None
    mounts = [{"name": "model", "mountPath": _STORE}, scratch_mount()]
    if token:
        mounts.append({"name": "token", "mountPath": _TOKEN_FOLDER, "readOnly": True})
    if settings.trusted:
        mounts.append(trust_mount())
    container: Fields = {
        "name": FETCH_CONTAINER,
        "image": settings.arbiter_image,
        "imagePullPolicy": settings.pull_policy.value,
        "args": [
            *("fetch", "--source", source.uri, "--digest", model.digest, "--to", target),
            *(() if model.sha256 is None else ("--sha256", model.sha256)),
            *(("--token-file", f"{_TOKEN_FOLDER}/{_TOKEN_KEY}") if token else ()),
            *("--progress-port", str(PROGRESS_PORT), "--termination-log", _TERMINATION_LOG),
        ],
        **({"env": [trust_variable()]} if settings.trusted else {}),
        "ports": [{"name": "progress", "containerPort": PROGRESS_PORT, "protocol": "TCP"}],
        "resources": _FETCH_RESOURCES,
        "securityContext": dict(CONTAINER_RIGHTS),
        "volumeMounts": mounts,
    }
    return Weights(
        path=MODEL_FOLDER if name is None else f"{MODEL_FOLDER}/{name}",
        mount={"name": "model", "mountPath": MODEL_FOLDER, "subPath": folder, "readOnly": True},
        volumes=(
            kept_volume("model", place),
            *((_token_volume(model.pull_secret),) if model.pull_secret else ()),
            *((trust_volume(settings.trusted),) if settings.trusted else ()),
        ),
        fetching=(container,),
        progress_port=PROGRESS_PORT,
    )


def kept_volume(name: str, place: EnginePlace) -> Fields:
    """Build the volume of what should outlive a pod: the pool's cache claim, or one that does not without it."""
    if place.cache is None:
        return {"name": name, "emptyDir": {}}
    return {"name": name, "persistentVolumeClaim": {"claimName": place.cache.claim}}


def _content(model: RunnableModel) -> str:
    """Name the folder of a download: by the sum of its content, so that a model under two addresses is kept once.

    What the source resolved to is such a sum; where it is something else, it counts together with the address.
    """
    if model.sha256 is not None:
        return f"sha256-{model.sha256}"
    if _DIGEST.fullmatch(model.digest):
        return model.digest.replace(":", "-")
    return f"source-{sha256(f'{model.source.uri} {model.digest}'.encode()).hexdigest()}"


def _token_volume(secret: str) -> Fields:
    return {
        "name": "token",
        "secret": {"secretName": secret, "items": [{"key": _TOKEN_KEY, "path": _TOKEN_KEY}], "defaultMode": 0o440},
    }
