"""Asks a registry of images for manifests and blobs, as the OCI distribution specification has it.

Rule: what is named by a digest is checked against it, and whoever asks for who we are is told only over a connection
that nobody else reads. Ollama's library speaks the same protocol.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yarl import URL

from arbiter.fetch.docker_config import DOCKER_HUB
from arbiter.fetch.failures import FailureCode, SourceError
from arbiter.fetch.web import from_offset, json_object, refusal, whole

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping
    from contextlib import AbstractAsyncContextManager

    import aiohttp

    from arbiter.fetch.docker_config import Login
    from arbiter.fetch.pulling import Opener
    from arbiter.fetch.web import Web

INDEXES = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
"""Kinds of manifests that list others, one for each platform."""

MANIFESTS = frozenset(
    {"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"}
)
"""Kinds of manifests of one image."""

MOST_MANIFEST_BYTES = 4 * 1024 * 1024
"""Most bytes of a manifest or a config, which is what registries themselves allow."""

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index as it came.

    Attributes:
        digest: the sum over its bytes.
        media_type: its kind.
        content: its JSON.
    """

    digest: str
    media_type: str
    content: Mapping[str, Any]


class Registry:
    """One repository of a registry."""

    def __init__(self, web: Web, host: str, repository: str, login: Login | None) -> None:
        """Take what asks, and who we are there."""
        self._web = web
        self._login = login
        self._authorization = f"Bearer {login.registry_token}" if login and login.registry_token else ""
        if host == DOCKER_HUB:
            host, repository = "registry-1.docker.io", repository if "/" in repository else f"library/{repository}"
        self._scope = f"repository:{repository}:pull"
        self._root = f"{web.scheme(host)}://{host}/v2/{repository}"
        self.named = f"{host}/{repository}"

    async def manifest(self, reference: str) -> Manifest:
        """Give the manifest of a tag or digest."""
        accept = {"Accept": ", ".join(sorted(MANIFESTS | INDEXES))}
        async with self.ask("GET", f"/manifests/{reference}", accept) as answer:
            body = await whole(answer, MOST_MANIFEST_BYTES)
            header = answer.headers
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        said = header.get("Docker-Content-Digest", digest)
        wanted = reference if reference.startswith("sha256:") else digest
        if wanted != digest or (said.startswith("sha256:") and said != digest):
            raise SourceError(
                FailureCode.SumMismatch, f"the manifest of {self.named} is not the one that {wanted} names"
            )
        content = json_object(body, f"the manifest of {self.named}")
        kind = content.get("mediaType") or header.get("Content-Type", "").partition(";")[0].strip()
        return Manifest(digest, str(kind), content)

    async def small_blob(self, digest: str) -> bytes:
        """Give a small blob, checked."""
        async with self.ask("GET", f"/blobs/{digest}", {}) as answer:
            body = await whole(answer, MOST_MANIFEST_BYTES)
        if f"sha256:{hashlib.sha256(body).hexdigest()}" != digest:
            raise SourceError(FailureCode.SumMismatch, f"a blob of {self.named} is not the one that {digest} names")
        return body

    def blob(self, digest: str) -> Opener:
        """Give what opens a blob from an offset on."""

        def opener(offset: int, condition: str = "") -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
            return self.ask("GET", f"/blobs/{digest}", from_offset(offset, condition), (200, 206))

        return opener

    @asynccontextmanager
    async def ask(
        self, method: str, path: str, headers: Mapping[str, str], expected: Collection[int] = (200,)
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask below the repository, and say who we are when we are asked."""
        url = self._root + path
        for again in (False, True):
            sent = {**headers, "Authorization": self._authorization} if self._authorization else headers
            async with self._web.answer(method, url, sent, {*expected, 401}) as answer:
                if answer.status != 401:
                    yield answer
                    return
                if again or answer.url.origin() != URL(url).origin():
                    raise refusal(answer)
                challenges = answer.headers.getall("WWW-Authenticate", [])
                denied = refusal(answer)
            self._authorization = await self._answer_to(challenges, denied)

    async def _answer_to(self, challenges: list[str], denied: SourceError) -> str:
        """Give what a registry wants to see."""
        for challenge in challenges:
            scheme, _, rest = challenge.partition(" ")
            if scheme.lower() == "bearer":
                return f"Bearer {await self._token(dict(_PARAMETER.findall(rest)), denied)}"
        if any(challenge.lower().startswith("basic") for challenge in challenges) and self._login and self._login.basic:
            return self._login.basic
        raise denied

    async def _token(self, challenge: Mapping[str, str], denied: SourceError) -> str:
        """Get a token from the server that the registry names."""
        realm = URL(challenge.get("realm", ""))
        if not realm.host or (self._root.startswith("https:") and realm.scheme != "https"):
            raise denied
        asked = {"service": challenge.get("service", ""), "scope": challenge.get("scope", "") or self._scope}
        if self._login and self._login.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": self._login.identity_token, "client_id": "arbiter"}
            # A redirect would carry the form along, so none is followed.
            asking = self._web.answer("POST", realm, data=asked | form, follow=False)
        else:
            basic = self._login.basic if self._login else ""
            asking = self._web.answer("GET", realm.update_query(asked), {"Authorization": basic} if basic else {})
        async with asking as answer:
            told = json_object(await whole(answer, MOST_MANIFEST_BYTES), f"the token for {self.named}")
        token = str(told.get("token") or told.get("access_token") or "")
        if not _TOKEN.fullmatch(token):
            raise SourceError(FailureCode.AnswerInvalid, f"{realm.host} gives no token for {self.named}")
        return token
