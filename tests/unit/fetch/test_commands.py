"""`arbiter fetch` and `arbiter resolve` as a container runs them, one of them against a real registry."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from devcluster import build
from devcluster.programs import named
from devcluster.pushing import Registry
from devcluster.registry import HASHED, PASSWORD, USER
from tests.unit.fetch.stand_in import sha256
from tests.unit.fetch.test_gguf import CACHE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 60.0


def arbiter(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    return subprocess.run(  # noqa: S603  our own program
        [sys.executable, "-m", "arbiter.cli.main", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def free_port() -> int:
    """Give a port that nobody has."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def registry(folder: Path, *, private: bool) -> Iterator[str]:
    """Run a real registry on loopback, and give its host and port."""
    program = build.place(named("registry"))
    if not program.exists():
        pytest.skip("the registry has not been built here; `make cluster` does")
    host = f"127.0.0.1:{free_port()}"
    passwords = folder / "htpasswd"
    passwords.write_text(f"{USER}:{HASHED}\n")
    asked = {"auth": {"htpasswd": {"realm": "test", "path": str(passwords)}}} if private else {}
    configuration = folder / "registry.json"
    configuration.write_text(
        json.dumps(
            {
                "version": "0.1",
                "log": {"level": "error"},
                "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
                "http": {"addr": host},
                **asked,
            }
        )
    )
    environment = os.environ | {"OTEL_TRACES_EXPORTER": "none"}
    quiet = subprocess.DEVNULL
    with subprocess.Popen([program, "serve", configuration], env=environment, stdout=quiet, stderr=quiet) as process:  # noqa: S603  our own program
        try:
            until_it_answers(host)
            yield host
        finally:
            process.terminate()


def until_it_answers(host: str) -> None:
    """Wait until a server takes connections."""
    address, port = host.split(":")
    for _ in range(600):
        try:
            with socket.create_connection((address, int(port)), timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"{host} does not answer")


@pytest.mark.parametrize("private", [pytest.param(False, id="open"), pytest.param(True, id="with a password")])
def test_a_real_image_in_a_real_registry_is_resolved(tmp_path: Path, private: bool) -> None:
    """The image that the cluster serves, as it was built, pushed to the registry that the cluster runs."""
    archives = sorted(CACHE.glob("smollm2-*.tar"), key=lambda one: one.stat().st_mtime)
    if not archives:
        pytest.skip("the image smollm2 has not been built here; `make image` does")
    config, log = tmp_path / "config.json", tmp_path / "log"
    with registry(tmp_path, private=private) as host:
        pushed = Registry(host, USER, PASSWORD) if private else Registry(host)
        digest = pushed.push(archives[-1], "arbiter/smollm2", "0.1.2")
        config.write_text(json.dumps({"auths": {f"http://{host}/v1/": {"username": USER, "password": PASSWORD}}}))
        asked = (
            "resolve",
            "--source",
            f"oci://{host}/arbiter/smollm2:0.1.2",
            "--plain-http",
            host,
            "--deadline",
            "20s",
        )
        known = arbiter(*asked, "--docker-config", str(config), "--termination-log", str(log))
        unknown = arbiter(*asked)
        missing = arbiter(*asked[:2], f"oci://{host}/arbiter/other:1", *asked[3:], "--docker-config", str(config))

    assert (known.returncode, known.stderr) == (0, "")
    told = json.loads(log.read_text())
    assert told == json.loads(known.stdout)
    assert told["source"] == f"oci://{host}/arbiter/smollm2@{digest}"
    want = {
        "version": 1,
        "ok": True,
        "digest": digest,
        "size": told["files"][0]["size"],
        "format": "gguf",
        "contextWindow": 8192,
        "parameters": "135M",
        "quantization": "Q4_1",
        "family": "llama",
        "license": "Apache-2.0",
        "capabilities": ["chat", "completion"],
    }
    assert {name: told[name] for name in want} == want
    assert told["files"][0]["name"] == "model.gguf"
    assert json.loads(unknown.stdout).get("reason") == ("AccessDenied" if private else None)
    assert json.loads(missing.stdout)["reason"] == "SourceNotFound"


SERVER = """
import hashlib, http.server, sys
content = bytes(range(256)) * 40000
class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        if "/manifests/" in self.path:
            return self.whole(manifest)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:start + 3_000_000])
        if not start:
            self.wfile.flush()
            sys.stdin.readline()
        self.wfile.write(content[start + 3_000_000:])
    def whole(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
import json
layer = {"mediaType": "application/vnd.ollama.image.model", "size": len(content),
         "digest": "sha256:" + hashlib.sha256(content).hexdigest()}
manifest = json.dumps({"layers": [layer]}).encode()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
server.daemon_threads = True
print(server.server_port, hashlib.sha256(manifest).hexdigest(), flush=True)
server.serve_forever()
"""


def test_a_download_that_is_told_to_end_says_so_and_goes_on_later(tmp_path: Path) -> None:
    """SIGTERM in the middle, as when a pod is deleted; the next one brings the rest and tells how far it is."""
    log, to = tmp_path / "log", tmp_path / "models" / "m.gguf"
    with subprocess.Popen(  # noqa: S603  our own program
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        port, manifest = server.stdout.readline().split()
        asked = (
            *("fetch", "--source", f"ollama://127.0.0.1:{port}/library/m:1", "--digest", f"sha256:{manifest}"),
            *("--to", str(to), "--plain-http", f"127.0.0.1:{port}", "--termination-log", str(log)),
        )
        told_at = free_port()
        first = subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, "-m", "arbiter.cli.main", *asked, "--progress-port", str(told_at)], stderr=subprocess.PIPE
        )
        report = until_bytes_came(told_at)
        first.send_signal(signal.SIGTERM)
        assert first.wait(PATIENCE_S) == 143
        assert first.stderr is not None
        first.stderr.close()
        part = to.with_name(".m.gguf.partial").stat().st_size
        second = arbiter(*asked, "--progress-port", str(free_port()))
        third = arbiter(*asked, "--progress-port", str(free_port()))
        server.terminate()
        server.communicate()

    assert (report["state"], report["total"]) == ("downloading", 256 * 40000)
    assert 0 < part <= 3_000_000
    assert "told to end" in log.read_text()
    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout.endswith(f"1 files, 10240000 bytes in {to}, 1 downloaded\n")
    assert third.stdout.endswith("all there before\n")
    assert to.read_bytes() == bytes(range(256)) * 40000


def test_two_pods_on_one_claim_download_once(tmp_path: Path) -> None:
    """The second waits until the first is done, and then has nothing to do."""
    to, asked = tmp_path / "m.gguf", []
    content = bytes(range(256)) * 4000
    begun, go = threading.Event(), threading.Event()
    layer = {
        "mediaType": "application/vnd.ollama.image.model",
        "size": len(content),
        "digest": f"sha256:{sha256(content)}",
    }
    manifest = json.dumps({"layers": [layer]}).encode()

    class Library(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = manifest if "/manifests/" in self.path else content
            asked.append(self.path.split("/")[-2])
            if body is content:
                begun.set()
                go.wait(PATIENCE_S)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:  # noqa: ANN401  nobody reads it
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Library)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    words = (
        "fetch",
        "--source",
        f"ollama://{host}/library/m:1",
        "--digest",
        f"sha256:{sha256(manifest)}",
        "--to",
        str(to),
    )

    def pod() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "arbiter.cli.main", *words, "--plain-http", host]
        command += ["--progress-port", str(free_port())]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  our own program

    with pod() as first:
        assert begun.wait(PATIENCE_S)
        with pod() as second:
            assert second.stdout is not None
            waits = second.stdout.readline()
            go.set()
            ended = [one.communicate(timeout=PATIENCE_S)[0] for one in (first, second)]
    server.shutdown()
    server.server_close()

    assert waits == f"another one fetches to {to}; waiting for it\n"
    assert ended[0].endswith("1 downloaded\n")
    assert ended[1].endswith("all there before\n")
    assert asked == ["manifests", "blobs"]
    assert to.read_bytes() == content


def until_bytes_came(port: int) -> dict[str, Any]:
    """Give the first report of a download that is under way."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/progress", timeout=5) as answer:
                report: dict[str, Any] = json.load(answer)
        except OSError:
            report = {"bytes": 0}
        if report["bytes"]:
            return report
        time.sleep(0.1)
    pytest.fail("nothing comes")


def test_a_failed_fetch_leaves_one_sentence(tmp_path: Path) -> None:
    """It is what `kubectl describe pod` shows."""
    log = tmp_path / "log"
    done = arbiter(
        "fetch", "--source", "pvc://c/m", "--digest", "x", "--to", str(tmp_path / "m"), "--termination-log", str(log)
    )
    assert done.returncode == 1
    assert log.read_text() == "SourceInvalid: a pvc:// source is on the cluster already: mount its claim\n"
    assert done.stderr == f"arbiter: {log.read_text()}"
