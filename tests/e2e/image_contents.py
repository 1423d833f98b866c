"""Reads an image archive: its configuration, and the files that a container sees."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_GONE = ".wh."
"""Begins the name of a file that says that the one named after it is gone (OCI image specification, layers)."""

_EMPTIED = ".wh..wh..opq"
"""Says that what layers below have in this directory is gone."""


@dataclass(frozen=True)
class Contents:
    """What is in one image.

    Attributes:
        configuration: what is run, by whom, with which variables.
        files: every file, directory and link by its path from the root.
        archive: where it was read from.
    """

    configuration: Mapping[str, Any]
    files: Mapping[PurePosixPath, tuple[str, tarfile.TarInfo]]
    archive: Path

    def read(self, path: str) -> bytes:
        """Give a file's content."""
        blob, entry = self.files[PurePosixPath(path)]
        with tarfile.open(self.archive) as archive, _layer(archive, blob) as layer:
            member = layer.extractfile(entry.name)
            assert member is not None
            return member.read()

    def digest(self, path: str) -> str:
        """Give a file's SHA-256."""
        return hashlib.sha256(self.read(path)).hexdigest()


def read(path: Path) -> Contents:
    """Read the one image of an archive."""
    with tarfile.open(path) as archive:
        document = _json(archive, "index.json")
        while "layers" not in document:  # an index may name another one
            document = _blob(archive, document["manifests"][0]["digest"])
        configuration = _blob(archive, document["config"]["digest"])["config"]
        files: dict[PurePosixPath, tuple[str, tarfile.TarInfo]] = {}
        for described in document["layers"]:
            with _layer(archive, described["digest"]) as layer:
                _apply(layer.getmembers(), described["digest"], files)
    return Contents(configuration, files, path)


def _apply(entries: list[tarfile.TarInfo], blob: str, files: dict[PurePosixPath, tuple[str, tarfile.TarInfo]]) -> None:
    """Put one layer onto those below it."""
    paths = [PurePosixPath("/", entry.name) for entry in entries]
    for path in paths:
        if path.name == _EMPTIED:
            _remove(files, path.parent, itself=False)
        elif path.name.startswith(_GONE):
            _remove(files, path.with_name(path.name.removeprefix(_GONE)), itself=True)
    files.update(
        (path, (blob, entry)) for path, entry in zip(paths, entries, strict=True) if not path.name.startswith(_GONE)
    )


def _remove(files: dict[PurePosixPath, Any], path: PurePosixPath, *, itself: bool) -> None:
    for found in [found for found in files if path in found.parents or (itself and found == path)]:
        del files[found]


def _layer(archive: tarfile.TarFile, digest: str) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(_bytes(archive, _place(digest))))


def _blob(archive: tarfile.TarFile, digest: str) -> dict[str, Any]:
    return _json(archive, _place(digest))


def _place(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(archive: tarfile.TarFile, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_bytes(archive, name))
    return document


def _bytes(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    assert member is not None, name
    return member.read()
