"""The pool on real sockets: answers as they come, connections kept when that is safe, each break told once."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from arbiter.router.wire import client
from arbiter.router.wire.broken import Broken, Fault
from arbiter.router.wire.client import Pool
from arbiter.router.wire.limits import PoolLimits
from tests.unit.router.certificate import made_certificate
from tests.unit.router.wire.loopback import Answer, Engine, asked, engine, on_both_loops, pool_of, until

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Iterator
    from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def steady(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
    """Answer each request with `ok`."""
    while await made.ask(reader):
        writer.write(OK)


async def once(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
    """Answer, promise to keep the connection, and close it."""
    await made.ask(reader)
    writer.write(OK)


@on_both_loops
async def test_a_connection_serves_one_request_after_the_other() -> None:
    """A connection for each request would cost more than the request."""
    async with engine(steady) as made:
        pool = pool_of(made)
        for _ in range(5):
            answer = await asked(pool)
            assert (answer.status, answer.body, answer.ends, answer.broken) == (200, b"ok", 1, None)
        assert (made.connections, pool.open, pool.idle) == (1, 1, 1)
        pool.close()
        assert (pool.open, pool.idle) == (0, 0)


@on_both_loops
async def test_what_is_sent_is_framed_by_the_pool_alone() -> None:
    """Whatever the caller's client said about its own connection or framing must not reach the engine."""
    theirs = [(b"content-length", b"99"), (b"transfer-encoding", b"chunked"), (b"connection", b"close")]
    theirs += [(b"host", b"evil"), (b"expect", b"100-continue"), (b"te", b"trailers"), (b"accept", b"*/*")]
    async with engine(steady) as made:
        pool = Pool(f"http://127.0.0.1:{made.port}/base/")
        answer = Answer()
        await pool.send(b"POST", b"/v1/x?y=1", theirs, b"{}", answer)
        await answer.over.wait()
        get = Answer()
        await pool.send(b"GET", b"/", [], b"", get)
        await get.over.wait()
        pool.close()

    host = b"host: 127.0.0.1:%d\r\n" % made.port
    assert made.asked[0] == (b"POST /base/v1/x?y=1 HTTP/1.1\r\n" + host + b"accept: */*\r\ncontent-length: 2\r\n\r\n{}")
    assert made.asked[1] == b"GET /base/ HTTP/1.1\r\n" + host + b"\r\n"


@pytest.mark.parametrize(
    ("path", "headers"), [(b"/a b", []), (b"/", [(b"x", b"a\r\nb: c")]), (b"/", [(b"x", b"a\nb")]), (b"/a\r\n", [])]
)
@on_both_loops
async def test_a_request_that_would_be_two_is_not_sent(path: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """A line break in a value of ours is a fault of ours, and must stay one."""
    pool = Pool("http://127.0.0.1:9")

    with pytest.raises(ValueError, match="line break"):
        await pool.send(b"GET", path, headers, b"", Answer())


@pytest.mark.parametrize("url", ["ftp://a", "http://", "a:80", "http://u:p@a", "http://a/?b", "http://a/#b"])
@on_both_loops
async def test_a_pool_is_made_for_a_plain_url_only(url: str) -> None:
    """A URL that was half understood would send requests elsewhere."""
    with pytest.raises(ValueError, match="is not http"):
        Pool(url)


@pytest.mark.parametrize(
    ("data", "status", "body", "kept"),
    [
        pytest.param(OK, 200, b"ok", True, id="length"),
        pytest.param(CHUNKS + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n", 200, b"ok", False, id="chunks"),
        pytest.param(CHUNKS + b"2\r\nok\r\n0\r\nx: y\r\n\r\n", 200, b"ok", False, id="trailer"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nok", 200, b"ok", False, id="until-close"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nok", 200, b"ok", False, id="1.0-until-close"),
        pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", False, id="1.0-length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", False, id="said-close"
        ),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", False, id="no-content"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 304, b"", False, id="not-modified"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok", True, id="interim"),
        pytest.param(
            b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n" + OK,
            200,
            b"ok",
            True,
            id="interims",
        ),
        pytest.param(b"HTTP/1.1 503\r\ncontent-length: 2\r\n\r\nno", 503, b"no", True, id="no-phrase"),
        pytest.param(OK + b"more", 200, b"ok", False, id="more-than-asked"),
        pytest.param(OK + OK, 200, b"ok", False, id="another-answer"),
    ],
)
@pytest.mark.parametrize("apart", [False, True], ids=["at-once", "byte-by-byte"])
@on_both_loops
async def test_an_answer_is_read_to_its_end(data: bytes, status: int, body: bytes, kept: bool, apart: bool) -> None:
    """Each way to frame an answer has its own end, and its own truth about the connection."""

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        while await made.ask(reader):
            for piece in [data[at : at + 1] for at in range(len(data))] if apart else [data]:
                writer.write(piece)
                await asyncio.sleep(0)
            if not kept:
                break

    async with engine(script) as made:
        pool = pool_of(made)
        answer = await asked(pool)
        assert (answer.status, answer.body, answer.ends, answer.broken) == (status, body, 1, None)
        if not apart:
            assert pool.idle == kept
        assert all(name not in {b"link", b"connection", b"transfer-encoding", b"x"} for name, _ in answer.headers)
        pool.close()


@on_both_loops
async def test_the_answer_to_head_has_no_body() -> None:
    """Its Content-Length is that of another answer; waiting for it would hang."""

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        await made.ask(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        await asyncio.Event().wait()

    async with engine(script) as made:
        pool = pool_of(made)
        answer = await asked(pool, b"HEAD", b"")
        assert (answer.status, answer.body, answer.ends, pool.open) == (200, b"", 1, 0)


@on_both_loops
async def test_fields_of_one_connection_do_not_pass() -> None:
    """What the engine says about its connection to us would be wrong about ours to the client."""

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        await made.ask(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n")
        writer.write(b"X-End: 2\r\ncontent-length: 0\r\n\r\n")

    async with engine(script) as made:
        pool = pool_of(made)
        answer = await asked(pool)
        pool.close()

    assert answer.headers == [(b"x-end", b"2"), (b"content-length", b"0")]


@on_both_loops
async def test_a_kept_connection_that_turns_out_closed_is_replaced_unseen() -> None:
    """llama-server promises to keep its connection and closes it: neither side's failure, so nobody's."""
    stale = asyncio.Event()

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        first = made.connections == 1
        while await made.ask(reader):
            if first and len(made.asked) == 2:
                return
            writer.write(OK)
        stale.set()

    async with engine(script) as made:
        pool = pool_of(made)
        await asked(pool)
        answer = Answer()
        call = await pool.send(b"POST", b"/v1/x", [], b"second", answer)
        await answer.over.wait()
        pool.close()

    assert (call.reused, call.resent) == (True, True)
    assert (answer.body, answer.ends, answer.broken) == (b"ok", 1, None)
    assert [request[-6:] for request in made.asked[1:]] == [b"second", b"second"]
    assert made.connections == 2


@on_both_loops
async def test_a_connection_that_the_engine_closed_is_not_used() -> None:
    """The end of file is already here; sending into it would only cost time."""
    async with engine(once) as made:
        pool = pool_of(made)
        await asked(pool)
        await until(lambda: pool.open == 0)
        answer = await asked(pool)
        pool.close()

    assert (answer.body, made.connections) == (b"ok", 2)


@pytest.mark.parametrize("bytes_back", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", OK[:-1]])
@on_both_loops
async def test_a_request_that_was_answered_in_part_is_never_sent_again(bytes_back: bytes) -> None:
    """The engine has taken it. Twice would be two generations, or two of whatever it does."""

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        while await made.ask(reader):
            writer.write(OK if len(made.asked) == 1 else bytes_back)
            if len(made.asked) == 2:
                return

    async with engine(script) as made:
        pool = pool_of(made)
        await asked(pool)
        answer = await asked(pool)

    assert answer.broken is not None
    assert answer.broken.fault is Fault.RESET
    assert (answer.ends, len(made.asked)) == (1, 2)


@on_both_loops
async def test_a_fresh_connection_that_ends_is_broken() -> None:
    """It was no stale promise; the engine died on it, and the caller decides what follows."""

    async def script(made: Engine, reader: StreamReader, _: StreamWriter) -> None:
        await made.ask(reader)

    async with engine(script) as made:
        answer = await asked(pool_of(made))

    assert answer.broken is not None
    assert answer.broken.fault is Fault.RESET
    assert len(made.asked) == 1


@on_both_loops
async def test_a_request_is_sent_again_once_only() -> None:
    """An engine that ends every connection is broken, however often it is asked."""

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        await made.ask(reader)
        if made.connections == 1:
            writer.write(OK)
            await made.ask(reader)

    async with engine(script) as made:
        pool = pool_of(made)
        await asked(pool)
        answer = await asked(pool)

    assert answer.broken is not None
    assert (answer.ends, len(made.asked)) == (1, 3)


@on_both_loops
async def test_an_engine_that_is_gone_when_its_connection_turns_out_closed_is_told_as_such() -> None:
    """The second attempt may find no listener any more."""

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        await made.ask(reader)
        writer.write(OK)
        await made.ask(reader)
        server[0].close()

    server: list[asyncio.Server] = []
    made = Engine()

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        await script(made, reader, writer)
        writer.close()

    server.append(await asyncio.start_server(serve, "127.0.0.1", 0))
    pool = Pool(f"http://127.0.0.1:{server[0].sockets[0].getsockname()[1]}")
    await asked(pool)
    answer = await asked(pool)

    assert answer.broken is not None
    assert answer.broken.fault is Fault.CONNECT
    assert answer.ends == 1


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        pytest.param(b"", Fault.RESET, id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", Fault.RESET, id="half-a-head"),
        pytest.param(OK[:-1], Fault.RESET, id="shorter-than-said"),
        pytest.param(CHUNKS + b"2\r\nok\r\n", Fault.RESET, id="no-last-chunk"),
        pytest.param(CHUNKS + b"5\r\nok", Fault.RESET, id="half-a-chunk"),
        pytest.param(CHUNKS + b"2\r\nokay\r\n0\r\n\r\n", Fault.PROTOCOL, id="wrong-chunk"),
        pytest.param(CHUNKS + b"zz\r\nok\r\n", Fault.PROTOCOL, id="wrong-chunk-size"),
        pytest.param(CHUNKS + b"fffffffffffffffff\r\n", Fault.PROTOCOL, id="chunk-size-overflow"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", Fault.PROTOCOL, id="wrong-length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", Fault.PROTOCOL, id="two-lengths"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", Fault.PROTOCOL, id="both"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", Fault.PROTOCOL, id="unknown-coding"),
        pytest.param(
            b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", Fault.PROTOCOL, id="switch"
        ),
        pytest.param(b"HTTP/1.0 000\r\n\r\nb", Fault.PROTOCOL, id="fuzz-42-status-zero"),
        pytest.param(b"HTTP/1.1 099 Low\r\ncontent-length: 0\r\n\r\n", Fault.PROTOCOL, id="status-too-low"),
        pytest.param(
            b"HTTP/1.1 100 \r\ntransfer-encoding: ;\r\n\r\n" + OK, Fault.PROTOCOL, id="fuzz-7-interim-with-coding"
        ),
        pytest.param(b"HTTP/1.1 100 \r\ncontent-length: 2\r\n\r\nok" + OK, Fault.PROTOCOL, id="interim-with-a-length"),
        pytest.param(
            CHUNKS + b"0\r\nx: y\r\ntransfer-encoding: d\r\n\r\n", Fault.PROTOCOL, id="fuzz-7-trailer-with-coding"
        ),
        pytest.param(b"SSH-2.0-x\r\n", Fault.PROTOCOL, id="no-http"),
        pytest.param(b"\0" * 100, Fault.PROTOCOL, id="zeros"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000, Fault.PROTOCOL, id="endless-head"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, Fault.PROTOCOL, id="endless-interim"),
    ],
)
@on_both_loops
async def test_a_broken_answer_is_told_once_and_as_what_it_is(data: bytes, fault: Fault) -> None:
    """The caller's books have one place for it; twice or never would both be wrong."""

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        await made.ask(reader)
        writer.write(data)
        await writer.drain()
        if fault is Fault.PROTOCOL:
            await reader.read()

    async with engine(script) as made:
        pool = pool_of(made)
        answer = await asked(pool)
        await asyncio.sleep(0.02)

    assert answer.broken is not None
    assert (answer.broken.fault, answer.ends, pool.open) == (fault, 1, 0)


@pytest.mark.parametrize("half", [False, True], ids=["closes", "closes its half"])
@on_both_loops
async def test_an_engine_that_stops_sending_is_broken_at_once(half: bool) -> None:
    """Half closed looks alive and will never say more; waiting out the time limit would hold the client."""
    go_on = asyncio.Event()

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        await made.ask(reader)
        writer.write(CHUNKS + b"2\r\nok\r\n")
        if half:
            writer.write_eof()
            await go_on.wait()

    async with engine(script) as made:
        answer = await asked(pool_of(made))
        go_on.set()

    assert (answer.status, answer.body, answer.ends) == (200, b"ok", 1)
    assert answer.broken is not None
    assert answer.broken.fault is Fault.RESET


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        pytest.param(b"", Fault.FIRST_BYTE, id="silent"),
        pytest.param(CHUNKS, Fault.FIRST_BYTE, id="head-only"),
        pytest.param(CHUNKS + b"1\r\na\r\n", Fault.IDLE, id="stalled"),
    ],
)
@on_both_loops
async def test_an_engine_that_does_not_go_on_is_given_up(data: bytes, fault: Fault) -> None:
    """Each phase has its own limit: reading a prompt takes long, the next token must not."""

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        await made.ask(reader)
        writer.write(data)
        await reader.read()

    async with engine(script) as made:
        pool = pool_of(made, PoolLimits(first_byte_s=0.2, idle_s=0.2))
        answer = await asked(pool)

    assert answer.broken is not None
    assert (answer.broken.fault, answer.broken.fault.is_timeout, answer.ends) == (fault, True, 1)
    assert pool.open == 0


@on_both_loops
async def test_a_steady_stream_ends_at_its_total_limit_and_not_before() -> None:
    """Pieces that keep coming satisfy the limit between them, so only the whole one ends an endless answer."""

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        await made.ask(reader)
        writer.write(CHUNKS)
        while True:
            writer.write(b"1\r\na\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with engine(script) as made:
        answer = await asked(pool_of(made, PoolLimits(first_byte_s=0.3, idle_s=0.3, total_s=0.9)))

    assert answer.broken is not None
    assert answer.broken.fault is Fault.TOTAL
    assert len(answer.body) > 6


@on_both_loops
async def test_a_paused_answer_is_not_given_up_and_loses_nothing() -> None:
    """It is the client that is slow then, and the engine is not to blame."""

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        await made.ask(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 48000000\r\n\r\n" + bytes(48_000_000))
        await reader.read()

    async with engine(script) as made:
        pool = pool_of(made, PoolLimits(idle_s=0.4))
        answer = Answer()
        call = await pool.send(b"GET", b"/", [], b"", answer)
        await until(lambda: len(answer.body) > 0)
        call.pause()
        call.pause()
        await asyncio.sleep(0.8)
        assert 0 < len(answer.body) < 48_000_000
        assert answer.broken is None
        call.resume()
        await answer.over.wait()
        pool.close()

    assert (len(answer.body), answer.broken) == (48_000_000, None)


@pytest.mark.parametrize("begun", [False, True], ids=["before the first byte", "after it"])
@on_both_loops
async def test_a_cancelled_request_ends_at_the_engine_at_once_and_is_not_spoken_of(begun: bool) -> None:
    """The engine stops computing when its connection ends, and the caller has said that it wants no more."""
    ended = asyncio.Event()

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        await made.ask(reader)
        if begun:
            writer.write(CHUNKS + b"1\r\na\r\n")
        try:
            await reader.read()
        finally:
            ended.set()

    async with engine(script) as made:
        pool = pool_of(made)
        answer = Answer()
        call = await pool.send(b"POST", b"/", [], b"{}", answer)
        await until(lambda: bool(answer.body if begun else made.asked))
        call.cancel()
        call.cancel()
        await ended.wait()

    assert (answer.ends, call.done, pool.open) == (0, True, 0)


@pytest.mark.parametrize("where", ["on_head", "on_body", "on_end"])
@on_both_loops
async def test_a_receiver_may_cancel_while_it_is_told(where: str) -> None:
    """A relay finds out that its client has left in the middle of handing on a piece."""

    class Leaves(Answer):
        def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
            super().on_head(status, headers)
            self.leave("on_head")

        def on_body(self, data: bytes) -> None:
            super().on_body(data)
            self.leave("on_body")

        def on_end(self) -> None:
            super().on_end()
            self.leave("on_end")

        def leave(self, place: str) -> None:
            if place == where:
                calls[0].cancel()
                left.set()

    left = asyncio.Event()
    async with engine(steady) as made:
        pool = pool_of(made)
        answer = Leaves()
        calls = [await pool.send(b"POST", b"/", [], b"{}", answer)]
        await left.wait()
        await asyncio.sleep(0.02)
        pool.close()

    assert answer.ends == (where == "on_end")
    assert bool(answer.body) == (where != "on_head")


@pytest.mark.parametrize("where", ["on_head", "on_body", "on_end"])
@on_both_loops
async def test_a_receiver_that_fails_ends_its_own_answer_only(where: str) -> None:
    """A fault in one relay must be told to it, if it still can be, and leave the pool as it was."""

    class Fails(Answer):
        def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
            super().on_head(status, headers)
            self.fail("on_head")

        def on_body(self, data: bytes) -> None:
            super().on_body(data)
            self.fail("on_body")

        def on_end(self) -> None:
            super().on_end()
            self.fail("on_end")

        def fail(self, place: str) -> None:
            if place == where:
                raise ZeroDivisionError

    async with engine(steady) as made:
        pool = pool_of(made)
        answer = Fails()
        await pool.send(b"POST", b"/", [], b"{}", answer)
        await answer.over.wait()
        assert answer.ends == 1
        assert (answer.broken is None) == (where == "on_end")
        assert (await asked(pool)).body == b"ok"
        pool.close()


@on_both_loops
async def test_no_connection_to_be_had_is_raised_and_the_receiver_left_alone() -> None:
    """Nothing was sent, so the caller may go to another endpoint without a doubt."""
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    answer = Answer()

    with pytest.raises(Broken, match="no connection") as broken:
        await Pool(f"http://127.0.0.1:{port}").send(b"GET", b"/", [], b"", answer)

    assert broken.value.fault is Fault.CONNECT
    assert answer.ends == 0


@on_both_loops
async def test_idle_connections_are_few_and_do_not_stay() -> None:
    """An engine has a limited number of connections too, and closes idle ones at a moment of its own choosing."""
    ready = asyncio.Event()

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        while await made.ask(reader):
            await ready.wait()
            writer.write(OK)

    async with engine(script) as made:
        pool = pool_of(made, PoolLimits(idle_connections=2, idle_keep_s=0.2))
        running = [asyncio.create_task(asked(pool)) for _ in range(5)]
        await until(lambda: len(made.asked) == 5)
        ready.set()
        await asyncio.gather(*running)
        assert pool.idle == 2
        await until(lambda: pool.open == 0)


@on_both_loops
async def test_a_closed_pool_lets_running_requests_end() -> None:
    """An endpoint that leaves the list still owes its answers."""
    ready = asyncio.Event()

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        await made.ask(reader)
        await ready.wait()
        writer.write(OK)
        await reader.read()

    async with engine(script) as made:
        pool = pool_of(made)
        running = asyncio.create_task(asked(pool))
        await until(lambda: len(made.asked) == 1)
        pool.close()
        ready.set()
        assert (await running).body == b"ok"
        assert pool.open == 0


@on_both_loops
async def test_bytes_that_nobody_asked_for_end_a_kept_connection() -> None:
    """They would be read as the answer to the next request, which belongs to somebody else."""
    more = asyncio.Event()

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        await made.ask(reader)
        writer.write(OK)
        await more.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        await reader.read()

    async with engine(script) as made:
        pool = pool_of(made)
        await asked(pool)
        assert pool.idle == 1
        more.set()
        await until(lambda: pool.open == 0)


@on_both_loops
async def test_a_large_body_reaches_the_engine_whole() -> None:
    """Images go as text in the body."""
    size = 10_000_000
    async with engine(steady) as made:
        pool = pool_of(made)
        answer = await asked(pool, body=bytes(size))
        pool.close()

    assert answer.body == b"ok"
    assert made.asked[0].endswith(bytes(size))


@on_both_loops
async def test_a_call_that_is_cancelled_while_it_is_sent_again_leaves_nothing() -> None:
    """Its fresh connection serves the next one instead."""

    async def script(made: Engine, reader: StreamReader, writer: StreamWriter) -> None:
        while await made.ask(reader):
            if len(made.asked) == 2:
                return
            writer.write(OK)

    async with engine(script) as made:
        pool = pool_of(made)
        await asked(pool)
        answer = Answer()
        call = await pool.send(b"POST", b"/", [], b"{}", answer)
        while not call.resent:  # noqa: ASYNC110  each turn of the loop counts: the connection is made in a few
            await asyncio.sleep(0)
        call.pause()
        call.resume()
        call.cancel()
        call.pause()
        await until(lambda: pool.idle == 1)
        assert (await asked(pool)).body == b"ok"
        assert (answer.ends, made.connections) == (0, 2)
        pool.close()


@on_both_loops
async def test_a_sender_that_is_cancelled_while_it_connects_leaves_no_connection() -> None:
    """Draining cancels handlers wherever they are."""

    async def script(made: Engine, reader: StreamReader, _: StreamWriter) -> None:
        await made.ask(reader)

    async with engine(script) as made:
        pool = pool_of(made, PoolLimits(idle_keep_s=0.1))
        for turns in range(6):
            sending = asyncio.create_task(pool.send(b"GET", b"/", [], b"", Answer()))
            for _ in range(turns):
                await asyncio.sleep(0)
            sending.cancel()
            await asyncio.wait([sending])
        await until(lambda: pool.open == 0)


@on_both_loops
async def test_a_connection_that_never_comes_is_given_up() -> None:
    """A node that vanished answers nothing at all, not even a refusal."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    filling = [socket.socket() for _ in range(4)]  # the kernel's queue: what comes after these waits
    for each in filling:
        each.settimeout(0)
        each.connect_ex(listener.getsockname())
    pool = Pool(f"http://127.0.0.1:{listener.getsockname()[1]}", PoolLimits(connect_s=0.1))

    with pytest.raises(Broken, match=r"within 0.1 s") as broken:
        await pool.send(b"GET", b"/", [], b"", Answer())

    for each in (listener, *filling):
        each.close()
    assert broken.value.fault is Fault.CONNECT


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    """A certificate for localhost and its key; the environment says that it is an authority."""
    certificate, key = made_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    client._trusted.cache_clear()  # noqa: SLF001  what is kept for the life of a process must not outlive this test
    yield certificate, key
    client._trusted.cache_clear()  # noqa: SLF001  as above


def test_engines_behind_tls_share_the_roots_that_the_environment_names(
    trusted: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To read them for each connection would hold up every other request for 30 ms, after each stream anew."""
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(*trusted)
    make, made = ssl.create_default_context, list[ssl.SSLContext]()

    def making() -> ssl.SSLContext:
        made.append(make())
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", making)

    @on_both_loops
    async def check() -> None:
        engine_of_tls = Engine()

        async def serve(reader: StreamReader, writer: StreamWriter) -> None:
            await once(engine_of_tls, reader, writer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ours)
        port = server.sockets[0].getsockname()[1]
        for _ in range(2):
            pool = Pool(f"https://localhost:{port}")
            answers = [await asked(pool) for _ in range(2)]
            assert [answer.body for answer in answers] == [b"ok", b"ok"]
            pool.close()
        server.close()

    check()
    assert len(made) == 1
