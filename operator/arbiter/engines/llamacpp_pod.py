"""Builds the pod of a llama-server: one process for one GGUF file.

The rule: only arguments are given, so that any image whose program is llama-server will do, and the owner's come last,
where they win.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from arbiter.api.localmodel import EngineType
from arbiter.engines import pod_parts
from arbiter.engines.draining import drain_once_idle
from arbiter.engines.runnable import EnginePod
from arbiter.engines.weights import weights

if TYPE_CHECKING:
    from arbiter.engines.runnable import EnginePlace, EngineSettings, RunnableModel

PORT: Final = 8080
"""The port that llama-server gets; its own default changes between versions."""

_PROMPT_CACHE_MIB: Final = 256
"""Memory for prompts that left their slot, in mebibytes. Its own default is 8 GiB, beyond what most pods are given; the
kernel would end the server there, with all its streams."""

_ALL_LAYERS: Final = 99
"""Layers on the GPUs: more than any model has."""

_SLOT_OPTIONS: Final = frozenset({"-np", "--parallel"})


def llamacpp_pod(model: RunnableModel, place: EnginePlace, settings: EngineSettings) -> EnginePod:
    """Build the pod.

    Raises:
        InvalidInputError: the pool asks for GPUs and no image can use them, or two amounts contradict each other.
    """
    brought = weights(model, place, settings)
    port = model.settings.port or PORT
    container = {
        "image": pod_parts.image_for(
            EngineType.LlamaCpp, settings.llama_server_image, model.settings.image, place, settings
        ),
        "args": [*_arguments(model, place, settings, brought.path, port), *model.settings.args],
        "env": pod_parts.environment({"HOME": pod_parts.SCRATCH, "TMPDIR": pod_parts.SCRATCH}, model.env),
        "ports": pod_parts.ports(port),
        "resources": pod_parts.resources(model.resources, model.memory, place.placement.gpus),
        "volumeMounts": [brought.mount, pod_parts.scratch_mount()],
        **pod_parts.probes("/health", model.startup_deadline_s),
    }
    # An owner's image may hold a server and no shell.
    drains = None if model.settings.image else drain_once_idle(port)
    spec = pod_parts.pod_spec(place, settings, container, brought, drains=drains)
    return EnginePod(spec, port, progress_port=brought.progress_port)


def _arguments(
    model: RunnableModel, place: EnginePlace, settings: EngineSettings, path: str, port: int
) -> tuple[str, ...]:
    slots = _slots(model.settings.args) or settings.slots
    threads = pod_parts.threads(model.resources)
    return (
        *("--model", path, "--alias", model.name),
        *("--host", "0.0.0.0", "--port", str(port)),  # noqa: S104  the pod's network, which is all that there is
        *("--jinja", "--metrics", "--slots", "--no-webui"),
        *("--parallel", str(slots)),
        # Divided by the slots there: each request is to have what the model's owner promised.
        *(("--ctx-size", str(model.context_window * slots)) if model.context_window else ()),
        *("--cache-ram", str(_PROMPT_CACHE_MIB)),
        *(("--threads", str(threads)) if threads else ()),
        *(("--n-gpu-layers", str(_ALL_LAYERS)) if place.placement.gpus else ()),
        # It then gives vectors only, and without it none.
        *(("--embeddings",) if model.only_embeds else ()),
    )


def _slots(given: tuple[str, ...]) -> int | None:
    """Find how many slots the owner's arguments ask for; the last one counts, as for the server."""
    asked = [after for option, after in pairwise(given) if option in _SLOT_OPTIONS]
    asked += [
        value for option, found, value in (one.partition("=") for one in given) if found and option in _SLOT_OPTIONS
    ]
    return int(asked[-1]) if asked and asked[-1].isdecimal() and int(asked[-1]) > 0 else None
