"""Answers the admin port: the operator's feed, the acknowledgement of the table, Prometheus, and the probes.

It is another port than the clients', so that nobody who may ask a model can read counts or names. Long answers are
made in pieces with the loop's turn between them: a scrape must not hold up a stream.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol

from arbiter.core.stored import Stored, to_json
from arbiter.router.metric_families import TABLE_EPOCH, TABLE_GENERATION, TABLE_REFUSALS
from arbiter.router.metrics import CONTENT_TYPE, exposition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from arbiter.core.routes import RouteTable
    from arbiter.router.accounting import Ledger
    from arbiter.router.metrics import Meter

STANDING_VERSION = 1
"""Version of the JSON form of `/internal/routes`."""

PIECES = 8
"""Pieces of an answer between two turns of the loop: about a millisecond of work."""


class Asked(Protocol):
    """What is read of a request."""

    method: bytes
    path: bytes


class Exchange(Protocol):
    """What is needed of the wire's exchange."""

    @property
    def request(self) -> Asked:
        """The request."""

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Give a whole answer."""


@dataclass(frozen=True, slots=True)
class Obeyed:
    """Which table is obeyed: what the operator waits for before it goes on."""

    epoch: int
    generation: int
    hash: str


@dataclass(slots=True)
class Standing:
    """How a process stands to its table.

    Attributes:
        meter: where it is counted too.
        obeyed: the table that is obeyed, None before the first.
        refused: why the newest table offered was refused; empty when it is the one obeyed.
        draining: whether the process is about to end.
    """

    meter: Meter
    obeyed: Obeyed | None = None
    refused: str = ""
    draining: bool = False

    def obey(self, table: RouteTable) -> None:
        """A table came into force."""
        self.obeyed = Obeyed(table.epoch, table.generation, table.hash)
        self.refused = ""
        self.meter.set(TABLE_EPOCH, (), table.epoch)
        self.meter.set(TABLE_GENERATION, (), table.generation)

    def refuse(self, reason: str, message: str) -> None:
        """A table was not taken.

        Args:
            reason: for the metric, `unreadable` or `stale`; empty when this was told before.
            message: why, with the field.
        """
        self.refused = message
        if reason:
            self.meter.count(TABLE_REFUSALS, (reason,))

    @property
    def missing(self) -> str:
        """Why this process should get no requests; empty when it should."""
        if self.draining:
            return "it is draining"
        return "" if self.obeyed else "it has no table yet"

    def to_fields(self) -> dict[str, object]:
        """The JSON form, as a worker tells its parent."""
        obeyed = self.obeyed
        table = (
            [] if obeyed is None else [{"epoch": obeyed.epoch, "generation": obeyed.generation, "hash": obeyed.hash}]
        )
        return {"table": table, "refused": self.refused, "draining": int(self.draining)}

    @staticmethod
    def read(stored: Stored, meter: Meter) -> Standing:
        """Read back what `to_fields` wrote."""
        tables = stored.items("table")
        obeyed = None
        if tables:
            table = Stored(tables[0], f"{stored.path}.table")
            obeyed = Obeyed(table.integer("epoch"), table.integer("generation"), table.text("hash"))
            table.done()
        standing = Standing(meter, obeyed, stored.text("refused"), bool(stored.integer("draining")))
        stored.done()
        return standing


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What `/internal/routes` answers.

    Attributes:
        router: its epoch: pod uid and process start.
        obeyed: what every worker obeys; None when they differ or one has no table.
        newest: the newest that any worker obeys; None before the first. What is older is refused as stale.
        workers: processes that serve, or should.
        obeying: how many of them obey the newest table.
        refused: why the newest table was refused, by whoever refused it.
    """

    router: str
    obeyed: Obeyed | None
    newest: Obeyed | None
    workers: int
    obeying: int
    refused: str

    @staticmethod
    def of(router: str, standings: Sequence[Standing | None]) -> Acknowledgement:
        """Of all workers; None stands for one that has not told anything yet."""
        told = [standing.obeyed for standing in standings if standing and standing.obeyed]
        newest = max(told, key=lambda each: (each.epoch, each.generation), default=None)
        obeying = sum(each == newest for each in told)
        refused = next((standing.refused for standing in standings if standing and standing.refused), "")
        agreed = newest if obeying == len(standings) else None
        return Acknowledgement(router, agreed, newest, len(standings), obeying, refused)

    def to_text(self) -> str:
        """The JSON form."""
        table = None if self.obeyed is None else asdict(self.obeyed)
        fence = None if self.newest is None else {"epoch": self.newest.epoch, "generation": self.newest.generation}
        workers = {"wanted": self.workers, "obeying": self.obeying}
        head = {"version": STANDING_VERSION, "router": self.router, "table": table, "fence": fence}
        return to_json({**head, "workers": workers, "refused": self.refused})


class Books(Protocol):
    """Where the answers come from: this process, or the parent of several."""

    def missing(self) -> str:
        """Why the router should get no requests; empty when it should."""

    def acknowledgement(self) -> Acknowledgement:
        """Which table is obeyed."""

    async def feed(self) -> bytes:
        """The operator's feed."""

    async def metrics(self) -> bytes:
        """Prometheus' text."""


@dataclass(slots=True)
class OwnBooks:
    """The answers of a router that is a single process.

    Attributes:
        ledger: its books.
        standing: how it stands to its table.
        now: the loop's clock.
        refresh: called before a scrape to set gauges that are not counted as they change.
    """

    ledger: Ledger
    standing: Standing
    now: Callable[[], float]
    refresh: Callable[[], None] = field(default=lambda: None)

    def missing(self) -> str:
        """Why the router should get no requests."""
        return self.standing.missing

    def acknowledgement(self) -> Acknowledgement:
        """Which table is obeyed."""
        return Acknowledgement.of(self.ledger.epoch, (self.standing,))

    async def feed(self) -> bytes:
        """The operator's feed."""
        return await in_pieces(self.ledger.feed_text(self.now()))

    async def metrics(self) -> bytes:
        """Prometheus' text."""
        self.refresh()
        return await in_pieces(exposition(self.standing.meter))


async def in_pieces(pieces: Iterable[str]) -> bytes:
    """Join the pieces of an answer, and let the loop do other things now and then."""
    made = []
    for number, piece in enumerate(pieces, 1):
        made.append(piece)
        if not number % PIECES:
            await asyncio.sleep(0)
    return "".join(made).encode()


class Admin:
    """The handler of the admin port."""

    def __init__(self, books: Books) -> None:
        """Answer from these books."""
        self._books = books

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        method, path = exchange.request.method, exchange.request.path
        if path not in PATHS:
            known = b", ".join(PATHS)
            _answer(exchange, 404, b"text/plain; charset=utf-8", b"there is " + known + b"\n")
        elif method not in {b"GET", b"HEAD"}:
            headers = ((b"content-type", b"text/plain; charset=utf-8"), (b"allow", b"GET, HEAD"))
            exchange.respond(405, headers, b"only GET and HEAD\n")
        else:
            status, kind, body = await self._found(path)
            _answer(exchange, status, kind, body)

    async def _found(self, path: bytes) -> tuple[int, bytes, bytes]:
        books = self._books
        match path:
            case b"/metrics":
                return 200, CONTENT_TYPE, await books.metrics()
            case b"/internal/slices":
                return 200, b"application/json", await books.feed()
            case b"/internal/routes":
                return 200, b"application/json", books.acknowledgement().to_text().encode()
            case b"/readyz" if missing := books.missing():
                return 503, b"text/plain; charset=utf-8", f"not ready: {missing}\n".encode()
            case _:
                return 200, b"text/plain; charset=utf-8", b"ok\n"


PATHS = (b"/healthz", b"/readyz", b"/metrics", b"/internal/slices", b"/internal/routes")
"""What the admin port answers."""


def _answer(exchange: Exchange, status: int, kind: bytes, body: bytes) -> None:
    exchange.respond(status, ((b"content-type", kind), (b"cache-control", b"no-store")), body)
