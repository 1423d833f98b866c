"""Finds out what a repository of a model hub holds, or one file of it, at one commit.

Rule: everything is asked of the commit that the revision named at first, so that the answer is of one moment. The
protocol is Hugging Face's, which mirrors speak as well.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from yarl import URL

from arbiter.fetch.failures import FailureCode, SourceError
from arbiter.fetch.findings import Findings, from_config, spdx
from arbiter.fetch.images import with_gguf
from arbiter.fetch.pulling import RemoteBlob
from arbiter.fetch.result import Resolved, SourceFile, list_digest, total_size
from arbiter.fetch.web import from_offset, json_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    import aiohttp

    from arbiter.engines.sources import HubSource
    from arbiter.fetch.pulling import Opener
    from arbiter.fetch.web import Web

ENDPOINT = "https://huggingface.co"
"""The hub that is asked unless HF_ENDPOINT names another."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"(?P<name>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")

_UNUSED = re.compile(
    r"(^|/)\.|(^|/)(original|onnx|openvino|coreml|metal|gguf)/|\.(onnx|onnx_data|h5|msgpack|tflite|ot|gguf|png|jpe?g|gif|webp|mp4|"
    r"pdf|md|mlmodel)$"
)
"""Files of a repository that no engine of whole repositories reads: other forms of the same weights, and pictures."""

_PICKLED = re.compile(r"\.(bin|pt|pth|ckpt)$")
"""Weights in the form that can carry programs; left out as soon as there are safetensors."""

_LARGEST_TEXT = 4 * 1024 * 1024
"""Most bytes of a `config.json` or a chat template."""


class Hub:
    """One repository of a hub at one commit."""

    def __init__(self, web: Web, source: HubSource, endpoint: str, token: str, info: Mapping[str, Any]) -> None:
        """Take what the hub told about the revision."""
        self._web = web
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._root = f"{endpoint}/{source.repository}/resolve/{info['sha']}/"
        self.source = source
        self.commit: str = info["sha"]
        self.info = info
        self.files = tuple(_files(info))

    @classmethod
    async def at(cls, web: Web, source: HubSource, endpoint: str, token: str) -> Hub:
        """Ask what a revision is right now."""
        url = f"{endpoint}/api/models/{source.repository}/revision/{source.revision}?blobs=true"
        body, _ = await web.document(url, {"Authorization": f"Bearer {token}"} if token else {})
        info = json_object(body, f"what the hub tells about {source.repository}")
        if not _COMMIT.fullmatch(str(info.get("sha"))) or not isinstance(info.get("siblings"), list):
            raise SourceError(FailureCode.AnswerInvalid, f"the hub names no commit or no files of {source.repository}")
        return cls(web, source, endpoint, token, info)

    def file(self, name: str) -> Opener:
        """Give what opens a file from an offset on."""

        def opener(offset: int, condition: str = "") -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
            url = URL(self._root, encoded=True) / name
            return self._web.answer("GET", url, self._headers | from_offset(offset, condition), (200, 206))

        return opener

    async def wanted(self) -> tuple[SourceFile, ...]:
        """Give the files that the source means: one, all parts of a split one, or what an engine needs of them all."""
        by_name = {one.name: one for one in self.files}
        if not self.source.path:
            return _needed(self.files)
        if part := _PART.fullmatch(self.source.path):
            count = int(part["count"])
            names = [f"{part['name']}-{number:05}-of-{part['count']}.gguf" for number in range(1, min(count, 1000) + 1)]
        else:
            names = [self.source.path]
        if missing := next((name for name in names if name not in by_name), ""):
            raise SourceError(
                FailureCode.FileMissing,
                f"{self.source.repository} has no file {missing} at revision {self.source.revision}",
            )
        return tuple([await self._completed(by_name[name]) for name in names])

    async def text(self, name: str) -> str:
        """Give a small file; empty where there is none."""
        if not any(one.name == name and (one.size or 0) <= _LARGEST_TEXT for one in self.files):
            return ""
        body, _ = await self._web.document(URL(self._root, encoded=True) / name, self._headers, _LARGEST_TEXT)
        return body.decode(errors="replace")

    async def _completed(self, file: SourceFile) -> SourceFile:
        """Give a file with what its address tells, where the list of the repository, as a mirror has it, does not."""
        if file.size is not None and (file.sha256 or file.git_sha1):
            return file
        url = URL(self._root, encoded=True) / file.name
        async with self._web.answer("HEAD", url, self._headers, (200, 302, 307), follow=False) as answer:
            headers = answer.headers
        size = headers.get("X-Linked-Size") or headers.get("Content-Length") or ""
        tag = headers.get("X-Linked-ETag", "").removeprefix("W/").strip('"')
        return replace(
            file,
            size=int(size) if size.isascii() and size.isdigit() and len(size) < 19 else None,
            sha256=tag if _SHA256.fullmatch(tag) else "",
        )


async def resolve_hub(web: Web, source: HubSource, endpoint: str, token: str) -> Resolved:
    """Find out what a repository of a hub, or one file of it, is."""
    hub = await Hub.at(web, source, endpoint, token)
    files = await hub.wanted()
    found = Resolved(
        replace(source, revision=hub.commit).uri, digest_of(files), total_size(files), files, findings=_about(hub)
    )
    if not source.path:
        return await _whole(hub, found)
    async with RemoteBlob(hub.file(files[0].name)) as blob:
        return await with_gguf(found, blob, files[0].name)


def digest_of(files: Sequence[SourceFile]) -> str:
    """Give what identifies the content: a single file's own sum, else one over the sorted list."""
    if len(files) == 1 and files[0].sha256:
        return f"sha256:{files[0].sha256}"
    return list_digest(files)


async def _whole(hub: Hub, found: Resolved) -> Resolved:
    """Add what a repository's own descriptions tell."""
    config = await hub.text("config.json")
    if not config:
        return found.noting(f"{hub.source.repository} has no config.json, so nothing was read of it")
    template = await hub.text("chat_template.jinja")
    if not template and (text := await hub.text("tokenizer_config.json")):
        template = _template_in(json_object(text.encode(), "tokenizer_config.json").get("chat_template"))
    told = from_config(json_object(config.encode(), "config.json"), template, [one.name for one in hub.files])
    return replace(found, findings=told.or_else(found.findings))


def _template_in(said: object) -> str:
    """Give the chat template of a tokenizer, which may have several by name."""
    if isinstance(said, list):
        return "\n".join(str(one.get("template", "")) for one in said if isinstance(one, dict))
    return said if isinstance(said, str) else ""


def _about(hub: Hub) -> Findings:
    """Give what the hub itself tells about the repository."""
    card, weights = hub.info.get("cardData"), hub.info.get("safetensors")
    said = card.get("license") if isinstance(card, dict) else None
    if said == "other" and isinstance(card, dict):
        said = card.get("license_name") or said
    total = weights.get("total") if isinstance(weights, dict) and not hub.source.path else None
    return Findings(
        license=spdx(said) if isinstance(said, str) else None,
        parameters=total if isinstance(total, int) and total > 0 else None,
    )


def _files(info: Mapping[str, Any]) -> list[SourceFile]:
    """Read the list of files."""
    found: list[SourceFile] = []
    for one in info["siblings"]:
        name = one.get("rfilename") if isinstance(one, dict) else None
        if not isinstance(name, str) or not _inside(name):
            raise SourceError(FailureCode.AnswerInvalid, "the hub lists a file whose name cannot be one")
        size, large = one.get("size"), one.get("lfs")
        sums = large if isinstance(large, dict) else {}
        sha256, blob = str(sums.get("sha256") or sums.get("oid") or ""), str(one.get("blobId") or "")
        found.append(
            SourceFile(
                name,
                size if isinstance(size, int) and size >= 0 else None,
                sha256 if _SHA256.fullmatch(sha256) else "",
                blob if not sums and _COMMIT.fullmatch(blob) else "",
            )
        )
    return found


def _inside(name: str) -> bool:
    """Say whether a name stays below the folder that it is put into."""
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and not {"", ".", ".."} & set(parts) and len(name) <= 1024


def _needed(files: Sequence[SourceFile]) -> tuple[SourceFile, ...]:
    """Give the files that an engine needs of a whole repository."""
    kept = [one for one in files if not _UNUSED.search(one.name)]
    if any(one.name.endswith(".safetensors") for one in kept):
        kept = [one for one in kept if not _PICKLED.search(one.name)]
    if not kept:
        raise SourceError(FailureCode.FileMissing, "the repository has no file that an engine could read")
    return tuple(sorted(kept, key=lambda one: one.name))
