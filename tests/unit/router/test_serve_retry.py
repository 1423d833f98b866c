"""Retry and fallback: as long as nothing has gone to the client, and every attempt is in the books once."""

from __future__ import annotations

import pytest

from arbiter.core.routes import Limits
from arbiter.core.traffic import Cause, Side, Tally
from arbiter.router import metric_families as families
from arbiter.router.serve import ATTEMPTS
from tests.unit.router.routing import CHAT, ask, backend_of, known, new, old, request, running, table_of, task_of
from tests.unit.router.stand_in import Does, stand_in
from tests.unit.router.wire.loopback import on_both_loops

BRIEF = Limits(first_byte_s=0.15, idle_s=0.15, total_s=5.0)
"""So that an engine that is silent is given up soon."""

BEFORE_THE_FIRST_BYTE = [
    pytest.param(Does.RESET, False, Cause.RESET, id="reset"),
    pytest.param(Does.RESET, True, Cause.RESET, id="reset-of-a-stream"),
    pytest.param(Does.RESET_AFTER_HEAD, True, Cause.RESET, id="reset-after-the-head"),
    pytest.param(Does.SILENT, False, Cause.TIMEOUT, id="silent"),
    pytest.param(Does.SLOW_HEADER, True, Cause.TIMEOUT, id="slow-header"),
    pytest.param(Does.UNAVAILABLE, False, Cause.SERVER_ERROR, id="503"),
    pytest.param(Does.FAIL, True, Cause.SERVER_ERROR, id="500"),
    pytest.param(Does.ERROR_EVENT, True, Cause.STREAM_ERROR, id="error-event"),
    pytest.param(Does.CUT_BODY, False, Cause.RESET, id="cut-body"),
    pytest.param(Does.TRUNCATED, False, Cause.BROKEN_STREAM, id="truncated-json"),
]

AFTER_THE_FIRST_BYTE = [
    pytest.param(Does.RESET_MID_STREAM, Cause.BROKEN_STREAM, id="reset"),
    pytest.param(Does.HALF_CLOSE, Cause.BROKEN_STREAM, id="half-close"),
    pytest.param(Does.WRONG_CHUNK, Cause.BROKEN_STREAM, id="wrong-chunk"),
    pytest.param(Does.NO_DONE, Cause.BROKEN_STREAM, id="no-done"),
    pytest.param(Does.STALL, Cause.TIMEOUT, id="stall"),
]


def failed(tally: Tally, cause: Cause, times: int = 1) -> bool:
    """Whether this is all that is booked."""
    return (tally.routed, tally.ok, dict(tally.failed), tally.left) == (times, 0, {cause: times}, 0)


@pytest.mark.parametrize(("does", "stream", "cause"), BEFORE_THE_FIRST_BYTE)
def test_other_side_serves_what_failed_before_the_first_byte(*, does: Does, stream: bool, cause: Cause) -> None:
    """The client notices nothing; the failure stays with the side that failed."""

    @on_both_loops
    async def check() -> None:
        async with stand_in("a", does) as bad, stand_in("b") as good:
            table = table_of(task_of(new(bad, weight=90), old(good, weight=10)), limits=BRIEF)
            async with running(table) as router:
                reply = await ask(router.port, request(stream=stream))

                assert (reply.status, reply.whole) == (200, True)
                assert reply.headers["x-arbiter-model"] == "model-b"
                assert "x-arbiter-fallback" not in reply.headers
                assert failed(router.tally(Side.NEW), cause)
                assert (router.tally(Side.OLD).routed, router.tally(Side.OLD).ok) == (1, 1)
                assert router.requests() == {("chat", "old", "ok"): 1}
                assert len(bad.asked) == len(good.asked) == 1

    check()


@pytest.mark.parametrize(("does", "cause"), AFTER_THE_FIRST_BYTE)
def test_stream_that_breaks_ends_as_broken(does: Does, cause: Cause) -> None:
    """Another attempt would give the client two beginnings, and an invented end a false one."""

    @on_both_loops
    async def check() -> None:
        async with stand_in("a", does) as bad, stand_in("b") as good:
            table = table_of(task_of(new(bad, weight=90), old(good, weight=10)), limits=BRIEF)
            async with running(table) as router:
                reply = await ask(router.port, request(stream=True))

                assert (reply.status, reply.whole) == (200, False)
                assert b'"content": "a"' in reply.body
                assert b"[DONE]" not in reply.body
                assert b"finish_reason" not in reply.body
                assert failed(router.tally(Side.NEW), cause)
                assert router.requests() == {("chat", "new", "failed"): 1}
                assert good.asked == []

    check()


@on_both_loops
async def test_error_inside_a_stream_that_began_is_passed_on_and_booked() -> None:
    """The engine has said what is wrong; the client gets its words, and the side the blame."""
    async with stand_in("a", Does.LATE_ERROR_EVENT) as bad, running(table_of(task_of(old(bad)))) as router:
        reply = await ask(router.port, request(stream=True))

        assert b"out of memory" in reply.body
        assert b"[DONE]" not in reply.body
        assert failed(router.tally(), Cause.STREAM_ERROR)
        assert router.requests() == {("chat", "old", "failed"): 1}


@on_both_loops
async def test_endpoint_of_the_same_side_is_tried_first() -> None:
    """The split between the sides holds as long as the side has somebody left."""
    async with stand_in("a", Does.RESET) as bad, stand_in("b") as good, stand_in("c") as other:
        bad.usual = Does.RESET
        async with running(table_of(task_of(new(bad, good, weight=90), old(other, weight=10)))) as router:
            for _ in range(4):
                reply = await ask(router.port, request())
                assert reply.fields["choices"][0]["message"]["content"] == "b"  # type: ignore[index]  # JSON
            tally = router.tally(Side.NEW)

            assert (tally.ok, tally.routed) == (4, 4 + len(bad.asked))
            assert dict(tally.failed) == {Cause.RESET: len(bad.asked)}
            assert bad.asked
            assert other.asked == []


@on_both_loops
async def test_fallback_is_never_silent() -> None:
    """It is another model than the task's, so the client is told."""
    async with (
        stand_in("a", Does.FAIL) as bad,
        stand_in("spare") as spare,
        running(table_of(task_of(old(bad), fallback=[backend_of(spare)]))) as router,
    ):
        reply = await ask(router.port, request())

        assert reply.status == 200
        assert reply.headers["x-arbiter-fallback"] == "true"
        assert reply.headers["x-arbiter-model"] == "model-spare"
        assert failed(router.tally(), Cause.SERVER_ERROR)
        assert router.requests() == {("chat", "fallback", "ok"): 1}
        assert router.meter.value(families.RETRIES, ("chat", "old")) == 1


@on_both_loops
async def test_next_fallback_serves_when_the_first_is_not_ready() -> None:
    """They are tried in their order."""
    async with (
        stand_in("a", Does.FAIL) as bad,
        stand_in("spare") as spare,
        running(table_of(task_of(old(bad), fallback=[backend_of(service="none"), backend_of(spare)]))) as router,
    ):
        reply = await ask(router.port, request())

        assert (reply.status, reply.headers["x-arbiter-model"]) == (200, "model-spare")
        assert router.requests() == {("chat", "fallback", "ok"): 1}


@on_both_loops
async def test_fallback_is_no_further_attempt() -> None:
    """A request that has failed as often as it may is not given to the last model that is well."""
    async with stand_in("a") as a, stand_in("b") as b, stand_in("c") as c, stand_in("d") as d, stand_in("e") as spare:
        for each in (a, b, c, d):
            each.usual = Does.FAIL
        async with running(table_of(task_of(old(a, b, c, d), fallback=[backend_of(spare)]))) as router:
            assert (await ask(router.port, request())).status == 500
            assert failed(router.tally(), Cause.SERVER_ERROR, ATTEMPTS)
            assert spare.asked == []


@on_both_loops
async def test_request_takes_a_bounded_number_of_endpoints_along() -> None:
    """A request that makes an engine fail must not go through the whole pool."""
    async with (
        stand_in("a") as a, stand_in("b") as b, stand_in("c") as c, stand_in("d") as d, stand_in("e") as e,
        stand_in("f") as f,
    ):  # fmt: skip
        engines = (a, b, c, d, e, f)
        for each in engines:
            each.usual = Does.FAIL
        async with running(table_of(task_of(old(*engines)))) as router:
            reply = await ask(router.port, request())

            assert reply.status == 500
            assert b"is broken" in reply.body
            assert sum(len(each.asked) for each in engines) == ATTEMPTS
            assert failed(router.tally(), Cause.SERVER_ERROR, ATTEMPTS)
            assert router.requests() == {("chat", "old", "failed"): 1}


@pytest.mark.parametrize(
    ("path", "where"),
    [
        pytest.param(CHAT, ("error", "message"), id="openai"),
        pytest.param(b"/api/chat", ("error",), id="ollama"),
        pytest.param(b"/v1/messages", ("error", "message"), id="anthropic"),
    ],
)
def test_rejection_passes_through_and_is_not_tried_again(path: bytes, where: tuple[str, ...]) -> None:
    """What is wrong with the request is wrong everywhere; it says nothing against the side."""

    @on_both_loops
    async def check() -> None:
        async with (
            stand_in("a", Does.REJECT) as engine,
            stand_in("b") as other,
            running(table_of(task_of(new(engine, weight=90), old(other, weight=10)))) as router,
        ):
            reply = await ask(router.port, request(path, stream=False))
            said: object = reply.fields
            for name in where:
                assert isinstance(said, dict)
                said = said[name]

            assert (reply.status, said) == (400, "the context is too long")
            tally = router.tally(Side.NEW)
            assert (tally.routed, tally.rejected, tally.failures) == (1, 1, 0)
            assert router.requests() == {("chat", "new", "rejected"): 1}
            assert other.asked == []

    check()


@pytest.mark.parametrize(
    ("does", "status"), [pytest.param(Does.UNABLE, 501, id="501"), pytest.param(Does.BLIND, 500, id="no pictures")]
)
@pytest.mark.parametrize("path", [CHAT, b"/api/chat", b"/v1/messages"])
def test_engine_that_cannot_do_what_it_is_asked_has_not_failed(path: bytes, does: Does, status: int) -> None:
    """Else five such requests would keep everybody away from it; another model may be able to, so it is asked."""

    @on_both_loops
    async def check() -> None:
        async with (
            stand_in("a") as engine,
            stand_in("b") as other,
            running(
                table_of(task_of(new(engine)), task_of(new(engine, weight=90), old(other, weight=10), name="both"))
            ) as router,
        ):
            for _ in range(9):
                engine.script.append(does)
                reply = await ask(router.port, request(path, stream=False))
                assert reply.status == status
                assert "support" in str(reply.fields["error"])
            engine.script.append(does)
            assert (await ask(router.port, request(CHAT, model="both", stream=False))).status == 200
            assert (await ask(router.port, request(CHAT, stream=False))).status == 200, "no breaker is open"

            tally = router.tally(Side.NEW)
            assert (tally.routed, tally.rejected, tally.failures) == (10, 9, 0)
            assert router.requests() == {
                ("chat", "new", "rejected"): 9,
                ("both", "old", "ok"): 1,
                ("chat", "new", "ok"): 1,
            }
            assert len(other.asked) == 1

    check()


@pytest.mark.parametrize(
    ("does", "status"),
    [pytest.param(Does.SILENT, 504, id="silent"), pytest.param(Does.RESET, 502, id="reset")],
)
def test_client_learns_what_went_wrong_when_nothing_is_left(does: Does, status: int) -> None:
    """A time limit is told apart from an engine that fails."""

    @on_both_loops
    async def check() -> None:
        async with stand_in("a", does) as engine, running(table_of(task_of(old(engine)), limits=BRIEF)) as router:
            reply = await ask(router.port, request())

            assert reply.status == status
            assert "did not answer" in str(reply.fields["error"])
            assert router.requests() == {("chat", "old", "failed"): 1}

    check()


@on_both_loops
async def test_breaker_opens_is_booked_and_heals_by_one_probe() -> None:
    """A side that is refused has failed the request, and one request is enough to see that it is well again."""
    async with stand_in("a") as bad, stand_in("b") as good:
        bad.usual = Does.FAIL
        async with running(table_of(task_of(new(bad, weight=90), old(good, weight=10)))) as router:
            for _ in range(7):
                assert (await ask(router.port, request())).status == 200
            assert dict(router.tally(Side.NEW).failed) == {Cause.SERVER_ERROR: 5, Cause.REFUSED: 2}
            assert len(bad.asked) == 5
            assert router.tally(Side.OLD).ok == 7

            bad.usual = Does.ANSWER
            breaker = next(each for each in known(router.router) if each.url == bad.url).breaker
            breaker._changed_at -= 1.0  # noqa: SLF001  its pause is over, without waiting for it
            reply = await ask(router.port, request())

            assert reply.headers["x-arbiter-model"] == "model-a"
            assert breaker.state == "closed"
            assert router.requests() == {("chat", "old", "ok"): 7, ("chat", "new", "ok"): 1}


@on_both_loops
async def test_endpoint_that_nobody_listens_at_is_a_failure_of_its_side() -> None:
    """A pod that is gone before anybody noticed."""
    async with stand_in("gone") as gone, stand_in("b") as good:
        table = table_of(task_of(new(gone, weight=90), old(good, weight=10)))
    async with stand_in("b") as good:
        table = table_of(task_of(table.tasks["chat"].targets[0], old(good, weight=10)))
        async with running(table) as router:
            assert (await ask(router.port, request())).status == 200
            assert failed(router.tally(Side.NEW), Cause.RESET)
