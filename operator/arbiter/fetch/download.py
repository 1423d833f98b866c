"""Downloads one file: resumed where it broke off, checked before it gets its name.

Rule: what is there already is believed only as far as the sum in the end is right. A server may cut, repeat, ignore
ranges or change its mind; none of that ends in a wrong file, and none of it in an endless loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import aiohttp

from arbiter.fetch.failures import FailureCode, SourceError
from arbiter.fetch.progress import State
from arbiter.fetch.pulling import content_range
from arbiter.fetch.target import Record, Target, disk, on_disk

if TYPE_CHECKING:
    from pathlib import Path

    from arbiter.fetch.progress import Progress
    from arbiter.fetch.pulling import Opener
    from arbiter.fetch.waiting import Pace

ATTEMPTS = 8
"""Attempts in a row that may fail without bringing a byte."""

_PIECE = 1024 * 1024

_MOST_FRUITFUL = 1000
"""Attempts altogether: a server that sends some bytes and cuts, for ever, ends here."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to be downloaded.

    Attributes:
        name: what messages call it.
        opener: opens it from an offset on.
        size: its bytes; None where nobody said.
        sha256: the sum that it must have.
        git_sha1: the sum as git has it, where there is no other.
    """

    name: str
    opener: Opener
    size: int | None = None
    sha256: str = ""
    git_sha1: str = ""

    @property
    def identity(self) -> str:
        """The sum that it must have, with its kind."""
        return f"sha256:{self.sha256}" if self.sha256 else f"gitsha1:{self.git_sha1}"


@dataclass(frozen=True, slots=True)
class _Part:
    """An unfinished part that is being written: what messages call it, where it is, and the open file."""

    name: str
    path: Path
    content: BinaryIO


class _StartAgainError(SourceError):
    """What is there cannot be continued: the server has another file by now, or the part is too long."""


async def download(wanted: Wanted, target: Target, progress: Progress, pace: Pace) -> bool:
    """Have the file under its name, and say whether anything was downloaded for that.

    Raises:
        SourceError: when it cannot be had; what came of it stays for the next time, unless its sum was wrong.
    """
    if not wanted.sha256 and (not wanted.git_sha1 or wanted.size is None):
        raise SourceError(FailureCode.SourceInvalid, f"nothing says which sum {wanted.name} must have")
    if target.is_verified(wanted.identity) or await _is_already(wanted, target, progress):
        progress.jump(target.path.stat().st_size)
        return False
    resumed = await _all_of_it(wanted, target, progress, pace)
    try:
        await _check(wanted, target, progress)
    except SourceError as error:
        if error.code is not FailureCode.SumMismatch or not resumed:
            raise
        # The part may have been damaged when its writer died, so it gets one more chance from the beginning.
        await _all_of_it(wanted, target, progress, pace)
        await _check(wanted, target, progress)
    await on_disk(target.path, lambda: target.finish(wanted.identity))
    return True


async def _is_already(wanted: Wanted, target: Target, progress: Progress) -> bool:
    """Say whether the file under its name is the right one, though nobody wrote that down."""
    if not target.path.is_file() or (wanted.size is not None and target.path.stat().st_size != wanted.size):
        return False
    progress.state = State.CHECKING
    if await _sum(target.path, wanted) != wanted.identity:
        return False
    target.keep(wanted.identity)
    return True


async def _all_of_it(wanted: Wanted, target: Target, progress: Progress, pace: Pace) -> bool:
    """Download until the unfinished part is whole, and say whether a part from before went into it."""
    there, _ = target.unfinished(wanted.identity)
    resumed = there > 0
    progress.jump(there)
    failed = 0
    for _ in range(_MOST_FRUITFUL):
        before = progress.bytes
        try:
            progress.state = State.DOWNLOADING
            await _attempt(wanted, target, progress)
        except _StartAgainError:
            progress.jump(-target.unfinished(wanted.identity)[0])
            target.discard()
            failed += 1
            if failed >= ATTEMPTS:
                raise
        except SourceError as error:
            failed = 1 if progress.bytes > before else failed + 1
            if not error.transient or failed >= ATTEMPTS:
                raise
            progress.state = State.PAUSED
            await pace.sleep(pace.pause(failed, error))
        else:
            return resumed
    raise SourceError(FailureCode.SourceUnreachable, f"{wanted.name} broke off {_MOST_FRUITFUL} times", transient=True)


async def _attempt(wanted: Wanted, target: Target, progress: Progress) -> None:
    """Ask for what is missing, and write what comes."""
    there, validator = target.unfinished(wanted.identity)
    if wanted.size is not None and there == wanted.size:
        return
    if wanted.size is not None and there > wanted.size:
        raise _StartAgainError(FailureCode.AnswerInvalid, f"more of {wanted.name} is there than it has", transient=True)
    try:
        async with wanted.opener(there, validator) as answer:
            await _receive(answer, there, wanted, target, progress)
    except SourceError as error:
        if there and error.status == 416:
            raise _StartAgainError(FailureCode.AnswerInvalid, str(error), transient=True) from error
        raise


async def _receive(
    answer: aiohttp.ClientResponse, there: int, wanted: Wanted, target: Target, progress: Progress
) -> None:
    """Write what an answer brings behind what is there, or in its place where the server begins anew."""
    start, total = content_range(answer)
    size = wanted.size if wanted.size is not None else total
    if total is not None and total != size:
        raise SourceError(
            FailureCode.SumMismatch, f"{wanted.name} has {total} bytes at its source, not {size} as it should"
        )
    if start not in {0, there}:
        raise _StartAgainError(
            FailureCode.AnswerInvalid, f"the server gives another range of {wanted.name}", transient=True
        )
    if start < there:
        progress.jump(-there)
    if size is not None:
        progress.total = size if progress.total is None else progress.total
        target.need(size - there)  # what is there is continued, or makes room
    target.begin(Record(wanted.identity, size, _strong(answer.headers.get("ETag", ""))))
    with disk(target.partial):
        content = target.partial.open("r+b" if start else "wb")
    with content:
        content.seek(start)
        part = _Part(wanted.name, target.partial, content)
        try:
            await _write(answer, part, None if size is None else size - start, progress)
        finally:
            await on_disk(target.partial, lambda: _flush(content))
    if size is not None and target.partial.stat().st_size < size:
        raise SourceError(FailureCode.SourceUnreachable, f"{wanted.name} broke off", transient=True)


async def _write(answer: aiohttp.ClientResponse, part: _Part, left: int | None, progress: Progress) -> None:
    """Write a body, and no byte more than there should be."""
    while piece := await _next_piece(answer):
        if left is not None and (left := left - len(piece)) < 0:
            raise _StartAgainError(
                FailureCode.AnswerInvalid, f"the server sends more of {part.name} than it has", transient=True
            )
        await on_disk(part.path, partial(part.content.write, piece))
        progress.add(len(piece))


async def _next_piece(answer: aiohttp.ClientResponse) -> bytes:
    """Give the next bytes, gathered so that a write is worth its while."""
    gathered = bytearray()
    try:
        while len(gathered) < _PIECE and (piece := await answer.content.read(_PIECE - len(gathered))):
            gathered += piece
    except (aiohttp.ClientError, TimeoutError):
        if not gathered:
            raise  # else the next call meets it again, and what came is kept
    return bytes(gathered)


def _flush(content: BinaryIO) -> None:
    """Have what was written on the disk."""
    content.flush()
    os.fsync(content.fileno())


async def _check(wanted: Wanted, target: Target, progress: Progress) -> None:
    """Compute the sum of the whole part; a wrong one removes it.

    Raises:
        SourceError: SumMismatch.
    """
    progress.state = State.CHECKING
    found = await _sum(target.partial, wanted)
    if found != wanted.identity:
        progress.jump(-target.partial.stat().st_size)
        target.discard()
        raise SourceError(
            FailureCode.SumMismatch,
            f"{wanted.name} has the sum {found}, not {wanted.identity} as it should; what was downloaded is removed",
        )


async def _sum(path: os.PathLike[str], wanted: Wanted) -> str:
    """Give a file's sum in the form in which the wanted one is given."""
    stop = False

    def compute() -> str:
        with open(path, "rb") as content:  # noqa: PTH123  any path
            size = os.fstat(content.fileno()).st_size
            digest = hashlib.sha256() if wanted.sha256 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
            while not stop and (piece := content.read(_PIECE)):
                digest.update(piece)
            return f"{'sha256' if wanted.sha256 else 'gitsha1'}:{digest.hexdigest()}"

    try:
        return await asyncio.to_thread(compute)
    except OSError as error:
        raise SourceError(FailureCode.VolumeFailed, f"{path} cannot be read: {error.strerror}") from error
    finally:
        stop = True  # ends the thread when we are cancelled


def _strong(tag: str) -> str:
    """Give an entity tag that a range may depend on; weak ones may not."""
    return tag if tag.startswith('"') and tag.isprintable() and len(tag) < 300 else ""
