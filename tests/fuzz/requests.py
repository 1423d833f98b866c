"""Requests for both readers: whatever ours takes, h11 must take too, and read the same.

That ours refuses more is its purpose. That it takes more, or finds another end, would let a request be smuggled past
whoever stands before or behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11

from arbiter.router.wire.intake import Intake
from arbiter.router.wire.limits import Limits
from arbiter.router.wire.request_head import RefusedError
from tests.fuzz.mutation import mutated
from tests.unit.router.wire.strict_requests import REFUSED, TAKEN

if TYPE_CHECKING:
    from random import Random  # noqa: TID251  the type; the source itself is an argument

LIMITS = Limits(body_bytes=100_000)
SEEDS = [row.values[0] for row in (*TAKEN, *REFUSED) if isinstance(row.values[0], bytes) and len(row.values[0]) < 2000]
EMPTY_LINE = "no request line received"
"""How h11 refuses an empty line before a request, of which RFC 9112 says that a server should pass over it."""
DROPPED = frozenset({b"connection", b"keep-alive", b"content-length", b"transfer-encoding"})
"""Not compared: what Connection names is kept back by ours, and what frames the body is rewritten by h11."""


@dataclass(frozen=True, slots=True)
class Read:
    """One request as a reader understood it."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    last: bool


def make(source: Random) -> bytes:
    """An input."""
    return mutated(source, SEEDS)


def ours(pieces: list[bytes]) -> tuple[list[Read], int, bytes]:
    """What our reader takes, the status with which it refuses the rest (0 if it does not), and what it holds."""
    intake = Intake(LIMITS)
    found: list[Read] = []
    try:
        for piece in pieces:
            intake.feed(piece)
            while not (found and found[-1].last) and (request := intake.next()) is not None:
                target = request.path + (b"?" + request.query if request.query else b"")
                fields = tuple(field for field in request.headers if field[0] not in DROPPED)
                found.append(Read(request.method, target, fields, request.body, not request.keep or request.http10))
    except RefusedError as refused:
        return found, refused.status, b""
    return found, 0, intake.held


def theirs(data: bytes) -> tuple[list[Read], str]:
    """What h11 takes, and its complaint about the rest."""
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=200_000)
    peer.receive_data(data)
    found: list[Read] = []
    try:
        while True:
            event = peer.next_event()
            if not isinstance(event, h11.Request):
                return found, ""
            body = bytearray()
            while isinstance(piece := peer.next_event(), h11.Data):
                body += piece.data
            if not isinstance(piece, h11.EndOfMessage):
                return found, ""
            fields = tuple((bytes(name), bytes(value)) for name, value in event.headers if name not in DROPPED)
            last = peer.their_state is h11.MUST_CLOSE
            found.append(Read(bytes(event.method), bytes(event.target), fields, bytes(body), last))
            if last:
                return found, ""
            peer.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            peer.send(h11.EndOfMessage())
            peer.start_next_cycle()
    except (h11.RemoteProtocolError, h11.LocalProtocolError) as error:
        return found, str(error)


def fault(data: bytes) -> str:
    """What is wrong with how ours takes these bytes; empty if nothing."""
    found, status, _ = ours([data])
    for length in (1, 5):
        pieces = [data[at : at + length] for at in range(0, len(data), length)]
        again, other, _ = ours(pieces)
        if (found, status) != (again, other):
            return f"in pieces of {length} it reads {again} {other}, whole {found} {status}"
    known, complaint = theirs(data)
    for number, request in enumerate(found):
        if number >= len(known) and complaint == EMPTY_LINE:
            return ""
        if number >= len(known):
            return f"taken, while h11 stops before with: {complaint or 'waiting for more'}"
        if not same(request, known[number]):
            return f"read as {request}, by h11 as {known[number]}"
    if not status and len(known) > len(found) and not (found and found[-1].last):
        return f"waiting for more, while h11 reads {known[len(found)]}"
    return ""


def same(mine: Read, other: Read) -> bool:
    """Whether both read the same request; fields that Connection named are missing in ours only."""
    plain = (mine.method, mine.body) == (other.method, other.body)
    targets = mine.target == other.target or mine.target + b"?" == other.target
    return plain and targets and set(mine.headers) <= set(other.headers)
