"""The Anthropic form of messages, where the engine itself speaks it: bytes pass, tokens are counted.

Its events have names, so only the first line of one is read to know what it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from arbiter.engines.answers import told_by
from arbiter.router.reader import Reader, json_object, message_of
from arbiter.router.refusal import Protocol, error_body
from arbiter.router.sse import Cutter, events, payload

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME: Final = re.compile(rb"[\r\n]*event:[ ]?([a-z_]+)")
_TOKEN: Final = re.compile(rb'"(?:text|thinking|partial_json)"\s*:\s*"[^"]')


class MessagesPassing(Reader):
    """Passes on the events of a streamed message."""

    __slots__ = ("_cutter",)

    def __init__(self) -> None:
        super().__init__()
        self._cutter = Cutter()

    def feed(self, data: bytes, now: float) -> bytes:  # noqa: ARG002  whoever asks after the first token has a clock
        """Whole events pass."""
        whole = self._cutter.whole(data)
        for event in events(whole):
            self._read(event)
        return whole

    def end(self, now: float) -> bytes:  # noqa: ARG002  as in feed
        """The beginning of an event passes too, as it stands."""
        rest = self._cutter.rest()
        self._read(rest)
        return rest

    def _read(self, event: bytes) -> None:
        match = _NAME.match(event)
        name = match[1] if match else b""
        if name == b"content_block_delta":
            if _TOKEN.search(event):
                self._count_token()
        elif name in {b"message_start", b"message_delta"}:
            self._learn(json_object(payload(event)) or {})
        elif name == b"message_stop":
            self.complete = True
        elif name == b"error":
            found = json_object(payload(event)) or {}
            self.error = message_of(found.get("error", found))

    def _learn(self, found: Mapping[str, object]) -> None:
        message = found.get("message")
        told = told_by(message if isinstance(message, dict) else found)
        # The beginning carries a first count of the output, the end the final one.
        told_out = self._told_out
        self._believe(told)
        if message is not None:
            self._told_out, self.tokens_out = told_out, 0


ERROR_LIMIT: Final = 65_536
"""Bytes of an error that are read; one that goes on is cut."""


class MessageRefused(Reader):
    """Gives an error the Anthropic form where the engine has none: llama-server answers as for OpenAI's clients."""

    __slots__ = ("_kept", "_status")

    def __init__(self, status: int) -> None:
        super().__init__(b"application/json")
        self._kept = b""
        self._status = status

    def feed(self, data: bytes, now: float) -> bytes:  # noqa: ARG002  an error has no tokens to time
        """Nothing passes before it is whole."""
        if len(self._kept) < ERROR_LIMIT:
            self._kept += data
        return b""

    def end(self, now: float) -> bytes:  # noqa: ARG002  as in feed
        """The error as it came, if it has the form, else what it says."""
        self.complete = True
        body, found = self._kept, json_object(self._kept)
        if found is not None and found.get("type") == "error" and isinstance(found.get("error"), dict):
            return body
        said = message_of(found.get("error", found)) if found else body[:500].decode("utf-8", "replace").strip()
        return error_body(Protocol.ANTHROPIC, self._status, said or f"the engine answered {self._status}")
