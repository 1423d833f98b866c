"""Tells how far a download is, to whoever asks over HTTP.

Rule: nothing can be changed here, and an answer costs nothing; who asks is the operator, once in a while.
"""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from aiohttp import web

from arbiter.fetch.failures import FailureCode, SourceError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_WINDOW_S = 30.0
"""Seconds over which the rate is taken: long enough to be steady, short enough to show that a download hangs."""

_STEP_S = 1.0
"""Seconds between two marks that the rate is taken from."""


class State(StrEnum):
    """What a download is doing."""

    RESOLVING = "resolving"
    WAITING = "waiting"
    """Another one downloads the same."""

    CHECKING = "checking"
    """It computes the sum of what is there already."""

    DOWNLOADING = "downloading"
    PAUSED = "paused"
    """An attempt failed, and the next one has its time."""

    GIVING = "giving"
    """All is here, and is being given to the server that it is for."""

    DONE = "done"
    FAILED = "failed"


class Progress:
    """How far a download is.

    Attributes:
        state: what it is doing.
        bytes: how many bytes are there, of all files.
        total: how many there will be; None while that is not known.
    """

    def __init__(self, clock: Callable[[], float], total: int | None = None) -> None:
        """Start with nothing; the clock gives seconds from any origin."""
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque()
        self.state = State.RESOLVING
        self.bytes = 0
        self.total = total

    def add(self, count: int) -> None:
        """Count bytes that came over the network."""
        self.bytes += count
        now = self._clock()
        if not self._marks or now - self._marks[-1][0] >= _STEP_S:
            self._marks.append((now, self.bytes))

    def jump(self, count: int) -> None:
        """Count bytes that were there already, or no longer are, which is no rate."""
        self.bytes += count
        self._marks.clear()
        self._marks.append((self._clock(), self.bytes))

    @property
    def rate(self) -> float:
        """Bytes in a second, of late."""
        now = self._clock()
        while len(self._marks) > 1 and now - self._marks[0][0] > _WINDOW_S:
            self._marks.popleft()
        if not self._marks or now <= self._marks[0][0]:
            return 0.0
        start, first = self._marks[0]
        return max(0.0, (self.bytes - first) / (now - start))

    def as_json(self) -> dict[str, Any]:
        """Give what is told."""
        rate = self.rate if self.state is State.DOWNLOADING else 0.0
        left = None if self.total is None else max(0, self.total - self.bytes)
        eta = 0 if left == 0 else round(left / rate) if left and rate >= 1 else None
        return {
            "bytes": self.bytes,
            "total": self.total,
            "rate": round(rate),
            "etaSeconds": eta,
            "state": self.state.value,
        }


@asynccontextmanager
async def told(progress: Progress, host: str, port: int | None) -> AsyncIterator[int]:
    """Answer at `/progress` and `/healthz` for as long as this lasts, and give the port; with None nobody answers."""
    if port is None:
        yield 0
        return

    async def report(_: web.Request) -> web.Response:
        return web.json_response(progress.as_json())

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    application = web.Application()
    application.add_routes([web.get("/progress", report), web.get("/healthz", alive)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise SourceError(
                FailureCode.PortTaken, f"port {port} for progress cannot be had: {error.strerror}"
            ) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
