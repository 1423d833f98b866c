"""Gives files to an Ollama server and has it make a model of them.

Rule: a server that went away is asked again, for it may be starting anew; what it refuses in words is final.
"""

from __future__ import annotations

import asyncio
import errno
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from arbiter.engines import ollama_calls
from arbiter.engines.calls import LONGEST_REPLY, EngineReplyError, Reply
from arbiter.fetch.failures import FailureCode, SourceError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from arbiter.engines.calls import Call
    from arbiter.engines.ollama_calls import Ingredients
    from arbiter.fetch.progress import Progress

_PIECE = 1024 * 1024

_CONNECT_S = 10.0
"""Seconds for a connection to a server of the same cluster."""

_NO_SPACE = ("no space left on device", "disk quota exceeded")
"""How a server's words show that its store is full."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that is given.

    Attributes:
        path: where it is.
        sha256: its sum.
    """

    path: Path
    sha256: str

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.path.stat().st_size


class Giving:
    """The way to one server."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        """Take what asks, and the base address."""
        self._session = session
        self._url = url.rstrip("/")

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str) -> AsyncIterator[Giving]:
        """Have a way for as long as this lasts. No proxy is between pods of a cluster."""
        times = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        async with aiohttp.ClientSession(timeout=times, trust_env=False) as session:
            yield cls(session, url)

    async def send(self, file: File, progress: Progress | None) -> None:
        """Have the server hold a file.

        Raises:
            SourceError: it does not.
        """
        if await self._holds(file.sha256):
            return
        sent = 0

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal sent
            with file.path.open("rb") as content:
                while piece := await asyncio.to_thread(content.read, _PIECE):
                    yield piece
                    sent += len(piece)
                    if progress is not None:
                        progress.add(len(piece))

        path = ollama_calls.upload_path(file.sha256)
        call = ollama_calls.has_blob(file.sha256)
        # It computes the sum once all is there, and says nothing meanwhile.
        times = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        try:
            async with self._session.post(
                self._url + path, data=pieces(), headers={"Content-Length": str(file.size)}, timeout=times
            ) as answer:
                await self._refuse(Reply(f"POST {path}", answer.status, await answer.content.read(LONGEST_REPLY)))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if progress is not None:
                progress.jump(-sent)
            raise _unreachable(call, error) from error

    async def make(self, model: str, made_of: Ingredients, options: Mapping[str, object]) -> None:
        """Have a model made of files that the server holds.

        Raises:
            SourceError: it is not made.
        """
        call = ollama_calls.create_of(model, made_of, options)
        times = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=call.deadline_s)
        headers = {"content-type": "application/json"}
        last = None
        try:
            async with self._session.request(
                call.method, self._url + call.path, data=call.content, headers=headers, timeout=times
            ) as answer:
                if answer.status >= 300:
                    await self._refuse(Reply(call.asked, answer.status, await answer.content.read(LONGEST_REPLY)))
                async for line in answer.content:
                    if line.strip():
                        last = ollama_calls.read_line(line, call.asked)
        except EngineReplyError as error:
            raise _refused(str(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _unreachable(call, error) from error
        if last is None or not last.done:
            raise SourceError(
                FailureCode.EngineUnreachable, f"{call.asked} broke off before the model was made", transient=True
            )

    async def _holds(self, sha256: str) -> bool:
        call = ollama_calls.has_blob(sha256)
        times = aiohttp.ClientTimeout(total=call.deadline_s, sock_connect=_CONNECT_S)
        try:
            async with self._session.request(call.method, self._url + call.path, timeout=times) as answer:
                if answer.status in {200, 404}:
                    return answer.status == 200
                raise _unreachable(call, OSError(errno.EPROTO, f"it answered {answer.status}"))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(call, error) from error

    async def _refuse(self, reply: Reply) -> None:
        """Refuse an answer that is none of 2xx."""
        if not reply.ok:
            raise _refused(f"{reply.asked}: the server answered {reply.status}: {reply.error()}")


def _refused(said: str) -> SourceError:
    if any(words in said.lower() for words in _NO_SPACE):
        return SourceError(FailureCode.NoSpace, f"the shared engine's store is full: {said}")
    return SourceError(FailureCode.EngineRefused, said)


def _unreachable(call: Call, error: Exception) -> SourceError:
    said = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return SourceError(FailureCode.EngineUnreachable, f"{call.asked}: the shared engine: {said}", transient=True)
