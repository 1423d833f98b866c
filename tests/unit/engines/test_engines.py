"""What each kind of model server takes and tells."""

from __future__ import annotations

from typing import Any

import pytest

from arbiter.api.localmodel import EngineType
from arbiter.engines import ENGINES
from arbiter.engines.answers import Told, told_by
from arbiter.engines.base import Ask

NEVER = {
    "cache_salt",
    "chat_template",
    "id_slot",
    "keep_alive",
    "kv_transfer_params",
    "lora",
    "lora_request",
    "mm_processor_kwargs",
    "n_discard",
    "num_ctx",
    "num_gpu",
    "options",
    "priority",
    "slot_id",
    "speculative.n_max",
    "cache_prompt",
    "n_keep",
}


def test_every_kind_of_server_is_described() -> None:
    """A kind without a description could be in a table and crash the router."""
    assert set(ENGINES) == set(EngineType)


@pytest.mark.parametrize("kind", EngineType)
def test_no_server_takes_from_a_client_what_belongs_to_the_process(kind: EngineType) -> None:
    """Such a field reloads a model, reaches into another client's cache, or runs a client's code."""
    for ask, fields in ENGINES[kind].fields.items():
        assert not fields & NEVER, ask


@pytest.mark.parametrize("kind", EngineType)
def test_every_server_takes_what_its_operation_is_about(kind: EngineType) -> None:
    """Without these there is no request."""
    fields = ENGINES[kind].fields
    assert {"model", "messages", "stream", "stream_options", "tools"} <= fields[Ask.CHAT]
    assert {"model", "prompt", "stream", "stream_options"} <= fields[Ask.COMPLETION]
    assert {"model", "input"} <= fields[Ask.EMBEDDING]


@pytest.mark.parametrize("kind", EngineType)
def test_what_can_be_pinned_is_not_the_clients(kind: EngineType) -> None:
    """A pin that a client could set as well would not be one."""
    engine = ENGINES[kind]
    clients = frozenset[str]().union(*engine.fields.values())
    assert not engine.pins & clients


@pytest.mark.parametrize("kind", EngineType)
def test_renamed_fields_end_at_a_name_that_passes(kind: EngineType) -> None:
    """A new name that is not in the list would drop the field after all."""
    assert set(ENGINES[kind].renames.values()) <= ENGINES[kind].fields[Ask.CHAT]


@pytest.mark.parametrize(
    ("answer", "want"),
    [
        pytest.param({}, Told(), id="nothing"),
        pytest.param({"usage": {"prompt_tokens": 11, "completion_tokens": 4}}, Told(11, 4), id="OpenAI"),
        pytest.param({"usage": {"prompt_tokens": 11}}, Told(11), id="embeddings"),
        pytest.param(
            {"timings": {"cache_n": 31, "prompt_n": 1, "prompt_ms": 37.786, "predicted_n": 4, "predicted_ms": 277.896}},
            Told(32, 4, 37_786_000, 277_896_000),
            id="llama.cpp without usage",
        ),
        pytest.param(
            {"usage": {"input_tokens": 7, "cache_read_input_tokens": 24, "output_tokens": 3}},
            Told(31, 3),
            id="Anthropic",
        ),
        pytest.param({"usage": None, "timings": []}, Told(), id="wrong types"),
        pytest.param({"usage": {"prompt_tokens": -1, "completion_tokens": True}}, Told(), id="no counts"),
        pytest.param({"timings": {"prompt_ms": float("nan"), "predicted_ms": -1}}, Told(), id="no times"),
    ],
)
def test_tokens_and_times_are_read_from_every_form(answer: dict[str, Any], want: Told) -> None:
    """An answer is counted where it tells something, and never refused."""
    assert told_by(answer) == want
