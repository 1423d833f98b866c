"""`arbiter carry` against an Ollama that answers as it is told, and once from a real registry into a real Ollama."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from arbiter.fetch.carry import CarryOptions, carry
from arbiter.fetch.failures import SourceError
from arbiter.fetch.fetch import FetchOptions
from arbiter.fetch.progress import Progress, State
from arbiter.fetch.resolve import Access
from devcluster import build, pushing
from devcluster.programs import named
from devcluster.registry import PASSWORD, USER
from tests.e2e import image_contents
from tests.e2e.serving import library
from tests.unit.fetch import gguf_example
from tests.unit.fetch.stand_in import serving, sha256
from tests.unit.fetch.test_commands import arbiter, free_port, registry, until_it_answers
from tests.unit.fetch.test_gguf import CACHE
from tests.unit.fetch.test_resolve import Pauses, Registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NAME = "arbiter/m:0123456789"
CONTENT = gguf_example.model(5000)
KIND = "application/vnd.ollama.image."


@dataclass
class Ollama:
    """A server that takes files and makes models.

    Attributes:
        blobs: the files that it holds, by sum.
        made: what it was asked to make.
        faults: for each request in turn, how it goes wrong: a status with words, or "cut"; None: it does not.
        lines: what it says while it makes a model.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)
    faults: list[tuple[int, str] | str | None] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=lambda: [{"status": "success"}])

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer."""
        fault = self.faults.pop(0) if self.faults else None
        if fault == "cut" and request.transport is not None:
            request.transport.abort()
            return web.Response()
        if isinstance(fault, tuple):
            await request.read()
            return web.json_response({"error": fault[1]}, status=fault[0])
        if request.path.startswith("/api/blobs/"):
            digest = request.path.rpartition("/")[2].removeprefix("sha256:")
            if request.method == "HEAD":
                return web.Response(status=200 if digest in self.blobs else 404)
            content = await request.read()
            assert sha256(content) == digest
            self.blobs[digest] = content
            return web.Response(status=201)
        assert request.path == "/api/create"
        self.made.append(await request.json())
        return web.Response(text="".join(json.dumps(line) + "\n" for line in self.lines))


def carried(
    ollama: Ollama,
    options: Mapping[str, Any],
    source: str,
    digest: str,
    **fetching: Any,  # noqa: ANN401  fields of FetchOptions
) -> tuple[Progress, Pauses]:
    """Carry to a stand-in."""
    pauses = Pauses()

    async def run() -> Progress:
        async with serving(ollama) as engine:
            loop = asyncio.get_running_loop()
            progress = Progress(loop.time)
            told = FetchOptions(source, digest, progress_port=None, **fetching)
            await carry(
                CarryOptions(told, f"http://{engine}", NAME, {"num_ctx": 1024}, **options), progress, pauses.pace
            )
            return progress

    return asyncio.run(run()), pauses


def mounted(tmp_path: Path, ollama: Ollama, content: bytes = CONTENT, **fetching: Any) -> tuple[Progress, Pauses]:  # noqa: ANN401  fields of FetchOptions
    """Carry a file that is mounted."""
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    source = fetching.pop("source", "oci://registry.example/m:1")
    return carried(ollama, {"mounted": file}, source, fetching.pop("digest", "sha256:1"), to=tmp_path, **fetching)


def test_a_mounted_file_is_given_and_a_model_made_of_it(tmp_path: Path) -> None:
    """By its sum, with the options of the revision; what was sent is counted."""
    ollama = Ollama()
    progress, _ = mounted(tmp_path, ollama, sha256=sha256(CONTENT))
    assert ollama.blobs == {sha256(CONTENT): CONTENT}
    want = {
        "model": NAME,
        "files": {"model.gguf": f"sha256:{sha256(CONTENT)}"},
        "parameters": {"num_ctx": 1024},
        "stream": True,
    }
    assert ollama.made == [want]
    assert (progress.bytes, progress.total, progress.state) == (len(CONTENT), len(CONTENT), State.DONE)
    mounted(tmp_path, ollama)
    assert len(ollama.made) == 2


def test_what_the_server_holds_is_not_sent_again(tmp_path: Path) -> None:
    """As when two revisions are of one file."""
    ollama = Ollama({sha256(CONTENT): b"held"})
    mounted(tmp_path, ollama)
    assert ollama.blobs == {sha256(CONTENT): b"held"}
    assert len(ollama.made) == 1


@pytest.mark.parametrize(
    ("fetching", "words"),
    [
        pytest.param({"sha256": "0" * 64}, "SumMismatch the file of oci://registry.example/m:1 has the sum", id="sum"),
        pytest.param({"sha256": "zz"}, "SourceInvalid 'zz' is no sha256 sum", id="no sum"),
        pytest.param(
            {"source": "pvc://claim/m.gguf", "digest": "sha256:" + "1" * 64},
            "SourceMoved pvc://claim/m.gguf was resolved to the sum 1111",
            id="claim",
        ),
    ],
)
def test_a_file_that_is_another_one_is_not_given(tmp_path: Path, fetching: dict[str, Any], words: str) -> None:
    """Nothing reaches the server."""
    ollama = Ollama()
    with pytest.raises(SourceError) as raised:
        mounted(tmp_path, ollama, **fetching)
    assert f"{raised.value.code} {raised.value}".startswith(words)
    assert (ollama.blobs, ollama.made) == ({}, [])


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """By its name, not as a broken volume."""
    with pytest.raises(SourceError, match=r"there is no file m\.gguf") as raised:
        carried(Ollama(), {"mounted": tmp_path / "m.gguf"}, "oci://registry.example/m:1", "sha256:1", to=tmp_path)
    assert raised.value.code == "FileMissing"


def test_a_server_that_starts_anew_is_asked_again(tmp_path: Path) -> None:
    """Whether it goes while it gets the file or while it makes the model."""
    ollama = Ollama(faults=[None, "cut", None, "cut", None, None, "cut"])
    progress, pauses = mounted(tmp_path, ollama)
    assert pauses.asked == [1.0, 2.0, 1.0]
    assert progress.bytes == len(CONTENT)
    assert len(ollama.made) == 1


@pytest.mark.parametrize(
    ("faults", "lines", "code", "words"),
    [
        pytest.param([None, (400, "digest mismatch")], [], "EngineRefused", "digest mismatch", id="file"),
        pytest.param([None, (500, "write: no space left on device")], [], "NoSpace", "store is full", id="full"),
        pytest.param([None, None, (400, "bad name")], [], "EngineRefused", "answered 400: bad name", id="model"),
        pytest.param([], [{"error": "not in GGUF format"}], "EngineRefused", "not in GGUF format", id="in the stream"),
        pytest.param([], [{"status": "parsing"}] * 9, "EngineUnreachable", "broke off", id="no end"),
        pytest.param(["cut"] * 30, [], "EngineUnreachable", "HEAD /api/blobs/", id="away"),
    ],
)
def test_what_the_server_refuses_is_told(
    tmp_path: Path, faults: list[Any], lines: list[dict[str, Any]], code: str, words: str
) -> None:
    """In its own words."""
    with pytest.raises(SourceError, match=words) as raised:
        mounted(tmp_path, Ollama(faults=faults, lines=lines or [{"status": "success"}]))
    assert raised.value.code == code


def of_library(**texts: str) -> tuple[Registry, str]:
    """Give a registry with a model of several parts, and the manifest's digest."""
    found = Registry()
    layers = [found.add(CONTENT, f"{KIND}model"), found.add(b"sees", f"{KIND}projector")]
    layers.append(found.add(b"changes", f"{KIND}adapter"))
    layers += [found.add(text.encode(), f"{KIND}{kind}") for kind, text in texts.items()]
    config = found.add(json.dumps({"renderer": "qwen3", "parser": "qwen3", "model_family": "llama"}).encode())
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = json.dumps({"mediaType": kind, "config": config, "layers": layers}).encode()
    return found, found.add(manifest, kind, tag="1")["digest"]


def from_library(tmp_path: Path, ollama: Ollama, found: Registry, digest: str, **fetching: Any) -> Progress:  # noqa: ANN401  fields of FetchOptions
    """Carry from a library."""

    async def run() -> Progress:
        async with serving(found) as host, serving(ollama) as engine:
            progress = Progress(asyncio.get_running_loop().time)
            told = FetchOptions(
                f"ollama://{host}/library/m:1",
                digest,
                tmp_path / "carried" / "it",
                access=Access(plain_http=(host,)),
                progress_port=None,
                **fetching,
            )
            await carry(CarryOptions(told, f"http://{engine}", NAME, {"num_ctx": 1024}), progress, Pauses().pace)
            return progress

    return asyncio.run(run())


def test_all_that_a_library_has_of_a_model_is_carried(tmp_path: Path) -> None:
    """Its texts and parameters too; the options of the revision win, and what was brought is removed."""
    found, digest = of_library(
        template="{{ .Prompt }}",
        system="Be brief.",
        license="MIT",
        messages='[{"role": "user", "content": "Hi"}]',
        params='{"stop": ["</s>"], "num_ctx": 512}',
    )
    ollama = Ollama()
    progress = from_library(tmp_path, ollama, found, digest)
    assert set(ollama.blobs.values()) == {CONTENT, b"sees", b"changes"}
    (made,) = ollama.made
    assert made == {
        "model": NAME,
        "files": {"model-0.gguf": f"sha256:{sha256(CONTENT)}", "model-1.gguf": f"sha256:{sha256(b'sees')}"},
        "adapters": {"adapter-0.gguf": f"sha256:{sha256(b'changes')}"},
        "template": "{{ .Prompt }}",
        "system": "Be brief.",
        "license": ["MIT"],
        "messages": [{"role": "user", "content": "Hi"}],
        "renderer": "qwen3",
        "parser": "qwen3",
        "parameters": {"stop": ["</s>"], "num_ctx": 1024},
        "stream": True,
    }
    assert progress.bytes == progress.total == len(CONTENT) + len(b"seeschanges")
    assert not (tmp_path / "carried" / "it").exists()


def test_a_tag_that_moved_changes_nothing_while_its_manifest_is_there(tmp_path: Path) -> None:
    """It is asked for by its digest; a registry that has it no more is refused, and so is another sum."""
    found, digest = of_library()
    found.content["1"] = (b'{"layers": []}', "application/vnd.docker.distribution.manifest.v2+json")
    from_library(tmp_path, ollama := Ollama(), found, digest)
    assert len(ollama.made) == 1
    with pytest.raises(SourceError) as summed:
        from_library(tmp_path, ollama, found, digest, sha256="0" * 64)
    assert summed.value.code == "SumMismatch"
    del found.content[digest]
    with pytest.raises(SourceError) as moved:
        from_library(tmp_path, ollama, found, digest)
    assert moved.value.code == "SourceMoved"
    assert len(ollama.made) == 1


@contextmanager
def real_ollama(folder: Path) -> Iterator[str]:
    """Run a real Ollama on loopback, and give its address."""
    program = build.place(named("ollama"))
    if not program.exists():
        pytest.skip("Ollama has not been built here; `make image` does")
    host = f"127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "HOME": str(folder),
        "OLLAMA_HOST": host,
        "OLLAMA_MODELS": str(folder / "store"),
        "OLLAMA_NO_CLOUD": "1",
    }
    quiet = subprocess.DEVNULL
    with subprocess.Popen([program, "serve"], env=environment, stdout=quiet, stderr=quiet) as process:  # noqa: S603  our own program
        try:
            until_it_answers(host)
            yield f"http://{host}"
        finally:
            process.terminate()


def test_a_model_of_a_private_library_comes_into_a_real_ollama(tmp_path: Path) -> None:
    """With its texts; without the password its end says so, and the pod's last words as well."""
    archives = sorted(CACHE.glob("smollm2-*.tar"), key=lambda one: one.stat().st_mtime)
    if not archives:
        pytest.skip("the image smollm2 has not been built here; `make image` does")
    weights = image_contents.read(archives[-1]).read("/model.gguf")
    config, log = tmp_path / "config.json", tmp_path / "log"
    texts = {"template": library.TEMPLATE, "system": library.SYSTEM, "license": "Apache License"}
    with registry(tmp_path, private=True) as host, real_ollama(tmp_path) as engine:
        digest = library.push(pushing.Registry(host, USER, PASSWORD), "library/smollm2", "135m", weights, texts)
        config.write_text(json.dumps({"auths": {host: {"username": USER, "password": PASSWORD}}}))
        words = (
            *("carry", f"--source=ollama://{host}/library/smollm2:135m", f"--digest={digest}", f"--engine={engine}"),
            *(f"--model={NAME}", '--options={"num_ctx": 1024}', f"--to={tmp_path / 'to'}", f"--plain-http={host}"),
            *(f"--progress-port={free_port()}", f"--termination-log={log}"),
        )
        refused = arbiter(*words)
        last_words = log.read_text()
        done = arbiter(*words, f"--docker-config={config}")
        asked = urllib.request.Request(f"{engine}/api/show", json.dumps({"model": NAME}).encode())  # noqa: S310  our own
        with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310  as above
            shown = json.load(answer)

    assert refused.returncode == 1
    assert last_words.startswith("AccessDenied: ")
    assert (done.returncode, done.stderr) == (0, "")
    assert shown["system"] == library.SYSTEM
    assert shown["template"] == library.TEMPLATE
    assert shown["license"] == "Apache License"
    assert shown["details"]["quantization_level"] == "Q4_1"
    assert "num_ctx" in shown["parameters"]
