"""What a model's files tell: named only where they show it."""

from __future__ import annotations

import io

import pytest

from arbiter.fetch.findings import Findings, from_config, from_gguf, from_template, is_no_model, parameters_text, spdx
from arbiter.fetch.gguf import Header, read
from tests.unit.fetch.gguf_example import gguf, model


def header(**values: object) -> Header:
    """Read the header of a model with further values."""
    return read(io.BytesIO(model(0, **values)).read)


def test_a_model_with_a_template_chats_and_uses_the_tools_that_it_names() -> None:
    """The template is what makes a model answer to messages."""
    told = from_gguf(header())

    assert told == Findings(
        "gguf", 8192, 7_000_000, "Q4_K_M", "llama", "Apache-2.0", frozenset({"chat", "completion", "tools"})
    )


@pytest.mark.parametrize(
    ("values", "want"),
    [
        pytest.param({"general__architecture": "bert"}, {"embeddings"}, id="an encoder"),
        pytest.param({"llama__pooling_type": 1}, {"embeddings"}, id="mean pooling"),
        pytest.param({"llama__pooling_type": 4}, {"rerank"}, id="a ranker"),
        pytest.param({"llama__pooling_type": 0}, {"chat", "completion", "tools"}, id="no pooling"),
        pytest.param({"llama__vision.block_count": 2}, {"chat", "completion", "tools", "vision"}, id="with eyes"),
        pytest.param({"general__architecture": "clip"}, set(), id="eyes alone"),
    ],
)
def test_capabilities_follow_from_what_the_file_is(values: dict[str, object], want: set[str]) -> None:
    """Whatever is named may be asked of the model, so less is better than more."""
    assert from_gguf(header(**values)).capabilities == frozenset(want)


@pytest.mark.parametrize(
    ("values", "want"),
    [
        pytest.param({"general__architecture": "clip"}, True, id="eyes"),
        pytest.param({"general__type": "adapter"}, True, id="an adapter"),
        pytest.param({}, False, id="a model"),
    ],
)
def test_a_file_that_goes_with_a_model_is_none(values: dict[str, object], want: bool) -> None:
    """A server could not answer with it."""
    assert is_no_model(header(**values)) is want


def test_without_a_file_type_most_of_the_weights_tell() -> None:
    """Type 12 is Q4_K; an unknown one is not guessed at."""
    assert from_gguf(read(io.BytesIO(gguf({}, {"w": (9,)})).read)).quantization == "Q4_K"
    assert from_gguf(read(io.BytesIO(gguf({}, {"w": (9,)}, kind=4)).read)).quantization is None


def test_a_part_of_a_split_model_does_not_say_how_large_all_of_it_is() -> None:
    """It holds its own tensors only."""
    assert from_gguf(header(split__count=3)).parameters is None


@pytest.mark.parametrize(
    ("count", "want"),
    [
        pytest.param(134_515_008, "135M", id="hundreds of millions"),
        pytest.param(1_543_714_304, "1.5B", id="a billion and a half"),
        pytest.param(7_000_000_000, "7B", id="seven billion"),
        pytest.param(235_093_634_560, "235B", id="hundreds of billions"),
        pytest.param(400, "1K", id="almost none"),
    ],
)
def test_a_count_of_parameters_is_said_as_people_say_it(count: int, want: str) -> None:
    """The form is the one that a LocalModel takes."""
    assert parameters_text(count) == want


def test_a_repository_tells_by_its_config() -> None:
    """The inner part of a model that sees is the one whose window counts."""
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": {"max_position_embeddings": 131072},
        "vision_config": {},
        "torch_dtype": "bfloat16",
    }
    told = from_config(config, "{{ messages }} <think>", ["model.safetensors"])

    assert (told.form, told.context_window, told.quantization, told.family) == ("safetensors", 131072, "BF16", "gemma3")
    assert told.capabilities == frozenset({"chat", "completion", "thinking", "vision"})
    assert from_config({}, "", []) == Findings()
    assert from_config({"quantization_config": {"quant_method": "awq"}}, "", ["modules.json"]) == Findings(
        quantization="AWQ", capabilities=frozenset({"embeddings"})
    )


def test_licences_that_spdx_has_get_its_case() -> None:
    """Policies compare them as SPDX writes them; others keep their name."""
    assert [spdx(name) for name in ("apache-2.0", "MIT", "gemma", None)] == ["Apache-2.0", "MIT", "gemma", None]


def test_an_empty_template_shows_nothing() -> None:
    """Some files carry one."""
    assert from_template(" \n") == frozenset()
