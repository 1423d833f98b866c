"""Decides whether a task should change its model, to which one, and when: Automatic mode does it, Manual mode says it.

Four things speak for a change, and the first that does counts: the active model fails, its answers are judged too poor,
another one is better by enough, or one that was never tried has room. Against it stand what failed before, whoever
changed today already, a cooldown, and closed windows; each says until when.

Rule: a change needs a reason that a measurement has given. Equals stay put: nothing that is better by less than
`minImprovement` is swapped to, and of two models that changed places within a day only a failure takes one back, so
noise never makes them change to and fro.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from arbiter.api.modelpool import Needs
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.api.swappolicy import Rollback, Trigger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from arbiter.core.choose import Ranked, Selection
    from arbiter.core.swap_seen import Opening

PAIR_RESTS: Final = timedelta(days=1)
"""How long two models that changed places are left alone, unless the active one fails."""

TRIES_A_DAY: Final = 5
"""Changes of a task that Arbiter begins by itself in a day: each may promote wrongly with `promotionErrorRate`."""


class Cause(StrEnum):
    """What speaks for a change, the most urgent first."""

    FAILING = "Failing"
    POOR = "Poor"
    BETTER = "Better"
    UNTRIED = "Untried"


@dataclass(frozen=True, slots=True)
class Past:
    """A swap of the task that has ended.

    Attributes:
        pair: the revisions that it was between, in either order.
        ended_at: when.
        chosen: Arbiter had asked for it, and no person.
        promoted: it changed what serves.
    """

    pair: frozenset[str]
    ended_at: datetime
    chosen: bool = True
    promoted: bool = True


@dataclass(frozen=True, slots=True)
class Failed:
    """A revision that was tried and not taken.

    Attributes:
        at: when it last was.
        times: how often.
    """

    at: datetime
    times: int = 1


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that the decision looks at.

    Attributes:
        task: its name.
        selection: who comes into question, with scores; the active one among them, or left out.
        trigger: when a change is called for.
        rollback: how long what failed is left alone.
        needs: what the task needs.
        window: whether a swap may begin; None where nothing closes.
        past: swaps of the last day, and the last one whenever it was.
        failed: what was tried and not taken, by revision.
        roomy: revisions that could be tried beside the active one now.
    """

    task: str
    selection: Selection
    trigger: Trigger = field(default_factory=Trigger)
    rollback: Rollback = field(default_factory=Rollback)
    needs: Needs = field(default_factory=Needs)
    window: Opening | None = None
    past: tuple[Past, ...] = ()
    failed: Mapping[str, Failed] = field(default_factory=dict)
    roomy: frozenset[str] = frozenset()

    @property
    def active(self) -> Ranked | None:
        """The active model, if it comes into question."""
        return next((each for each in self.selection.ranking if each.entrant.active), None)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What should happen.

    Attributes:
        reason: what, and why; or why nothing.
        to: the model to change to; None if all stays.
        cause: what speaks for it; None the same.
        due: when it may begin; now if that has passed; None if nothing can be said, or all stays.
        blocked: what stands in the way until then; None if nothing does.
    """

    reason: Reason
    to: Ranked | None = None
    cause: Cause | None = None
    due: datetime | None = None
    blocked: Reason | None = None


def recommend(case: Case, now: datetime) -> Recommendation:
    """Decide whether the task should change its model, to which, and when."""
    active = case.active
    for ask in (_fails, _is_poor, _is_beaten, _has_untried):
        found = ask(case, active, now)
        if found is not None:
            return _in_time(case, found, now)
    if active is None:
        told = f"nothing serves {case.task} that could be compared: {case.selection.reason.message}"
        return Recommendation(Reason(ReasonCode.NothingBetter, told))
    told = f"{active.entrant.model} stays for {case.task}: {_why_it_stays(case, active, now)}"
    return Recommendation(Reason(ReasonCode.NothingBetter, told))


def tried_again_at(failed: Failed, rollback: Rollback) -> datetime:
    """Say when a pair of models may be tried again: the cooldown doubles with each time, up to its bound."""
    longest = rollback.max_cooldown.seconds
    doublings = min(failed.times - 1, 32)
    return failed.at + timedelta(seconds=min(rollback.cooldown.seconds * 2.0**doublings, longest))


def _fails(case: Case, active: Ranked | None, now: datetime) -> Recommendation | None:
    if active is None or active.entrant.known.samples < case.trigger.min_samples:
        return None
    rate, least = active.entrant.known.success_rate, case.trigger.performance_threshold
    if rate >= least:
        return None
    to = _best(case, active, now, lambda other: _succeeds_more(other, active))
    if to is None:
        return None
    told = (
        f"{active.entrant.model} answers {rate:.1%} of its requests for {case.task}, below {least:.0%}: change to "
        f"{to.entrant.model}, {_known_as(to)}"
    )
    return Recommendation(Reason(ReasonCode.ActiveFails, told), to, Cause.FAILING)


def _is_poor(case: Case, active: Ranked | None, now: datetime) -> Recommendation | None:
    least = case.needs.min_quality
    if active is None or least is None:
        return None
    known = active.entrant.known
    if known.quality is None or known.judgements < case.trigger.min_samples:
        return None
    wanted = least * case.trigger.quality_factor
    if known.quality >= wanted:
        return None
    to = _best(case, active, now, lambda other: other.unproven or other.parts.quality > (known.quality or 0.0))
    if to is None:
        return None
    told = (
        f"the answers of {active.entrant.model} for {case.task} are worth {known.quality:.2f}, below {wanted:.2f}: "
        f"change to {to.entrant.model}, {_known_as(to)}"
    )
    return Recommendation(Reason(ReasonCode.ActivePoor, told), to, Cause.POOR)


def _is_beaten(case: Case, active: Ranked | None, now: datetime) -> Recommendation | None:
    if active is None or active.unproven:
        return None
    enough = active.total + case.trigger.min_improvement
    to = _best(
        case, active, now, lambda other: not other.unproven and other.total >= enough and not _rests(case, other, now)
    )
    if to is None:
        return None
    told = (
        f"{to.entrant.model} scores {to.total:.2f} for {case.task} and {active.entrant.model} {active.total:.2f}: "
        f"change to {to.entrant.model}"
    )
    return Recommendation(Reason(ReasonCode.BetterFound, told), to, Cause.BETTER)


def _has_untried(case: Case, active: Ranked | None, now: datetime) -> Recommendation | None:
    if active is None or active.entrant.known.samples < case.trigger.min_samples:
        return None
    to = _best(
        case,
        active,
        now,
        lambda other: (
            not other.entrant.known.samples and other.entrant.revision in case.roomy and not _rests(case, other, now)
        ),
    )
    if to is None:
        return None
    told = f"{to.entrant.model} was never tried for {case.task}, and there is room for it beside {active.entrant.model}"
    return Recommendation(Reason(ReasonCode.UntriedFound, told), to, Cause.UNTRIED)


def _best(case: Case, active: Ranked, now: datetime, suits: Callable[[Ranked], bool]) -> Ranked | None:
    """Give the best other model that suits, and did not fail too short a while ago."""
    for other in case.selection.ranking:
        if other.entrant.revision == active.entrant.revision or not suits(other):
            continue
        failed = case.failed.get(other.entrant.revision)
        if failed is None or now >= tried_again_at(failed, case.rollback):
            return other
    return None


def _succeeds_more(other: Ranked, active: Ranked) -> bool:
    return other.unproven or other.entrant.known.success_rate > active.entrant.known.success_rate


def _rests(case: Case, other: Ranked, now: datetime) -> bool:
    """Whether this model and the active one changed places within a day."""
    active = case.active
    pair = frozenset({other.entrant.revision} if active is None else {other.entrant.revision, active.entrant.revision})
    return any(each.pair == pair and now < each.ended_at + PAIR_RESTS for each in case.past)


def _in_time(case: Case, found: Recommendation, now: datetime) -> Recommendation:
    """Say when a change may begin; the cooldown is asked before windows, because its end may lie in another one."""
    last = max((each.ended_at for each in case.past), default=None)
    due = now if last is None else last + timedelta(seconds=case.trigger.cooldown.seconds)
    if now < due:
        told = f"the last swap of {case.task} ended at {last:%H:%M}, and cooldown is {case.trigger.cooldown}"
        return replace(found, due=due, blocked=Reason(ReasonCode.CoolingDown, told))
    tries = sorted(each.ended_at for each in case.past if each.chosen and now < each.ended_at + PAIR_RESTS)
    if len(tries) >= TRIES_A_DAY and found.cause is not Cause.FAILING:
        told = f"{len(tries)} swaps of {case.task} were begun by Arbiter within a day, which is as many as it may"
        return replace(found, due=tries[-TRIES_A_DAY] + PAIR_RESTS, blocked=Reason(ReasonCode.CoolingDown, told))
    if case.window is not None and not case.window.open:
        return replace(found, due=case.window.changes_at, blocked=case.window.reason)
    return replace(found, due=now)


def _known_as(ranked: Ranked) -> str:
    if ranked.entrant.known.samples and not ranked.unproven:
        return f"which scores {ranked.total:.2f}"
    return "of which little is known yet"


def _why_it_stays(case: Case, active: Ranked, now: datetime) -> str:
    known, least = active.entrant.known, case.trigger.min_samples
    if known.samples < least:
        return f"{known.samples:.0f} requests of at least {least} have been seen"
    resting = [each.entrant.model for each in case.selection.ranking if each is not active and _rests(case, each, now)]
    if resting:
        return f"{resting[0]} changed places with it within a day"
    others = [each for each in case.selection.ranking if each is not active]
    if not others:
        return "no other model comes into question"
    after = f"next is {others[0].entrant.model} with {others[0].total:.2f}"
    return f"no other model is better by {case.trigger.min_improvement:g}; {after}"
