"""Finds one file in a layer of an image while the layer streams by.

Rule: of the layer only the way to the file is read. A layer is a tar archive, whose entries may hide files of the
layers below (https://github.com/opencontainers/image-spec/blob/main/layer.md).
"""

from __future__ import annotations

import tarfile
from enum import Enum
from typing import TYPE_CHECKING

from arbiter.fetch.failures import FailureCode, SourceError
from arbiter.fetch.pulling import exactly

if TYPE_CHECKING:
    from arbiter.fetch.pulling import Stream

_BLOCK = 512
_LONGEST_EXTENSION = 1024 * 1024
"""Most bytes of the names and sizes that stand before an entry."""

_WITHOUT_DATA = frozenset(
    {tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE}
)


class Absent(Enum):
    """Why a layer does not give a file."""

    HERE = "here"
    """It is not in this layer; one below may have it."""

    FOLDER = "folder"
    """It is a folder."""

    HIDDEN = "hidden"
    """This layer hides it, so the image does not have it."""


async def find(stream: Stream, path: str) -> int | Absent:
    """Go to a file's first byte and give its size, or say why it is not there.

    Raises:
        SourceError: for what is no layer, and where the path is a link.
    """
    hiding = _hiding(path)
    hidden = False
    named: dict[str, str] = {}
    while header := await _header(stream):
        if header.type in {tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE}:
            named |= _pax(await _extension(stream, header.size))
            continue
        if header.type == tarfile.GNUTYPE_LONGNAME:
            text = await _extension(stream, header.size)
            named["path"] = text.rstrip(b"\0").decode(errors="surrogateescape")
            continue
        name, size = clean(named.get("path", header.name)), _size(named.get("size"), header)
        if header.type not in {tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK}:
            named = {}
            if name.startswith(f"{path}/") or (name == path and header.isdir()):
                return Absent.FOLDER
            if name == path:
                if not header.isreg() or header.issparse():
                    raise SourceError(FailureCode.FileMissing, f"{path} is in the image, but as no plain file")
                return size
            hidden = hidden or name in hiding
        if header.type not in _WITHOUT_DATA:
            await stream.skip(_padded(size))
    return Absent.HIDDEN if hidden else Absent.HERE


def clean(name: str) -> str:
    """Give a path as it counts from the image's root."""
    return "/".join(part for part in name.split("/") if part not in {"", "."})


def _hiding(path: str) -> frozenset[str]:
    """Give the entries that hide a path: those of it, of its folders, and those that hide all that was in a folder."""
    parts = path.split("/")
    folders = ["/".join(parts[:depth]) for depth in range(len(parts))]
    names = {clean(f"{folder}/.wh.{part}") for folder, part in zip(folders, parts, strict=True)}
    return frozenset(names | {clean(f"{folder}/.wh..wh..opq") for folder in folders})


async def _header(stream: Stream) -> tarfile.TarInfo | None:
    """Read the next entry's header; None at the end."""
    block = await exactly(stream, _BLOCK)
    if not block.strip(b"\0"):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        raise SourceError(FailureCode.AnswerInvalid, f"a layer is no tar archive: {error}") from error


async def _extension(stream: Stream, size: int) -> bytes:
    """Read what stands before an entry about it."""
    if not 0 <= size <= _LONGEST_EXTENSION:
        raise SourceError(FailureCode.AnswerInvalid, f"a layer has {size} bytes about one entry")
    return (await exactly(stream, _padded(size)))[:size]


def _pax(content: bytes) -> dict[str, str]:
    """Read the name and the size out of extended headers, which are lines of `length key=value`."""
    found: dict[str, str] = {}
    while content:
        length, _, _ = content.partition(b" ")
        if not length.isdigit() or len(length) > 8 or not len(length) + 1 < int(length) <= len(content):
            raise SourceError(FailureCode.AnswerInvalid, "a layer has an extended header that cannot be read")
        key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        if key in {b"path", b"size"}:
            found[key.decode()] = value.decode(errors="surrogateescape")
        content = content[int(length) :]
    return found


def _size(said: str | None, header: tarfile.TarInfo) -> int:
    """Give an entry's size; an extended header's wins."""
    size = header.size if said is None else int(said) if said.isascii() and said.isdigit() and len(said) < 19 else -1
    if size < 0:
        raise SourceError(FailureCode.AnswerInvalid, "a layer has an entry of a size that cannot be")
    return size


def _padded(size: int) -> int:
    """Give the bytes that an entry's content takes up."""
    return -(-size // _BLOCK) * _BLOCK
