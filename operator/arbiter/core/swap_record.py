"""Writes a flight into its ModelSwap's status, and reads it back.

Rule: the status is the whole memory of a swap. What the next pass needs is in it, exact; what people need beside that,
figures and sentences, is written from the same values and never read back. A status changes only when something has
happened: a clock that ticks is no reason for a write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arbiter.api.amounts import Duration
from arbiter.api.meta import ConditionStatus
from arbiter.api.modelpool import Serving
from arbiter.api.modelswap import (
    MetricStatus,
    ModelSwapStatus,
    NextAction,
    Outcome,
    Phase,
    SideFigure,
    Stage,
    SwapSide,
    Transition,
    Weights,
)
from arbiter.api.reasons import ConditionType, Reason, ReasonCode
from arbiter.api.swappolicy import Strategy
from arbiter.core.analysis_settings import MetricName
from arbiter.core.check_pairs import Pairs
from arbiter.core.status import with_abnormality, with_condition
from arbiter.core.swap_analysis import Learnt
from arbiter.core.swap_flight import Begun, Flight, Next
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from arbiter.api.meta import Condition
    from arbiter.api.modelswap import CheckStatus, ModelSwap
    from arbiter.core.judgement import Judgement, MetricReport

_LONGEST: Final = 1024
"""Characters of a sentence in a status."""

_MOST_TRANSITIONS: Final = 64
"""Phases that a history holds; a swap has at most seven."""


@dataclass(frozen=True, slots=True)
class SideNow:
    """What people want to know of a side beside its name.

    Attributes:
        ready: engine pods that can serve.
        digest: what its source resolved to; empty if that is not known.
        requests: requests that it has served in this swap; None if nobody counted them.
    """

    ready: int = 0
    digest: str = ""
    requests: int | None = None


def read_flight(swap: ModelSwap) -> Flight | None:
    """Give the flight that a status holds; None for a swap that has not been seen yet.

    Raises:
        CorruptStateError: it does not read back.
    """
    status, where = swap.status, f"ModelSwap {swap.metadata.name}"
    if status.phase is None or (status.phase is Phase.Waiting and status.policy is None):
        return None
    if status.policy is None or status.from_ is None or status.to is None:
        raise CorruptStateError(f"{where}: status has a phase and not both sides with their policy")
    sides = (status.from_, status.to)
    old, new = (Serving(model=side.model, revision=side.revision) for side in sides)
    weights = status.weights or Weights(set=0, acknowledged=0)
    return Flight(
        name=swap.metadata.name,
        task=swap.spec.task,
        policy=status.policy,
        old=old,
        new=new,
        reason=_read_reason(status.reason, status.message, where),
        analysed=status.analysed is not False,
        phase=status.phase,
        outcome=status.outcome,
        strategy=status.strategy,
        stage=status.stage or Stage.Shared,
        step=status.step or 0,
        extensions=status.extensions or 0,
        weight=weights.set,
        acknowledged=weights.acknowledged,
        held_since=weights.since,
        pods=status.to.replicas or 0,
        learnt=None if status.evidence is None else Learnt.from_text(status.evidence, status.policy),
        pairs=None if status.scores is None else Pairs.from_text(status.scores),
        started_at=status.started_at,
        next=None if status.next is None else Next(status.next.action, status.next.at),
        history=tuple(
            Begun(each.phase, each.at, _read_reason(each.reason, each.message, where)) for each in status.history
        ),
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """What people are shown of a swap beside the flight itself.

    Attributes:
        old: the old side.
        new: the new side.
        judgement: of what was learnt; None before there is any.
        checks: how both sides answered the task's checks; None leaves what was shown before.
    """

    old: SideNow = SideNow()
    new: SideNow = SideNow()
    judgement: Judgement | None = None
    checks: tuple[CheckStatus, ...] | None = None


def swap_status(flight: Flight, swap: ModelSwap, shown: Shown, now: datetime) -> ModelSwapStatus:
    """Give the status that holds a flight.

    Args:
        flight: the swap as it is.
        swap: the object as it was read.
        shown: what people are shown beside it.
        now: the time.
    """
    before, judgement = swap.status, shown.judgement
    has_begun = flight.started_at is not None
    return ModelSwapStatus(
        observed_generation=swap.metadata.generation,
        conditions=_conditions(flight, swap, now),
        phase=flight.phase,
        outcome=flight.outcome,
        reason=flight.reason.code.value,
        message=flight.reason.message[:_LONGEST],
        from_=_side(flight.old, shown.old, replicas=None),
        to=_side(flight.new, shown.new, replicas=flight.pods if has_begun else None),
        policy=flight.policy,
        strategy=flight.strategy,
        stage=flight.stage if flight.strategy is Strategy.OneAtATime else None,
        analysed=flight.analysed,
        step=flight.step if has_begun else None,
        steps=len(flight.steps) if flight.strategy is Strategy.SideBySide else None,
        extensions=flight.extensions if has_begun else None,
        weights=Weights(set=flight.weight, acknowledged=flight.acknowledged, since=flight.held_since)
        if has_begun
        else None,
        progress=_progress(flight),
        next=None if flight.next is None else NextAction(action=flight.next.action[:_LONGEST], at=flight.next.at),
        metrics=before.metrics if judgement is None else _metrics(judgement, flight.policy.analysis.block_length),
        checks=before.checks if shown.checks is None else shown.checks,
        scores=None if flight.pairs is None or flight.ended else flight.pairs.to_text(),
        evidence=None if flight.learnt is None or flight.ended else flight.learnt.to_text(),
        history=_history(flight),
        started_at=flight.started_at,
        ended_at=flight.history[-1].at if flight.ended else None,
        elapsed=_elapsed(flight),
    )


def unknown_status(swap: ModelSwap, problem: Reason, now: datetime) -> ModelSwapStatus:
    """Give the status of a swap of which it cannot be said yet what it is about."""
    generation = swap.metadata.generation
    return ModelSwapStatus(
        observed_generation=generation,
        conditions=_set(swap, ConditionStatus.FALSE, problem, now),
        phase=Phase.Waiting,
        reason=problem.code.value,
        message=problem.message[:_LONGEST],
    )


def _read_reason(code: str | None, message: str | None, where: str) -> Reason:
    if code not in set(ReasonCode):
        raise CorruptStateError(f"{where}: status has the reason {code}, which this version does not know")
    return Reason(ReasonCode(code), message or "")


def _side(serving: Serving, side: SideNow, replicas: int | None) -> SwapSide:
    return SwapSide(
        model=serving.model,
        revision=serving.revision,
        digest=side.digest[:256] or None,
        replicas=replicas,
        ready_replicas=side.ready,
        requests=side.requests,
    )


def _progress(flight: Flight) -> str | None:
    """Say how far it is, in the few letters of a column."""
    if not flight.moves_requests:
        return None
    if flight.strategy is Strategy.OneAtATime:
        return flight.stage.value
    if flight.phase is Phase.Shifting:
        return f"{flight.step}/{len(flight.steps)} {flight.weight}%"
    return f"{flight.weight}%"


def _metrics(judgement: Judgement, block: Duration) -> tuple[MetricStatus, ...]:
    gaps = judgement.evidence.gaps
    return tuple(_metric(report, gaps, block.seconds) for report in judgement.metrics)


def _missing(report: MetricReport, block_s: float) -> str:
    """Say what a gate probably still needs, and how long that takes at the rate of the blocks so far."""
    if not report.missing or not report.n_new:
        return ""
    if report.name is MetricName.QUALITY:
        return f"about {report.missing} more checks of both sides decide it"
    seconds = report.missing / report.n_new * report.blocks * block_s
    return f"about {report.missing} more requests of the new side decide it, {_roughly(seconds)} at this rate"


def _roughly(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _metric(report: MetricReport, gaps: int, block_s: float) -> MetricStatus:
    low, high = report.interval
    return MetricStatus(
        name=report.name.value,
        old=SideFigure(count=report.n_old, value=report.old),
        new=SideFigure(count=report.n_new, value=report.new),
        interval=(round(low, 4), round(high, 4)),
        margin=report.margin,
        rollback=report.rollback,
        promotion=report.promotion or None,
        blocks=report.blocks,
        gaps=gaps,
        verdict=report.verdict,
        message=_missing(report, block_s) or None,
    )


def _history(flight: Flight) -> tuple[Transition, ...]:
    begun = flight.history[-_MOST_TRANSITIONS:]
    ends = [each.at for each in begun[1:]]
    lengths = [_spelled(end - each.at) for each, end in zip(begun, ends, strict=False)]
    return tuple(
        Transition(
            phase=each.phase,
            at=each.at,
            reason=each.reason.code.value,
            message=each.reason.message[:_LONGEST],
            duration=lengths[index] if index < len(lengths) else None,
        )
        for index, each in enumerate(begun)
    )


def _elapsed(flight: Flight) -> Duration | None:
    if not flight.ended or flight.started_at is None:
        return None
    return Duration.parse(_spelled(flight.history[-1].at - flight.started_at))


def _spelled(length: timedelta) -> str:
    """Write a length of time in whole units, as Kubernetes writes durations."""
    seconds = max(0, round(length.total_seconds()))
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"


def _conditions(flight: Flight, swap: ModelSwap, now: datetime) -> tuple[Condition, ...]:
    """Ready once it has ended; Stalled where only a person moves it on."""
    ready = ConditionStatus.TRUE if flight.ended else ConditionStatus.FALSE
    return _set(swap, ready, flight.reason, now)


def _set(swap: ModelSwap, ready: ConditionStatus, reason: Reason, now: datetime) -> tuple[Condition, ...]:
    generation = swap.metadata.generation
    conditions = with_condition(
        swap.status.conditions,
        type=ConditionType.Ready,
        status=ready,
        reason=reason,
        generation=generation,
        now=now,
    )
    stuck = reason if reason.code in _NEED_A_PERSON and ready is ConditionStatus.FALSE else None
    return with_abnormality(conditions, type=ConditionType.Stalled, reason=stuck, generation=generation, now=now)


_NEED_A_PERSON: Final = frozenset({ReasonCode.Inconclusive, ReasonCode.ModelNotFound, ReasonCode.ModelNotRunnable})
"""Reasons that time does not mend."""

FAILED: Final = frozenset({Outcome.Rejected, Outcome.RolledBack})
"""Outcomes that are remembered against a revision: what a person ended says nothing about it."""
