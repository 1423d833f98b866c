"""A model server that wants a key, and keeps what it was shown."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from arbiter.api.localmodel import EngineType
from arbiter.core.routes import Backend
from tests.unit.router.stand_in import answer_of, whole

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Engine:
    """A model server that keeps the heads of its requests, and refuses those without the key that it wants."""

    def __init__(self, name: str, wants: str) -> None:
        """Listen to nothing yet; with an empty `wants` it takes everybody."""
        self.name = name
        self.wants = f"\r\nauthorization: bearer {wants}\r\n".lower().encode() if wants else b""
        self.heads: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        self.heads.append(head)
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        refused = whole(401, {"error": {"message": "Incorrect API key provided: sk-te***6789"}})
        writer.write(whole(200, answer_of(self.name)) if self.wants in head else refused)
        writer.close()

    def backend(self, key: str | None = None) -> Backend:
        """The model that it serves, as a table names it."""
        return Backend(
            self.name, f"model-{self.name}", EngineType.External, None, (f"http://127.0.0.1:{self.port}",), key
        )


@asynccontextmanager
async def keyed_engine(name: str, wants: str = "") -> AsyncIterator[Engine]:
    """A model server on a port of the loopback."""
    made = Engine(name, wants)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await asyncio.sleep(0.01)
