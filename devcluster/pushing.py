"""Pushes an OCI archive to a registry, as the distribution specification says, and no more of it than that."""

from __future__ import annotations

import base64
import json
import tarfile
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from pathlib import Path

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
"""What is asked for: a registry hides a manifest from who does not say that he reads its kind."""


NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
"""The annotations of an archive's image that may hold its whole name: containerd's, and the one of OCI's image layout,
which many tools give the tag alone."""


def name_of(archive: Path) -> tuple[str, str]:
    """Give the repository and the tag of an archive's one image, without the registry that its name begins with.

    Raises:
        DevclusterError: the archive has no image with a name.
    """
    with tarfile.open(archive) as tar:
        index = next((tar.extractfile(entry) for entry in tar if entry.name == "index.json"), None)
        described = json.loads(index.read())["manifests"][0] if index is not None else {}
    named = described.get("annotations", {})
    name = next((named[each] for each in NAMES if "/" in named.get(each, "")), "")
    repository, colon, tag = name.partition("/")[2].rpartition(":")
    if not colon:
        raise DevclusterError(f"{archive} has no image with a name and a tag")
    return repository, tag


class Registry:
    """A registry that answers on plain HTTP; failures are those of urllib."""

    def __init__(self, host: str, user: str = "", password: str = "") -> None:
        """Name the registry, and who comes."""
        self._root = f"http://{host}/v2/"
        known = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {known}"} if user else {}

    def push(self, archive: Path, name: str, tag: str) -> str:
        """Push an archive's one image, and give its digest."""
        with tarfile.open(archive) as tar:
            content = {entry.name: file.read() for entry in tar if (file := tar.extractfile(entry)) is not None}
        described = json.loads(content["index.json"])["manifests"][0]
        manifest = content[_path(described["digest"])]
        for blob in (json.loads(manifest)["config"], *json.loads(manifest)["layers"]):
            place, _ = self.ask("POST", f"{name}/blobs/uploads/")
            separator = "&" if "?" in place else "?"
            self.ask("PUT", f"{place}{separator}digest={blob['digest']}", content[_path(blob["digest"])])
        self.ask("PUT", f"{name}/manifests/{tag}", manifest, described["mediaType"])
        digest: str = described["digest"]
        return digest

    def ask(
        self, method: str, path: str, body: bytes | None = None, media_type: str = "application/octet-stream"
    ) -> tuple[str, bytes]:
        """Ask for a path below /v2/, or for a whole URL, and give where it leads and what it answers."""
        sent = {"Content-Type": media_type} if body is not None else {"Accept": _MANIFEST}
        url = urljoin(self._root, path)
        request = urllib.request.Request(url, data=body, method=method, headers=self._headers | sent)  # noqa: S310  a registry of the tests
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  as above
            return answer.headers.get("Location", ""), answer.read()


def _path(digest: str) -> str:
    """Give where a blob lies in an archive."""
    return "blobs/" + digest.replace(":", "/")
