"""`arbiter resolve`: finds out what a source is right now, and writes it as the container's termination message.

Rule: a source that cannot be resolved is a result like any other. The command fails only when it could write none.
"""

from __future__ import annotations

import asyncio
import os
import random  # noqa: TID251  pauses are drawn here, at the edge
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arbiter.engines.sources import ClaimSource, HttpsSource, HubSource, OciSource, OllamaSource
from arbiter.fetch.docker_config import login_for, read_logins
from arbiter.fetch.failures import FailureCode, SourceError
from arbiter.fetch.hub import ENDPOINT, resolve_hub
from arbiter.fetch.images import resolve_image, this_architecture
from arbiter.fetch.ollama_library import resolve_ollama
from arbiter.fetch.registry import Registry
from arbiter.fetch.result import Resolved, failure, success
from arbiter.fetch.single_files import resolve_claim, resolve_https
from arbiter.fetch.sources import parse, registry_of
from arbiter.fetch.waiting import Pace, within
from arbiter.fetch.web import Web

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from arbiter.fetch.sources import Fetchable

SHA256 = re.compile(r"[0-9a-f]{64}")
"""A sum as a LocalModel has it."""

_LONGEST_TOKEN = 4096


@dataclass(frozen=True, slots=True)
class Access:
    """What lets us in, and where TLS is not asked for.

    Attributes:
        docker_config: a file as `docker login` writes it.
        token_file: a file with a bearer token.
        plain_http: hosts, with their port, that are asked without TLS.
        hub: the model hub's address.
    """

    docker_config: Path | None = None
    token_file: Path | None = None
    plain_http: Sequence[str] = ()
    hub: str = ENDPOINT

    def token(self) -> str:
        """Give the bearer token; empty without.

        Raises:
            SourceError: AccessDenied, when it cannot be read or is none.
        """
        if self.token_file is None:
            return ""
        try:
            token = self.token_file.read_text().strip()
        except FileNotFoundError as error:
            missing = "the pull secret is missing, or has no key token"
            raise SourceError(FailureCode.AccessDenied, missing) from error
        except (OSError, ValueError) as error:
            raise SourceError(FailureCode.AccessDenied, f"the token cannot be read: {error}") from error
        if not token or len(token) > _LONGEST_TOKEN or not token.isascii() or not token.isprintable():
            raise SourceError(FailureCode.AccessDenied, "the pull secret's token is empty or cannot be one")
        return token

    def registry(self, web: Web, source: OciSource | OllamaSource) -> Registry:
        """Give the repository of a source, and say who we are there."""
        host, repository = registry_of(source)
        return Registry(web, host, repository, login_for(read_logins(self.docker_config), host, repository))


@dataclass(frozen=True, slots=True)
class ResolveOptions:
    """What `arbiter resolve` is told.

    Attributes:
        source: what is to be resolved.
        sha256: the sum that the file must have; empty: any.
        access: what lets us in.
        mounted: where the claim of a pvc source is mounted.
        architecture: of the platform whose image is read.
        deadline_s: seconds in which a result must be there.
        termination_log: the file that the kubelet reads.
    """

    source: str
    sha256: str = ""
    access: Access = field(default_factory=Access)
    mounted: Path | None = None
    architecture: str = ""
    deadline_s: float = 300.0
    termination_log: Path | None = None


def run(options: ResolveOptions) -> int:
    """Resolve, write the result, and give the exit code."""
    text = asyncio.run(result(options, Pace(random.random)))
    print(text)  # noqa: T201  the container's log
    if options.termination_log is not None:
        try:
            options.termination_log.write_text(text, encoding="utf-8")
        except OSError:
            return 1
    return 0


async def result(options: ResolveOptions, pace: Pace) -> str:
    """Give the result as JSON, whatever it is."""
    try:
        found = await within(options.deadline_s, pace, lambda: resolve(options))
    except SourceError as error:
        return failure(error)
    return success(found)


async def resolve(options: ResolveOptions) -> Resolved:
    """Find out once what a source is.

    Raises:
        SourceError: when that is not possible now.
    """
    source, access = parse(options.source), options.access
    if options.sha256 and not SHA256.fullmatch(options.sha256):
        raise SourceError(FailureCode.SourceInvalid, f"{options.sha256!r} is no sha256 sum: 64 hexadecimal digits")
    found = await _found(source, options, access)
    if options.sha256 and not isinstance(source, HttpsSource):
        return _check(found, options.sha256)
    return found


async def _found(source: Fetchable, options: ResolveOptions, access: Access) -> Resolved:
    """Ask whoever knows about a source of its form."""
    if isinstance(source, ClaimSource):
        if options.mounted is None:
            raise SourceError(FailureCode.SourceInvalid, "a pvc:// source needs the claim mounted: give --mounted")
        return await resolve_claim(source, options.mounted)
    async with Web.opened(access.plain_http) as web:
        if isinstance(source, OciSource):
            architecture = options.architecture or this_architecture()
            return await resolve_image(access.registry(web, source), source, architecture)
        if isinstance(source, OllamaSource):
            return await resolve_ollama(access.registry(web, source), source)
        if isinstance(source, HubSource):
            return await resolve_hub(web, source, access.hub, access.token())
        return await resolve_https(web, source, options.sha256, access.token())


def _check(found: Resolved, sha256: str) -> Resolved:
    """Refuse a source of one file whose sum is known to be another."""
    known = found.files[0].sha256 if len(found.files) == 1 else ""
    if not known:
        return found.noting("nothing says the file's sum without reading all of it, so sha256 was not compared")
    if known != sha256:
        raise SourceError(FailureCode.SumMismatch, f"the file has the sha256 sum {known}, not {sha256} as it should")
    return found


def hub_address() -> str:
    """Give the hub that the environment names, as the hub's own tools read it."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or ENDPOINT
