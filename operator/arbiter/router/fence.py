"""Decides which offered table comes into force, wherever tables come from: a file, the cluster or a parent process.

Rules: a table that cannot be read is refused, and so is one that a former leader wrote, or an older one of the same
leader. Whatever is refused leaves the last good table in force. The same text twice is one offer.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arbiter.core.routes import RouteTable
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

UNREADABLE = "unreadable"
STALE = "stale"
STILL = ""
"""No other refusal: the one that was told last holds on."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What stands where the table should be.

    Attributes:
        text: the table's JSON form.
        problem: why there is no text, as a sentence; empty when there is.
    """

    text: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an offer was not taken: `unreadable` or `stale`, and a sentence that names the field."""

    reason: str
    message: str


def accept(table: RouteTable, current: RouteTable | None) -> str | None:
    """Why a table must not replace the current one; `None` when it may.

    A leader's epoch is higher than that of every leader before it, so a lower one comes from a leader that was
    replaced and does not know it. Two tables of the same generation differ only when a person edits a file.
    """
    if current is None or (table.epoch, table.generation) >= (current.epoch, current.generation):
        return None
    if table.epoch < current.epoch:
        return f"routes.epoch is {table.epoch}, and a leader of epoch {current.epoch} has written since"
    return f"routes.generation is {table.generation}, and {current.generation} is already known"


class Fence:
    """What is in force, and what was refused.

    Attributes:
        current: the table in force; `None` before the first.
    """

    def __init__(self, on_table: Callable[[RouteTable], None], on_refused: Callable[[str, str], None]) -> None:
        """Nothing is in force.

        Args:
            on_table: called with each table that comes into force; with the very same object again when it is
                offered once more after something was refused.
            on_refused: called once for each refused offer, with `unreadable` or `stale`, and why; and with `STILL`
                when another table comes into force although the newest offer stays refused.
        """
        self.current: RouteTable | None = None
        self._highest: RouteTable | None = None
        self._last: Offer | None = None
        self._refusal: Refusal | None = None
        self._on_table = on_table
        self._on_refused = on_refused

    def remember(self, table: RouteTable) -> None:
        """A table that was in force before this process began: nothing older may come."""
        self._highest = table

    def judge(self, offer: Offer) -> RouteTable | None:
        """The table to obey now; `None` when the offer is refused or changes nothing."""
        if offer == self._last:
            return None
        self._last = offer
        table = self._read(offer)
        if isinstance(table, Refusal):
            self._refusal = table
            stays = "the last good one stays in force" if self.current else "there is none in force"
            log.warning("table refused as %s, %s: %s", table.reason, stays, table.message)
            self._on_refused(table.reason, table.message)
            return None
        if self.current is not None and _identity(table) == _identity(self.current):
            return self.current if self._refusal else None
        return table

    def obey(self, table: RouteTable) -> None:
        """Bring a table into force that was judged."""
        self._refusal = None
        self.current = self._highest = table
        log.info("table in force: epoch %d, generation %d, hash %s", table.epoch, table.generation, table.hash)
        self._on_table(table)

    def fall_back(self, table: RouteTable) -> None:
        """Bring the remembered table into force, since none came that is good. What was refused stays refused."""
        refusal = self._refusal
        self.obey(table)
        if refusal is not None:
            self._refusal = refusal
            self._on_refused(STILL, refusal.message)

    def take(self, offer: Offer) -> None:
        """Judge an offer, and obey it if it is good."""
        table = self.judge(offer)
        if table is not None:
            self.obey(table)

    def _read(self, offer: Offer) -> RouteTable | Refusal:
        if offer.problem:
            return Refusal(UNREADABLE, offer.problem)
        try:
            table = RouteTable.from_text(offer.text)
        except CorruptStateError as error:
            return Refusal(UNREADABLE, str(error))
        stale = accept(table, self._highest)
        return Refusal(STALE, stale) if stale else table


def _identity(table: RouteTable) -> tuple[int, int, str]:
    return table.epoch, table.generation, table.hash
