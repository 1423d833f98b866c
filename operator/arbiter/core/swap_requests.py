"""Decides which swaps are asked for, which one of them counts, and which end because of it.

A swap is asked for by editing the task's `model`, by a ModelSwap that somebody makes, and by a new revision of what is
active. The newest request counts; whatever was asked for before makes way for it, and goes back first if it has moved
requests. Asking for what serves already, or for what a swap came from, asks for no new swap: it ends the one in flight.

Rule: a request is handled once. An edit that was handled changes nothing when it is applied again, and neither does one
that asks for what was tried and failed: only a ModelSwap, which a person makes on purpose, tries that once more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from arbiter.api.meta import NAME_LIMIT
from arbiter.api.modelpool import Serving
from arbiter.api.reasons import Reason, ReasonCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from arbiter.api.modelpool import Rejection

KEPT: Final = 10
"""Ended swaps of a task that are kept of those that Arbiter made; people's are theirs to delete."""


@dataclass(frozen=True, slots=True)
class Command:
    """A ModelSwap of a task that has not ended.

    Attributes:
        name: its name.
        created_at: when it was made.
        to: the LocalModel that is to serve.
        revision: what of it; empty where that is not known yet.
        ours: Arbiter made it.
        origin: the LocalModel that served when it was first seen; None before that.
        begun: it has been seen and has a phase.
    """

    name: str
    created_at: datetime
    to: str
    revision: str = ""
    ours: bool = False
    origin: str | None = None
    begun: bool = False

    @property
    def order(self) -> tuple[datetime, int, str]:
        """Which of two is the newer one: by time, then by the number in its name."""
        return self.created_at, _number(self.name), self.name


@dataclass(frozen=True, slots=True)
class Wanted:
    """A task with all that is asked of it.

    Attributes:
        task: its name.
        active: what serves it.
        asked: what its spec says; None if that leaves the model to Arbiter.
        handled: what of that was acted on already.
        target: what `asked` would run as, or why it cannot be run yet; None without one.
        renewed: what the active model would run as now, where that is another revision, with why; None where it is not.
        commands: its ModelSwaps that have not ended.
        rejections: what was tried for it and failed, by revision.
    """

    task: str
    active: Serving
    asked: str | None = None
    handled: str | None = None
    target: Serving | Reason | None = None
    renewed: tuple[Serving, str] | None = None
    commands: tuple[Command, ...] = ()
    rejections: Mapping[str, Rejection] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewSwap:
    """A ModelSwap that is to be made.

    Attributes:
        to: what is to serve.
        reason: why, as a sentence for people.
    """

    to: Serving
    reason: str


@dataclass(frozen=True, slots=True)
class Requests:
    """What was decided.

    Attributes:
        create: the swap that is to be made; None if none is.
        handled: what of the spec has been acted on from now on.
        superseded: why a swap makes way for another one, by name.
        withdrawn: why a swap is not wanted any more, by name.
        report: what people should know of a request that starts no swap; None if there is nothing.
    """

    create: NewSwap | None = None
    handled: str | None = None
    superseded: Mapping[str, Reason] = field(default_factory=dict)
    withdrawn: Mapping[str, Reason] = field(default_factory=dict)
    report: Reason | None = None

    @property
    def leaving(self) -> frozenset[str]:
        """Swaps that end because of it."""
        return frozenset(self.superseded) | frozenset(self.withdrawn)


def weigh(wanted: Wanted) -> Requests:
    """Decide what becomes of all that is asked for one task."""
    commands = sorted(wanted.commands, key=lambda command: command.order)
    newest = commands[-1] if commands else None
    edited = wanted.asked is not None and wanted.asked != (wanted.handled or wanted.active.model)
    if edited:
        return _edited(wanted, newest, commands)
    if newest is not None and _is_overtaken(wanted, newest):
        told = f"{newest.to} would not run as revision {newest.revision} any more"
        return replace(_renewed(wanted), withdrawn={newest.name: Reason(ReasonCode.Withdrawn, told)})
    superseded = {} if newest is None else _superseded(commands[:-1], newest.name, newest.to)
    if newest is None and wanted.renewed is not None:
        return _renewed(wanted)
    report = _rejected(wanted) if newest is None else None
    return Requests(handled=wanted.handled or wanted.asked, superseded=superseded, report=report)


def swap_name(pool: str, task: str, taken: Iterable[str]) -> str:
    """Give the name of a task's next swap: pool, task and a number, in at most 40 characters.

    It follows from what is there, so a pass that is repeated on a stale view names the same object again.
    """
    stem = f"{pool}-{task}"
    longest = NAME_LIMIT - len("-99999")
    if len(stem) > longest:
        digest = sha256(stem.encode()).hexdigest()[:6]
        stem = f"{stem[: longest - 7].rstrip('-')}-{digest}"
    numbers = [_number(name) for name in taken if re.fullmatch(rf"{re.escape(stem)}-[0-9]+", name)]
    return f"{stem}-{max(numbers, default=0) + 1}"


def beyond_history(ended: Iterable[tuple[datetime, str]]) -> tuple[str, ...]:
    """Give the names of a task's ended swaps that are beyond those kept, of those that Arbiter made."""
    newest_first = sorted(ended, reverse=True)
    return tuple(name for _, name in newest_first[KEPT:])


def _edited(wanted: Wanted, newest: Command | None, commands: list[Command]) -> Requests:
    asked = wanted.asked or ""
    if newest is not None and newest.to == asked:
        return Requests(handled=asked, superseded=_superseded(commands[:-1], newest.name, asked))
    if asked == wanted.active.model:
        told = f"{asked} is asked for again, and it serves {wanted.task} already"
        return Requests(handled=asked, withdrawn={one.name: Reason(ReasonCode.Withdrawn, told) for one in commands})
    if not isinstance(wanted.target, Serving):
        why = "it has not been looked at yet" if wanted.target is None else wanted.target.message
        told = f"{asked} is requested, not yet swapped: {wanted.active.model} serves on; {why}"
        return Requests(handled=wanted.handled, report=Reason(ReasonCode.SwapRequested, told))
    if (report := _rejected(wanted)) is not None:
        return Requests(handled=asked, report=report)
    reason = f"the model of {wanted.task} was changed from {wanted.active.model} to {asked}"
    # What is in flight makes way once the new swap stands, so that a pass that is cut short here loses neither.
    return Requests(create=NewSwap(wanted.target, reason), handled=wanted.handled)


def _is_overtaken(wanted: Wanted, newest: Command) -> bool:
    """Whether Arbiter asked for a new revision of what serves, and that is not what it would run as now."""
    if not newest.ours or newest.to != wanted.active.model or not newest.revision:
        return False
    return wanted.renewed is None or wanted.renewed[0].revision != newest.revision


def _rejected(wanted: Wanted) -> Reason | None:
    """Say that what the spec asks for was tried and failed."""
    if not isinstance(wanted.target, Serving) or (failed := wanted.rejections.get(wanted.target.revision)) is None:
        return None
    told = (
        f"{wanted.asked} was tried for {wanted.task} and not taken ({failed.reason}), so asking for it by the same "
        f"edit changes nothing: {wanted.active.model} serves on; make a ModelSwap to try it once more"
    )
    return Reason(ReasonCode.RejectedBefore, told)


def _renewed(wanted: Wanted) -> Requests:
    handled = wanted.handled or wanted.asked
    if wanted.renewed is None:
        return Requests(handled=handled)
    target, why = wanted.renewed
    if target.revision in wanted.rejections:
        told = (
            f"revision {target.revision} of {target.model} was tried for {wanted.task} and not taken; "
            f"{wanted.active.revision} serves on"
        )
        return Requests(handled=handled, report=Reason(ReasonCode.RejectedBefore, told))
    return Requests(create=NewSwap(target, f"{target.model} has a new revision: {why}"), handled=handled)


def _superseded(older: Iterable[Command], name: str, to: str) -> dict[str, Reason]:
    told = Reason(ReasonCode.Superseded, f"{name} takes its place and asks for {to}")
    return {command.name: told for command in older}


def _number(name: str) -> int:
    """Give the number at the end of a name; 0 for what has none."""
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isascii() and digits.isdecimal() else 0
