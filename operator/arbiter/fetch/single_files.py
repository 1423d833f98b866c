"""Finds out what a file behind an address is, or a file or folder on a mounted claim.

Rule: of an address the given sum is the identity, because what it delivers can change; on a claim the sum is computed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from yarl import URL

from arbiter.fetch.failures import FailureCode, SourceError
from arbiter.fetch.findings import from_config
from arbiter.fetch.images import with_gguf
from arbiter.fetch.pulling import RemoteBlob
from arbiter.fetch.result import Resolved, SourceFile, list_digest, total_size
from arbiter.fetch.web import from_offset

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from typing import BinaryIO

    import aiohttp

    from arbiter.engines.sources import ClaimSource, HttpsSource
    from arbiter.fetch.pulling import Opener
    from arbiter.fetch.web import Web

_MOST_FILES = 10_000
"""Most files of a folder that are read: a repository of weights has some hundred."""

_PIECE = 4 * 1024 * 1024
_LARGEST_CONFIG = 4 * 1024 * 1024


def address(web: Web, source: HttpsSource, token: str) -> Opener:
    """Give what opens the file from an offset on."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = URL(source.uri, encoded=True)

    def opener(offset: int, condition: str = "") -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return web.answer("GET", url, headers | from_offset(offset, condition), (200, 206))

    return opener


async def resolve_https(web: Web, source: HttpsSource, sha256: str, token: str) -> Resolved:
    """Find out what an address delivers."""
    if not sha256:
        raise SourceError(FailureCode.SourceInvalid, "an https:// source needs the file's sha256 sum")
    name = URL(source.uri, encoded=True).name or "file"
    async with RemoteBlob(address(web, source, token)) as blob:
        answer = await blob.open()
        found = Resolved(
            source.uri,
            f"sha256:{sha256}",
            blob.size,
            (SourceFile(name, blob.size, sha256),),
            answer.headers.get("Content-Type", "").partition(";")[0].strip()[:100],
        )
        return await with_gguf(found, blob, name)


async def resolve_claim(source: ClaimSource, mounted: Path) -> Resolved:
    """Find out what lies on a claim; `mounted` is where it is mounted here."""
    uri = source.uri
    try:
        files = await _sums(mounted, source.path)
        place = mounted / source.path
        if not place.is_dir():
            found = Resolved(uri, f"sha256:{files[0].sha256}", files[0].size, files)
            with place.open("rb") as content:
                return await with_gguf(found, _Local(content), place.name)
        found = Resolved(uri, list_digest(files), total_size(files), files)
        config = place / "config.json"
        return _described(found, config) if config.is_file() else found
    except OSError as error:
        raise SourceError(FailureCode.VolumeFailed, f"{uri} cannot be read: {error.strerror or error}") from error


async def sum_of(place: Path) -> str:
    """Compute the sum of one file.

    Raises:
        SourceError: it is not there, or cannot be read.
    """
    stop = threading.Event()
    try:
        found = await asyncio.to_thread(_sum, place, place.name, stop)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise SourceError(FailureCode.FileMissing, f"there is no file {place.name} where it should be") from error
    except OSError as error:
        raise SourceError(FailureCode.VolumeFailed, f"{place} cannot be read: {error.strerror or error}") from error
    finally:
        stop.set()
    return found.sha256


class _Local:
    """A file on this machine as a stream."""

    def __init__(self, content: BinaryIO) -> None:
        """Take the open file."""
        self._content = content

    async def read(self, most: int) -> bytes:
        """Give the next bytes, up to so many; none at the end."""
        return await asyncio.to_thread(self._content.read, most)

    async def skip(self, count: int) -> None:
        """Pass over so many bytes."""
        self._content.seek(count, 1)


async def _sums(mounted: Path, path: str) -> tuple[SourceFile, ...]:
    """Give every file with its sum, computed aside; whoever stops waiting stops that, too."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(_summed, mounted, path, stop)
    finally:
        stop.set()


def _described(found: Resolved, config: Path) -> Resolved:
    """Add what a folder in transformers' form tells."""
    try:
        told = json.loads(config.read_bytes()) if config.stat().st_size <= _LARGEST_CONFIG else None
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        return found.noting("config.json is no JSON object, so nothing was read of it")
    template = config.with_name("chat_template.jinja")
    text = template.read_text(errors="replace")[:_LARGEST_CONFIG] if template.is_file() else ""
    return replace(found, findings=from_config(told, text, [one.name for one in found.files]))


def _summed(mounted: Path, path: str, stop: threading.Event) -> tuple[SourceFile, ...]:
    """Give every file with its sum; links that lead off the claim are refused."""
    root, place = mounted.resolve(), mounted / path
    if not place.exists():
        raise SourceError(FailureCode.FileMissing, f"the claim has no file {path}")
    folder = place.is_dir()
    places = sorted(one for one in place.rglob("*") if one.is_file()) if folder else [place]
    if not places or len(places) > _MOST_FILES:
        raise SourceError(
            FailureCode.FileMissing, f"{path} on the claim has {len(places)} files; 1 to {_MOST_FILES} can be served"
        )
    if outside := next((one for one in places if not one.resolve().is_relative_to(root)), None):
        raise SourceError(FailureCode.SourceInvalid, f"{outside.name} is a link that leads off the claim")
    return tuple(_sum(one, one.relative_to(place).as_posix() if folder else one.name, stop) for one in places)


def _sum(place: Path, name: str, stop: threading.Event) -> SourceFile:
    """Give one file with its sum."""
    if not name.isprintable():
        raise SourceError(FailureCode.SourceInvalid, f"the claim has a file whose name cannot be told: {name!a}")
    digest, size = hashlib.sha256(), 0
    with place.open("rb") as content:
        while not stop.is_set() and (piece := content.read(_PIECE)):
            digest.update(piece)
            size += len(piece)
    return SourceFile(name, size, digest.hexdigest())
