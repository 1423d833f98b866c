"""What model servers are asked, and how their answers are read: recorded from llama-server b11669 and Ollama 0.17.4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.api.localmodel import EngineType
from arbiter.engines import llamacpp_calls, ollama_calls, openai_calls, vllm_calls
from arbiter.engines.calls import Call, EngineRefusedError, EngineReplyError, Load, Reply, metric
from arbiter.engines.load import load_call, read_load
from arbiter.engines.ollama_calls import Ingredients, LoadedModel, ModelDetails, Progress, Runner, StoredModel
from arbiter.engines.openai_calls import Chatted, Proof, ServedModel

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDED = Path(__file__).parent / "recorded"
OWN = "arbiter/smollm2:0123456789"
SUM = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def recorded(name: str, status: int = 200) -> Reply:
    """Give what a real server answered."""
    return Reply("GET /x", status, (RECORDED / name).read_bytes())


def said(content: object, status: int = 200) -> Reply:
    """Give an answer that is made up."""
    return Reply("GET /x", status, content if isinstance(content, bytes) else json.dumps(content).encode())


CALLS = [
    pytest.param(openai_calls.MODELS, "GET", "/v1/models", None, id="models"),
    pytest.param(llamacpp_calls.HEALTH, "GET", "/health", None, id="health"),
    pytest.param(llamacpp_calls.PROPS, "GET", "/props", None, id="props"),
    pytest.param(llamacpp_calls.SLOTS, "GET", "/slots", None, id="slots"),
    pytest.param(llamacpp_calls.METRICS, "GET", "/metrics", None, id="metrics"),
    pytest.param(ollama_calls.VERSION, "GET", "/api/version", None, id="version"),
    pytest.param(ollama_calls.TAGS, "GET", "/api/tags", None, id="tags"),
    pytest.param(ollama_calls.PS, "GET", "/api/ps", None, id="ps"),
    pytest.param(ollama_calls.show("a:b"), "POST", "/api/show", {"model": "a:b"}, id="show"),
    pytest.param(ollama_calls.pull("a:b"), "POST", "/api/pull", {"model": "a:b", "stream": True}, id="pull"),
    pytest.param(
        ollama_calls.create_from(OWN, "a:b", {"num_ctx": 2048}),
        "POST",
        "/api/create",
        {"model": OWN, "from": "a:b", "parameters": {"num_ctx": 2048}, "stream": True},
        id="create from a model",
    ),
    pytest.param(
        ollama_calls.create_of(OWN, Ingredients({"model.gguf": SUM}), {}),
        "POST",
        "/api/create",
        {"model": OWN, "files": {"model.gguf": f"sha256:{SUM}"}, "stream": True},
        id="create from a file",
    ),
    pytest.param(
        ollama_calls.create_of(
            OWN,
            Ingredients(
                {"model.gguf": SUM},
                adapters={"adapter.gguf": SUM},
                template="{{ .Prompt }}",
                system="Be brief.",
                licenses=("MIT", "Apache"),
                messages=({"role": "user", "content": "Hi"},),
                parameters={"stop": ["</s>"], "num_ctx": 512},
                formats={"renderer": "qwen3", "parser": "qwen3"},
            ),
            {"num_ctx": 2048},
        ),
        "POST",
        "/api/create",
        {
            "model": OWN,
            "files": {"model.gguf": f"sha256:{SUM}"},
            "adapters": {"adapter.gguf": f"sha256:{SUM}"},
            "template": "{{ .Prompt }}",
            "system": "Be brief.",
            "license": ["MIT", "Apache"],
            "messages": [{"role": "user", "content": "Hi"}],
            "renderer": "qwen3",
            "parser": "qwen3",
            "parameters": {"stop": ["</s>"], "num_ctx": 2048},
            "stream": True,
        },
        id="create from all that a library has of a model",
    ),
    pytest.param(
        ollama_calls.pull("a:b", insecure=True),
        "POST",
        "/api/pull",
        {"model": "a:b", "stream": True, "insecure": True},
        id="pull without TLS",
    ),
    pytest.param(ollama_calls.has_blob(SUM), "HEAD", f"/api/blobs/sha256:{SUM}", None, id="has blob"),
    pytest.param(
        ollama_calls.preload(OWN, 60),
        "POST",
        "/api/generate",
        {"model": OWN, "keep_alive": -1, "stream": False},
        id="preload",
    ),
    pytest.param(
        ollama_calls.preload(OWN, 60, only_embeds=True),
        "POST",
        "/api/embed",
        {"model": OWN, "keep_alive": -1, "input": []},
        id="preload what embeds",
    ),
    pytest.param(
        ollama_calls.unload(OWN),
        "POST",
        "/api/generate",
        {"model": OWN, "keep_alive": 0, "stream": False},
        id="unload",
    ),
    pytest.param(ollama_calls.delete(OWN), "DELETE", "/api/delete", {"model": OWN}, id="delete"),
]


@pytest.mark.parametrize(("call", "want_method", "want_path", "want_body"), CALLS)
def test_calls_say_what_the_servers_understand(call: Call, want_method: str, want_path: str, want_body: Any) -> None:  # noqa: ANN401  JSON
    """Each was answered by the real server when the answers were recorded."""
    assert (call.method, call.path, call.body) == (want_method, want_path, want_body)
    assert call.content == (b"" if want_body is None else json.dumps(want_body, separators=(",", ":")).encode())
    assert call.deadline_s > 0
    assert call.asked == f"{want_method} {want_path}"


def test_a_file_is_uploaded_where_it_is_looked_for() -> None:
    """Else it would be uploaded again and again."""
    assert ollama_calls.upload_path(SUM) == ollama_calls.has_blob(SUM).path


@pytest.mark.parametrize(
    ("capabilities", "want_path"),
    [
        pytest.param({"chat", "completion", "embeddings"}, "/v1/chat/completions", id="what chats is asked to chat"),
        pytest.param({"completion"}, "/v1/completions", id="a base model continues"),
        pytest.param({"embeddings"}, "/v1/embeddings", id="what only embeds gives a vector"),
        pytest.param({"completion", "embeddings"}, "/v1/completions", id="text proves more than a vector"),
        pytest.param(set(), "/v1/completions", id="unknown: what every text model can do"),
    ],
)
def test_readiness_is_proven_by_one_token_or_a_vector(capabilities: set[str], want_path: str) -> None:
    """Nothing that costs more is asked, and nothing that the model cannot do."""
    call = openai_calls.proof_call("smollm2", capabilities, 30)
    assert call.body is not None
    assert (call.method, call.path, call.deadline_s) == ("POST", want_path, 30)
    assert call.body["model"] == "smollm2"
    assert call.body.get("max_tokens", 1) == 1


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("llamacpp_proof_chat.json", Proof(tokens=1)),
        ("llamacpp_proof_completion.json", Proof(tokens=1)),
        ("llamacpp_proof_embedding.json", Proof(dimensions=4)),
        ("ollama_proof_chat.json", Proof(tokens=1)),
        ("ollama_proof_completion.json", Proof(tokens=1)),
    ],
)
def test_real_answers_prove_readiness(name: str, want: Proof) -> None:
    """One token came back from each."""
    assert openai_calls.read_proof(recorded(name)) == want


NO_PROOF = [
    pytest.param(said({"choices": []}), "no choice", id="no choice"),
    pytest.param(said({}), "choices must be a list, not nothing", id="nothing"),
    pytest.param(said({"choices": [{}], "usage": {"completion_tokens": 0}}), "no token", id="no token"),
    pytest.param(said({"data": []}), "no vector", id="no vector"),
    pytest.param(said({"data": [{"embedding": []}]}), "no vector", id="an empty vector"),
    pytest.param(said({"error": {"message": "oom"}}), "answered 200: oom", id="an error under 200"),
    pytest.param(said([]), "must be an object, not a list", id="a list"),
    pytest.param(said(b"<html>"), "not JSON", id="a page"),
    pytest.param(said(b"\xff\xfe"), "not JSON", id="no text at all"),
    pytest.param(said(b"[" * 100_000), "not JSON", id="endless nesting"),
]


@pytest.mark.parametrize(("reply", "want_words"), NO_PROOF)
def test_an_answer_with_nothing_in_it_proves_nothing(reply: Reply, want_words: str) -> None:
    """Traffic would be sent to a model that says nothing."""
    with pytest.raises(EngineReplyError, match=want_words) as caught:
        openai_calls.read_proof(reply)
    assert str(caught.value).startswith("GET /x: ")


def test_a_chat_is_asked_so_that_it_can_be_repeated() -> None:
    """Temperature 0 and a seed, and no more tokens than were asked for."""
    messages = [{"role": "user", "content": "Hi"}]
    call = openai_calls.chat_call("smollm2", messages, max_tokens=5, seed=7, deadline_s=30)
    assert (call.method, call.path, call.deadline_s) == ("POST", "/v1/chat/completions", 30)
    want = {"model": "smollm2", "messages": messages, "max_tokens": 5, "temperature": 0, "seed": 7, "stream": False}
    assert call.body == want


@pytest.mark.parametrize("name", ["llamacpp_proof_chat.json", "ollama_proof_chat.json"])
def test_the_words_of_real_answers_are_read(name: str) -> None:
    """Both were cut after their first token."""
    chatted = openai_calls.read_chat(recorded(name))
    assert chatted.cut
    assert chatted.text


@pytest.mark.parametrize(
    ("choice", "want"),
    [
        pytest.param({"message": {"content": "a"}, "finish_reason": "stop"}, Chatted("a"), id="an answer"),
        pytest.param(
            {"message": {"content": None}, "finish_reason": "length"}, Chatted("", cut=True), id="only thoughts"
        ),
        pytest.param(
            {"message": {"tool_calls": []}, "finish_reason": "tool_calls"}, Chatted(""), id="a tool is called"
        ),
        pytest.param({"message": {"content": "a"}}, Chatted("a"), id="without an end"),
    ],
)
def test_an_answer_without_words_is_an_empty_one(choice: dict[str, object], want: Chatted) -> None:
    """A model that says nothing has answered, with nothing."""
    assert openai_calls.read_chat(said({"choices": [choice]})) == want


@pytest.mark.parametrize(
    ("reply", "want_words"),
    [
        pytest.param(said({"choices": []}), "no choice", id="no choice"),
        pytest.param(
            said({"choices": [{"message": {"content": 3}}]}), "content must be text, not a number", id="a number"
        ),
        pytest.param(said({"error": {"message": "oom"}}), "answered 200: oom", id="an error under 200"),
    ],
)
def test_what_is_no_chat_is_refused(reply: Reply, want_words: str) -> None:
    """A server that does not speak the form gives no words."""
    with pytest.raises(EngineReplyError, match=want_words):
        openai_calls.read_chat(reply)


def test_a_refusal_keeps_the_servers_own_words() -> None:
    """They say what a person can do."""
    with pytest.raises(EngineRefusedError) as caught:
        openai_calls.read_proof(recorded("llamacpp_proof_refused.json", 501))
    assert caught.value.status == 501
    assert caught.value.said == "This server does not support embeddings. Start it with `--embeddings`"


def test_a_vector_without_numbers_counts_as_base64() -> None:
    """Some servers write it so unless they are asked otherwise."""
    assert openai_calls.read_proof(said({"data": [{"embedding": "AAAA"}]})).dimensions == 4


def test_an_answer_that_counts_no_tokens_is_a_proof() -> None:
    """Custom servers need not count."""
    assert openai_calls.read_proof(said({"choices": [{"text": "a"}]})) == Proof()


def test_llama_server_and_ollama_list_their_models() -> None:
    """The context window stands where each of them writes it."""
    assert openai_calls.read_models(recorded("llamacpp_models.json")) == (ServedModel("smollm2", 2048),)
    assert [one.name for one in openai_calls.read_models(recorded("ollama_models.json"))] == [OWN, "smollm2:135m"]
    vllm = said({"object": "list", "data": [{"id": "qwen3", "max_model_len": 32768, "permission": []}]})
    assert openai_calls.read_models(vllm) == (ServedModel("qwen3", 32768),)


def test_a_server_that_is_loading_says_so() -> None:
    """Then it needs time; any other error needs a person."""
    loading = llamacpp_calls.read_health(recorded("llamacpp_loading.json", 503))
    assert (loading.ready, loading.loading, loading.said) == (False, True, "Loading model")
    assert llamacpp_calls.read_health(said({"status": "ok"})).ready
    broken = llamacpp_calls.read_health(said(b"nope", 500))
    assert (broken.ready, broken.loading, broken.said) == (False, False, "nope")


def test_llama_server_tells_what_its_model_can_do() -> None:
    """SmolLM2 has a chat template, Gemma's base model has none: the server's general one says nothing about it."""
    smollm2 = llamacpp_calls.read_props(recorded("llamacpp_props.json"))
    assert (smollm2.context_window, smollm2.slots, smollm2.build) == (2048, 1, "b11669-Debian")
    assert smollm2.capabilities == {"chat", "completion", "json"}
    gemma = llamacpp_calls.read_props(recorded("llamacpp_props_base.json"))
    assert gemma.context_window == 32768
    assert gemma.capabilities == {"completion", "json"}


def test_llama_server_tells_of_eyes_ears_and_tools() -> None:
    """As its source writes them."""
    told = {
        "default_generation_settings": {"n_ctx": 1},
        "total_slots": 2,
        "modalities": {"vision": True, "audio": True},
        "chat_template": "{{ messages }}",
        "chat_template_caps": {"supports_tools": True},
    }
    found = llamacpp_calls.read_props(said(told))
    assert found.capabilities == {"audio", "chat", "completion", "json", "tools", "vision"}
    assert found.build == ""


def test_llama_server_tells_its_load() -> None:
    """A server is gone from only when it computes nothing and nothing waits in it."""
    assert llamacpp_calls.read_slots(recorded("llamacpp_slots_idle.json")).idle
    assert llamacpp_calls.read_slots(recorded("llamacpp_slots_busy.json")) == Load(running=1)
    assert llamacpp_calls.read_load(recorded("llamacpp_metrics_busy.txt")) == Load(running=1, waiting=0)
    assert not Load(0, 1).idle


VLLM_METRICS = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="qwen3"} 2.0
vllm:num_requests_running{engine="1",model_name="qwen3"} 1.0
vllm:num_requests_running_total{engine="0"} 99
vllm:num_requests_waiting{engine="0",model_name="qwen3"} 3.0 1700000000000
"""


def test_vllm_adds_up_its_engines() -> None:
    """As its documentation writes them; not recorded, for want of a GPU."""
    assert vllm_calls.read_load(said(VLLM_METRICS.encode())) == Load(3, 3)


@pytest.mark.parametrize("text", ["", "vllm:num_requests_runningx 1", "vllm:num_requests_running many"])
def test_a_metric_that_is_not_there_is_no_zero(text: str) -> None:
    """A busy server would be taken for an idle one."""
    with pytest.raises(EngineReplyError, match="vllm:num_requests_running"):
        metric(text, "vllm:num_requests_running", "GET /metrics")


@pytest.mark.parametrize("kind", EngineType)
def test_load_is_asked_where_the_server_can_say(kind: EngineType) -> None:
    """Elsewhere it is unknown, which is not idle."""
    counters = b"llamacpp:requests_processing 0\nllamacpp:requests_deferred 0\n" + VLLM_METRICS.encode()
    call, load = load_call(kind), read_load(kind, said(counters))
    assert (call is None) == (load is None) == (kind not in {EngineType.LlamaCpp, EngineType.VLLM})


def test_ollama_tells_what_is_stored_and_loaded() -> None:
    """Digests are written as everywhere else, which it does not do itself."""
    digest = "sha256:b1143449d927a22856526835ebadd6067e22fd7428d921a3bf8eb1b8ae980721"
    assert ollama_calls.read_tags(recorded("ollama_tags.json"))[0] == StoredModel(OWN, digest, 98363037)
    (loaded,) = ollama_calls.read_ps(recorded("ollama_ps.json"))
    assert loaded == LoadedModel(OWN, digest, 143762688, 0, 2048)
    assert ollama_calls.read_ps(said({"models": None})) == ()
    assert ollama_calls.read_version(said({"version": "0.17.4"})) == "0.17.4"


def test_a_whole_number_may_be_left_out_but_not_be_another_thing() -> None:
    """A model that holds no memory because its size was misread would be loaded beside others until nothing fits."""
    with pytest.raises(EngineReplyError, match=r"size_vram must be a whole number from 0, not a text"):
        ollama_calls.read_ps(said({"models": [{"name": "a", "digest": "b", "size": 1, "size_vram": "2"}]}))
    assert ollama_calls.read_ps(said({"models": [{"name": "a", "digest": "b", "size": 1}]}))[0].size_vram == 0


def test_ollama_tells_what_a_model_is() -> None:
    """Its template makes it one that chats."""
    want = ModelDetails(frozenset({"chat", "completion", "json"}), 8192, "llama", "134.52M", "Q4_1")
    assert ollama_calls.read_show(recorded("ollama_show.json")) == want


@pytest.mark.parametrize(
    ("told", "want"),
    [
        pytest.param(
            {"capabilities": ["completion"], "template": "{{ .Prompt }}"}, {"completion", "json"}, id="a base model"
        ),
        pytest.param({"capabilities": ["embedding"]}, {"embeddings"}, id="one that embeds"),
        pytest.param({}, set(), id="an old server that does not say"),
    ],
)
def test_ollamas_words_become_ours(told: dict[str, Any], want: set[str]) -> None:
    """Tasks ask for capabilities in our words."""
    details = ollama_calls.read_show(said(told))
    assert details.capabilities == want
    assert details.context_window is None


def test_ollama_confirms_what_it_loaded_and_unloaded() -> None:
    """The two answers differ in one word."""
    ollama_calls.read_loaded(recorded("ollama_preload.json"))
    ollama_calls.read_loaded(said({"model": OWN, "embeddings": []}))
    ollama_calls.read_unloaded(recorded("ollama_unload.json"))
    with pytest.raises(EngineReplyError, match="loaded"):
        ollama_calls.read_loaded(recorded("ollama_unload.json"))
    with pytest.raises(EngineReplyError, match="unloaded"):
        ollama_calls.read_unloaded(recorded("ollama_preload.json"))
    with pytest.raises(EngineRefusedError) as caught:
        ollama_calls.read_loaded(recorded("ollama_preload_missing.json", 404))
    assert (caught.value.status, caught.value.said) == (404, "model 'nope:1' not found")


def test_what_a_model_is_loaded_as_is_told_by_its_file_and_the_runners_options() -> None:
    """Stop words and templates load nothing anew; what sees, and changes to the weights, do."""
    assert ollama_calls.read_runner(recorded("ollama_show.json")) == Runner(SUM, (), ("num_ctx 2048", "num_thread 1"))
    sees, changes = "1" * 64, "2" * 64
    lines = f"# FROM a:b\nFROM /m/blobs/sha256-{SUM}\nFROM /m/blobs/sha256-{sees}\nADAPTER /m/blobs/sha256-{changes}\n"
    assert ollama_calls.read_runner(said({"modelfile": lines})) == Runner(SUM, (sees, changes), ())
    with pytest.raises(EngineReplyError, match="names no file of weights"):
        ollama_calls.read_runner(said({"modelfile": "FROM a:b\n"}))


@pytest.mark.parametrize("name", ["ollama_create.ndjson", "ollama_create_from.ndjson"])
def test_ollamas_streams_end_in_success(name: str) -> None:
    """Only the last line says it, so a stream that was cut is none."""
    lines = [ollama_calls.read_line(line, "POST /x") for line in (RECORDED / name).read_bytes().splitlines()]
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]


def test_ollamas_errors_come_inside_of_streams() -> None:
    """The status is 200, and the line before sounds well."""
    first, last = (RECORDED / "ollama_pull_failed.ndjson").read_bytes().splitlines()
    assert ollama_calls.read_line(first, "POST /api/pull") == Progress("pulling manifest")
    with pytest.raises(EngineRefusedError, match="connection refused"):
        ollama_calls.read_line(last, "POST /api/pull")


def test_ollamas_progress_counts_bytes() -> None:
    """As its documentation writes it; `completed` may be absent."""
    line = b'{"status":"pulling 4b","digest":"sha256:4b","total":10,"completed":3}'
    assert ollama_calls.read_line(line, "x") == Progress("pulling 4b", "sha256:4b", 10, 3)
    assert ollama_calls.read_line(b'{"status":"pulling 4b","total":10}', "x").completed == 0


def test_names_are_whole() -> None:
    """Only whole names are compared with what a server shows."""
    assert ollama_calls.whole_name("smollm2") == "smollm2:latest"
    assert ollama_calls.whole_name("host:5000/ns/smollm2") == "host:5000/ns/smollm2:latest"
    assert ollama_calls.whole_name(OWN) == OWN


PARSERS: list[Callable[[Reply], object]] = [
    openai_calls.read_models,
    openai_calls.read_proof,
    openai_calls.read_chat,
    llamacpp_calls.read_health,
    llamacpp_calls.read_props,
    llamacpp_calls.read_slots,
    llamacpp_calls.read_load,
    ollama_calls.read_version,
    ollama_calls.read_tags,
    ollama_calls.read_ps,
    ollama_calls.read_show,
    ollama_calls.read_runner,
    ollama_calls.read_loaded,
    ollama_calls.read_unloaded,
    lambda reply: ollama_calls.read_line(reply.body, reply.asked),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["models", "data", "error", "name", "digest", "size", "usage", "id", "choices", "status"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
BODIES = st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode())


@pytest.mark.parametrize("parse", PARSERS)
@given(body=BODIES, status=st.sampled_from([200, 201, 404, 500, 503]))
def test_whatever_comes_is_read_or_refused(parse: Callable[[Reply], object], body: bytes, status: int) -> None:
    """A server may say anything; nothing else than our own error leaves this room."""
    refused = ""
    try:
        parse(Reply("GET /x", status, body))
    except EngineReplyError as error:
        refused = str(error)
    assert not refused or refused.startswith("GET /x: ")
    assert refused.isprintable()


WRONG = [
    pytest.param(
        {"models": [{"digest": "a", "size": 1}]}, r"models\[0\]\.name must be text, not nothing", id="missing"
    ),
    pytest.param(
        {"models": [{"name": 1, "digest": "a", "size": 1}]},
        r"models\[0\]\.name must be text, not a number",
        id="number",
    ),
    pytest.param(
        {"models": [{"name": "a", "digest": "a", "size": -1}]},
        r"models\[0\]\.size must be a whole number",
        id="below 0",
    ),
    pytest.param(
        {"models": [{"name": "a", "digest": "a", "size": True}]}, "size must be .* not a truth value", id="truth value"
    ),
    pytest.param({"models": {}}, "models must be a list, not an object", id="an object for a list"),
    pytest.param({"models": ["a"]}, r"models\[0\] must be an object, not a text", id="a text for an object"),
    pytest.param({}, "models must be a list, not nothing", id="none"),
]


@pytest.mark.parametrize(("told", "want_words"), WRONG)
def test_what_is_wrong_is_told_by_its_place(told: dict[str, Any], want_words: str) -> None:
    """Whoever reads it can compare with the server's documentation."""
    with pytest.raises(EngineReplyError, match=want_words):
        ollama_calls.read_tags(said(told))


@pytest.mark.parametrize(
    ("told", "want_words"),
    [
        pytest.param([{"is_processing": 1}], r"\[0\]\.is_processing must be true or false, not a number", id="flag"),
        pytest.param({"slots": 1}, "must be a list, not an object", id="list"),
        pytest.param(b"{", "not JSON", id="cut"),
    ],
)
def test_a_list_is_read_as_strictly(told: object, want_words: str) -> None:
    """An idle server that is not one would lose its requests."""
    with pytest.raises(EngineReplyError, match=want_words):
        llamacpp_calls.read_slots(said(told))


def test_a_list_of_texts_holds_nothing_else() -> None:
    """Capabilities decide what may be asked."""
    with pytest.raises(EngineReplyError, match="capabilities must be a list of texts, not a list"):
        ollama_calls.read_show(said({"capabilities": ["tools", 1]}))


@pytest.mark.parametrize(
    ("body", "want"),
    [
        pytest.param(b'{"error":"short"}', "short", id="as ollama writes it"),
        pytest.param(b'{"error":{"message":"in an object"}}', "in an object", id="as OpenAI's form has it"),
        pytest.param(b'{"message":"beside it"}', "beside it", id="as vLLM did"),
        pytest.param(b'{"error":{"code":7}}', '{"code": 7}', id="without words"),
        pytest.param(b'"just text"', "just text", id="no object"),
        pytest.param(b"line\nline", "line line", id="several lines"),
        pytest.param(b"x" * 500, "x" * 399 + "…", id="endless"),
    ],
)
def test_errors_are_found_in_every_form(body: bytes, want: str) -> None:
    """On one line and of bounded length, because it goes into a condition."""
    assert said(body, 500).error() == want


def test_an_error_without_words_is_told_as_such() -> None:
    """An empty sentence would look like a bug of ours."""
    with pytest.raises(EngineRefusedError, match="answered 502: without a message"):
        said(b"", 502).parse()
