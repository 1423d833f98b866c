"""`arbiter fetch`: brings the files of a resolved source to a volume, and tells how far it is.

Rule: it brings what was resolved or nothing. A source that means something else by now is refused, and the message says
so; the newest content is for a new revision, which the operator decides about.
"""

from __future__ import annotations

import asyncio
import random  # noqa: TID251  pauses are drawn here, at the edge
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arbiter.engines.sources import ClaimSource, HttpsSource, HubSource, OciSource, OllamaSource
from arbiter.fetch.download import Wanted, download
from arbiter.fetch.failures import FailureCode, SourceError
from arbiter.fetch.hub import Hub, digest_of
from arbiter.fetch.images import hex_digits, layers_of, manifest_of, raw_layer, this_architecture
from arbiter.fetch.ollama_library import model_layer
from arbiter.fetch.progress import Progress, State, told
from arbiter.fetch.resolve import SHA256, Access
from arbiter.fetch.result import one_line
from arbiter.fetch.single_files import address
from arbiter.fetch.sources import parse
from arbiter.fetch.target import Shelf, disk, locked
from arbiter.fetch.waiting import Pace, within
from arbiter.fetch.web import CONNECT_S, IDLE_S, Web

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from arbiter.fetch.registry import Manifest
    from arbiter.fetch.sources import Fetchable

STOPPED = 143
"""The exit code of a download that was told to end: 128 and the number of SIGTERM."""


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """What `arbiter fetch` is told.

    Attributes:
        source: what is to be fetched, as the resolver gave it back.
        digest: what it resolved to.
        to: the file that it is to be, or the folder for several.
        sha256: the sum that the file must have; empty: as the source says.
        access: what lets us in.
        progress_host: the address at which progress is told.
        progress_port: the port; None: nobody is told, 0: any.
        total_s: seconds that all of it may take.
        idle_s: seconds in which a server must send something.
        resolve_s: seconds in which the source must say what it is.
        termination_log: the file that the kubelet reads.
    """

    source: str
    digest: str
    to: Path
    sha256: str = ""
    access: Access = field(default_factory=Access)
    progress_host: str = "0.0.0.0"  # noqa: S104  the operator asks from outside of the pod
    progress_port: int | None = 9093
    total_s: float = 12 * 3600.0
    idle_s: float = IDLE_S
    resolve_s: float = 300.0
    termination_log: Path | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch ended with.

    Attributes:
        files: how many files there are now.
        downloaded: how many of them were not there before.
        size: their bytes.
    """

    files: int
    downloaded: int
    size: int


def run(options: FetchOptions) -> int:
    """Fetch, and give the exit code: 0 there, 1 failed, 143 told to end."""
    try:
        done = asyncio.run(_until_told(options))
    except SourceError as error:
        message = f"{error.code}: {one_line(str(error))}"
        print(f"arbiter: {message}", file=sys.stderr)  # noqa: T201  the container's log
        leave(options.termination_log, message)
        return 1
    if done is None:
        message = f"told to end; what came of {options.source} stays for the next time"
        print(f"arbiter: {message}", file=sys.stderr)  # noqa: T201  as above
        leave(options.termination_log, message)
        return STOPPED
    how = f"{done.downloaded} downloaded" if done.downloaded else "all there before"
    print(f"{options.source}: {done.files} files, {done.size} bytes in {options.to}, {how}")  # noqa: T201  as above
    return 0


async def fetch(options: FetchOptions, progress: Progress, pace: Pace) -> Fetched:
    """Have the source's files at the target.

    Raises:
        SourceError: when that is not possible.
    """
    source = parse(options.source)
    if options.sha256 and not SHA256.fullmatch(options.sha256):
        raise SourceError(FailureCode.SourceInvalid, f"{options.sha256!r} is no sha256 sum: 64 hexadecimal digits")
    if isinstance(source, ClaimSource):
        raise SourceError(FailureCode.SourceInvalid, "a pvc:// source is on the cluster already: mount its claim")
    try:
        async with told(progress, options.progress_host, options.progress_port):
            return await _alone(options, source, progress, pace)
    except SourceError:
        progress.state = State.FAILED
        raise


async def _alone(options: FetchOptions, source: Fetchable, progress: Progress, pace: Pace) -> Fetched:
    """Fetch once nobody else fetches the same, within the time there is."""

    def waiting() -> None:
        progress.state = State.WAITING
        print(f"another one fetches to {options.to}; waiting for it", flush=True)  # noqa: T201  the container's log

    try:
        async with asyncio.timeout(options.total_s), locked(options.to, waiting, pace.sleep):
            shelf = Shelf(options.to)
            if (there := shelf.there(options.digest)) is not None and _sum_fits(options, there):
                size = shelf.size(there)
                progress.jump(size)
                progress.total, progress.state = size, State.DONE
                return Fetched(len(there), 0, size)
            async with Web.opened(options.access.plain_http, CONNECT_S, options.idle_s) as web:
                return await _held(options, source, web, progress, pace)
    except TimeoutError:
        raise SourceError(
            FailureCode.DeadlinePassed, f"{options.source} was not there within {options.total_s:g} s", transient=True
        ) from None


async def _held(options: FetchOptions, source: Fetchable, web: Web, progress: Progress, pace: Pace) -> Fetched:
    """Fetch while nobody else does."""
    progress.state = State.RESOLVING
    wanted = await within(options.resolve_s, pace, lambda: _wanted(options, source, web))
    sizes = [one.size for one in wanted]
    progress.total = None if None in sizes else sum(size or 0 for size in sizes)
    folder = len(wanted) > 1 or (isinstance(source, HubSource) and not source.path)
    shelf, downloaded = Shelf(options.to), 0
    for one in wanted:
        target = shelf.target(one.name if folder else "")
        with disk(target.path):
            target.path.parent.mkdir(parents=True, exist_ok=True)
        downloaded += await download(one, target, progress, pace)
    shelf.keep(options.digest, {one.name if folder else "": one.identity for one in wanted})
    progress.state = State.DONE
    return Fetched(len(wanted), downloaded, progress.bytes)


def _sum_fits(options: FetchOptions, there: Mapping[str, str]) -> bool:
    """Say whether what is there has the sum that is asked for, if one is."""
    return not options.sha256 or list(there.values()) == [f"sha256:{options.sha256}"]


async def _wanted(options: FetchOptions, source: Fetchable, web: Web) -> Sequence[Wanted]:
    """Ask what the source's files are, and refuse what is not the one that was resolved."""
    access = options.access
    if isinstance(source, HttpsSource):
        sha256 = options.sha256 or hex_digits(options.digest)
        return [Wanted(source.uri.partition("?")[0], address(web, source, access.token()), None, sha256)]
    if isinstance(source, HubSource):
        hub = await Hub.at(web, source, access.hub, access.token())
        files = await hub.wanted()
        if digest_of(files) != options.digest:
            raise _moved(options, digest_of(files))
        _of_one_file(options, files[0].sha256 if len(files) == 1 else "")
        return [
            Wanted(one.name, hub.file(one.name), one.size, one.sha256 or options.sha256, one.git_sha1) for one in files
        ]
    if isinstance(source, OllamaSource):
        registry = access.registry(web, source)
        manifest = await registry.manifest(source.tag)
        _same(options, manifest)
        layer = model_layer(layers_of(manifest), registry.named)
    elif isinstance(source, OciSource):
        registry = access.registry(web, source)
        named, manifest = await manifest_of(registry, source, this_architecture(), options.digest)
        _same(options, named)
        found = raw_layer(layers_of(manifest), source.path)
        if found is None:
            raise SourceError(
                FailureCode.SourceInvalid, f"{registry.named} is an image with layers of archives: mount it as a volume"
            )
        layer = found
    else:
        raise SourceError(FailureCode.SourceInvalid, "the claim is mounted, not fetched")
    _of_one_file(options, hex_digits(layer.digest))
    return [Wanted(layer.title or options.source, registry.blob(layer.digest), layer.size, hex_digits(layer.digest))]


def _of_one_file(options: FetchOptions, sha256: str) -> None:
    """Refuse a file that is known to be another than the one whose sum is given."""
    if options.sha256 and sha256 and options.sha256 != sha256:
        raise SourceError(FailureCode.SumMismatch, f"the file has the sum {sha256}, not {options.sha256} as it should")


def _same(options: FetchOptions, manifest: Manifest) -> None:
    """Refuse a manifest that is not the one that was resolved."""
    if manifest.digest != options.digest:
        raise _moved(options, manifest.digest)


def _moved(options: FetchOptions, digest: str) -> SourceError:
    """Give the failure of a source that means something else by now."""
    return SourceError(
        FailureCode.SourceMoved, f"{options.source} was resolved to {options.digest} and is {digest} by now"
    )


async def _until_told(options: FetchOptions) -> Fetched | None:
    """Fetch until it is done or SIGTERM comes; None then."""
    loop = asyncio.get_running_loop()
    work = asyncio.ensure_future(fetch(options, Progress(loop.time), Pace(random.random)))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    try:
        return await work
    except asyncio.CancelledError:
        return None


def leave(log: Path | None, message: str) -> None:
    """Leave a message where the kubelet looks for it; without such a file there is nobody to tell."""
    if log is not None:
        try:
            log.write_text(message + "\n", encoding="utf-8", errors="replace")
        except OSError as error:
            print(f"arbiter: {log} cannot be written: {error}", file=sys.stderr)  # noqa: T201  the container's log
