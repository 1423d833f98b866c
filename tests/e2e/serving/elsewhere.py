"""A server with OpenAI's interface outside of the cluster, as on another machine: for models that run elsewhere.

It answers at once and without a model, so that a story about the operator or a router starts no engine. A stream takes
its time: that is what continuous traffic needs. Whatever it is asked for by name, it has.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from devcluster.native.layout import Addresses

if TYPE_CHECKING:
    from collections.abc import Iterator

PACE_S = 0.02
"""Seconds between two events of a stream."""

TOKENS = 16
"""How many tokens an answer has where the question does not say."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Say which model there is."""
        self._answer({"object": "list", "data": [{"id": "elsewhere", "object": "model", "owned_by": "tests"}]})

    def do_POST(self) -> None:
        """Answer a chat, whole or as a stream."""
        asked: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
        tokens = int(asked.get("max_tokens") or TOKENS)
        if asked.get("stream"):
            self._stream(tokens)
            return
        message = {"role": "assistant", "content": "Paris." + " word" * (tokens - 1)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
        self._answer({"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": usage})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """Be silent."""

    def _answer(self, fields: dict[str, Any]) -> None:
        body = json.dumps(fields).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, tokens: int) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(tokens):
            if number:
                time.sleep(PACE_S)
            self._event({"index": 0, "delta": {"content": " word"}, "finish_reason": None})
        self._event({"index": 0, "delta": {}, "finish_reason": "stop"})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, choice: dict[str, Any]) -> None:
        fields = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}
        self._chunk(b"data: " + json.dumps(fields).encode() + b"\n\n")

    def _chunk(self, text: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(text), text))


class _Server(ThreadingHTTPServer):
    """Serves each connection in a thread; one that is cut is no news."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Be silent: routers that are killed leave their connections."""


@contextmanager
def elsewhere() -> Iterator[str]:
    """Serve for as long as this lasts; gives the address at which pods and the host reach it."""
    address = Addresses.host
    with _Server((address, 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, name="elsewhere", daemon=True).start()
        try:
            yield f"http://{address}:{server.server_address[1]}"
        finally:
            server.shutdown()
