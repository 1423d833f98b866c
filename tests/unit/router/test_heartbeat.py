"""Comments to clients that wait for a stream, on a clock that the test sets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from arbiter.router.call import parse
from arbiter.router.heartbeat import COMMENT, PAUSE_S, Heartbeat
from arbiter.router.wire.exchange import Exchange
from tests.unit.router.recorded_line import RecordedLine, posted
from tests.unit.router.routing import CHAT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MESSAGES = b"/v1/messages"
STREAM = b'{"model": "chat", "stream": true, "messages": [{"role": "user", "content": "hi"}]}'
WHOLE = b'{"model": "chat", "stream": false, "messages": [{"role": "user", "content": "hi"}]}'


class SetClock(asyncio.SelectorEventLoop):
    """A loop whose time passes only when a test says so.

    Attributes:
        now: its time.
    """

    now = 1000.0

    def time(self) -> float:
        """The time that was set."""
        return self.now

    async def pass_by(self, seconds: float) -> None:
        """Let time pass, and whatever was planned until then happen."""
        self.now += seconds
        for _ in range(3):
            await asyncio.sleep(0)


class Waiting:
    """A client that waits.

    Attributes:
        line: what it was sent.
        exchange: with it.
        heartbeat: its comments.
        clock: the loop.
    """

    def __init__(self, path: bytes, body: bytes, clock: SetClock) -> None:
        """It has just begun to wait."""
        self.clock = clock
        self.line = RecordedLine()
        self.exchange = Exchange(posted(path, body), self.line)
        self.heartbeat = Heartbeat(self.exchange, parse(b"POST", path, [], body))

    @property
    def comments(self) -> int:
        """How many it got."""
        return self.line.sent.count(COMMENT)


def while_waiting(story: Callable[[Waiting], Awaitable[None]], path: bytes = CHAT, body: bytes = STREAM) -> None:
    """Run a story of one client that waits."""
    clock = SetClock()

    async def told() -> None:
        await story(Waiting(path, body, clock))

    try:
        clock.run_until_complete(told())
    finally:
        clock.close()


@pytest.mark.parametrize("path", [CHAT, MESSAGES], ids=["openai", "anthropic"])
def test_client_of_a_stream_gets_a_comment_at_each_pause(path: bytes) -> None:
    """The first one brings the head of the answer, and only that one."""

    async def story(client: Waiting) -> None:
        await client.clock.pass_by(PAUSE_S - 0.1)
        assert client.line.sent == b""
        await client.clock.pass_by(0.2)
        assert client.line.sent.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-type: text/event-stream\r\n" in client.line.sent
        assert client.exchange.started
        assert client.comments == 1
        for comments in (2, 3):
            await client.clock.pass_by(PAUSE_S)
            assert client.comments == comments
        assert client.line.sent.count(b"HTTP/1.1 ") == 1
        client.heartbeat.stop()

    while_waiting(story, path)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(CHAT, WHOLE, id="no-stream"),
        pytest.param(MESSAGES, WHOLE, id="no-stream-of-anthropic"),
        pytest.param(b"/api/chat", STREAM, id="ollama"),
    ],
)
def test_client_that_could_not_skip_a_comment_gets_none(path: bytes, body: bytes) -> None:
    """One JSON document has no room for it, and the lines of Ollama's form neither; their refusal keeps its status."""

    async def story(client: Waiting) -> None:
        for _ in range(3):
            await client.clock.pass_by(PAUSE_S)
        assert client.line.sent == b""
        assert not client.exchange.started
        client.heartbeat.stop()

    while_waiting(story, path, body)


@pytest.mark.parametrize("comments", [0, 1], ids=["before-the-first", "after-the-first"])
def test_comments_end_with_the_wait(comments: int) -> None:
    """One between the pieces of an answer would be nothing that the engine said."""

    async def story(client: Waiting) -> None:
        for _ in range(comments):
            await client.clock.pass_by(PAUSE_S)
        client.heartbeat.stop()
        before = bytes(client.line.sent)
        for _ in range(3):
            await client.clock.pass_by(PAUSE_S)
        assert client.line.sent == before
        assert client.comments == comments

    while_waiting(story)


def test_client_that_has_left_is_sent_nothing() -> None:
    """It may leave between two comments, before whoever waits for it has noticed."""

    async def story(client: Waiting) -> None:
        await client.clock.pass_by(PAUSE_S)
        client.exchange.leave()
        await client.clock.pass_by(PAUSE_S)
        assert client.comments == 1
        client.heartbeat.stop()

    while_waiting(story)
