"""What an Ollama server is asked about its models, and how they are brought, made, loaded and taken away.

The rule: every name is whole, with its tag, and what an answer says about a model is believed only under that name.
Digests are written as elsewhere, `sha256:…`, though Ollama leaves the beginning out in places. Times are in seconds.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from arbiter.engines.calls import Answer, Call, EngineRefusedError, EngineReplyError, error_said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arbiter.engines.calls import Reply

VERSION: Final = Call("GET", "/api/version")
"""Asks which version runs."""

TAGS: Final = Call("GET", "/api/tags")
"""Asks which models are in its store."""

PS: Final = Call("GET", "/api/ps")
"""Asks which models are in memory."""

FOR_EVER: Final = -1
"""The `keep_alive` of a model that stays until it is unloaded."""

_LINE_S: Final = 300.0
"""Seconds between two lines of a stream: while it checks a large file, it says nothing."""

_PLAIN_TEMPLATE: Final = "{{ .Prompt }}"
"""The template of a model that has none: it continues a text and knows no turns."""

_FILE: Final = re.compile(r"(?:FROM|ADAPTER) .*\bsha256-([0-9a-f]{64})\s*$")
"""A line of a model's description that names a file in the store."""

_RUNNER_OPTIONS: Final = frozenset({"num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread"})
"""Options of which a change makes the server load a model anew."""

_CAPABILITIES: Final[Mapping[str, str]] = {"embedding": "embeddings"}
"""Ollama's words that differ from ours."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model in the store.

    Attributes:
        name: its whole name.
        digest: its manifest's, as `sha256:…`.
        size: bytes on disk.
    """

    name: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        name: its whole name.
        digest: its manifest's, as `sha256:…`.
        size: bytes that it holds, on GPUs and beside them.
        size_vram: the part of them on GPUs.
        context_window: tokens of its context; `None` where the server does not say.
    """

    name: str
    digest: str
    size: int
    size_vram: int
    context_window: int | None


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """What the server knows about a model.

    Attributes:
        capabilities: what it can do, in our words.
        context_window: tokens that it was trained for; `None` where its file does not say.
        family: its architecture.
        parameters: how many, such as `134.52M`.
        quantization: how its weights are stored.
    """

    capabilities: frozenset[str]
    context_window: int | None
    family: str
    parameters: str
    quantization: str


@dataclass(frozen=True, slots=True)
class Runner:
    """What of a model decides how it is loaded: models that are equal in it are one in memory.

    Attributes:
        weights: the sum of its file.
        files: what belongs to it beside: what sees or hears, and changes to the weights.
        options: runner options, as `name value`.
    """

    weights: str
    files: tuple[str, ...]
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of a stream that says how far something is.

    Attributes:
        status: what is being done, in Ollama's words.
        digest: the layer that is being fetched; empty where it is none.
        total: its bytes; 0 where that is not said.
        completed: those that are here.
    """

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0

    @property
    def done(self) -> bool:
        """Whether it is the last line of one that succeeded."""
        return self.status == "success"


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What a model is made of that was uploaded.

    Attributes:
        files: GGUF files, by the name that Ollama is told: their sha256 sums. The weights, and what sees or hears.
        adapters: changes to the weights, the same.
        template: how turns become one text; empty where the weights' file says it.
        system: the message that every conversation begins with; empty without.
        licenses: their texts.
        messages: turns that every conversation begins with.
        parameters: runner options and stop words, as the library gives them.
        formats: `renderer`, `parser` and `requires` of the library's config, where it names them.
    """

    files: Mapping[str, str]
    adapters: Mapping[str, str] = field(default_factory=dict)
    template: str = ""
    system: str = ""
    licenses: Sequence[str] = ()
    messages: Sequence[object] = ()
    parameters: Mapping[str, object] = field(default_factory=dict)
    formats: Mapping[str, str] = field(default_factory=dict)


def show(model: str) -> Call:
    """Ask what is known about a model."""
    return Call("POST", "/api/show", {"model": model})


def pull(model: str, *, insecure: bool = False) -> Call:
    """Ask it to bring a model from a library; read its lines with `read_line`.

    Args:
        model: the whole name.
        insecure: its registry may be asked without TLS, and with a certificate that nobody vouches for.
    """
    body = {"model": model, "stream": True, **({"insecure": True} if insecure else {})}
    return Call("POST", "/api/pull", body, _LINE_S, streams=True)


def create_from(model: str, base: str, options: Mapping[str, object]) -> Call:
    """Ask it to make a model of one in its store, with runner options; its lines as with `pull`.

    Nothing is copied: both name the same layers. It brings the other one from a library first if that is not there.
    """
    return _create(model, {"from": base}, options)


def create_of(model: str, made_of: Ingredients, options: Mapping[str, object]) -> Call:
    """Ask it to make a model of files that were uploaded before; its lines as with `pull`. Our options win."""
    told: dict[str, object] = {
        "adapters": _digests(made_of.adapters),
        "template": made_of.template,
        "system": made_of.system,
        "license": list(made_of.licenses),
        "messages": list(made_of.messages),
        **made_of.formats,
    }
    given = {name: value for name, value in told.items() if value}
    return _create(model, {"files": _digests(made_of.files), **given}, {**made_of.parameters, **options})


def has_blob(sha256: str) -> Call:
    """Ask whether a file was uploaded: 200 or 404, without a body."""
    return Call("HEAD", f"/api/blobs/sha256:{sha256}")


def upload_path(sha256: str) -> str:
    """Give the path to which a file's bytes are posted; the answer is 201."""
    return f"/api/blobs/sha256:{sha256}"


def preload(model: str, deadline_s: float, *, only_embeds: bool = False) -> Call:
    """Ask it to load a model and keep it. An empty prompt computes nothing; read with `read_loaded`."""
    body: dict[str, object] = {"model": model, "keep_alive": FOR_EVER}
    if only_embeds:
        return Call("POST", "/api/embed", {**body, "input": []}, deadline_s)
    return Call("POST", "/api/generate", {**body, "stream": False}, deadline_s)


def unload(model: str) -> Call:
    """Ask it to take a model out of memory once it is idle; `PS` shows when it is gone."""
    return Call("POST", "/api/generate", {"model": model, "keep_alive": 0, "stream": False})


def delete(model: str) -> Call:
    """Ask it to take a model out of its store, with the layers that no other model has; 404 if it is not there.

    What is in memory stays there, for ever if it was told so (seen with 0.17.4): unload it first.
    """
    return Call("DELETE", "/api/delete", {"model": model})


def read_version(reply: Reply) -> str:
    """Read which version runs; raises EngineReplyError."""
    return reply.parse().text("version")


def read_tags(reply: Reply) -> tuple[StoredModel, ...]:
    """Read which models are in the store; raises EngineReplyError."""
    return tuple(
        StoredModel(one.text("name"), _digest(one), one.count("size")) for one in reply.parse().parts("models")
    )


def read_ps(reply: Reply) -> tuple[LoadedModel, ...]:
    """Read which models are in memory; raises EngineReplyError."""
    return tuple(
        LoadedModel(
            name=one.text("name"),
            digest=_digest(one),
            size=one.count("size"),
            size_vram=one.count("size_vram", 0),
            context_window=one.count("context_length", 0) or None,
        )
        for one in reply.parse().parts("models")
    )


def read_show(reply: Reply) -> ModelDetails:
    """Read what is known about a model; raises EngineReplyError."""
    answer = reply.parse()
    details, info = answer.part("details"), answer.part("model_info")
    windows = [info.count(name) for name in info.names() if name.endswith(".context_length")]
    return ModelDetails(
        capabilities=_capabilities(answer),
        context_window=windows[0] if windows and windows[0] else None,
        family=details.text("family", ""),
        parameters=details.text("parameter_size", ""),
        quantization=details.text("quantization_level", ""),
    )


def read_runner(reply: Reply) -> Runner:
    """Read what a model is loaded as, from the answer to `show`; raises EngineReplyError."""
    answer = reply.parse()
    files = tuple(match[1] for line in answer.text("modelfile").splitlines() if (match := _FILE.match(line)))
    if not files:
        raise EngineReplyError(reply.asked, "the answer names no file of weights")
    lines = (" ".join(line.split()) for line in answer.text("parameters", "").splitlines())
    options = tuple(sorted(line for line in lines if line.partition(" ")[0] in _RUNNER_OPTIONS))
    return Runner(files[0], tuple(sorted(files[1:])), options)


def read_loaded(reply: Reply) -> None:
    """Read that a model was loaded.

    Raises:
        EngineRefusedError: it was not; 404 for a model that is not there, 500 for one that does not fit.
        EngineReplyError: the answer is something else.
    """
    answer = reply.parse()
    if not answer.has("embeddings") and answer.text("done_reason", "") != "load":
        raise EngineReplyError(reply.asked, "the answer does not say that the model was loaded")


def read_unloaded(reply: Reply) -> None:
    """Read that a model is on its way out of memory; raises as `read_loaded` does."""
    if reply.parse().text("done_reason", "") != "unload":
        raise EngineReplyError(reply.asked, "the answer does not say that the model was unloaded")


def read_line(line: bytes, asked: str) -> Progress:
    """Read one line of a stream.

    Raises:
        EngineRefusedError: it says an error, which such a stream does under status 200 as well.
        EngineReplyError: it is something else.
    """
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EngineReplyError(asked, f"a line of the stream is not JSON: {error}") from error
    if isinstance(parsed, dict) and "error" in parsed:
        raise EngineRefusedError(asked, 200, error_said(parsed))
    answer = Answer(parsed, asked)
    return Progress(
        answer.text("status"), answer.text("digest", ""), answer.count("total", 0), answer.count("completed", 0)
    )


def whole_name(name: str) -> str:
    """Give a name as `TAGS` and `PS` show it: with the tag that is meant where none is given."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _create(model: str, origin: Mapping[str, object], options: Mapping[str, object]) -> Call:
    parameters = {"parameters": dict(options)} if options else {}
    return Call("POST", "/api/create", {"model": model, **origin, **parameters, "stream": True}, _LINE_S, streams=True)


def _digests(sums: Mapping[str, str]) -> dict[str, str]:
    return {name: f"sha256:{each}" for name, each in sums.items()}


def _digest(one: Answer) -> str:
    digest = one.text("digest")
    return digest if digest.startswith("sha256:") else f"sha256:{digest}"


def _capabilities(answer: Answer) -> frozenset[str]:
    said = {_CAPABILITIES.get(word, word) for word in answer.texts("capabilities")}
    if "completion" in said:
        said.add("json")  # the server forces any schema upon any model
        if answer.text("template", _PLAIN_TEMPLATE) != _PLAIN_TEMPLATE:
            said.add("chat")
    return frozenset(said)
