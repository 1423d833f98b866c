"""curl asks a router in front of a real llama-server: as a person types it, in the options that change the wire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.api.localmodel import EngineType
from tests.e2e.engines import llama_server
from tests.e2e.router.on_host import HostRouter, router, served_by
from tests.e2e.running import run, said
from tests.traffic.answers import EventStream, check_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.cluster

ASKED: dict[str, Any] = {
    "model": "chat",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 8,
}


@pytest.fixture(scope="module")
def behind(
    start: Callable[[list[dict[str, Any]]], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HostRouter]:
    """Start the engine, and the router in front of it."""
    url = start(llama_server("smollm2"))
    with router(tmp_path_factory.mktemp("router"), served_by("chat", EngineType.LlamaCpp, "smollm2", url)) as running:
        yield running


def curl(*arguments: str) -> str:
    """What curl prints; an answer of 400 or above makes it fail."""
    return said(run("curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "60", *arguments))


def head_of(path: Path) -> dict[str, str]:
    """The fields of the last head that curl wrote down."""
    lines = path.read_text().strip().split("\n\n")[-1].splitlines()[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_a_question_is_answered_and_its_answer_scored_once(
    behind: HostRouter, tmp_path: Path, count: Callable[..., None]
) -> None:
    """The id in the answer's head is all that a client needs to say how good it was."""
    count("engines started")
    head, asked = tmp_path / "head", json.dumps(ASKED)
    body = curl("--dump-header", str(head), f"{behind.url}/v1/chat/completions", "--data", asked)
    count("completions served")

    check_plain(body.encode())
    score = json.dumps({"id": head_of(head)["x-arbiter-request-id"], "score": 0.75})
    asked_for = (f"{behind.url}/v1/feedback", "--data", score, "--write-out", "%{http_code}")
    assert curl(*asked_for) == "204"
    assert behind.metric('arbiter_router_feedback_total{task="chat",side="old"}') == 1
    assert behind.metric('arbiter_router_feedback_points_total{task="chat",side="old"}') == 750
    again = run("curl", "--silent", *asked_for)
    assert again.stdout.endswith("409")
    assert json.loads(again.stdout.removesuffix("409"))["error"]["code"] == "already_scored"
    assert behind.metric('arbiter_router_feedback_total{task="chat",side="old"}') == 1


def test_a_stream_comes_unbuffered_and_ends_as_one(behind: HostRouter, count: Callable[..., None]) -> None:
    """Its last event is `[DONE]`, and none of the tokens before it is missing."""
    asked = json.dumps(ASKED | {"stream": True, "stream_options": {"include_usage": True}})
    body = curl("--no-buffer", f"{behind.url}/v1/chat/completions", "--data", asked)
    count("completions served")

    stream = EventStream()
    stream.feed(body.encode())
    stream.end()
    events = [event for event in body.split("\n\n") if event.strip()]
    assert events[-1] == "data: [DONE]"
    usage = json.loads(events[-2].removeprefix("data: "))["usage"]
    assert usage["completion_tokens"] > 0
    assert stream.events >= usage["completion_tokens"]


@pytest.mark.parametrize(
    ("padding", "options"),
    [
        pytest.param(0, ("--header", "Expect: 100-continue"), id="because the header says so"),
        pytest.param(1_200_000, (), id="because the body is large"),
    ],
)
def test_a_client_that_waits_to_be_told_to_go_on_is_told(
    behind: HostRouter, tmp_path: Path, padding: int, options: tuple[str, ...], count: Callable[..., None]
) -> None:
    """A body above 1 MB is sent by curl only after `100 Continue`, or a second later."""
    body, trace, answer = tmp_path / "body", tmp_path / "trace", tmp_path / "answer"
    body.write_text(json.dumps(ASKED | {"metadata": {"padding": "x" * padding}}))
    url = f"{behind.url}/v1/chat/completions"
    told = ("--trace-ascii", str(trace), "--output", str(answer), "--write-out", "%{http_code}")
    # Longer than this test may take: without being told, curl would never send the body.
    assert curl("--http1.1", *options, "--expect100-timeout", "60", *told, url, "--data", f"@{body}") == "200"
    count("completions served")

    check_plain(answer.read_bytes())
    lines = trace.read_text()
    assert "Expect: 100-continue" in lines
    assert "HTTP/1.1 100 Continue" in lines
    assert lines.index("HTTP/1.1 100 Continue") < lines.index("HTTP/1.1 200 OK")
