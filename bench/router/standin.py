"""The upstream of every peer: a paced stand-in for a model server, cheap enough that the proxy is what is measured.

`python -m bench.router.standin OLD_PORT NEW_PORT`; answers name their side in `x-side`. A prompt that holds
`pace=P chunks=N` asks for a stream of N events, P in a second; with `pace=0` one event comes and then nothing. All
bytes are prebuilt, and the events of all streams are spread evenly over time by one ticker.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from functools import partial
from typing import cast

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": *true')
_PACE = re.compile(rb"pace=(\d+) chunks=(\d+)")

_TEXT = "The quick brown fox jumps over the lazy dog. " * 4
_COMMON = {"id": "chatcmpl-0123456789abcdef", "created": 1_763_730_000, "model": "bench"}
_USAGE = {"prompt_tokens": 120, "completion_tokens": 40, "total_tokens": 160}


def _json(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _chunk(text: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(text), text)


def _event(choices: list[dict[str, object]], **more: object) -> bytes:
    return b"data: %b\n\n" % _json({**_COMMON, "object": "chat.completion.chunk", "choices": choices, **more})


MESSAGE = {"role": "assistant", "content": _TEXT}
PLAIN = _json({
    **_COMMON, "object": "chat.completion", "usage": _USAGE,
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
})  # fmt: skip
EVENT = _chunk(_event([{"index": 0, "delta": {"content": " token"}, "finish_reason": None}]))
LAST = _chunk(_event([{"index": 0, "delta": {}, "finish_reason": "stop"}]))
USAGE = _chunk(_event([], usage=_USAGE))
DONE = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
MODELS = _json({"object": "list", "data": [{"id": "bench", "object": "model", "owned_by": "bench"}]})


def _head(side: bytes, kind: bytes, rest: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nx-side: %b\r\ncontent-type: %b\r\n%b\r\n\r\n" % (side, kind, rest)


def _whole(side: bytes, body: bytes) -> bytes:
    return _head(side, b"application/json", b"content-length: %d" % len(body)) + body


class Pacer:
    """Writes the events of all streams of one pace, each in its own slot of the interval."""

    def __init__(self, pace: int) -> None:
        """`pace` is events a second; the grain is a millisecond."""
        self._slots: list[dict[Connection, int]] = [{} for _ in range(max(1, 1000 // pace))]
        self._next = 0
        self._tick = self._now()
        asyncio.get_running_loop().call_later(0.001, self._write)

    def add(self, connection: Connection, chunks: int) -> None:
        """Begin a stream of so many more events."""
        self._next = (self._next + 7) % len(self._slots)  # 7: streams that begin together spread at once
        self._slots[self._next][connection] = chunks
        connection.slot = self._slots[self._next]

    def _now(self) -> int:
        return int(time.monotonic() * 1000)

    def _write(self) -> None:
        now = self._now()
        for tick in range(self._tick, now):
            slot = self._slots[tick % len(self._slots)]
            over = []
            for connection, chunks in slot.items():
                if chunks > 1:
                    connection.write(EVENT)
                    slot[connection] = chunks - 1
                else:
                    over.append(connection)
            for connection in over:
                del slot[connection]
                connection.finish()
        self._tick = now
        asyncio.get_running_loop().call_later(0.001, self._write)


class Connection(asyncio.Protocol):
    """One connection of a peer."""

    __slots__ = ("_buffer", "_pacers", "_plain", "_side", "_stream", "_usage", "slot", "write")

    def __init__(self, side: bytes, pacers: dict[int, Pacer]) -> None:
        """Answer as one side."""
        self._side = side
        self._plain = _whole(side, PLAIN)
        self._stream = _head(side, b"text/event-stream", b"transfer-encoding: chunked") + EVENT
        self._pacers = pacers
        self._buffer = b""
        self._usage = False
        self.slot: dict[Connection, int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        stream = cast("asyncio.Transport", transport)
        self.write = stream.write

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        del exc
        if self.slot is not None:
            self.slot.pop(self, None)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._buffer = data = self._buffer + data if self._buffer else data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(data, 0, end)
            total = end + 4 + (int(length[1]) if length else 0)
            if len(data) < total:
                break
            self._answer(data[:total], end)
            self._buffer = data = data[total:]

    def _answer(self, request: bytes, end: int) -> None:
        if request.startswith(b"GET"):
            self.write(_whole(self._side, MODELS))
        elif not _STREAM.search(request, end):
            self.write(self._plain)
        else:
            asked = _PACE.search(request, end)
            pace, chunks = (int(asked[1]), int(asked[2])) if asked else (50, 50)
            self._usage = b'"include_usage"' in request
            self.write(self._stream)
            if pace:
                if pace not in self._pacers:
                    self._pacers[pace] = Pacer(pace)
                self._pacers[pace].add(self, chunks - 1)

    def finish(self) -> None:
        """End the stream."""
        self.slot = None
        self.write(LAST + (USAGE if self._usage else b"") + DONE)


async def main(old: int, new: int) -> None:
    """Serve both sides for ever."""
    loop = asyncio.get_running_loop()
    pacers: dict[int, Pacer] = {}
    for side, port in ((b"old", old), (b"new", new)):
        await loop.create_server(partial(Connection, side, pacers), "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
