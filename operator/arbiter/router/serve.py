"""One request, in order: authenticate, parse, task, side, endpoint, forward, account.

Rule: a request ends once, with the engine's answer, with a refusal in the caller's own protocol, or cut. It is tried
again, on another endpoint, the other side or a fallback, only as long as nothing of an answer has gone to the client.
When nothing can serve it waits in the task's hold. Each attempt is booked to the side that it was sent to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arbiter.core.routes import pick_side
from arbiter.core.traffic import Cause, Side
from arbiter.router import metric_families as families
from arbiter.router.accounting import Outcome
from arbiter.router.call import FORWARDED, Call, Operation, find, parse
from arbiter.router.heartbeat import Heartbeat
from arbiter.router.hold import Hold, HoldRefusedError, Refused
from arbiter.router.keys import bearer
from arbiter.router.local_answers import answer
from arbiter.router.metric_families import Answered
from arbiter.router.reader import Times
from arbiter.router.refusal import Refusal, protocol_of, refusal_body, refusal_event
from arbiter.router.relay import Ended, Relay, give
from arbiter.router.translation import upstream
from arbiter.router.wire.broken import Broken
from arbiter.router.wire.limits import PoolLimits

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from arbiter.core.routes import Backend, RouteTable, Task
    from arbiter.router.accounting import Ending, Entry, Ledger
    from arbiter.router.endpoints import Endpoint, Endpoints
    from arbiter.router.feedback import Feedback
    from arbiter.router.keys import Key, KeyFile
    from arbiter.router.metrics import Meter
    from arbiter.router.openai import Upstream
    from arbiter.router.wire.exchange import Exchange
    from arbiter.router.wire.request_head import Request

ATTEMPTS: Final = 4
"""Most attempts of one request: an engine that breaks on it should not take the whole pool along."""

FALLBACK: Final = "fallback"
"""What stands where a side would, when a fallback answers."""

_SENT_HEADERS: Final = ((b"content-type", b"application/json"), (b"accept-encoding", b"identity"))
"""To engines. What a client accepts is not passed on: a compressed stream could not be read."""

_OPERATION: Final = {
    Operation.COMPLETIONS: "text_completion",
    Operation.EMBEDDINGS: "embeddings",
    Operation.OLLAMA_EMBED: "embeddings",
    Operation.OLLAMA_EMBEDDINGS: "embeddings",
    Operation.OLLAMA_GENERATE: "text_completion",
}
"""What OpenTelemetry calls an operation; all others are chats."""

_ANSWERED: Final[dict[Ending, Answered]] = {
    Outcome.OK: Answered.OK,
    Outcome.REJECTED: Answered.REJECTED,
    Outcome.LEFT: Answered.LEFT,
}


class Place:
    """Where one attempt goes; `side` is None for a fallback."""

    __slots__ = ("backend", "endpoint", "side")

    def __init__(self, backend: Backend, side: Side | None, endpoint: Endpoint) -> None:
        """Nobody changes it."""
        self.backend = backend
        self.side = side
        self.endpoint = endpoint


class Flight:
    """One request on its way through the router.

    Attributes:
        exchange: with the client.
        call: what it asked.
        task: what it asked for, as the newest table has it.
        key: the caller's, if it needs one.
        draw: its place among the sides' shares.
        arrived: when it was read.
        tried: endpoints that failed it.
        spent: sides whose breakers refused it.
        refusal: why a model could not even be asked this.
        last: how its last attempt ended.
        last_side: where that was, as metrics call it.
    """

    __slots__ = (
        "arrived",
        "attempts",
        "call",
        "draw",
        "exchange",
        "key",
        "last",
        "last_side",
        "refusal",
        "spent",
        "task",
        "tried",
    )

    def __init__(  # noqa: PLR0913  what one request is made of
        self, exchange: Exchange, call: Call, task: Task, *, key: Key | None, draw: float, arrived: float
    ) -> None:
        """Not tried yet."""
        self.exchange = exchange
        self.call = call
        self.task = task
        self.key = key
        self.draw = draw
        self.arrived = arrived
        self.attempts = 0
        self.tried: list[Endpoint] = []
        self.spent: list[Side] = []
        self.refusal: Refusal | None = None
        self.last: Ended | None = None
        self.last_side = ""


class Router:
    """Serves requests by the table that it obeys.

    Attributes:
        table: the one in force; None before the first.
        endpoints: where models answer.
    """

    def __init__(  # noqa: PLR0913  the parts that one request passes
        self,
        *,
        ledger: Ledger,
        meter: Meter,
        endpoints: Endpoints,
        feedback: Feedback,
        keys: KeyFile | None,
        draw: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
        unix_at_zero: float,
        shares: int = 1,
    ) -> None:
        """Wait for a table.

        Args:
            ledger: the books.
            meter: counts for Prometheus.
            endpoints: where models answer.
            feedback: ids and scores.
            keys: of those who may ask; None for whoever reaches us.
            draw: a number from [0, 1), another one each time.
            loop: the running one.
            unix_at_zero: Unix seconds when that loop's clock was at zero.
            shares: worker processes of this router.
        """
        self.table: RouteTable | None = None
        self.endpoints = endpoints
        self._ledger = ledger
        self._meter = meter
        self._feedback = feedback
        self._keys = keys
        self._draw = draw
        self._loop = loop
        self._clock = loop.time
        self._unix_at_zero = unix_at_zero
        self._shares = shares
        self._holds: dict[str, Hold[Place]] = {}
        self._headers: dict[tuple[str, str, str], list[tuple[bytes, bytes]]] = {}

    # The instruction.

    def obey(self, table: RouteTable) -> None:
        """Serve by this table from the next request on. Requests that are under way end as they began."""
        now, limits = self._clock(), table.limits
        pools = PoolLimits(first_byte_s=limits.first_byte_s, idle_s=limits.idle_s, total_s=limits.total_s)
        self.table = table
        self._headers.clear()
        self._ledger.obey(table, now)
        self.endpoints.obey(table, pools, now)
        for name, hold in [*self._holds.items()]:
            if name in table.tasks:
                hold.obey(table.tasks[name].hold)
            else:
                hold.refuse_all(Refused.HOPELESS, f"{name} is no longer served here")
                del self._holds[name]
        self.wake()

    def place(self, service: str, urls: Sequence[str]) -> None:
        """Take over which endpoints of a service are ready."""
        self.endpoints.place(service, urls, self._clock())
        self.wake()

    def wake(self) -> None:
        """Something may serve again: an endpoint came, a breaker's pause is over, or a new table."""
        for hold in self._holds.values():
            hold.wake()

    def tick(self, unix_s: float) -> None:
        """Look at the wall clock, and at who waits for a breaker; to be called a few times a second."""
        now = self._clock()
        self._unix_at_zero = unix_s - now
        self._ledger.tick(now, unix_s * 1000.0)
        if self.table is not None:
            self.endpoints.tell_breakers(self.table, self._meter)
        self.wake()

    # One request.

    async def serve(self, exchange: Exchange) -> None:
        """Serve one request to its end."""
        request = exchange.request
        try:
            table = self._table()
            key = self._authenticate(request, table)
            call = parse(request.method, request.path, request.headers, request.body)
            tasks = table.tasks if key is None else {name: task for name, task in table.tasks.items() if key.may(name)}
            if call.operation in FORWARDED:
                task = find(call, tasks)
                self._keep_rate(key)
                await self._forward(Flight(exchange, call, task, key=key, draw=self._draw(), arrived=self._clock()))
            elif call.operation is Operation.FEEDBACK:
                self._score(exchange, call)
            else:
                kind, body = answer(call, tasks, self._unix_at_zero + self._clock())
                exchange.respond(200, ((b"content-type", kind),), body)
        except Refusal as refusal:
            self._meter.count(families.REQUESTS, ("", "", Answered.REFUSED))
            refuse(exchange, refusal)

    def _table(self) -> RouteTable:
        if self.table is None:
            raise Refusal(503, "no_table", "this router has no routes yet", retry_after=1)
        return self.table

    def _authenticate(self, request: Request, table: RouteTable) -> Key | None:
        """Who asks; None where nobody needs a key."""
        if self._keys is None and table.auth is None:
            return None
        sent = bearer(request.header(b"authorization"), request.header(b"x-api-key"))
        key = self._keys.keys.find(sent) if sent is not None and self._keys is not None else None
        if key is None:
            self._meter.count(families.AUTH_REFUSALS, ("missing" if sent is None else "unknown",))
            raise Refusal(401, "invalid_api_key", "this endpoint needs an API key: Authorization: Bearer NAME.SECRET")
        return key

    def _keep_rate(self, key: Key | None) -> None:
        wait_s = key.take(self._clock()) if key is not None else 0
        if wait_s:
            self._meter.count(families.AUTH_REFUSALS, ("rate",))
            raise Refusal(429, "rate_limit_exceeded", "this key has used its requests for now", retry_after=wait_s)

    async def _forward(self, flight: Flight) -> None:
        """Try until the client has an answer, or nothing is left to try."""
        hold = self._holds.get(flight.task.name)
        place = None if hold is not None and len(hold) else self._find_place(flight)
        while True:
            if place is None:
                if flight.last is not None or flight.refusal is not None:
                    self._give_up(flight)
                    return
                place = await self._held(flight)
                if place is None:
                    return
            await self._attempt(flight, place)
            if flight.last is not None and flight.last.final:
                self._count(flight, _ANSWERED.get(flight.last.ending, Answered.FAILED))
                return
            place = self._find_place(flight)
            if place is not None and flight.last is not None:
                self._meter.count(families.RETRIES, (flight.task.name, flight.last_side))

    def _find_place(self, flight: Flight) -> Place | None:
        """The next place to try, its breaker entered. A side that its breakers refuse has failed this request."""
        task, now = flight.task, self._clock()
        while (target := pick_side(task, flight.call.session, flight.draw, self._usable(flight))) is not None:
            if (place := self._enter(flight, target.backend, target.side, now)) is not None:
                return place
            self._route(flight, target.side, target.backend, now).finish(Cause.REFUSED, now, 0)
            flight.spent.append(target.side)
        return self._find_fallback(flight, now)

    def _find_held(self, flight: Flight) -> Place | None:
        """The same for a request that waits: by the newest table, and without booking that it still has to."""
        table, now = self.table, self._clock()
        flight.task = table.tasks.get(flight.task.name, flight.task) if table is not None else flight.task
        flight.spent.clear()
        while (target := pick_side(flight.task, flight.call.session, flight.draw, self._usable(flight))) is not None:
            if (place := self._enter(flight, target.backend, target.side, now)) is not None:
                return place
            flight.spent.append(target.side)
        return self._find_fallback(flight, now)

    def _find_fallback(self, flight: Flight, now: float) -> Place | None:
        for backend in flight.task.fallback:
            if (place := self._enter(flight, backend, None, now)) is not None:
                return place
        return None

    def _usable(self, flight: Flight) -> list[Side]:
        """The sides that this request may still try."""
        if flight.attempts >= ATTEMPTS:
            return []
        tried, spent, endpoints = flight.tried, flight.spent, self.endpoints
        if not tried and not spent:
            return [target.side for target in flight.task.targets if endpoints.ready(target.backend)]
        return [
            target.side
            for target in flight.task.targets
            if target.side not in spent and any(endpoint not in tried for endpoint in endpoints.ready(target.backend))
        ]

    def _enter(self, flight: Flight, backend: Backend, side: Side | None, now: float) -> Place | None:
        if flight.attempts >= ATTEMPTS:
            return None
        endpoint = self.endpoints.choose(backend, flight.tried, now)
        if endpoint is None or not endpoint.breaker.enter(now):
            return None
        return Place(backend, side, endpoint)

    async def _held(self, flight: Flight) -> Place | None:
        """Wait until something can serve; None when the request is over without."""
        name, exchange, meter = flight.task.name, flight.exchange, self._meter
        hold = self._holds.get(name)
        if hold is None:
            hold = self._holds[name] = Hold(flight.task.hold, self._shares)
        meter.count(families.HELD, (name,))
        meter.count(families.HELD_NOW, (name,))
        heartbeat = Heartbeat(exchange, flight.call)
        try:
            priority = flight.key.rules.priority if flight.key is not None else 0
            waiter = hold.join(lambda: self._find_held(flight), priority)
            exchange.on_gone(lambda: hold.leave(waiter))
            return await hold.wait(waiter, lambda place: place.endpoint.breaker.abandon(self._clock()))
        except HoldRefusedError as refused:
            meter.count(families.UNHELD, (name, refused.reason))
            left = refused.reason is Refused.LEFT
            self._count(flight, Answered.LEFT if left else Answered.HELD_OUT)
            refuse(exchange, Refusal(503, "nothing_ready", refused.message, retry_after=refused.retry_after_s))
            return None
        finally:
            heartbeat.stop()
            exchange.on_gone(None)
            meter.count(families.HELD_NOW, (name,), -1)

    async def _attempt(self, flight: Flight, place: Place) -> None:
        """Send the request there and see to its answer; how it ended is in `flight.last`."""
        exchange, call, endpoint = flight.exchange, flight.call, place.endpoint
        now = self._clock()
        try:
            sent = upstream(call, place.backend, flight.task.pins)
            shown = self.endpoints.keys.added_to(_SENT_HEADERS, place.backend)
        except Refusal as refusal:  # of this backend: another one may well be asked
            flight.refusal = refusal
            flight.tried.extend(self.endpoints.ready(place.backend))
            endpoint.breaker.abandon(now)
            return
        flight.attempts += 1
        entry = self._route(flight, place.side, place.backend, now)
        headers = self._answer_headers(flight, place, sent)
        times = Times(self._unix_at_zero, flight.arrived, now)
        relay = Relay(exchange, call, endpoint=endpoint, entry=entry, headers=headers, times=times, loop=self._loop)
        exchange.on_gone(relay.leave)
        try:
            try:
                carried = await endpoint.pool.send(b"POST", sent.path, shown, sent.body, relay)
            except Broken as broken:
                relay.on_broken(broken)
            else:
                relay.carried_by(carried)
            flight.last = await relay.ended
        finally:
            relay.leave()  # when we are cancelled; otherwise it has ended
            exchange.on_gone(None)
        flight.last_side = place.side or FALLBACK
        if not flight.last.final:
            flight.tried.append(endpoint)

    def _route(self, flight: Flight, side: Side | None, backend: Backend, now: float) -> Entry:
        """Book an attempt."""
        call, name, operation = flight.call, flight.task.name, _OPERATION.get(flight.call.operation, "chat")
        if side is None:
            return self._ledger.route_fallback(name, backend, now, operation, stream=call.stream)
        return self._ledger.route(name, side, now, operation, stream=call.stream)

    def _answer_headers(self, flight: Flight, place: Place, sent: Upstream) -> list[tuple[bytes, bytes]]:
        """What the client is told beside the answer: a fallback is never silent, nor is what was dropped."""
        task, backend = flight.task, place.backend
        side = place.side or FALLBACK
        known = self._headers.get((task.name, backend.revision, side))
        if known is None:
            known = [(b"x-arbiter-model", backend.model.encode()), (b"x-arbiter-revision", backend.revision.encode())]
            if task.swap:
                known.append((b"x-arbiter-swap", task.swap.encode()))
            if place.side is None:
                known.append((b"x-arbiter-fallback", b"true"))
            self._headers[task.name, backend.revision, side] = known
        said = self._feedback.issue(task.name, side, backend.revision)
        headers = [*known, (b"x-arbiter-request-id", said)]
        if sent.dropped:
            self._meter.count(families.DROPPED_FIELDS, (task.name,), len(sent.dropped))
            headers.append((b"x-arbiter-dropped", ", ".join(sent.dropped).encode()))
        return headers

    def _give_up(self, flight: Flight) -> None:
        """Give the client the last that there is to say."""
        last = flight.last
        if last is None:
            if flight.refusal is not None:
                self._meter.count(families.REQUESTS, (flight.task.name, "", Answered.REFUSED))
                refuse(flight.exchange, flight.refusal)
            return
        self._count(flight, _ANSWERED.get(last.ending, Answered.FAILED))
        if last.answer is not None:
            give(flight.exchange, last.answer)
        elif last.ending is Cause.TIMEOUT:
            refuse(flight.exchange, Refusal(504, "engine_timeout", f"the model did not answer: {last.why}"))
        else:
            refuse(flight.exchange, Refusal(502, "engine_failed", f"the model did not answer: {last.why}"))

    def _score(self, exchange: Exchange, call: Call) -> None:
        """Take a score for an answer."""
        said, score = call.fields["id"], call.fields["score"]
        assert isinstance(said, str)  # noqa: S101  both were checked when the call was read
        assert isinstance(score, int | float)  # noqa: S101  as above
        rated = self._feedback.take(said)
        self._meter.count(families.FEEDBACK, (rated.task, rated.side))
        self._meter.count(families.FEEDBACK_POINTS, (rated.task, rated.side), round(score * 1000))
        exchange.respond(204, (), b"")

    def _count(self, flight: Flight, answered: Answered) -> None:
        self._meter.count(families.REQUESTS, (flight.task.name, flight.last_side, answered))


def refuse(exchange: Exchange, refusal: Refusal) -> None:
    """Say no in the protocol of whoever asked, inside the stream if one has begun."""
    protocol = protocol_of(exchange.request.path)
    if exchange.started:
        exchange.write(refusal_event(protocol, refusal))
        exchange.end()
        return
    kind, body = refusal_body(protocol, refusal)
    exchange.respond(refusal.status, ((b"content-type", kind), *refusal.headers()), body)
