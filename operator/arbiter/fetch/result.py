"""The result of a resolver, as its container's termination message carries it.

Rule: it is one JSON object of fewer than 4096 bytes, which is all that a kubelet hands on, in a version that its reader
checks; what does not fit is left out and counted, never cut.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from arbiter.fetch.findings import Findings, parameters_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from arbiter.fetch.failures import SourceError

VERSION = 1
"""Rises when a reader of the old form would misread the new one."""

MOST_BYTES = 4000
"""Most bytes of a result: the kubelet keeps 4096 of a termination message."""

_LONGEST_MESSAGE = 800
"""Most characters of a failure's sentence and of a note."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source.

    Attributes:
        name: its path there.
        size: its bytes; None where the source does not say.
        sha256: its sum, where the source says it.
        git_sha1: its sum as git has it, where the source says no other.
    """

    name: str
    size: int | None = None
    sha256: str = ""
    git_sha1: str = ""

    def as_json(self) -> dict[str, Any]:
        """Give it as the result carries it."""
        told = {"name": self.name, "size": self.size, "sha256": self.sha256, "gitSha1": self.git_sha1}
        return {key: value for key, value in told.items() if value not in {None, ""}}


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a source is right now.

    Attributes:
        source: the source that means this content for ever, as far as the server knows one; else the source itself.
        digest: what identifies the content.
        size: bytes of the model; None where that is not known.
        files: what it consists of.
        media_type: how the server calls it; empty where it does not.
        findings: what its files say about it.
        manifest_digest: of an image with an index, the manifest that was read.
        notes: what could not be found out and why, as sentences.
    """

    source: str
    digest: str
    size: int | None
    files: tuple[SourceFile, ...]
    media_type: str = ""
    findings: Findings = field(default_factory=Findings)
    manifest_digest: str = ""
    notes: tuple[str, ...] = ()

    def noting(self, note: str) -> Resolved:
        """Give the same with a further note."""
        return replace(self, notes=(*self.notes, note))


def success(found: Resolved) -> str:
    """Give the JSON of what was found; files that do not fit are counted in `filesOmitted`."""
    facts = found.findings
    told: dict[str, Any] = {
        "version": VERSION,
        "ok": True,
        "source": found.source,
        "digest": found.digest,
        "manifestDigest": found.manifest_digest,
        "size": found.size,
        "mediaType": found.media_type,
        "format": facts.form,
        "contextWindow": facts.context_window,
        "parameters": parameters_text(facts.parameters) if facts.parameters else None,
        "quantization": facts.quantization,
        "family": facts.family,
        "capabilities": None if facts.capabilities is None else sorted(facts.capabilities),
        "license": facts.license[:253] if facts.license else None,
        "notes": [note[:_LONGEST_MESSAGE] for note in found.notes[:2]],
    }
    told = {key: value for key, value in told.items() if value not in (None, "", [])}
    files = [one.as_json() for one in found.files]
    kept = len(files)
    while len(text := _compact({**told, "files": files[:kept], **_omitted(len(files) - kept)}).encode()) > MOST_BYTES:
        if not kept:
            told.pop("notes", None)
            told.pop("source", None)  # one that is this long the reader has anyway
            return _compact({**told, "files": [], **_omitted(len(files))})
        kept = kept // 2 if kept > 64 else kept - 1
    return text.decode()


def failure(error: SourceError) -> str:
    """Give the JSON of why nothing was found."""
    return _compact(
        {
            "version": VERSION,
            "ok": False,
            "reason": error.code.value,
            "message": one_line(str(error)),
            "transient": error.transient,
        }
    )


def one_line(message: str) -> str:
    """Give a message as one printable line of bounded length: parts of it may come from a server."""
    line = "".join(letter if letter.isprintable() else " " for letter in message)
    return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"


def list_digest(files: Iterable[SourceFile]) -> str:
    """Give the digest of several files: the sum over a line for each, `sum size name`, sorted by name."""
    lines = (f"{one.sha256 or one.git_sha1} {one.size} {one.name}\n" for one in sorted(files, key=lambda one: one.name))
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def total_size(files: Iterable[SourceFile]) -> int | None:
    """Give the bytes of all files; None as soon as one is not known."""
    sizes = [one.size for one in files]
    return None if None in sizes else sum(size or 0 for size in sizes)


def _omitted(count: int) -> dict[str, int]:
    """Say how many files were left out, if any were."""
    return {"filesOmitted": count} if count else {}


def _compact(told: dict[str, Any]) -> str:
    """Give JSON without spaces."""
    text = json.dumps(told, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="replace").decode()  # half characters, which JSON can carry, no file can
