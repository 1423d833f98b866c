"""What passes through a router in front of real llama-servers: tools, vectors, pictures, and Anthropic's messages.

The clients are the real ones of OpenAI and Ollama. What a client gets is compared with what the engine itself gives.
The small model calls a tool because the messages before show it how; whether it would by itself is not the point.
"""

from __future__ import annotations

import base64
import json
import socket
import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import ollama
import openai
import pytest

from arbiter.api.localmodel import EngineType
from tests.e2e.engines import llama_server
from tests.e2e.router.on_host import HostRouter, Reply, reply, router, served_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.cluster

TEMPLATE = """\
{%- if tools %}
{{- '<|im_start|>system\\nYou may call one or more functions.\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
{{- '\\n</tools>\\nFor each call, give a json object with its name and arguments within XML tags:\\n' }}
{{- '<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- '<|im_start|>assistant' }}
{%- if message.content %}{{- '\\n' + message.content }}{%- endif %}
{%- for tool_call in message.tool_calls %}
{%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}{%- endif %}
{{- '\\n<tool_call>\\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}
{{- tool_call.arguments | tojson }}{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
"""A chat template with tools, in the form of Qwen 2.5; SmolLM2's own knows none, and llama-server then ignores them."""

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CITIES = ("Rome", "Berlin")
"""Of which the messages before ask, each answered with a call."""

TEXTS = ["The capital of France is Paris.", "Bread is made of flour."]

QUESTION = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]

FORMS = [
    pytest.param("/v1/chat/completions", id="openai"),
    pytest.param("/v1/messages", id="anthropic"),
    pytest.param("/api/chat", id="ollama"),
]


class Place(NamedTuple):
    """The router and the engines behind it.

    Attributes:
        router: that clients ask.
        chat: the engine of the tasks `chat`, and `external`, of which only OpenAI's API is expected.
        vectors: the engine of the task `vectors`.
    """

    router: HostRouter
    chat: str
    vectors: str


@pytest.fixture(scope="module")
def place(start: Callable[[list[dict[str, Any]]], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Start both engines and the router."""
    chat = start(llama_server("smollm2", 2, "--jinja", "--chat-template", TEMPLATE))
    vectors = start(llama_server("smollm2", 2, "--embeddings", "--pooling", "mean", name="llama-vectors"))
    tasks = (
        served_by("chat", EngineType.LlamaCpp, "smollm2", chat),
        served_by("external", EngineType.External, "smollm2", chat),
        served_by("vectors", EngineType.LlamaCpp, "smollm2", vectors),
    )
    with router(tmp_path_factory.mktemp("router"), *tasks) as running:
        yield Place(running, chat, vectors)


@pytest.fixture
def of_openai(place: Place) -> Iterator[openai.OpenAI]:
    """OpenAI's client."""
    with openai.OpenAI(base_url=f"{place.router.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def of_ollama(place: Place) -> Iterator[ollama.Client]:
    """Ollama's client."""
    with ollama.Client(host=place.router.url) as client:
        yield client


def asked_before(*, as_text: bool) -> list[dict[str, Any]]:
    """Questions that were answered with calls, and the next one; arguments are JSON text for OpenAI's clients."""
    messages: list[dict[str, Any]] = []
    for number, city in enumerate(CITIES):
        arguments: object = json.dumps({"city": city}) if as_text else {"city": city}
        call = {"id": f"call_{number}", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
        messages.append({"role": "user", "content": f"What is the weather in {city}?"})
        messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
    return [*messages, {"role": "user", "content": "What is the weather in Paris?"}]


def test_the_openai_client_gets_a_tool_call(of_openai: openai.OpenAI, count: Callable[..., None]) -> None:
    """Plain and in pieces: the same function with arguments that are JSON, and the reason why the answer ended."""
    count("engines started", 2)
    asked: dict[str, Any] = {"model": "chat", "messages": asked_before(as_text=True), "tools": [WEATHER]}
    asked |= {"tool_choice": "required", "temperature": 0, "max_tokens": 60}
    answer = of_openai.chat.completions.create(**asked)
    chunks = list(of_openai.chat.completions.create(**asked, stream=True))
    count("completions served", 2)

    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.id
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or []]
    assert [piece.function.name for piece in pieces if piece.function.name] == ["get_weather"]
    assert json.loads("".join(piece.function.arguments or "" for piece in pieces)) == {"city": "Paris"}
    assert len({piece.id for piece in pieces if piece.id}) == 1
    assert {piece.index for piece in pieces} == {0}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_the_ollama_client_gets_a_tool_call_and_tells_what_came_of_it(
    of_ollama: ollama.Client, count: Callable[..., None]
) -> None:
    """Arguments are an object there, and an answer of a tool names the tool; the router translates both ways."""
    messages = asked_before(as_text=False)
    asked: dict[str, Any] = {"model": "chat", "tools": [WEATHER], "options": {"temperature": 0, "num_predict": 60}}
    answer = of_ollama.chat(**asked, messages=messages)
    pieces = list(of_ollama.chat(**asked, messages=messages, stream=True))
    told = {"role": "tool", "tool_name": "get_weather", "content": "It rains."}
    after = of_ollama.chat(**asked, messages=[*messages, answer.message.model_dump(exclude_none=True), told])
    count("completions served", 3)

    (call,) = answer.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Paris"})
    assert (answer.done, answer.done_reason) == (True, "stop")
    streamed = [call for piece in pieces for call in piece.message.tool_calls or []]
    assert [(each.function.name, each.function.arguments) for each in streamed] == [("get_weather", {"city": "Paris"})]
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].eval_count == answer.eval_count
    assert after.done
    assert after.prompt_eval_count > answer.prompt_eval_count, "the model reads what the tool said"
    assert after.message.content or after.message.tool_calls


def test_every_client_gets_the_vectors_that_the_engine_gives(
    place: Place, of_openai: openai.OpenAI, of_ollama: ollama.Client, count: Callable[..., None]
) -> None:
    """In base64, for which OpenAI's client asks unseen, as numbers, and in both of Ollama's forms."""
    direct = reply(f"{place.vectors}/v1/embeddings", {"model": "smollm2", "input": TEXTS}).fields["data"]
    wanted = [pytest.approx(each["embedding"], abs=1e-6) for each in direct]
    before = place.router.booked("vectors")

    packed = of_openai.embeddings.create(model="vectors", input=TEXTS)
    plain = of_openai.embeddings.create(model="vectors", input=TEXTS, encoding_format="float")
    batch = of_ollama.embed(model="vectors", input=TEXTS)
    single = of_ollama.embeddings(model="vectors", prompt=TEXTS[1])
    count("completions served", 4)

    assert [each.embedding for each in packed.data] == wanted
    assert [each.embedding for each in plain.data] == wanted
    assert [list(each) for each in batch.embeddings] == wanted
    assert list(single.embedding) == wanted[1]
    assert len(direct[0]["embedding"]) == 576
    assert packed.usage.prompt_tokens == plain.usage.prompt_tokens == batch.prompt_eval_count
    assert plain.usage.prompt_tokens > 0
    after = place.router.booked("vectors")
    assert (after.ok - before.ok, after.written) == (4, 0)
    assert after.read - before.read > 3 * plain.usage.prompt_tokens


def test_an_engine_that_cannot_embed_says_so_and_stays_in_use(
    place: Place, of_openai: openai.OpenAI, of_ollama: ollama.Client, count: Callable[..., None]
) -> None:
    """That its flag is missing says nothing against the engine: however many ask, it goes on to serve."""
    before = place.router.booked("chat")
    for _ in range(3):
        with pytest.raises(openai.APIStatusError, match="does not support embeddings") as of_one:
            of_openai.embeddings.create(model="chat", input=TEXTS)
        with pytest.raises(ollama.ResponseError, match="does not support embeddings") as of_other:
            of_ollama.embed(model="chat", input=TEXTS)
        assert (of_one.value.status_code, of_other.value.status_code) == (501, 501)
    asked: dict[str, Any] = {"model": "chat", "messages": QUESTION, "max_tokens": 4}
    answer = of_openai.chat.completions.create(**asked)
    count("completions served")

    assert answer.choices[0].message.content
    after = place.router.booked("chat")
    assert (after.rejected - before.rejected, after.failed, after.ok - before.ok) == (6, 0, 1)


def picture() -> str:
    """The smallest PNG, in base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head, pixel = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0), zlib.compress(b"\0\xff\0\0")
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")
    return base64.b64encode(png).decode()


def showing(path: str, address: str = "") -> dict[str, Any]:
    """A question about a picture in one protocol's form: inside the request, or at an address."""
    said = {"type": "text", "text": "What is this?"}
    if path == "/api/chat":
        message: dict[str, Any] = {"content": said["text"], "images": [address or picture()]}
    elif path == "/v1/messages":
        inside = {"type": "base64", "media_type": "image/png", "data": picture()}
        message = {
            "content": [said, {"type": "image", "source": {"type": "url", "url": address} if address else inside}]
        }
    else:
        url = address or f"data:image/png;base64,{picture()}"
        message = {"content": [said, {"type": "image_url", "image_url": {"url": url}}]}
    return {"model": "chat", "max_tokens": 4, "stream": False, "messages": [{"role": "user", **message}]}


def said(path: str, refused: Reply) -> str:
    """What an error says, which must have the form of its protocol."""
    assert refused.headers["content-type"].startswith("application/json")
    fields = refused.fields
    if path == "/api/chat":
        assert fields.keys() == {"error"}
        error = {"message": fields["error"]}
    elif path == "/v1/messages":
        assert fields["type"] == "error"
        error = fields["error"]
        assert error["type"] in {"invalid_request_error", "api_error"}
    else:
        error = fields["error"]
        assert error["type"]
    message: str = error["message"]
    return message


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_picture_for_a_model_without_eyes_is_refused_in_the_clients_form(
    place: Place, path: str, stream: bool, count: Callable[..., None]
) -> None:
    """llama-server answers 500 to it, and yet nothing is wrong there: six of these would open a breaker."""
    before = place.router.booked("chat")
    for _ in range(6):
        refused = reply(f"{place.router.url}{path}", showing(path) | {"stream": stream})
        assert refused.status == 500
        assert "image input is not supported" in said(path, refused)
    served = reply(f"{place.router.url}/v1/chat/completions", {"model": "chat", "messages": QUESTION, "max_tokens": 2})
    count("completions served")

    assert served.status == 200
    after = place.router.booked("chat")
    assert (after.rejected - before.rejected, after.failed) == (6, 0)


@pytest.mark.parametrize("path", FORMS)
def test_a_picture_at_an_address_is_refused_and_never_fetched(place: Place, path: str) -> None:
    """Neither by the router, for nobody connects, nor by the engine, which is not even asked."""
    before = place.router.booked("chat").routed
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        refused = reply(
            f"{place.router.url}{path}", showing(path, f"http://127.0.0.1:{listener.getsockname()[1]}/a.png")
        )
        with pytest.raises(BlockingIOError):
            listener.accept()

    assert refused.status == 400
    assert "nothing is fetched" in said(path, refused) or "must be base64" in said(path, refused)
    assert place.router.booked("chat").routed == before


MESSAGES: dict[str, Any] = {
    "model": "chat",
    "max_tokens": 12,
    "system": "You are a helpful assistant.",
    "messages": QUESTION[1:],
    "temperature": 0,
}


def test_a_message_in_anthropics_form_passes(place: Place, count: Callable[..., None]) -> None:
    """The engine speaks it itself, so the fields of its answer are the same as without a router."""
    before = place.router.booked("chat")
    answer = reply(f"{place.router.url}/v1/messages", MESSAGES)
    direct = reply(f"{place.chat}/v1/messages", MESSAGES)
    count("completions served")

    assert (answer.status, answer.headers["x-arbiter-model"]) == (200, "smollm2")
    assert answer.fields.keys() == direct.fields.keys()
    assert (answer.fields["type"], answer.fields["role"]) == ("message", "assistant")
    assert answer.fields["content"][0]["type"] == "text"
    assert answer.fields["content"][0]["text"]
    usage, after = answer.fields["usage"], place.router.booked("chat")
    assert after.written - before.written == usage["output_tokens"] > 0
    assert after.read - before.read == usage["input_tokens"] + usage.get("cache_read_input_tokens", 0)


def test_a_streamed_message_passes_event_by_event(place: Place, count: Callable[..., None]) -> None:
    """Its events come in their order, and the tokens in the books are those that the last ones tell."""
    before = place.router.booked("chat")
    answer = reply(f"{place.router.url}/v1/messages", MESSAGES | {"stream": True})
    count("completions served")

    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [event.split("\n") for event in answer.body.decode().split("\n\n") if event]
    events = [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in lines]
    assert all(name == data["type"] for name, data in events)
    names = [name for name, _ in events]
    pieces = names.count("content_block_delta")
    assert names == [
        "message_start", "content_block_start", *["content_block_delta"] * pieces,
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert "".join(data["delta"]["text"] for name, data in events if name == "content_block_delta")
    begun, ended = events[0][1]["message"]["usage"], events[-2][1]["usage"]
    after = place.router.booked("chat")
    assert after.written - before.written == ended["output_tokens"] >= pieces > 0
    assert after.read - before.read == begun["input_tokens"] + begun.get("cache_read_input_tokens", 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_of_which_only_openais_api_is_known_takes_no_messages(place: Place, stream: bool) -> None:
    """The refusal is ours, in Anthropic's form, and nothing is sent."""
    refused = reply(f"{place.router.url}/v1/messages", MESSAGES | {"model": "external", "stream": stream})

    assert refused.status == 404
    assert refused.fields == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "External has no /v1/messages"},
    }
    assert place.router.booked("external").routed == 0
