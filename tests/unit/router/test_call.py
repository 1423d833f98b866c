"""What a client asked for, and how it is told no."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arbiter.router.call import FORWARDED, Operation, find, parse
from arbiter.router.local_answers import answer
from arbiter.router.refusal import Protocol, Refusal, protocol_of, refusal_body, refusal_event
from tests.unit.core.route_examples import task
from tests.unit.router.translations import call, chat, ollama_chat

TASKS = {"chat": task(10, 90), "embed": task(None, None, "embed")}


@pytest.mark.parametrize(
    ("method", "path", "want"),
    [
        ("POST", "/v1/chat/completions", Operation.CHAT),
        ("POST", "/v1/completions", Operation.COMPLETIONS),
        ("POST", "/v1/embeddings", Operation.EMBEDDINGS),
        ("POST", "/v1/messages", Operation.MESSAGES),
        ("GET", "/v1/models", Operation.MODELS),
        ("HEAD", "/v1/models", Operation.MODELS),
        ("GET", "/v1/models/chat", Operation.MODEL),
        ("POST", "/api/chat", Operation.OLLAMA_CHAT),
        ("POST", "/api/generate", Operation.OLLAMA_GENERATE),
        ("POST", "/api/embed", Operation.OLLAMA_EMBED),
        ("POST", "/api/embeddings", Operation.OLLAMA_EMBEDDINGS),
        ("GET", "/api/tags", Operation.OLLAMA_TAGS),
        ("POST", "/api/show", Operation.OLLAMA_SHOW),
        ("GET", "/api/ps", Operation.OLLAMA_PS),
        ("GET", "/api/version", Operation.OLLAMA_VERSION),
        ("HEAD", "/", Operation.OLLAMA_ALIVE),
    ],
)
def test_methods_and_paths_say_what_is_asked(method: str, path: str, want: Operation) -> None:
    """These are all that exist."""
    body = json.dumps({"model": "chat", "messages": [{}], "prompt": "x", "input": "x"}).encode()
    assert parse(method.encode(), path.encode(), [], body if method == "POST" else b"").operation is want


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        pytest.param("GET", "/v2", b"", 404, "nothing at /v2", id="no such path"),
        pytest.param("POST", "/v1/chat/completions/", b"{}", 404, "nothing at", id="a slash too many"),
        pytest.param("POST", "/api/pull", b"{}", 404, "nothing at", id="what changes an engine"),
        pytest.param("DELETE", "/api/delete", b"", 404, "nothing at", id="what deletes there"),
        pytest.param("GET", "/v1/chat/completions", b"", 405, "POST", id="wrong method"),
        pytest.param("POST", "/api/tags", b"{}", 405, "GET, HEAD", id="wrong method of a list"),
        pytest.param("POST", "/v1/chat/completions", b"", 400, "JSON", id="empty"),
        pytest.param("POST", "/v1/chat/completions", b"{", 400, "JSON", id="cut"),
        pytest.param("POST", "/v1/chat/completions", b"[]", 400, "object", id="a list"),
        pytest.param("POST", "/v1/chat/completions", b'{"model":"\xff"}', 400, "UTF-8", id="not UTF-8"),
        pytest.param("POST", "/v1/chat/completions", '{"model":"a"}'.encode("utf-16"), 400, "UTF-8", id="UTF-16"),
        pytest.param("POST", "/v1/chat/completions", b"[" * 100_000, 400, "JSON", id="deep"),
        pytest.param("POST", "/v1/chat/completions", b'{"seed":' + b"9" * 5000 + b"}", 400, "JSON", id="long number"),
        pytest.param("POST", "/v1/chat/completions", b'{"model":"a","seed":NaN}', 400, "NaN", id="not a number"),
        pytest.param("POST", "/v1/chat/completions", b"{}", 400, "model", id="no model"),
        pytest.param("POST", "/v1/chat/completions", b'{"model":3}', 400, "model", id="model is a number"),
        pytest.param("POST", "/v1/chat/completions", b'{"model":"a","stream":1}', 400, "stream", id="stream is 1"),
        pytest.param("POST", "/v1/feedback", b'{"id":"","score":1}', 400, "id", id="feedback without id"),
        pytest.param("POST", "/v1/feedback", b'{"id":"a","score":2}', 400, "score", id="feedback out of range"),
        pytest.param("POST", "/v1/feedback", b'{"id":"a","score":true}', 400, "score", id="feedback of a bool"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(
    method: str, path: str, body: bytes, status: int, told: str
) -> None:
    """Whoever writes a client reads this first."""
    with pytest.raises(Refusal) as refused:
        parse(method.encode(), path.encode(), [], body)
    assert refused.value.status == status
    assert told in refused.value.message


@pytest.mark.parametrize(
    ("fields", "headers", "want"),
    [
        ({}, [], b""),
        ({"user": "alice"}, [], b"alice"),
        ({"user": "alice"}, [(b"host", b"a"), (b"x-session-id", b"s1")], b"s1"),
        ({"user": 3}, [], b""),
        ({"metadata": {"user_id": "bob"}}, [], b"bob"),
    ],
)
def test_the_session_is_the_header_or_else_the_user(
    fields: dict[str, Any], headers: list[tuple[bytes, bytes]], want: bytes
) -> None:
    """One key ties a conversation to one side."""
    assert call("/v1/chat/completions", {"model": "chat", **fields}, headers).session == want


def test_feedback_is_read() -> None:
    """It needs no task: the id says which answer is meant."""
    asked = call("/v1/feedback", {"id": "abc", "score": 0.5})
    assert (asked.operation, asked.fields, asked.task) == (Operation.FEEDBACK, {"id": "abc", "score": 0.5}, "")


def test_streaming_is_what_each_protocol_takes_for_granted() -> None:
    """Ollama streams unless told not to, OpenAI the other way round."""
    assert ollama_chat().stream
    assert not ollama_chat(stream=False).stream
    assert not chat().stream
    assert chat(stream=True).stream


def test_an_unknown_model_is_answered_with_those_that_exist() -> None:
    """In the caller's own form, so that its library shows the sentence."""
    for path, where in (("/v1/chat/completions", ("error", "message")), ("/api/chat", ("error",))):
        asked = call(path, {"model": "nope", "messages": [{}]})
        with pytest.raises(Refusal) as refused:
            find(asked, TASKS)
        assert refused.value.status == 404
        told: Any = json.loads(refusal_body(asked.protocol, refused.value)[1])
        for name in where:
            told = told[name]
        assert told == "model 'nope' not found; the models here are: chat, embed"


def test_the_tag_that_ollamas_clients_add_means_nothing() -> None:
    """They ask for `chat:latest` when their user wrote `chat`, and want that name back."""
    asked = ollama_chat()
    assert find(asked, TASKS) is TASKS["chat"]
    assert asked.model == "chat:latest"


@pytest.mark.parametrize(
    ("path", "want"),
    [
        (b"/v1/messages", {"type": "error", "error": {"type": "overloaded_error", "message": "full"}}),
        (b"/api/nothing", {"error": "full"}),
        (
            b"/anything",
            {"error": {"message": "full", "type": "service_unavailable_error", "param": None, "code": "busy"}},
        ),
    ],
)
def test_each_protocol_has_its_own_form_of_error(path: bytes, want: object) -> None:
    """A client library raises its own exception only for its own form."""
    refusal = Refusal(503, "busy", "full", retry_after=5)
    kind, body = refusal_body(protocol_of(path), refusal)
    assert (kind, json.loads(body)) == (b"application/json", want)
    assert refusal.headers() == [(b"retry-after", b"5")]
    assert body in refusal_event(protocol_of(path), refusal)


def test_a_refusal_names_the_methods_that_a_path_takes() -> None:
    """HTTP asks for it with status 405."""
    with pytest.raises(Refusal) as refused:
        parse(b"GET", b"/api/chat", [], b"")
    assert refused.value.headers() == [(b"allow", b"POST")]


def local(method: str, path: str, fields: dict[str, Any] | None = None) -> Any:  # noqa: ANN401  parsed JSON
    """The answer from the table."""
    asked = parse(method.encode(), path.encode(), [], json.dumps(fields or {}).encode())
    assert asked.operation not in FORWARDED
    return json.loads(answer(asked, TASKS, 1_795_265_000.25)[1])


def test_models_are_the_tasks() -> None:
    """Clients pick a name from this list and use it as `model`."""
    listed = local("GET", "/v1/models")
    assert [each["id"] for each in listed["data"]] == ["chat", "embed"]
    assert listed["data"][0]["context_window"] == 8192
    assert local("GET", "/v1/models/chat") == listed["data"][0]
    tags = local("GET", "/api/tags")
    assert [each["name"] for each in tags["models"]] == ["chat", "embed"]
    assert tags["models"][0]["capabilities"] == ["completion", "tools"]


def test_only_tasks_that_something_serves_are_running() -> None:
    """`ollama ps` shows what is loaded."""
    running = local("GET", "/api/ps")["models"]
    assert [(each["name"], each["context_length"]) for each in running] == [("chat", 8192)]


def test_show_tells_capabilities_and_context() -> None:
    """Clients decide by these whether to send tools and how much text."""
    for name in ("model", "name"):
        shown = local("POST", "/api/show", {name: "chat:latest"})
        assert shown["capabilities"] == ["completion", "tools"]
        assert shown["model_info"]["arbiter.context_length"] == 8192
    with pytest.raises(Refusal, match="not found"):
        local("POST", "/api/show", {"model": "nope"})


@pytest.mark.parametrize(
    ("path", "fields", "want"),
    [
        ("/api/chat", {}, {"message": {"role": "assistant", "content": ""}, "done_reason": "load"}),
        ("/api/chat", {"messages": [], "keep_alive": 0}, {"done_reason": "unload"}),
        ("/api/generate", {"keep_alive": -1}, {"response": "", "done_reason": "load"}),
        ("/api/generate", {"prompt": "", "keep_alive": "0s"}, {"response": "", "done_reason": "unload"}),
    ],
)
def test_an_empty_request_is_answered_as_ollama_does(path: str, fields: dict[str, Any], want: dict[str, Any]) -> None:
    """Clients send one to have a model loaded before it is needed."""
    told = local("POST", path, {"model": "chat", **fields})
    assert told["done"] is True
    assert (told["model"], told["created_at"]) == ("chat", "2026-11-21T12:43:20.250000Z")
    assert told | want == told


def test_ollamas_version_and_heartbeat_are_answered() -> None:
    """Its command line asks for both before anything else."""
    assert local("GET", "/api/version")["version"].count(".") == 2
    alive = parse(b"GET", b"/", [], b"")
    assert answer(alive, TASKS, 0.0) == (b"text/plain; charset=utf-8", b"Ollama is running")
    assert alive.protocol is Protocol.OLLAMA
