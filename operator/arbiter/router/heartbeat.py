"""Keeps the connection of a client alive that waits for a stream: a comment now and then, which its parser skips.

The first one sends the head of the answer, so that from then on a refusal can only be told inside the stream. Clients
of Ollama get none: its lines have no comments.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from arbiter.router.refusal import Protocol

if TYPE_CHECKING:
    from arbiter.router.call import Call
    from arbiter.router.wire.exchange import Exchange

PAUSE_S: Final = 10.0
"""Seconds between two comments: well below what proxies bear in silence."""

COMMENT: Final = b": waiting for a model that can answer\n\n"


class Heartbeat:
    """The comments to one client; none to one that did not ask for a stream."""

    __slots__ = ("_exchange", "_timer")

    def __init__(self, exchange: Exchange, call: Call) -> None:
        """Begin."""
        self._exchange = exchange
        self._timer: asyncio.TimerHandle | None = None
        if call.stream and call.protocol is not Protocol.OLLAMA:
            self._plan()

    def stop(self) -> None:
        """The wait is over."""
        if self._timer is not None:
            self._timer.cancel()

    def _plan(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PAUSE_S, self._beat)

    def _beat(self) -> None:
        if not self._exchange.started:
            fields = ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"))
            self._exchange.start(200, fields, None)
        self._exchange.write(COMMENT)
        self._plan()
