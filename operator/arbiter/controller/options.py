"""What an operator is told on its command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import arbiter
from arbiter.api.localmodel import EngineType
from arbiter.core.snapshot import OperatorSettings
from arbiter.engines.runnable import VLLM_IMAGE, EngineSettings, PullPolicy

if TYPE_CHECKING:
    from pathlib import Path

REGISTRY = "ghcr.io/arbiter-dev"
"""Where our own images lie."""

OLLAMA_IMAGE = "docker.io/ollama/ollama:0.32.2"
"""Upstream's image. Versions up to 0.20.2 have known vulnerabilities."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line of an operator.

    Attributes:
        namespaces: those whose pools it serves; empty for all.
        namespace: the one that it runs in, where its Lease is.
        identity: what it is called, in the Lease and in events; empty for the machine's name.
        kubeconfig: how the cluster is reached; None inside it.
        host: the address of its own port.
        port: for probes and metrics.
        log_format: `json` or `text`.
        cluster_domain: behind the names of Services.
        image: of `arbiter` itself.
        llama_server_image: of LlamaCpp engines.
        ollama_image: of Ollama engines.
        vllm_image: of VLLM engines.
        llama_server_gpu_image: of LlamaCpp engines that get GPUs; empty to refuse them there.
        ollama_gpu_image: of Ollama engines that get GPUs; the same.
        pull_policy: when a node pulls images.
        plain_http: registries of models that are asked without TLS.
        trust_config_map: the ConfigMap of each namespace whose key `ca.crt` holds further authorities for sources.
    """

    namespaces: tuple[str, ...] = ()
    namespace: str = "arbiter-system"
    identity: str = ""
    kubeconfig: Path | None = None
    host: str = "0.0.0.0"  # noqa: S104  the kubelet and Prometheus come from other addresses
    port: int = 8081
    log_format: str = "json"
    cluster_domain: str = "cluster.local"
    image: str = f"{REGISTRY}/arbiter:{arbiter.__version__}"
    llama_server_image: str = f"{REGISTRY}/arbiter-llama-server:{arbiter.__version__}"
    ollama_image: str = OLLAMA_IMAGE
    vllm_image: str = VLLM_IMAGE
    llama_server_gpu_image: str = ""
    ollama_gpu_image: str = ""
    pull_policy: PullPolicy = PullPolicy.IfNotPresent
    plain_http: tuple[str, ...] = ()
    trust_config_map: str = ""

    def settings(self, epoch: int) -> OperatorSettings:
        """What of it plans are made of.

        Args:
            epoch: of this leadership.
        """
        gpus = {EngineType.LlamaCpp: self.llama_server_gpu_image, EngineType.Ollama: self.ollama_gpu_image}
        engines = EngineSettings(
            llama_server_image=self.llama_server_image,
            ollama_image=self.ollama_image,
            arbiter_image=self.image,
            vllm_image=self.vllm_image,
            gpu_images={engine: image for engine, image in gpus.items() if image},
            pull_policy=self.pull_policy,
            trusted=self.trust_config_map,
        )
        return OperatorSettings(self.image, engines, self.namespace, epoch, self.cluster_domain, self.plain_http)
