"""One request from its client to its engine and back: who may ask, what is said, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arbiter.core.routes import Auth, Hold, Limits, RouteTable, Target
from arbiter.core.traffic import Side
from arbiter.router import metric_families as families
from arbiter.router.keys import KeyFile, line_of
from tests.unit.router.routing import CHAT, ask, backend_of, new, old, request, running, table_of, task_of
from tests.unit.router.stand_in import TOKENS, Does, stand_in
from tests.unit.router.wire.loopback import dialled, on_both_loops, until

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "s" * 40


@on_both_loops
async def test_stream_reaches_its_client_whole_and_is_booked_once() -> None:
    """The ordinary case, with what the client is told beside the answer."""
    async with stand_in("a") as engine, running(table_of(task_of(old(engine)))) as router:
        for _ in range(3):
            reply = await ask(router.port, request(stream=True))

            assert (reply.status, reply.whole) == (200, True)
            assert reply.body.count(b'"content": "a"') == TOKENS
            assert reply.body.endswith(b"data: [DONE]\n\n")
            assert reply.headers["x-arbiter-model"] == "model-a"
            assert reply.headers["x-arbiter-revision"] == "a"
        tally = router.tally()
        assert (tally.routed, tally.ok, tally.failures) == (3, 3, 0)
        assert sum(histogram.count for histogram in tally.first_token) == 3
        assert [fields["model"] for fields in engine.asked] == ["model-a"] * 3


@on_both_loops
async def test_tokens_of_an_answer_are_booked() -> None:
    """As its usage says them."""
    async with stand_in("a") as engine, running(table_of(task_of(old(engine)))) as router:
        assert (await ask(router.port, request())).status == 200
        assert (router.tally().input_tokens, router.tally().output_tokens) == (5, 2)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        pytest.param(CHAT, "openai", id="openai"),
        pytest.param(b"/api/chat", "ollama", id="ollama"),
        pytest.param(b"/v1/messages", "anthropic", id="anthropic"),
    ],
)
def test_unknown_model_is_told_in_the_callers_protocol(path: bytes, form: str) -> None:
    """The message names the tasks that exist, which is what whoever mistyped one needs."""

    @on_both_loops
    async def check() -> None:
        async with stand_in("a") as engine, running(table_of(task_of(old(engine)))) as router:
            reply = await ask(router.port, request(path, model="gpt-9"))
            message = "model 'gpt-9' not found; the models here are: chat"
            expected: dict[str, object] = {
                "openai": {
                    "error": {
                        "message": message,
                        "type": "invalid_request_error",
                        "param": "model",
                        "code": "model_not_found",
                    }
                },
                "ollama": {"error": message},
                "anthropic": {"type": "error", "error": {"type": "not_found_error", "message": message}},
            }

            assert reply.status == 404
            assert reply.fields == expected[form]
            assert router.requests() == {("", "", "refused"): 1}
            assert engine.asked == []

    check()


@on_both_loops
async def test_what_was_dropped_is_said() -> None:
    """A field that is silently left out is a client's lost afternoon; one that is no header stays out of it."""
    async with stand_in("a") as engine, running(table_of(task_of(old(engine)))) as router:
        reply = await ask(router.port, request(CHAT, (), **{"n_discard": 5, "evil\r\nx-evil: 1": 1}))

        assert reply.status == 200
        assert reply.headers["x-arbiter-dropped"] == "(other), n_discard"
        assert "x-evil" not in reply.headers
        assert router.meter.value(families.DROPPED_FIELDS, ("chat",)) == 2


@on_both_loops
async def test_swap_in_flight_is_told_with_each_answer() -> None:
    """Whoever sees another tone of voice can find out why."""
    async with stand_in("a") as engine:
        task = replace(task_of(old(engine)), swap="assistant-chat-1")
        async with running(table_of(task)) as router:
            for stream in (True, False):
                assert (await ask(router.port, request(stream=stream))).headers["x-arbiter-swap"] == "assistant-chat-1"
            router.router.obey(table_of(task_of(old(engine)), generation=2))
            assert "x-arbiter-swap" not in (await ask(router.port, request())).headers


def test_key_sees_the_models_that_it_may_use(keys: Path) -> None:
    """In every list; the others do not exist for it."""

    @on_both_loops
    async def check() -> None:
        async with (
            stand_in("a") as engine,
            running(table_of(task_of(old(engine)), task_of(old(engine), name="code")), keys=KeyFile(keys)) as router,
        ):
            for name, want in (("all", ["chat", "code"]), ("coder", ["code"])):
                key = b"x-api-key: %b.%b" % (name.encode(), SECRET.encode())
                get = b"GET %b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n" + key + b"\r\n\r\n"
                models = json.loads((await ask(router.port, get % b"/v1/models")).body)["data"]
                tags = json.loads((await ask(router.port, get % b"/api/tags")).body)["models"]
                assert [each["id"] for each in models] == [each["name"] for each in tags] == want
            assert engine.asked == []

    check()


@on_both_loops
async def test_score_is_taken_once() -> None:
    """An id stands for one answer, and who makes one up scores nothing."""
    async with stand_in("a") as engine, running(table_of(task_of(old(engine)))) as router:
        said = (await ask(router.port, request())).headers["x-arbiter-request-id"]
        for status in (204, 409):
            assert (await ask(router.port, request(b"/v1/feedback", id=said, score=0.5))).status == status
        for forged in (said[:-1] + ("0" if said[-1] != "0" else "1"), "chat.old.a.0", "x", "\ud800.\udfff", "ü"):
            assert (await ask(router.port, request(b"/v1/feedback", id=forged, score=1))).status == 404
        assert router.meter.value(families.FEEDBACK, ("chat", "old")) == 1
        assert router.meter.value(families.FEEDBACK_POINTS, ("chat", "old")) == 500


@pytest.mark.parametrize("does", [Does.SILENT, Does.STALL], ids=["before-the-first-token", "mid-stream"])
def test_engine_is_let_off_when_the_client_leaves(does: Does) -> None:
    """It would generate for nobody; and the side is not to blame."""

    @on_both_loops
    async def check() -> None:
        async with stand_in("a", does) as engine, running(table_of(task_of(old(engine)))) as router:
            async with dialled(router.port) as (reader, writer):
                writer.write(request(stream=True))
                await until(lambda: bool(engine.asked))
                if does is Does.STALL:
                    await reader.readuntil(b'"content": "a"')
            await until(lambda: engine.left == 1)
            await until(lambda: router.tally().left == 1)

            assert (router.tally().routed, router.tally().failures) == (1, 0)
            assert router.requests() == {("chat", "old", "left"): 1}

    check()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Give a file with a key for everything, one for `code` alone, and one of a low rate."""
    lines = [
        line_of("all", SECRET, b"1" * 16),
        line_of("coder", SECRET, b"2" * 16, "tasks=code"),
        line_of("slow", SECRET, b"3" * 16, "rate=0.001 burst=1"),
    ]
    path = tmp_path / "keys"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(
    ("header", "statuses"),
    [
        pytest.param(b"", [401], id="none"),
        pytest.param(b"authorization: Bearer all.wrong", [401], id="wrong"),
        pytest.param(b"authorization: Basic all." + SECRET.encode(), [401], id="not-a-bearer"),
        pytest.param(b"authorization: Bearer all." + SECRET.encode(), [200, 200], id="right"),
        pytest.param(b"x-api-key: all." + SECRET.encode(), [200], id="as-anthropic-has-it"),
        pytest.param(b"authorization: Bearer coder." + SECRET.encode(), [404], id="of-another-task"),
        pytest.param(b"authorization: Bearer slow." + SECRET.encode(), [200, 429], id="used-up"),
    ],
)
def test_key_decides_who_may_ask_for_what(keys: Path, header: bytes, statuses: list[int]) -> None:
    """A task that a key may not use does not exist for it; one that asks too often is told when to come again."""

    @on_both_loops
    async def check() -> None:
        async with (
            stand_in("a") as engine,
            running(table_of(task_of(old(engine))), keys=KeyFile(keys)) as router,
        ):
            for status in statuses:
                reply = await ask(router.port, request(headers=[header] if header else []))
                assert reply.status == status
                assert ("retry-after" in reply.headers) == (status == 429)
            assert len(engine.asked) == statuses.count(200)

    check()


@on_both_loops
async def test_table_that_asks_for_keys_lets_nobody_in_without_a_file() -> None:
    """A Secret that is not mounted must not open the door."""
    async with stand_in("a") as engine:
        plain = table_of(task_of(old(engine)))
        async with running(RouteTable(1, 1, 15_000, plain.tasks, Limits(), Auth("keys"))) as router:
            assert (await ask(router.port, request())).status == 401


@on_both_loops
async def test_sessions_stay_on_their_side_and_only_the_needed_share_moves() -> None:
    """A conversation keeps its model until the weights leave it no choice."""
    async with stand_in("a") as newer, stand_in("b") as older:

        async def sides(router_port: int) -> list[str]:
            found = []
            for number in range(30):
                headers = [b"x-session-id: user-%d" % number]
                found.append((await ask(router_port, request(headers=headers))).headers["x-arbiter-model"])
            return found

        async with running(table_of(task_of(new(newer, weight=20), old(older, weight=80)))) as router:
            before = await sides(router.port)
            assert await sides(router.port) == before
            router.router.obey(table_of(task_of(new(newer, weight=60), old(older, weight=40)), generation=2))
            after = await sides(router.port)

    moved = {(was, now) for was, now in zip(before, after, strict=True) if was != now}
    assert moved == {("model-b", "model-a")}
    assert set(before) == {"model-a", "model-b"}


@on_both_loops
async def test_running_streams_end_where_they_began_when_the_table_is_replaced() -> None:
    """The whole point: a swap cuts nobody, and takes effect at once."""
    count = 500 if asyncio.get_running_loop().__class__.__module__ == "uvloop" else 50
    async with stand_in("a") as newer, stand_in("b") as older:
        older.usual = Does.HALF_NOW
        async with running(table_of(task_of(old(older)))) as router:
            streams = [asyncio.ensure_future(ask(router.port, request(stream=True))) for _ in range(count)]
            await until(lambda: len(older.asked) == count)

            router.router.obey(table_of(task_of(new(newer)), generation=2))
            reply = await ask(router.port, request())
            assert reply.headers["x-arbiter-model"] == "model-a"
            older.go.set()
            replies = await asyncio.gather(*streams)

            assert {(each.status, each.whole, each.headers["x-arbiter-model"]) for each in replies} == {
                (200, True, "model-b")
            }
            assert all(each.body.endswith(b"[DONE]\n\n") for each in replies)
            tally = router.tally(Side.OLD)
            assert (tally.ok, tally.failures, tally.left) == (count, 0, 0)


@on_both_loops
async def test_streams_go_on_when_their_endpoints_are_no_longer_listed() -> None:
    """A pod that ends finishes its answers; who comes meanwhile waits, or is refused where nobody may wait."""
    count = 40
    task = task_of(Target(Side.OLD, backend_of(service="model"), 100), hold=Hold(1, 10.0))
    async with stand_in("a") as engine, running(table_of(task)) as router:
        engine.usual = Does.HALF_NOW
        router.router.place("model", [engine.url])
        streams = [asyncio.ensure_future(ask(router.port, request(stream=True))) for _ in range(count)]
        await until(lambda: len(engine.asked) == count)

        router.router.place("model", [])
        waits = asyncio.ensure_future(ask(router.port, request(stream=True)))
        await until(lambda: router.meter.value(families.HELD_NOW, ("chat",)) == 1)
        assert (await ask(router.port, request(stream=True))).status == 503
        assert len(engine.asked) == count
        engine.go.set()
        replies = await asyncio.gather(*streams)
        router.router.place("model", [engine.url])

        assert {(each.status, each.whole, each.body.endswith(b"[DONE]\n\n")) for each in (*replies, await waits)} == {
            (200, True, True)
        }
        assert (router.tally().ok, router.tally().routed) == (count + 1, count + 1)
        assert router.requests() == {("chat", "old", "ok"): count + 1, ("chat", "", "held-out"): 1}


@on_both_loops
async def test_slow_client_holds_up_its_engine_and_not_our_memory() -> None:
    """What it does not read is not read from the engine either."""
    async with stand_in("a", Does.FLOOD) as engine, running(table_of(task_of(old(engine)))) as router:
        async with dialled(router.port) as (reader, writer):
            writer.write(request(stream=True))
            await reader.readuntil(b"xxxx")
            before = -1
            while engine.written != before:  # until neither side's kernel takes any more
                before = engine.written
                await asyncio.sleep(0.1)
            assert engine.written < 40_000_000
            (connection,) = router.server._connections  # noqa: SLF001  how much it keeps is what this is about
            assert connection._transport.get_write_buffer_size() < 1_000_000  # noqa: SLF001  as above
        await until(lambda: engine.left == 1)
        await until(lambda: router.tally().left == 1)


@pytest.mark.parametrize(
    ("path", "key"), [pytest.param(CHAT, "code", id="openai"), pytest.param(b"/api/chat", None, id="ollama")]
)
def test_body_may_be_as_long_as_the_table_says_and_no_longer(path: bytes, key: str | None) -> None:
    """Ten megabytes by default; one byte more is refused in the caller's protocol."""

    @on_both_loops
    async def check() -> None:
        most = Limits().body_bytes
        empty = len(request(path, stream=False, pad="").partition(b"\r\n\r\n")[2])
        async with stand_in("a") as engine, running(table_of(task_of(old(engine)))) as router:
            assert (await ask(router.port, request(path, stream=False, pad="x" * (most - empty)))).status == 200
            head = b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (path, most + 1)
            reply = await ask(router.port, head)
            assert reply.status == 413
            error = reply.fields["error"]
            assert isinstance(error, str) == (key is None)
            assert len(engine.asked) == 1

    check()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"{", "invalid_json", id="half"),
        pytest.param(b"[]", "invalid_json", id="no-object"),
        pytest.param(b'{"model": "chat"} {}', "invalid_json", id="two-objects"),
        pytest.param(b"\xff\xfe", "invalid_json", id="not-utf-8"),
        pytest.param(b"[" * 100_000, "invalid_json", id="deep"),
        pytest.param(b'{"model": 1}', "missing_model", id="model-is-a-number"),
        pytest.param(b'{"model": "chat", "stream": "yes"}', "invalid_type", id="stream-is-a-text"),
    ],
)
def test_wrong_json_is_refused_by_name(body: bytes, code: str) -> None:
    """Here and not at an engine, where it would look like a failure of the model."""

    @on_both_loops
    async def check() -> None:
        async with stand_in("a") as engine, running(table_of(task_of(old(engine)))) as router:
            head = b"POST %b HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % (CHAT, len(body))
            reply = await ask(router.port, head + body)
            error = json.loads(reply.body)["error"]

            assert (reply.status, error["code"]) == (400, code)
            assert engine.asked == []
            assert (await ask(router.port, request())).status == 200

    check()


@on_both_loops
async def test_garbage_is_refused_and_the_next_client_is_served() -> None:
    """The process never dies of what somebody sends."""
    async with stand_in("a") as engine, running(table_of(task_of(old(engine)))) as router:
        for garbage in (b"\x16\x03\x01\x02\x00", b"\0" * 1000, bytes(range(256)) * 16, b"GET\r\n\r\n"):
            assert (await ask(router.port, garbage)).status in {400, 0}
        assert (await ask(router.port, request())).status == 200
