"""Calls, answers and pieces of them for the tests of the protocols."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from arbiter.router.call import Call, parse
from arbiter.router.reader import Times

if TYPE_CHECKING:
    from arbiter.router.reader import Reader

RECORDED = Path(__file__).parent / "recorded"
"""Answers of llama-server b11669 and Ollama 0.17.4 with SmolLM2, as they came."""

TIMES = Times(wall=1_795_265_000.0, arrived=10.0, routed=10.5)


def recorded(name: str) -> bytes:
    """One recorded answer."""
    return (RECORDED / name).read_bytes()


def call(path: str, fields: dict[str, Any], headers: list[tuple[bytes, bytes]] | None = None) -> Call:
    """A request of a client."""
    return parse(b"POST", path.encode(), headers or [], json.dumps(fields).encode())


def chat(**fields: object) -> Call:
    """A chat in OpenAI form."""
    return call("/v1/chat/completions", {"model": "chat", "messages": [{"role": "user", "content": "hi"}], **fields})


def ollama_chat(**fields: object) -> Call:
    """A chat in Ollama form."""
    return call("/api/chat", {"model": "chat:latest", "messages": [{"role": "user", "content": "hi"}], **fields})


def read(reader: Reader, *pieces: bytes, started: float = 11.0, step: float = 0.25) -> bytes:
    """Feed the pieces at even intervals; returns what the client got."""
    got = b""
    now = started
    for piece in pieces:
        got += reader.feed(piece, now)
        now += step
    return got + reader.end(now)


def facts(reader: Reader) -> tuple[object, ...]:
    """What the books are told."""
    return (reader.first_token, reader.tokens_in, reader.tokens_out, reader.error, reader.complete)


def cuts(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """The data in pieces, cut anywhere."""
    places = st.lists(st.integers(0, len(data)), max_size=12).map(lambda found: [0, *sorted(found), len(data)])
    return places.map(lambda edges: [data[a:b] for a, b in pairwise(edges)])
