"""Reads a source for the two commands, and says at which registry its parts lie.

Rule: the forms are those of `engines.sources`, which the operator reads as well; here a source that cannot be read is a
failure like any other, since it becomes a result and not an exit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from arbiter.engines.sources import (
    ClaimSource,
    ExternalSource,
    HttpsSource,
    HubSource,
    OciSource,
    OllamaSource,
    parse_source,
)
from arbiter.errors import InvalidInputError
from arbiter.fetch.failures import FailureCode, SourceError

if TYPE_CHECKING:
    from arbiter.engines.sources import Source

OLLAMA_HOST = "registry.ollama.ai"
"""Where Ollama's own library is."""

Fetchable: TypeAlias = OllamaSource | OciSource | HubSource | HttpsSource | ClaimSource
"""Every source but a server that runs elsewhere, of which there is nothing to fetch."""


def parse(uri: str) -> Fetchable:
    """Read a source.

    Raises:
        SourceError: SourceInvalid, when it is of none of the forms.
    """
    try:
        source: Source = parse_source(uri, "--source")
    except InvalidInputError as error:
        raise SourceError(FailureCode.SourceInvalid, str(error)) from error
    if isinstance(source, ExternalSource):
        raise SourceError(FailureCode.SourceInvalid, f"{uri} is a server, of which there is nothing to fetch")
    return source


def registry_of(source: OciSource | OllamaSource) -> tuple[str, str]:
    """Give the registry of a source, with its port where it has one, and the repository there."""
    if isinstance(source, OllamaSource):
        return source.host or OLLAMA_HOST, f"{source.namespace}/{source.name}"
    host, _, repository = source.image.partition("/")
    return host, repository
