"""Models as an Ollama library has them, in the cluster's registries, and a front that lets Ollama pull them.

Ollama takes no blob that comes from the registry itself: it wants to be led to a host of another name, as its own
library leads to a store elsewhere. The front does that and nothing else: manifests and sizes it hands through from the
real registry, blobs it leads to a second address of this machine, where they are handed through as well.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import threading
import urllib.error
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from devcluster.native.layout import Addresses

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from devcluster.pushing import Registry

_KIND = "application/vnd.ollama.image."
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_PIECE = 1024 * 1024

TEMPLATE = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
"""How the small model was taught to read turns."""

SYSTEM = "You are a helpful assistant."
"""The message that it was taught with, and knows less without."""


def push(registry: Registry, name: str, tag: str, weights: bytes, texts: Mapping[str, str]) -> str:
    """Push a model as `ollama push` does: a layer for its file and one for each text; give the manifest's digest."""

    def pushed(content: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        with suppress(urllib.error.HTTPError):
            registry.ask("HEAD", f"{name}/blobs/{digest}")
            return {"digest": digest, "size": len(content)}
        place, _ = registry.ask("POST", f"{name}/blobs/uploads/")
        separator = "&" if "?" in place else "?"
        registry.ask("PUT", f"{place}{separator}digest={digest}", content)
        return {"digest": digest, "size": len(content)}

    config = {"model_format": "gguf", "model_family": "llama", "model_type": "135M", "file_type": "Q4_1"}
    layers = [{"mediaType": f"{_KIND}model", **pushed(weights)}]
    layers += [{"mediaType": f"{_KIND}{kind}", **pushed(text.encode())} for kind, text in texts.items()]
    described = {"mediaType": "application/vnd.docker.container.image.v1+json", **pushed(json.dumps(config).encode())}
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": described, "layers": layers}
    # To the byte as Ollama writes it: it keeps a manifest in its own form, and tells the digest of that.
    content = json.dumps(manifest, separators=(",", ":")).encode()
    registry.ask("PUT", f"{name}/manifests/{tag}", content, _MANIFEST)
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class Front:
    """Where Ollama pulls from.

    Attributes:
        host: the registry's address and port, as models name it.
        blobs: those to which it leads.
        held: from this byte of a blob on nothing is given before `let_go` is set.
        let_go: gives the rest.
    """

    host: str = ""
    blobs: str = ""
    held: int = 1 << 62
    let_go: threading.Event = field(default_factory=threading.Event)


class _Server(ThreadingHTTPServer):
    """Serves each connection in a thread of its own."""

    daemon_threads = True
    front: Front
    registry: str

    def handle_error(self, request: object, client_address: object) -> None:
        """Be silent: whoever reads a beginning only goes early."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        """Hand through what the registry says of a blob or manifest."""
        self._hand_through()

    def do_GET(self) -> None:
        """Lead to a blob, or hand through what the registry has."""
        leads = "/blobs/" in self.path and self.headers["host"] != self.server.front.blobs
        if not leads:
            self._hand_through()
            return
        self.send_response(307)
        self.send_header("location", f"http://{self.server.front.blobs}{self.path}")
        self.send_header("content-length", "0")
        self.end_headers()

    def _hand_through(self) -> None:
        sent = {name: self.headers[name] for name in ("accept", "range") if name in self.headers}
        asking = http.client.HTTPConnection(self.server.registry, timeout=60)
        try:
            asking.request(self.command, self.path, headers=sent)
            answer = asking.getresponse()
            self.send_response(answer.status)
            for name in ("content-type", "content-length", "content-range", "docker-content-digest", "etag"):
                if (value := answer.headers.get(name)) is not None:
                    self.send_header(name, value)
            self.end_headers()
            done = 0
            while piece := answer.read(_PIECE):
                if done + len(piece) > self.server.front.held:
                    self.server.front.let_go.wait()
                self.wfile.write(piece)
                done += len(piece)
        finally:
            asking.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """Be silent."""


@contextmanager
def front(registry: str) -> Iterator[Front]:
    """Stand before a registry for as long as this lasts, at addresses that pods reach."""
    found = Front()
    with _server(Addresses.host, registry, found) as first, _server(_other_address(), registry, found) as second:
        found.host, found.blobs = first, second
        try:
            yield found
        finally:
            found.let_go.set()


@contextmanager
def _server(address: str, registry: str, found: Front) -> Iterator[str]:
    with _Server((address, 0), _Handler) as server:
        server.front, server.registry = found, registry
        threading.Thread(target=server.serve_forever, name="library", daemon=True).start()
        try:
            yield f"{address}:{server.server_address[1]}"
        finally:
            with suppress(OSError):
                server.shutdown()


def _other_address() -> str:
    """Give the address by which this machine reaches others: one more name of the same host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probing:
        probing.connect(("198.51.100.1", 9))  # a datagram socket sends nothing by this
        address: str = probing.getsockname()[0]
    return address
