"""Writes container images as archives, around single programs or a whole root file system.

An image is an OCI archive: a tar file with one layer, a configuration and an index that names it. There is no engine
and no registry behind it, and the same files give the same archive.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What OCI calls a machine."""


@dataclass(frozen=True)
class Image:
    """An image that holds some programs and nothing else.

    Attributes:
        name: its full name, with registry and tag.
        files: programs, by their path in the image.
        entrypoint: what is run.
        user: who runs it; a number, so that a pod may be refused to run as root.
    """

    name: str
    files: Mapping[str, Path]
    entrypoint: tuple[str, ...]
    user: str = "65532:65532"


def write_archive(image: Image, archive: Path) -> None:
    """Write the image as an OCI archive."""
    _write(archive, image.name, _layer(image), {"Entrypoint": list(image.entrypoint), "User": image.user})


def write_root(root: Path, archive: Path) -> None:
    """Write a root file system, a tar file, as an OCI archive without a name, to build upon."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    _write(archive, "", root.read_bytes(), {"Env": [f"PATH={path}"]})


def _write(archive: Path, name: str, layer: bytes, run_as: Mapping[str, Any]) -> None:
    """Write an image of one layer."""
    configuration = _json(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": dict(run_as),
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    oci = "application/vnd.oci.image"
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{oci}.manifest.v1+json",
            "config": _descriptor(f"{oci}.config.v1+json", configuration),
            "layers": [_descriptor(f"{oci}.layer.v1.tar", layer)],
        }
    )
    annotations = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    named = _descriptor(f"{oci}.manifest.v1+json", manifest) | ({"annotations": annotations} if name else {})
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w") as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", _json({"schemaVersion": 2, "manifests": [named]}))
        for blob in (layer, configuration, manifest):
            _add(tar, "blobs/sha256/" + _digest(blob).removeprefix("sha256:"), blob)


def _layer(image: Image) -> bytes:
    """Give the one layer, uncompressed: it goes from disk to disk."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for path, file in image.files.items():
            _add(tar, path.lstrip("/"), file.read_bytes(), mode=0o755)
    return content.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    """Add a file that has neither owner nor time."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    """Describe a blob."""
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    """Give a blob's name."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _json(value: Any) -> bytes:  # noqa: ANN401  a JSON document
    """Write a document."""
    return json.dumps(value, sort_keys=True).encode()
