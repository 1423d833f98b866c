"""The load: requests at a stated rate, many streams at once, and a weight that changes under requests.

Runs as a process of its own on its own core, `python -m bench.router.load KIND JSON`, and prints its figures as JSON.
Nothing is tried again. A parser of its own takes answers apart, so that an answer cut short is counted as an error.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import statistics
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httptools
import uvloop

from bench.router.processes import memory, processor_s

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPT = "Summarise the following text in one sentence. " + "Lorem ipsum dolor sit amet, consectetur. " * 8

SIDE_HEADERS = (b"x-side", b"x-arbiter-revision")
"""The stand-in names its side in the first; the second is for a proxy that does not pass it on."""

_RAMP = 50
"""Connections opened at once; more would overflow a peer's queue of connections and measure that."""

SETTLE_S = 1.0
"""Seconds from the last stream's start to the beginning of the measurement."""


def request(port: int, *, stream: bool = False, more: str = "", path: str = "/v1/chat/completions") -> bytes:
    """A whole request with a prompt of about half a kilobyte."""
    fields = {
        "model": "chat",
        "messages": [{"role": "user", "content": PROMPT + more}],
        "max_tokens": 64,
        "stream": stream,
    }
    body = json.dumps(fields).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer bench\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client(asyncio.Protocol):
    """One connection that takes one answer after another."""

    __slots__ = ("_parser", "answered", "broke", "kept", "lines", "open", "sent", "side", "status", "tail", "transport")

    def __init__(self, answered: Callable[[Client], None], broke: Callable[[Client], None]) -> None:
        """`answered` is called with each whole answer, `broke` when the connection ends."""
        self.answered = answered
        self.broke = broke
        self.open = False
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        stream = cast("asyncio.Transport", transport)
        self.transport = stream

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        del exc
        self.broke(self)

    def send(self, data: bytes, at: float) -> None:
        """Send a request; the last answer was taken whole."""
        self._parser = httptools.HttpResponseParser(self)
        self.open, self.sent, self.lines, self.side, self.tail = True, at, 0, b"", b""
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        if name.lower() in SIDE_HEADERS:
            self.side = value

    def on_body(self, data: bytes) -> None:
        """See httptools."""
        self.lines += data.count(b"\n")
        self.tail = (self.tail + data)[-24:]

    def on_message_complete(self) -> None:
        """See httptools."""
        self.open = False
        self.status = self._parser.get_status_code()
        self.kept = self._parser.should_keep_alive()
        self.answered(self)


async def connect(port: int, number: int, make: Callable[[], Client]) -> list[Client]:
    """Open so many connections, a few at once."""
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    while len(clients) < number:
        batch = min(_RAMP, number - len(clients))
        opened = await asyncio.gather(*(loop.create_connection(make, "127.0.0.1", port) for _ in range(batch)))
        clients += [client for _, client in opened]
    return clients


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50 and p99; no number where there is nothing to take them of."""
    if len(seconds) < 2:
        return {"p50": math.nan, "p99": math.nan}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98]}


class Paced:
    """Plain requests at a fixed rate, whatever the answers take.

    The latency of a request counts from when it was sent, or from when it should have been if all connections were
    busy then, so that a slow peer cannot slow down the clock.
    """

    def __init__(self, port: int) -> None:
        """No connections yet."""
        self._port = port
        self._data = request(port)
        self._clients: list[Client] = []
        self._free: deque[Client] = deque()
        self._late: deque[float] = deque()
        self._over = False
        self.taken: list[float] = []
        self.errors: Counter[str] = Counter()

    async def open(self, connections: int) -> None:
        """Open so many connections and send a request over each, which is not counted."""
        self._clients = await connect(self._port, connections, lambda: Client(self._answered, self._broke))
        for client in self._clients:
            client.send(self._data, time.perf_counter())
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.2)
        self.taken.clear()

    async def send(self, rate: float, seconds: float) -> int:
        """Send for so long, and give how many were due."""
        began, sent = time.perf_counter(), 0
        while (now := time.perf_counter()) < began + seconds:
            due = int((now - began) * rate)
            for number in range(sent, due):
                if self._free:
                    self._free.popleft().send(self._data, time.perf_counter())
                else:
                    self._late.append(began + number / rate)
            sent = due
            await asyncio.sleep(0.001)
        return sent

    def stop(self) -> None:
        """Close all; what is still on its way counts as unanswered."""
        self._over = True
        for client in self._clients:
            client.transport.abort()

    def _answered(self, client: Client) -> None:
        self.taken.append(time.perf_counter() - client.sent)
        if client.status != 200:
            self.errors[f"status {client.status}"] += 1
        if self._late:
            client.send(self._data, self._late.popleft())
        else:
            self._free.append(client)

    def _broke(self, client: Client) -> None:
        if not self._over:
            self.errors["cut" if client.open else "connection ended"] += 1


async def paced(port: int, connections: int, rate: float, seconds: float) -> dict[str, Any]:
    """Latency at a fixed rate over so many connections in turn."""
    load = Paced(port)
    await load.open(connections)
    asked = await load.send(rate, seconds)
    load.stop()
    return {**percentiles(load.taken), "requests": len(load.taken), "asked": asked, "errors": dict(load.errors)}


class Streams:
    """Many streams at once, each followed by another.

    An error is a connection that ends before its answer does, a status other than 200, or a stream with fewer events
    than were asked for or without `[DONE]`.
    """

    def __init__(self, port: int, pace: int, chunks: int) -> None:
        """None yet; with `pace` 0 each idles after its first event."""
        self._port = port
        self._chunks = chunks
        self._data = request(port, stream=True, more=f" pace={pace} chunks={chunks}")
        self._clients: list[Client] = []
        self._lost: list[Client] = []
        self._events_of_ended = 0
        self._over = False
        self.errors: Counter[str] = Counter()

    async def begin(self, number: int) -> None:
        """Begin so many more, a few at once."""
        while number > 0:
            batch = min(_RAMP, number)
            number -= batch
            try:
                some = await connect(self._port, batch, lambda: Client(self._answered, self._broke))
            except OSError:
                self.errors["no connection"] += batch
                some = []
            for client in some:
                client.send(self._data, 0.0)
            self._clients += some
            await asyncio.sleep(0.01)

    async def hold(self, seconds: float) -> None:
        """Let them run, with a new connection for each that ended."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            await asyncio.sleep(0.1)
            lost, self._lost = self._lost, []
            for client in lost:
                self._clients.remove(client)
            await self.begin(len(lost))

    def events(self) -> int:
        """How many have come so far."""
        return self._events_of_ended + sum(client.lines // 2 for client in self._clients if client.open)

    def stop(self) -> int:
        """Close all, count nothing more, and give how many streams were running."""
        self._over = True
        for client in self._clients:
            client.transport.abort()
        return sum(client.open and client.lines > 0 for client in self._clients)

    def _answered(self, client: Client) -> None:
        self._events_of_ended += client.lines // 2
        if client.status != 200:
            self.errors[f"status {client.status}"] += 1
        elif not client.tail.rstrip().endswith(b"[DONE]"):
            self.errors["no [DONE]"] += 1
        elif client.lines // 2 < self._chunks:
            self.errors["events missing"] += 1
        if client.kept and not self._over:
            client.send(self._data, 0.0)

    def _broke(self, client: Client) -> None:
        if self._over:
            return
        if client.open:
            self.errors["cut"] += 1
            self._events_of_ended += client.lines // 2
            client.open = False
        elif client.kept:
            self.errors["connection ended"] += 1
        self._lost.append(client)


async def streams(port: int, number: int, shape: tuple[int, int], seconds: float, pids: list[int]) -> dict[str, Any]:
    """So many streams at once, of a pace and a number of events, and what they take of a peer meanwhile."""
    many, peer = Streams(port, *shape), set(pids)
    await many.begin(number)
    await asyncio.sleep(SETTLE_S)
    began, used, had = time.perf_counter(), processor_s(peer), many.events()
    await many.hold(seconds)
    took, used, had = time.perf_counter() - began, processor_s(peer) - used, many.events() - had
    held = memory(peer)
    return {
        "open": many.stop(), "events_per_s": had / took, "core": used / took, "memory": held,
        "errors": dict(many.errors),
    }  # fmt: skip


async def weights(port: int, file: str, flips: list[tuple[str, str]], hup: int) -> dict[str, Any]:
    """Replace a peer's table in its file; see `switched`."""

    def replaced(table: str) -> float:
        beside = Path(f"{file}.next")
        beside.write_text(table)
        beside.replace(file)
        at = time.perf_counter()
        if hup:
            os.kill(hup, signal.SIGHUP)
        return at

    return await switched(port, flips, replaced)


async def switched(port: int, flips: list[tuple[str, str]], change: Callable[[str], float]) -> dict[str, Any]:
    """Give a peer new tables under requests of four connections; each table sends all to the side named with it.

    `change` hands over a table and gives the moment at which it had arrived. The result has, for each table after the
    first, the seconds from then to when the first request that obeyed it was sent, to when it was answered, and to
    when the last that did not obey was sent; and what went wrong. Requests count that were sent from then on.
    """
    errors: Counter[str] = Counter()
    answers: list[tuple[float, float, bytes]] = []
    data = request(port)
    over = False

    def answered(client: Client) -> None:
        if client.status != 200:
            errors[f"status {client.status}"] += 1
        now = time.perf_counter()
        answers.append((client.sent, now, client.side))
        if not over:
            client.send(data, now)

    def broke(client: Client) -> None:
        if not over:
            errors["cut" if client.open else "connection ended"] += 1
            again = asyncio.get_running_loop().create_task(connect(port, 1, lambda: Client(answered, broke)))
            again.add_done_callback(lambda task: task.result()[0].send(data, time.perf_counter()))

    clients = await connect(port, 4, lambda: Client(answered, broke))
    for client in clients:
        client.send(data, time.perf_counter())
    first, done, last = [], [], []
    for flip, (side, table) in enumerate(flips):
        answers.clear()
        at = change(table)
        await asyncio.sleep(0.5 + 0.013 * (flip % 7))
        obeyed = [(sent - at, answer - at) for sent, answer, by in answers if by.decode() == side and sent >= at]
        strayed = [sent - at for sent, _, by in answers if by.decode() != side and sent >= at]
        if flip:
            errors["not obeyed before the next one"] += not obeyed
            sent_s, answered_s = min(obeyed, default=(math.inf, math.inf))
            first.append(sent_s)
            done.append(answered_s)
            last.append(max(strayed, default=0.0))
    over = True
    for client in clients:
        client.transport.abort()
    return {"first": first, "answered": done, "last": last, "errors": dict(+errors)}


def main() -> None:
    """Do one kind of load."""
    kinds: dict[str, Callable[..., Any]] = {"paced": paced, "streams": streams, "weights": weights}
    print(json.dumps(uvloop.run(kinds[sys.argv[1]](**json.loads(sys.argv[2])))), flush=True)
    os._exit(0)  # thousands of open connections need no goodbye


if __name__ == "__main__":
    main()
