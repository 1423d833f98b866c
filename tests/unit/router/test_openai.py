"""OpenAI and Anthropic clients in front of an engine: what is sent, and what passes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.api.localmodel import EngineType
from arbiter.router.anthropic import ERROR_LIMIT, MessageRefused
from arbiter.router.call import parse
from arbiter.router.openai import StreamPassing
from arbiter.router.reader import WholePassing
from arbiter.router.refusal import Refusal
from arbiter.router.sse import OverlongEventError
from arbiter.router.translation import reader, upstream
from tests.unit.core.route_examples import backend
from tests.unit.router.translations import TIMES, call, chat, cuts, facts, read, recorded

LLAMACPP = backend("qwen3")


def sent(asked: object, engine: EngineType = EngineType.LlamaCpp) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body that the engine gets, and what was dropped."""
    made = upstream(asked, backend("qwen3", engine), {})  # type: ignore[arg-type]  # every call is one
    return json.loads(made.body), made.dropped


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"chat","messages":[]}',
        b' \n{"messages":[{"role":"user","content":"the \\"model\\": \\"chat\\""}],\t"model" : "chat"}',
        b'{"model":"chat","messages":[{"role":"model"}]}',
        b'{"mod\\u0065l":"chat","messages":[{"model":"chat"}]}',
        b'{"model":"other","model":"chat","messages":[]}',
        b'{"messages":[{"content":"ends in \\"model\\""}],"model":"chat"}',
        b'{"model":"ch\\u0061t","messages":[]}',
        b'{"messages":[{"role":"user","content":"x","model":"chat"}],"model":"chat"}',
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_only_the_models_name_changes_however_the_body_is_written(body: bytes, *, stream: bool) -> None:
    """The body is edited in place where that is certain, and else written anew."""
    if stream:
        body = body.replace(b"{", b'{"stream":true,', 1)
    want = json.loads(body) | {"model": "qwen3"} | ({"stream_options": {"include_usage": True}} if stream else {})
    made = upstream(parse(b"POST", b"/v1/chat/completions", [], body), LLAMACPP, {})
    assert json.loads(made.body, object_pairs_hook=_without_doubles) == want
    assert (made.path, made.dropped) == (b"/v1/chat/completions", ())


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["model", 'a"model"']), inner),
    max_leaves=8,
)


@given(json_values, st.booleans(), st.booleans(), st.booleans())
def test_any_body_means_the_same_to_the_engine(value: object, spaced: bool, ascii_only: bool, last: bool) -> None:
    """A wrong edit would change what a client said."""
    fields = {"tools": value, "model": "chat"} if last else {"model": "chat", "tools": value}
    body = json.dumps(fields, ensure_ascii=ascii_only, indent=2 if spaced else None)
    try:
        asked = parse(b"POST", b"/v1/chat/completions", [], body.encode())
    except UnicodeEncodeError:
        return
    assert json.loads(upstream(asked, LLAMACPP, {}).body) == {**fields, "model": "qwen3"}


def test_a_models_name_is_written_as_json_text() -> None:
    """Names may hold quotes and backslashes."""
    made = upstream(chat(), backend('a"b\\c'), {})
    assert json.loads(made.body)["model"] == 'a"b\\c'


def test_fields_that_the_engine_does_not_take_are_dropped_by_name() -> None:
    """The names go into a response header: nothing is lost in silence, and nothing can be smuggled into it."""
    body, dropped = sent(chat(n_discard=5, id_slot=3, top_k=7, **{"x\r\nset-cookie: a": 1}))
    assert dropped == ("(other)", "id_slot", "n_discard")
    assert body["top_k"] == 7
    assert sent(chat(top_k=7), EngineType.External) == (
        {"model": "qwen3", "messages": [{"role": "user", "content": "hi"}]},
        ("top_k",),
    )


def test_pins_win_where_the_engine_takes_them() -> None:
    """A task's runner options are the pool's."""
    body = json.loads(upstream(chat(cache_prompt=False), LLAMACPP, {"cache_prompt": True}).body)
    assert body["cache_prompt"] is True
    assert "cache_prompt" not in json.loads(upstream(chat(), backend("x", EngineType.VLLM), {"cache_prompt": 1}).body)


def test_a_limit_keeps_its_meaning_at_an_engine_with_another_name_for_it() -> None:
    """Ollama reads `max_tokens` only; a lost limit is an answer without end."""
    assert sent(chat(max_completion_tokens=9), EngineType.Ollama)[0]["max_tokens"] == 9
    body, dropped = sent(chat(max_completion_tokens=9, max_tokens=5), EngineType.Ollama)
    assert (body["max_tokens"], dropped) == (5, ("max_completion_tokens",))


@pytest.mark.parametrize(
    ("options", "want"),
    [
        (None, {"include_usage": True}),
        ({}, {"include_usage": True}),
        ({"include_usage": False}, {"include_usage": True}),
        ({"include_usage": True}, {"include_usage": True}),
        ({"other": 1}, {"other": 1, "include_usage": True}),
    ],
)
def test_streams_are_asked_for_their_usage(options: object, want: object) -> None:
    """The books need the counts; what the client asked for beside it stays."""
    body, _ = sent(chat(stream=True, stream_options=options))
    assert body["stream_options"] == want
    assert "stream_options" not in sent(chat())[0]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}},
        {"type": "image_url", "image_url": "file:///etc/passwd"},
        {"type": "image_url", "image_url": {"url": 3}},
        {"type": "video_url", "video_url": {"url": "https://a/b.mp4"}},
        {"type": "text", "text": "x", "image_url": {"url": "http://a"}},
        {"type": "image", "source": {"type": "url", "url": "http://a"}},
        {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": "http://a"}}]},
        {"type": "file", "file": {"file_id": "x"}},
        {"image_url": {"url": "http://a"}},
        3,
    ],
)
def test_nothing_is_fetched_for_a_request(part: object) -> None:
    """An engine that follows an address does so from inside the cluster."""
    asked = chat(messages=[{"role": "user", "content": [{"type": "text", "text": "what?"}, part]}])
    with pytest.raises(Refusal) as refused:
        upstream(asked, LLAMACPP, {})
    assert refused.value.status == 400


def test_media_inside_the_request_pass() -> None:
    """That is how pictures are sent."""
    parts = [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
    ]
    asked = chat(messages=[{"role": "user", "content": parts}])
    assert sent(asked)[0]["messages"][0]["content"] == parts


def test_a_number_that_json_cannot_say_is_refused() -> None:
    """Python reads 1e999 as infinity and would write it as something that is no JSON."""
    asked = parse(b"POST", b"/v1/chat/completions", [], b'{"model":"a","odd":1,"temperature":1e999}')
    with pytest.raises(Refusal, match="too large"):
        upstream(asked, LLAMACPP, {})


def test_messages_pass_only_where_the_engine_has_them() -> None:
    """Another server would answer 404 in a form that the client cannot read."""
    asked = call("/v1/messages", {"model": "chat", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]})
    assert upstream(asked, LLAMACPP, {}).path == b"/v1/messages"
    with pytest.raises(Refusal) as refused:
        upstream(asked, backend("x", EngineType.External), {})
    assert refused.value.status == 404


STREAMS = [
    pytest.param("llamacpp_chat.sse", 32, 4, True, id="llama.cpp chat"),
    pytest.param("llamacpp_completion.sse", 2, 3, False, id="llama.cpp completion: its usage has a choice"),
    pytest.param("ollama_chat.sse", 11, 4, True, id="Ollama chat"),
]


@pytest.mark.parametrize(("name", "tokens_in", "tokens_out", "extra"), STREAMS)
@pytest.mark.parametrize("asked", [False, True])
def test_a_real_stream_passes_but_for_the_chunk_that_the_router_asked_for(
    name: str, tokens_in: int, tokens_out: int, *, extra: bool, asked: bool
) -> None:
    """Byte for byte what the client would have got from the engine."""
    stream = recorded(name)
    events = stream.split(b"\n\n")
    usage = [event for event in events if b'"choices":[]' in event]
    assert bool(usage) is extra
    want = stream if asked or not usage else stream.replace(usage[0] + b"\n\n", b"")
    passing = StreamPassing(withhold_usage=not asked)
    assert read(passing, stream) == want
    assert facts(passing) == (True, tokens_in, tokens_out, None, True)


@pytest.mark.parametrize("name", ["llamacpp_chat.sse", "ollama_chat.sse", "llamacpp_completion.sse"])
@given(st.data())
def test_where_the_network_cuts_a_stream_changes_nothing(name: str, data: st.DataObject) -> None:
    """Forwarded bytes and facts are the same for every cut, with LF and with CR LF."""
    stream = recorded(name)
    if data.draw(st.booleans()):
        stream = stream.replace(b"\n", b"\r\n")
    if data.draw(st.booleans()):
        stream = stream[: data.draw(st.integers(0, len(stream)))]
    whole, cut = StreamPassing(withhold_usage=True), StreamPassing(withhold_usage=True)
    assert read(cut, *data.draw(cuts(stream))) == read(whole, stream)
    assert facts(cut) == facts(whole)


def chunk(delta: object, **more: object) -> bytes:
    """One event of a chat."""
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}], **more}).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("event", "tokens"),
    [
        pytest.param(chunk({"content": "a"}), 1, id="text"),
        pytest.param(b'data: {"choices":[{"delta":{"content":"\\""}}]}\n\n', 1, id="a quote"),
        pytest.param(chunk({"reasoning_content": "a", "content": ""}), 1, id="a thought"),
        pytest.param(chunk({"reasoning": "a"}), 1, id="a thought under its other name"),
        pytest.param(chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}), 1, id="a tool"),
        pytest.param(chunk({"content": "a"}, usage=None), 1, id="text with an empty usage"),
        pytest.param(chunk({"role": "assistant", "content": None}), 0, id="the role alone"),
        pytest.param(chunk({"role": "assistant", "content": ""}), 0, id="the role with empty text"),
        pytest.param(chunk({}), 0, id="the end"),
        pytest.param(chunk({"tool_calls": []}), 0, id="no tools"),
        pytest.param(b": ping\n\n", 0, id="a ping"),
        pytest.param(b': "content":"a"\n\n', 0, id="a comment that looks like text"),
        pytest.param(b"data: [DONE]\n\n", 0, id="the last word"),
    ],
)
def test_a_token_is_something_that_a_reader_can_see(event: bytes, tokens: int) -> None:
    """Time to the first token must not be the time to the first ping or the role."""
    passing = StreamPassing(withhold_usage=True)
    assert passing.feed(event, 0.0) == event
    assert (passing.first_token, passing.tokens_out) == (bool(tokens), tokens)


def test_what_a_model_writes_is_never_taken_for_something_else() -> None:
    """A model that quotes an event must not end, fail or count the answer."""
    said = 'data: [DONE]\n\n{"error":{"message":"x"},"usage":{"completion_tokens":99},"content":"a"}'
    passing = StreamPassing(withhold_usage=True)
    event = chunk({"content": said})
    assert read(passing, event) == event
    assert facts(passing) == (True, 0, 1, None, False)


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error":{"code":500,"message":"out of memory","type":"server_error"}}\n\n',
        b'data: {"error": "out of memory"}\n\n',
        b"error: out of memory\n\n",
    ],
)
def test_an_error_inside_a_stream_passes_and_is_told(event: bytes) -> None:
    """Its status was 200; only the stream says that it failed."""
    passing = StreamPassing(withhold_usage=True)
    assert read(passing, chunk({"content": "a"}), event) == chunk({"content": "a"}) + event
    assert facts(passing) == (True, 0, 1, "out of memory", False)


def test_a_stream_that_breaks_off_ends_as_it_came() -> None:
    """Nothing is added that could make it look whole."""
    stream = recorded("llamacpp_chat.sse")[:900]
    passing = StreamPassing(withhold_usage=True)
    assert read(passing, stream) == stream
    assert not passing.complete
    assert passing.tokens_out > 0


def test_a_last_word_without_its_empty_line_is_still_the_last_word() -> None:
    """Some servers close right behind it."""
    passing = StreamPassing(withhold_usage=True)
    assert read(passing, b"data: [DONE]") == b"data: [DONE]"
    assert passing.complete


@pytest.mark.parametrize(
    ("fields", "streamed", "want"),
    [
        ({"stream": True}, True, StreamPassing),
        ({"stream": True}, False, WholePassing),
        ({}, False, WholePassing),
    ],
)
def test_the_answer_decides_how_it_is_read(fields: dict[str, Any], want: type, *, streamed: bool) -> None:
    """An engine may answer a streamed request with an error in one piece."""
    assert type(reader(chat(**fields), streamed=streamed, status=200, times=TIMES)) is want


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
def test_an_event_that_does_not_end_is_not_kept_for_ever(path: str) -> None:
    """A stream that only grows would fill the router's memory."""
    asked = call(path, {"model": "chat", "stream": True, "messages": [{}]})
    passing = reader(asked, streamed=True, status=200, times=TIMES)
    for _ in range(4):
        assert passing.feed(b"x" * (1 << 20), 0.0) == b""
    with pytest.raises(OverlongEventError):
        passing.feed(b"x" * (1 << 20), 0.0)


def test_parts_of_a_system_text_are_looked_at_too() -> None:
    """The Anthropic form has them outside the messages."""
    fields = {"model": "chat", "messages": [{"role": "user", "content": ["plain"]}]}
    good = call("/v1/messages", {**fields, "system": [{"type": "text", "text": "x"}]})
    assert upstream(good, LLAMACPP, {}).dropped == ()
    with pytest.raises(Refusal, match="nothing is fetched"):
        upstream(
            call("/v1/messages", {**fields, "system": [{"type": "image_url", "image_url": "http://a"}]}), LLAMACPP, {}
        )


WHOLE = [
    pytest.param("llamacpp_chat.json", 32, 4, id="chat"),
    pytest.param("llamacpp_messages.json", 31, 3, id="messages: three counts make up the prompt"),
    pytest.param("llamacpp_error.json", 0, 0, id="an error"),
]


@pytest.mark.parametrize(("name", "tokens_in", "tokens_out"), WHOLE)
@given(st.data())
def test_a_whole_answer_passes_and_its_tokens_are_read(
    name: str, tokens_in: int, tokens_out: int, data: st.DataObject
) -> None:
    """However it is cut, and without keeping it."""
    answer = recorded(name)
    passing = WholePassing()
    assert read(passing, *data.draw(cuts(answer))) == answer
    assert (passing.tokens_in, passing.tokens_out, passing.complete) == (tokens_in, tokens_out, True)
    assert (passing.error is not None) is ("error" in name)


@pytest.mark.parametrize("body", [b"", b"{", b'{"a":1', b"<html></html>", b"[1]"])
def test_an_answer_that_is_no_whole_object_is_not_complete(body: bytes) -> None:
    """A connection that closes early must not look like success."""
    passing = WholePassing()
    assert read(passing, body) == body
    assert not passing.complete


@pytest.mark.parametrize(
    ("name", "tokens_in", "tokens_out"), [("llamacpp_messages.sse", 31, 3), ("ollama_messages.sse", 11, 4)]
)
@given(st.data())
def test_messages_pass_and_are_counted(name: str, tokens_in: int, tokens_out: int, data: st.DataObject) -> None:
    """The Anthropic form, from both engines that have it, cut anywhere."""
    asked = call("/v1/messages", {"model": "chat", "stream": True, "messages": []})
    passing = reader(asked, streamed=True, status=200, times=TIMES)
    stream = recorded(name)
    assert read(passing, *data.draw(cuts(stream))) == stream
    assert facts(passing) == (True, tokens_in, tokens_out, None, True)


def test_an_error_event_of_messages_is_told() -> None:
    """Anthropic's form has an event of its own for it."""
    asked = call("/v1/messages", {"model": "chat", "stream": True, "messages": []})
    passing = reader(asked, streamed=True, status=200, times=TIMES)
    read(passing, b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"full"}}\n\n')
    assert (passing.error, passing.complete) == ("full", False)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b'{"error":{"code":500,"message":"no pictures","type":"server_error"}}', "api_error", "no pictures"),
        (b'{"error":"no pictures"}', "api_error", "no pictures"),
        (b"<html>", "api_error", "<html>"),
        (b"", "api_error", "the engine answered 500"),
        (b'{"error":{"message":"%b"}}' % (b"x" * ERROR_LIMIT), "api_error", '{"error":{"message":"' + "x" * 479),
    ],
)
def test_an_error_of_an_engine_gets_the_anthropic_form(body: bytes, kind: str, message: str) -> None:
    """llama-server answers messages as Anthropic does, and errors to them as OpenAI does."""
    got = json.loads(read(MessageRefused(500), *[body[at : at + 4096] for at in range(0, len(body), 4096)]))
    assert got == {"type": "error", "error": {"type": kind, "message": message}}


def test_an_error_that_has_the_anthropic_form_passes_as_it_is() -> None:
    """Ollama answers so, with more in it than the form asks for; only a refusal of messages is looked at."""
    body = b'{"type": "error", "error": {"type": "not_found_error", "message": "no"}, "request_id": "req_1"}'
    messages = call("/v1/messages", {"model": "chat", "max_tokens": 1, "messages": []})
    assert read(reader(messages, streamed=False, status=404, times=TIMES), body[:20], body[20:]) == body
    assert isinstance(reader(messages, streamed=False, status=200, times=TIMES), WholePassing)
    assert isinstance(reader(chat(), streamed=False, status=404, times=TIMES), WholePassing)
