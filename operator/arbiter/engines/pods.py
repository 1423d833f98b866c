"""Decides how an engine runs: the pod for a model, the model's name at its server, and the revision that both make.

The rule: a revision is a hash of what really runs, and nothing else. Where it runs and in how many copies does not
change what runs, so moving a pool to other nodes, or scaling it, starts no swap.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from arbiter.api.localmodel import EngineType
from arbiter.engines.custom_pod import custom_pod
from arbiter.engines.llamacpp_pod import llamacpp_pod
from arbiter.engines.ollama_pod import ollama_pod
from arbiter.engines.pod_parts import PLACEMENT_FIELDS
from arbiter.engines.sources import ExternalSource
from arbiter.engines.vllm_pod import vllm_pod

if TYPE_CHECKING:
    from arbiter.engines.runnable import EnginePlace, EnginePod, EngineSettings, RunnableModel

REVISION_DIGITS: Final = 10
"""Digits of a revision: among a thousand of them, two are equal once in two million such sets."""

OLLAMA_NAMESPACE: Final = "arbiter"
"""The namespace of the models that we make in an Ollama server, apart from those that it pulled."""


def render_pod(model: RunnableModel, place: EnginePlace, settings: EngineSettings) -> EnginePod | None:
    """Build the pod of a model's engine.

    Args:
        model: the model.
        place: what its pool says about where and how engines run.
        settings: what the operator is set to.

    Returns:
        The pod: for Ollama the one that all such models of the pool share; `None` for a server elsewhere.

    Raises:
        InvalidInputError: what the owner of the model or pool wrote contradicts itself; names the field.
    """
    match model.engine:
        case EngineType.LlamaCpp:
            return llamacpp_pod(model, place, settings)
        case EngineType.VLLM:
            return vllm_pod(model, place, settings)
        case EngineType.Custom:
            return custom_pod(model, place, settings)
        case EngineType.Ollama:
            return ollama_pod(place, settings, model)
        case EngineType.External:
            return None


def revision_of(pod: EnginePod | None, digest: str) -> str:
    """Give the revision: the first ten hexadecimal digits of the sha256 sum of what runs, as canonical JSON.

    Args:
        pod: how it runs, `None` for a server elsewhere. Of its spec, the node selector, tolerations, affinity and
            runtime class are left out; GPUs stay, since their number changes what runs.
        digest: what the model's source resolved to: `RunnableModel.digest`.
    """
    what: dict[str, object] = {"digest": digest}
    if pod is not None:
        what["pod"] = {name: value for name, value in pod.spec.items() if name not in PLACEMENT_FIELDS}
        what["options"] = dict(pod.model_options)
    canonical = json.dumps(what, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256(canonical.encode()).hexdigest()[:REVISION_DIGITS]


def served_name(model: RunnableModel, revision: str) -> str:
    """Give the name by which the model's server knows it, which is what a router must send as `model`.

    In a shared Ollama server each revision is a model of its own: both sides of a swap are there at once, and a tag
    that moves does not change what serves.
    """
    if isinstance(model.source, ExternalSource):
        return model.source.model
    return f"{OLLAMA_NAMESPACE}/{model.name}:{revision}" if model.engine == EngineType.Ollama else model.name
