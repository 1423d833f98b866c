"""Decides who leads, from the Lease as it was read: nothing here waits or asks.

Clocks of two machines may differ by minutes, so the times in a Lease are for people only. Whoever waits measures, on
its own clock, for how long it has seen the same Lease; when that is as long as the Lease holds, its holder is gone.
That is how Kubernetes' own client does it.

Why two never lead at once: the holder counts from the moment at which it *sent* its last renewal, and stops after
`RENEW_WITHIN_S`; whoever waits counts from the later moment at which it *saw* that renewal, for `HOLDS_S`. The
difference is the time that the holder has to stop.

Rule: the time is an argument, and what is written carries the resource version of what was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from arbiter.kubeapi.events import micro_time
from arbiter.kubeapi.resources import LEASES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

NAME = "arbiter-operator"
"""The Lease that all our operators of one installation want."""

HOLDS_S = 10
"""Seconds that a Lease holds without being renewed.

A holder that dies is missed `LOOK_S` + `HOLDS_S` after its last renewal at the latest, so within 11 s and a request.
Kubernetes' own programs wait for 15 s; we have less to lose, for a router serves on without an operator. Shorter would
give up the lead whenever an API server restarts, which takes some seconds.
"""

RENEW_WITHIN_S = 6.0
"""Seconds after its last renewal at which a holder gives up. The other four are for stopping its work."""

RENEW_S = 2.0
"""Seconds between renewals, of which four are left then to try again."""

AGAIN_S = 0.5
"""Seconds after a renewal that failed: an API server that restarts must not cost us the lead."""

LOOK_S = 1.0
"""Seconds between looks of one that waits; so soon it leads after an orderly end of the other."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a Lease says.

    Attributes:
        holder: who leads; empty for nobody.
        holds_s: for how many seconds without a renewal.
        acquired: since when, as the Lease has it; empty for unknown.
        renewed: when it was last renewed, by the holder's clock; only whether it changed means anything.
        transitions: how often the lead went from one to another.
    """

    holder: str
    holds_s: int
    acquired: str
    renewed: str
    transitions: int

    @staticmethod
    def of(lease: Mapping[str, Any]) -> Record:
        """Read a Lease; a field that somebody left out is as it is at first."""
        spec = lease.get("spec") or {}
        return Record(
            spec.get("holderIdentity") or "",
            spec.get("leaseDurationSeconds") or HOLDS_S,
            spec.get("acquireTime") or "",
            spec.get("renewTime") or "",
            spec.get("leaseTransitions") or 0,
        )

    def to_spec(self) -> dict[str, Any]:
        """The form that a Lease has it in."""
        fields = {"leaseDurationSeconds": self.holds_s, "leaseTransitions": self.transitions}
        texts = {"holderIdentity": self.holder, "acquireTime": self.acquired, "renewTime": self.renewed}
        return fields | {name: text for name, text in texts.items() if text}


@dataclass(frozen=True, slots=True)
class Seen:
    """A Lease, and since when it has been seen to be so.

    Attributes:
        record: what it says; while none is there, what the last one said.
        version: its resource version; empty while none is there.
        since: when this record was first seen, on the clock of the one who looks.
    """

    record: Record
    version: str
    since: float


def see(before: Seen | None, lease: Mapping[str, Any] | None, now: float) -> Seen | None:
    """What is known of the Lease after one more look; `None` when there has never been one.

    One that was removed counts as it last stood: its holder leads on until it looks.
    """
    if lease is None:
        return before and Seen(before.record, "", before.since)
    record, version = Record.of(lease), lease["metadata"]["resourceVersion"]
    if before is not None and before.record == record:
        return Seen(record, version, before.since)
    return Seen(record, version, now)


class Step(Enum):
    """What to do about the Lease."""

    ACQUIRE = auto()
    """Write it in our name: nobody holds it, or who does is gone."""

    RENEW = auto()
    """Write it again: we hold it."""

    WAIT = auto()
    """Another one leads."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about the Lease.

    Attributes:
        step: what.
        message: why, as a sentence.
        until: when to look again at the latest, for one that waits; otherwise now.
    """

    step: Step
    message: str
    until: float


def decide(seen: Seen | None, identity: str, now: float) -> Decision:
    """What to do about the Lease as it was seen."""
    if seen is None:
        return Decision(Step.ACQUIRE, "there is no Lease yet", now)
    holder, ends = seen.record.holder, seen.since + seen.record.holds_s
    if holder == identity:
        return Decision(Step.RENEW, "we hold the Lease", now)
    if not holder:
        return Decision(Step.ACQUIRE, "nobody holds the Lease", now)
    if now >= ends:
        return Decision(Step.ACQUIRE, f"{holder} has not renewed the Lease for {seen.record.holds_s} s", now)
    return Decision(Step.WAIT, f"{holder} leads", min(ends, now + LOOK_S))


def held(seen: Seen | None, identity: str, at: datetime) -> Record:
    """What to write in order to hold the Lease.

    Args:
        seen: the Lease as it was seen.
        identity: who we are.
        at: the time for people to read.
    """
    moment = micro_time(at)
    if seen is None:
        return Record(identity, HOLDS_S, moment, moment, 0)
    record = seen.record
    if record.holder == identity:
        return Record(identity, HOLDS_S, record.acquired or moment, moment, record.transitions)
    return Record(identity, HOLDS_S, moment, moment, record.transitions + 1)


def released(seen: Seen, at: datetime) -> Record:
    """What to write so that another one may lead at once."""
    return Record("", 1, "", micro_time(at), seen.record.transitions)


def to_lease(namespace: str, record: Record, version: str) -> dict[str, Any]:
    """The whole Lease to write."""
    metadata = {"name": NAME, "namespace": namespace, **({"resourceVersion": version} if version else {})}
    return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": record.to_spec()}
