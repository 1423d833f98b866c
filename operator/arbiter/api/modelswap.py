"""ModelSwap: one change of model for one task, as a command that people may give and as the record of its flight.

The spec is the command and only its `intent` may change. The status owns the flight and nothing else: what is
active stands in the pool's status.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AwareDatetime, Field, StringConstraints

from arbiter.api.amounts import Duration
from arbiter.api.meta import (
    LIST_ATOMIC,
    Column,
    Conditions,
    Fraction,
    Label,
    Names,
    ObjectName,
    Part,
    Percent,
    Resource,
    Rule,
    Text,
    immutable_except,
    list_map,
)
from arbiter.api.modelpool import Revision
from arbiter.api.swappolicy import Strategy, SwapPolicySpec


class Intent(StrEnum):
    """What the swap is told to do."""

    Run = "Run"
    Pause = "Pause"
    Promote = "Promote"
    Abort = "Abort"


class ModelSwapSpec(Part):
    """The command. Immutable but for `intent`."""

    pool: ObjectName
    """The ModelPool."""

    task: ObjectName
    """The task in it."""

    to: ObjectName
    """The LocalModel that should serve the task."""

    revision: Revision | None = None
    """A revision of it that the pool still keeps, to go back to exactly that one. Left out: what it resolves to now."""

    reason: Text = "requested"
    """Why, for people."""

    intent: Annotated[
        Intent,
        Rule("oldSelf != 'Abort' || self == 'Abort'", "Abort is final: make a new ModelSwap to try again"),
        Rule(
            "oldSelf != 'Promote' || self in ['Promote', 'Abort']",
            "after Promote only Abort is possible",
        ),
    ] = Intent.Run
    """Run; Pause: keep the weights where they are; Promote: skip what is left of the rollout and the watch;
    Abort: back to the old model. Abort wins over everything."""


ModelSwapSpec.rules = immutable_except(ModelSwapSpec, "intent")


class Phase(StrEnum):
    """Where a swap is."""

    Waiting = "Waiting"
    Preparing = "Preparing"
    Shifting = "Shifting"
    Watching = "Watching"
    RollingBack = "RollingBack"
    Ended = "Ended"


class Outcome(StrEnum):
    """How a swap ended."""

    Promoted = "Promoted"
    Rejected = "Rejected"
    RolledBack = "RolledBack"
    Superseded = "Superseded"
    Aborted = "Aborted"


class Stage(StrEnum):
    """Who takes requests, and whose engine is there, where only one of the two can be."""

    Shared = "Shared"
    """Both sides may be there, and the weights say who takes requests."""

    ClearingOld = "ClearingOld"
    """Requests are held while the old side ends its answers."""

    NewComes = "NewComes"
    """Requests are held while the new side comes up in the old one's place."""

    NewAlone = "NewAlone"
    """The new side serves, and the old one is gone."""

    ClearingNew = "ClearingNew"
    """Requests are held while the new side ends its answers."""

    OldComes = "OldComes"
    """Requests are held while the old side comes up again."""

    @property
    def holds(self) -> bool:
        """Whether requests wait."""
        return self not in {Stage.Shared, Stage.NewAlone}

    @property
    def has_old(self) -> bool:
        """Whether the old side's engine is to be there."""
        return self in {Stage.Shared, Stage.ClearingOld, Stage.OldComes}

    @property
    def has_new(self) -> bool:
        """Whether the new side's engine is to be there; shared, the number of its pods says it."""
        return self in {Stage.Shared, Stage.NewComes, Stage.NewAlone, Stage.ClearingNew}


class SwapSide(Part):
    """One of the two models of a swap, frozen when it started."""

    model: ObjectName
    """The LocalModel."""

    revision: Revision
    """The revision."""

    digest: Annotated[str, StringConstraints(max_length=256)] | None = None
    """What its source resolved to."""

    replicas: Annotated[int, Field(ge=0)] | None = None
    """Engine pods that it is to have for its share of requests."""

    ready_replicas: Annotated[int, Field(ge=0)] | None = None
    """Engine pods that can serve."""

    requests: Annotated[int, Field(ge=0)] | None = None
    """Requests that it served during this swap."""


class Weights(Part):
    """Percent of new requests for the new side."""

    set: Percent
    """As the routers were told."""

    acknowledged: Percent
    """As every live router obeys it."""

    since: AwareDatetime | None = None
    """Since when every live router obeys what it was told last; before requests move, since when the new side is asked.
    Left out: not all do yet."""


class NextAction(Part):
    """What happens next, and when at the earliest."""

    action: Text
    """What, as a sentence."""

    at: AwareDatetime | None = None
    """When at the earliest. Left out: as soon as what it waits for has happened."""


class Verdict(StrEnum):
    """What the evidence of one metric says about the new side."""

    Better = "Better"
    """Shown to be better than the old side itself: the interval lies above zero."""

    NotWorse = "NotWorse"
    """Shown to be within the margin."""

    Undecided = "Undecided"
    """Nothing is shown yet."""

    Worse = "Worse"
    """Shown to be beyond the margin."""


class SideFigure(Part):
    """A metric's value on one side."""

    count: Annotated[int, Field(ge=0)]
    """Requests behind it."""

    value: float | None = None
    """The value: a rate from 0 to 1, or seconds. Left out: no figures yet."""


class MetricStatus(Part):
    """What one metric shows."""

    name: Label
    """The metric."""

    old: SideFigure
    """The old side."""

    new: SideFigure
    """The new side."""

    interval: Annotated[tuple[float, ...], Field(min_length=2, max_length=2), LIST_ATOMIC] | None = None
    """Where the ratio of new to old lies, from and to, at the promotion error rate."""

    margin: float
    """The ratio of new to old at which the new side counts as worse."""

    rollback: Label
    """Evidence that the new side is worse, and how much is needed, such as `3.1/100`."""

    promotion: Label | None = None
    """Evidence that it is not worse, and how much is needed, such as `14/20`. Left out: guards rollback only."""

    blocks: Annotated[int, Field(ge=0)]
    """Blocks compared."""

    gaps: Annotated[int, Field(ge=0)]
    """Blocks left out, because figures of a side were missing."""

    verdict: Verdict
    """What it shows so far."""

    message: Text | None = None
    """The same as a sentence, with what is still missing."""


class CheckStatus(Part):
    """How both sides answered one prompt of the task's checks."""

    name: Label
    """The prompt's name."""

    old: Fraction
    """The share of passes of the old side."""

    new: Fraction
    """The share of passes of the new side."""


class Transition(Part):
    """A change of phase."""

    phase: Phase
    """The phase that began."""

    at: AwareDatetime
    """When."""

    reason: Label
    """Why, as a code."""

    message: Text
    """Why, as a sentence."""

    duration: Label | None = None
    """How long the phase took. Left out: it goes on."""


class ModelSwapStatus(Part):
    """The flight: where it is, what it shows, what comes next."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that this is about; 0: none yet, so whoever waits for the object goes on waiting."""

    conditions: Conditions = ()
    """Ready: it has ended and the task is served. Stalled: a person must act."""

    phase: Phase | None = None
    """Where it is."""

    outcome: Outcome | None = None
    """How it ended; while it rolls back, how it will have ended. Left out: that is open."""

    reason: Label | None = None
    """Why it stands where it does, as a code."""

    message: Text | None = None
    """Why, as a sentence."""

    from_: Annotated[SwapSide | None, Field(alias="from")] = None
    """The old side."""

    to: SwapSide | None = None
    """The new side."""

    policy: SwapPolicySpec | None = None
    """The policy as it was when the swap started; it rules to the end."""

    strategy: Strategy | None = None
    """How the models change places: SideBySide or OneAtATime."""

    stage: Stage | None = None
    """OneAtATime: whose engine is there. Left out: both may be."""

    analysed: bool | None = None
    """Whether the new side has to prove itself. What served before goes back without."""

    step: Annotated[int, Field(ge=0)] | None = None
    """The step of the rollout, from 1."""

    steps: Annotated[int, Field(ge=0)] | None = None
    """How many there are."""

    extensions: Annotated[int, Field(ge=0)] | None = None
    """How often the step was extended."""

    weights: Weights | None = None
    """Percent of new requests for the new side."""

    progress: Label | None = None
    """Step and weight as printed, such as `3/9 30%`."""

    next: NextAction | None = None
    """What happens next."""

    metrics: Annotated[tuple[MetricStatus, ...], Field(max_length=32), list_map("name")] = ()
    """What each metric shows."""

    checks: Annotated[tuple[CheckStatus, ...], Field(max_length=500), list_map("name")] = ()
    """How both sides answered the task's checks."""

    evidence: Annotated[str, StringConstraints(max_length=65536)] | None = None
    """The exact state of the tests and how far the counts are consumed, for the operator alone."""

    scores: Annotated[str, StringConstraints(max_length=65536)] | None = None
    """The exact scores of the task's checks, for the operator alone."""

    history: Annotated[tuple[Transition, ...], Field(max_length=64), LIST_ATOMIC] = ()
    """The phases so far."""

    started_at: AwareDatetime | None = None
    """When it began."""

    ended_at: AwareDatetime | None = None
    """When it ended."""

    elapsed: Duration | None = None
    """How long it took, once it ended."""


class ModelSwap(Resource):
    """A change from one model to another for one task of a pool: the command, its progress and its evidence."""

    names: ClassVar = Names(
        plural="modelswaps",
        short=("mswap",),
        columns=(
            Column("Pool", ".spec.pool", "The pool."),
            Column("Task", ".spec.task", "The task."),
            Column("From", ".status.from.model", "The old model."),
            Column("To", ".spec.to", "The new model."),
            Column("Phase", ".status.phase", "Where the swap is."),
            Column("Progress", ".status.progress", "Step and weight."),
            Column("Outcome", ".status.outcome", "How it ended."),
            Column("Reason", ".status.reason", "Why it stands where it does."),
            Column("Message", ".status.message", "The same as a sentence.", wide=True),
            Column("Next", ".status.next.at", "When the next action is due.", wide=True),
        ),
        selectable=(".spec.pool", ".spec.task", ".spec.to", ".status.phase", ".status.outcome"),
    )

    spec: ModelSwapSpec
    """The command."""

    status: ModelSwapStatus = ModelSwapStatus()
    """The flight; written by Arbiter."""
