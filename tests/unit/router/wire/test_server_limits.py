"""Time limits, garbage and draining: no client holds a connection longer than it may, and none is cut without need."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest

from arbiter.router.wire.limits import Limits
from arbiter.router.wire.server import Server
from tests.unit.router.certificate import made_certificate
from tests.unit.router.wire.loopback import dialled, echo, on_both_loops, sent, serving, until
from tests.unit.router.wire.strict_requests import CHUNKED, GET, POST

if TYPE_CHECKING:
    from pathlib import Path

    from arbiter.router.wire.exchange import Exchange

SHORT = Limits(header_s=0.2, body_s=0.2, write_s=0.2, keep_alive_s=0.2)


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(GET, b"HTTP/1.1 408 ", id="half-a-head"),
        pytest.param(POST + b"content-length: 2\r\n\r\na", b"HTTP/1.1 408 ", id="half-a-body"),
        pytest.param(CHUNKED + b"2\r\na", b"HTTP/1.1 408 ", id="half-a-chunk"),
    ],
)
@on_both_loops
async def test_a_request_that_does_not_come_in_time_is_given_up(data: bytes, answer: bytes) -> None:
    """Connections are few; one that waits for ever is one less."""
    async with serving(echo, SHORT) as server:
        assert (await sent(server.port, data))[: len(answer) or 1] == answer
        await until(lambda: server.connections == 0)


@on_both_loops
async def test_a_client_that_drips_its_head_is_given_up_all_the_same() -> None:
    """Slowloris: each byte looks like progress, so the limit is for the whole head."""
    async with serving(echo, SHORT) as server, dialled(server.port) as (reader, writer):
        answer = asyncio.create_task(reader.read())
        writer.write(GET)
        while not answer.done():
            writer.write(b"x: a\r\n")
            await asyncio.sleep(0.02)
        assert (await answer).startswith(b"HTTP/1.1 408 ")


@on_both_loops
async def test_an_idle_connection_is_closed_without_a_word() -> None:
    """An answer that nobody asked for would be taken for that to the next request."""
    async with serving(echo, SHORT) as server, dialled(server.port) as (reader, writer):
        writer.write(GET + b"\r\n")
        await reader.readuntil(b"GET ")
        assert await reader.read() == b""


@on_both_loops
async def test_a_client_that_reads_nothing_is_cut() -> None:
    """Its stream is paused, and with it an engine's slot is held."""
    gone = asyncio.Event()

    async def pour(exchange: Exchange) -> None:
        exchange.on_gone(gone.set)
        exchange.start(200, [], None)
        while exchange.writable and not exchange.gone:
            exchange.write(bytes(65_536))
            await asyncio.sleep(0)
        await gone.wait()

    async with serving(pour, SHORT) as server, dialled(server.port) as (_, writer):
        writer.write(GET + b"\r\n")
        await gone.wait()
        await until(lambda: server.connections == 0)


@on_both_loops
async def test_a_client_that_reads_slowly_is_not_cut() -> None:
    """A slow reader is a reader: the limit is for one that takes no byte at all."""
    limits = Limits(write_s=1.2)
    size = 12_000_000

    async def whole(exchange: Exchange) -> None:
        exchange.respond(200, [], bytes(size))

    async with serving(whole, limits) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=4096)
        writer.write(GET + b"connection: close\r\n\r\n")
        taken = 0
        for _ in range(12):
            taken += len(await reader.read(900_000))
            await asyncio.sleep(0.15)
        while piece := await reader.read(1_000_000):
            taken += len(piece)
        writer.close()

    assert taken > size


@pytest.mark.parametrize(
    "garbage", [b"\0\1\2\3" * 1000, b"\x80" * 5000, bytes(range(256)) * 40, b"\r\n" * 5000, b"{}\r\n\r\n"]
)
@on_both_loops
async def test_garbage_is_refused_and_the_next_client_is_served(garbage: bytes) -> None:
    """Whatever comes, it ends one connection and nothing more."""
    async with serving(echo) as server:
        assert (await sent(server.port, garbage)).startswith(b"HTTP/1.1 400 ")
        assert b"GET " in await sent(server.port, GET + b"connection: close\r\n\r\n")


@on_both_loops
async def test_draining_lets_running_answers_end_and_takes_no_more_connections() -> None:
    """A rolling restart must fail nobody: streams end as they would have, and say that the connection closes."""
    go_on = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        await go_on.wait()
        exchange.respond(200, [], b"done")

    async with serving(wait) as server, dialled(server.port) as (reader, writer):
        writer.write(GET + b"\r\n")
        await until(lambda: server.exchanges == 1)
        port = server.port
        draining = asyncio.create_task(server.drain(10))
        await asyncio.sleep(0.05)
        with pytest.raises(OSError, match=r"refused|Connect"):
            await sent(port, GET)
        assert not draining.done()
        go_on.set()
        answer = await reader.read()
        await draining

    assert answer.endswith(b"done")
    assert b"connection: close\r\n" in answer
    assert server.connections == 0


@on_both_loops
async def test_a_request_on_its_way_to_a_draining_server_is_answered() -> None:
    """An idle connection looks unused to us while its next request is already sent."""
    async with serving(echo) as server, dialled(server.port) as (reader, writer):
        writer.write(GET + b"\r\n")
        await reader.readuntil(b"GET ")
        draining = asyncio.create_task(server.drain(10))
        await asyncio.sleep(0.05)
        writer.write(GET + b"\r\n")
        assert b"connection: close\r\n" in await reader.readuntil(b"GET ")
        assert await reader.read() == b""
        await draining


@on_both_loops
async def test_draining_goes_on_after_an_answer_that_did_not_say_that_it_was_the_last() -> None:
    """Its client has been promised the connection, and may have sent the next request already."""
    go_on = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        exchange.start(200, [], None)
        await go_on.wait()
        exchange.end()

    async with serving(wait) as server, dialled(server.port) as (reader, writer):
        writer.write(GET + b"\r\n")
        assert b"connection:" not in await reader.readuntil(b"\r\n\r\n")
        draining = asyncio.create_task(server.drain(10))
        await asyncio.sleep(0.05)
        writer.write(GET + b"\r\n")
        go_on.set()
        answer = await reader.read()
        await draining

    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert b"connection: close\r\n" in answer


@on_both_loops
async def test_what_does_not_end_in_time_is_cut_and_cancelled() -> None:
    """A pod is killed after its grace anyway; ours must end before, with its books closed."""
    cancelled = asyncio.Event()

    async def stay(exchange: Exchange) -> None:
        exchange.start(200, [], None)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with serving(stay) as server, dialled(server.port) as (reader, writer):
        writer.write(GET + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await server.drain(0.05)
        assert cancelled.is_set()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        await until(lambda: server.connections == 0)


@on_both_loops
async def test_a_server_that_was_never_used_ends_at_once() -> None:
    """Nothing may keep the loop of an unused server turning."""
    async with asyncio.timeout(1), serving(echo) as server:
        await server.drain(10)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost and its key, for this run."""
    return made_certificate(tmp_path_factory.mktemp("tls"))


def test_tls_serves_streams_and_refusals(certificate: tuple[Path, Path]) -> None:
    """The same server behind a mounted certificate, for clients and for our own pool."""
    cert, key = certificate
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(cert, key)
    theirs = ssl.create_default_context(cafile=str(cert))

    @on_both_loops
    async def serve() -> None:
        async with serving(echo, ssl=ours) as server:
            for data, status in (
                (POST + b"content-length: 2\r\nconnection: close\r\n\r\nab", b"200"),
                (b"?\n", b"400"),
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=theirs)
                writer.write(data)
                answer = await reader.readuntil(b"\r\n\r\n") + await reader.read()
                writer.close()
                assert answer.startswith(b"HTTP/1.1 " + status)
            async with dialled(server.port) as (reader, writer):
                writer.write(GET + b"\r\n")
                assert not (await reader.read()).startswith(b"HTTP")

    serve()


@on_both_loops
async def test_two_servers_share_a_port() -> None:
    """Workers listen side by side; the kernel deals connections out to them."""
    first, second = Server(echo), Server(echo)
    await first.start("127.0.0.1", reuse_port=True)
    await second.start("127.0.0.1", first.port, reuse_port=True)

    answers = [await sent(first.port, GET + b"connection: close\r\n\r\n") for _ in range(10)]
    await first.drain(0)
    await second.drain(0)

    assert all(answer.endswith(b"GET ") for answer in answers)


@on_both_loops
async def test_new_limits_hold_for_the_next_request_of_an_open_connection() -> None:
    """A client that stays connected would else be bound by a table that is long gone."""
    async with serving(echo, Limits(body_bytes=100)) as server, dialled(server.port) as (reader, writer):
        post = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 20\r\n\r\n" + bytes(20)
        writer.write(post)
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
        server.limits = Limits(body_bytes=10)
        await until(lambda: server.exchanges == 0)
        writer.write(post)
        assert b"HTTP/1.1 413 " in await reader.read()
