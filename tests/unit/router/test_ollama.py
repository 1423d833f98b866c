"""Ollama clients in front of engines that are spoken to in OpenAI form."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ollama
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.api.localmodel import EngineType
from arbiter.engines.base import Ask
from arbiter.router.call import parse
from arbiter.router.ollama_answers import LinesFromStream, WholeTranslation
from arbiter.router.refusal import Refusal
from arbiter.router.translation import reader, upstream
from tests.unit.core.route_examples import backend
from tests.unit.router.translations import TIMES, call, cuts, facts, ollama_chat, read, recorded

if TYPE_CHECKING:
    from arbiter.router.reader import Reader

GOLDENS = Path(__file__).parent / "goldens"


def sent(
    path: str, fields: dict[str, Any], engine: EngineType = EngineType.LlamaCpp
) -> tuple[str, dict[str, Any], Any]:
    """Where the engine is asked, what, and what was dropped."""
    made = upstream(call(path, {"model": "chat", **fields}), backend("qwen3", engine), {})
    return made.path.decode(), json.loads(made.body), made.dropped


def golden(name: str, text: str) -> None:
    """Compare with the file of that name; `UPDATE_GOLDENS=1` writes it, and a person reads the difference."""
    path = GOLDENS / name
    if os.environ.get("UPDATE_GOLDENS"):
        path.write_text(text)
    assert text == path.read_text()


REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/api/chat", {"messages": [{"role": "user", "content": "hi"}]}),
    "chat with options": (
        "/api/chat",
        {
            "messages": [{"role": "user", "content": "hi"}],
            "stream": False,
            "keep_alive": "5m",
            "options": {
                "temperature": 0.2,
                "top_p": 0.9,
                "top_k": 40,
                "seed": 7,
                "num_predict": 64,
                "stop": "END",
                "repeat_penalty": 1.1,
                "num_ctx": 8192,
                "num_gpu": 99,
            },
        },
    ),
    "chat with a picture": (
        "/api/chat",
        {"messages": [{"role": "user", "content": "what is it?", "images": ["iVBORw0KGgo="]}]},
    ),
    "chat with tools": (
        "/api/chat",
        {
            "messages": [
                {"role": "user", "content": "weather in Paris and Rome?"},
                {
                    "role": "assistant",
                    "content": "",
                    "thinking": "two cities",
                    "tool_calls": [
                        {"function": {"name": "weather", "arguments": {"city": "Paris"}}},
                        {"function": {"name": "time", "arguments": {}}},
                        {"id": "call_own", "function": {"name": "weather", "arguments": {"city": "Rome"}}},
                    ],
                },
                {"role": "tool", "tool_name": "time", "content": "noon"},
                {"role": "tool", "tool_name": "weather", "content": "sun"},
                {"role": "tool", "tool_call_id": "call_own", "content": "rain"},
            ],
            "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        },
    ),
    "chat with a schema": (
        "/api/chat",
        {
            "messages": [{"role": "user", "content": "hi"}],
            "format": {"type": "object", "properties": {"a": {"type": "string"}}},
            "think": False,
        },
    ),
    "chat that is to think hard": (
        "/api/chat",
        {"messages": [{"role": "user", "content": "hi"}], "format": "json", "think": "high"},
    ),
    "generate": (
        "/api/generate",
        {"prompt": "why?", "system": "Be brief.", "images": ["/9j/4AAQ"], "context": [1, 2], "template": "x"},
    ),
    "generate raw": ("/api/generate", {"prompt": "<s>why?", "raw": True, "options": {"num_predict": -1}}),
    "embed": ("/api/embed", {"input": ["a", "b"], "truncate": True, "dimensions": 256, "options": {"num_ctx": 1}}),
    "embeddings": ("/api/embeddings", {"prompt": "a"}),
}

ENGINES_ASKED = (EngineType.LlamaCpp, EngineType.Ollama, EngineType.VLLM, EngineType.External)


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_become_what_the_goldens_say(name: str) -> None:
    """One file for each request: what the client sends, and what each kind of engine gets."""
    path, fields = REQUESTS[name]
    parts = [f"# The client: POST {path}\n{json.dumps({'model': 'chat', **fields}, indent=2)}\n"]
    for engine in ENGINES_ASKED:
        where, body, dropped = sent(path, fields, engine)
        left = ", ".join(dropped) or "nothing"
        parts.append(f"# {engine}: POST {where}; dropped: {left}\n{json.dumps(body, indent=2)}\n")
    golden(f"{name.replace(' ', '_')}.txt", "\n".join(parts))


@pytest.mark.parametrize(
    ("path", "fields", "told"),
    [
        ("/api/chat", {"messages": "hi"}, "messages must be a list"),
        ("/api/chat", {"messages": [{"content": "hi"}]}, "role"),
        ("/api/chat", {"messages": [{"role": "user", "content": []}]}, "content must be text"),
        ("/api/chat", {"messages": [{"role": "user", "images": ["http://a/b.png"]}]}, "base64"),
        ("/api/chat", {"messages": [{"role": "user", "images": "iVBOR"}]}, "images must be a list"),
        ("/api/chat", {"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "function.name"),
        ("/api/chat", {"messages": [{}], "options": 3}, "options must be an object"),
        ("/api/chat", {"messages": [{"role": "user"}], "format": 3}, "format must be"),
        ("/api/chat", {"messages": [{"role": "user"}], "think": 3}, "think must be"),
        ("/api/generate", {"prompt": 3}, "prompt must be text"),
        ("/api/generate", {"prompt": "a", "raw": True, "images": ["AA=="]}, "images cannot go with raw"),
        ("/api/generate", {"prompt": "a", "suffix": "b"}, "does not support insert"),
        ("/api/embed", {"input": [1]}, "input must be text"),
    ],
)
def test_what_cannot_be_translated_is_refused(path: str, fields: dict[str, Any], told: str) -> None:
    """To leave it out would change what was asked."""
    with pytest.raises(Refusal) as refused:
        sent(path, fields)
    assert refused.value.status == 400
    assert told in refused.value.message


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"role": "assistant", "tool_calls": "x"}, "tool_calls must be a list"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1e999}}}]}, "too large"),
    ],
)
def test_tool_calls_that_cannot_be_written_are_refused(message: dict[str, Any], told: str) -> None:
    """JSON has no infinity, though Python reads one."""
    body = json.dumps({"model": "chat", "messages": [message]}).replace("Infinity", "1e999").encode()
    with pytest.raises(Refusal, match=told):
        upstream(parse(b"POST", b"/api/chat", [], body), backend(), {})


def test_an_answer_of_no_known_call_still_names_one() -> None:
    """Engines refuse an answer without a call."""
    _, body, _ = sent("/api/chat", {"messages": [{"role": "tool", "content": "x"}]})
    assert body["messages"][0]["tool_call_id"] == "call_0"


def test_a_suffix_passes_where_the_engine_fills_in() -> None:
    """Editors complete code between two texts."""
    where, body, _ = sent("/api/generate", {"prompt": "a", "suffix": "b"}, EngineType.Ollama)
    assert (where, body["prompt"], body["suffix"]) == ("/v1/completions", "a", "b")


def test_options_have_the_names_of_their_engine() -> None:
    """One of them has another name in vLLM."""
    fields = {"messages": [{"role": "user", "content": "a"}], "options": {"repeat_penalty": 1.1}}
    assert sent("/api/chat", fields, EngineType.VLLM)[1]["repetition_penalty"] == 1.1
    assert sent("/api/chat", fields, EngineType.Ollama)[2] == ("options.repeat_penalty",)


STREAMS = ["llamacpp_chat.sse", "ollama_chat.sse"]


def lines(stream: bytes, **asked: object) -> tuple[bytes, LinesFromStream]:
    """A chat's stream as the client gets it."""
    translating = LinesFromStream(ollama_chat(**asked), TIMES)
    pieces = [event + b"\n\n" for event in stream.split(b"\n\n") if event]
    return read(translating, *pieces), translating


@pytest.mark.parametrize("name", STREAMS)
def test_streams_become_what_the_goldens_say(name: str) -> None:
    """Recorded events in, lines out; a piece came every 250 ms, the request waited 500 ms for a model."""
    got, translating = lines(recorded(name))
    golden(f"stream_of_{name}.ndjson", got.decode())
    assert (translating.first_token, translating.complete, translating.error) == (True, True, None)


@pytest.mark.parametrize("name", [*STREAMS, "llamacpp_completion.sse"])
@given(st.data())
def test_where_the_network_cuts_a_stream_changes_nothing(name: str, data: st.DataObject) -> None:
    """Lines and facts are the same for every cut; the clock is held still."""
    stream = recorded(name)[: data.draw(st.integers(0, 3000))]
    asked = ollama_chat() if "chat" in name else call("/api/generate", {"model": "chat", "prompt": "a"})
    whole, cut = (LinesFromStream(asked, TIMES) for _ in range(2))
    assert read(cut, *data.draw(cuts(stream)), step=0) == read(whole, stream, step=0)
    assert facts(cut) == facts(whole)


@pytest.mark.parametrize("name", STREAMS)
def test_the_real_client_reads_the_lines(name: str) -> None:
    """Its own types are the judge of names and kinds."""
    got, _ = lines(recorded(name))
    parts = [ollama.ChatResponse.model_validate_json(line) for line in got.splitlines()]
    assert "".join(part.message.content or "" for part in parts).strip()
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    last = parts[-1]
    assert last.done_reason == "length"
    assert last.eval_count == 4
    assert last.load_duration == 500_000_000
    assert last.total_duration is not None
    assert last.total_duration >= last.load_duration + (last.eval_duration or 0)


def event(**fields: object) -> bytes:
    """One event of an engine's."""
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def delta(finish: str | None = None, **fields: object) -> bytes:
    """One chunk of a chat."""
    return event(choices=[{"index": 0, "delta": fields, "finish_reason": finish}])


def fragment(index: int, arguments: str, name: str | None = None) -> bytes:
    """A piece of a tool call."""
    function = {"arguments": arguments, **({"name": name} if name else {})}
    return delta(tool_calls=[{"index": index, "function": function}])


def test_tool_calls_come_whole_with_arguments_as_an_object() -> None:
    """Their fragments mean nothing to a client of Ollama's."""
    stream = b"".join(
        (
            fragment(0, "", "weather"),
            fragment(0, '{"ci'),
            fragment(0, 'ty":"Paris"}'),
            fragment(1, "not json", "time"),
            delta("tool_calls"),
            b"data: [DONE]\n\n",
        )
    )
    got, translating = lines(stream)
    first, last = (json.loads(line) for line in got.splitlines())
    assert first["message"]["tool_calls"] == [
        {"function": {"name": "weather", "arguments": {"city": "Paris"}}},
        {"function": {"name": "time", "arguments": {"_raw": "not json"}}},
    ]
    assert (last["done"], last["done_reason"]) == (True, "stop")
    assert translating.tokens_out == 4
    ollama.ChatResponse.model_validate(first)


def test_thoughts_stand_apart() -> None:
    """Clients show them otherwise, or not at all."""
    got, _ = lines(delta(reasoning_content="hm") + delta(reasoning="ok") + delta(content="yes"))
    messages = [json.loads(line)["message"] for line in got.splitlines()]
    assert [(each.get("thinking"), each["content"]) for each in messages] == [("hm", ""), ("ok", ""), (None, "yes")]


@pytest.mark.parametrize("broken", [b"", delta("stop"), delta(content="b")[:-9], b": ping\n\n"])
def test_a_stream_that_breaks_off_has_no_closing_line(broken: bytes) -> None:
    """`done: true` is said by the engine or not at all."""
    got, translating = lines(delta(content="a") + broken)
    assert [json.loads(line)["done"] for line in got.splitlines()] == [False]
    assert (translating.complete, translating.error) == (False, None)


@pytest.mark.parametrize(
    "failed",
    [event(error={"code": 500, "message": "out of memory"}), event(error="out of memory"), b"error: out of memory\n\n"],
)
def test_an_error_inside_a_stream_is_a_line(failed: bytes) -> None:
    """Ollama's own form for it, with status 200."""
    got, translating = lines(delta(content="a") + failed)
    assert json.loads(got.splitlines()[-1]) == {"error": "out of memory"}
    assert (translating.complete, translating.error) == (False, "out of memory")


def whole(asked_path: str, fields: dict[str, Any], body: bytes, status: int = 200) -> tuple[Any, Reader]:
    """An unstreamed answer as the client gets it."""
    asked = call(asked_path, {"model": "chat", "stream": False, **fields})
    translating = reader(asked, streamed=False, status=status, times=TIMES)
    assert isinstance(translating, WholeTranslation)
    return json.loads(read(translating, body[:7], body[7:])), translating


def test_a_whole_chat_is_translated() -> None:
    """Times are those that llama.cpp tells."""
    got, translating = whole("/api/chat", {"messages": [{}]}, recorded("llamacpp_chat.json"))
    assert got["message"] == {"role": "assistant", "content": "I'm glad you"}
    assert (got["done"], got["done_reason"]) == (True, "length")
    assert (got["prompt_eval_count"], got["prompt_eval_duration"]) == (32, 591_632_000)
    assert (got["eval_count"], got["eval_duration"]) == (4, 66_262_000)
    assert (got["total_duration"], got["load_duration"]) == (1_500_000_000, 500_000_000)
    assert facts(translating) == (False, 32, 4, None, True)
    ollama.ChatResponse.model_validate(got)


def test_a_whole_generation_is_translated() -> None:
    """From a chat or from a completion, whichever the engine was asked for."""
    for choice in ({"message": {"content": "yes", "reasoning": "hm"}}, {"text": "yes"}):
        body = json.dumps(
            {"choices": [{**choice, "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}
        ).encode()
        got, _ = whole("/api/generate", {"prompt": "a"}, body)
        assert (got["response"], got["done_reason"], got["eval_count"]) == ("yes", "stop", 1)
        ollama.GenerateResponse.model_validate(got)


def test_embeddings_come_in_the_order_of_their_texts() -> None:
    """An engine may answer in another order and says so by index."""
    data = [{"index": 1, "embedding": [3.0]}, {"index": 0, "embedding": [1.0, 2.0]}]
    body = json.dumps({"data": data, "usage": {"prompt_tokens": 5}}).encode()
    got, _ = whole("/api/embed", {"input": ["a", "b"]}, body)
    assert got["embeddings"] == [[1.0, 2.0], [3.0]]
    assert got["prompt_eval_count"] == 5
    ollama.EmbedResponse.model_validate(got)
    got, _ = whole("/api/embeddings", {"prompt": "a"}, body)
    assert got == {"embedding": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("body", "status", "told", "error"),
    [
        (recorded("ollama_error.json"), 404, "model 'nope' not found", None),
        (recorded("llamacpp_error.json"), 400, "Expected 'messages' to be an array", None),
        (b"<html>bad gateway</html>", 502, "<html>bad gateway</html>", None),
        (b"", 500, "the engine's answer cannot be read", None),
        (b'{"error":"full"}', 200, "full", "full"),
        (b'{"choices":[', 200, "the engine's answer cannot be read", "the engine's answer cannot be read"),
        (b'{"choices":[]}', 200, "the engine's answer cannot be read", "the engine's answer cannot be read"),
        (b'{"data":[1]}', 200, "the engine's answer cannot be read", "the engine's answer cannot be read"),
    ],
)
def test_errors_have_ollamas_form(body: bytes, status: int, told: str, error: str | None) -> None:
    """Whatever the engine said, the client's library finds a sentence."""
    got, translating = whole("/api/chat", {"messages": [{}]}, body, status)
    assert got == {"error": told}
    assert translating.error == error


def test_every_translated_request_asks_for_something_that_the_engine_has() -> None:
    """A new operation without a place in the table of paths would be a crash."""
    for path, fields in REQUESTS.values():
        assert sent(path, fields)[0] in {f"/v1/{each}" for each in ("chat/completions", "completions", "embeddings")}
    assert len(Ask) == 4
