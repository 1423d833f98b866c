"""Builds the pod of an image that a person brings: any server with OpenAI's interface.

The rule: nothing is known of it but that it answers `/v1/models`, so it is told by variables what it may use, and all
arguments are its owner's. Kubernetes puts a variable into an argument that says `$(ARBITER_MODEL_PATH)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arbiter.engines import pod_parts
from arbiter.engines.runnable import EnginePod
from arbiter.engines.weights import weights
from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from arbiter.engines.runnable import EnginePlace, EngineSettings, RunnableModel

PORT: Final = 8000
"""The port where its owner gives none."""


def custom_pod(model: RunnableModel, place: EnginePlace, settings: EngineSettings) -> EnginePod:
    """Build the pod; its server is told `ARBITER_MODEL_PATH`, `ARBITER_MODEL_NAME` and `ARBITER_PORT`.

    Raises:
        InvalidInputError: no image is given, or two amounts contradict each other.
    """
    if model.settings.image is None:
        raise InvalidInputError("spec.engine.image", "is required for Custom: Arbiter has no default image for it")
    brought = weights(model, place, settings)
    port = model.settings.port or PORT
    own = {
        "HOME": pod_parts.SCRATCH,
        "TMPDIR": pod_parts.SCRATCH,
        "ARBITER_MODEL_NAME": model.name,
        "ARBITER_MODEL_PATH": brought.path,
        "ARBITER_PORT": str(port),
    }
    container = {
        "image": model.settings.image,
        **({"args": list(model.settings.args)} if model.settings.args else {}),
        "env": pod_parts.environment(own, model.env),
        "ports": pod_parts.ports(port),
        "resources": pod_parts.resources(model.resources, model.memory, place.placement.gpus),
        "volumeMounts": [brought.mount, pod_parts.scratch_mount()],
        **pod_parts.probes("/v1/models", model.startup_deadline_s),
    }
    spec = pod_parts.pod_spec(place, settings, container, brought)
    return EnginePod(spec, port, progress_port=brought.progress_port)
