"""A whole router in this process, over real sockets, and a client that believes nothing, for the tests of serving."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arbiter.api.localmodel import EngineType
from arbiter.core.routes import Backend, Hold, Limits, RouteTable, Target, Task
from arbiter.core.traffic import Side, Tally
from arbiter.router import metric_families as families
from arbiter.router.accounting import Ledger
from arbiter.router.endpoints import Endpoints
from arbiter.router.feedback import Feedback
from arbiter.router.metrics import Meter
from arbiter.router.refusal import Refusal, protocol_of, refusal_body
from arbiter.router.serve import Router
from arbiter.router.wire import limits as wire_limits
from arbiter.router.wire.client import Pool
from arbiter.router.wire.server import Server
from tests.unit.router.wire.loopback import dialled, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from arbiter.router.endpoints import Endpoint
    from arbiter.router.keys import KeyFile
    from tests.unit.router.stand_in import StandIn

CHAT = b"/v1/chat/completions"

NONCE = "n"
"""What the ids of all answers begin their numbers with."""


@dataclass(frozen=True)
class Reply:
    """What a client got until the connection ended.

    Attributes:
        status: of the answer; 0 if none came.
        headers: names in lower case.
        body: without chunk framing.
        whole: the answer came to the end that its framing says.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool

    @property
    def turn(self) -> int:
        """Grows with each attempt of its router: the ids of answers are numbered as attempts begin."""
        return int(self.headers["x-arbiter-request-id"].split(":")[3].removeprefix(NONCE), 16)

    @property
    def fields(self) -> dict[str, object]:
        """The body as a JSON object."""
        read: dict[str, object] = json.loads(self.body)
        return read


class Running:
    """A router that serves, and its books.

    Attributes:
        port: of the clients.
        router: itself.
        meter: its counts.
        pools: of all endpoints that it ever knew.
    """

    def __init__(self, keys: KeyFile | None, draw: Callable[[], float], shares: int = 1) -> None:
        """Serve nothing yet."""
        loop = asyncio.get_running_loop()
        self.meter = Meter()
        self.pools: list[Pool] = []
        self.ledger = Ledger("pod/1", self.meter, loop.time(), 1_700_000_010_000.0)
        self.router = Router(
            ledger=self.ledger,
            meter=self.meter,
            endpoints=Endpoints(self._connect),
            feedback=Feedback(b"k" * 32, NONCE),
            keys=keys,
            draw=draw,
            loop=loop,
            unix_at_zero=1_700_000_010.0 - loop.time(),
            shares=shares,
        )
        self.server = Server(self.router.serve, refusal=refused)

    @property
    def port(self) -> int:
        """Of the clients."""
        return self.server.port

    def tally(self, side: Side = Side.OLD, task: str = "chat") -> Tally:
        """All that was booked to a side."""
        feed = self.ledger.feed(asyncio.get_running_loop().time())
        return Tally.merged(each.side(side) for each in feed.slices if each.task == task)

    def requests(self) -> dict[tuple[str, ...], int]:
        """Requests of clients by task, side and how they ended."""
        found = next((counts for family, counts in self.meter.items() if family is families.REQUESTS), {})
        return {labels: count for labels, count in found.items() if isinstance(count, int)}

    def _connect(self, url: str) -> Pool:
        pool = Pool(url)
        self.pools.append(pool)
        return pool


def refused(status: int, reason: str, request_line: bytes) -> tuple[Sequence[tuple[bytes, bytes]], bytes]:
    """Refuse in the caller's protocol, as the process does."""
    words = request_line.split(b" ", 2)
    protocol = protocol_of(words[1] if len(words) > 1 else b"")
    kind, body = refusal_body(protocol, Refusal(status, "invalid_request", reason))
    return ((b"content-type", kind),), body


@asynccontextmanager
async def running(
    table: RouteTable,
    *,
    keys: KeyFile | None = None,
    draw: Callable[[], float] = lambda: 0.5,
    shares: int = 1,
) -> AsyncIterator[Running]:
    """A router by this table. When it ends, nothing is left: no connection to an engine, no open entry."""
    made = Running(keys, draw, shares)
    made.router.obey(table)
    made.server.limits = wire_limits.Limits(body_bytes=table.limits.body_bytes)
    await made.server.start("127.0.0.1")
    try:
        yield made
        await until(lambda: made.server.exchanges == 0)
        endpoints = {id(each): each for each in known(made.router)}.values()
        assert [each.url for each in endpoints if each.occupancy.in_flight] == []
        for task in made.router.table.tasks if made.router.table else ():
            assert [made.tally(side, task).open for side in Side] == [0, 0]
            assert made.meter.value(families.HELD_NOW, (task,)) == 0
    finally:
        await made.server.drain(0)
        made.router.endpoints.close()
    await until(lambda: not any(pool.open for pool in made.pools))


def known(router: Router) -> list[Endpoint]:
    """The endpoints of the table in force."""
    tasks = router.table.tasks.values() if router.table is not None else ()
    return [each for task in tasks for backend in task.backends for each in router.endpoints.ready(backend)]


def backend_of(*engines: StandIn, service: str | None = None) -> Backend:
    """A model that is served by these."""
    name = engines[0].name if engines else "none"
    urls = tuple(each.url for each in engines) if service is None else ()
    return Backend(name, f"model-{name}", EngineType.LlamaCpp, service, urls)


def task_of(*targets: Target, fallback: Sequence[Backend] = (), hold: Hold | None = None, name: str = "chat") -> Task:
    """A task."""
    return Task(name, targets, tuple(fallback), hold or Hold(10, 0.05), "", (), None, {})


def table_of(*tasks: Task, limits: Limits | None = None, generation: int = 1) -> RouteTable:
    """A table."""
    return RouteTable(1, generation, 15_000, {each.name: each for each in tasks}, limits or Limits(), None)


def old(*engines: StandIn, weight: int = 100) -> Target:
    """The old side."""
    return Target(Side.OLD, backend_of(*engines), weight)


def new(*engines: StandIn, weight: int = 100) -> Target:
    """The new side."""
    return Target(Side.NEW, backend_of(*engines), weight)


def request(path: bytes = CHAT, headers: Sequence[bytes] = (), **fields: object) -> bytes:
    """A request as bytes, on a connection of its own."""
    said = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], **fields}
    body = json.dumps(said).encode()
    lines = b"".join(line + b"\r\n" for line in headers)
    return b"POST %b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n%bcontent-length: %d\r\n\r\n%b" % (
        path, lines, len(body), body,
    )  # fmt: skip


async def ask(port: int, data: bytes) -> Reply:
    """Send that, and read until the connection ends."""
    async with dialled(port) as (reader, writer):
        writer.write(data)
        got = bytearray()
        try:
            while part := await reader.read(65_536):
                got += part
        except ConnectionError:
            pass
    return reply_of(bytes(got))


def reply_of(got: bytes) -> Reply:
    """Read what a client got."""
    head, _, rest = got.partition(b"\r\n\r\n")
    if not head:
        return Reply(0, {}, b"", whole=False)
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    status = int(lines[0].split(" ")[1])
    if "content-length" in headers:
        return Reply(status, headers, rest, whole=len(rest) == int(headers["content-length"]))
    if status == 204:
        return Reply(status, headers, b"", whole=not rest)
    body, whole = bytearray(), False
    while b"\r\n" in rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        whole = whole or length == 0
        body += rest[:length]
        rest = rest[length + 2 :]
    return Reply(status, headers, bytes(body), whole)
