"""Requests that wait while nothing can serve them: in order, bounded, and told the truth at the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from arbiter.core.routes import Hold, Target
from arbiter.core.traffic import Side
from arbiter.router import heartbeat
from arbiter.router import metric_families as families
from tests.unit.router.routing import Running, ask, backend_of, new, old, request, running, table_of, task_of
from tests.unit.router.stand_in import stand_in
from tests.unit.router.wire.loopback import dialled, on_both_loops, until

if TYPE_CHECKING:
    from arbiter.core.routes import RouteTable

SERVICE = Target(Side.OLD, backend_of(service="model"), 100)
"""A model in a cluster, of which no pod is ready at first."""


def waiting(requests: int = 10, seconds: float = 10.0, hopeless: str = "") -> RouteTable:
    """A table under which requests wait."""
    return table_of(task_of(SERVICE, hold=Hold(requests, seconds, hopeless)))


def held(router: Running) -> int:
    """How many wait now."""
    return router.meter.value(families.HELD_NOW, ("chat",))


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
    """Also before those who come when the pod is ready."""
    async with stand_in("a") as engine, running(waiting()) as router:
        asked = []
        for number in range(4):
            asked.append(asyncio.ensure_future(ask(router.port, request(seed=number))))
            await until(lambda: held(router) == len(asked))
        router.router.place("model", [engine.url])
        assert {reply.status for reply in await asyncio.gather(*asked)} == {200}
        assert router.tally().ok == 4


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
