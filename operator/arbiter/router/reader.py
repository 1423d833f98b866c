"""What every reader of an engine's answer offers: bytes for the client, and facts for the books.

A reader sees an answer piece by piece and passes on what the client is to get. Rule: it invents nothing. A stream
that breaks off ends without the words that end a whole one, and `complete` stays false.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from json import JSONDecodeError, loads
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from arbiter.engines.answers import Told


class Times:
    """When things happened to a request, in seconds of the event loop's clock; nobody changes it.

    Attributes:
        wall: Unix time at the loop's time 0.
        arrived: the request was read.
        routed: an engine could take it; before that it waited for one.
    """

    __slots__ = ("arrived", "routed", "wall")

    def __init__(self, wall: float, arrived: float, routed: float) -> None:
        """Written out, as for every value of one request here: what a library makes is not compiled."""
        self.wall = wall
        self.arrived = arrived
        self.routed = routed


class Reader(ABC):
    """The facts, and the form; each protocol has its own.

    Attributes:
        content_type: of what is passed on; empty to leave the engine's own.
        first_token: whether a token has passed.
        tokens_in: of the prompt, once that is known.
        tokens_out: generated so far: counted, until the engine says it.
        error: an error that came with status 200.
        complete: whether the answer said that it is whole.
    """

    __slots__ = ("_told_out", "complete", "content_type", "error", "first_token", "tokens_in", "tokens_out")

    def __init__(self, content_type: bytes = b"") -> None:
        self.content_type = content_type
        self.first_token = False
        self.tokens_in = 0
        self.tokens_out = 0
        self.error: str | None = None
        self.complete = False
        self._told_out = False

    @abstractmethod
    def feed(self, data: bytes, now: float) -> bytes:
        """Take a piece of the answer that came at `now`; returns what the client gets, possibly nothing.

        Raises:
            OverlongEventError: an event of a stream does not end, so the rest cannot be passed on.
        """

    @abstractmethod
    def end(self, now: float) -> bytes:
        """The answer has ended, in whichever way; returns what the client gets after all."""

    def _count_token(self) -> None:
        self.first_token = True
        if not self._told_out:
            self.tokens_out += 1

    def _believe(self, told: Told) -> None:
        if told.tokens_in is not None:
            self.tokens_in = told.tokens_in
        if told.tokens_out is not None:
            self.tokens_out = told.tokens_out
            self._told_out = True


_TOKENS: Final = b'_tokens"'
_KINDS: Final = frozenset({b"prompt", b"completion", b"input", b"cache_read_input", b"cache_creation_input", b"output"})
_COUNT: Final = re.compile(rb"\s{0,4}:\s{0,4}([0-9]{1,15})\s{0,4}[,}]")
"""What counts are called, and how they go on: `"KIND_tokens": NUMBER,`.

Inside texts every quote has a backslash before it, so nothing that a model writes looks like this.
"""

_CARRY: Final = 64
"""Bytes that a count can be long, and so can be cut in two."""


class WholePassing(Reader):
    """Passes on an answer that is one JSON value, unread but for its token counts, in constant memory."""

    __slots__ = ("_carry", "_counts", "_first", "_last")

    def __init__(self) -> None:
        super().__init__()
        self._carry = b""
        self._counts: dict[bytes, int] = {}
        self._first = b""
        self._last = b""

    def feed(self, data: bytes, now: float) -> bytes:  # noqa: ARG002  whole answers are not timed by piece
        """Everything passes."""
        seen = self._carry + data
        before, *after = seen.split(_TOKENS)
        for part in after:
            kind = before.rpartition(b'"')[2]
            if kind in _KINDS and (match := _COUNT.match(part)) is not None:
                self._counts[kind] = int(match[1])
            before = part
        self._carry = seen[-_CARRY:]
        if len(self._first) < _CARRY:
            self._first = (self._first + data[:_CARRY]).lstrip()[:_CARRY]
        self._last = seen.rstrip()[-1:] or self._last
        return data

    def end(self, now: float) -> bytes:  # noqa: ARG002  as in feed
        """Nothing is left; what began as an object has ended as one."""
        counts = self._counts
        self.tokens_out = counts.pop(b"completion", 0) or counts.pop(b"output", 0)
        # In the Anthropic form three counts make up the prompt; in the OpenAI form there is one.
        self.tokens_in = counts.get(b"prompt") or sum(counts.values())
        self.complete = self._first.startswith(b"{") and self._last == b"}"
        if _ERROR.match(self._first):
            self.error = "the engine answered 200 with an error"
        return b""


_ERROR: Final = re.compile(rb'\{\s*"error"\s*:\s*[{"]')


def message_of(error: object) -> str:
    """What an error says, in whichever form an engine gives it."""
    if isinstance(error, dict):
        said = error.get("message", error.get("error"))
        return said if isinstance(said, str) else str(error)[:500]
    return error if isinstance(error, str) else str(error)[:500]


def json_object(text: bytes) -> dict[str, object] | None:
    """One JSON object, or `None` for anything else."""
    try:
        loaded = loads(text)
    except (JSONDecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    return loaded if isinstance(loaded, dict) else None
