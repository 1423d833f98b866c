"""`arbiter carry`: brings a resolved model to this pod and makes it in an Ollama server that cannot pull it itself.

Rule: nothing is made of what has not the sum that it must have, and what the server has already is not sent again. A
failure is the container's last words, `Code: sentence`, whoever caused it.
"""

from __future__ import annotations

import asyncio
import random  # noqa: TID251  pauses are drawn here, at the edge
import shutil
import signal
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from arbiter.engines.ollama_calls import Ingredients
from arbiter.engines.sources import ClaimSource, OllamaSource
from arbiter.fetch.download import ATTEMPTS, Wanted, download
from arbiter.fetch.failures import FailureCode, SourceError
from arbiter.fetch.fetch import STOPPED, FetchOptions, fetch, leave
from arbiter.fetch.giving import File, Giving
from arbiter.fetch.images import hex_digits
from arbiter.fetch.library_parts import file_layers, manifest_by, texts_of
from arbiter.fetch.progress import Progress, State, told
from arbiter.fetch.resolve import SHA256
from arbiter.fetch.result import one_line
from arbiter.fetch.single_files import sum_of
from arbiter.fetch.sources import parse
from arbiter.fetch.target import Target, disk, locked
from arbiter.fetch.waiting import Pace, within
from arbiter.fetch.web import CONNECT_S, Web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from arbiter.fetch.images import Layer


@dataclass(frozen=True, slots=True)
class CarryOptions:
    """What `arbiter carry` is told.

    Attributes:
        fetching: what is brought, from where, with which rights; its target is a folder of our own.
        engine: base address of the server.
        model: the name that the model gets there.
        options: the runner options that it is made with.
        mounted: the file, where it need not be brought; None where it must be.
    """

    fetching: FetchOptions
    engine: str
    model: str
    options: Mapping[str, object] = field(default_factory=dict)
    mounted: Path | None = None


def run(options: CarryOptions) -> int:
    """Carry, and give the exit code: 0 made, 1 failed, 143 told to end."""
    log = options.fetching.termination_log
    try:
        done = asyncio.run(_until_told(options))
    except SourceError as error:
        message = f"{error.code}: {one_line(str(error))}"
        print(f"arbiter: {message}", file=sys.stderr)  # noqa: T201  the container's log
        leave(log, message)
        return 1
    if not done:
        message = f"told to end; what came of {options.fetching.source} stays for the next time"
        print(f"arbiter: {message}", file=sys.stderr)  # noqa: T201  as above
        leave(log, message)
        return STOPPED
    print(f"{options.fetching.source}: made as {options.model}")  # noqa: T201  as above
    return 0


async def carry(options: CarryOptions, progress: Progress, pace: Pace) -> None:
    """Have the model made in the server.

    Raises:
        SourceError: when that is not possible.
    """
    fetching = options.fetching
    if fetching.sha256 and not SHA256.fullmatch(fetching.sha256):
        raise SourceError(FailureCode.SourceInvalid, f"{fetching.sha256!r} is no sha256 sum: 64 hexadecimal digits")
    try:
        async with told(progress, fetching.progress_host, fetching.progress_port):
            if options.mounted is not None:
                await _give(options, Ingredients({"model.gguf": ""}), [options.mounted], progress, pace)
                return
            await _carried(options, progress, pace)
    except SourceError:
        progress.state = State.FAILED
        raise


async def _carried(options: CarryOptions, progress: Progress, pace: Pace) -> None:
    """Bring it, give it and take away what was brought, which nobody needs any more."""
    fetching = options.fetching

    def waiting() -> None:
        progress.state = State.WAITING
        print(f"another one carries {fetching.source}; waiting for it", flush=True)  # noqa: T201  the container's log

    try:
        async with asyncio.timeout(fetching.total_s), locked(fetching.to, waiting, pace.sleep):
            if isinstance(source := parse(fetching.source), OllamaSource):
                made_of, files = await _from_library(options, source, progress, pace)
            else:
                file = fetching.to / "model.gguf"
                await fetch(replace(fetching, to=file, progress_port=None), progress, pace)
                made_of, files = Ingredients({file.name: fetching.sha256}), [file]
            await _give(options, made_of, files, progress, pace)
            await asyncio.to_thread(shutil.rmtree, fetching.to, ignore_errors=True)
    except TimeoutError:
        raise SourceError(
            FailureCode.DeadlinePassed,
            f"{fetching.source} was not carried within {fetching.total_s:g} s",
            transient=True,
        ) from None


async def _from_library(
    options: CarryOptions, source: OllamaSource, progress: Progress, pace: Pace
) -> tuple[Ingredients, Sequence[Path]]:
    """Bring all that an Ollama library has of a model."""
    fetching = options.fetching
    progress.state = State.RESOLVING
    async with Web.opened(fetching.access.plain_http, CONNECT_S, fetching.idle_s) as web:
        registry = fetching.access.registry(web, source)
        manifest = await within(
            fetching.resolve_s, pace, lambda: manifest_by(registry, source.tag, fetching.digest, source.uri)
        )
        texts = await within(fetching.resolve_s, pace, lambda: texts_of(registry, manifest))
        weights, adapters = file_layers(manifest, registry.named)
        if fetching.sha256 and fetching.sha256 != hex_digits(weights[0].digest):
            raise SourceError(
                FailureCode.SumMismatch,
                f"the file has the sum {hex_digits(weights[0].digest)}, not {fetching.sha256} as it should",
            )
        progress.total = sum(layer.size for layer in (*weights, *adapters))
        with disk(fetching.to):
            fetching.to.mkdir(parents=True, exist_ok=True)
        files = []
        for layer in (*weights, *adapters):
            target = Target(fetching.to / f"{hex_digits(layer.digest)}.gguf")
            name = layer.media_type.rpartition(".")[2]
            wanted = Wanted(f"{source.uri} ({name})", registry.blob(layer.digest), layer.size, hex_digits(layer.digest))
            await download(wanted, target, progress, pace)
            files.append(target.path)
    made_of = Ingredients(
        _named("model", weights),
        _named("adapter", adapters),
        texts.template,
        texts.system,
        texts.licenses,
        texts.messages,
        texts.parameters,
        texts.formats,
    )
    return made_of, files


def _named(what: str, layers: Sequence[Layer]) -> dict[str, str]:
    return {f"{what}-{number}.gguf": hex_digits(layer.digest) for number, layer in enumerate(layers)}


async def _give(
    options: CarryOptions, made_of: Ingredients, paths: Sequence[Path], progress: Progress, pace: Pace
) -> None:
    """Send the files, in the order of the ingredients, and have the model made of them."""
    sums = [*made_of.files.values(), *made_of.adapters.values()]
    progress.state = State.CHECKING
    files = [File(path, known or await sum_of(path)) for path, known in zip(paths, sums, strict=True)]
    wanted = options.fetching.sha256
    if wanted and files[0].sha256 != wanted:
        raise SourceError(
            FailureCode.SumMismatch,
            f"the file of {options.fetching.source} has the sum {files[0].sha256}, not {wanted}",
        )
    moved = isinstance(parse(options.fetching.source), ClaimSource) and hex_digits(options.fetching.digest)
    if moved and files[0].sha256 != moved:
        raise SourceError(
            FailureCode.SourceMoved,
            f"{options.fetching.source} was resolved to the sum {moved} and has {files[0].sha256} by now",
        )
    if len(files) == 1:
        made_of = replace(made_of, files=dict.fromkeys(made_of.files, files[0].sha256))
    # What was downloaded is counted already; what was mounted is counted while it is sent.
    counts = options.mounted is not None
    if counts:
        progress.total = sum(file.size for file in files)
    async with Giving.opened(options.engine) as giving:
        progress.state = State.GIVING
        for file in files:
            await _patiently(pace, partial(giving.send, file, progress if counts else None))
        await _patiently(pace, partial(giving.make, options.model, made_of, options.options))
    progress.state = State.DONE


async def _patiently(pace: Pace, attempt: Callable[[], Awaitable[None]]) -> None:
    """Make attempts at what a server has to do that may be starting anew."""
    for failed in range(1, ATTEMPTS + 1):
        try:
            await attempt()
        except SourceError as error:
            if not error.transient or failed == ATTEMPTS:
                raise
            await pace.sleep(pace.pause(failed, error))
        else:
            return


async def _until_told(options: CarryOptions) -> bool:
    """Carry until it is done or SIGTERM comes; False then."""
    loop = asyncio.get_running_loop()
    work = asyncio.ensure_future(carry(options, Progress(loop.time), Pace(random.random)))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        return False
    return True
