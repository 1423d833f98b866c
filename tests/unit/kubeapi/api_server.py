"""A small API server on the loopback: real HTTP, answered by a script, with what real servers do rarely.

`Scripted` takes one step for each request, in order, and can cut its answers anywhere. `Stocked` holds objects and
answers lists and watches of them as a real one does, as far as a router asks.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from arbiter.kubeapi.connection import Connection

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path


@dataclass(frozen=True)
class Asked:
    """One request."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    method: str = "GET"
    body: Any = None

    @property
    def watching(self) -> bool:
        """Whether it is a watch."""
        return "watch" in self.query

    @property
    def version(self) -> str:
        """The resource version from which it goes on; empty for a list."""
        return self.query.get("resourceVersion", "")


class Answer:
    """The answer to it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        """Nothing is sent yet."""
        self._writer = writer

    async def whole(self, body: object, status: int = 200, **headers: str) -> None:
        """A whole answer."""
        text = (body if isinstance(body, str) else json.dumps(body)).encode()
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self._writer.write(f"HTTP/1.1 {status} Said\r\ncontent-length: {len(text)}\r\n{more}\r\n".encode() + text)
        await self._writer.drain()

    async def failure(self, status: int, message: str = "no", **headers: str) -> None:
        """An error as a Status object."""
        await self.whole({"kind": "Status", "code": status, "message": message}, status, **headers)

    async def list(self, version: str, *items: dict[str, Any], more: str = "") -> None:
        """A list, or a page of one."""
        await self.whole({"metadata": {"resourceVersion": version, "continue": more}, "items": list(items)})

    async def begin(self) -> None:
        """The head of a watch."""
        self._writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await self._writer.drain()

    async def send(self, data: bytes) -> None:
        """Bytes of a watch, as one chunk."""
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writer.drain()

    async def event(self, kind: str, item: dict[str, Any]) -> None:
        """An event of a watch."""
        await self.send(line(kind, item))

    async def end(self) -> None:
        """The orderly end of a watch."""
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def cut(self) -> None:
        """The connection breaks, after what was sent."""
        await self._writer.drain()
        await asyncio.sleep(0.01)
        self._writer.transport.abort()


def line(kind: str, item: dict[str, Any]) -> bytes:
    """An event of a watch, with its line break."""
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def named(name: str, version: int | str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401  any object
    """An object."""
    return {"metadata": {"name": name, "namespace": "team", "resourceVersion": str(version)}, **fields}


def bookmark(version: int) -> dict[str, Any]:
    """What a bookmark carries."""
    return {"metadata": {"resourceVersion": str(version)}}


class ApiServer:
    """Listens, notes what it is asked, and lets `answer` answer.

    Attributes:
        asked: all requests, in order.
        url: where it listens.
    """

    def __init__(self) -> None:
        """Nobody asked yet."""
        self.asked: list[Asked] = []
        self.url = ""
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def answer(self, asked: Asked, answer: Answer) -> None:
        """Answer one request."""
        raise NotImplementedError

    @asynccontextmanager
    async def up(self, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncGenerator[None, None]:
        """Listen on the loopback."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # A task of our own, because the server's are neither to be had nor ended.
            task = asyncio.create_task(self._serve(reader, writer))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

        self._server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            self._server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while not writer.is_closing():
                    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                    address = urlsplit(head[0].split(" ")[1])
                    fields = [each.split(": ", 1) for each in head[1:] if each]
                    headers = {name.lower(): value for name, value in fields}
                    sent = await reader.readexactly(int(headers.get("content-length", "0")))
                    method, body = head[0].partition(" ")[0], json.loads(sent) if sent else None
                    self.asked.append(Asked(address.path, dict(parse_qsl(address.query)), headers, method, body))
                    await self.answer(self.asked[-1], Answer(writer))
        finally:
            writer.transport.abort()


class Scripted(ApiServer):
    """Takes one step for each request; the last one then hangs."""

    def __init__(self, *steps: Callable[[Asked, Answer], Awaitable[None]]) -> None:
        """Take the steps."""
        super().__init__()
        self._steps = list(steps)

    async def answer(self, asked: Asked, answer: Answer) -> None:
        """Take the next step."""
        if self._steps:
            await self._steps.pop(0)(asked, answer)
        else:
            await asyncio.sleep(60)


class Stocked(ApiServer):
    """Holds objects, and tells those who watch what changes."""

    def __init__(self) -> None:
        """It is empty."""
        super().__init__()
        self.stock: dict[tuple[str, str], dict[str, Any]] = {}
        self.forbidden: set[str] = set()
        self._version = 100
        self._watches: list[tuple[Asked, asyncio.Queue[bytes]]] = []

    def put(self, plural: str, name: str, labels: dict[str, str] | None = None, **fields: Any) -> None:  # noqa: ANN401  any object
        """Make or change an object."""
        self._version += 1
        kind = "MODIFIED" if (plural, name) in self.stock else "ADDED"
        item = self.stock[plural, name] = named(name, self._version, **fields)
        item["metadata"]["labels"] = labels or {}
        self._tell(plural, kind, item)

    def delete(self, plural: str, name: str) -> None:
        """Remove an object."""
        self._version += 1
        item = self.stock.pop((plural, name))
        item["metadata"]["resourceVersion"] = str(self._version)
        self._tell(plural, "DELETED", item)

    async def answer(self, asked: Asked, answer: Answer) -> None:
        """A list, or a watch that goes on until the connection ends."""
        plural = asked.path.rpartition("/")[2]
        if plural in self.forbidden:
            await answer.failure(403, f"cannot list {plural}")
        elif not asked.watching:
            found = [item for (kind, _), item in self.stock.items() if kind == plural and _chosen(asked, item)]
            await answer.list(str(self._version), *found)
        else:
            events: asyncio.Queue[bytes] = asyncio.Queue()
            for (kind, _), item in self.stock.items():
                newer = int(item["metadata"]["resourceVersion"]) > int(asked.version)
                if kind == plural and newer and _chosen(asked, item):
                    events.put_nowait(line("ADDED", item))
            self._watches.append((asked, events))
            await answer.begin()
            while True:
                await answer.send(await events.get())

    def _tell(self, plural: str, kind: str, item: dict[str, Any]) -> None:
        for asked, events in self._watches:
            if asked.path.endswith(f"/{plural}") and _chosen(asked, item):
                events.put_nowait(line(kind, item))


def _chosen(asked: Asked, item: dict[str, Any]) -> bool:
    metadata = item["metadata"]
    field, label = asked.query.get("fieldSelector", ""), asked.query.get("labelSelector", "")
    name, _, value = label.partition("=")
    return field in {"", f"metadata.name={metadata['name']}"} and (not label or metadata["labels"].get(name) == value)


def connection_to(server: ApiServer, folder: Path, token: str = "open-sesame") -> Connection:  # noqa: S107  a test's
    """A connection by a kubeconfig of its own, written into the folder."""
    path = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [
            {"name": "here", "context": {"cluster": "loopback", "user": "tester"}},
            {"name": "nowhere", "context": {"cluster": "missing", "user": "tester"}},
        ],
        "clusters": [{"name": "loopback", "cluster": {"server": server.url}}],
        "users": [{"name": "tester", "user": {"token": token}}],
    }
    path.write_text(yaml.safe_dump(config))
    return Connection.kubeconfig(path)
