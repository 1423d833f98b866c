"""A web server for tests that answers as it is told, faults included."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def sha256(content: bytes) -> str:
    """Give the sum of a content."""
    return hashlib.sha256(content).hexdigest()


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Answer every request with a handler, and give host and port."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass
class File:
    """One file behind every address of a server.

    Attributes:
        content: its bytes.
        cuts: for each request in turn, after how many bytes the connection ends; what comes later is whole.
        ranges: whether it knows ranges.
        etag: its entity tag; a range on condition of another one is answered with all of it.
        claimed: the length that is claimed of the whole; None: the right one.
        statuses: for each request in turn, a status to answer with instead; 0: none.
        headers: headers of such an answer.
        asked: the `Range` of each request so far.
    """

    content: bytes
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    etag: str = '"one"'
    claimed: int | None = None
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer."""
        asked = request.headers.get("Range", "")
        self.asked.append(asked)
        if self.statuses and (status := self.statuses.pop(0)):
            return web.Response(status=status, headers=self.headers)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if request.headers.get("If-Range", self.etag) != self.etag:
            start = 0
        size = len(self.content) if self.claimed is None else self.claimed
        if start >= size > 0 and start:
            return web.Response(status=416)
        answer = web.StreamResponse(status=206 if start else 200, headers={"ETag": self.etag})
        answer.content_length = size - start
        if start:
            answer.headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        await answer.prepare(request)
        cut = self.cuts.pop(0) if self.cuts else None
        try:
            await answer.write(self.content[start:] if cut is None else self.content[start : start + cut])
        except ConnectionError:
            return answer  # the client has read enough
        if cut is not None and request.transport is not None:
            request.transport.close()
        return answer
