"""A real Ollama behind the router: whoever asks, it is asked in OpenAI's form, and its own counts are booked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import ollama
import openai
import pytest

from arbiter.api.localmodel import EngineType
from devcluster.waiting import wait_until
from tests.e2e.engines import ollama_server
from tests.e2e.router.on_host import HostRouter, reply, router, served_by
from tests.e2e.running import Cluster, said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.cluster

MODEL = "smollm2:135m"

# One thread, or it counts the machine's processors and waits for time slices that its limit does not give.
MODELFILE = '''\
FROM /model/model.gguf
PARAMETER num_thread 1
TEMPLATE """{{- if .Tools }}<|im_start|>system
You may call these functions: {{ .Tools }}<|im_end|>
{{ end }}{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}{{- range .ToolCalls }}<tool_call>
{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
</tool_call>{{ end }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
'''
"""A template that knows tools; with one that does not, Ollama refuses them."""

QUESTION = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]
TEXTS = ["The capital of France is Paris.", "Bread is made of flour."]

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

BUSY_TICKS = 5
"""Processor time in half a second from which on an engine works on something; it has a hundred in a second."""


class Place(NamedTuple):
    """The router, and the Ollama behind it."""

    router: HostRouter
    engine: str


@pytest.fixture(scope="module")
def place(
    cluster: Cluster,
    namespace: str,
    start: Callable[[list[dict[str, Any]]], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    """Start Ollama, make its model, and start the router."""
    url = start(ollama_server("smollm2"))
    inside(cluster, namespace, "cat >/models/Modelfile", stdin=MODELFILE)
    inside(cluster, namespace, f"ollama create {MODEL} --file /models/Modelfile")
    tasks = (
        served_by("chat", EngineType.Ollama, MODEL, url),
        served_by("absent", EngineType.Ollama, "absent:1b", url),
    )
    with router(tmp_path_factory.mktemp("router"), *tasks) as running:
        yield Place(running, url)


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


def inside(cluster: Cluster, namespace: str, script: str, stdin: str = "") -> str:
    """Run a shell script in Ollama's pod."""
    command = ("-n", namespace, "exec", "--stdin", "deployment/ollama", "--", "sh", "-c", script)
    return said(cluster.kubectl(*command, stdin=stdin))


def used(cluster: Cluster, namespace: str) -> int:
    """Processor time that the engine has used until now, in ticks; a name may hold blanks, so they count behind it."""
    stats = inside(cluster, namespace, "cat /proc/[0-9]*/stat 2>/dev/null; true").splitlines()
    times = [line.rpartition(")")[2].split()[11:13] for line in stats]
    return sum(int(user) + int(system) for user, system in times)


def works(cluster: Cluster, namespace: str) -> bool:
    """Whether the engine computes: what it uses of the processor in half a second."""
    before = used(cluster, namespace)
    inside(cluster, namespace, "sleep 0.5")
    return used(cluster, namespace) - before >= BUSY_TICKS


def test_both_clients_are_served_and_ollamas_own_counts_booked(
    place: Place, of_openai: openai.OpenAI, of_ollama: ollama.Client, count: Callable[..., None]
) -> None:
    """Four answers to one question tell the same counts, and so do the books."""
    count("engines started")
    before = place.router.booked("chat")
    asked: dict[str, Any] = {"model": "chat", "messages": QUESTION, "temperature": 0, "seed": 1, "max_tokens": 24}
    plain = of_openai.chat.completions.create(**asked)
    chunks = list(of_openai.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    same: dict[str, Any] = {"model": "chat", "messages": QUESTION}
    same["options"] = {"temperature": 0, "seed": 1, "num_predict": 24}
    whole = of_ollama.chat(**same)
    pieces = list(of_ollama.chat(**same, stream=True))
    count("completions served", 4)

    assert "Paris" in plain.choices[0].message.content
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Paris" in whole.message.content
    assert (pieces[-1].done, pieces[-1].done_reason) == (True, whole.done_reason)
    assert "".join(piece.message.content or "" for piece in pieces)
    usages = [plain.usage, chunks[-1].usage]
    told_in = [usage.prompt_tokens for usage in usages] + [each.prompt_eval_count for each in (whole, pieces[-1])]
    told_out = [usage.completion_tokens for usage in usages] + [each.eval_count for each in (whole, pieces[-1])]
    assert min(told_in + told_out) > 0
    after = place.router.booked("chat")
    assert (after.routed - before.routed, after.ok - before.ok, after.failed) == (4, 4, 0)
    assert (after.read - before.read, after.written - before.written) == (sum(told_in), sum(told_out))


def test_a_stream_that_shows_no_usage_is_booked_by_the_engines_count(
    place: Place, of_openai: openai.OpenAI, count: Callable[..., None]
) -> None:
    """The router asks Ollama for it and keeps it to itself; asked directly, Ollama counts the same."""
    asked: dict[str, Any] = {"messages": QUESTION, "temperature": 0, "seed": 1, "max_tokens": 12}
    direct = reply(f"{place.engine}/v1/chat/completions", {"model": MODEL, **asked}).fields["usage"]
    before = place.router.booked("chat")
    chunks = list(of_openai.chat.completions.create(model="chat", **asked, stream=True))
    count("completions served")

    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    after = place.router.booked("chat")
    assert after.read - before.read == direct["prompt_tokens"]
    assert after.written - before.written == direct["completion_tokens"]


def test_what_ollama_would_tell_of_its_models_is_told_of_tasks(of_ollama: ollama.Client, place: Place) -> None:
    """Its lists name tasks, not what serves them; its version is that of the engine that we translate for."""
    assert [model.model for model in of_ollama.list().models] == ["absent", "chat"]
    assert [model.model for model in of_ollama.ps().models] == ["absent", "chat"]
    shown = of_ollama.show("chat")
    assert shown.capabilities == ["completion", "tools"]
    assert dict(shown.modelinfo or {})["arbiter.context_length"] == 1024
    version = reply(f"{place.router.url}/api/version").fields
    assert version == reply(f"{place.engine}/api/version").fields
    with pytest.raises(ollama.ResponseError, match="the models here are: absent, chat"):
        of_ollama.show(MODEL)


def test_a_model_that_ollama_does_not_have_is_told_to_each_client(
    place: Place, of_openai: openai.OpenAI, of_ollama: ollama.Client
) -> None:
    """Its 404 reaches OpenAI's and Ollama's clients as an error that they understand, and Anthropic's as one of its."""
    asked: dict[str, Any] = {"model": "absent", "messages": QUESTION}
    with pytest.raises(openai.NotFoundError, match="not found"):
        of_openai.chat.completions.create(**asked)
    for stream in (False, True):
        with pytest.raises(ollama.ResponseError, match="not found") as refused:
            list(of_ollama.chat(**asked, stream=stream))
        assert refused.value.status_code == 404
    message = reply(f"{place.router.url}/v1/messages", {"model": "absent", "max_tokens": 4, "messages": QUESTION[1:]})
    assert (message.status, message.fields["type"]) == (404, "error")
    assert message.fields["error"]["type"] == "not_found_error"

    booked = place.router.booked("absent")
    assert (booked.routed, booked.rejected, booked.failed) == (4, 4, 0)


def test_tools_reach_a_template_that_knows_them(
    place: Place, of_openai: openai.OpenAI, of_ollama: ollama.Client, count: Callable[..., None]
) -> None:
    """Whether the small model calls one or not, the answer has its form, and tools have made the prompt longer."""
    same: dict[str, Any] = {"model": "chat", "messages": QUESTION[1:]}
    short = {"temperature": 0, "num_predict": 20}
    without = of_ollama.chat(**same, options=short)
    same["tools"] = [WEATHER]
    whole = of_ollama.chat(**same, options=short)
    pieces = list(of_ollama.chat(**same, options=short, stream=True))
    plain = of_openai.chat.completions.create(**same, max_tokens=20).choices[0]
    chunks = list(of_openai.chat.completions.create(**same, max_tokens=20, stream=True))
    count("completions served", 5)

    assert whole.prompt_eval_count > without.prompt_eval_count
    assert pieces[-1].prompt_eval_count == whole.prompt_eval_count
    calls = [call for piece in (whole, *pieces) for call in piece.message.tool_calls or []]
    assert all(isinstance(call.function.arguments, dict) for call in calls)
    assert whole.message.content or whole.message.tool_calls
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert plain.message.content or plain.message.tool_calls
    assert plain.finish_reason in {"stop", "length", "tool_calls"}
    assert chunks[-1].choices[0].finish_reason in {"stop", "length", "tool_calls"}
    assert place.router.booked("chat").failed == 0


def test_vectors_are_those_of_ollama(
    place: Place, of_openai: openai.OpenAI, of_ollama: ollama.Client, count: Callable[..., None]
) -> None:
    """Of unit length in every form; only Ollama's own older form gives them as long as the model made them."""
    direct = reply(f"{place.engine}/api/embed", {"model": MODEL, "input": TEXTS}).fields["embeddings"]
    older = reply(f"{place.engine}/api/embeddings", {"model": MODEL, "prompt": TEXTS[0]}).fields["embedding"]
    wanted = [pytest.approx(vector, abs=1e-5) for vector in direct]

    packed = of_openai.embeddings.create(model="chat", input=TEXTS)
    batch = of_ollama.embed(model="chat", input=TEXTS)
    single = of_ollama.embeddings(model="chat", prompt=TEXTS[0])
    count("completions served", 3)

    assert [each.embedding for each in packed.data] == wanted
    assert [list(each) for each in batch.embeddings] == wanted
    assert list(single.embedding) == wanted[0]
    length = math.hypot(*older)
    assert list(single.embedding) == pytest.approx([value / length for value in older], abs=1e-4)
    assert packed.usage.prompt_tokens == batch.prompt_eval_count
    assert packed.usage.prompt_tokens > 0


def test_ollama_stops_when_its_client_leaves(
    cluster: Cluster, namespace: str, place: Place, of_openai: openai.OpenAI, count: Callable[..., None]
) -> None:
    """It takes one request at a time, so the next would wait for an answer that nobody reads.

    What it computes for a client that leaves is measured by what it computes for one that stays.
    """
    before = place.router.booked("chat").left
    question = [{"role": "user", "content": "Count to a thousand."}]
    asked: dict[str, Any] = {"model": "chat", "messages": question, "temperature": 0}
    of_openai.chat.completions.create(**asked, max_tokens=1)
    begun = used(cluster, namespace)
    written = len(list(of_openai.chat.completions.create(**asked, max_tokens=150, stream=True)))
    stayed = used(cluster, namespace) - begun
    count("completions served", 2)
    begun = used(cluster, namespace)
    stream = of_openai.chat.completions.create(**asked, max_tokens=150, stream=True)
    next(iter(stream))
    stream.close()

    assert wait_until(lambda: not works(cluster, namespace), 60)
    left = used(cluster, namespace) - begun
    assert written > 100, "the answer is long enough to tell the two apart"
    assert 2 * left < stayed, "the model goes on"
    assert wait_until(lambda: place.router.booked("chat").left == before + 1, 10)
