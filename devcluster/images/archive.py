"""Makes container images around single programs, and puts images into the node's store.

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

from devcluster.commands import run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devcluster.layout import Layout

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What OCI calls a machine."""

_IMPORT_S = 120.0
"""How long an import may take, in seconds; a large image on a busy disk takes tens."""


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
    layer = _layer(image)
    configuration = _json(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": list(image.entrypoint), "User": image.user},
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
    named = _descriptor(f"{oci}.manifest.v1+json", manifest) | {
        "annotations": {
            "io.containerd.image.name": image.name,
            "org.opencontainers.image.ref.name": image.name.rpartition(":")[2],
        }
    }
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w") as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", _json({"schemaVersion": 2, "manifests": [named]}))
        for blob in (layer, configuration, manifest):
            _add(tar, "blobs/sha256/" + _digest(blob).removeprefix("sha256:"), blob)


def load(layout: Layout, archive: Path) -> None:
    """Put an archive's images into the node's store."""
    address = ("--address", layout.containerd_socket, "--namespace", "k8s.io")
    run(layout.programs["ctr"], *address, "images", "import", archive, seconds=_IMPORT_S)


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
