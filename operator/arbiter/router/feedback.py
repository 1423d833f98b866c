"""Gives every answer an id that cannot be made up, and takes a score for it once.

An id is `TASK:SIDE:REVISION:NONCE:MAC`: whoever holds it was given that answer, so a score needs no store of answers,
and any router of the pool that shares the key can take it. Rule: one score for an id in one process, the first.
"""

from __future__ import annotations

from hashlib import blake2b
from hmac import compare_digest
from typing import Final, NamedTuple

from arbiter.router.refusal import Refusal

MAC_BYTES: Final = 12
"""Bytes of the signature that an id carries: nobody guesses 96 bits."""

REMEMBERED: Final = 100_000
"""Ids whose score was taken that are remembered; the oldest go first. About 10 MB."""


class Rated(NamedTuple):
    """What a score is for."""

    task: str
    side: str
    revision: str


class Feedback:
    """Issues ids and takes scores for them."""

    def __init__(self, key: bytes, prefix: str) -> None:
        """Begin.

        Args:
            key: shared by all routers of a pool.
            prefix: letters and digits that no other process has; a number behind it tells answers apart.
        """
        self._key = blake2b(key, digest_size=32).digest()  # of the length that is taken, whatever was given
        self._prefix = prefix
        self._issued = 0
        self._taken: dict[str, None] = {}

    def issue(self, task: str, side: str, revision: str) -> bytes:
        """The id of a new answer of a task's side."""
        self._issued += 1
        said = ":".join((task, side, revision, self._prefix + str(self._issued)))
        return b"%b:%b" % (said.encode(), self._mac(said).encode())

    def take(self, said: str) -> Rated:
        """What an id stands for, the first time.

        Raises:
            Refusal: 404 for an id that was not issued here, 409 for one that has its score.
        """
        body, _, mac = said.rpartition(":")
        sent = mac.encode("utf-8", "surrogatepass")  # JSON can name halves of characters, which are no UTF-8
        if not compare_digest(sent, self._mac(body).encode()):
            raise Refusal(404, "unknown_id", "id is not the x-arbiter-request-id of an answer of this pool", "id")
        if said in self._taken:
            raise Refusal(409, "already_scored", "this answer has its score already", "id")
        if len(self._taken) >= REMEMBERED:
            del self._taken[next(iter(self._taken))]
        self._taken[said] = None
        # We made it, so it has its parts. Only a revision may hold a colon: a person writes what he likes into a table.
        task, side, rest = body.split(":", 2)
        return Rated(task, side, rest.rpartition(":")[0])

    def _mac(self, said: str) -> str:
        # Keyed BLAKE2 is a MAC by itself (RFC 7693, 2.9), and costs less than HMAC through OpenSSL.
        return blake2b(said.encode("utf-8", "surrogatepass"), key=self._key, digest_size=MAC_BYTES).hexdigest()
