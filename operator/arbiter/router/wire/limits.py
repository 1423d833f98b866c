"""How much and how long the wire bears, on either side. All times are seconds, all sizes bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TARGET_BYTES: Final = 8192
"""The longest request target. RFC 9112 asks for at least 8000; no path of ours is near it."""

CHUNK_LINE_BYTES: Final = 256
"""The longest line before a chunk: its size and extensions, which carry nothing that is used here."""

TRAILER_BYTES: Final = 8192
"""All trailer fields of a chunked request together. They are checked and dropped."""

ANSWER_HEAD_BYTES: Final = 131_072
"""The longest head of an engine's answer, interim answers included."""

HELD_BYTES: Final = 65_536
"""What is read ahead of a client that sends its next requests before the answer to this one."""

UNSENT_BYTES: Final = 65_536
"""What may wait to be sent to a client before its upstream is paused."""

LINGER_S: Final = 1.0
"""How long a refused client is still read from, so that it gets the answer and not a reset."""

IDLE_GRACE_S: Final = 0.5
"""How long a draining server keeps idle connections: a request that is on its way is answered, not reset."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server bears from its clients.

    Attributes:
        header_bytes: of the request line and all header fields.
        headers: number of header fields.
        body_bytes: of a body, without its chunk framing.
        header_s: from the first byte of a request (of a connection: from its beginning) to the end of its head.
        body_s: from the end of the head to the end of the body.
        write_s: without one byte taken by a client that has something to read.
        keep_alive_s: from the end of an answer to the first byte of the next request.
    """

    header_bytes: int = 65_536
    headers: int = 100
    body_bytes: int = 16_777_216
    header_s: float = 10.0
    body_s: float = 60.0
    write_s: float = 30.0
    keep_alive_s: float = 75.0


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What a pool bears from its engine.

    Attributes:
        connect_s: for a connection, TLS included.
        first_byte_s: from the request to the first byte of the answer's body. The head alone does not count, because
            engines send that of a stream before they have read the prompt.
        idle_s: between two pieces of a body, while it is not paused.
        total_s: from the request to the end of the answer, resending included.
        idle_connections: kept for later requests.
        idle_keep_s: how long each of them is kept. Less than what engines keep theirs.
    """

    connect_s: float = 2.0
    first_byte_s: float = 300.0
    idle_s: float = 60.0
    total_s: float = 3600.0
    idle_connections: int = 512
    idle_keep_s: float = 4.0
