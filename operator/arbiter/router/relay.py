"""One attempt at one endpoint: passes the answer on as it comes, and tells once how it ended.

Rule: as long as nothing has gone to the client, a failed attempt can be replaced by another. So the head of a stream is
kept back until its first piece is there, and an answer in one piece until it is whole or too large to keep. What broke
after that ends as broken: nothing is invented to make it look whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arbiter.core.traffic import Cause
from arbiter.engines.answers import refused_by
from arbiter.router.accounting import Outcome
from arbiter.router.reader import json_object, message_of
from arbiter.router.refusal import Protocol, Refusal, protocol_of, refusal_event
from arbiter.router.sse import OverlongEventError
from arbiter.router.translation import reader as reader_for

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from arbiter.router.accounting import Ending, Entry
    from arbiter.router.call import Call
    from arbiter.router.endpoints import Endpoint
    from arbiter.router.reader import Reader, Times
    from arbiter.router.wire.broken import Broken
    from arbiter.router.wire.client import Call as Sent
    from arbiter.router.wire.exchange import Exchange

KEPT_BYTES: Final = 1_048_576
"""The largest answer in one piece that is kept until it is whole; from a larger one on, it is passed on as it comes."""

EVENTS: Final = b"text/event-stream"

UNAUTHORIZED: Final = 401
"""About the router's key and never the client's, which is not passed on: so the model failed, not the client."""


class Answer:
    """An answer in one piece, ready for the client; nobody changes it."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Written out because it is made for each request."""
        self.status = status
        self.headers = headers
        self.body = body


class Ended:
    """How an attempt ended; nobody changes it.

    Attributes:
        ending: for the books.
        final: the client has its answer, or its broken one, or has left: nothing more is to be done.
        why: what went wrong, as a sentence; empty where nothing did.
        answer: what the engine said when it failed in so many words.
    """

    __slots__ = ("answer", "ending", "final", "why")

    def __init__(self, ending: Ending, *, final: bool, why: str, answer: Answer | None) -> None:
        """Written out because it is made for each request."""
        self.ending = ending
        self.final = final
        self.why = why
        self.answer = answer


class Relay:
    """Takes the answer of one attempt.

    Attributes:
        ended: resolves to how it ended.
    """

    __slots__ = (
        "_call",
        "_clock",
        "_done",
        "_endpoint",
        "_entry",
        "_exchange",
        "_headers",
        "_kept",
        "_kept_bytes",
        "_mark",
        "_passing",
        "_reader",
        "_seen_token",
        "_sent",
        "_status",
        "_streamed",
        "_times",
        "_type",
        "ended",
    )

    def __init__(  # noqa: PLR0913  what one attempt is made of
        self,
        exchange: Exchange,
        call: Call,
        *,
        endpoint: Endpoint,
        entry: Entry,
        headers: Sequence[tuple[bytes, bytes]],
        times: Times,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Enter the endpoint; the request is about to be sent.

        Args:
            exchange: with the client.
            call: what it asked.
            endpoint: where it is sent.
            entry: the attempt in the books.
            headers: of ours, for the answer.
            times: of the request.
            loop: the running one.
        """
        self.ended: asyncio.Future[Ended] = loop.create_future()
        self._exchange = exchange
        self._call = call
        self._endpoint = endpoint
        self._entry = entry
        self._headers = headers
        self._times = times
        self._clock = loop.time
        self._mark = endpoint.occupancy.enter(entry.routed_at)
        self._sent: Sent | None = None
        self._reader: Reader | None = None
        self._status = 0
        self._type = b"application/json"
        self._streamed = self._passing = self._seen_token = self._done = False
        self._kept: list[bytes] = []
        self._kept_bytes = 0

    def carried_by(self, sent: Sent) -> None:
        """The request is on its way; what the client does is passed back from now on."""
        if self._done:
            sent.cancel()
            return
        self._sent = sent
        if self._passing:
            self._exchange.on_writable(sent.pause, sent.resume)

    def leave(self) -> None:
        """The client has gone: the engine need not go on. One that has the last event has its whole answer."""
        if not self._done:
            self._cancel()
            reader = self._reader
            served = self._passing and reader is not None and reader.complete and reader.error is None
            self._finish(Outcome.OK if served else Outcome.LEFT, final=True)

    # What the wire calls.

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The engine begins to answer."""
        self._status = status
        for name, value in headers:
            if name == b"content-type":
                self._type = value
        self._streamed = self._type.startswith(EVENTS) and status < 400
        self._reader = reader_for(self._call, streamed=self._streamed, status=status, times=self._times)

    def on_body(self, data: bytes) -> None:
        """A piece of the answer."""
        reader = self._reader
        if reader is None or self._done:
            return
        now = self._clock()
        try:
            piece = reader.feed(data, now)
        except OverlongEventError:
            self._cancel()
            self._fail(Cause.BROKEN_STREAM, "an event of the engine's does not end")
            return
        if reader.first_token and not self._seen_token:
            self._seen_token = True
            others = self._endpoint.occupancy.others(self._mark, self._entry.routed_at, now)
            self._entry.first_token(now, others)
        if self._passing:
            self._exchange.write(piece)
        elif self._streamed:
            self._begin_stream(reader, piece)
        else:
            self._keep(piece)

    def on_end(self) -> None:
        """The engine has answered in full, as far as the wire can tell."""
        reader = self._reader
        if reader is None or self._done:
            return
        rest = reader.end(self._clock())
        if self._streamed:
            self._end_stream(reader, rest)
        elif self._passing:
            self._exchange.write(rest)
            self._end_passing(reader)
        else:
            self._end_whole(reader, rest)

    def on_broken(self, broken: Broken) -> None:
        """The engine will not answer in full."""
        cause = Cause.TIMEOUT if broken.fault.is_timeout else Cause.BROKEN_STREAM if self._passing else Cause.RESET
        self._fail(cause, str(broken))

    # Steps of these.

    def _begin_stream(self, reader: Reader, piece: bytes) -> None:
        if reader.error is not None:
            self._cancel()
            self._fail(Cause.STREAM_ERROR, reader.error)
        elif piece:
            self._pass(reader, piece)

    def _pass(self, reader: Reader, piece: bytes) -> None:
        """Give the client the head and the first piece; from here on there is no other attempt."""
        self._passing = True
        if not self._exchange.started:
            self._exchange.start(self._status, self._fields(reader), None)
        self._exchange.write(piece)
        if self._sent is not None:
            self._exchange.on_writable(self._sent.pause, self._sent.resume)

    def _end_stream(self, reader: Reader, rest: bytes) -> None:
        if reader.error is not None and not self._passing:
            self._fail(Cause.STREAM_ERROR, reader.error)
        elif reader.complete or reader.error is not None:
            if not self._passing:
                self._pass(reader, rest)
            else:
                self._exchange.write(rest)
            self._exchange.end()
            self._finish(Outcome.OK if reader.error is None else Cause.STREAM_ERROR, final=True)
        else:
            if self._passing:
                self._exchange.write(rest)
            self._fail(Cause.BROKEN_STREAM, "the stream ended before it was whole")

    def _keep(self, piece: bytes) -> None:
        self._kept.append(piece)
        self._kept_bytes += len(piece)
        if self._kept_bytes > KEPT_BYTES and self._reader is not None:
            if self._status >= 500 or self._exchange.started:  # it waited for a stream, which this cannot become
                self._cancel()
                self._fail(Cause.SERVER_ERROR, f"the engine answered {self._status} with more than can be kept")
            else:
                kept, self._kept = self._kept, []
                self._pass(self._reader, b"".join(kept))

    def _end_passing(self, reader: Reader) -> None:
        """The end of an answer in one piece that was too large to keep."""
        if reader.complete or self._status >= 400:
            self._exchange.end()
            self._finish(Outcome.OK if self._status < 400 else Outcome.REJECTED, final=True)
        else:
            self._fail(Cause.BROKEN_STREAM, "the answer ended before it was whole")

    def _end_whole(self, reader: Reader, rest: bytes) -> None:
        answer = Answer(self._status, self._fields(reader), b"".join([*self._kept, rest]))
        if self._status >= 500 and refused_by(self._status, answer.body):
            self._finish(Outcome.REJECTED, final=False, answer=answer)  # another model may be able to
        elif self._status >= 500:
            self._fail(Cause.SERVER_ERROR, f"the engine answered {self._status}", answer)
        elif self._status == UNAUTHORIZED:
            self._fail(Cause.SERVER_ERROR, "its server wants another key than this router has")
        elif self._status < 400 and not reader.complete:
            self._fail(Cause.BROKEN_STREAM, "the answer ended before it was whole")
        elif self._status < 400 and reader.error is not None:
            self._fail(Cause.STREAM_ERROR, reader.error, Answer(502, answer.headers, answer.body))
        else:
            give(self._exchange, answer)
            self._finish(Outcome.OK if self._status < 400 else Outcome.REJECTED, final=True)

    def _fields(self, reader: Reader) -> list[tuple[bytes, bytes]]:
        return [(b"content-type", reader.content_type or self._type), *self._headers]

    def _fail(self, cause: Cause, why: str, answer: Answer | None = None) -> None:
        if self._passing and not self._done:
            self._exchange.abort()
        self._finish(cause, final=self._passing, why=why, answer=answer)

    def _cancel(self) -> None:
        if self._sent is not None:
            self._sent.cancel()

    def _finish(self, ending: Ending, *, final: bool, why: str = "", answer: Answer | None = None) -> None:
        """Book the end, the first one only."""
        if self._done:
            return
        self._done = True
        now, entry, endpoint = self._clock(), self._entry, self._endpoint
        others = endpoint.occupancy.others(self._mark, entry.routed_at, now)
        endpoint.occupancy.leave(now)
        reader = self._reader
        read, written = (reader.tokens_in, reader.tokens_out) if reader is not None else (0, 0)
        entry.finish(ending, now, others, read, written)
        if ending is Outcome.LEFT:
            endpoint.breaker.abandon(entry.routed_at)
        elif isinstance(ending, Cause):
            endpoint.breaker.fail(entry.routed_at, now)
        else:
            endpoint.breaker.succeed(entry.routed_at)
        self._sent = None  # it knows us: without this, only a search for cycles would free the two
        if not self.ended.done():
            self.ended.set_result(Ended(ending, final=final, why=why, answer=answer))


def give(exchange: Exchange, answer: Answer) -> None:
    """Give the client an answer in one piece; one that was kept waiting with heartbeats gets it as an event."""
    if exchange.started:
        exchange.write(_event_of(protocol_of(exchange.request.path), answer))
        exchange.end()
    else:
        exchange.respond(answer.status, answer.headers, answer.body)


def _event_of(protocol: Protocol, answer: Answer) -> bytes:
    """The same inside a stream; an error in the caller's form of one, or its client would pass it over."""
    said = json_object(answer.body)
    if answer.status < 400 or (said is not None and protocol is Protocol.OPENAI):
        return b"data: %b\n\n" % answer.body.replace(b"\n", b" ")
    message = f"the engine answered {answer.status}" if said is None else message_of(said.get("error", said))
    return refusal_event(protocol, Refusal(answer.status, "engine_failed", message))
