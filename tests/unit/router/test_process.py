"""One serving process put together: its keys, its certificate, its limits, its clock and its end."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arbiter.core.routes import Hold, Limits
from arbiter.core.traffic import Cause, Side, Tally
from arbiter.errors import InvalidInputError
from arbiter.router import metric_families as families
from arbiter.router import process
from arbiter.router.keys import line_of
from arbiter.router.options import Options
from arbiter.router.process import Serving, feedback_key, new_epoch, tls_context
from arbiter.router.workers import bind
from tests.unit.router.certificate import made_certificate
from tests.unit.router.routing import CHAT, Reply, ask, known, new, old, reply_of, request, table_of, task_of
from tests.unit.router.stand_in import Does, stand_in
from tests.unit.router.wire.loopback import dialled, on_both_loops, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from arbiter.core.routes import RouteTable

SECRET = "s" * 40
PLAIN = Options(routes=Path("routes.json"), port=0)


@asynccontextmanager
async def serving(table: RouteTable | None, options: Options = PLAIN) -> AsyncIterator[Serving]:
    """A process that serves by this table, and leaves nothing."""
    made = Serving(options, "pod/1", 1, b"k" * 32)
    if table is not None:
        made.obey(table)
    await made.listen(bind("127.0.0.1", 0, shared=False), tls_context(options))
    try:
        yield made
    finally:
        await made.drain(0.0)


def of_key(name: str, *, stream: bool = False) -> bytes:
    """A request with a key."""
    return request(headers=[b"x-api-key: %b.%b" % (name.encode(), SECRET.encode())], stream=stream)


def tally(served: Serving, side: Side = Side.OLD) -> Tally:
    """All that was booked to a side."""
    feed = served.ledger.feed(asyncio.get_running_loop().time())
    return Tally.merged(each.side(side) for each in feed.slices)


def value(served: Serving, family: families.Family, *labels: str) -> int:
    """A count of this process."""
    return served.standing.meter.value(family, labels)


def swapped(path: Path, text: str) -> None:
    """Replace a file in one step."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


# Keys.


def test_keys_are_taken_over_while_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A new key works and a removed one does not; a broken file changes nothing, and is told and counted once."""
    monkeypatch.setattr(process, "TICK_S", 0.01)
    first, second, third = (line_of(name, SECRET, name.encode() * 4) for name in ("alpha", "betas", "gamma"))
    keys = tmp_path / "keys"

    @on_both_loops
    async def check() -> None:
        caplog.clear()
        keys.write_text(first)
        async with (
            stand_in("a") as engine,
            serving(table_of(task_of(old(engine))), replace(PLAIN, keys=keys)) as served,
        ):

            async def statuses() -> list[int]:
                names = ("alpha", "betas", "gamma")
                return [(await ask(served.server.port, of_key(name))).status for name in names]

            async def until_told(*want: int) -> None:
                while True:
                    if await statuses() == [*want]:
                        return

            assert await statuses() == [200, 401, 401]
            engine.usual = Does.HALF_NOW
            stream = asyncio.create_task(ask(served.server.port, of_key("alpha", stream=True)))
            await until(lambda: any(fields.get("stream") for fields in engine.asked))
            engine.usual = Does.ANSWER
            swapped(keys, second)
            await until_told(401, 200, 401)
            engine.go.set()
            assert (await stream).whole  # what is under way ends as it began

            swapped(keys, f"{third}\nno key at all\n")
            await until(lambda: value(served, families.KEYS_REFUSED) == 1)
            assert await statuses() == [401, 200, 401]
            keys.unlink()
            await until(lambda: value(served, families.KEYS_REFUSED) == 2)
            assert await statuses() == [401, 200, 401]
            swapped(keys, f"{second}\n{third}\n")
            await until_told(401, 200, 200)
            assert value(served, families.KEYS_REFUSED) == 2

    with caplog.at_level(logging.ERROR):
        check()
    told = [each.getMessage() for each in caplog.records if each.name == process.__name__]
    assert len(told) == 2
    assert "line 2" in told[0]
    assert "cannot be read" in told[1]
    assert SECRET not in caplog.text
    assert {each.levelno for each in caplog.records if each.name == process.__name__} == {logging.ERROR}


def test_process_does_not_begin_without_its_keys(tmp_path: Path) -> None:
    """It would let everybody in, or nobody."""

    @on_both_loops
    async def check() -> None:
        with pytest.raises(InvalidInputError, match="cannot be read"):
            Serving(replace(PLAIN, keys=tmp_path / "keys"), "pod/1", 1, b"k" * 32)

    check()


# The certificate.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost and its key."""
    return made_certificate(tmp_path_factory.mktemp("tls"))


async def ask_secretly(port: int, data: bytes, authority: Path) -> Reply:
    """Ask as a client does that checks the certificate."""
    theirs = ssl.create_default_context(cafile=str(authority))
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=theirs)
    writer.write(data)
    got = await reader.read()
    writer.close()
    return reply_of(got)


@pytest.mark.parametrize("apart", [True, False], ids=["key-apart", "one-file"])
def test_mounted_certificate_secures_the_port(certificate: tuple[Path, Path], tmp_path: Path, *, apart: bool) -> None:
    """For whole answers and streams; who speaks without it gets nothing, and the next client is served."""
    cert, key = certificate
    both = tmp_path / "tls.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    given = replace(PLAIN, tls_certificate=cert, tls_key=key) if apart else replace(PLAIN, tls_certificate=both)

    @on_both_loops
    async def check() -> None:
        async with (
            stand_in("a") as engine,
            serving(table_of(task_of(old(engine))), given) as served,
        ):
            port = served.server.port
            assert (await ask(port, request())).status == 0
            reply = await ask_secretly(port, request(), cert)
            assert (reply.status, reply.whole) == (200, True)
            reply = await ask_secretly(port, request(stream=True), cert)
            assert (reply.status, reply.whole) == (200, True)
            assert reply.body.endswith(b"[DONE]\n\n")
            assert (tally(served).ok, len(engine.asked)) == (2, 2)

    check()


def test_stream_that_breaks_breaks_behind_tls_too(certificate: tuple[Path, Path]) -> None:
    """An end in order would be the end of a TLS session, and half an answer would look whole to some clients."""
    cert, key = certificate

    @on_both_loops
    async def check() -> None:
        async with (
            stand_in("a", Does.HALF_CLOSE) as engine,
            serving(table_of(task_of(old(engine))), replace(PLAIN, tls_certificate=cert, tls_key=key)) as served,
        ):
            theirs = ssl.create_default_context(cafile=str(cert))
            reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port, ssl=theirs)
            writer.write(request(stream=True))
            got = bytearray()
            try:
                while part := await reader.read(65_536):
                    got += part
            except (ConnectionError, ssl.SSLError):
                pass
            finally:
                writer.transport.abort()
            reply = reply_of(bytes(got))

            assert (reply.status, reply.whole) == (200, False)
            assert b"[DONE]" not in reply.body
            assert dict(tally(served).failed) == {Cause.BROKEN_STREAM: 1}

    check()


def test_certificate_that_cannot_be_used_is_an_error_of_the_option(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    """Nobody wants to find out by a handshake."""
    (tmp_path / "broken").write_text("no certificate")
    cert, _ = certificate
    for path in (tmp_path / "none", tmp_path / "broken", cert):
        with pytest.raises(InvalidInputError) as refused:
            tls_context(replace(PLAIN, tls_certificate=path))
        assert refused.value.field == "--tls-certificate"
    assert tls_context(PLAIN) is None
    made = tls_context(replace(PLAIN, tls_certificate=cert, tls_key=certificate[1]))
    assert made is not None
    assert made.minimum_version >= ssl.TLSVersion.TLSv1_2


# What the wire refuses.


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize(
    ("path", "want"),
    [
        pytest.param(
            CHAT,
            {"error": {"message": "{}", "type": "invalid_request_error", "param": None, "code": "invalid_request"}},
            id="openai",
        ),
        pytest.param(b"/api/chat", {"error": "{}"}, id="ollama"),
        pytest.param(
            b"/v1/messages?beta=true",
            {"type": "error", "error": {"type": "request_too_large", "message": "{}"}},
            id="anthropic",
        ),
    ],
)
def test_body_that_is_too_long_is_refused_in_the_callers_form(
    path: bytes, want: dict[str, object], *, chunked: bool
) -> None:
    """Before it has come, by the newest table's limit, and counted once."""
    framing = b"transfer-encoding: chunked\r\n\r\nf4241\r\n" if chunked else b"content-length: 1000001\r\n\r\n"
    head = b"POST %b HTTP/1.1\r\nhost: a\r\n" % path + framing

    @on_both_loops
    async def check() -> None:
        async with stand_in("a") as engine, serving(table_of(task_of(old(engine)))) as served:
            served.obey(table_of(task_of(old(engine)), limits=Limits(body_bytes=1_000_000), generation=2))
            reply = await ask(served.server.port, head)

            said = str(want).replace("{}", "the body is longer than 1000000 bytes")
            assert (reply.status, str(reply.fields)) == (413, said)
            assert value(served, families.WIRE_REFUSALS, "413") == 1
            assert (await ask(served.server.port, request())).status == 200
            assert value(served, families.REQUESTS, "chat", "old", "ok") == 1

    check()


@on_both_loops
async def test_half_sent_heads_are_given_up_and_nobody_else_notices() -> None:
    """Slowloris: connections are all that it can take, and it gets each for no longer than a head may take."""
    count = 60
    limits = Limits(header_s=0.3)
    async with stand_in("a", Does.HALF_NOW) as engine, serving(table_of(task_of(old(engine)), limits=limits)) as served:
        port = served.server.port
        stream = asyncio.create_task(ask(port, request(stream=True)))
        await until(lambda: len(engine.asked) == 1)
        halves = [asyncio.create_task(ask(port, b"POST /v1/messages HTTP/1.1\r\nhost: a\r\n")) for _ in range(count)]
        await until(lambda: served.server.connections == count + 1)
        assert (await ask(port, request())).status == 200
        replies = await asyncio.gather(*halves)
        assert not stream.done()
        engine.go.set()

        assert {reply.status for reply in replies} == {408}
        assert {str(reply.fields["type"]) for reply in replies} == {"error"}
        assert value(served, families.WIRE_REFUSALS, "408") == count
        assert (await stream).whole
        assert (tally(served).routed, tally(served).ok) == (2, 2)
        await until(lambda: served.server.connections == 0)


@on_both_loops
async def test_garbage_is_counted_once_each() -> None:
    """By the status that it was refused with; it is no request of a client, and no attempt."""
    garbage = (b"\x16\x03\x01\x02\x00\r\n\r\n", b"\0" * 1000, bytes(range(256)) * 16, b"GET\r\n\r\n", b"\xff" * 70_000)
    async with stand_in("a") as engine, serving(table_of(task_of(old(engine)))) as served:
        for number, data in enumerate(garbage, 1):
            await ask(served.server.port, data)
            assert value(served, families.WIRE_REFUSALS, "400") == number
        assert (await ask(served.server.port, b"BREW / HTTP/1.1\r\nhost: a\r\n\r\n")).status == 501
        assert (await ask(served.server.port, request())).status == 200

        assert value(served, families.WIRE_REFUSALS, "400") == len(garbage)
        assert value(served, families.WIRE_REFUSALS, "501") == 1
        assert tally(served).routed == 1


# Tables, the clock and the end.


@on_both_loops
async def test_process_without_a_table_says_that_it_has_none() -> None:
    """To clients and to the probe; a score and a list of models have to wait as well."""
    async with serving(None) as served:
        reply = await ask(served.server.port, request())

        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert "no routes yet" in str(reply.fields["error"])
        assert served.standing.missing == "it has no table yet"
        assert value(served, families.REQUESTS, "", "", "refused") == 1


@on_both_loops
async def test_table_that_is_told_again_clears_the_refusal_and_changes_nothing_else() -> None:
    """After a bad one the good one is told again: the line that waits must not be disturbed by it."""
    async with stand_in("a") as engine, serving(table_of(task_of(old(engine)))) as served:
        before = served.router.table
        served.standing.refuse("unreadable", "tasks: must be an object")
        assert served.standing.refused
        served.obey(table_of(task_of(old(engine))))
        assert served.standing.refused == ""
        assert served.router.table is before
        served.obey(table_of(task_of(new(engine)), generation=2))
        assert served.standing.obeyed is not None
        assert served.standing.obeyed.generation == 2
        assert value(served, families.TABLE_GENERATION) == 2
        assert (await ask(served.server.port, request())).status == 200
        assert tally(served, Side.NEW).ok == 1


def test_clock_lets_those_in_who_wait_for_a_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else happens when its pause is over."""
    monkeypatch.setattr(process, "TICK_S", 0.01)

    @on_both_loops
    async def check() -> None:
        async with stand_in("a") as engine:
            engine.usual = Does.FAIL
            async with serving(table_of(task_of(old(engine), hold=Hold(10, 60.0)))) as served:
                for _ in range(5):
                    assert (await ask(served.server.port, request())).status == 500
                (endpoint,) = known(served.router)
                endpoint.breaker._changed_at += 1000.0  # noqa: SLF001  its pause is long, for a moment
                engine.usual = Does.ANSWER
                asked = asyncio.create_task(ask(served.server.port, request()))
                await until(lambda: value(served, families.HELD_NOW, "chat") == 1)
                await until(lambda: value(served, families.BREAKERS_OPEN, "chat", "model-a") == 1)
                endpoint.breaker._changed_at -= 2000.0  # noqa: SLF001  and is over

                assert (await asked).status == 200
                assert value(served, families.HELD_NOW, "chat") == 0
                assert value(served, families.BREAKER_OPENED, "chat", "model-a") == 1
                await until(lambda: value(served, families.BREAKERS_OPEN, "chat", "model-a") == 0)

    check()


@on_both_loops
async def test_process_that_drains_finishes_what_is_under_way() -> None:
    """It is not ready, takes no more connections, and keeps no connection to an engine afterwards."""
    async with stand_in("a", Does.HALF_NOW) as engine, serving(table_of(task_of(old(engine)))) as served:
        port = served.server.port
        stream = asyncio.create_task(ask(port, request(stream=True)))
        await until(lambda: len(engine.asked) == 1)
        draining = asyncio.create_task(served.drain(60.0))
        await until(lambda: served.standing.missing == "it is draining")
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection("127.0.0.1", port)
        assert not draining.done()
        engine.go.set()
        await draining

        assert (await stream).whole
        assert tally(served).ok == 1
        assert known(served.router) == []


@on_both_loops
async def test_process_that_may_wait_no_longer_cuts_what_is_left() -> None:
    """As broken, without blaming the side, and in the books once."""
    async with stand_in("a", Does.STALL) as engine, serving(table_of(task_of(old(engine)))) as served:
        async with dialled(served.server.port) as (reader, writer):
            writer.write(request(stream=True))
            await reader.readuntil(b'"content": "a"')
            await served.drain(0.0)
            rest = bytearray()
            with suppress(ConnectionError):
                rest += await reader.read()
            assert not rest.endswith(b"0\r\n\r\n")
        await until(lambda: engine.left == 1)
        counts = tally(served)
        assert (counts.routed, counts.left, counts.failures) == (1, 1, 0)


@on_both_loops
async def test_gauges_are_set_when_they_are_asked_for() -> None:
    """What runs here is always 1, and connections are counted now."""
    async with serving(None) as served, dialled(served.server.port):
        await until(lambda: served.server.connections == 1)
        served.refresh()
        assert value(served, families.CONNECTIONS) == 1
        builds = next(counts for family, counts in served.standing.meter.items() if family is families.BUILD)
        assert list(builds.values()) == [1]


# What it is given.


def test_feedback_key_is_secret_and_the_same_for_all_routers_that_share_its_file(tmp_path: Path) -> None:
    """Without a file only this process knows it; a file is read without the line break that editors add."""
    assert len(feedback_key(None)) == 32
    assert feedback_key(None) != feedback_key(None)
    path = tmp_path / "feedback"
    path.write_bytes(b"0123456789abcdef\n")
    assert feedback_key(path) == b"0123456789abcdef"
    path.write_bytes(b"0123456789abcde\n")
    with pytest.raises(InvalidInputError, match="at least 16 bytes"):
        feedback_key(path)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        feedback_key(tmp_path / "none")


def test_life_of_a_router_is_named_after_its_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the operator can tell a restarted router from the one before."""
    monkeypatch.setenv("ARBITER_POD_UID", "2f1c")
    assert re.fullmatch(r"2f1c/[0-9]{13}", new_epoch())
    monkeypatch.delenv("ARBITER_POD_UID")
    assert re.fullmatch(r".+/[0-9]{13}", new_epoch())
