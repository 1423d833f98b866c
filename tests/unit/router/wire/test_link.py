"""One connection to an engine at its edges: paused when its answer ends, and a receiver that fails at a break."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from arbiter.router.wire.broken import Fault
from tests.unit.router.wire.loopback import Answer, Engine, asked, engine, on_both_loops, pool_of, until

if TYPE_CHECKING:
    import asyncio

    import pytest

    from arbiter.router.wire.broken import Broken
    from arbiter.router.wire.client import Call

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def answers(made: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request, in one write."""
    while await made.ask(reader):
        writer.write(OK)


@on_both_loops
async def test_connection_that_was_paused_at_the_end_of_its_answer_serves_the_next() -> None:
    """The pause was that of a client; the next answer on the connection is another one's."""

    class Pauses(Answer):
        def on_body(self, data: bytes) -> None:
            super().on_body(data)
            calls[0].pause()

    calls: list[Call] = []
    async with engine(answers) as made:
        pool = pool_of(made)
        assert (await asked(pool)).body == b"ok"
        answer = Pauses()
        calls.append(await pool.send(b"POST", b"/", [], b"{}", answer))
        await answer.over.wait()
        assert (answer.body, answer.broken) == (b"ok", None)
        assert (await asked(pool)).body == b"ok"
        assert (made.connections, pool.idle) == (1, 1)
        pool.close()


@on_both_loops
async def test_receiver_that_fails_at_a_break_is_logged_and_the_pool_goes_on() -> None:
    """What it did wrong is its own trouble; the connection is gone either way."""

    class Fails(Answer):
        def on_broken(self, broken: Broken) -> None:
            super().on_broken(broken)
            raise ZeroDivisionError

    async def breaks_once(made: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if made.connections == 1:
            await made.ask(reader)
            writer.write(OK[:-1])
            return
        await answers(made, reader, writer)

    async with engine(breaks_once) as made:
        pool = pool_of(made)
        answer = Fails()
        await pool.send(b"POST", b"/", [], b"{}", answer)
        await answer.over.wait()
        assert answer.broken is not None
        assert (answer.broken.fault, answer.ends) == (Fault.RESET, 1)
        assert (await asked(pool)).body == b"ok"
        pool.close()


def test_failure_of_a_receiver_leaves_its_trace_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody would find the fault otherwise."""

    class Fails(Answer):
        def on_end(self) -> None:
            super().on_end()
            raise ZeroDivisionError

    @on_both_loops
    async def check() -> None:
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            async with engine(answers) as made:
                pool = pool_of(made)
                answer = Fails()
                await pool.send(b"POST", b"/", [], b"{}", answer)
                await answer.over.wait()
                await until(lambda: bool(caplog.records))
                pool.close()
        assert "a receiver failed" in caplog.records[0].getMessage()
        assert caplog.records[0].exc_info is not None

    check()
