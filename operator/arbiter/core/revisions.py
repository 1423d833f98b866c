"""Freezes what a revision runs, once, and reads it back: engines are rendered from the frozen form alone.

Rule: a revision is written before anything of it starts and never again. So an operator of another version, a
LocalModel that went and a tag that moved change nothing that serves; they make a revision of another name at most.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from arbiter.api.localmodel import EngineType
from arbiter.core.manifests import names
from arbiter.core.routes import Backend
from arbiter.core.stored import Stored
from arbiter.engines.ollama_pod import is_carried, ollama_pod
from arbiter.engines.pod_parts import PLACEMENT_FIELDS
from arbiter.engines.pods import render_pod, revision_of, served_name
from arbiter.engines.runnable import EnginePlace, EnginePod, PullPolicy, RunnableModel
from arbiter.engines.sources import ExternalSource
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arbiter.api.localmodel import LocalModel
    from arbiter.api.modelpool import ModelPool
    from arbiter.core.snapshot import OperatorSettings

_VERSION: Final = 1
"""Version of the frozen form; one that is not known is refused, not half understood."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What is needed beside the source to carry a model into a shared engine.

    Attributes:
        sha256: the sum that its file must have; empty: as the source says.
        pull_secret: name of the Secret that its source wants to see; empty for none.
    """

    sha256: str = ""
    pull_secret: str = ""


@dataclass(frozen=True, slots=True)
class FrozenRevision:
    """A model as it really runs.

    Attributes:
        revision: ten hexadecimal digits.
        model: the LocalModel that it was made from.
        digest: what its source resolved to.
        engine: what serves it.
        served: its name at its server.
        source: where its weights come from, as an address; as resolved where the source allows that.
        pod: the spec of its engine's pod without placement; empty for what has no pod of its own.
        port: the TCP port that its server listens on; 0 the same.
        options: what a shared engine makes it with.
        carried: how a Job brings it there; None for what a shared engine pulls itself, and for what is in none.
        url: base address of a server elsewhere; empty for what runs in the pool.
        key: name of the key that this server wants to see, or None.
        capabilities: what it can do.
        context_window: tokens in a request and its answer, if known.
        memory: bytes that it needs, if known.
        startup_s: seconds that its server may take until it answered.
    """

    revision: str
    model: str
    digest: str
    engine: EngineType
    served: str
    source: str
    pod: Mapping[str, Any] = field(default_factory=dict)
    port: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    carried: Carried | None = None
    url: str = ""
    key: str | None = None
    capabilities: tuple[str, ...] = ()
    context_window: int | None = None
    memory: int | None = None
    startup_s: int = 1800

    @property
    def elsewhere(self) -> bool:
        """Whether it runs outside of the cluster."""
        return self.engine is EngineType.External

    @property
    def shared(self) -> bool:
        """Whether it is loaded into the engine that the pool's Ollama models share."""
        return self.engine is EngineType.Ollama

    @property
    def only_embeds(self) -> bool:
        """Whether it gives vectors and no text, as far as is known."""
        return "embeddings" in self.capabilities and not {"chat", "completion"} & set(self.capabilities)

    def engine_name(self, pool: str) -> str:
        """Name of its Deployment and Service; empty for what runs elsewhere."""
        if self.elsewhere:
            return ""
        return names.shared_engine_name(pool) if self.shared else names.engine_name(pool, self.revision)

    def backend(self, pool: str) -> Backend:
        """Give it as routers are told of it."""
        if self.elsewhere:
            return Backend(self.revision, self.served, self.engine, None, (self.url,), self.key)
        return Backend(self.revision, self.served, self.engine, self.engine_name(pool))

    def to_fields(self) -> dict[str, Any]:
        """The form that is stored."""
        carried = self.carried
        return {
            **({} if carried is None else {"sha256": carried.sha256, "pullSecret": carried.pull_secret}),
            "version": _VERSION,
            "revision": self.revision,
            "model": self.model,
            "digest": self.digest,
            "engine": self.engine.value,
            "served": self.served,
            "source": self.source,
            "pod": dict(self.pod),
            "port": self.port,
            "options": dict(self.options),
            "url": self.url,
            "key": self.key or "",
            "capabilities": list(self.capabilities),
            "contextWindow": self.context_window or 0,
            "memory": self.memory or 0,
            "startupSeconds": self.startup_s,
        }

    @staticmethod
    def read(fields: object, path: str) -> FrozenRevision:
        """Read back what `to_fields` wrote.

        Raises:
            CorruptStateError: it is not that; names the field.
        """
        stored = Stored(fields, path)
        _refuse_other_version(stored)
        if (engine := stored.text("engine")) not in set(EngineType):
            raise CorruptStateError(f"{path}.engine must be one of {', '.join(EngineType)}")
        frozen = FrozenRevision(
            revision=stored.text("revision"),
            model=stored.text("model"),
            digest=stored.text("digest"),
            engine=EngineType(engine),
            served=stored.text("served"),
            source=stored.text("source"),
            pod=_object(stored, "pod"),
            port=stored.integer("port"),
            options=_object(stored, "options"),
            carried=Carried(stored.text("sha256"), stored.text("pullSecret")) if "sha256" in stored.names() else None,
            url=stored.text("url"),
            key=stored.text("key") or None,
            capabilities=tuple(str(each) for each in stored.items("capabilities")),
            context_window=stored.integer("contextWindow") or None,
            memory=stored.integer("memory") or None,
            startup_s=stored.integer("startupSeconds"),
        )
        stored.done()
        return frozen


@dataclass(frozen=True, slots=True)
class FrozenShared:
    """The engine that a pool's Ollama models share, as it really runs.

    Attributes:
        pod: the spec of its pod without placement.
        port: the TCP port that it listens on.
        reserved: bytes of memory that its node keeps for it where the pool names no capacity; 0 where it does. It is
            no part of how it runs, so models that come later change no revision.
    """

    pod: Mapping[str, Any]
    port: int
    reserved: int = 0

    def to_fields(self) -> dict[str, Any]:
        """The form that is stored."""
        reserved = {"reserved": self.reserved} if self.reserved else {}
        return {"version": _VERSION, "pod": dict(self.pod), "port": self.port, **reserved}

    @staticmethod
    def read(fields: object, path: str) -> FrozenShared:
        """Read back what `to_fields` wrote.

        Raises:
            CorruptStateError: it is not that; names the field.
        """
        stored = Stored(fields, path)
        _refuse_other_version(stored)
        reserved = stored.integer("reserved") if "reserved" in stored.names() else 0
        shared = FrozenShared(_object(stored, "pod"), stored.integer("port"), reserved)
        stored.done()
        return shared


def render(
    pool: ModelPool, model: LocalModel, settings: OperatorSettings, shared: FrozenShared | None = None
) -> FrozenRevision:
    """Give a resolved LocalModel as it would run in the pool now.

    Args:
        pool: where it would run.
        model: the LocalModel.
        settings: of the operator.
        shared: the engine that the pool's Ollama models share, if it runs already: it is what such a model would run
            in, however the operator would start one today.

    Raises:
        InvalidInputError: what was written contradicts itself; names the field.
        CorruptStateError: the model's status does not say what runs it.
    """
    status = model.status
    if status.engine is None:
        raise CorruptStateError(f"the status of LocalModel {model.metadata.name} names no engine")
    runnable = RunnableModel.of(
        model.metadata.name,
        model.spec,
        engine=status.engine.type,
        digest=status.digest,
        context_window=status.context_window,
        memory=None if status.memory is None else int(status.memory),
        capabilities=frozenset(status.capabilities),
        # A node does not find an image by its digest that was loaded into it from an archive.
        pin_image=settings.engines.pull_policy is not PullPolicy.Never,
    )
    pod = render_pod(runnable, EnginePlace.of(pool.spec), settings.engines)
    carried = None
    if pod is not None and pod.shared:
        if is_carried(runnable):
            carried = Carried(runnable.sha256 or "", runnable.pull_secret or "")
        if shared is not None:
            pod = EnginePod(shared.pod, shared.port, shared=True, model_options=pod.model_options)
    # A sum that was written beside a source decides as well what may run.
    sums = (carried.sha256,) if carried is not None and carried.sha256 else ()
    revision = revision_of(pod, " ".join((runnable.digest, *sums)))
    external = runnable.source if isinstance(runnable.source, ExternalSource) else None
    own = pod if pod is not None and not pod.shared else None
    return FrozenRevision(
        revision=revision,
        model=runnable.name,
        digest=runnable.digest,
        engine=runnable.engine,
        served=served_name(runnable, revision),
        source=runnable.source.uri,
        pod={} if own is None else _unplaced(own),
        port=0 if own is None else own.port,
        options={} if pod is None else dict(pod.model_options),
        carried=carried,
        url="" if external is None else external.url,
        key=None if external is None else external.key_secret,
        capabilities=tuple(sorted(runnable.capabilities)),
        context_window=runnable.context_window,
        memory=runnable.memory,
        startup_s=int(runnable.startup_deadline_s),
    )


def render_shared(pool: ModelPool, settings: OperatorSettings, needs: Iterable[int | None] = ()) -> FrozenShared:
    """Give the engine that the pool's Ollama models would share if it were started now.

    Args:
        pool: the pool.
        settings: of the operator.
        needs: bytes that each of its models needs, as far as that is known.

    Raises:
        InvalidInputError: the pool asks for what the operator has no image for; names the field.
    """
    pod = ollama_pod(EnginePlace.of(pool.spec), settings.engines)
    capacity = pool.spec.capacity
    largest = sorted((need for need in needs if need is not None), reverse=True)[: capacity.max_loaded_models]
    return FrozenShared(_unplaced(pod), pod.port, sum(largest) if capacity.memory is None else 0)


def controller_revision(pool: ModelPool, frozen: FrozenRevision | FrozenShared) -> dict[str, Any]:
    """Give the object that keeps a frozen form; the API server lets nobody change its data."""
    name = pool.metadata.name
    if isinstance(frozen, FrozenRevision):
        labels = names.engine_selector(name, frozen.revision)
        kept = names.engine_name(name, frozen.revision)
    else:
        labels = names.shared_engine_selector(name)
        kept = names.shared_engine_name(name)
    owner = names.owner_of("ModelPool", pool.metadata)
    return names.manifest("ControllerRevision", kept, owner, labels, data=frozen.to_fields(), revision=1)


def _unplaced(pod: EnginePod) -> dict[str, Any]:
    return {name: part for name, part in pod.spec.items() if name not in PLACEMENT_FIELDS}


def _object(stored: Stored, name: str) -> dict[str, Any]:
    value = stored.take(name)
    if not isinstance(value, dict):
        raise CorruptStateError(f"{stored.path}.{name} must be an object")
    return value


def _refuse_other_version(stored: Stored) -> None:
    if (found := stored.integer("version")) != _VERSION:
        raise CorruptStateError(f"{stored.path}.version is {found}, and only {_VERSION} can be read")
