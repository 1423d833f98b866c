"""The server on real sockets: answers in their order, framed so that each client knows where they end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from arbiter.router.wire.limits import HELD_BYTES, UNSENT_BYTES, Limits
from tests.unit.router.wire.loopback import dialled, echo, on_both_loops, sent, serving, until
from tests.unit.router.wire.strict_requests import GET, POST

if TYPE_CHECKING:
    from arbiter.router.wire.exchange import Exchange

LAST = GET + b"connection: close\r\n\r\n"


async def stream(exchange: Exchange) -> None:
    """Answer in two pieces of a length that nobody told."""
    exchange.start(200, [(b"content-type", b"text/plain")], None)
    exchange.write(b"ab")
    exchange.write(b"")
    exchange.write(b"c")
    exchange.end()


@on_both_loops
async def test_one_connection_serves_requests_one_after_the_other() -> None:
    """Clients keep their connection; without that each request costs another."""
    async with serving(echo) as server, dialled(server.port) as (reader, writer):
        for body in (b"a", b"bb", b"ccc"):
            writer.write(POST + b"content-length: %d\r\n\r\n%b" % (len(body), body))
            answer = await reader.readuntil(b"POST " + body)
            assert b"content-length: %d\r\n" % (5 + len(body)) in answer
            assert b"connection:" not in answer
        assert server.connections == 1


@on_both_loops
async def test_pipelined_requests_are_answered_in_their_order() -> None:
    """A client that does not wait matches answers to requests by nothing but their order."""
    order = []

    async def slower_first(exchange: Exchange) -> None:
        await asyncio.sleep(0.05 if exchange.request.path == b"/0" else 0)
        order.append(exchange.request.path)
        exchange.respond(200, [], exchange.request.path)

    asked = b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % number for number in range(50))
    async with serving(slower_first) as server:
        answer = await sent(server.port, asked + LAST)

    assert order == [b"/%d" % number for number in range(50)] + [b"/"]
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 51
    assert answer.index(b"\r\n\r\n/1HTTP") < answer.index(b"\r\n\r\n/2HTTP")


@on_both_loops
async def test_what_is_read_ahead_of_a_running_request_is_bounded() -> None:
    """A client that pipelines without end must fill its own buffers, not ours."""
    go_on = asyncio.Event()
    served = 0

    async def wait(exchange: Exchange) -> None:
        nonlocal served
        served += 1
        await go_on.wait()
        exchange.respond(204, [], b"")

    async with serving(wait) as server, dialled(server.port) as (reader, writer):
        flood = (POST + b"content-length: 60000\r\n\r\n" + bytes(60_000)) * 200
        writer.write(flood)
        await until(lambda: server.exchanges == 1)
        await asyncio.sleep(0.1)
        (connection,) = server._connections  # noqa: SLF001  what it holds is not shown anywhere else
        assert HELD_BYTES < len(connection._intake.held) < 6 * HELD_BYTES  # noqa: SLF001  the same
        go_on.set()
        for _ in range(200):
            await reader.readuntil(b"\r\n\r\n")
        assert served == 200


@on_both_loops
async def test_a_stream_of_unknown_length_goes_in_chunks() -> None:
    """The end of the last chunk is how the client tells a whole stream from a broken one."""
    async with serving(stream) as server:
        answer = await sent(server.port, LAST)

    assert b"transfer-encoding: chunked\r\n" in answer
    assert answer.endswith(b"\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")


@on_both_loops
async def test_a_stream_of_known_length_is_sent_plain() -> None:
    """An engine's whole answer passes with its own length."""

    async def plain(exchange: Exchange) -> None:
        exchange.start(201, [(b"content-length", b"999"), (b"transfer-encoding", b"chunked")], 3)
        exchange.write(b"ab")
        exchange.write(b"c")
        exchange.end()

    async with serving(plain) as server:
        answer = await sent(server.port, LAST)

    assert answer.startswith(b"HTTP/1.1 201 Created\r\n")
    assert answer.endswith(b"\r\n\r\nabc")
    assert answer.count(b"content-length") == 1
    assert b"chunked" not in answer


@on_both_loops
async def test_http_1_0_gets_its_stream_until_the_connection_closes() -> None:
    """It knows no chunks; their framing would stand in the text."""
    async with serving(stream) as server:
        answer = await sent(server.port, b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")

    assert answer.endswith(b"\r\n\r\nabc")
    assert b"connection: close\r\n" in answer
    assert b"chunked" not in answer


@on_both_loops
async def test_http_1_0_keeps_its_connection_only_if_it_asks() -> None:
    """It closes by default, and is told when it need not."""
    async with serving(echo) as server:
        once = await sent(server.port, b"GET / HTTP/1.0\r\n\r\n")
        assert b"connection: close\r\n" in once
        async with dialled(server.port) as (reader, writer):
            for _ in range(2):
                writer.write(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
                assert b"connection: keep-alive\r\n" in await reader.readuntil(b"GET ")


@pytest.mark.parametrize("handler", [echo, stream], ids=["whole", "stream"])
@on_both_loops
async def test_head_gets_the_head_alone(handler: object) -> None:
    """A body after an answer to HEAD would be read as the next answer."""
    assert callable(handler)
    async with serving(handler) as server:
        answer = await sent(server.port, b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n" * 2 + b"HEAD / HTTP/1.0\r\n\r\n")

    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert answer.endswith(b"\r\n\r\n")
    assert b"\r\n\r\nHTTP/1.1" in answer


@on_both_loops
async def test_an_answer_without_content_has_no_length() -> None:
    """RFC 9110: a 204 carries neither body nor length."""

    async def nothing(exchange: Exchange) -> None:
        exchange.respond(204, [], b"never sent")

    async with serving(nothing) as server:
        answer = await sent(server.port, LAST)

    assert answer.endswith(b"\r\n\r\n")
    assert b"content-length" not in answer


@on_both_loops
async def test_a_client_that_waits_to_send_its_body_is_told_to_go_on() -> None:
    """Large bodies are announced by `Expect`; a client without an answer sends them late or never."""
    async with serving(echo) as server, dialled(server.port) as (reader, writer):
        writer.write(POST + b"expect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ab")
        assert (await reader.read()).endswith(b"POST ab")


@on_both_loops
async def test_a_client_that_waits_is_refused_before_it_sends_too_much() -> None:
    """That is what waiting is for."""
    async with serving(echo, Limits(body_bytes=10)) as server:
        answer = await sent(server.port, POST + b"expect: 100-continue\r\ncontent-length: 11\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 413 ")


@on_both_loops
async def test_a_refused_client_that_is_still_sending_gets_its_answer() -> None:
    """Closing at once would reset the connection, and the reset overtakes the answer."""
    async with serving(echo, Limits(body_bytes=10)) as server, dialled(server.port) as (reader, writer):
        writer.write(POST + b"content-length: 4000000\r\n\r\n")
        for _ in range(40):
            writer.write(bytes(100_000))
            await asyncio.sleep(0.002)
        assert (await reader.read()).startswith(b"HTTP/1.1 413 ")


@on_both_loops
async def test_a_body_of_ten_megabytes_passes() -> None:
    """Images and long contexts are that large."""
    size = 10_000_000
    async with serving(echo) as server, dialled(server.port) as (reader, writer):
        writer.write(POST + b"connection: close\r\ncontent-length: %d\r\n\r\n" % size)
        writer.write(bytes(size))
        answer = await reader.read()

    assert answer.endswith(bytes(size))
    assert b"content-length: %d\r\n" % (size + 5) in answer


@on_both_loops
async def test_a_slow_client_pauses_whoever_writes_and_costs_a_bounded_amount() -> None:
    """A stream outruns a client that does not read; what piles up must stay small, whatever the stream's length."""
    calls = []
    most = 0

    async def pour(exchange: Exchange) -> None:
        nonlocal most
        flowing = asyncio.Event()
        flowing.set()

        def pause() -> None:
            calls.append("pause")
            flowing.clear()

        def resume() -> None:
            calls.append("resume")
            flowing.set()

        exchange.on_writable(pause, resume)
        exchange.start(200, [], None)
        (connection,) = server._connections  # noqa: SLF001  what it holds is not shown anywhere else
        for _ in range(1000):
            await flowing.wait()
            assert exchange.writable
            exchange.write(bytes(16_384))
            await asyncio.sleep(0)
            most = max(most, connection._transport.get_write_buffer_size())  # noqa: SLF001  the same
        exchange.end()

    async with serving(pour) as server, dialled(server.port) as (reader, writer):
        writer.write(LAST)
        await until(lambda: bool(calls))
        await asyncio.sleep(0.1)
        assert calls == ["pause"]
        answer = await reader.read()

    assert answer.endswith(b"\r\n0\r\n\r\n")
    assert len(answer) > 1000 * 16_384
    assert most < UNSENT_BYTES + 2 * 16_500
    assert "resume" in calls


@on_both_loops
async def test_a_handler_that_fails_before_its_answer_is_answered_for() -> None:
    """One request's fault ends that request, and neither the process nor the connection."""

    async def fail(exchange: Exchange) -> None:
        if exchange.request.method == b"GET":
            raise ZeroDivisionError
        exchange.respond(200, [], b"fine")

    async with serving(fail) as server:
        answer = await sent(server.port, GET + b"\r\n" + POST + b"connection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 500 ")
    assert answer.endswith(b"fine")


@pytest.mark.parametrize("how", ["raises", "returns", "aborts", "ends early", "writes too much", "breaks a header"])
@on_both_loops
async def test_an_answer_that_breaks_off_never_looks_whole(how: str) -> None:
    """A final chunk after half a stream would sell the half as the whole."""

    async def half(exchange: Exchange) -> None:
        if how == "breaks a header":
            exchange.respond(200, [(b"x", b"a\r\nset-cookie: b")], b"")
        exchange.start(200, [], 5 if how in {"ends early", "writes too much"} else None)
        exchange.write(b"abc")
        await asyncio.sleep(0.02)
        if how == "raises":
            raise ZeroDivisionError
        if how == "aborts":
            exchange.abort()
        elif how == "ends early":
            exchange.end()
        elif how == "writes too much":
            exchange.write(b"def")

    async with serving(half) as server, dialled(server.port) as (reader, writer):
        writer.write(GET + b"\r\n")
        try:
            answer = await reader.read() if how != "breaks a header" else await reader.readuntil(b"served\n")
        except ConnectionResetError:
            answer = b""

    assert b"\r\n0\r\n" not in answer
    assert b"set-cookie" not in answer
    assert b"def" not in answer


@pytest.mark.parametrize("started", [False, True], ids=["before the first byte", "after it"])
@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
@on_both_loops
async def test_a_client_that_leaves_is_noticed_at_once(started: bool, reset: bool) -> None:
    """What it asked for occupies a slot of an engine until somebody cancels it, even before the first token."""
    left = asyncio.Event()
    told = []

    async def wait(exchange: Exchange) -> None:
        def leave() -> None:
            told.append(exchange.gone)
            left.set()

        exchange.on_gone(leave)
        if started:
            exchange.start(200, [], None)
            exchange.write(b"a")
        await left.wait()
        exchange.write(b"into nothing")
        exchange.end()

    async with serving(wait) as server:
        async with dialled(server.port) as (reader, writer):
            writer.write(GET + b"\r\n")
            if started:
                await reader.readuntil(b"a\r\n")
            else:
                await until(lambda: server.exchanges == 1)
            if reset:
                writer.transport.abort()
        await left.wait()
        await until(lambda: server.connections == 0)

    assert told == [True]


@on_both_loops
async def test_who_asks_late_whether_the_client_left_is_told_at_once() -> None:
    """The client may leave while a handler connects, before there is anything to cancel."""
    told = asyncio.Event()

    async def late(exchange: Exchange) -> None:
        await until(lambda: exchange.gone)
        exchange.on_gone(told.set)

    async with serving(late) as server:
        async with dialled(server.port) as (_, writer):
            writer.write(GET + b"\r\n")
            await until(lambda: server.exchanges == 1)
        await told.wait()


@on_both_loops
async def test_every_answer_has_a_date() -> None:
    """RFC 9110 asks it of a server with a clock; an engine's own must not stand beside it."""

    async def dated(exchange: Exchange) -> None:
        exchange.respond(200, [(b"date", b"never")], b"")

    async with serving(dated) as server:
        answer = await sent(server.port, LAST)

    assert answer.count(b"\r\ndate: ") == 1
    assert b" GMT\r\n" in answer
    assert b"never" not in answer


@on_both_loops
async def test_writing_to_a_client_that_has_left_does_nothing() -> None:
    """A relay must not have to ask before each piece, and one that does not must not disturb other connections."""
    over = asyncio.Event()

    async def careless(exchange: Exchange) -> None:
        if exchange.request.path == b"/stay":
            exchange.respond(200, [], b"stays")
            return
        exchange.start(200, [], None)
        await until(lambda: exchange.gone)
        exchange.write(b"a")
        exchange.end()
        exchange.abort()
        over.set()

    async with serving(careless) as server, dialled(server.port) as (reader, writer):
        async with dialled(server.port) as (_, leaving):
            leaving.write(GET + b"\r\n")
            await until(lambda: server.exchanges == 1)
        await over.wait()
        writer.write(b"GET /stay HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await reader.readuntil(b"stays")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("early", ["write", "end", "twice"])
@on_both_loops
async def test_an_answer_out_of_order_is_an_error_of_the_handler(early: str) -> None:
    """Bytes before the head or two heads would be read by the client as something else."""

    async def wrong(exchange: Exchange) -> None:
        if early == "write":
            exchange.write(b"a")
        elif early == "end":
            exchange.end()
        exchange.respond(200, [], b"")
        exchange.respond(200, [], b"")

    async with serving(wrong) as server, dialled(server.port) as (reader, writer):
        writer.write(GET + b"\r\n")
        if early == "twice":
            assert b"HTTP/1.1 200 OK\r\n" in await reader.readuntil(b"\r\n\r\n")
        else:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await reader.readexactly(1)
