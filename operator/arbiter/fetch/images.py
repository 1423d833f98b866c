"""Finds out what an image of a registry is, and what the model in it says about itself.

Rule: the digest is that of what the reference names, which for an image of several platforms is its index. It pins the
same thing on every node, whichever platform the resolver happened to run on; the manifest that was read is told beside.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from arbiter.engines.sources import IMAGE_MODEL_PATH
from arbiter.fetch.failures import FailureCode, SourceError
from arbiter.fetch.findings import Findings, from_gguf, is_no_model, spdx
from arbiter.fetch.gguf import GgufError
from arbiter.fetch.layers import Absent, clean, find
from arbiter.fetch.pulling import RemoteBlob, TooFar, gguf_header, unpacked
from arbiter.fetch.registry import INDEXES, MANIFESTS
from arbiter.fetch.result import Resolved, SourceFile
from arbiter.fetch.web import json_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arbiter.engines.sources import OciSource
    from arbiter.fetch.pulling import Stream
    from arbiter.fetch.registry import Manifest, Registry

_ARCHITECTURES: Mapping[str, str] = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le"}
"""What images call the machines that Python names otherwise."""

_RAW = (
    "application/vnd.docker.ai.gguf.",
    "application/vnd.cncf.model.weight.v1.raw",
    "application/vnd.ollama.image.model",
)
"""How the kinds of layers begin that are the model's file itself, with no archive around it."""

_TITLE = "org.opencontainers.image.title"
_LICENSES = "org.opencontainers.image.licenses"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as a manifest lists it.

    Attributes:
        digest: the sum over its bytes.
        size: its bytes as they are sent.
        media_type: its kind.
        title: the file that it is, where it is one itself.
    """

    digest: str
    size: int
    media_type: str
    title: str = ""

    @property
    def is_file(self) -> bool:
        """Whether it is a file itself, with no archive around it."""
        if "tar" in self.media_type:
            return False
        return bool(self.title) or self.media_type.startswith(_RAW)


def this_architecture() -> str:
    """Give this machine's architecture as images name it."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


async def manifest_of(
    registry: Registry, source: OciSource, architecture: str, digest: str = ""
) -> tuple[Manifest, Manifest]:
    """Give what a reference names, and the manifest of our platform; they are one where there is no index."""
    named = await registry.manifest(digest or source.digest or source.tag or "latest")
    if named.media_type not in INDEXES and "manifests" not in named.content:
        if named.media_type not in MANIFESTS and "layers" not in named.content:
            raise SourceError(
                FailureCode.SourceInvalid, f"{registry.named} is of a kind that cannot be run: {named.media_type}"
            )
        return named, named
    chosen = _choose(named, architecture, registry.named)
    return named, await registry.manifest(chosen)


async def resolve_image(registry: Registry, source: OciSource, architecture: str) -> Resolved:
    """Find out what an image is."""
    named, manifest = await manifest_of(registry, source, architecture)
    layers = layers_of(manifest)
    found = Resolved(
        replace(source, digest=named.digest).uri,
        named.digest,
        sum(layer.size for layer in layers),
        tuple(SourceFile(layer.title or layer.digest, layer.size, hex_digits(layer.digest)) for layer in layers),
        manifest.media_type,
        await _labelled(registry, manifest),
        "" if manifest is named else manifest.digest,
    )
    if raw := raw_layer(layers, source.path):
        return await _raw(registry, found, raw)
    return await _in_layers(registry, found, layers, source.path)


def layers_of(manifest: Manifest) -> tuple[Layer, ...]:
    """Give a manifest's layers, the lowest first."""
    listed = manifest.content.get("layers")
    layers: list[Layer] = []
    for one in listed if isinstance(listed, list) else []:
        if not isinstance(one, dict) or not isinstance(one.get("size"), int) or not hex_digits(str(one.get("digest"))):
            raise SourceError(FailureCode.AnswerInvalid, "the manifest has a layer without digest or size")
        notes = one.get("annotations")
        title = str(notes.get(_TITLE) or notes.get("org.cncf.model.filepath") or "") if isinstance(notes, dict) else ""
        layers.append(Layer(str(one["digest"]), max(0, one["size"]), str(one.get("mediaType") or ""), title))
    return tuple(layers)


def raw_layer(layers: Sequence[Layer], path: str | None) -> Layer | None:
    """Give the layer that is the model's file itself, where the image is such an artefact."""
    raw = [layer for layer in layers if layer.is_file]
    if path:
        return next((layer for layer in raw if clean(layer.title) == clean(path)), None)
    models = [layer for layer in raw if layer.title.endswith(".gguf") or layer.media_type.startswith(_RAW)]
    return models[0] if models else None


async def _raw(registry: Registry, found: Resolved, layer: Layer) -> Resolved:
    """Read a layer that is the model's file itself."""
    file = SourceFile(layer.title or IMAGE_MODEL_PATH, layer.size, hex_digits(layer.digest))
    found = _with_file(found, file).noting("the image is an artefact of files, which no runtime mounts as a volume")
    async with RemoteBlob(registry.blob(layer.digest)) as blob:
        return await with_gguf(found, blob, file.name)


async def _in_layers(registry: Registry, found: Resolved, layers: Sequence[Layer], path: str | None) -> Resolved:
    """Look for the file in the layers, the topmost first, as it would be seen."""
    wanted = clean(path or IMAGE_MODEL_PATH)
    try:
        for layer in reversed(layers):
            async with RemoteBlob(registry.blob(layer.digest)) as blob:
                stream = await unpacked(blob)
                place = await find(stream, wanted)
                if isinstance(place, int):
                    return await with_gguf(_with_file(found, SourceFile(wanted, place)), stream, wanted)
                if place is Absent.FOLDER:
                    return found.noting(f"/{wanted} is a folder of the image, so nothing was read of it")
                if place is Absent.HIDDEN:
                    break
    except TooFar:
        return found.noting(
            f"/{wanted} was not looked for to the end: a layer is too large for that or packed with zstd"
        )
    if path:
        raise SourceError(FailureCode.FileMissing, f"{registry.named} has no file /{wanted}")
    return found.noting(f"the image has no /{wanted}, and the source names no other file, so nothing was read of it")


async def with_gguf(found: Resolved, stream: Stream, name: str) -> Resolved:
    """Add what a GGUF file's beginning tells.

    Raises:
        SourceError: NotAModel, when the file is called `.gguf` and is none, or goes with a model and is none.
    """
    try:
        header = await gguf_header(stream)
    except TooFar:
        return found.noting(f"the header of {name} lies too far inside the source to be read")
    except GgufError as error:
        if name.endswith(".gguf"):
            raise SourceError(FailureCode.NotAModel, f"{name} is no GGUF file that can be read: {error}") from error
        return found.noting(f"{name} is no GGUF file, so nothing was read of it: {error}")
    if is_no_model(header):
        raise SourceError(FailureCode.NotAModel, f"{name} goes with a model and is none itself")
    return replace(found, findings=found.findings.or_else(from_gguf(header)))


async def _labelled(registry: Registry, manifest: Manifest) -> Findings:
    """Give what the image's labels tell: its licence."""
    notes, config = manifest.content.get("annotations"), manifest.content.get("config")
    said: Any = notes.get(_LICENSES) if isinstance(notes, dict) else None
    kind = str(config.get("mediaType")) if isinstance(config, dict) else ""
    if not said and isinstance(config, dict) and ".image." in kind and hex_digits(str(config.get("digest"))):
        inner = json_object(await registry.small_blob(config["digest"]), "the image's config").get("config")
        labels = inner.get("Labels") if isinstance(inner, dict) else None
        said = labels.get(_LICENSES) if isinstance(labels, dict) else None
    return Findings(license=spdx(said)) if isinstance(said, str) else Findings()


def _choose(index: Manifest, architecture: str, named: str) -> str:
    """Give the digest of the manifest for our platform; of an image for one platform only, that of the one."""
    listed = index.content.get("manifests")
    entries = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    platforms: list[tuple[str, str]] = []
    for one in entries:
        known = one.get("platform")
        given = known if isinstance(known, dict) else {}
        os, arch = str(given.get("os") or ""), str(given.get("architecture") or "")
        if os == "unknown" or not hex_digits(str(one.get("digest"))):
            continue  # an attestation, which describes another entry
        if (os, arch) == ("linux", architecture):
            return str(one["digest"])
        platforms.append((f"{os}/{arch}" if os else "", str(one["digest"])))
    if len(platforms) == 1 and not platforms[0][0]:
        return platforms[0][1]
    others = ", ".join(sorted({name or "no platform" for name, _ in platforms})) or "none"
    raise SourceError(FailureCode.PlatformMissing, f"{named} has no image for linux/{architecture}; it has {others}")


def _with_file(found: Resolved, file: SourceFile) -> Resolved:
    """Give what was found with the one file that counts."""
    return replace(found, size=file.size, files=(file,))


def hex_digits(digest: str) -> str:
    """Give the hexadecimal digits of a sha256 digest; empty for what is none."""
    algorithm, _, digits = digest.partition(":")
    return digits if algorithm == "sha256" and len(digits) == 64 and not set(digits) - set("0123456789abcdef") else ""
