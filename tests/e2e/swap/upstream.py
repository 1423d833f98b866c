"""Model servers outside of the cluster whose faults a test decides, each under a name of its own at one address.

They stand in for models only where real ones show a fault too rarely: an error now and then, a slower token, nonsense
with status 200. Answers are paced, so that time to first token and per token mean something.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random  # noqa: TID251  pauses of a stand-in differ a little, as real ones do
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from devcluster.native.layout import Addresses

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKENS = 8
"""How many tokens an answer has where the question does not say."""

ANSWERS = "Paris is the capital of France."
"""What a good model says to everything."""


@dataclass(frozen=True)
class Behaviour:
    """How one model answers.

    Times have a tail, as those of real servers do: one answer in twenty-five takes an eighth longer. Without one there
    would be no slowest twentieth to compare.

    Attributes:
        first_s: seconds to its first token.
        token_s: seconds for each further token.
        failing: every so-manieth request gets a 500 before its first byte; 0 for none.
        says: its words.
    """

    first_s: float = 0.04
    token_s: float = 0.01
    failing: int = 0
    says: str = ANSWERS


@dataclass
class Upstream:
    """The servers that run.

    Attributes:
        address: where they are reached, by the host and by pods; whatever path is put behind it leads to the same.
        models: how each answers; whoever is not in it answers as a good one.
        asked: how many requests each has got.
    """

    address: str = ""
    models: dict[str, Behaviour] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    _chance: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311  pauses, no secret

    def behave(self, model: str, **how: Any) -> None:  # noqa: ANN401  fields of a behaviour
        """Change how a model answers from now on."""
        self.models[model] = replace(self.models.get(model, Behaviour()), **how)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode().split("\r\n")
                length = next(
                    (int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length")), 0
                )
                body = await reader.readexactly(length) if length else b""
                await self._answer(lines[0].split()[0], body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, method: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        if method == "GET":
            await _send(writer, 200, {"object": "list", "data": [{"id": "any", "object": "model"}]})
            return
        asked = json.loads(body)
        name, behaviour = asked["model"], self.models.get(asked["model"], Behaviour())
        number = self.asked[name] = self.asked.get(name, 0) + 1
        if behaviour.failing and number % behaviour.failing == 0:
            await _send(writer, 500, {"error": {"message": "planted", "type": "server_error"}})
            return
        tokens = int(asked.get("max_tokens") or TOKENS)
        words = list(itertools.islice(itertools.cycle(behaviour.says.split()), tokens))
        slower = 1.125 if self._chance.random() < 0.04 else 1.0
        await asyncio.sleep(behaviour.first_s * slower)
        if asked.get("stream"):
            await _stream(writer, words, behaviour.token_s * slower)
            return
        await asyncio.sleep(behaviour.token_s * (tokens - 1))
        message = {"role": "assistant", "content": " ".join(words)}
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        await _send(writer, 200, {"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage})


async def _stream(writer: asyncio.StreamWriter, words: list[str], token_s: float) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    for number, word in enumerate(words):
        if number:
            await asyncio.sleep(token_s)
        _event(writer, {"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None})
        await writer.drain()
    _event(writer, {"index": 0, "delta": {}, "finish_reason": "stop"})
    _chunk(writer, b"data: [DONE]\n\n")
    _chunk(writer, b"")
    await writer.drain()


@contextmanager
def upstream() -> Iterator[Upstream]:
    """Serve for as long as this lasts."""
    servers, listening, ended = Upstream(), threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        running: set[asyncio.Task[None]] = set()

        async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            running.add(task)
            try:
                await servers.serve(reader, writer)
            except asyncio.CancelledError:
                pass  # the servers end; asyncio would log an end by cancellation as a mistake
            finally:
                running.discard(task)

        server = await asyncio.start_server(connection, Addresses.host, 0, backlog=1024)
        servers.address = f"http://{Addresses.host}:{server.sockets[0].getsockname()[1]}"
        loops.append(asyncio.get_running_loop())
        listening.set()
        await ended.wait()
        server.close()
        for task in tuple(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="upstream", daemon=True)
    thread.start()
    assert listening.wait(10)
    try:
        yield servers
    finally:
        loops[0].call_soon_threadsafe(ended.set)
        thread.join(10)


async def _send(writer: asyncio.StreamWriter, status: int, fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


def _event(writer: asyncio.StreamWriter, choice: dict[str, Any]) -> None:
    fields = {"id": "c", "object": "chat.completion.chunk", "choices": [choice]}
    _chunk(writer, b"data: " + json.dumps(fields).encode() + b"\n\n")


def _chunk(writer: asyncio.StreamWriter, text: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(text), text))
