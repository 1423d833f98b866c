"""What one look at a swap sees: its command, both sides, the routers, the checks and the evidence.

Rule: what has not been found out is None, and no decision takes that for "no" or for zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arbiter.api.modelswap import Intent

if TYPE_CHECKING:
    from datetime import datetime

    from arbiter.api.reasons import Reason
    from arbiter.api.swappolicy import Strategy
    from arbiter.core.candidacy import Fit
    from arbiter.core.judgement import Judgement


@dataclass(frozen=True, slots=True)
class SideSeen:
    """One side's engine pods.

    Attributes:
        reason: what it waits for; that it serves, if for nothing.
        ready: endpoints that take requests.
        proved: it has answered.
        broken: why it will not serve without a person, or no longer does; None while nothing says so.
        idle: no request is under way there, as routers and the engine itself say; None while one has not said.
    """

    reason: Reason
    ready: int = 0
    proved: bool = False
    broken: Reason | None = None
    idle: bool | None = None

    @property
    def serves(self) -> bool:
        """Whether requests can be sent to it."""
        return self.ready > 0 and self.proved

    def has(self, pods: int) -> bool:
        """Whether requests can be sent to so many of its engine pods."""
        return self.serves and self.ready >= pods


@dataclass(frozen=True, slots=True)
class Checked:
    """How far the task's checks are.

    Attributes:
        done: all that were to be asked have been answered.
        told: how far, or how they ended, as a sentence.
        worse: why the new side is clearly worse; None while it is not.
    """

    done: bool
    told: str
    worse: Reason | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """Whether a swap may begin and weights may rise now.

    Attributes:
        open: they may.
        reason: why.
        changes_at: when that changes by itself; None if it does not.
    """

    open: bool
    reason: Reason
    changes_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """How two models change places.

    Attributes:
        strategy: SideBySide or OneAtATime; None if neither can be.
        reason: why, with the figures.
        may_change: neither can be now, and once a node has room one of them can.
    """

    strategy: Strategy | None
    reason: Reason
    may_change: bool = False


@dataclass(frozen=True, slots=True)
class SwapSeen:
    """Everything that the next decision about a swap may look at.

    Attributes:
        old: what serves.
        new: what is to serve.
        choice: how they would change places.
        window: whether weights may rise.
        intent: what people tell the swap to do.
        replicas: engine pods that a side needs for all requests.
        is_active: the pool says already that the new side serves for good.
        withdrawn: why what the swap was for is gone; None while it is there.
        task_gone: the task is no longer in the pool, and its routes with it.
        superseded: which request takes its place; None while none does.
        delayed: what it waits for before it begins; None if for nothing.
        fit: whether the new side is compatible; None while its model is not known well enough.
        obeyed: every live router obeys the weights that were written last.
        laggards: names of routers that do not.
        unheard: names of live routers that have not answered the operator for a while.
        warming: what the new side's first completions wait for; None once they have come back.
        checks: of the task; None if it has none.
        judgement: of the evidence; None before there is any.
        first_failed: requests of the new side, if every one of the first ones failed; 0 once one went well.
    """

    old: SideSeen
    new: SideSeen
    choice: Choice
    window: Opening
    intent: Intent = Intent.Run
    replicas: int = 1
    is_active: bool = False
    withdrawn: Reason | None = None
    task_gone: bool = False
    superseded: Reason | None = None
    delayed: Opening | None = None
    fit: Fit | None = None
    obeyed: bool = False
    laggards: tuple[str, ...] = ()
    unheard: tuple[str, ...] = ()
    warming: Reason | None = None
    checks: Checked | None = None
    judgement: Judgement | None = None
    first_failed: int = 0
