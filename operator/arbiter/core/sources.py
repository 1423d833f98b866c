"""Decides which kind of model server runs a model, and says why in a sentence.

What a model's owner wrote wins; left out, the source tells. Combinations that cannot work are refused here by the
field that should change, also those that the API server refuses, because an object may be older than its rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arbiter.api.localmodel import EngineType, InferredEngine
from arbiter.engines.sources import (
    IMAGE_MODEL_PATH,
    ClaimSource,
    ExternalSource,
    HttpsSource,
    HubSource,
    OciSource,
    OllamaSource,
    file_of,
    read_source,
)
from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from arbiter.api.localmodel import Engine, LocalModelSpec
    from arbiter.engines.sources import Source

NOT_GGUF: Final = (
    ".bin", ".ckpt", ".gz", ".h5", ".json", ".mlmodel", ".onnx", ".pdf", ".pt", ".pth", ".safetensors", ".tar", ".tgz",
    ".txt", ".zip", ".zst",
)  # fmt: skip
"""Endings of files that are certainly no GGUF model."""

_TYPE = "spec.engine.type"
_SOURCE = "spec.source"


def infer_engine(name: str, spec: LocalModelSpec) -> InferredEngine:
    """Decide what runs a model.

    Args:
        name: the LocalModel's name.
        spec: what its owner wrote.

    Returns:
        The kind of server and the reason as a sentence, in the form of the model's status.

    Raises:
        InvalidInputError: the source, or source and engine together, cannot work; names the field to change.
    """
    source = read_source(name, spec)
    wanted = None if spec.engine is None else spec.engine.type
    if wanted is None:
        inferred = _from_source(source)
    else:
        _refuse_mismatch(wanted, source)
        inferred = InferredEngine(type=wanted, message=f"{_TYPE} asks for {wanted}.")
    if spec.engine is not None:
        _refuse_settings(inferred.type, spec.engine)
    return inferred


def _from_source(source: Source) -> InferredEngine:
    match source:
        case ExternalSource():
            return _said(EngineType.External, f"The model runs at {source.url}; spec.external says so.")
        case OllamaSource():
            return _said(EngineType.Ollama, "The source is an Ollama library's, which no other server reads.")
        case OciSource():
            return _from_image(source)
        case HubSource():
            if source.path is None:
                return _said(
                    EngineType.VLLM, "The source is a whole repository of the hub, which vLLM loads as it stands."
                )
            return _from_file(source.path)
        case HttpsSource() | ClaimSource():
            return _from_file(source.path)


def _from_image(source: OciSource) -> InferredEngine:
    if source.path is None:
        return _said(
            EngineType.LlamaCpp,
            f"The source is an image without #path, so its file /{IMAGE_MODEL_PATH} is taken, and llama-server reads "
            "that.",
        )
    if _is_gguf(source.path):
        return _from_file(source.path)
    _refuse_other_file(source.path, EngineType.LlamaCpp)
    return _said(
        EngineType.LlamaCpp,
        f"The source is an image, and /{source.path} in it is taken for a GGUF file, which llama-server reads.",
    )


def _from_file(path: str) -> InferredEngine:
    if _is_gguf(path):
        return _said(EngineType.LlamaCpp, "The source is one GGUF file, which llama-server reads.")
    raise InvalidInputError(
        _TYPE,
        f"must be given: {_last(path)} does not end in .gguf, so the source does not say what runs it; "
        "LlamaCpp or Ollama for a GGUF file, VLLM for a folder of safetensors, Custom for anything else",
    )


def _refuse_mismatch(wanted: EngineType, source: Source) -> None:
    """Refuse a source that the wanted server cannot read."""
    if (wanted == EngineType.External) != isinstance(source, ExternalSource):
        raise InvalidInputError(_TYPE, "must be External exactly where spec.external is given; leave it out otherwise")
    if isinstance(source, OllamaSource) and wanted != EngineType.Ollama:
        raise InvalidInputError(
            _TYPE, "must be Ollama for an ollama:// source: the other servers cannot read an Ollama library"
        )
    match wanted:
        case EngineType.LlamaCpp | EngineType.Ollama:
            _refuse_without_file(wanted, source)
        case EngineType.VLLM:
            _refuse_single_file(source)
        case EngineType.External | EngineType.Custom:
            pass


def _refuse_without_file(wanted: EngineType, source: Source) -> None:
    if isinstance(source, HubSource) and source.path is None:
        raise InvalidInputError(
            _SOURCE, f"must name one file of the repository for {wanted}: hf://organisation/repository/file.gguf"
        )
    path = file_of(source)
    if path is not None:
        _refuse_other_file(path, wanted)


def _refuse_single_file(source: Source) -> None:
    """VLLM loads folders; of single files it can load GGUF, with a tokenizer named in `engine.args`."""
    if isinstance(source, HttpsSource) and not _is_gguf(source.path):
        raise InvalidInputError(
            _TYPE, "must not be VLLM for an https:// source: that is one file, and VLLM loads a folder"
        )
    path = file_of(source)
    if path is not None and path.casefold().endswith(NOT_GGUF):
        raise InvalidInputError(
            _SOURCE, f"must name the folder that holds {_last(path)} for VLLM, which reads its configuration there too"
        )


def _refuse_other_file(path: str, wanted: EngineType) -> None:
    if path.casefold().endswith(NOT_GGUF):
        raise InvalidInputError(_SOURCE, f"must name a GGUF file for {wanted}, which cannot read {_last(path)}")


def _refuse_settings(kind: EngineType, engine: Engine) -> None:
    """Refuse settings that would be dropped: a server elsewhere takes none, and a shared one none for one model."""
    if kind == EngineType.Custom and engine.image is None:
        raise InvalidInputError("spec.engine.image", "is required for Custom: Arbiter has no default image for it")
    why = {
        EngineType.External: "Arbiter does not start a server that runs elsewhere",
        EngineType.Ollama: "one Ollama server holds all such models of a pool, so it cannot be set for one of them",
    }.get(kind)
    if why is None:
        return
    given = {
        "image": engine.image is not None,
        "args": bool(engine.args),
        "env": bool(engine.env),
        "port": engine.port is not None,
        "resources": kind == EngineType.External and engine.resources is not None,
    }
    for field, is_given in given.items():
        if is_given:
            raise InvalidInputError(f"spec.engine.{field}", f"must be left out for {kind}: {why}")


def _is_gguf(path: str) -> bool:
    return path.casefold().endswith(".gguf")


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _said(kind: EngineType, message: str) -> InferredEngine:
    return InferredEngine(type=kind, message=message)
