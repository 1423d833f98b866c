"""Finds out what a model of Ollama's library is; the library is a registry whose layers are the model's parts.

Rule: the digest is the manifest's, which is what `ollama list` shows of a model that was pulled.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from arbiter.fetch.failures import FailureCode, SourceError
from arbiter.fetch.findings import Findings, from_template
from arbiter.fetch.images import Layer, hex_digits, layers_of, with_gguf
from arbiter.fetch.pulling import RemoteBlob
from arbiter.fetch.result import Resolved, SourceFile
from arbiter.fetch.web import json_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arbiter.engines.sources import OllamaSource
    from arbiter.fetch.registry import Registry

_KIND = "application/vnd.ollama.image."
_LARGEST_TEXT = 1024 * 1024
"""Bytes from which on a template or licence is not read."""

_LICENSES = (
    (re.compile(r"\s*Apache License\s+Version 2\.0"), "Apache-2.0"),
    (re.compile(r"\s*(The )?MIT License"), "MIT"),
)
"""What the texts of licences begin with that have an SPDX identifier."""

_COUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMBT])")
_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def model_layer(layers: Sequence[Layer], named: str) -> Layer:
    """Give the layer with the weights."""
    for layer in layers:
        if layer.media_type == f"{_KIND}model":
            return layer
    raise SourceError(FailureCode.NotAModel, f"{named} has no weights that can be run here")


async def resolve_ollama(registry: Registry, source: OllamaSource) -> Resolved:
    """Find out what a model of the library is."""
    manifest = await registry.manifest(source.tag)
    layers = layers_of(manifest)
    weights = model_layer(layers, registry.named)
    parts = [layer for layer in layers if layer.media_type in {f"{_KIND}projector", f"{_KIND}adapter"}]
    told = await _told(registry, layers, manifest.content.get("config"))
    found = Resolved(
        source.uri,
        manifest.digest,
        sum(layer.size for layer in (weights, *parts)),
        tuple(_file(layer) for layer in (weights, *parts)),
        weights.media_type,
        Findings(license=told.license),
    )
    async with RemoteBlob(registry.blob(weights.digest)) as blob:
        read = await with_gguf(found, blob, "the model's layer")
    return replace(read, findings=read.findings.or_else(told))


def _file(layer: Layer) -> SourceFile:
    """Give a layer as a file."""
    return SourceFile(layer.media_type.removeprefix(_KIND), layer.size, layer.digest.removeprefix("sha256:"))


async def _told(registry: Registry, layers: Sequence[Layer], config: object) -> Findings:
    """Give what the parts beside the weights tell."""
    capabilities: set[str] = set()
    license_name = None
    for layer in layers:
        kind = layer.media_type.removeprefix(_KIND)
        if kind == "projector":
            capabilities.add("vision")
        if kind not in {"template", "license"} or layer.size > _LARGEST_TEXT:
            continue
        text = (await registry.small_blob(layer.digest)).decode(errors="replace")
        if kind == "template":
            capabilities |= from_template(text.replace(".Tools", "tools").replace(".Thinking", "thinking"))
        else:
            license_name = license_name or next((name for form, name in _LICENSES if form.match(text)), None)
    about = await _config(registry, config)
    return Findings(
        quantization=about.quantization,
        parameters=about.parameters,
        family=about.family,
        license=license_name,
        capabilities=frozenset(capabilities) or None,
    )


async def _config(registry: Registry, config: Any) -> Findings:  # noqa: ANN401  a server's JSON
    """Give what the model's config tells: its family, size and quantization as the library names them."""
    if not isinstance(config, dict) or not hex_digits(str(config.get("digest"))):
        return Findings()
    told = json_object(await registry.small_blob(config["digest"]), "the model's config")
    count = _COUNT.fullmatch(str(told.get("model_type")))
    return Findings(
        parameters=round(float(count[1]) * _UNITS[count[2]]) if count else None,
        quantization=str(told["file_type"])[:63] if told.get("file_type") else None,
        family=str(told["model_family"])[:63] if told.get("model_family") else None,
    )
