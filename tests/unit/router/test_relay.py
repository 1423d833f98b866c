"""One attempt at one endpoint: when it can still be replaced, how it ends, and that it ends once."""

from __future__ import annotations

import asyncio
import json
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

import pytest

from arbiter.core.traffic import Cause, Side, Tally
from arbiter.router.accounting import Ledger, Outcome
from arbiter.router.breaker import State
from arbiter.router.call import parse
from arbiter.router.endpoints import Endpoint
from arbiter.router.metrics import Meter
from arbiter.router.reader import Times
from arbiter.router.relay import KEPT_BYTES, Answer, Relay, give
from arbiter.router.sse import EVENT_LIMIT
from arbiter.router.wire.broken import Broken, Fault
from arbiter.router.wire.client import Call as Sent
from arbiter.router.wire.client import Pool
from arbiter.router.wire.exchange import Exchange
from tests.unit.router.recorded_line import RecordedLine, posted
from tests.unit.router.router_examples import START_MS, table
from tests.unit.router.routing import CHAT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

P = ParamSpec("P")

MESSAGES = b"/v1/messages"
EVENT_STREAM = [(b"content-type", b"text/event-stream")]
JSON = [(b"content-type", b"application/json")]
PIECE = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"out of memory"}}\n\n'
ANSWER = b'{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}'
FAILED = b'{"error":{"message":"it is broken"}}'
LAST_CHUNK = b"0\r\n\r\n"


class Attempt:
    """One attempt, with everything around it but the network.

    Attributes:
        line: to the client.
        exchange: with it.
        endpoint: where the attempt is made.
        carried: the request on its way, over no connection.
        relay: what is tested.
    """

    def __init__(self, path: bytes = CHAT, *, stream: bool = True) -> None:
        """The request is on its way."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        body = json.dumps({"model": "chat", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}).encode()
        self.line = RecordedLine()
        self.exchange = Exchange(posted(path, body), self.line)
        self.endpoint = Endpoint("http://127.0.0.1:1", Pool("http://127.0.0.1:1"), now)
        self.ledger = Ledger("pod/1", Meter(), now, START_MS)
        self.ledger.obey(table(), now)
        self.relay = Relay(
            self.exchange,
            parse(b"POST", path, [], body),
            endpoint=self.endpoint,
            entry=self.ledger.route("chat", Side.OLD, now, "chat", stream=stream),
            headers=[(b"x-arbiter-model", b"model-old")],
            times=Times(0.0, now, now),
            loop=loop,
        )
        self.carried = Sent(b"", b"", self.relay, now + 60.0)

    def carry(self) -> None:
        """Tell the relay what carries the request."""
        self.relay.carried_by(self.carried)

    def play(self, *steps: object) -> Attempt:
        """Do what an engine does: a status, pieces of a body, `None` for the end, or how it breaks."""
        for step in steps:
            match step:
                case (int() as status, list() as headers):
                    self.relay.on_head(status, headers)
                case bytes() as data:
                    self.relay.on_body(data)
                case Fault() as fault:
                    self.relay.on_broken(Broken(fault, f"it broke: {fault}"))
                case _:
                    self.relay.on_end()
        return self

    def tally(self) -> Tally:
        """All that was booked."""
        feed = self.ledger.feed(asyncio.get_running_loop().time())
        return Tally.merged(each.side(Side.OLD) for each in feed.slices)

    def booked(self) -> dict[str, int]:
        """How attempts ended, without what did not happen."""
        tally = self.tally()
        found = {"ok": tally.ok, "4xx": tally.rejected, "client-left": tally.left}
        found |= {str(cause): count for cause, count in tally.failed.items()}
        return {name: count for name, count in found.items() if count}


def in_a_loop(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Run a test on a loop of its own; nothing here reaches a socket."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 20.0))

    return run


STREAM = (200, EVENT_STREAM)
WHOLE = (200, JSON)

REPLACED = [
    pytest.param([Fault.CONNECT], Cause.RESET, id="no-connection"),
    pytest.param([Fault.RESET], Cause.RESET, id="reset-before-the-head"),
    pytest.param([Fault.FIRST_BYTE], Cause.TIMEOUT, id="silent"),
    pytest.param([STREAM, Fault.RESET], Cause.RESET, id="reset-after-the-head"),
    pytest.param([STREAM, Fault.TOTAL], Cause.TIMEOUT, id="head-and-no-more"),
    pytest.param([STREAM, PIECE[:20], Fault.PROTOCOL], Cause.RESET, id="half-an-event-and-no-http"),
    pytest.param([STREAM, ERROR], Cause.STREAM_ERROR, id="error-event"),
    pytest.param([STREAM, ERROR.strip(), None], Cause.STREAM_ERROR, id="error-event-without-its-end"),
    pytest.param([STREAM, None], Cause.BROKEN_STREAM, id="empty-stream"),
    pytest.param([WHOLE, ANSWER[:20], Fault.RESET], Cause.RESET, id="half-an-answer"),
    pytest.param([WHOLE, ANSWER[:20], Fault.IDLE], Cause.TIMEOUT, id="half-an-answer-and-no-more"),
    pytest.param([WHOLE, ANSWER[:20], None], Cause.BROKEN_STREAM, id="half-a-document"),
    pytest.param([WHOLE, FAILED, None], Cause.STREAM_ERROR, id="error-with-200"),
    pytest.param([(500, JSON), FAILED, None], Cause.SERVER_ERROR, id="500"),
    pytest.param([(503, EVENT_STREAM), ERROR, None], Cause.SERVER_ERROR, id="503-as-a-stream"),
    pytest.param([(500, JSON), b"x" * (KEPT_BYTES + 1)], Cause.SERVER_ERROR, id="500-too-large-to-keep"),
    pytest.param([STREAM, b"x" * (EVENT_LIMIT + 1)], Cause.BROKEN_STREAM, id="event-without-an-end"),
]

BROKEN = [
    pytest.param([STREAM, PIECE, Fault.RESET], Cause.BROKEN_STREAM, id="reset"),
    pytest.param([STREAM, PIECE, Fault.PROTOCOL], Cause.BROKEN_STREAM, id="no-http"),
    pytest.param([STREAM, PIECE, Fault.IDLE], Cause.TIMEOUT, id="stall"),
    pytest.param([STREAM, PIECE, None], Cause.BROKEN_STREAM, id="no-done"),
    pytest.param([STREAM, PIECE, PIECE[:20], None], Cause.BROKEN_STREAM, id="half-an-event"),
    pytest.param([STREAM, PIECE, b"x" * (EVENT_LIMIT + 1), DONE], Cause.BROKEN_STREAM, id="event-without-an-end"),
    pytest.param([WHOLE, b'{"a":"' + b"x" * KEPT_BYTES, Fault.RESET], Cause.BROKEN_STREAM, id="large-reset"),
    pytest.param([WHOLE, b'{"a":"' + b"x" * KEPT_BYTES, None], Cause.BROKEN_STREAM, id="large-half-a-document"),
]


@pytest.mark.parametrize(("steps", "cause"), REPLACED)
@in_a_loop
async def test_failure_before_anything_went_to_the_client_can_be_replaced(
    steps: Sequence[object], cause: Cause
) -> None:
    """Nothing of it shows: no head, no byte, no cut connection."""
    attempt = Attempt()
    attempt.carry()
    attempt.play(*steps)
    ended = await attempt.relay.ended

    assert (ended.ending, ended.final) == (cause, False)
    assert ended.why
    assert attempt.line.sent == b""
    assert (attempt.line.cuts, attempt.exchange.started) == (0, False)
    assert attempt.booked() == {cause: 1}
    assert attempt.endpoint.occupancy.in_flight == 0


@pytest.mark.parametrize(("steps", "cause"), BROKEN)
@in_a_loop
async def test_failure_after_that_ends_as_broken(steps: Sequence[object], cause: Cause) -> None:
    """The connection is cut, and nothing is made up: no last chunk, no `[DONE]`, no reason to finish."""
    attempt = Attempt()
    attempt.carry()
    attempt.play(*steps)
    ended = await attempt.relay.ended

    assert (ended.ending, ended.final) == (cause, True)
    assert attempt.line.sent.startswith(b"HTTP/1.1 200 ")
    assert attempt.line.cuts == 1
    assert attempt.exchange.gone
    assert not attempt.exchange.ended
    assert not attempt.line.sent.endswith(LAST_CHUNK)
    assert b"[DONE]" not in attempt.line.sent
    assert b"finish_reason" not in attempt.line.sent
    assert attempt.booked() == {cause: 1}
    assert attempt.endpoint.occupancy.in_flight == 0


@pytest.mark.parametrize(
    ("steps", "ending", "want"),
    [
        pytest.param([STREAM, PIECE, PIECE + DONE, None], Outcome.OK, PIECE, id="stream"),
        pytest.param([STREAM, DONE, None], Outcome.OK, DONE, id="stream-of-nothing"),
        pytest.param([STREAM, DONE.strip(), None], Outcome.OK, DONE.strip(), id="stream-without-its-last-line"),
        pytest.param([STREAM, PIECE, ERROR, None], Cause.STREAM_ERROR, ERROR, id="stream-that-tells-its-error"),
        pytest.param([WHOLE, ANSWER[:9], ANSWER[9:], None], Outcome.OK, ANSWER, id="answer"),
        pytest.param([(400, JSON), FAILED, None], Outcome.REJECTED, FAILED, id="rejection"),
        pytest.param([(400, EVENT_STREAM), FAILED, None], Outcome.REJECTED, FAILED, id="rejection-as-a-stream"),
        pytest.param([(400, JSON), b"not JSON", None], Outcome.REJECTED, b"not JSON", id="rejection-in-words"),
    ],
)
@in_a_loop
async def test_answer_that_is_whole_ends_whole(steps: Sequence[object], ending: object, want: bytes) -> None:
    """As the engine said it, with our header fields, and booked once."""
    attempt = Attempt()
    attempt.carry()
    attempt.play(*steps)
    ended = await attempt.relay.ended

    assert (ended.ending, ended.final, ended.answer) == (ending, True, None)
    assert want in attempt.line.sent
    assert b"x-arbiter-model: model-old\r\n" in attempt.line.sent
    assert attempt.exchange.ended
    assert attempt.line.cuts == 0
    assert attempt.booked() == {str(ending): 1}
    assert attempt.endpoint.occupancy.in_flight == 0


@in_a_loop
async def test_head_of_a_stream_waits_for_its_first_piece() -> None:
    """Engines send it before they have read the prompt, and what is not sent can be replaced."""
    attempt = Attempt()
    attempt.play(STREAM)
    assert attempt.line.sent == b""
    attempt.play(PIECE[:10])
    assert attempt.line.sent == b""
    attempt.play(PIECE[10:])
    assert attempt.line.sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert attempt.line.sent.endswith(PIECE + b"\r\n")
    before = len(attempt.line.sent)
    attempt.play(PIECE)
    assert attempt.line.sent[before:].endswith(PIECE + b"\r\n")
    attempt.play(DONE, None)
    assert sum(histogram.count for histogram in attempt.tally().first_token) == 1


@in_a_loop
async def test_answer_in_one_piece_is_kept_up_to_a_bound() -> None:
    """Up to it nothing is sent; one byte more, and all of it goes and is kept no longer."""
    attempt = Attempt(stream=False)
    attempt.play(WHOLE, b'{"a":"' + b"x" * (KEPT_BYTES - 6))
    assert attempt.line.sent == b""
    attempt.play(b"y")
    assert len(attempt.line.sent) > KEPT_BYTES
    attempt.play(b'"}', None)

    assert (await attempt.relay.ended).ending is Outcome.OK
    assert attempt.line.sent.endswith(b'2\r\n"}\r\n' + LAST_CHUNK)
    assert b"content-length" not in attempt.line.sent


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([], id="before-the-head"),
        pytest.param([STREAM], id="before-the-first-token"),
        pytest.param([STREAM, PIECE], id="mid-stream"),
        pytest.param([WHOLE, ANSWER[:20]], id="in-an-answer"),
    ],
)
@in_a_loop
async def test_client_that_leaves_ends_the_attempt_and_nobody_is_blamed(steps: Sequence[object]) -> None:
    """The engine is let off at once, and what still comes from it changes nothing."""
    attempt = Attempt()
    attempt.carry()
    attempt.play(*steps)
    attempt.exchange.on_gone(attempt.relay.leave)
    before = bytes(attempt.line.sent)
    attempt.exchange.leave()
    attempt.play(PIECE, DONE, None, Fault.RESET)
    attempt.relay.leave()
    ended = await attempt.relay.ended

    assert (ended.ending, ended.final) == (Outcome.LEFT, True)
    assert attempt.carried.done
    assert attempt.line.sent == before
    assert attempt.booked() == {"client-left": 1}
    assert attempt.endpoint.occupancy.in_flight == 0


@pytest.mark.parametrize(
    ("steps", "want"),
    [
        pytest.param([STREAM, PIECE, Fault.RESET], Cause.BROKEN_STREAM, id="broken"),
        pytest.param([Fault.RESET], Cause.RESET, id="broken-before-the-head"),
        pytest.param([STREAM, PIECE + DONE, None], Outcome.OK, id="answered"),
    ],
)
@in_a_loop
async def test_first_end_is_the_one_that_counts(steps: Sequence[object], want: object) -> None:
    """A client that leaves and an engine that breaks may be noticed in the same moment."""
    attempt = Attempt()
    attempt.carry()
    attempt.play(*steps)
    attempt.relay.leave()
    attempt.play(Fault.TOTAL, PIECE, None)

    assert (await attempt.relay.ended).ending == want
    assert attempt.booked() == {str(want): 1}
    assert not attempt.carried.done
    assert attempt.endpoint.occupancy.in_flight == 0


@in_a_loop
async def test_client_that_leaves_with_its_whole_answer_was_served() -> None:
    """Clients close once they have read `[DONE]`; what the engine still sends behind it is nobody's."""
    attempt = Attempt()
    attempt.carry()
    attempt.play(STREAM, PIECE, DONE)
    attempt.relay.leave()

    assert (await attempt.relay.ended).ending is Outcome.OK
    assert attempt.booked() == {"ok": 1}


@in_a_loop
async def test_request_that_goes_out_after_its_client_left_is_taken_back() -> None:
    """The client may leave while the connection is being made."""
    attempt = Attempt()
    attempt.relay.leave()
    attempt.carry()

    assert attempt.carried.done


@pytest.mark.parametrize("early", [True, False], ids=["piece-before-carried", "carried-before-piece"])
@in_a_loop
async def test_client_that_falls_behind_pauses_the_engine(*, early: bool) -> None:
    """From the first piece on, whichever is known first; and it goes on when the client has caught up."""
    attempt = Attempt()
    attempt.line.blocked = True
    seen = []
    if early:
        attempt.play(STREAM, PIECE)
        attempt.carry()
    else:
        attempt.carry()
        attempt.play(STREAM)
        seen.append(attempt.carried.paused)
        attempt.play(PIECE)
    seen.append(attempt.carried.paused)
    attempt.line.blocked = False
    for told in (attempt.exchange.unblock, attempt.exchange.block, attempt.exchange.unblock):
        told()
        seen.append(attempt.carried.paused)
    attempt.play(DONE, None)
    attempt.exchange.block()
    seen.append(attempt.carried.paused)

    assert seen == [False] * (not early) + [True, False, True, False, False]


@pytest.mark.parametrize(
    ("steps", "want"),
    [
        pytest.param([Fault.RESET], State.OPEN, id="failed"),
        pytest.param([STREAM, PIECE, Fault.RESET], State.OPEN, id="broken"),
        pytest.param([WHOLE, ANSWER, None], State.CLOSED, id="answered"),
        pytest.param([(404, JSON), FAILED, None], State.CLOSED, id="rejected"),
        pytest.param([STREAM, PIECE], State.OPEN, id="left"),
    ],
)
@in_a_loop
async def test_breaker_learns_how_its_probe_ended(steps: Sequence[object], want: State) -> None:
    """An engine that answers is well, whatever it answers; a probe whose client left says nothing."""
    attempt = Attempt()
    breaker = attempt.endpoint.breaker
    breaker.state = State.HALF_OPEN
    attempt.play(*steps)
    attempt.relay.leave()

    assert breaker.state is want
    assert breaker.passes(asyncio.get_running_loop().time()) == (want is State.CLOSED or len(steps) == 2)


@in_a_loop
async def test_stream_goes_on_where_a_heartbeat_has_sent_the_head() -> None:
    """A second head would be read as the model's words."""
    attempt = Attempt()
    attempt.exchange.start(200, EVENT_STREAM, None)
    attempt.play(STREAM, PIECE, DONE, None)

    assert attempt.line.sent.count(b"HTTP/1.1") == 1
    assert attempt.line.sent.endswith(DONE + b"\r\n" + LAST_CHUNK)
    assert attempt.booked() == {"ok": 1}


@pytest.mark.parametrize(
    ("path", "answer", "want"),
    [
        pytest.param(CHAT, Answer(200, (), b'{"a":\n1}'), b'data: {"a": 1}\n\n', id="answer"),
        pytest.param(CHAT, Answer(400, (), FAILED), b"data: " + FAILED + b"\n\n", id="openai"),
        pytest.param(
            CHAT,
            Answer(502, (), b"<html>\n\n</html>"),
            b'data: {"error":{"message":"the engine answered 502","type":"server_error","param":null,'
            b'"code":"engine_failed"}}\n\n',
            id="openai-of-a-proxy",
        ),
        pytest.param(
            MESSAGES,
            Answer(400, (), FAILED),
            b'event: error\ndata: {"type":"error","error":{"type":"invalid_request_error",'
            b'"message":"it is broken"}}\n\n',
            id="anthropic",
        ),
        pytest.param(
            MESSAGES,
            Answer(503, (), b""),
            b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error",'
            b'"message":"the engine answered 503"}}\n\n',
            id="anthropic-without-words",
        ),
    ],
)
@in_a_loop
async def test_answer_in_one_piece_after_a_heartbeat_is_one_event(path: bytes, answer: Answer, want: bytes) -> None:
    """In the form of the API that was asked, and the stream ends after it."""
    exchange = Attempt(path).exchange
    line = RecordedLine()
    exchange = Exchange(exchange.request, line)
    exchange.start(200, EVENT_STREAM, None)
    line.sent.clear()
    give(exchange, answer)

    assert line.sent == b"%x\r\n%b\r\n" % (len(want), want) + LAST_CHUNK
    assert exchange.ended


@in_a_loop
async def test_large_answer_in_one_piece_cannot_follow_a_heartbeat() -> None:
    """It would stand in the event stream as something that is no event."""
    attempt = Attempt()
    attempt.exchange.start(200, EVENT_STREAM, None)
    before = attempt.line.sent
    attempt.play(WHOLE, b"x" * (KEPT_BYTES + 1))
    ended = await attempt.relay.ended

    assert (ended.ending, ended.final) == (Cause.SERVER_ERROR, False)
    assert attempt.line.sent == before


@in_a_loop
async def test_answer_in_one_piece_keeps_its_status_and_length_where_nothing_was_sent() -> None:
    """The ordinary way."""
    attempt = Attempt()
    give(attempt.exchange, Answer(429, ((b"content-type", b"application/json"),), FAILED))

    assert attempt.line.sent.startswith(b"HTTP/1.1 429 ")
    assert b"content-length: %d\r\n" % len(FAILED) in attempt.line.sent
    assert attempt.line.sent.endswith(b"\r\n\r\n" + FAILED)
