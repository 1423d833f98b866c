"""A web server with TLS that models are downloaded from: it can lack a file, have another one, and stop in the middle.

It knows ranges and entity tags, as servers of large files do, and no public authority knows its certificate.
"""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from devcluster.native.layout import Addresses

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PIECE = 256 * 1024


@dataclass
class WebSource:
    """What is there to be fetched, and what was asked.

    Attributes:
        url: its address, without a slash at the end.
        authority: the certificate that it is to be trusted by, as PEM.
        files: contents by their path; others do not exist. They may be exchanged at any time.
        held: how many bytes of a path are given before `let_go` is set.
        let_go: gives the rest of what is held.
        asked: paths that were asked for, each with the first byte that was wanted.
    """

    url: str
    authority: str
    files: dict[str, bytes] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    let_go: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, int]] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    """Serves each connection in a thread of its own; one that breaks off is no news."""

    daemon_threads = True
    source: WebSource
    context: ssl.SSLContext

    def finish_request(self, request: object, client_address: object) -> None:
        """Agree on TLS here, in the connection's own thread, so that one that is slow holds up nobody."""
        # Who does not trust the certificate goes away; typeshed leaves open what a request is.
        with suppress(OSError), self.context.wrap_socket(request, server_side=True) as secured:  # type: ignore[arg-type]  # as said
            super().finish_request(secured, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Be silent: resolvers read a beginning and go."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """Give a file, or the rest of it from an offset on."""
        source = self.server.source
        content = source.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        first = int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if self.headers.get("if-range", tag) != tag:
            first = 0
        source.asked.append((self.path, first))
        self.send_response(206 if first else 200)
        if first:
            self.send_header("content-range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("etag", tag)
        self.send_header("content-length", str(len(content) - first))
        self.end_headers()
        held = source.held.get(self.path, len(content))
        for start in range(first, len(content), _PIECE):
            if start >= held:
                source.let_go.wait()
            self.wfile.write(content[start : start + _PIECE])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """Be silent."""


@contextmanager
def web_source(folder: Path) -> Iterator[WebSource]:
    """Serve for as long as this lasts, at an address that pods reach.

    Args:
        folder: for certificate and key.
    """
    address = Addresses.host
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=files"]
    command += ["-addext", f"subjectAltName=IP:{address}"]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603  openssl with our own arguments
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with _Server((address, 0), _Handler) as server:
        server.context = context
        server.source = WebSource(f"https://{address}:{server.server_address[1]}", certificate.read_text())
        threading.Thread(target=server.serve_forever, name="files", daemon=True).start()
        try:
            yield server.source
        finally:
            server.source.let_go.set()
            server.shutdown()
