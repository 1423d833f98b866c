"""Continuous traffic against an endpoint in OpenAI's form, and moments marked in it.

A fixed number of clients each send one request after another. Half of them ask for streams, which run through every
mark; the others ask for plain answers, which begin and end around it. Nothing is ever tried again.

In an asyncio test use `Driver`; where a test drives a cluster by commands that block, use `Traffic`, which is the same
in a thread of its own:

    with Traffic("http://127.0.0.1:8080", Load(task="chat")) as traffic:
        traffic.mark("weight 10")
        set_weight(10)
        traffic.more(500)
    assert traffic.report.verdict("weight 10").clean, traffic.report
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlsplit

from tests.traffic.answers import EventStream, check_plain
from tests.traffic.attempts import Attempt, Failure, Fault, FaultError, Mark, Report
from tests.traffic.http1 import Connection, Head

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine
    from types import TracebackType

T = TypeVar("T")

REVISION_HEADER = "x-arbiter-revision"
"""Names what served a request."""

_BREATH_S = 0.05
"""Seconds that a client waits after a failure, so that a dead endpoint is not hammered."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients do.

    Attributes:
        task: sent as `model`.
        clients: how many there are; every second one asks for streams.
        stream_tokens: how long a streamed answer may get: long enough that streams run through every mark.
        plain_tokens: how long a plain one may get.
        deadline_s: a request that takes longer has failed.
        pause_s: rest of a client between two requests.
        prompt: what is asked.
        headers: sent with every request; names in lower case.
        keep_alive: whether a client uses its connection again.
    """

    task: str
    clients: int = 8
    stream_tokens: int = 128
    plain_tokens: int = 8
    deadline_s: float = 60.0
    pause_s: float = 0.0
    prompt: str = "Count from one to a hundred in words."
    headers: tuple[tuple[str, str], ...] = ()
    keep_alive: bool = True


class _Running:
    """A request on its way."""

    __slots__ = ("began", "client", "events", "first_event", "last_event", "number", "reused", "revision", "status")

    def __init__(self, number: int, client: int, began: float) -> None:
        self.number = number
        self.client = client
        self.began = began
        self.reused = False
        self.status = 0
        self.revision = ""
        self.events = 0
        self.first_event: float | None = None
        self.last_event: float | None = None

    def ended(self, stream: bool, at: float, failure: Failure | None) -> Attempt:
        return Attempt(
            self.number, self.client, stream, self.reused, self.began, at,
            self.status, self.revision, self.events, self.first_event, self.last_event, failure,
        )  # fmt: skip


class Driver:
    """The clients, in the event loop that starts them."""

    def __init__(self, url: str, load: Load, tls: ssl.SSLContext | None = None) -> None:
        """Nothing runs yet. `url` is the base address, without `/v1`; `tls` is needed for https."""
        parts = urlsplit(url)
        self._host, self._tls = parts.hostname or "", tls
        self._port = parts.port or (443 if tls else 80)
        self._load = load
        self._requests = {stream: _request(parts.netloc, parts.path, load, stream=stream) for stream in (True, False)}
        self._numbers = itertools.count(1)
        self._running: dict[int, _Running] = {}
        self._streaming: set[int] = set()
        self._attempts: list[Attempt] = []
        self._marks: list[Mark] = []
        self._stopping = False
        self._changed = asyncio.Event()
        self._clients: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all clients."""
        self._clients = [asyncio.create_task(self._client(number)) for number in range(self._load.clients)]

    async def mark(self, name: str) -> Mark:
        """Name this moment, as soon as a stream is in the first half of its length.

        Raises:
            TimeoutError: when there is none within the deadline of a request; then nothing could be proved.
            ValueError: for a name that was used before.
        """
        if any(mark.name == name for mark in self._marks):
            raise ValueError(f"there is a mark {name} already")
        async with asyncio.timeout(self._load.deadline_s):
            await self._until(self._streams_run)
        self._marks.append(mark := Mark(name, asyncio.get_running_loop().time()))
        return mark

    async def more(self, requests: int, seconds: float = 600.0) -> None:
        """Wait until so many more requests have ended.

        Raises:
            TimeoutError: when that takes longer than `seconds`.
        """
        wanted = len(self._attempts) + requests
        async with asyncio.timeout(seconds):
            await self._until(lambda: len(self._attempts) >= wanted)

    async def settle(self) -> None:
        """Wait until every request that is running now has ended; each has its deadline, so this has one."""
        now_running = set(self._running)
        await self._until(lambda: now_running.isdisjoint(self._running))

    async def stop(self) -> Report:
        """Begin no more requests, let the running ones end, and give all that was seen."""
        self._stopping = True
        await asyncio.gather(*self._clients)
        return self.seen()

    def seen(self) -> Report:
        """What has ended until now."""
        return Report(tuple(self._attempts), tuple(self._marks))

    async def _until(self, fact: Callable[[], bool]) -> None:
        while not fact():
            self._changed.clear()
            await self._changed.wait()

    def _streams_run(self) -> bool:
        half = self._load.stream_tokens // 2
        return any(0 < self._running[number].events <= half for number in self._streaming)

    async def _client(self, client: int) -> None:
        connection: Connection | None = None
        loop = asyncio.get_running_loop()
        stream = client % 2 == 0
        while not self._stopping:
            running = _Running(next(self._numbers), client, loop.time())
            self._running[running.number] = running
            if stream:
                self._streaming.add(running.number)
            failure = None
            try:
                async with asyncio.timeout(self._load.deadline_s):
                    connection = await self._connection(connection)
                    running.reused = connection.served > 0
                    await self._exchange(connection, running, stream=stream)
            except FaultError as fault:
                failure = Failure(fault.fault, str(fault))
            except TimeoutError:
                failure = Failure(Fault.LATE, f"no end within {self._load.deadline_s:g} s")
            self._attempts.append(running.ended(stream, loop.time(), failure))
            self._streaming.discard(running.number)
            del self._running[running.number]
            self._changed.set()
            if connection is not None and (failure or not self._load.keep_alive):
                connection.close()
                connection = None
            await asyncio.sleep(_BREATH_S if failure else self._load.pause_s)
        if connection is not None:
            connection.close()

    async def _connection(self, last: Connection | None) -> Connection:
        if last is not None and last.reusable:
            return last
        if last is not None:
            last.close()
        return await Connection.open(self._host, self._port, self._tls)

    async def _exchange(self, connection: Connection, running: _Running, *, stream: bool) -> None:
        head = await connection.send(*self._requests[stream])
        running.status, running.revision = head.status, head.get(REVISION_HEADER)
        if head.status != 200:
            body = b"".join([piece async for piece in connection.body(head)])
            raise FaultError(Fault.STATUS, f"{head.status}: {body[:200]!r}")
        if stream:
            await self._read_stream(connection, head, running)
        else:
            check_plain(b"".join([piece async for piece in connection.body(head)]))

    async def _read_stream(self, connection: Connection, head: Head, running: _Running) -> None:
        if not (kind := head.get("content-type")).startswith("text/event-stream"):
            raise FaultError(Fault.MALFORMED, f"a stream of content-type {kind or 'nothing'}")
        loop, events = asyncio.get_running_loop(), EventStream()
        async for piece in connection.body(head):
            if events.feed(piece):
                running.events, running.last_event = events.events, loop.time()
                self._changed.set()
                if running.first_event is None:
                    running.first_event = running.last_event
        events.end()


class Traffic:
    """A driver in a thread of its own, for tests that block."""

    def __init__(self, url: str, load: Load, tls: ssl.SSLContext | None = None) -> None:
        """Nothing runs yet."""
        self._driver = Driver(url, load, tls)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="traffic", daemon=True)
        self.report = self._driver.seen()

    def __enter__(self) -> Self:
        """Start the clients."""
        self._thread.start()
        self._do(self._driver.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the running requests end; `report` then holds all that was seen."""
        self.report = self._do(self._driver.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def mark(self, name: str) -> Mark:
        """See `Driver.mark`."""
        return self._do(self._driver.mark(name))

    def more(self, requests: int, seconds: float = 600.0) -> None:
        """See `Driver.more`."""
        self._do(self._driver.more(requests, seconds))

    def settle(self) -> None:
        """See `Driver.settle`."""
        self._do(self._driver.settle())

    def rest(self) -> None:
        """Begin no more requests, and let the running ones end."""
        self._do(self._driver.stop())

    def seen(self) -> Report:
        """What has ended until now."""
        return self._driver.seen()

    def _do(self, act: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(act, self._loop).result()


def _request(authority: str, base: str, load: Load, *, stream: bool) -> tuple[bytes, bytes]:
    """The head and the body of the request that the clients repeat."""
    fields = {
        "model": load.task,
        "messages": [{"role": "user", "content": load.prompt}],
        "max_tokens": load.stream_tokens if stream else load.plain_tokens,
        "stream": stream,
    }
    body = json.dumps(fields).encode()
    headers = (
        ("host", authority),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("connection", "keep-alive" if load.keep_alive else "close"),
        *load.headers,
    )
    lines = (f"{name}: {value}\r\n" for name, value in headers)
    return f"POST {base.rstrip('/')}/v1/chat/completions HTTP/1.1\r\n{''.join(lines)}\r\n".encode(), body
