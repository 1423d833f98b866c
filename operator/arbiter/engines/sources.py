"""Reads where a model comes from: one value for each scheme of a LocalModel's source, and one for a server elsewhere.

The rule: a source that cannot mean anything is refused by the field's name, with the form that would be right, and
nothing is completed by guessing but what the scheme itself defines (Ollama's namespace `library`, a hub's revision
`main`). Every value can be written back as the address that it was read from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from arbiter.api.localmodel import LocalModelSpec

FIELD: Final = "spec.source"
"""The field that a message names unless the caller gives another."""

IMAGE_MODEL_PATH: Final = "model.gguf"
"""The file that a model image holds when `#path` does not say another: what our own model images are made with."""

_SCHEMES = "ollama://name:tag, oci://image:tag, hf://organisation/repository, https://… or pvc://claim/path"

_PORT = r"(?::[0-9]{1,5})?"
_HOST = re.compile(rf"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?{_PORT}")
_OLLAMA_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_OLLAMA_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_IMAGE = re.compile(
    rf"(?P<name>[a-z0-9.-]+{_PORT}(?:/[a-z0-9]+(?:(?:\.|_{{1,2}}|-+)[a-z0-9]+)*)+)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_HUB_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_HUB_FILE = re.compile(r"[A-Za-z0-9._-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CLAIM = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_ADDRESS = re.compile(r"(?P<host>[^/?#\s]*)(?P<path>[^?#\s]*)(?P<query>\?[^#\s]*)?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class OllamaSource:
    """A model of an Ollama library.

    Attributes:
        name: its name, such as `smollm2`.
        tag: its tag, such as `135m`.
        namespace: whose it is; `library` for those without one.
        host: the registry, with its port if it has one; `None`: Ollama's own.
    """

    name: str
    tag: str
    namespace: str = "library"
    host: str | None = None

    @property
    def uri(self) -> str:
        """The address, as short as its meaning allows."""
        return f"ollama://{self.reference}"

    @property
    def reference(self) -> str:
        """The name that Ollama itself is asked for."""
        if self.host is not None:
            return f"{self.host}/{self.namespace}/{self.name}:{self.tag}"
        return f"{self.name}:{self.tag}" if self.namespace == "library" else f"{self.namespace}/{self.name}:{self.tag}"


@dataclass(frozen=True, slots=True)
class OciSource:
    """A file or folder in an image of a registry.

    Attributes:
        image: the image's name with its registry, without tag and digest.
        tag: its tag; `None` without one, which means `latest`, or with a digest, beside which a tag means nothing.
        digest: its manifest's digest, as `sha256:…`.
        path: the file or folder in it, without the leading slash; `None`: the scheme's usual one.
    """

    image: str
    tag: str | None = None
    digest: str | None = None
    path: str | None = None

    @property
    def uri(self) -> str:
        """The address."""
        return f"oci://{self.reference}" + ("" if self.path is None else f"#/{self.path}")

    @property
    def reference(self) -> str:
        """The image as a pod names it."""
        if self.digest is not None:
            return f"{self.image}@{self.digest}"
        return self.image if self.tag is None else f"{self.image}:{self.tag}"


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository of a model hub, or one file of it.

    Attributes:
        repository: organisation and repository, such as `Qwen/Qwen3-8B`.
        path: the file in it; `None`: the whole repository.
        revision: branch, tag or commit.
    """

    repository: str
    path: str | None = None
    revision: str = "main"

    @property
    def uri(self) -> str:
        """The address; the revision `main` is left out."""
        path = "" if self.path is None else f"/{self.path}"
        return f"hf://{self.repository}{path}" + ("" if self.revision == "main" else f"@{self.revision}")


@dataclass(frozen=True, slots=True)
class HttpsSource:
    """One file at an address. What it delivers can change, so its sha256 sum stands beside it in the LocalModel.

    Attributes:
        uri: the address.
        path: the path in it, without query.
    """

    uri: str
    path: str


@dataclass(frozen=True, slots=True)
class ClaimSource:
    """A file or folder in a PersistentVolumeClaim of the pool's namespace.

    Attributes:
        claim: the claim's name.
        path: the file or folder in it, without the leading slash.
    """

    claim: str
    path: str

    @property
    def uri(self) -> str:
        """The address."""
        return f"pvc://{self.claim}/{self.path}"


@dataclass(frozen=True, slots=True)
class ExternalSource:
    """A server that runs elsewhere; nothing is fetched and nothing is started for it.

    Attributes:
        url: its base address without a slash at its end; `/v1/…` goes behind it.
        model: the model's name there.
        key_secret: the Secret whose key `token` it wants to see, if any.
    """

    url: str
    model: str
    key_secret: str | None = None

    @property
    def uri(self) -> str:
        """What tells this one from others: there is no digest to resolve."""
        return f"{self.url}#{self.model}"


Source: TypeAlias = OllamaSource | OciSource | HubSource | HttpsSource | ClaimSource | ExternalSource
"""Where a model comes from."""


def read_source(name: str, spec: LocalModelSpec) -> Source:
    """Read where a LocalModel comes from.

    Args:
        name: the LocalModel's name, which an external server is asked for if `external.model` is left out.
        spec: what its owner wrote.

    Raises:
        InvalidInputError: it cannot mean anything; the field is `spec.source`, `spec.sha256` or `spec.external.url`.
    """
    if (spec.source is None) == (spec.external is None):
        raise InvalidInputError("spec", "give exactly one of source and external")
    if spec.external is not None:
        external = spec.external
        return ExternalSource(_base_address(external.url), external.model or name, external.key_secret)
    source = parse_source(spec.source or "")
    if isinstance(source, HttpsSource) and spec.sha256 is None:
        raise InvalidInputError(
            "spec.sha256", "is required with an https:// source: what that delivers can change; give the file's sum"
        )
    return source


def parse_source(text: str, field: str = FIELD) -> Source:
    """Read the text of a source; never an `ExternalSource`.

    Raises:
        InvalidInputError: it cannot mean anything; names `field` and the form that would be right.
    """
    scheme, found, rest = text.partition("://")
    parse = _PARSERS.get(scheme)
    if not found or parse is None:
        raise InvalidInputError(field, f"must be {_SCHEMES}, not {_shown(text)}")
    if text != text.strip() or not text.isprintable():
        raise InvalidInputError(field, f"must hold no spaces at its ends and no control characters: {_shown(text)}")
    return parse(rest, field)


def pinned(source: Source, digest: str | None) -> Source:
    """Give the source as it was resolved, so that what runs tomorrow is what was resolved today.

    Args:
        source: as its owner wrote it.
        digest: what it resolved to: the manifest's digest `sha256:…` of an image, the 40 digits of a hub's commit.
            Any other kind of digest identifies the content but nothing can be asked for by it, so it changes nothing.
    """
    if digest is None:
        return source
    if isinstance(source, OciSource) and _DIGEST.fullmatch(digest):
        return replace(source, tag=None, digest=digest)
    if isinstance(source, HubSource) and _COMMIT.fullmatch(digest):
        return replace(source, revision=digest)
    return source


def file_of(source: Source) -> str | None:
    """Give the path of the one file that a source names, or `None` if it names more, a folder, or does not say."""
    match source:
        case OciSource() | HubSource():
            return source.path
        case HttpsSource() | ClaimSource():
            return source.path
        case OllamaSource() | ExternalSource():
            return None


def _parse_ollama(rest: str, field: str) -> OllamaSource:
    form = "must be ollama://name:tag, ollama://namespace/name:tag or ollama://host:port/namespace/name:tag"
    *places, last = rest.split("/")
    name, colon, tag = last.partition(":")
    if not colon or not tag:
        raise InvalidInputError(field, f"{form}; the tag is not optional")
    host = places.pop(0) if places and (len(places) > 1 or _is_host(places[0])) else None
    namespace = places.pop(0) if places else "library"
    if places or (host is not None and not _good_host(host)):
        raise InvalidInputError(field, form)
    if not _OLLAMA_NAMESPACE.fullmatch(namespace) or not all(map(_OLLAMA_PART.fullmatch, (name, tag))):
        raise InvalidInputError(
            field, f"{form}, each of letters, digits, '_', '-' and, but for a namespace, '.', at most 80 of them"
        )
    return OllamaSource(name, tag, namespace, host)


def _is_host(part: str) -> bool:
    return "." in part or ":" in part or part == "localhost"


def _good_host(text: str) -> bool:
    _, colon, port = text.partition(":")
    return bool(_HOST.fullmatch(text)) and ".." not in text and (not colon or 1 <= int(port) <= 65535)


def _parse_oci(rest: str, field: str) -> OciSource:
    reference, marked, path = rest.partition("#")
    match = _IMAGE.fullmatch(reference)
    if match is None or not _good_host(match["name"].partition("/")[0]):
        raise InvalidInputError(
            field,
            "must be oci://registry/image:tag or oci://registry/image@sha256:… with 64 hexadecimal digits, the name in "
            "lower case, with #path behind it for one file or folder of the image",
        )
    if marked:
        path = _good_path(path.removeprefix("/"), field, "the path behind #")
    digest = match["digest"]
    return OciSource(match["name"], None if digest else match["tag"], digest, path if marked else None)


def _parse_hub(rest: str, field: str) -> HubSource:
    form = "must be hf://organisation/repository, with /file for one file of it and @revision behind, if not main"
    place, at, revision = rest.partition("@")
    organisation, _, more = place.partition("/")
    repository, slash, path = more.partition("/")
    if not all(map(_HUB_PART.fullmatch, (organisation, repository))):
        raise InvalidInputError(field, form)
    if at and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", revision):
        raise InvalidInputError(
            field, f"{form}; the revision is a branch, a tag or a commit of letters, digits, '.', '_' and '-'"
        )
    if slash:
        path = _good_path(path, field, "the file in the repository")
        if not all(map(_HUB_FILE.fullmatch, path.split("/"))):
            raise InvalidInputError(field, f"{form}; a file's name is of letters, digits, '.', '_' and '-'")
    return HubSource(f"{organisation}/{repository}", path if slash else None, revision if at else "main")


def _parse_https(rest: str, field: str) -> HttpsSource:
    if "#" in rest:
        raise InvalidInputError(field, "must be the https:// address of one file, without #: a server never sees that")
    match = _ADDRESS.fullmatch(rest)
    if match is None:
        raise InvalidInputError(field, "must be the https:// address of one file, without spaces; write them as %20")
    if "@" in match["host"]:
        raise InvalidInputError(
            field, "must hold no user name or password; put the token into a Secret and name it in spec.pullSecret"
        )
    if not _good_host(match["host"]):
        raise InvalidInputError(field, "must be https:// with the name of a host, such as https://files.example/m.gguf")
    path = _good_path(match["path"].removeprefix("/"), field, "the path behind the host")
    return HttpsSource(f"https://{rest}", path)


def _parse_claim(rest: str, field: str) -> ClaimSource:
    claim, slash, path = rest.partition("/")
    if not slash or not _CLAIM.fullmatch(claim):
        raise InvalidInputError(
            field, "must be pvc://claim/path, with the name of a PersistentVolumeClaim and a file or folder in it"
        )
    return ClaimSource(claim, _good_path(path, field, "the path in the claim"))


_PARSERS: Final[Mapping[str, Callable[[str, str], Source]]] = {
    "ollama": _parse_ollama,
    "oci": _parse_oci,
    "hf": _parse_hub,
    "https": _parse_https,
    "pvc": _parse_claim,
}


def _good_path(path: str, field: str, what: str) -> str:
    if not path:
        raise InvalidInputError(field, f"must name a file: {what} is empty")
    if any(part in {"", ".", ".."} for part in path.split("/")):
        raise InvalidInputError(field, f"must lead to one place: {what} holds an empty part, '.' or '..'")
    return path


def _base_address(url: str) -> str:
    field = "spec.external.url"
    scheme, found, rest = url.partition("://")
    match = _ADDRESS.fullmatch(rest)
    if not found or scheme not in {"http", "https"} or match is None or "#" in url or match["query"]:
        raise InvalidInputError(field, "must be the http:// or https:// address of a server, without ? and #")
    if "@" in match["host"]:
        raise InvalidInputError(
            field,
            "must hold no user name or password; put the key into a Secret and name it in spec.external.keySecret",
        )
    host, path = match["host"], match["path"].rstrip("/")
    if not _good_host(host) and not re.fullmatch(rf"\[[0-9a-fA-F:.]+\]{_PORT}", host):
        raise InvalidInputError(field, "must name a host, such as http://mac-studio.example:11434")
    if path.endswith("/v1"):
        raise InvalidInputError(field, "must end before /v1: that is added, so leave it out")
    return f"{scheme}://{host}{path}"


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")
