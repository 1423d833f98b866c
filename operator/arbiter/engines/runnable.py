"""The values from which an engine's pod is made, and the pod itself as a value.

The rule: everything that changes what runs is in one of them, so that the same values give the same pod and with it
the same revision. Times are in seconds, memory is in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from arbiter.api.localmodel import Engine
from arbiter.api.modelpool import Capacity, Placement
from arbiter.api.pod import ResourceRequirements
from arbiter.engines.sources import ExternalSource, OciSource, parse_source, pinned, read_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.api.localmodel import EngineType, LocalModelSpec
    from arbiter.api.modelpool import Cache, ModelPoolSpec
    from arbiter.api.pod import EnvVar
    from arbiter.engines.sources import Source

Fields: TypeAlias = "dict[str, object]"
"""An object in Kubernetes' form: what JSON can say, with the field names of its API."""

VLLM_IMAGE: Final = "vllm/vllm-openai:v0.33.0"
"""Upstream's image, of one version: another one is another revision. Not run here, for want of a GPU."""

CONTAINER: Final = "engine"
"""The name of the container that serves, in every engine pod."""

FETCH_CONTAINER: Final = "fetch"
"""The name of the init container that downloads weights, where there is one."""

PROGRESS_PORT: Final = 9093
"""Where that container tells how far it is, while it runs."""


class PullPolicy(StrEnum):
    """When a node asks a registry for an image, in Kubernetes' words."""

    Always = "Always"
    IfNotPresent = "IfNotPresent"
    Never = "Never"


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the operator itself is set to, for all pools.

    Attributes:
        llama_server_image: the image of LlamaCpp engines.
        ollama_image: the image of Ollama engines.
        arbiter_image: the image whose program `arbiter fetch` downloads weights.
        vllm_image: the image of VLLM engines.
        gpu_images: the images of engines that are given GPUs, where that is another one. Our own LlamaCpp and Ollama
            images have no GPU support, so without an entry they are refused on GPUs, not run on the CPU in silence.
        pull_policy: when images are asked for, those of models as well.
        ollama_resources: what each Ollama container is given beside its memory, which is the pool's `capacity`.
        trusted: the ConfigMap of each namespace whose key `ca.crt` holds further authorities for downloads; empty for
            none.
        slots: requests that LlamaCpp and Ollama compute at a time for one model. Each has a context of its own, so
            more of them need more memory; the others wait in the server.
    """

    llama_server_image: str
    ollama_image: str
    arbiter_image: str
    vllm_image: str = VLLM_IMAGE
    gpu_images: Mapping[EngineType, str] = field(default_factory=dict)
    pull_policy: PullPolicy = PullPolicy.IfNotPresent
    ollama_resources: ResourceRequirements = field(default_factory=ResourceRequirements)
    trusted: str = ""
    slots: int = 1

    @staticmethod
    def of(registry: str, version: str) -> EngineSettings:
        """Take our own images from one registry, such as `arbiter.local`, in one version."""
        return EngineSettings(
            llama_server_image=f"{registry}/arbiter-llama-server:{version}",
            ollama_image=f"{registry}/arbiter-ollama:{version}",
            arbiter_image=f"{registry}/arbiter:{version}",
        )


@dataclass(frozen=True, slots=True)
class EnginePlace:
    """What a pool says about where and how its engines run.

    Attributes:
        placement: nodes, GPUs and runtime.
        capacity: what an engine that holds several models may use.
        cache: where downloaded weights are kept; `None`: with the pod.
        total_timeout_s: the longest that the pool's router lets a request take.
    """

    placement: Placement = field(default_factory=Placement)
    capacity: Capacity = field(default_factory=Capacity)
    cache: Cache | None = None
    total_timeout_s: float = 3600.0

    @staticmethod
    def of(spec: ModelPoolSpec) -> EnginePlace:
        """Take it from a pool."""
        return EnginePlace(spec.placement, spec.capacity, spec.cache, spec.router.limits.total_timeout.seconds)


@dataclass(frozen=True, slots=True)
class RunnableModel:
    """A model of which everything is known that its engine needs.

    Attributes:
        name: the LocalModel's name.
        engine: what runs it.
        source: where its weights come from, as resolved: a registry's image by digest, a hub's repository by commit.
        digest: what the source resolved to, as the source itself identifies it.
        sha256: the sum of its one file, if it is known.
        pull_secret: the Secret for its registry, or with the token for its hub.
        settings: image, arguments, environment, resources, port and startup deadline, as its owner wrote them.
        context_window: tokens in one request and its answer, as its owner wrote, else as its source shows; `None`: the
            server decides, and tells once it runs.
        memory: bytes that the running model needs, as its owner wrote, else estimated; `None`: not known.
        capabilities: what it can do, as its owner wrote and as its source shows.
    """

    name: str
    engine: EngineType
    source: Source
    digest: str
    sha256: str | None = None
    pull_secret: str | None = None
    settings: Engine = field(default_factory=Engine)
    context_window: int | None = None
    memory: int | None = None
    capabilities: frozenset[str] = frozenset()

    @staticmethod
    def of(  # noqa: PLR0913  the facts that status adds to a spec, all named
        name: str,
        spec: LocalModelSpec,
        *,
        engine: EngineType,
        digest: str | None = None,
        resolved: str | None = None,
        context_window: int | None = None,
        memory: int | None = None,
        capabilities: frozenset[str] = frozenset(),
        pin_image: bool = True,
    ) -> RunnableModel:
        """Take what the owner wrote, and of the rest what its source shows.

        Nothing that a running server told may come in: it would change the pod, so the revision, and the model would
        be swapped against itself.

        Args:
            name: the LocalModel's name.
            spec: what its owner wrote; it wins over what was found out.
            engine: what runs it, as `core.sources.infer_engine` decided.
            digest: what its source resolved to; a server elsewhere has none.
            resolved: the address that means this content for ever, as the resolver gave it back, where that is known.
                Without it an image is pinned by its digest, and a hub's repository by a digest that is a commit.
            context_window: tokens, as the source shows; the owner's figure wins. What is promised is what is served, so
                the server is given it.
            memory: bytes, as estimated from the source, never as measured; the owner's figure wins.
            capabilities: as the source shows them; the owner's are added.
            pin_image: whether a pod names an image by its digest. Without it the tag stays: a node does not find an
                image by digest that was loaded into it from an archive.

        Raises:
            InvalidInputError: the source cannot mean anything.
        """
        source = read_source(name, spec)
        identity = source.uri if digest is None or isinstance(source, ExternalSource) else digest
        if not isinstance(source, ExternalSource) and (pin_image or not isinstance(source, OciSource)):
            source = pinned(source, digest) if resolved is None else parse_source(resolved)
        return RunnableModel(
            name=name,
            engine=engine,
            source=source,
            digest=identity,
            sha256=spec.sha256,
            pull_secret=spec.pull_secret,
            settings=spec.engine or Engine(),
            context_window=spec.context_window or context_window,
            memory=memory if spec.memory is None else int(spec.memory),
            capabilities=capabilities | frozenset(spec.capabilities),
        )

    @property
    def only_embeds(self) -> bool:
        """Whether it gives vectors and no text, as far as is known."""
        return "embeddings" in self.capabilities and not self.capabilities & {"chat", "completion"}

    @property
    def env(self) -> tuple[EnvVar, ...]:
        """Its owner's environment variables."""
        return self.settings.env

    @property
    def resources(self) -> ResourceRequirements:
        """What its owner gives the container."""
        return self.settings.resources or ResourceRequirements()

    @property
    def startup_deadline_s(self) -> float:
        """How long its server may take until it answered, in seconds."""
        return self.settings.startup_deadline.seconds


@dataclass(frozen=True, slots=True)
class EnginePod:
    """How an engine runs.

    Attributes:
        spec: the pod's spec in Kubernetes' form, without labels. Nobody changes it: whoever adds to it copies it.
        port: the TCP port that its container serves on.
        shared: whether it serves all models of its kind in the pool, and its spec names none of them.
        model_options: what a shared engine is told when this model is made in it; empty elsewhere.
        progress_port: where its init container tells how far the download is; `None` without one.
    """

    spec: Mapping[str, object]
    port: int
    shared: bool = False
    model_options: Mapping[str, object] = field(default_factory=dict)
    progress_port: int | None = None
