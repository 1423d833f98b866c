"""Which kind of server runs a model, and why."""

from __future__ import annotations

from typing import Any

import pytest

from arbiter.api.localmodel import EngineType, LocalModelSpec
from arbiter.core.sources import infer_engine
from arbiter.errors import InvalidInputError

SUM = "0123456789abcdef" * 4
EXTERNAL = {"external": {"url": "http://mac.example:11434"}}


def spec(**fields: Any) -> LocalModelSpec:  # noqa: ANN401  as in a manifest
    """Build a spec as the manifest has it; the API server's rules are not asked."""
    return LocalModelSpec.model_validate(fields)


def source(text: str, kind: str | None = None, **engine: Any) -> dict[str, Any]:  # noqa: ANN401  as in a manifest
    """Give the fields of a model with a source, and with an engine if anything of it is given."""
    settings = {**({"type": kind} if kind else {}), **engine}
    return {"source": text, "sha256": SUM, **({"engine": settings} if settings else {})}


INFERRED = [
    pytest.param(source("ollama://smollm2:135m"), EngineType.Ollama, "an Ollama library's", id="ollama"),
    pytest.param(source("hf://a/b/c.gguf"), EngineType.LlamaCpp, "one GGUF file", id="a file of a hub"),
    pytest.param(source("https://f.example/C.GGUF"), EngineType.LlamaCpp, "one GGUF file", id="an address"),
    pytest.param(source("pvc://m/a.gguf"), EngineType.LlamaCpp, "one GGUF file", id="a file of a claim"),
    pytest.param(source("hf://a/b"), EngineType.VLLM, "a whole repository", id="a repository"),
    pytest.param(source("oci://r.example/m:1"), EngineType.LlamaCpp, "its file /model.gguf is taken", id="an image"),
    pytest.param(source("oci://r.example/m:1#/a.gguf"), EngineType.LlamaCpp, "one GGUF file", id="a file of an image"),
    pytest.param(
        source("oci://r.example/m:1#/weights"), EngineType.LlamaCpp, "/weights in it is taken", id="something of one"
    ),
    pytest.param(EXTERNAL, EngineType.External, "http://mac.example:11434", id="a server elsewhere"),
    pytest.param(
        source("hf://a/b/c.gguf", startupDeadline="5m"), EngineType.LlamaCpp, "one GGUF file", id="engine, no type"
    ),
]


@pytest.mark.parametrize(("fields", "want", "want_words"), INFERRED)
def test_the_source_tells_what_runs_it(fields: dict[str, Any], want: EngineType, want_words: str) -> None:
    """The reason is a sentence for the model's status."""
    inferred = infer_engine("m", spec(**fields))
    assert inferred.type == want
    assert want_words in inferred.message
    assert inferred.message.endswith(".")


ASKED = [
    ("ollama://a:b", "Ollama"),
    ("hf://a/b/c.gguf", "Ollama"),
    ("pvc://m/blob", "LlamaCpp"),
    ("pvc://m/folder", "VLLM"),
    ("pvc://m/a.gguf", "VLLM"),
    ("https://f.example/m.gguf", "VLLM"),
    ("https://f.example/download", "LlamaCpp"),
    ("oci://r.example/m:1", "VLLM"),
    ("oci://r.example/m:1#/qwen", "VLLM"),
    ("oci://r.example/m:1", "Ollama"),
    ("hf://a/b", "VLLM"),
    ("hf://a/b", "Custom"),
    ("https://f.example/m.onnx", "Custom"),
    ("pvc://m/weights.safetensors", "Custom"),
]


@pytest.mark.parametrize(("text", "kind"), ASKED)
def test_what_the_owner_asks_for_wins(text: str, kind: str) -> None:
    """Wherever it can work."""
    image = {"image": "mine:1"} if kind == "Custom" else {}
    inferred = infer_engine("m", spec(**source(text, kind, **image)))
    assert (inferred.type, inferred.message) == (kind, f"spec.engine.type asks for {kind}.")


def test_a_server_elsewhere_may_be_named_as_such() -> None:
    """It says the same twice."""
    assert infer_engine("m", spec(**EXTERNAL, engine={"type": "External"})).type == EngineType.External


TYPE, SOURCE = "spec.engine.type", "spec.source"

IMPOSSIBLE = [
    pytest.param({}, "spec", "exactly one", id="no source at all"),
    pytest.param({"source": "ftp://a"}, SOURCE, "must be ollama://", id="no source that is one"),
    pytest.param(EXTERNAL | {"engine": {"type": "Ollama"}}, TYPE, "must be External", id="a server elsewhere, started"),
    pytest.param(source("hf://a/b", "External"), TYPE, "must be External", id="a source, not started"),
    pytest.param(source("ollama://a:b", "LlamaCpp"), TYPE, "must be Ollama", id="ollama in llama-server"),
    pytest.param(source("ollama://a:b", "VLLM"), TYPE, "must be Ollama", id="ollama in vllm"),
    pytest.param(source("ollama://a:b", "Custom", image="i"), TYPE, "must be Ollama", id="ollama in something else"),
    pytest.param(source("hf://a/b", "LlamaCpp"), SOURCE, "must name one file", id="a repository in llama-server"),
    pytest.param(source("hf://a/b", "Ollama"), SOURCE, "must name one file", id="a repository in ollama"),
    pytest.param(
        source("hf://a/b/c.safetensors", "LlamaCpp"), SOURCE, "cannot read c.safetensors", id="safetensors there"
    ),
    pytest.param(source("pvc://m/a.bin", "Ollama"), SOURCE, "cannot read a.bin", id="another file in ollama"),
    pytest.param(source("oci://r.example/m:1#/a.pt"), SOURCE, "cannot read a.pt", id="another file of an image"),
    pytest.param(
        source("https://f.example/m.safetensors", "VLLM"), TYPE, "must not be VLLM", id="one file of an address in vllm"
    ),
    pytest.param(
        source("hf://a/b/c.safetensors", "VLLM"), SOURCE, "the folder that holds c.safetensors", id="one file in vllm"
    ),
    pytest.param(source("hf://a/b/c.safetensors"), TYPE, "must be given", id="a file that says nothing"),
    pytest.param(source("https://f.example/download"), TYPE, "must be given", id="an address that says nothing"),
    pytest.param(source("pvc://m/folder"), TYPE, "must be given", id="a place that says nothing"),
    pytest.param({"source": "https://f.example/m.gguf"}, "spec.sha256", "required", id="an address without a sum"),
    pytest.param(source("hf://a/b", "Custom"), "spec.engine.image", "is required", id="custom without an image"),
    pytest.param(
        source("ollama://a:b", image="mine:1"), "spec.engine.image", "one Ollama server holds all", id="ollama's image"
    ),
    pytest.param(source("ollama://a:b", args=["-v"]), "spec.engine.args", "left out", id="ollama's arguments"),
    pytest.param(
        source("ollama://a:b", env=[{"name": "A", "value": "1"}]), "spec.engine.env", "left out", id="its variables"
    ),
    pytest.param(source("ollama://a:b", port=1), "spec.engine.port", "left out", id="ollama's port"),
    pytest.param(
        EXTERNAL | {"engine": {"resources": {"limits": {"cpu": 1}}}},
        "spec.engine.resources",
        "does not start",
        id="resources elsewhere",
    ),
    pytest.param(EXTERNAL | {"engine": {"image": "mine:1"}}, "spec.engine.image", "left out", id="an image elsewhere"),
]


@pytest.mark.parametrize(("fields", "want_field", "want_words"), IMPOSSIBLE)
def test_what_cannot_work_is_refused_by_the_field_to_change(
    fields: dict[str, Any], want_field: str, want_words: str
) -> None:
    """Nothing is dropped in silence: a setting that would have no effect is refused as well."""
    with pytest.raises(InvalidInputError) as caught:
        infer_engine("m", spec(**fields))
    assert caught.value.field == want_field
    assert want_words in caught.value.problem


def test_resources_of_an_ollama_model_are_its_threads() -> None:
    """They are the only setting of the engine that one model in a shared server can have."""
    fields = source("ollama://a:b", resources={"limits": {"cpu": 2}})
    assert infer_engine("m", spec(**fields)).type == EngineType.Ollama
