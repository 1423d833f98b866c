"""`arbiter resolve`: one line of JSON about a source, from servers that behave and servers that do not."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import ssl
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from arbiter.cli.main import main
from arbiter.engines.sources import HttpsSource
from arbiter.fetch import pulling
from arbiter.fetch import registry as registry_module
from arbiter.fetch.docker_config import Login
from arbiter.fetch.failures import FailureCode, SourceError
from arbiter.fetch.resolve import Access, ResolveOptions, result
from arbiter.fetch.result import MOST_BYTES, Resolved, SourceFile, failure, success
from arbiter.fetch.single_files import resolve_https
from arbiter.fetch.waiting import Pace
from arbiter.fetch.web import Web
from tests.unit.fetch.gguf_example import model
from tests.unit.fetch.stand_in import File, serving, sha256
from tests.unit.router.certificate import made_certificate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.unit.fetch.stand_in import Handler

FACTS = {
    "format": "gguf",
    "contextWindow": 8192,
    "parameters": "7M",
    "quantization": "Q4_K_M",
    "family": "llama",
    "capabilities": ["chat", "completion", "tools"],
    "license": "Apache-2.0",
}
INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE = "application/vnd.oci.image.manifest.v1+json"


class Pauses:
    """Waits for nothing, and remembers for how long it should have."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.pace = Pace(lambda: 1.0, self.sleep)

    async def sleep(self, seconds: float) -> None:
        """Remember."""
        self.asked.append(seconds)
        await asyncio.sleep(0)


def resolved(handler: Handler, source: str, pauses: Pauses | None = None, **options: Any) -> dict[str, Any]:  # noqa: ANN401  fields of ResolveOptions
    """Resolve at a stand-in whose address takes the place of HOST."""

    async def ask() -> str:
        async with serving(handler) as host:
            access = Access(
                plain_http=(host,),
                hub=f"http://{host}",
                **{k: options.pop(k) for k in ("docker_config", "token_file") if k in options},
            )
            text = await result(
                ResolveOptions(source.replace("HOST", host), access=access, architecture="amd64", **options),
                (pauses or Pauses()).pace,
            )
            return text.replace(host, "HOST")

    told: dict[str, Any] = json.loads(asyncio.run(ask()))
    assert told.pop("version") == 1
    return told


class Registry:
    """A registry as far as pulling goes; every content is named by its sum or by a tag."""

    def __init__(self) -> None:
        self.content: dict[str, tuple[bytes, str]] = {}
        self.ranges = True
        self.asked: list[web.Request] = []

    def add(self, content: bytes, kind: str = "application/octet-stream", tag: str = "") -> dict[str, Any]:
        """Keep a content, and give how a manifest speaks of it."""
        digest = f"sha256:{sha256(content)}"
        self.content |= {name: (content, kind) for name in (digest, tag) if name}
        return {"mediaType": kind, "digest": digest, "size": len(content)}

    def image(
        self, layers: list[dict[str, Any]], tag: str = "", labels: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Keep an image."""
        config = self.add(
            json.dumps({"config": {"Labels": labels}}).encode(), "application/vnd.oci.image.config.v1+json"
        )
        manifest = {"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": layers}
        return self.add(json.dumps(manifest).encode(), IMAGE, tag)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer."""
        self.asked.append(request)
        found = self.content.get(request.path.rpartition("/")[2])
        if found is None:
            return web.Response(status=404)
        if "/blobs/" in request.path:
            return await File(found[0], ranges=self.ranges)(request)
        return web.Response(body=found[0], content_type=found[1])


def layer(files: Mapping[str, bytes], *, form: int = tarfile.GNU_FORMAT) -> bytes:
    """Give a layer."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return target.getvalue()


@pytest.mark.parametrize(
    "form", [pytest.param(tarfile.GNU_FORMAT, id="GNU"), pytest.param(tarfile.PAX_FORMAT, id="pax")]
)
@pytest.mark.parametrize("packed", [pytest.param(False, id="plain"), pytest.param(True, id="gzip")])
def test_an_image_tells_of_the_model_in_its_layers(form: int, packed: bool) -> None:
    """Layers above and entries before the model's file are passed over."""
    registry, long_name = Registry(), "x" * 150 + "/ü"
    below = layer({"licenses/LICENSE": b"text", long_name: bytes(9_000_000), "./model.gguf": model(5000)}, form=form)
    below = gzip.compress(below) if packed else below
    top = layer({"etc/hosts": b""})
    image = registry.image([registry.add(below), registry.add(top)], "1")

    told = resolved(registry, "oci://HOST/team/m:1")

    assert (
        told
        == {
            "ok": True,
            "source": f"oci://HOST/team/m@{image['digest']}",
            "digest": image["digest"],
            "size": len(model(5000)),
            "mediaType": IMAGE,
            "files": [{"name": "model.gguf", "size": len(model(5000))}],
        }
        | FACTS
    )


def test_of_several_platforms_ours_is_read_and_the_index_is_the_digest() -> None:
    """The index pins the same on every node; what was read is told beside."""
    registry = Registry()
    other = registry.image([registry.add(layer({"model.gguf": b"other"}))])
    ours = registry.image(
        [registry.add(layer({"m/a.gguf": model()}))], labels={"org.opencontainers.image.licenses": "MIT"}
    )
    entries = [
        other | {"platform": {"os": "unknown", "architecture": "unknown"}},
        other | {"platform": {"os": "linux", "architecture": "arm64"}},
        ours | {"platform": {"os": "linux", "architecture": "amd64"}},
    ]
    index = registry.add(json.dumps({"mediaType": INDEX, "manifests": entries}).encode(), INDEX, "1")

    told = resolved(registry, "oci://HOST/m:1#/m/a.gguf")
    assert (told["digest"], told["manifestDigest"]) == (index["digest"], ours["digest"])
    assert told["source"] == f"oci://HOST/m@{index['digest']}#/m/a.gguf"
    assert told["license"] == "MIT"


def test_a_platform_that_the_image_lacks_is_named() -> None:
    """So that the user knows what to build."""
    registry = Registry()
    other = registry.image([]) | {"platform": {"os": "linux", "architecture": "s390x"}}
    registry.add(json.dumps({"mediaType": INDEX, "manifests": [other]}).encode(), INDEX, "1")

    told = resolved(registry, "oci://HOST/m:1")
    assert (told["reason"], told["transient"]) == ("PlatformMissing", False)
    assert told["message"] == "HOST/m has no image for linux/amd64; it has linux/s390x"


@pytest.mark.parametrize(
    ("files", "want"),
    [
        pytest.param({"other": b""}, "HOST/m has no file /a.gguf", id="not there"),
        pytest.param({".wh.a.gguf": b""}, "HOST/m has no file /a.gguf", id="hidden by a layer above"),
        pytest.param(
            {"a.gguf": b"<html>"}, "a.gguf is no GGUF file that can be read: it does not begin with GGUF", id="a page"
        ),
        pytest.param(
            {"a.gguf": model(general__architecture="clip")}, "a.gguf goes with a model and is none itself", id="eyes"
        ),
    ],
)
def test_a_file_that_cannot_be_served_is_a_result(files: Mapping[str, bytes], want: str) -> None:
    """Named before any pod starts for it."""
    registry = Registry()
    below = [registry.add(layer({"a.gguf": model()}))] if ".wh.a.gguf" in files else []
    registry.image([*below, registry.add(layer(files))], "1")

    assert resolved(registry, "oci://HOST/m:1#a.gguf")["message"] == want


def test_a_folder_of_an_image_is_served_unread() -> None:
    """An engine of whole repositories gets one."""
    registry = Registry()
    registry.image([registry.add(layer({"m/config.json": b"{}"}))], "1")
    told = resolved(registry, "oci://HOST/m:1#/m")
    assert (told["ok"], told["notes"]) == (True, ["/m is a folder of the image, so nothing was read of it"])


def test_an_artefact_of_files_tells_its_file_and_sum() -> None:
    """Its layer is the model's file, with no archive around it."""
    registry = Registry()
    weights = registry.add(model(), "application/vnd.docker.ai.gguf.v3")
    registry.image([weights], "1")
    told = resolved(registry, "oci://HOST/ai/m:1", sha256=sha256(model()))
    assert told["files"] == [{"name": "model.gguf", "size": len(model()), "sha256": sha256(model())}]
    assert told["contextWindow"] == 8192
    wrong = resolved(registry, "oci://HOST/ai/m:1", sha256="0" * 64)
    assert (wrong["reason"], wrong["transient"]) == ("SumMismatch", False)


def test_a_manifest_that_is_not_the_one_asked_for_is_refused() -> None:
    """A digest is checked, whoever answers."""
    registry = Registry()
    registry.content["sha256:" + "0" * 64] = (b"{}", IMAGE)
    assert resolved(registry, "oci://HOST/m@sha256:" + "0" * 64)["reason"] == "SumMismatch"


def test_a_registry_is_shown_a_token_only_after_it_named_who_gives_it(tmp_path: Path) -> None:
    """The scope is the one of this image, and user and password go to the giver of tokens alone."""
    registry, seen = Registry(), []
    registry.image([registry.add(layer({"model.gguf": model()}))], "1")

    async def guarded(request: web.Request) -> web.StreamResponse:
        seen.append((request.path, dict(request.query), request.headers.get("Authorization", "")))
        if request.path == "/token":
            return web.json_response({"token": "t1"})
        if request.headers.get("Authorization") != "Bearer t1":
            challenge = f'Bearer realm="http://{request.host}/token",service="s",scope="repository:m:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return await registry(request)

    config = tmp_path / "c.json"
    config.write_text(json.dumps({"auths": {"127.0.0.1:*": {}, "*.*.*.*": {"username": "u", "password": "p"}}}))
    assert resolved(guarded, "oci://HOST/m:1", docker_config=config)["contextWindow"] == 8192
    assert seen[0][2] == ""
    assert seen[1][:2] == ("/token", {"service": "s", "scope": "repository:m:pull"})
    assert {authorization for _, _, authorization in seen[2:]} == {"Bearer t1"}


@pytest.mark.parametrize("challenge", ["Basic realm=x", 'Bearer realm="nowhere"', "Digest x", ""])
def test_a_registry_that_lets_nobody_in_is_no_passing_trouble(challenge: str) -> None:
    """Asking again would not help; a pull secret would."""

    async def closed(_: web.Request) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    told = resolved(closed, "oci://HOST/m:1")
    assert (told["reason"], told["transient"]) == ("AccessDenied", False)


def test_an_ollama_model_tells_what_its_parts_say() -> None:
    """The digest is the manifest's, as `ollama list` shows it."""
    registry, kind = Registry(), "application/vnd.ollama.image."
    config = registry.add(json.dumps({"model_family": "other", "model_type": "1.2B", "file_type": "Q8_0"}).encode())
    parts = [
        registry.add(model(), f"{kind}model"),
        registry.add(b"{{ if .Tools }}{{ .Thinking }}", f"{kind}template"),
        registry.add(b"  Apache License\n Version 2.0", f"{kind}license"),
        registry.add(b"eyes", f"{kind}projector"),
    ]
    image = registry.add(
        json.dumps({"config": config, "layers": parts}).encode(),
        "application/vnd.docker.distribution.manifest.v2+json",
        "1b",
    )

    told = resolved(registry, "ollama://HOST/library/m:1b")

    assert registry.asked[0].path == "/v2/library/m/manifests/1b"
    assert (told["digest"], told["size"]) == (image["digest"], len(model()) + 4)
    assert [one["name"] for one in told["files"]] == ["model", "projector"]
    assert told["capabilities"] == ["chat", "completion", "thinking", "tools", "vision"]
    assert (told["family"], told["license"], told["quantization"]) == ("llama", "Apache-2.0", "Q4_K_M")


class Hub:
    """A model hub with one repository."""

    commit = "a" * 40

    def __init__(self, files: Mapping[str, bytes], *, large: bool = True, **info: Any) -> None:  # noqa: ANN401  JSON
        self.files, self.large, self.info = files, large, info
        self.asked: list[tuple[str, str]] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer."""
        self.asked.append((request.path, request.headers.get("Authorization", "")))
        if request.path == "/api/models/o/r/revision/main":
            listed = [self.listed(name, content) for name, content in self.files.items()]
            return web.json_response({"sha": self.commit, "siblings": listed} | self.info)
        name = request.path.removeprefix(f"/o/r/resolve/{self.commit}/")
        if name not in self.files:
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound"})
        return await File(self.files[name])(request)

    def listed(self, name: str, content: bytes) -> dict[str, Any]:
        """Give a file as the list has it."""
        git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        large = {"sha256": sha256(content), "size": len(content)} if self.large and not name.endswith(".json") else None
        return {"rfilename": name, "size": len(content), "blobId": git, "lfs": large}


def test_a_file_of_a_hub_is_identified_by_its_sum_and_pinned_to_the_commit(tmp_path: Path) -> None:
    """The card's licence counts, and the token goes along."""
    token = tmp_path / "token"
    token.write_text("hf_x\n")
    hub = Hub({"m.gguf": model(), "README.md": b""}, cardData={"license": "mit"})
    told = resolved(hub, "hf://o/r/m.gguf", token_file=token)

    assert told == {
        "ok": True,
        "source": f"hf://o/r/m.gguf@{Hub.commit}",
        "digest": f"sha256:{sha256(model())}",
        "size": len(model()),
        "files": [{"name": "m.gguf", "size": len(model()), "sha256": sha256(model())}],
    } | FACTS | {"license": "MIT"}
    assert {authorization for _, authorization in hub.asked} == {"Bearer hf_x"}


def test_all_parts_of_a_split_file_belong_to_it() -> None:
    """A server that is given the first asks for the others by name."""
    parts = {f"m-0000{number}-of-00002.gguf": model(number) for number in (1, 2)}
    told = resolved(Hub(parts), "hf://o/r/m-00001-of-00002.gguf")
    assert [one["name"] for one in told["files"]] == list(parts)
    missing = resolved(Hub({"m-00001-of-00002.gguf": b""}), "hf://o/r/m-00001-of-00002.gguf")
    assert missing["message"] == "o/r has no file m-00002-of-00002.gguf at revision main"


def test_a_whole_repository_is_what_an_engine_needs_of_it() -> None:
    """Other forms of the same weights are not fetched, and its own descriptions tell what it is."""
    files = {
        "model.safetensors": b"w",
        "pytorch_model.bin": b"w",
        "onnx/model.onnx": b"w",
        ".gitattributes": b"",
        "config.json": json.dumps(
            {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 4096}
        ).encode(),
        "tokenizer_config.json": json.dumps(
            {"chat_template": [{"name": "default", "template": "{{ tools }}"}]}
        ).encode(),
    }
    told = resolved(Hub(files, safetensors={"total": 1_500_000_000}), "hf://o/r")
    assert [one["name"] for one in told["files"]] == ["config.json", "model.safetensors", "tokenizer_config.json"]
    assert told["capabilities"] == ["chat", "completion", "tools"]
    assert (told["contextWindow"], told["parameters"], told["format"]) == (4096, "1.5B", "safetensors")


def test_a_gated_repository_says_so() -> None:
    """Its terms have to be accepted by a person."""

    async def gated(_: web.Request) -> web.StreamResponse:
        return web.Response(status=403, headers={"X-Error-Message": "Access to model o/r is restricted"})

    told = resolved(gated, "hf://o/r/m.gguf")
    assert told["reason"] == "AccessDenied"
    assert "Access to model o/r is restricted" in told["message"]


@pytest.mark.parametrize("name", ["../m", "/etc/passwd", "a//b", "a\\b", "\x00"])
def test_a_hub_that_lists_a_file_outside_of_its_repository_is_refused(name: str) -> None:
    """It would be written elsewhere on the volume."""
    assert resolved(Hub({name: b""}), "hf://o/r")["reason"] == "AnswerInvalid"


def https(handler: Handler, name: str = "m.gguf", sum_of: bytes = b"") -> Resolved:
    """Resolve an address of a stand-in, which has no TLS."""

    async def ask() -> Resolved:
        async with serving(handler) as host, Web.opened((host,)) as asking:
            return await resolve_https(asking, HttpsSource(f"http://{host}/{name}", name), sha256(sum_of), "")

    return asyncio.run(ask())


def test_an_address_tells_size_and_model() -> None:
    """The given sum is its identity; all of it need not be read for that."""
    content = model(9_000_000)
    found = https(File(content), sum_of=content)
    assert (found.digest, found.size, found.findings.context_window) == (
        f"sha256:{sha256(content)}",
        len(content),
        8192,
    )


def test_redirects_are_followed_a_few_times_and_show_no_token_elsewhere() -> None:
    """A circle ends, and what is no web address is not asked."""

    async def circle(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/again")

    async def mail(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("mailto:a@b.example")

    for handler in (circle, mail):
        with pytest.raises(SourceError) as failed:
            https(handler)
        assert failed.value.code == FailureCode.RedirectRefused


def test_a_redirect_to_another_origin_leaves_the_token_behind() -> None:
    """Storage behind a hub has signed addresses of its own."""
    seen: list[str] = []

    async def ask() -> None:
        async def storage(request: web.Request) -> web.StreamResponse:
            seen.append(request.headers.get("Authorization", ""))
            return await File(model())(request)

        async with serving(storage) as second:

            async def first(_: web.Request) -> web.StreamResponse:
                raise web.HTTPFound(f"http://{second}/signed?secret=1")

            async with serving(first) as host, Web.opened((host, second)) as asking:
                await resolve_https(asking, HttpsSource(f"http://{host}/m.gguf", "m.gguf"), sha256(model()), "token")

    asyncio.run(ask())
    assert seen == [""]


def test_whoever_may_not_be_asked_without_tls_is_not() -> None:
    """Neither at first nor after a redirect."""

    async def ask() -> None:
        async with serving(File(model())) as host, Web.opened() as asking:
            await resolve_https(asking, HttpsSource(f"http://{host}/m.gguf", "m.gguf"), sha256(b""), "")

    with pytest.raises(SourceError, match="without TLS"):
        asyncio.run(ask())


def test_headers_without_end_are_not_read() -> None:
    """A megabyte of header is a fault, whoever made it."""

    async def huge(_: web.Request) -> web.StreamResponse:
        return web.Response(headers={"X": "x" * 1_000_000})

    with pytest.raises(SourceError) as failed:
        https(huge)
    assert failed.value.code in {FailureCode.AnswerInvalid, FailureCode.SourceUnreachable}


def test_a_connection_that_ends_in_the_header_is_passing_trouble() -> None:
    """The next attempt reads it all."""
    file = File(model(), cuts=[1000])
    with pytest.raises(SourceError) as failed:
        https(file)
    assert (failed.value.code, failed.value.transient) == (FailureCode.SourceUnreachable, True)
    assert https(file).findings.context_window == 8192


def test_a_packing_that_cannot_be_read_here_leaves_the_model_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image can be served all the same."""

    def none_there() -> None:
        raise pulling.TooFar

    monkeypatch.setattr(pulling, "_zstd", none_there)
    registry = Registry()
    registry.image([registry.add(b"\x28\xb5\x2f\xfd" + bytes(100))], "1")
    told = resolved(registry, "oci://HOST/m:1")
    assert (told["ok"], told["size"], len(told["notes"])) == (True, 104, 1)


@pytest.mark.parametrize(
    ("login", "want"),
    [
        pytest.param(Login("u", "p"), ("GET", "Basic dTpw", ""), id="user and password"),
        pytest.param(Login(identity_token="i"), ("POST", "", "i"), id="identity token"),  # noqa: S106  no secret
        pytest.param(None, ("GET", "", ""), id="nobody"),
    ],
)
def test_a_token_is_given_for_what_the_pull_secret_holds(login: Login | None, want: tuple[str, str, str]) -> None:
    """Each kind of entry in its own way."""
    seen: list[tuple[str, str, str]] = []

    async def guarded(request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            form = await request.post()
            refresh = str(form.get("refresh_token", ""))
            seen.append((request.method, request.headers.get("Authorization", ""), refresh))
            return web.json_response({"access_token": "t"})
        if request.headers.get("Authorization") == "Bearer t":
            return web.json_response({"layers": []})
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="http://{request.host}/token"'})

    async def ask() -> None:
        async with serving(guarded) as host, Web.opened((host,)) as asking:
            await registry_module.Registry(asking, host, "m", login).manifest("1")

    asyncio.run(ask())
    assert seen == [want]


def test_layers_of_several_members_and_servers_without_ranges_are_read_all_the_same() -> None:
    """Some builders pack each file for itself, and fill up the last block."""
    files = layer({"first": bytes(9_000_000), "model.gguf": model()})
    packed = gzip.compress(files[:5_000_000]) + gzip.compress(files[5_000_000:]) + bytes(100)
    for content in (packed, files):
        registry = Registry()
        registry.ranges = False
        registry.image([registry.add(content)], "1")
        assert resolved(registry, "oci://HOST/m:1")["contextWindow"] == 8192


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x1f\x8bnonsense" * 9, id="broken gzip"),
        pytest.param(b"x" * 2000, id="no archive"),
        pytest.param(gzip.compress(b"x" * 2000), id="no archive in gzip"),
    ],
)
def test_a_layer_that_is_none_is_said(content: bytes) -> None:
    """The runtime could not unpack it either."""
    registry = Registry()
    registry.image([registry.add(content)], "1")
    assert resolved(registry, "oci://HOST/m:1")["reason"] == "AnswerInvalid"


def test_a_mirror_that_lists_names_only_is_asked_for_each_file() -> None:
    """Its answer has the size and the sum in headers."""

    async def mirror(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/api/"):
            return web.json_response({"sha": Hub.commit, "siblings": [{"rfilename": "m.gguf"}]})
        if request.method == "HEAD":
            headers = {
                "X-Linked-Size": "7",
                "X-Linked-ETag": f'"{sha256(model())}"',
                "Location": "http://nowhere.example/",
            }
            return web.Response(status=302, headers=headers)
        return await File(model())(request)

    told = resolved(mirror, "hf://o/r/m.gguf")
    assert told["files"] == [{"name": "m.gguf", "size": 7, "sha256": sha256(model())}]


def test_the_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many clusters reach nothing else."""
    registry = Registry()
    registry.image([registry.add(layer({"model.gguf": model()}))], "1")

    async def ask() -> str:
        async with serving(registry) as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://{proxy}")
            access = Access(plain_http=("nowhere.example:5000",))
            return await result(ResolveOptions("oci://nowhere.example:5000/m:1", access=access), Pauses().pace)

    assert json.loads(asyncio.run(ask()))["contextWindow"] == 8192
    assert registry.asked[0].headers["Host"] == "nowhere.example:5000"


def over_tls(folder: Path, handler: Handler, *words: str, trusted: bool = True) -> dict[str, Any]:
    """Run the command against a stand-in with a certificate of its own."""
    certificate, key = made_certificate(folder)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)

    async def ask() -> bytes:
        async with serving(handler, tls) as host:
            source = f"https://localhost:{host.partition(':')[2]}/m.gguf"
            command = ("-m", "arbiter.cli.main", "resolve", "--source", source, "--sha256", "0" * 64, *words)
            environment = os.environ | ({"SSL_CERT_FILE": str(certificate)} if trusted else {})
            process = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdout=asyncio.subprocess.PIPE, env=environment
            )
            out, _ = await process.communicate()
            return out

    told: dict[str, Any] = json.loads(asyncio.run(ask()))
    return told


def test_tls_is_checked_and_never_left(tmp_path: Path) -> None:
    """Not even for a host that may be asked without it from the start."""

    async def leaves(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("http://127.0.0.1:9/m.gguf")

    assert over_tls(tmp_path, File(model()))["contextWindow"] == 8192
    assert over_tls(tmp_path, leaves, "--plain-http", "127.0.0.1:9")["reason"] == "RedirectRefused"
    unknown = over_tls(tmp_path, File(model()), trusted=False)
    assert (unknown["reason"], unknown["transient"]) == ("SourceRefused", False)


def test_half_a_character_in_a_label_is_told_as_a_question_mark() -> None:
    """JSON can carry what no file can."""
    registry = Registry()
    registry.image([], "1", labels={"org.opencontainers.image.licenses": "\ud800"})
    assert resolved(registry, "oci://HOST/m:1")["license"] == "?"


def test_passing_trouble_is_asked_again_when_the_server_wants_it() -> None:
    """Its word about the time wins over ours."""
    registry, pauses = Registry(), Pauses()
    registry.image([registry.add(layer({"model.gguf": model()}))], "1")
    answers = [web.Response(status=429, headers={"Retry-After": "17"}), web.Response(status=503)]

    async def busy(request: web.Request) -> web.StreamResponse:
        return answers.pop(0) if answers else await registry(request)

    assert resolved(busy, "oci://HOST/m:1", pauses)["ok"] is True
    assert pauses.asked == [17.0, 2.0]


def test_when_the_deadline_leaves_no_time_the_last_failure_is_the_result() -> None:
    """It is one that time may mend, so the operator starts another resolver later."""

    async def busy(_: web.Request) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "900"})

    told = resolved(busy, "oci://HOST/m:1", deadline_s=60.0)
    assert (told["ok"], told["reason"], told["transient"]) == (False, "RateLimited", True)


def test_a_claim_tells_sum_and_model(tmp_path: Path) -> None:
    """Of a folder every file counts."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a.gguf").write_bytes(model(10))
    (tmp_path / "m" / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    handler = File(b"")

    file = resolved(handler, "pvc://models/m/a.gguf", mounted=tmp_path)
    folder = resolved(handler, "pvc://models/m", mounted=tmp_path)

    assert (file["digest"], file["contextWindow"]) == (f"sha256:{sha256(model(10))}", 8192)
    assert ([one["name"] for one in folder["files"]], folder["family"]) == (["a.gguf", "config.json"], "qwen3")
    assert resolved(handler, "pvc://models/m/b", mounted=tmp_path)["reason"] == "FileMissing"
    assert resolved(handler, "pvc://models/m/b")["reason"] == "SourceInvalid"
    assert handler.asked == []


def test_a_link_that_leads_off_the_claim_is_refused(tmp_path: Path) -> None:
    """What the resolver's own container holds is none of the user's business."""
    mounted = tmp_path / "claim"
    mounted.mkdir()
    (tmp_path / "secret").write_text("x")
    (mounted / "m").symlink_to(tmp_path / "secret")
    assert resolved(File(b""), "pvc://models/m", mounted=mounted)["reason"] == "SourceInvalid"


def test_a_result_always_fits_into_a_termination_message() -> None:
    """Files that do not fit are counted, not cut."""
    files = tuple(SourceFile(f"{number:04}-" + "ü" * 100, number, "0" * 64) for number in range(500))
    text = success(Resolved("hf://o/r@" + "a" * 40, "sha256:" + "0" * 64, 1, files, notes=("n" * 3000,) * 5))
    told = json.loads(text)
    assert len(text.encode()) <= MOST_BYTES
    assert len(told["files"]) + told["filesOmitted"] == 500
    error = failure(SourceError(FailureCode.SourceRefused, "ü\n" * 5000))
    assert len(error.encode()) <= MOST_BYTES


def test_the_command_leaves_its_result_where_the_kubelet_looks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one that says no: the exit code is only about the writing."""
    log = tmp_path / "log"
    assert main(["resolve", "--source", "pvc://c/m", "--deadline", "5s", "--termination-log", str(log)]) == 0
    assert json.loads(log.read_text())["reason"] == "SourceInvalid"
    assert capsys.readouterr().out == log.read_text() + "\n"
    assert main(["resolve", "--source", "x", "--termination-log", str(tmp_path / "no" / "log")]) == 1
