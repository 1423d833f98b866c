"""An engine that does by script what real ones do rarely: stall, reset, cut off, answer wrongly.

It says the name of its endpoint in each answer, keeps the requests that it read, and knows which of its answers nobody
waited for. As llama-server does, it closes a kept connection after a stream.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, cast

from arbiter.router.relay import KEPT_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

TOKENS = 3
"""Pieces of text in a stream."""


class Does(StrEnum):
    """What the engine does with one request."""

    ANSWER = "answers as it was asked, in one piece or as a stream"
    RESET = "resets before the head"
    RESET_AFTER_HEAD = "sends the head of a stream and resets"
    RESET_MID_STREAM = "sends a piece of a stream and resets"
    HALF_CLOSE = "sends a piece of a stream and ends the connection in order"
    STALL = "sends a piece of a stream and then nothing more"
    SILENT = "reads the request and says nothing"
    SLOW_HEADER = "sends half of a head and then nothing more"
    WRONG_CHUNK = "sends a piece of a stream and then a chunk whose size is no number"
    NO_DONE = "ends a stream well, as HTTP has it, but without the word that ends it"
    ERROR_EVENT = "sends an error as the first event of a stream"
    LATE_ERROR_EVENT = "sends an error after a piece of a stream"
    CUT_BODY = "sends less of an answer than its length says"
    TRUNCATED = "sends half of a JSON document, as HTTP a whole one"
    UNAVAILABLE = "answers 503"
    FAIL = "answers 500 and says why"
    REJECT = "answers 400 and says why"
    UNABLE = "answers 501: it was not started for this"
    BLIND = "answers 500 to say that its model takes no pictures"
    FLOOD = "streams without an end, as fast as it can"
    HALF_NOW = "sends a piece of a stream, and the rest when it is let go"
    LARGE = "answers in one piece that is larger than what the router keeps"
    LARGE_CUT = "sends much of a large answer and ends the connection"
    LARGE_TRUNCATED = "sends much of a large JSON document, as HTTP a whole one"
    LARGE_REJECT = "answers 400 and says why at great length"
    LARGE_FAIL = "answers 500 and says why at great length"
    ERROR_WITH_200 = "answers 200, and the answer is an error"


class StandIn:
    """One endpoint.

    Attributes:
        name: told in each answer.
        script: what is done with the next requests; with those after, `usual`.
        usual: what is done when the script is over.
        asked: the bodies that came.
        left: requests whose connection the router ended before the answer was whole.
        go: lets `HALF_NOW` go on.
        written: bytes of a flood so far.
    """

    def __init__(self, name: str) -> None:
        """Listen to nothing yet."""
        self.name = name
        self.port = 0
        self.script: list[Does] = []
        self.usual = Does.ANSWER
        self.asked: list[dict[str, object]] = []
        self.left = 0
        self.go = asyncio.Event()
        self.written = 0

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            fields = cast("dict[str, object]", json.loads(await reader.readexactly(length)))
            self.asked.append(fields)
            does = self.script.pop(0) if self.script else self.usual
            if does is Does.ANSWER and not fields.get("stream"):
                writer.write(whole(200, answer_of(self.name)))
                continue
            await self._do(does, reader, writer)
            return

    async def _do(self, does: Does, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send what the script says; the connection ends after it."""
        match does:
            case Does.RESET:
                reset(writer)
            case Does.RESET_AFTER_HEAD | Does.RESET_MID_STREAM:
                writer.write(HEAD + (piece(self.name) if does is Does.RESET_MID_STREAM else b""))
                await writer.drain()
                await asyncio.sleep(0.02)
                reset(writer)
            case Does.STALL | Does.SILENT | Does.SLOW_HEADER:
                start = {Does.STALL: HEAD + piece(self.name), Does.SLOW_HEADER: HEAD[:30]}
                writer.write(start.get(does, b""))
                await self._see_it_leave(reader)
            case Does.FLOOD:
                await self._flood(reader, writer)
            case Does.HALF_NOW:
                writer.write(HEAD + piece(self.name))
                await self.go.wait()
                writer.write(piece(self.name) + DONE)
            case Does.WRONG_CHUNK | Does.NO_DONE:
                broken = b"zz\r\n" if does is Does.WRONG_CHUNK else b"0\r\n\r\n"
                writer.write(HEAD + piece(self.name) + broken)  # in one piece: what came before the break must pass
            case _:
                writer.write(SENT[does](self.name))
        await writer.drain()

    async def _see_it_leave(self, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            await reader.read()
        self.left += 1

    async def _flood(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        event = piece("x" * 4000)
        writer.write(HEAD)
        try:
            while True:
                writer.write(event)
                await writer.drain()
                self.written += len(event)
        except ConnectionError:
            self.left += 1


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event_of(fields: Mapping[str, object]) -> bytes:
    """One event of a stream, in a chunk of its own."""
    return chunk(b"data: " + json.dumps(fields).encode() + b"\n\n")


def piece(text: str) -> bytes:
    """A token."""
    return event_of({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]})


def whole(status: int, fields: dict[str, object]) -> bytes:
    """An answer in one piece."""
    body = json.dumps(fields).encode()
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body


def answer_of(name: str) -> dict[str, object]:
    """A chat's answer."""
    message = {"role": "assistant", "content": name}
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }


HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    b"connection: keep-alive\r\n\r\n"
)
"""Of a stream, with llama-server's promise to keep the connection."""

LARGE_BYTES = KEPT_BYTES + 300_000
"""Bytes of text in a large answer: more than the router keeps."""

LARGE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % LARGE_BYTES

ERROR: dict[str, object] = {"error": {"message": "out of memory", "type": "server_error", "code": 500}}
END = event_of({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
DONE = END + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"

SENT: Mapping[Does, Callable[[str], bytes]] = {
    Does.ANSWER: lambda name: HEAD + piece(name) * TOKENS + DONE,
    Does.HALF_CLOSE: lambda name: HEAD + piece(name),
    Does.ERROR_EVENT: lambda _: HEAD + event_of(ERROR) + b"0\r\n\r\n",
    Does.LATE_ERROR_EVENT: lambda name: HEAD + piece(name) + event_of(ERROR) + b"0\r\n\r\n",
    Does.CUT_BODY: lambda name: whole(200, answer_of(name))[:-20],
    Does.TRUNCATED: lambda name: (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n"
        + json.dumps(answer_of(name)).encode()[:20]
    ),
    Does.UNAVAILABLE: lambda _: whole(503, {"error": {"message": "Loading model", "code": 503}}),
    Does.FAIL: lambda name: whole(500, {"error": {"message": f"{name} is broken", "code": 500}}),
    Does.REJECT: lambda _: whole(400, {"error": {"message": "the context is too long", "code": 400}}),
    Does.UNABLE: lambda _: whole(501, {"error": {"message": "This server does not support it", "code": 501}}),
    Does.BLIND: lambda _: whole(500, {"error": {"message": "image input is not supported", "code": 500}}),
    Does.LARGE: lambda _: whole(200, answer_of("y" * LARGE_BYTES)),
    Does.LARGE_CUT: lambda _: whole(200, answer_of("y" * LARGE_BYTES))[:-20],
    Does.LARGE_TRUNCATED: lambda _: LARGE_HEAD + json.dumps(answer_of("y" * LARGE_BYTES)).encode()[:LARGE_BYTES],
    Does.LARGE_REJECT: lambda _: whole(400, {"error": {"message": "y" * LARGE_BYTES, "code": 400}}),
    Does.LARGE_FAIL: lambda _: whole(500, {"error": {"message": "y" * LARGE_BYTES, "code": 500}}),
    Does.ERROR_WITH_200: lambda _: whole(200, ERROR),
}
"""What is sent at once, by what is done."""


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset instead of in order."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def stand_in(name: str, *script: Does) -> AsyncIterator[StandIn]:
    """An engine on a port of the loopback."""
    made = StandIn(name)
    made.script.extend(script)
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            await made.serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.go.set()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)
