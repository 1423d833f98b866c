"""What is large: bodies that are forgotten, answers that are not kept, and clients that are slow."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from arbiter.core.traffic import Cause, Side
from arbiter.router.relay import KEPT_BYTES
from arbiter.router.wire.limits import UNSENT_BYTES
from tests.unit.router.routing import CHAT, ask, new, old, request, running, table_of, task_of
from tests.unit.router.stand_in import Does, stand_in
from tests.unit.router.wire.loopback import dialled, on_both_loops, until

READ_BYTES = 262_144
"""The largest piece that either loop reads at once."""


@on_both_loops
async def test_large_body_is_forgotten_while_its_connection_stays_open() -> None:
    """A client that keeps a hundred connections would else keep a hundred bodies in our memory."""
    data = request(pad="x" * 9_000_000).replace(b"connection: close\r\n", b"")
    async with (
        stand_in("a") as engine,
        running(table_of(task_of(old(engine)))) as router,
        dialled(router.port) as (reader, writer),
    ):
        tracemalloc.start()
        try:
            writer.write(data)
            await reader.readuntil(b'"total_tokens": 7}}')
            engine.asked.clear()
            await until(lambda: tracemalloc.get_traced_memory()[0] < 4_000_000)
        finally:
            tracemalloc.stop()
        assert router.server.connections == 1
        assert router.server.exchanges == 0


@pytest.mark.parametrize(
    ("does", "status", "whole", "ending"),
    [
        pytest.param(Does.LARGE, 200, True, "ok", id="whole"),
        pytest.param(Does.LARGE_REJECT, 400, True, "4xx", id="rejection"),
        pytest.param(Does.LARGE_CUT, 200, False, Cause.BROKEN_STREAM, id="cut"),
        pytest.param(Does.LARGE_TRUNCATED, 200, False, Cause.BROKEN_STREAM, id="truncated"),
    ],
)
def test_answer_that_is_too_large_to_keep_is_passed_on_as_it_comes(
    does: Does, status: int, whole: bool, ending: str
) -> None:
    """What breaks then breaks at the client too, since it has the beginning; the other side is not asked."""

    @on_both_loops
    async def check() -> None:
        async with (
            stand_in("a", does) as engine,
            stand_in("b") as other,
            running(table_of(task_of(new(engine, weight=90), old(other, weight=10)))) as router,
        ):
            reply = await ask(router.port, request())

            assert (reply.status, reply.whole) == (status, whole)
            assert reply.headers["transfer-encoding"] == "chunked"
            assert reply.headers["x-arbiter-model"] == "model-a"
            assert len(reply.body) > (KEPT_BYTES if whole else 0)
            assert not whole or "error" in reply.fields or "choices" in reply.fields
            tally = router.tally(Side.NEW)
            assert (tally.ok, tally.rejected) == (ending == "ok", ending == "4xx")
            assert dict(tally.failed) == ({} if whole else {ending: 1})
            assert list(router.requests().values()) == [1]
            assert other.asked == []

    check()


@pytest.mark.parametrize(
    ("does", "cause"),
    [
        pytest.param(Does.LARGE_FAIL, Cause.SERVER_ERROR, id="500-too-large-to-keep"),
        pytest.param(Does.ERROR_WITH_200, Cause.STREAM_ERROR, id="200-that-is-an-error"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, b"/api/chat", b"/v1/messages"], ids=["openai", "ollama", "anthropic"])
def test_failure_in_one_piece_is_replaced_by_the_other_side(path: bytes, does: Does, cause: Cause) -> None:
    """Nothing of it has gone to the client, however long it is and whatever its status says."""

    @on_both_loops
    async def check() -> None:
        async with (
            stand_in("a", does) as bad,
            stand_in("b") as good,
            running(table_of(task_of(new(bad, weight=90), old(good, weight=10)))) as router,
        ):
            reply = await ask(router.port, request(path, stream=False))

            assert (reply.status, reply.headers["x-arbiter-model"]) == (200, "model-b")
            assert dict(router.tally(Side.NEW).failed) == {cause: 1}
            assert router.requests() == {("chat", "old", "ok"): 1}

    check()


@pytest.mark.parametrize("path", [CHAT, b"/api/chat", b"/v1/messages"], ids=["openai", "ollama", "anthropic"])
def test_error_that_an_engine_calls_an_answer_is_told_as_a_failure(path: bytes) -> None:
    """A client that looks at the status alone would take the error for what the model said."""

    @on_both_loops
    async def check() -> None:
        async with stand_in("a", Does.ERROR_WITH_200) as bad, running(table_of(task_of(old(bad)))) as router:
            reply = await ask(router.port, request(path, stream=False))

            assert reply.status == 502
            assert b"error" in reply.body
            assert router.requests() == {("chat", "old", "failed"): 1}

    check()


@on_both_loops
async def test_slow_client_costs_a_bounded_number_of_bytes_all_the_while() -> None:
    """While it reads a little now and then, as well as while it reads nothing."""
    async with (
        stand_in("a", Does.FLOOD) as engine,
        running(table_of(task_of(old(engine)))) as router,
        dialled(router.port) as (reader, writer),
    ):
        writer.write(request(stream=True))
        await reader.readuntil(b"xxxx")
        (connection,) = router.server._connections  # noqa: SLF001  what it keeps is not shown anywhere else
        await until(lambda: connection.blocked)
        most = taken = pauses = 0
        while pauses < 30 or taken < 3_000_000:
            taken += len(await reader.read(100_000))
            await asyncio.sleep(0)
            most = max(most, connection._transport.get_write_buffer_size())  # noqa: SLF001  as above
            pauses += connection.blocked
        writer.transport.abort()
        await until(lambda: router.tally().left == 1)

    assert UNSENT_BYTES < most < UNSENT_BYTES + 2 * READ_BYTES
    assert engine.written > taken
