"""Builds the pod of an Ollama server: one for all Ollama models of a pool.

The rule: no model is named in it, so that a new model restarts nothing, and nothing in it decides which models stay in
memory: the operator loads and unloads them by name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from arbiter.api.localmodel import EngineType
from arbiter.engines import pod_parts
from arbiter.engines.draining import drain_once_idle
from arbiter.engines.runnable import EnginePod
from arbiter.engines.sources import OllamaSource, file_of
from arbiter.engines.weights import CACHE_FOLDER, kept_volume
from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.engines.runnable import EnginePlace, EngineSettings, RunnableModel

PORT: Final = 11434
"""Ollama's usual port."""

_STORE: Final = "/models"

_PART: Final = re.compile(r".+-[0-9]{5}-of-(?P<count>[0-9]{5})\.gguf")
"""How llama.cpp names the parts of a file that was split."""

_MOST_LOADED: Final = "OLLAMA_MAX_LOADED_MODELS"

_STARTUP_DEADLINE_S: Final = 300
"""Seconds for the server itself: it starts without any model, and a slow disk is the only thing to wait for."""

_MOST_MODELS: Final = 256
"""Models loaded at once where the pool sets no bound: none in effect, since only memory counts then. Its own default is
three for each GPU, and it would unload a model that serves to load a candidate."""


def ollama_pod(place: EnginePlace, settings: EngineSettings, model: RunnableModel | None = None) -> EnginePod:
    """Build the pod that all Ollama models of a pool share.

    Args:
        place: what the pool says.
        settings: what the operator is set to.
        model: the model that the revision is about; it changes `model_options` only.

    Raises:
        InvalidInputError: the pool asks for GPUs and no image can use them.
    """
    memory = None if place.capacity.memory is None else int(place.capacity.memory)
    mount: dict[str, object] = {"name": "store", "mountPath": _STORE}
    if place.cache is not None:
        mount["subPath"] = f"{CACHE_FOLDER}/ollama"
    container = {
        "image": pod_parts.image_for(EngineType.Ollama, settings.ollama_image, None, place, settings),
        "args": ["serve"],
        "env": pod_parts.environment(_environment(place, settings)),
        "ports": pod_parts.ports(PORT),
        "resources": pod_parts.resources(settings.ollama_resources, memory, place.placement.gpus),
        "volumeMounts": [mount, pod_parts.scratch_mount()],
        **pod_parts.probes("/api/version", _STARTUP_DEADLINE_S),
    }
    store = kept_volume("store", place)
    spec = pod_parts.pod_spec(place, settings, container, None, [store], drains=drain_once_idle(PORT))
    return EnginePod(spec, PORT, shared=True, model_options={} if model is None else model_options(model, settings))


def is_carried(model: RunnableModel) -> bool:
    """Whether the server cannot pull a model itself: it reads libraries alone, and shows them no password.

    Raises:
        InvalidInputError: it cannot be brought there either, because it is in several files.
    """
    part = _PART.fullmatch(file_of(model.source) or "")
    if part is not None and int(part["count"]) > 1:
        raise InvalidInputError(
            "spec.source",
            "must name a GGUF file in one part: Ollama makes no model of several; join them with llama-gguf-split, or "
            "run it with LlamaCpp",
        )
    return not isinstance(model.source, OllamaSource) or model.pull_secret is not None


def model_options(model: RunnableModel, settings: EngineSettings) -> Mapping[str, object]:
    """Give the runner options that a model is made with. A request cannot change them: each change would reload it."""
    threads = pod_parts.threads(model.resources) or pod_parts.threads(settings.ollama_resources)
    options = {"num_ctx": model.context_window, "num_thread": threads}
    return {name: value for name, value in options.items() if value is not None}


def models_bound(pod: Mapping[str, Any]) -> int | None:
    """Give how many models the server of a pod loads at once; None where that is no bound in effect."""
    for container in pod.get("containers", ()):
        for variable in container.get("env", ()):
            if variable["name"] == _MOST_LOADED and int(variable["value"]) < _MOST_MODELS:
                return int(variable["value"])
    return None


def _environment(place: EnginePlace, settings: EngineSettings) -> Mapping[str, str]:
    return {
        "HOME": pod_parts.SCRATCH,
        "TMPDIR": pod_parts.SCRATCH,
        "OLLAMA_HOST": f"0.0.0.0:{PORT}",
        "OLLAMA_MODELS": _STORE,
        # Neither its cloud's models nor its search; what is asked here stays here.
        "OLLAMA_NO_CLOUD": "1",
        # Pages in a browser have no business here, and it takes requests without an origin.
        "OLLAMA_ORIGINS": "",
        # Whatever no request names stays loaded until the operator unloads it.
        "OLLAMA_KEEP_ALIVE": "-1",
        _MOST_LOADED: str(place.capacity.max_loaded_models or _MOST_MODELS),
        "OLLAMA_NUM_PARALLEL": str(settings.slots),
        # At its start it else deletes what no model of its own names: here, what another server is just fetching.
        "OLLAMA_NOPRUNE": "1",
    }
