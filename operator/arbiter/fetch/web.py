"""Asks web servers, strictly: bounded answers, checked redirects, and failures that say whether to ask again.

Rule: a redirect never leads from https to http, and what lets us in at one server is never shown to another. Proxies
are those of the environment. Addresses in messages have no query, because signed ones let whoever reads them in.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from arbiter import __version__
from arbiter.fetch.failures import FailureCode, SourceError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

MOST_REDIRECTS = 8
"""Redirects that are followed for one question."""

MOST_HEADER_BYTES = 32 * 1024
"""Most bytes of one header: a signed address has some thousand."""

MOST_DOCUMENT_BYTES = 16 * 1024 * 1024
"""Most bytes of a document that is read whole: the list of a very large repository has a few million."""

CONNECT_S = 15.0
"""Seconds in which a server must take a connection."""

IDLE_S = 60.0
"""Seconds in which a server must send something."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({408, 425, 500, 502, 503, 504})


class Web:
    """Asks servers over one pool of connections."""

    def __init__(self, session: aiohttp.ClientSession, plain_http: Collection[str] = ()) -> None:
        """Take the connections, and the hosts (with port) that may be asked without TLS."""
        self._session = session
        self._plain = frozenset(plain_http)

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, plain_http: Collection[str] = (), connect_s: float = CONNECT_S, idle_s: float = IDLE_S
    ) -> AsyncIterator[Web]:
        """Give one whose connections are closed at the end."""
        async with aiohttp.ClientSession(
            trust_env=True,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=MOST_HEADER_BYTES,
            max_field_size=MOST_HEADER_BYTES,
            headers={"User-Agent": f"arbiter/{__version__}", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=idle_s),
        ) as session:
            yield cls(session, plain_http)

    def scheme(self, host: str) -> str:
        """Give the scheme by which a host is asked."""
        return "http" if host in self._plain else "https"

    def may_be_plain(self, url: URL) -> bool:
        """Say whether a server may be asked without TLS."""
        return f"{url.host}:{url.port}" in self._plain or url.host in self._plain

    @asynccontextmanager
    async def answer(  # noqa: PLR0913  the parts of one HTTP question
        self,
        method: str,
        url: str | URL,
        headers: Mapping[str, str] | None = None,
        expected: Collection[int] = (200,),
        *,
        follow: bool = True,
        data: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask, follow redirects, and give an answer of one of the statuses that are expected.

        Raises:
            SourceError: for every other answer, and for none.
        """
        try:
            response = await self._ask(method, URL(url, encoded=True), dict(headers or {}), data, follow=follow)
            async with response:
                if response.status not in expected:
                    raise refusal(response)
                yield response
        except SourceError:
            raise
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError, ValueError) as error:
            raise _broken(error, URL(url, encoded=True)) from error

    async def document(
        self, url: str | URL, headers: Mapping[str, str] | None = None, most: int = MOST_DOCUMENT_BYTES
    ) -> tuple[bytes, Mapping[str, str]]:
        """Give a whole document of bounded size, and its headers."""
        async with self.answer("GET", url, headers) as response:
            return await whole(response, most), response.headers

    async def _ask(
        self, method: str, url: URL, headers: dict[str, str], data: Mapping[str, str] | None, *, follow: bool
    ) -> aiohttp.ClientResponse:
        """Ask, and go where redirects lead."""
        for _ in range(MOST_REDIRECTS + 1):
            if url.scheme == "http" and not self.may_be_plain(url):
                raise SourceError(FailureCode.RedirectRefused, f"{shown(url)} would be asked without TLS")
            response = await self._session.request(method, url, headers=headers, data=data, allow_redirects=False)
            if response.status not in _REDIRECTS or not follow or "Location" not in response.headers:
                return response
            location = response.headers["Location"]
            response.release()
            target = _redirected(url, location)
            if target.origin() != url.origin():
                headers.pop("Authorization", None)
            url = target
        raise SourceError(FailureCode.RedirectRefused, f"{shown(url)} redirects more than {MOST_REDIRECTS} times")


async def whole(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Give a whole body, unless it is larger than it may be."""
    content = bytearray()
    async for piece in response.content.iter_any():
        content += piece
        if len(content) > most:
            raise SourceError(FailureCode.AnswerInvalid, f"{shown(response.url)} answers with more than {most} bytes")
    return bytes(content)


def json_object(content: bytes, of: str) -> dict[str, Any]:
    """Read a JSON object that a server sent.

    Raises:
        SourceError: AnswerInvalid, for anything else.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise SourceError(FailureCode.AnswerInvalid, f"{of} is no JSON object")
    return found


def from_offset(offset: int, condition: str = "") -> dict[str, str]:
    """Give the headers that ask for what lies from an offset on, if it still is what an entity tag names."""
    if not offset:
        return {}
    return {"Range": f"bytes={offset}-"} | ({"If-Range": condition} if condition else {})


def shown(url: URL) -> str:
    """Give an address as messages may show it."""
    return f"{url.scheme}://{url.host}{f':{url.explicit_port}' if url.explicit_port else ''}{url.path}"


def refusal(response: aiohttp.ClientResponse) -> SourceError:
    """Give the failure that an answer stands for."""
    status, where = response.status, shown(response.url)
    said = response.headers.get("X-Error-Message", "") or response.headers.get("X-Error-Code", "")
    why = f": {said[:300]}" if said else ""
    if status in {401, 403, 407}:
        return SourceError(FailureCode.AccessDenied, f"{where} does not let us in (status {status}){why}")
    if status in {404, 410}:
        return SourceError(FailureCode.SourceNotFound, f"{where} does not exist (status {status}){why}")
    if status == 429:
        return SourceError(
            FailureCode.RateLimited,
            f"{where} wants to be asked less often (status 429){why}",
            transient=True,
            retry_after_s=retry_after(response.headers),
        )
    if status in _TRANSIENT:
        return SourceError(
            FailureCode.SourceUnreachable,
            f"{where} failed (status {status}){why}",
            transient=True,
            retry_after_s=retry_after(response.headers),
        )
    return SourceError(FailureCode.SourceRefused, f"{where} answered with status {status}{why}", status=status)


def retry_after(headers: Mapping[str, str]) -> float:
    """Give the seconds of a Retry-After; a date in it counts from the answer's own."""
    said = headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit() and len(said) < 10:
        return float(said)
    try:
        until, now = (email.utils.parsedate_to_datetime(text) for text in (said, headers.get("Date", "")))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _redirected(url: URL, location: str) -> URL:
    """Give where a redirect leads, if it may lead there."""
    try:
        target = url.join(URL(location, encoded=True))
    except ValueError:
        raise SourceError(FailureCode.RedirectRefused, f"{shown(url)} redirects to what is no address") from None
    if target.scheme not in {"http", "https"} or not target.host:
        raise SourceError(FailureCode.RedirectRefused, f"{shown(url)} redirects to what is no web address")
    if url.scheme == "https" and target.scheme == "http":
        raise SourceError(FailureCode.RedirectRefused, f"{shown(url)} redirects to {shown(target)}, without TLS")
    return target


def _broken(error: Exception, url: URL) -> SourceError:
    """Give the failure that an exception of the connection stands for."""
    where = shown(url) if url.host else "the address"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        advice = "the operator's --trust-config-map names the ConfigMap with further authorities"
        return SourceError(FailureCode.SourceRefused, f"{where} cannot be trusted: {error}; {advice}")
    if isinstance(error, aiohttp.ClientResponseError):
        return SourceError(
            FailureCode.AnswerInvalid, f"{where} does not answer as HTTP: {error.message}", transient=True
        )
    if isinstance(error, ValueError):
        return SourceError(FailureCode.AnswerInvalid, f"{where} cannot be asked: {error}")
    said = str(error) or type(error).__name__
    return SourceError(FailureCode.SourceUnreachable, f"{where} cannot be reached: {said}", transient=True)
