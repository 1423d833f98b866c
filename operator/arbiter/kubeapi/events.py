"""Tells people what was decided about an object, as an event that `kubectl describe` shows with it.

The same thing said again within `REPEATED_S` is no new event: the first one counts how often. Its count is written at
2, 4, 8 and so on and otherwise at most once a minute, because a pass that says the same each second must not make the
API server write each second.

Events are kept for an hour by the API server and are lost with a restart of ours; conditions are what lasts.

Rule: an event never makes a pass fail or wait. What is told is put down at once and sent from beside; when the API
server does not take it, it is lost, and counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from arbiter.errors import ClusterError, ConflictError, RejectedError
from arbiter.kubeapi.applying import GONE, OBJECTS
from arbiter.kubeapi.connection import Request
from arbiter.kubeapi.resources import EVENTS

if TYPE_CHECKING:
    from datetime import datetime

    from arbiter.api.reasons import Reason
    from arbiter.kubeapi.connection import Asking
    from arbiter.kubeapi.references import Reference

log = logging.getLogger(__name__)

CONTROLLER = "arbiter.dev/operator"
"""Who reports, in events."""

REPEATED_S = 600.0
"""Seconds after which the same thing is news again."""

REWRITTEN_S = 60.0
"""Seconds after which a count is written again, whatever it is."""

NOTE_BYTES, WORD_CHARACTERS, NAME_CHARACTERS = 1024, 128, 253
"""Longest note, action or reporting instance, and name of an object that the API server takes."""

SERIES, WAITING = 1000, 1000
"""Most things that are remembered as said, and most events that wait to be sent; the oldest are let go."""

HOMELESS = "default"
"""The namespace of an event about an object that has none."""

MERGE = "application/merge-patch+json"
"""The media type of a patch whose fields replace those of the object."""


class Importance(StrEnum):
    """How an event is marked, in Kubernetes' words."""

    NORMAL = "Normal"
    """As it should be."""

    WARNING = "Warning"
    """Somebody should look."""


@dataclass(frozen=True, slots=True)
class Told:
    """Something that was said, and how often.

    Attributes:
        regarding: about which object.
        reason: what and why.
        action: what was done, or what was to be done, as a word such as `Shift`.
        importance: how it is marked.
        first: when it was said first.
        last: when it was said last.
        count: how often.
        written: when its event was last put down to be sent.
    """

    regarding: Reference
    reason: Reason
    action: str
    importance: Importance
    first: datetime
    last: datetime
    count: int
    written: datetime

    @property
    def namespace(self) -> str:
        """Where its event is; it must be where the object is."""
        return self.regarding.namespace or HOMELESS

    @property
    def name(self) -> str:
        """The name of its event: the same for the same, so that one that is sent twice is made once."""
        said = (self.reason.code, self.reason.message, self.action, self.importance)
        what = (self.regarding.uid, *said, self.first.isoformat())
        tail = f".{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}"
        return self.regarding.name[: NAME_CHARACTERS - len(tail)].rstrip("-.") + tail

    @property
    def series(self) -> dict[str, Any]:
        """What its event says about repeats; empty while there is none."""
        said = {"count": self.count, "lastObservedTime": micro_time(self.last)}
        return {"series": said} if self.count > 1 else {}

    def to_event(self, instance: str) -> dict[str, Any]:
        """Its event."""
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": self.name, "namespace": self.namespace},
            "eventTime": micro_time(self.first),
            "reportingController": CONTROLLER,
            "reportingInstance": instance[:WORD_CHARACTERS],
            "action": self.action[:WORD_CHARACTERS],
            "reason": self.reason.code.value,
            "note": shortened(self.reason.message, NOTE_BYTES),
            "type": self.importance.value,
            "regarding": self.regarding.to_regarding(),
            **self.series,
        }


class Events:
    """What was told lately, and what of it is still to be sent.

    Attributes:
        lost: how many events the API server did not take, or were too many to wait.
    """

    def __init__(self, asking: Asking, instance: str) -> None:
        """Nothing was told yet.

        Args:
            asking: what gets the answers.
            instance: which of our processes reports, such as its pod's name.
        """
        self.lost = 0
        self._asking = asking
        self._instance = instance
        self._told: OrderedDict[tuple[str, ...], Told] = OrderedDict()
        self._waiting: deque[tuple[Told, bool]] = deque()
        self._put_down = asyncio.Event()

    def tell(
        self,
        regarding: Reference,
        reason: Reason,
        action: str,
        now: datetime,
        importance: Importance = Importance.NORMAL,
    ) -> None:
        """Put something down to be sent; this neither waits nor fails.

        Args:
            regarding: about which object.
            reason: what and why, which becomes the event's reason and note.
            action: what was done, or what was to be done, as a word such as `Shift`.
            now: the time.
            importance: how the event is marked.
        """
        key = (regarding.uid, regarding.name, reason.code, reason.message, action, importance)
        before = self._told.pop(key, None)
        if before is None or (now - before.last).total_seconds() > REPEATED_S:
            told = Told(regarding, reason, action, importance, first=now, last=now, count=1, written=now)
            self._put(told, new=True)
        else:
            told = replace(before, last=max(now, before.last), count=before.count + 1)
            doubled = told.count & (told.count - 1) == 0
            if doubled or (now - before.written).total_seconds() >= REWRITTEN_S:
                told = replace(told, written=now)
                self._put(told, new=False)
        self._told[key] = told
        if len(self._told) > SERIES:
            self._told.popitem(last=False)

    async def run(self) -> None:
        """Send what is told, for ever."""
        while True:
            await self._put_down.wait()
            await self.send()

    async def send(self) -> None:
        """Send all that waits, in order; for an orderly end."""
        while self._waiting:
            told, new = self._waiting.popleft()
            try:
                await (self._make(told) if new else self._count(told))
            except ClusterError as error:
                self.lost += 1
                log.warning("an event about %s is lost: %s (%s)", told.regarding, error, told.reason)
        self._put_down.clear()

    def _put(self, told: Told, *, new: bool) -> None:
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            self.lost += 1
        self._waiting.append((told, new))
        self._put_down.set()

    async def _make(self, told: Told) -> None:
        query = {"fieldManager": OBJECTS, "fieldValidation": "Strict"}
        try:
            await self._asking.ask(Request("POST", EVENTS.path(told.namespace), query, told.to_event(self._instance)))
        except ConflictError:
            log.debug("an event about %s is there already", told.regarding)  # it was sent twice

    async def _count(self, told: Told) -> None:
        query = {"fieldManager": OBJECTS, "fieldValidation": "Strict"}
        path = EVENTS.path(told.namespace, told.name)
        try:
            await self._asking.ask(Request("PATCH", path, query, told.series, MERGE))
        except RejectedError as error:
            if error.status != GONE:
                raise
            await self._make(told)  # the API server has let go of the first one, or never had it


def micro_time(moment: datetime) -> str:
    """A moment as events and leases have it: with all six digits of microseconds."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def shortened(text: str, limit: int) -> str:
    """A text of at most so many bytes, cut between characters, which then says that it was cut."""
    data = text.encode()
    return text if len(data) <= limit else data[: limit - 3].decode(errors="ignore") + "…"
