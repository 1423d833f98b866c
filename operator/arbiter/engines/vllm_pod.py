"""Builds the pod of a vLLM server: one process group for one model on the pool's GPUs.

The rule: it loads what lies in its folder and reaches no hub, so that what runs is what was resolved. Not run here, for
want of a GPU: written from its documentation and tested as values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arbiter.api.localmodel import EngineType
from arbiter.engines import pod_parts
from arbiter.engines.draining import drain_once_idle
from arbiter.engines.runnable import EnginePod
from arbiter.engines.weights import weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.engines.runnable import EnginePlace, EngineSettings, RunnableModel

PORT: Final = 8000
"""The usual port of vLLM."""

_SHARED_MEMORY: Final = 2 * 1024**3
"""Shared memory in bytes, over which the processes of several GPUs talk; the runtime's own default is 64 MiB, too
little for NCCL. It counts as the container's memory."""


def vllm_pod(model: RunnableModel, place: EnginePlace, settings: EngineSettings) -> EnginePod:
    """Build the pod.

    Raises:
        InvalidInputError: two amounts contradict each other.
    """
    brought = weights(model, place, settings)
    port, gpus = model.settings.port or PORT, place.placement.gpus
    chosen = model.settings.image or settings.gpu_images.get(EngineType.VLLM) or settings.vllm_image
    container = {
        "image": chosen,
        # Told, because the program that the image itself starts was another one in older versions.
        "command": ["vllm", "serve"],
        "args": [*_arguments(model, place, brought.path, port), *model.settings.args],
        "env": pod_parts.environment(_ENVIRONMENT, model.env),
        "ports": pod_parts.ports(port),
        "resources": pod_parts.resources(model.resources, model.memory, gpus, extra=_SHARED_MEMORY),
        "volumeMounts": [brought.mount, pod_parts.scratch_mount(), {"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108  of the pod
        **pod_parts.probes("/health", model.startup_deadline_s),
    }
    shared = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": pod_parts.spelled(_SHARED_MEMORY)}}
    # An owner's image may hold a server and no shell.
    drains = None if model.settings.image else drain_once_idle(port)
    spec = pod_parts.pod_spec(place, settings, container, brought, [shared], drains=drains)
    return EnginePod(spec, port, progress_port=brought.progress_port)


_ENVIRONMENT: Final[Mapping[str, str]] = {
    "HOME": pod_parts.SCRATCH,
    "TMPDIR": pod_parts.SCRATCH,
    # Parts of PyTorch ask who the user is, and this one has no entry in the image.
    "USER": "arbiter",
    "XDG_CACHE_HOME": f"{pod_parts.SCRATCH}/cache",
    "XDG_CONFIG_HOME": f"{pod_parts.SCRATCH}/config",
    "TORCHINDUCTOR_CACHE_DIR": f"{pod_parts.SCRATCH}/cache/torchinductor",
    "TRITON_CACHE_DIR": f"{pod_parts.SCRATCH}/cache/triton",
    "VLLM_CACHE_ROOT": f"{pod_parts.SCRATCH}/cache/vllm",
    "HF_HOME": f"{pod_parts.SCRATCH}/cache/huggingface",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


def _arguments(model: RunnableModel, place: EnginePlace, path: str, port: int) -> tuple[str, ...]:
    gpus = place.placement.gpus
    return (
        path,
        *("--served-model-name", model.name),
        *("--host", "0.0.0.0", "--port", str(port)),  # noqa: S104  the pod's network, which is all that there is
        *(("--tensor-parallel-size", str(gpus.count)) if gpus else ()),
        *(("--max-model-len", str(model.context_window)) if model.context_window else ()),
    )
