"""A server in OpenAI's form on plain asyncio, which does to chosen requests what the driver must catch."""

from __future__ import annotations

import asyncio
import json
import random  # noqa: TID251  seeded
import re
import socket
import struct
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Plant(StrEnum):
    """What happens to a request."""

    NOTHING = "nothing"
    CUT = "the connection is closed inside a chunk"
    CUT_BETWEEN = "the connection is closed between two chunks"
    RESET_INSIDE = "the connection is reset inside the answer"
    RESET_BEFORE = "the connection is reset before the answer"
    CLOSE_BEFORE = "the connection is closed before the answer"
    BUSY = "503"
    NO_DONE = "a stream ends without [DONE]"
    NO_FINISH = "a stream ends with [DONE] alone"
    AFTER_DONE = "an event comes after [DONE]"
    ERROR = "an error inside the answer"
    GARBLED = "JSON that is none"
    SHORT = "fewer bytes than Content-Length says"
    NO_LENGTH = "neither Content-Length nor chunks"
    BAD_CHUNK = "a chunk that is longer than it says"
    BAD_HEADER = "a header without a name"
    BAD_STATUS = "a status line that is none"
    BOTH = "Content-Length and chunks"
    HANG = "nothing more comes"


EVENTS = 20
PACE_S = 0.003
_ANSWER = json.dumps({"choices": [{"message": {"content": "one"}, "finish_reason": "stop"}]}).encode()


class Server:
    """Answers, and does as planned."""

    def __init__(self, plan: Callable[[int, bool], Plant], new_weight: int = 50) -> None:
        """Revisions `old` and `new` answer by weight."""
        self._plan = plan
        self._draw = random.Random(7)  # noqa: S311  a seeded split, no secret
        self.new_weight = new_weight
        self.requests = 0
        self.connections = 0
        self.planted = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length, head
        stream = json.loads(await reader.readexactly(int(length[1])))["stream"]
        self.requests += 1
        plant = self._plan(self.requests, stream)
        self.planted += plant is not Plant.NOTHING
        if plant is Plant.HANG:
            await reader.read()
            return False
        if plant is Plant.RESET_BEFORE:
            _reset(writer)
        if plant in {Plant.RESET_BEFORE, Plant.CLOSE_BEFORE}:
            return False
        revision = b"new" if self._draw.random() * 100 < self.new_weight else b"old"
        if plant is Plant.BUSY:
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy")
            return True
        if stream:
            return await self._stream(writer, plant, revision)
        return self._plain(writer, plant, revision)

    def _plain(self, writer: asyncio.StreamWriter, plant: Plant, revision: bytes) -> bool:
        body = {
            Plant.ERROR: b'{"error": {"message": "no"}}',
            Plant.GARBLED: b'{"choices": [',
            Plant.NO_FINISH: b'{"choices": [{"message": {}}]}',
        }.get(plant, _ANSWER)
        first = b"HTTP/1.1 OK" if plant is Plant.BAD_STATUS else b"HTTP/1.1 200 OK"
        extra = {
            Plant.BAD_HEADER: b": nameless\r\n",
            Plant.BOTH: b"transfer-encoding: chunked\r\n",
        }.get(plant, b"")
        length = b"" if plant is Plant.NO_LENGTH else b"content-length: %d\r\n" % len(body)
        head = b"%b\r\nx-arbiter-revision: %b\r\n%b%b\r\n" % (first, revision, length, extra)
        short = {Plant.SHORT, Plant.CUT, Plant.CUT_BETWEEN, Plant.RESET_INSIDE}
        writer.write(head + (body[:10] if plant in short else body))
        return plant not in {*short, Plant.NO_LENGTH}

    async def _stream(self, writer: asyncio.StreamWriter, plant: Plant, revision: bytes) -> bool:
        head = b"HTTP/1.1 200 OK\r\nx-arbiter-revision: %b\r\ncontent-type: text/event-stream\r\n" % revision
        writer.write(head + b"transfer-encoding: chunked\r\n\r\n")
        for number in range(EVENTS):
            last = number == EVENTS - 1
            finish = "stop" if last and plant is not Plant.NO_FINISH else None
            event = {"choices": [{"delta": {"content": f"{number} "}, "finish_reason": finish}]}
            text = b"data: %b\n\n" % json.dumps(event).encode()
            if number == EVENTS // 2:
                text = {Plant.ERROR: b'data: {"error": "no"}\n\n', Plant.GARBLED: b"data: {\n\n"}.get(plant, text)
                if plant in {Plant.CUT, Plant.RESET_INSIDE}:
                    writer.write(b"%x\r\n%b" % (len(text), text[:5]))
                if plant is Plant.RESET_INSIDE:
                    await asyncio.sleep(PACE_S)
                    _reset(writer)
                if plant in {Plant.CUT, Plant.CUT_BETWEEN, Plant.RESET_INSIDE, Plant.SHORT}:
                    return False
            says = len(text) - 1 if number == EVENTS // 2 and plant is Plant.BAD_CHUNK else len(text)
            writer.write(b"%x\r\n%b\r\n" % (says, text))
            await writer.drain()
            await asyncio.sleep(PACE_S)
        done = b"data: [DONE]\n\n" + (b'data: {"choices": []}\n\n' if plant is Plant.AFTER_DONE else b"")
        if plant is not Plant.NO_DONE:
            writer.write(b"%x\r\n%b\r\n" % (len(done), done))
        writer.write(b"0\r\n\r\n")
        return True


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST, as a process that is killed does; without this option it would be FIN."""
    kept: socket.socket = writer.get_extra_info("socket")
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    """Serve, and give the base address."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def never(number: int, stream: bool) -> Plant:  # noqa: ARG001  a plan sees both
    """Do nothing to any."""
    return Plant.NOTHING
