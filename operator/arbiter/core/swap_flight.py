"""One swap in flight as a value: what it is about, where it is, and what it has learnt.

Rule: a flight holds all that the next decision needs to know of the earlier ones, and it is stored as a whole, in one
write: a restart goes on exactly where the last write was. The policy and both revisions are frozen when it begins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from arbiter.api.modelswap import Outcome, Phase, Stage
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core import rollout
from arbiter.core.swap_table import Event, follow

if TYPE_CHECKING:
    from datetime import datetime

    from arbiter.api.modelpool import Serving
    from arbiter.api.swappolicy import Strategy, SwapPolicySpec
    from arbiter.core.check_pairs import Pairs
    from arbiter.core.rollout import Step
    from arbiter.core.swap_analysis import Learnt


@dataclass(frozen=True, slots=True)
class Begun:
    """A phase that began.

    Attributes:
        phase: which.
        at: when.
        reason: why.
    """

    phase: Phase
    at: datetime
    reason: Reason


@dataclass(frozen=True, slots=True)
class Next:
    """What happens next.

    Attributes:
        action: what, as a sentence.
        at: when at the earliest; None: as soon as what it waits for has happened.
    """

    action: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Flight:
    """A swap in flight, or one that has ended.

    Attributes:
        name: of the ModelSwap.
        task: whose model is swapped.
        policy: as it was when the swap began.
        old: what served when it began.
        new: what is to serve.
        reason: why it stands where it does.
        analysed: whether the new side has to prove itself; what was active before goes back without.
        phase: where it is.
        outcome: how it ended, or how it will have ended once the old side is restored.
        strategy: how the two change places; None before it begins.
        stage: whose engine is there; it changes in OneAtATime only.
        step: the step of the rollout, from 1; 0 before the first.
        extensions: how often this step was extended.
        weight: percent of new requests for the new side, as the routers are told.
        acknowledged: the same as every live router obeys it.
        held_since: since when they do; None while they do not yet.
        pods: engine pods that the new side is to have.
        learnt: what the routers' counts have shown; None before requests move, and for what is not analysed.
        pairs: how both sides did at the task's checks; None without any.
        started_at: when it began; None before.
        next: what happens next; None once it has ended.
        history: the phases so far.
    """

    name: str
    task: str
    policy: SwapPolicySpec
    old: Serving
    new: Serving
    reason: Reason
    analysed: bool = True
    phase: Phase = Phase.Waiting
    outcome: Outcome | None = None
    strategy: Strategy | None = None
    stage: Stage = Stage.Shared
    step: int = 0
    extensions: int = 0
    weight: int = 0
    acknowledged: int = 0
    held_since: datetime | None = None
    pods: int = 0
    learnt: Learnt | None = None
    pairs: Pairs | None = None
    started_at: datetime | None = None
    next: Next | None = None
    history: tuple[Begun, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.phase is Phase.Ended

    @property
    def moves_requests(self) -> bool:
        """Whether requests may be on the new side."""
        return self.phase in {Phase.Shifting, Phase.Watching, Phase.RollingBack}

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of its rollout."""
        return rollout.steps_of(self.policy.rollout)

    @property
    def old_name(self) -> str:
        """What people call the old side: its model, and its revision as well where both sides are of one model."""
        return self.old.model if self.old.model != self.new.model else f"revision {self.old.revision}"

    @property
    def new_name(self) -> str:
        """The same of the new side."""
        return self.new.model if self.old.model != self.new.model else f"revision {self.new.revision}"

    @property
    def progress(self) -> Reason:
        """Say how far it is, in words that change with its steps alone; what the evidence shows is on the ModelSwap."""
        if self.reason.code is ReasonCode.ChecksRunning:
            told = f"the checks of {self.task} are asked of both models; see ModelSwap {self.name}"
            return Reason(ReasonCode.ChecksRunning, told)
        if not self.moves_requests or self.stage is not Stage.Shared or self.phase is Phase.RollingBack:
            return self.reason
        code = ReasonCode.BaselineWatched if self.phase is Phase.Watching else ReasonCode.StepHeld
        step = f", step {self.step} of {len(self.steps)}" if self.phase is Phase.Shifting else ", watched"
        told = f"{self.new_name} gets {self.weight} % of new requests for {self.task}{step}; see ModelSwap {self.name}"
        return Reason(code, told)

    def moved(self, event: Event, reason: Reason, now: datetime) -> Flight:
        """Go where an event leads.

        Raises:
            IllegalTransitionError: nowhere, from this phase.
        """
        arrow = follow(self.phase, event)
        return replace(
            self,
            phase=arrow.to,
            outcome=self.outcome if arrow.outcome is None else arrow.outcome,
            reason=reason,
            next=None,
            history=(*self.history, Begun(arrow.to, now, reason)),
        )

    def waits(self, reason: Reason, action: str, at: datetime | None = None) -> Flight:
        """Stay, and say what for and what comes next."""
        return replace(self, reason=reason, next=Next(action, at))

    def weighted(self, weight: int) -> Flight:
        """Tell routers another weight; it counts once they all obey it."""
        return self if weight == self.weight else replace(self, weight=weight, held_since=None)

    def staged(self, stage: Stage) -> Flight:
        """Let the engines change places by one stage; it counts once routers obey."""
        return replace(self, stage=stage, weight=100 if stage is Stage.NewAlone else 0, held_since=None)

    def since(self, now: datetime) -> datetime:
        """Give since when all routers obey what they were told last; now, if they do not yet."""
        return now if self.held_since is None else self.held_since


def requested(name: str, task: str, policy: SwapPolicySpec, sides: tuple[Serving, Serving], reason: str) -> Flight:
    """Give a swap that was asked for and has not begun.

    Args:
        name: of the ModelSwap.
        task: whose model is swapped.
        policy: that rules it from now on.
        sides: what serves, and what is to serve.
        reason: why it was asked for, as a sentence.
    """
    return Flight(name, task, policy, *sides, reason=Reason(ReasonCode.SwapRequested, reason))
