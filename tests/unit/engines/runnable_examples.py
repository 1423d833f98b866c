"""Models, pools and settings for the tests of engines, as manifests write them."""

from __future__ import annotations

from typing import Any

from arbiter.api.localmodel import EngineType, LocalModelSpec
from arbiter.api.modelpool import Cache, Capacity, Placement
from arbiter.engines.runnable import EnginePlace, EngineSettings, RunnableModel

SUM = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
IMAGE_DIGEST = f"sha256:{'4' * 64}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

SETTINGS = EngineSettings.of("registry.example/arbiter", "1.2.3")
GPU_SETTINGS = EngineSettings(
    llama_server_image=SETTINGS.llama_server_image,
    ollama_image=SETTINGS.ollama_image,
    arbiter_image=SETTINGS.arbiter_image,
    gpu_images={
        EngineType.LlamaCpp: "ghcr.io/ggml-org/llama.cpp:server-cuda-b9851",
        EngineType.Ollama: "ollama/ollama:0.33.0",
    },
)

GPUS: dict[str, Any] = {
    "nodeSelector": {"nvidia.com/gpu.present": "true"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "batch"}}}
            ]
        }
    },
    "gpus": {"count": 2},
    "runtimeClassName": "nvidia",
}


def place(
    cache: str = "",
    timeout_s: float = 3600,
    capacity: dict[str, Any] | None = None,
    **placement: Any,  # noqa: ANN401  as in a manifest
) -> EnginePlace:
    """Build what a pool says."""
    return EnginePlace(
        Placement.model_validate(placement),
        Capacity.model_validate(capacity or {}),
        Cache(claim=cache) if cache else None,
        timeout_s,
    )


def model(  # noqa: PLR0913  the facts of a model, all named
    source: str,
    engine: EngineType = EngineType.LlamaCpp,
    *,
    digest: str | None = None,
    resolved: str | None = None,
    name: str = "smollm2",
    memory: int | None = None,
    capabilities: frozenset[str] = frozenset(),
    pin_image: bool = True,
    settings: dict[str, Any] | None = None,
    **spec: Any,  # noqa: ANN401  as in a manifest
) -> RunnableModel:
    """Build a model; a source that begins with `http://` is a server elsewhere."""
    place = {"external": {"url": source}} if source.startswith("http://") else {"source": source}
    return RunnableModel.of(
        name,
        LocalModelSpec.model_validate({**place, **spec, **({"engine": settings} if settings else {})}),
        engine=engine,
        digest=digest,
        resolved=resolved,
        memory=memory,
        capabilities=capabilities,
        pin_image=pin_image,
    )
