"""Several worker processes behind one port: the parent starts and watches them, and each tells it what it counted.

The workers bind the clients' port together (SO_REUSEPORT) and share nothing. The parent serves the admin port, starts
a worker again that died, and hands each table to all. They talk over a socket pair: each message is the length of its
text in four bytes, then the text, a JSON object.

- parent to worker: `tell` (report now), `note` (a topic and its newest text, such as the table), `drain`.
- worker to parent: `slices` and `metrics` (what changed), then `told` (up to when, and which table is obeyed).

A worker reports every second and when asked. One that is silent for long hangs, and is killed; one whose parent is
gone ends as if told to drain, so nothing is left behind.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from arbiter.core.stored import Stored, to_json
from arbiter.errors import CorruptStateError
from arbiter.router.admin import PIECES, in_pieces
from arbiter.router.metrics import exposition

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from arbiter.router.accounting import Ledger
    from arbiter.router.admin import Acknowledgement, Standing
    from arbiter.router.metrics import Change
    from arbiter.router.worker_books import Merged

log = logging.getLogger(__name__)

REPORT_S = 1.0
"""Seconds between two reports that nobody asked for: the most that is lost with a worker that dies."""

ASK_S = 1.0
"""Seconds that a scrape waits for fresh reports; then it takes what was told last."""

SILENT_S = 30.0
"""Seconds without a report after which a worker is killed: its loop hangs, so its clients hang too."""

RESTART_S = (0.1, 0.5, 2.0, 5.0)
"""Seconds until a worker that died is started again, the first time, the second …; the last one repeats."""

STEADY_S = 30.0
"""A worker that lived this long counts as its first death again."""

MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest message; a longer one means that the two do not understand each other."""


class Channel:
    """One end of the socket pair: whole messages instead of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take both directions of an open connection."""
        self._reader = reader
        self._writer = writer

    @staticmethod
    async def open(end: socket.socket) -> Channel:
        """Use this end of a socket pair in the running loop."""
        reader, writer = await asyncio.open_unix_connection(sock=end)
        return Channel(reader, writer)

    def send(self, text: str) -> None:
        """Queue one message; a message to an end that is closed is dropped, and its reader notices."""
        data = text.encode()
        if not self._writer.is_closing():
            self._writer.write(len(data).to_bytes(4, "big") + data)

    async def drained(self) -> None:
        """Wait until the other end has taken most of what was sent."""
        await self._writer.drain()

    async def receive(self) -> Stored | None:
        """The next message; None when the other end is closed.

        Raises:
            CorruptStateError: it is no message of ours.
        """
        try:
            length = int.from_bytes(await self._reader.readexactly(4), "big")
            if length > MESSAGE_BYTES:
                raise CorruptStateError(f"a message between worker and parent has {length} bytes")
            data = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        try:
            return Stored(json.loads(data), "message")
        except ValueError as error:
            raise CorruptStateError(f"a message between worker and parent is not JSON: {error}") from error

    def close(self) -> None:
        """Close this end."""
        self._writer.close()


class Reporter:
    """A worker's end: it reports, and passes on what the parent says."""

    def __init__(
        self,
        channel: Channel,
        ledger: Ledger,
        standing: Standing,
        note: Callable[[str, str], None],
        drain: Callable[[float | None], None],
    ) -> None:
        """Report these books.

        Args:
            channel: to the parent.
            ledger: the books of this process.
            standing: how this process stands to its table; its meter is reported too.
            note: called with topic and text when the parent hands something out.
            drain: called when the process shall end, with the seconds it may take, or None when the parent is gone.
        """
        self._channel = channel
        self._ledger = ledger
        self._standing = standing
        self._note = note
        self._drain = drain
        self._asked = 0
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Report until the parent is gone."""
        reporting = asyncio.create_task(self._report_often())
        try:
            while (message := await self._channel.receive()) is not None:
                await self._obey(message)
        finally:
            reporting.cancel()
            self._drain(None)

    async def report(self, ask: int = 0) -> None:
        """Tell what changed, in pieces, with the loop's turn between them."""
        async with self._lock:
            self._asked = max(self._asked, ask)
            reading = self._ledger.read(asyncio.get_running_loop().time())
            for number, page in enumerate(reading.pages):
                if page.told is not (each := page.freeze()):
                    self._channel.send(f'{{"kind":"slices","slices":[{page.text_of(each)}]}}')
                    page.told = each
                if not number % PIECES:
                    await asyncio.sleep(0)
            changes: list[Change] = []
            for change in self._standing.meter.changes():
                changes.append(change)
                if len(changes) == PIECES:
                    self._tell_changes(changes)
                    changes = []
                    await asyncio.sleep(0)
            self._tell_changes(changes)
            told = {"kind": "told", "readMs": reading.read_ms, "ask": self._asked}
            self._channel.send(to_json({**told, "standing": self._standing.to_fields()}))
            await self._channel.drained()

    def _tell_changes(self, changes: list[Change]) -> None:
        if changes:
            self._channel.send(to_json({"kind": "metrics", "changes": changes}))

    async def close(self) -> None:
        """Tell the last, once all requests are over, and close: the parent then knows that nothing is missing."""
        await self.report()
        self._channel.close()

    async def _report_often(self) -> None:
        while True:
            try:
                await self.report()
            except ConnectionError:
                return  # the reader of the channel notices too, and ends the process in order
            await asyncio.sleep(REPORT_S)

    async def _obey(self, message: Stored) -> None:
        match message.text("kind"):
            case "tell":
                await self.report(message.integer("ask"))
            case "note":
                self._note(message.text("topic"), message.text("text"))
            case "drain":
                self._drain(message.numbers("seconds", 1)[0])
            case other:
                raise CorruptStateError(f"the parent said something unknown: {other[:40]!r}")
        message.done()


class Process(Protocol):
    """What is needed of a running worker."""

    @property
    def pid(self) -> int:
        """Its process id."""

    async def wait(self) -> int:
        """Wait for its end and give its exit code."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it."""


@dataclass(slots=True)
class Running:
    """A worker that runs."""

    channel: Channel
    process: Process
    asked_to_end: bool = False


class Parent:
    """Starts the workers, watches them, and answers for all of them: the `Books` of the admin port.

    Attributes:
        merged: what they told.
    """

    def __init__(self, command: Sequence[str], count: int, merged: Merged, unix_ms: Callable[[], int]) -> None:
        """Nothing is started yet.

        Args:
            command: starts one worker; `--worker-fd N` is added, the number of its end of the socket pair.
            count: how many.
            merged: where their books are added up.
            unix_ms: the wall clock.
        """
        self.merged = merged
        self._command = tuple(command)
        self._count = count
        self._unix_ms = unix_ms
        self._running: dict[int, Running] = {}
        self._notes: dict[str, str] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._ask = 0
        self._told = asyncio.Event()

    def start(self) -> None:
        """Start all workers, and again whichever dies."""
        self._keepers = [asyncio.create_task(self._keep(worker)) for worker in range(self._count)]

    def publish(self, topic: str, text: str, *, keep: bool = True) -> None:
        """Hand something to all workers, and with `keep` the newest text of each topic to those that start later."""
        if keep:
            self._notes[topic] = text
        for running in self._running.values():
            running.channel.send(_note(topic, text))

    def pids(self) -> list[int]:
        """The process ids of the workers that run, by worker."""
        return [self._running[worker].process.pid for worker in sorted(self._running)]

    async def stop(self, seconds: float) -> None:
        """Let all workers finish what they have, for at most so many seconds, then end them."""
        self._stopping.set()
        for running in self._running.values():
            running.asked_to_end = True
            running.channel.send(to_json({"kind": "drain", "seconds": [seconds]}))
        await self._ended(seconds + 1.0)
        for running in tuple(self._running.values()):
            running.process.kill()
        await self._ended(None)

    async def _ended(self, seconds: float | None) -> None:
        if self._keepers:
            await asyncio.wait(self._keepers, timeout=seconds)

    def missing(self) -> str:
        """Why the router should get no requests."""
        return "it is draining" if self._stopping.is_set() else self.merged.missing()

    def acknowledgement(self) -> Acknowledgement:
        """Which table all workers obey."""
        return self.merged.acknowledgement()

    async def feed(self) -> bytes:
        """The operator's feed, fresh from all workers."""
        await self.ask()
        return self.merged.feed(self._unix_ms()).to_text().encode()

    async def metrics(self) -> bytes:
        """Prometheus' text, fresh from all workers."""
        await self.ask()
        return await in_pieces(exposition(self.merged.metrics()))

    async def ask(self) -> None:
        """Have all workers report now; one that takes longer than `ASK_S` is left at what it told last."""
        self._ask += 1
        ask = self._ask
        for running in self._running.values():
            running.channel.send(to_json({"kind": "tell", "ask": ask}))
        loop = asyncio.get_running_loop()
        until = loop.time() + ASK_S
        while not self.merged.answered(ask) and (left := until - loop.time()) > 0.0:
            self._told.clear()
            try:
                await asyncio.wait_for(self._told.wait(), left)
            except TimeoutError:
                return

    async def _keep(self, worker: int) -> None:
        deaths = 0
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began = loop.time()
            await self._live(worker)
            deaths = 1 if loop.time() - began >= STEADY_S else deaths + 1
            pause_s = RESTART_S[min(deaths, len(RESTART_S)) - 1]
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    async def _live(self, worker: int) -> None:
        """One life of a worker, from its start to the books' closing."""
        self.merged.join(worker, self._unix_ms())
        ours, theirs = socket.socketpair()
        with theirs:
            fd = theirs.fileno()
            process = await asyncio.create_subprocess_exec(
                *self._command, "--worker-fd", str(fd), pass_fds=(fd,), stdin=asyncio.subprocess.DEVNULL
            )
        running = self._running[worker] = Running(await Channel.open(ours), process)
        for topic, text in self._notes.items():
            running.channel.send(_note(topic, text))
        if self._stopping.is_set():
            process.terminate()
        try:
            await self._listen(worker, running)
        finally:
            running.channel.close()
            code = await _ended_or_killed(process)
            del self._running[worker]
            in_order = running.asked_to_end and code == 0
            lost = self.merged.leave(worker, self._unix_ms(), told_all=in_order)
            self._told.set()
            if not in_order:
                log.error("worker %d (pid %d) ended with %d; %d requests were open", worker, process.pid, code, lost)

    async def _listen(self, worker: int, running: Running) -> None:
        """Take what a worker tells until it closes its end, falls silent or cannot be understood."""
        while True:
            try:
                message = await asyncio.wait_for(running.channel.receive(), SILENT_S)
                if message is None:
                    return
                self.merged.take(worker, message)
            except TimeoutError:
                log.error("worker %d (pid %d) was silent for %g s", worker, running.process.pid, SILENT_S)  # noqa: TRY400  the trace says nothing
                running.process.kill()
                return
            except CorruptStateError as error:
                log.error("worker %d (pid %d): %s", worker, running.process.pid, error)  # noqa: TRY400  the message says it
                running.process.kill()
                return
            self._told.set()


async def _ended_or_killed(process: Process) -> int:
    """The exit code of a worker that closed its end: it should be gone within a moment."""
    try:
        return await asyncio.wait_for(process.wait(), ASK_S)
    except TimeoutError:
        process.kill()
        return await process.wait()


def _note(topic: str, text: str) -> str:
    return to_json({"kind": "note", "topic": topic, "text": text})


def bind(host: str, port: int, *, shared: bool) -> socket.socket:
    """The clients' port; `shared` lets several workers bind it, among which the kernel then divides connections."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
        bound.setblocking(False)  # noqa: FBT003  the socket's own way to say it
    except OSError:
        bound.close()
        raise
    return bound
