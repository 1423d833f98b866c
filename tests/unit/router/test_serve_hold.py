"""Requests that wait while nothing can serve them: in order, bounded, and told the truth at the end."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from arbiter.core.routes import Hold, Target
from arbiter.core.traffic import Side
from arbiter.router import heartbeat
from arbiter.router import metric_families as families
from arbiter.router.keys import KeyFile, line_of
from tests.unit.router.routing import CHAT, Running, ask, backend_of, new, old, request, running, table_of, task_of
from tests.unit.router.stand_in import Does, stand_in
from tests.unit.router.wire.loopback import dialled, on_both_loops, until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from arbiter.core.routes import RouteTable
    from arbiter.router.wire.connection import Connection
    from tests.unit.router.routing import Reply

SECRET = "s" * 40

SERVICE = Target(Side.OLD, backend_of(service="model"), 100)
"""A model in a cluster, of which no pod is ready at first."""


def waiting(requests: int = 10, seconds: float = 10.0, hopeless: str = "") -> RouteTable:
    """A table under which requests wait."""
    return table_of(task_of(SERVICE, hold=Hold(requests, seconds, hopeless)))


def held(router: Running) -> int:
    """How many wait now."""
    return router.meter.value(families.HELD_NOW, ("chat",))


def of_key(key: str) -> bytes:
    """A request of one key; of none where that is empty."""
    return request(headers=[b"x-api-key: %b.%b" % (key.encode(), SECRET.encode())] if key else [])


def served(replies: Sequence[Reply]) -> list[int]:
    """In which order they were served, by their places here."""
    return sorted(range(len(replies)), key=lambda place: replies[place].turn)


async def lined_up(router: Running, key: str = "") -> asyncio.Future[Reply]:
    """Ask, and see the request wait."""
    before = held(router)
    asked = asyncio.ensure_future(ask(router.port, of_key(key)))
    await until(lambda: held(router) > before)
    return asked


@on_both_loops
async def test_request_that_waited_is_served_when_a_pod_is_ready() -> None:
    """A model that is being replaced costs time and no request; the wait is not booked as an attempt."""
    async with stand_in("a") as engine, running(waiting()) as router:
        asked = asyncio.ensure_future(ask(router.port, request()))
        await until(lambda: held(router) == 1)
        assert router.tally().routed == 0
        router.router.place("model", [engine.url])
        assert (await asked).status == 200

        router.router.place("model", [])
        again = asyncio.ensure_future(ask(router.port, request(stream=True)))
        await until(lambda: held(router) == 1)
        router.router.place("model", [engine.url])
        assert (await again).whole
        assert (router.tally().routed, router.tally().ok) == (2, 2)
        assert router.requests() == {("chat", "old", "ok"): 2}


@on_both_loops
async def test_who_came_first_is_served_first() -> None:
    """Also before one who comes when the pod is ready and the others are not awake yet."""
    async with stand_in("a") as engine, running(waiting()) as router:
        asked = [await lined_up(router) for _ in range(4)]
        router.router.endpoints.place("model", [engine.url], asyncio.get_running_loop().time())  # and nobody is told
        asked.append(await lined_up(router))
        assert router.tally().routed == 0
        router.router.wake()
        replies = await asyncio.gather(*asked)

        assert [reply.status for reply in replies] == [200] * 5
        assert served(replies) == [0, 1, 2, 3, 4]
        assert router.tally().ok == 5


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Give a file with keys of three priorities."""
    lines = [
        line_of("high", SECRET, b"1" * 16, "priority=5"),
        line_of("plain", SECRET, b"2" * 16),
        line_of("low", SECRET, b"3" * 16, "priority=-1"),
    ]
    path = tmp_path / "keys"
    path.write_text("\n".join(lines))
    return path


def test_higher_priority_goes_before_and_equal_ones_keep_their_order(keys: Path) -> None:
    """Whenever they came."""

    @on_both_loops
    async def check() -> None:
        async with stand_in("a") as engine, running(waiting(), keys=KeyFile(keys)) as router:
            came = ["low", "plain", "high", "low", "high", "plain"]
            asked = [await lined_up(router, key) for key in came]
            router.router.place("model", [engine.url])
            replies = await asyncio.gather(*asked)

            assert [reply.status for reply in replies] == [200] * 6
            assert served(replies) == [2, 4, 1, 5, 0, 3]
            assert router.requests() == {("chat", "old", "ok"): 6}

    check()


def test_higher_priority_takes_the_last_of_the_lowest_s_place_in_a_full_line(keys: Path) -> None:
    """That one is told to come again, and is counted once; who is no higher is refused."""

    @on_both_loops
    async def check() -> None:
        async with stand_in("a") as engine, running(waiting(2), keys=KeyFile(keys)) as router:
            first, last = await lined_up(router, "low"), await lined_up(router, "low")
            high = asyncio.ensure_future(ask(router.port, of_key("high")))
            displaced = await last
            again = await ask(router.port, of_key("low"))
            assert (displaced.status, displaced.headers["retry-after"], again.status) == (503, "10", 503)
            assert held(router) == 2
            router.router.place("model", [engine.url])

            replies = await asyncio.gather(first, high)
            assert [reply.status for reply in replies] == [200, 200]
            assert served(replies) == [1, 0]
            assert router.meter.value(families.UNHELD, ("chat", "full")) == 2
            assert router.requests() == {("chat", "", "held-out"): 2, ("chat", "old", "ok"): 2}

    check()


@on_both_loops
async def test_workers_together_hold_no_more_than_one_process_would() -> None:
    """Each knows only its own line, so each holds its part; who finds it full is refused."""
    async with stand_in("a") as engine, running(waiting(4), shares=2) as one, running(waiting(4), shares=2) as other:
        asked = []
        for worker in (one, other):
            asked += [await lined_up(worker) for _ in range(2)]
            assert (await ask(worker.port, request())).status == 503
        assert held(one) + held(other) == 4
        for worker in (one, other):
            worker.router.place("model", [engine.url])

        assert [reply.status for reply in await asyncio.gather(*asked)] == [200] * 4
        for worker in (one, other):
            assert worker.requests() == {("chat", "", "held-out"): 1, ("chat", "old", "ok"): 2}


@pytest.mark.parametrize(
    ("rules", "code", "retry_after", "reason"),
    [
        pytest.param(waiting(seconds=0.05), 503, "1", "timeout", id="time-is-over"),
        pytest.param(waiting(requests=0), 503, "10", "full", id="no-room"),
        pytest.param(waiting(hopeless="the model was deleted"), 503, None, "hopeless", id="hopeless"),
    ],
)
def test_request_that_cannot_wait_is_told_when_to_come_again(
    rules: RouteTable, code: int, retry_after: str | None, reason: str
) -> None:
    """And is not told so where nothing will come."""

    @on_both_loops
    async def check() -> None:
        async with running(rules) as router:
            reply = await ask(router.port, request())

            assert (reply.status, reply.headers.get("retry-after")) == (code, retry_after)
            assert router.meter.value(families.UNHELD, ("chat", reason)) == 1
            assert sum(router.requests().values()) == 1
            assert router.tally().routed == 0

    check()


@on_both_loops
async def test_client_that_leaves_makes_room() -> None:
    """Nobody is served who is not there, and the next one may wait in its place."""
    async with stand_in("a") as engine, running(waiting(requests=1)) as router:
        async with dialled(router.port) as (_, writer):
            writer.write(request())
            await until(lambda: held(router) == 1)
            assert (await ask(router.port, request())).status == 503
        await until(lambda: held(router) == 0)
        asked = asyncio.ensure_future(ask(router.port, request()))
        await until(lambda: held(router) == 1)
        router.router.place("model", [engine.url])

        assert (await asked).status == 200
        assert len(engine.asked) == 1
        assert router.meter.value(families.UNHELD, ("chat", "left")) == 1


@on_both_loops
async def test_task_that_is_removed_sends_its_waiters_away() -> None:
    """They would wait for nothing."""
    async with stand_in("a") as engine, running(waiting()) as router:
        asked = asyncio.ensure_future(ask(router.port, request()))
        await until(lambda: held(router) == 1)
        router.router.obey(table_of(task_of(old(engine), name="code"), generation=2))
        reply = await asked

        assert (reply.status, "retry-after" in reply.headers) == (503, False)
        assert "no longer served" in str(reply.fields["error"])


@on_both_loops
async def test_new_table_serves_those_who_wait() -> None:
    """Whatever the table was under which they came."""
    async with stand_in("a") as engine, running(waiting()) as router:
        asked = asyncio.ensure_future(ask(router.port, request()))
        await until(lambda: held(router) == 1)
        router.router.obey(table_of(task_of(new(engine)), generation=2))

        assert (await asked).headers["x-arbiter-model"] == "model-a"
        assert router.tally(Side.NEW).ok == 1


@pytest.mark.parametrize("served", [True, False], ids=["served", "refused"])
def test_stream_that_waits_is_kept_alive(*, served: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies cut what is silent; after the first comment a refusal can only be told inside the stream."""
    monkeypatch.setattr(heartbeat, "PAUSE_S", 0.02)

    @on_both_loops
    async def check() -> None:
        async with stand_in("a") as engine, running(waiting()) as router:
            asked = asyncio.ensure_future(ask(router.port, request(stream=True)))
            await until(lambda: held(router) == 1)
            await asyncio.sleep(0.08)
            if served:
                router.router.place("model", [engine.url])
            else:
                router.router.obey(table_of(task_of(SERVICE, hold=Hold(1, 1.0, "deleted")), generation=2))
            reply = await asked

            assert (reply.status, reply.whole) == (200, True)
            assert reply.body.startswith(heartbeat.COMMENT)
            assert reply.body.endswith(b"data: [DONE]\n\n") == served
            assert (b'"error"' in reply.body) == (not served)

    check()


@pytest.mark.parametrize("does", [Does.REJECT, Does.FAIL], ids=["400", "500"])
@pytest.mark.parametrize(
    ("path", "beginning", "kinds"),
    [
        pytest.param(CHAT, b"data: ", {Does.REJECT: None, Does.FAIL: None}, id="openai"),
        pytest.param(
            b"/v1/messages",
            b"event: error\ndata: ",
            {Does.REJECT: "invalid_request_error", Does.FAIL: "api_error"},
            id="anthropic",
        ),
    ],
)
def test_engine_s_error_after_a_heartbeat_is_told_inside_the_stream(
    path: bytes, beginning: bytes, kinds: dict[Does, str | None], does: Does, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status went out before, so the caller's own form of an error is all that is left; it is counted once."""
    monkeypatch.setattr(heartbeat, "PAUSE_S", 0.02)

    @on_both_loops
    async def check() -> None:
        async with stand_in("a", does) as engine, running(waiting()) as router:
            asked = asyncio.ensure_future(ask(router.port, request(path, stream=True)))
            (connection,) = await connections(router)
            await until(lambda: connection.exchange is not None and connection.exchange.started)
            router.router.place("model", [engine.url])
            reply = await asked

            events = [each for each in reply.body.split(b"\n\n") if each and not each.startswith(b":")]
            assert (reply.status, reply.whole, len(events)) == (200, True, 1)
            assert events[0].startswith(beginning)
            said = json.loads(events[0].removeprefix(beginning))
            assert said["error"]["message"] == ("the context is too long" if does is Does.REJECT else "a is broken")
            if kinds[does] is not None:
                assert (said["type"], said["error"]["type"]) == ("error", kinds[does])
            tally = router.tally()
            assert (tally.routed, tally.rejected, tally.failures) == (1, does is Does.REJECT, does is Does.FAIL)
            assert list(router.requests().values()) == [1]

    check()


async def connections(router: Running) -> list[Connection]:
    """Those of the clients, once there is one."""
    await until(lambda: router.server.connections > 0)
    return list(router.server._connections)  # noqa: SLF001  whether a head went out is not shown anywhere else
