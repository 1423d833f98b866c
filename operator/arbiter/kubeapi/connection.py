"""One API server: how it is found, who we are there, and what its answers mean.

The library reads the service account or the kubeconfig. The token of a service account is read again every minute;
when the server does not know us, or its certificate is not the one that we trust, everything is read anew before the
next question, because by then the files may have been renewed.

Rule: every failure to answer is a `ClusterError`, so whoever asks decides by its type and never sees the library's.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

import aiohttp
import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject, RESTResponse
from kubernetes.aio.config import ConfigException, load_kube_config
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

import arbiter
from arbiter.errors import ConflictError, DeniedError, InvalidInputError, RejectedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    Load = Callable[[Configuration], Awaitable[None]]

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""The folder in which a pod finds its token and the cluster's certificate."""

CONNECT_S = 10.0
"""Seconds for a connection, TLS included; the API server is never far."""

UNKNOWN = 401
"""The status by which the API server says that it does not know who asks."""

UNTYPED = "failed to create typed patch object"
"""In an error 500: what was applied has a field that its kind does not have. Time does not mend that one."""

ANSWER_S = 60.0
"""Seconds for a whole answer: the API server itself gives up after 60."""

KEEPALIVE = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000))
"""Seconds of silence before a peer is probed, between probes, probes, and milliseconds for sent bytes to be taken.

A watch is silent for minutes, so a server whose machine vanished would not be missed before. This finds it in 30 s.
"""

LINE_BYTES = 32 * 1024 * 1024
"""Longest event of a watch. Stored objects have 3 MiB at most; one that never ends must not fill the memory."""

_UNREADABLE = (ConfigException, OSError, ValueError, KeyError, TypeError, yaml.YAMLError, ssl.SSLError)
"""How the library says that credentials are missing or wrong."""


class ExpiredError(UnreachableError):
    """The resource version that was asked for is no longer kept (410): list again. It never leaves this room."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the API server, with all that it needs to be asked once more.

    Attributes:
        method: GET, POST, PUT, PATCH or DELETE.
        path: of the objects, or of the one.
        query: the part behind the question mark.
        body: what is sent along; `None` for nothing.
        content: in which form, as a media type. It is JSON always; the type says what the server shall do with it.
        seconds: how long its whole answer may take.
    """

    method: str
    path: str
    query: Mapping[str, str]
    body: Mapping[str, Any] | None = None
    content: str = "application/json"
    seconds: float = field(default_factory=lambda: ANSWER_S)

    def __str__(self) -> str:
        """As it stands in messages."""
        return f"{self.method} {self.path}"


class Asking(Protocol):
    """Whatever gets a whole answer to a request: a `Connection`, or one that asks again."""

    async def ask(self, request: Request) -> dict[str, Any]:
        """Give the answer, which is an object.

        Raises:
            ClusterError: there was none.
        """


class _Client(RESTClientObject):
    """The library's client, on connections that notice a vanished server."""

    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(limit=0, ssl=self.ssl_context, socket_factory=kept_alive)


class Connection:
    """A way to one API server. It is opened by the first question."""

    def __init__(self, load: Load, named: str) -> None:
        """Take how it is configured.

        Args:
            load: fills in the library's configuration; called again when the server does not know us.
            named: what a person knows it by, for messages.
        """
        self._load = load
        self._named = named
        self._client: _Client | None = None
        self._opening = asyncio.Lock()

    @staticmethod
    def in_cluster(folder: str = SERVICE_ACCOUNT, environ: Mapping[str, str] = os.environ) -> Connection:
        """The cluster that this pod runs in, by its service account."""

        async def load(configuration: Configuration) -> None:
            loader = InClusterConfigLoader(f"{folder}/token", f"{folder}/ca.crt", environ=environ)  # type: ignore[no-untyped-call]  # the library's
            loader.load_and_set(configuration)  # type: ignore[no-untyped-call]  # the library's

        return Connection(load, "service account")

    @staticmethod
    def kubeconfig(path: Path, context: str | None = None) -> Connection:
        """The cluster of a kubeconfig's context, or of its current one. The file is never written."""

        async def load(configuration: Configuration) -> None:
            if not await asyncio.to_thread(path.is_file):
                raise ConfigException(f"there is no file {path}")
            await load_kube_config(str(path), context, configuration, persist_config=False)  # type: ignore[no-untyped-call]  # the library's

        return Connection(load, f"kubeconfig {path}")

    async def open(self) -> None:
        """Read the configuration now, so that a person hears of a mistake at once.

        Raises:
            InvalidInputError: there is no such file or context, or it holds no credentials.
        """
        try:
            await self._opened()
        except DeniedError as error:
            raise InvalidInputError(self._named, str(error)) from error

    async def close(self) -> None:
        """Close all connections; the next question opens them again."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def ask(self, request: Request) -> dict[str, Any]:
        """Ask for one whole JSON answer, or for a change, whose answer is the object as it is now stored.

        Raises:
            ClusterError: there was none. After an `UnreachableError` a change may have been made all the same.
        """
        async with self._answer(request) as answer:
            body = await answer.read()
        return parsed(body)

    @asynccontextmanager
    async def lines(
        self, path: str, query: Mapping[str, str], seconds: float
    ) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """Ask for an answer without an end, and give its lines as they come, for at most so many seconds.

        What stands behind the last line break when the answer ends is no line: it was cut.

        Raises:
            ClusterError: there was no answer, or it broke off.
        """
        async with (
            self._answer(Request("GET", path, query, seconds=seconds)) as answer,
            aclosing(_lines(answer.content)) as lines,
        ):
            yield lines

    @asynccontextmanager
    async def _answer(self, request: Request) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """The head of a good answer. Errors of the one who reads its body are named here too."""
        client = await self._opened()
        try:
            headers = await self._headers(client)
            async with (await _asked(client, request, headers)).response as answer:
                if answer.status == UNKNOWN:
                    await self._forget(client)  # not for a missing right: others' questions are on the way here too
                if answer.status >= 400:
                    raise failure(answer.status, await answer.read(), answer.headers.get("retry-after", ""))
                yield answer
        except aiohttp.ClientConnectorCertificateError as error:
            await self._forget(client)
            raise DeniedError(f"the API server's certificate is not trusted: {error.certificate_error}") from error
        except TimeoutError as error:
            raise UnreachableError(f"the API server did not answer {request} in time") from error
        except (aiohttp.ClientError, OSError) as error:
            said = str(error) or type(error).__name__
            raise UnreachableError(f"the API server did not answer {request}: {said}") from error

    async def _opened(self) -> _Client:
        async with self._opening:
            if self._client is None:
                configuration = Configuration()
                # Kubernetes' own clients take certificates that lack a key identifier; so do clusters' authorities.
                configuration.disable_strict_ssl_verification = True
                try:
                    await self._load(configuration)
                    self._client = await asyncio.to_thread(_Client, configuration)
                except _UNREADABLE as error:
                    raise DeniedError(f"the credentials cannot be read: {error}") from error
            return self._client

    async def _forget(self, client: _Client) -> None:
        if self._client is client:
            await self.close()

    async def _headers(self, client: _Client) -> dict[str, str]:
        """Who we are; the library reads the token again when it is a minute old."""
        try:
            shown = (await client.configuration.auth_settings()).values()
        except (ConfigException, OSError) as error:
            await self._forget(client)
            raise DeniedError(f"the token cannot be read: {error}") from error
        known = {each["key"]: each["value"].strip() for each in shown if each["value"]}
        return {"accept": "application/json", "user-agent": f"arbiter/{arbiter.__version__}", **known}


async def _asked(client: _Client, request: Request, headers: dict[str, str]) -> RESTResponse:
    times = aiohttp.ClientTimeout(total=request.seconds, sock_connect=CONNECT_S)
    url = f"{client.configuration.host}{request.path}?{urlencode(request.query)}"
    headers = {**headers, "Content-Type": request.content}
    try:
        return await client.request(  # type: ignore[no-untyped-call,no-any-return]  # the library's
            request.method, url, headers=headers, body=request.body, _request_timeout=times
        )
    except (aiohttp.ClientError, OSError):
        raise  # among them the error of a certificate, which is a ValueError too
    except (AssertionError, RuntimeError, ValueError) as error:
        # aiohttp's ways to say that a URL or a header cannot be sent, and that the session was closed meanwhile.
        raise UnreachableError(f"the API server cannot be asked: {error!r}") from error


def parsed(data: bytes) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        UnreachableError: it is none, so what answered was not an API server, or not in full.
    """
    try:
        found = json.loads(data)
    except ValueError as error:
        raise UnreachableError(f"the API server's answer is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UnreachableError("the API server's answer is not a JSON object")
    return found


def failure(
    status: int, body: bytes, retry_after: str = ""
) -> ConflictError | DeniedError | RejectedError | UnreachableError:
    """Which error an HTTP status of the API server is. Its message is taken from the Status object in the body."""
    said = body[:300].decode(errors="replace").strip()
    with suppress(UnreachableError):
        said = str(parsed(body).get("message") or said)
    message = f"the API server answered {status}: {said}"
    match status:
        case 410:
            return ExpiredError(message)
        case 401 | 403:
            return DeniedError(message)
        case 409:
            return ConflictError(message)
        case _ if status in (408, 429) or (status >= 500 and UNTYPED not in said):
            return UnreachableError(message, _seconds(retry_after))
        case _:
            return RejectedError(message, status)


def _seconds(retry_after: str) -> float:
    return min(float(retry_after), ANSWER_S) if retry_after.isdecimal() else 0.0


async def _lines(content: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    """Whole lines. aiohttp's own reader of lines refuses those above four megabytes."""
    rest = bytearray()
    async for data in content.iter_any():
        begin = len(rest)
        rest += data
        if (end := rest.rfind(b"\n", begin)) < 0:
            if len(rest) > LINE_BYTES:
                raise UnreachableError(f"an event of the API server is longer than {LINE_BYTES} bytes")
            continue
        whole = bytes(rest[:end])
        del rest[: end + 1]
        for line in whole.split(b"\n"):
            yield line


def kept_alive(address: tuple[Any, ...]) -> socket.socket:
    """A socket that probes its silent peer; systems other than Linux lack some of the options."""
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made
