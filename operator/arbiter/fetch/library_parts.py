"""Brings all that an Ollama library has of a model: its files to a volume, and the texts beside them.

Rule: what is brought is what the manifest that was resolved lists, asked for by its digest, so that a tag that moved
meanwhile changes nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from arbiter.fetch.failures import FailureCode, SourceError
from arbiter.fetch.images import hex_digits, layers_of
from arbiter.fetch.ollama_library import model_layer
from arbiter.fetch.web import json_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arbiter.fetch.images import Layer
    from arbiter.fetch.registry import Manifest, Registry

_KIND = "application/vnd.ollama.image."
_FORMATS = ("renderer", "parser", "requires")


@dataclass(frozen=True, slots=True)
class Texts:
    """What a library says of a model beside its files.

    Attributes:
        template: how turns become one text; empty without.
        system: the message that conversations begin with; empty without.
        licenses: the texts of its licences.
        messages: turns that conversations begin with.
        parameters: runner options and stop words.
        formats: `renderer`, `parser` and `requires` of its config, where it names them.
    """

    template: str = ""
    system: str = ""
    licenses: Sequence[str] = ()
    messages: Sequence[object] = ()
    parameters: Mapping[str, object] = field(default_factory=dict)
    formats: Mapping[str, str] = field(default_factory=dict)


async def manifest_by(registry: Registry, tag: str, digest: str, named: str) -> Manifest:
    """Give the manifest that was resolved.

    Raises:
        SourceError: SourceMoved, where the registry does not have it any more.
    """
    try:
        return await registry.manifest(digest)
    except SourceError as error:
        if error.code is not FailureCode.SourceNotFound:
            raise
    # Not every registry knows manifests by their digest; the tag may stand for it still.
    manifest = await registry.manifest(tag)
    if manifest.digest != digest:
        raise SourceError(FailureCode.SourceMoved, f"{named} was resolved to {digest} and is {manifest.digest} by now")
    return manifest


def file_layers(manifest: Manifest, named: str) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """Give the layers that are files: the weights with what sees or hears, and changes to them."""
    layers = layers_of(manifest)
    weights = model_layer(layers, named)
    beside = tuple(layer for layer in layers if layer.media_type == f"{_KIND}projector")
    return (weights, *beside), tuple(layer for layer in layers if layer.media_type == f"{_KIND}adapter")


async def texts_of(registry: Registry, manifest: Manifest) -> Texts:
    """Read the layers that are texts.

    Raises:
        SourceError: one of them cannot be had, or is not what its kind says.
    """
    found: dict[str, list[str]] = {}
    for layer in layers_of(manifest):
        kind = layer.media_type.removeprefix(_KIND)
        if kind in {"template", "system", "license", "messages", "params"}:
            found.setdefault(kind, []).append((await registry.small_blob(layer.digest)).decode(errors="replace"))
    parameters = [json_object(text.encode(), "the model's parameters") for text in found.get("params", ())]
    return Texts(
        template="".join(found.get("template", ())[-1:]),
        system="".join(found.get("system", ())[-1:]),
        licenses=tuple(found.get("license", ())),
        messages=tuple(turn for text in found.get("messages", ()) for turn in _turns(text)),
        parameters=parameters[-1] if parameters else {},
        formats=await _formats(registry, manifest.content.get("config")),
    )


def _turns(text: str) -> list[object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise SourceError(FailureCode.AnswerInvalid, "the model's messages are no JSON list")
    return found


async def _formats(registry: Registry, config: Any) -> dict[str, str]:  # noqa: ANN401  a server's JSON
    """Give what the config says about how the model is spoken to."""
    if not isinstance(config, dict) or not hex_digits(str(config.get("digest"))):
        return {}
    told = json_object(await registry.small_blob(config["digest"]), "the model's config")
    return {name: told[name] for name in _FORMATS if isinstance(told.get(name), str) and told[name]}
