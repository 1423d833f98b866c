"""The reason codes that Arbiter gives, and the value that carries one.

A decision is a code for machines and a sentence for people. The same value is logged, sent as an event,
written as a condition and printed by the CLI, so that whoever reads one of them has read them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReasonCode(StrEnum):
    """CamelCase codes: stable, documented, safe to alert on."""

    RegressionProven = "RegressionProven"
    """The new side is worse than the margin allows, at the stated error rate."""

    EqualOrBetterProven = "EqualOrBetterProven"
    """Every metric with a source shows that the new side is not worse than the margin."""

    EvidenceUndecided = "EvidenceUndecided"
    """Neither bound is reached: more requests are needed."""

    TooFewRequests = "TooFewRequests"
    """A step has not had its fewest requests on both sides yet, so it may not end."""

    MetricsUnavailable = "MetricsUnavailable"
    """A metric that had a source fell silent: weights are held, nothing is guessed."""

    NoWindows = "NoWindows"
    """The policy has no windows, so swaps may start at any time."""

    WindowOpen = "WindowOpen"
    """A maintenance window is open: swaps may start and weights may rise."""

    WindowClosed = "WindowClosed"
    """No maintenance window is open: swaps and rising weights wait. Rollbacks never do."""

    Compatible = "Compatible"
    """The candidate meets what was asked of it."""

    Unproven = "Unproven"
    """There are too few requests on record to say."""

    FactUnknown = "FactUnknown"
    """A figure that the decision needs has not been found out; the candidate is tried with a warning."""

    Ranked = "Ranked"
    """Models were scored for a task, and one is the best."""

    NoModelFits = "NoModelFits"
    """No model comes into question for a task."""

    NothingBetter = "NothingBetter"
    """The active model stays: nothing speaks for another one."""

    ActiveFails = "ActiveFails"
    """The active model answers too few of its requests, and another one may do better."""

    ActivePoor = "ActivePoor"
    """The active model's answers were judged too poor for the task, and another one may do better."""

    BetterFound = "BetterFound"
    """Another model scores better for the task, by more than chance would give it."""

    UntriedFound = "UntriedFound"
    """A model that was never tried for the task has room to be tried."""

    QualityBelowNeed = "QualityBelowNeed"
    """The model's answers were judged worse than the task allows."""

    SlowerThanNeed = "SlowerThanNeed"
    """The model was measured slower than the task allows."""

    ModelDeprecated = "ModelDeprecated"
    """The LocalModel says that it should no longer be used, so no new choice falls on it."""

    EngineWithoutGpu = "EngineWithoutGpu"
    """The engine usually needs a GPU, and the pool's placement asks for none."""

    CapabilityMissing = "CapabilityMissing"
    """The candidate lacks a capability that the task needs."""

    CapabilityLost = "CapabilityLost"
    """The candidate lacks a capability that the active model has."""

    ContextWindowTooSmall = "ContextWindowTooSmall"
    """The candidate's context window is smaller than the task needs."""

    ContextWindowReduced = "ContextWindowReduced"
    """The candidate's context window is smaller than the active model's."""

    MemoryAboveNeed = "MemoryAboveNeed"
    """The candidate needs more memory than the task allows."""

    MemoryAboveCapacity = "MemoryAboveCapacity"
    """The candidate needs more memory than the pool's shared engine may use."""

    NoNodeFits = "NoNodeFits"
    """No node can take an engine pod of the candidate."""

    FitsOnlyInPlace = "FitsOnlyInPlace"
    """An engine pod of the candidate fits only once the active model's pods are gone: OneAtATime can do that."""

    LicenseNotAllowed = "LicenseNotAllowed"
    """The candidate's licence is not among those that the policy allows."""

    SuccessBelowActive = "SuccessBelowActive"
    """The candidate's success rate on record is too far below the active model's."""

    Serving = "Serving"
    """A model that has answered serves, and the routers send requests to it."""

    Managed = "Managed"
    """The pool has no routers of its own: its models are kept ready, and nobody is let in."""

    Suspended = "Suspended"
    """The pool is suspended: everything stays as it is until `suspend` is false again."""

    ScaledToZero = "ScaledToZero"
    """The pool asks for no engine pods, so nothing can serve until `replicas` is raised."""

    SwapRequested = "SwapRequested"
    """Another model is asked for than serves. What serves goes on serving until it is swapped."""

    NewRevision = "NewRevision"
    """The active model would run otherwise if it were started now: its source, image or settings moved on. What serves
    goes on serving as it was started."""

    PolicyValid = "PolicyValid"
    """The SwapPolicy can be followed."""

    PolicyInvalid = "PolicyInvalid"
    """The SwapPolicy cannot be followed; the message names the field and what would be right."""

    PoolNotFound = "PoolNotFound"
    """A ModelSwap names a ModelPool that is not in the namespace. It waits until the pool is there."""

    TaskNotFound = "TaskNotFound"
    """A ModelSwap names a task that its pool does not have; the message names those that it has."""

    PolicyNotFound = "PolicyNotFound"
    """The pool names a SwapPolicy that is not in the namespace. What serves goes on serving; no swap begins."""

    CoolingDown = "CoolingDown"
    """The same change of models was rolled back a while ago, or another swap of the task has just ended: it waits."""

    OtherSwapRuns = "OtherSwapRuns"
    """Another swap of the pool takes up room for engines: one at a time."""

    SharedEngine = "SharedEngine"
    """Both sides of a swap are in one engine, so what one of them computes slows the other down."""

    RoomForBoth = "RoomForBoth"
    """Both models can be there at once, so they are compared while they serve side by side."""

    RoomForOne = "RoomForOne"
    """Only one of the models can be there at a time: requests are held while they change places."""

    NoRoom = "NoRoom"
    """The candidate's engine has no room beside the active model's, and the policy does not let it take its place."""

    WarmingUp = "WarmingUp"
    """The candidate's first completions are asked for, before anything is measured."""

    ChecksRunning = "ChecksRunning"
    """The task's checks are being asked of the models."""

    ChecksTooSlow = "ChecksTooSlow"
    """The candidate did not answer the task's checks within the time that the policy grants."""

    ChecksFailed = "ChecksFailed"
    """The candidate is clearly worse than the active model at the task's checks."""

    ChecksInvalid = "ChecksInvalid"
    """The task's checks cannot be read; the message names the line, or the check and the field."""

    WeightSet = "WeightSet"
    """The new side gets another share of new requests."""

    StepHeld = "StepHeld"
    """A step of the rollout is held as long as the policy says."""

    StepExtended = "StepExtended"
    """A step is held once more: it had too few requests, or a gate lacks evidence."""

    Inconclusive = "Inconclusive"
    """A step was extended as often as it may be, and still nothing is proven."""

    WaitingForPods = "WaitingForPods"
    """The new side has fewer engine pods ready than its next share of requests needs."""

    Paused = "Paused"
    """The swap was told to pause: weights stay as they are, and what is worse is still rolled back."""

    FirstRequestsFailed = "FirstRequestsFailed"
    """The first requests that the new side got all failed."""

    BaselineWatched = "BaselineWatched"
    """The new side serves nearly everything, and the old one keeps a small share to be compared with."""

    WatchedAlone = "WatchedAlone"
    """The new side serves in the old one's place, without anything to compare it with."""

    RequestsHeld = "RequestsHeld"
    """Requests wait while one model takes the other's place."""

    RollingBack = "RollingBack"
    """The old side gets all requests back."""

    OldSideDown = "OldSideDown"
    """The old side cannot take its requests back, so the new one keeps them until it can."""

    Promoted = "Promoted"
    """The new model serves for good."""

    Aborted = "Aborted"
    """The swap was told to end, and the old model serves as before."""

    Withdrawn = "Withdrawn"
    """What the swap was for is gone: its task, its model, or the request itself."""

    Superseded = "Superseded"
    """Another request for the same task took this one's place."""

    RejectedBefore = "RejectedBefore"
    """The model that is asked for was tried for this task and failed; the same request again changes nothing."""

    ModelDeleted = "ModelDeleted"
    """The LocalModel of what serves is gone. It serves on as it was started."""

    DeprecatedInUse = "DeprecatedInUse"
    """A model serves that should no longer be used."""

    WeightsMoved = "WeightsMoved"
    """The shared engine had to fetch a model again and got other weights than were resolved, because its tag moved."""

    FallbackNotReady = "FallbackNotReady"
    """A model of the task's fallback list cannot serve now, so it would not stand in."""

    PreloadNotReady = "PreloadNotReady"
    """A model that should be loaded beforehand is not."""

    PodsMissing = "PodsMissing"
    """Fewer engine pods than asked for are ready; those that are serve."""

    FrozenFormLost = "FrozenFormLost"
    """What a serving revision runs is no longer on record; it is left as it stands, and cannot be made anew."""

    ModelNotFound = "ModelNotFound"
    """The task asks for a LocalModel that is not in the namespace."""

    NothingToChoose = "NothingToChoose"
    """The task leaves the model to Arbiter, and no LocalModel may be chosen."""

    ChosenByName = "ChosenByName"
    """The task leaves the model to Arbiter, and nothing is known of its models yet, so the first by name was taken."""

    ModelNotReady = "ModelNotReady"
    """The LocalModel cannot be run; its own conditions say why."""

    ModelNotRunnable = "ModelNotRunnable"
    """The pool and the LocalModel contradict each other, so no engine can be made for the two."""

    EngineApplied = "EngineApplied"
    """The engine has just been asked for."""

    EngineStarting = "EngineStarting"
    """The engine's pods start."""

    WaitingForGPU = "WaitingForGPU"
    """Nodes would take the engine's pod, but none has enough GPUs free, or large enough ones."""

    WaitingForNode = "WaitingForNode"
    """No node may take the engine's pod: labels, taints or readiness stand against it."""

    WaitingForMemory = "WaitingForMemory"
    """Nodes would take the engine's pod, but none has enough memory free."""

    PodsRefused = "PodsRefused"
    """The cluster does not let the engine's pods be made, for a quota or a rule of the namespace."""

    ImageNotPulled = "ImageNotPulled"
    """A node cannot get an image of the engine's pod."""

    EngineMisconfigured = "EngineMisconfigured"
    """The engine's container cannot be made: something that its pod names is missing or wrong."""

    EngineCrashed = "EngineCrashed"
    """The engine ends right after its start, again and again."""

    FetchFailed = "FetchFailed"
    """The weights could not be brought to the node, or into the shared engine."""

    Downloading = "Downloading"
    """The weights are on their way to the node, or into the shared engine."""

    StartedTooSlowly = "StartedTooSlowly"
    """The engine is not ready after its startup deadline."""

    PodEvicted = "PodEvicted"
    """The engine's pod was thrown off its node; another one starts."""

    LoadingModel = "LoadingModel"
    """The shared engine fetches or loads the model."""

    LoadFailed = "LoadFailed"
    """The shared engine could not fetch, make or load the model."""

    WaitingForRoom = "WaitingForRoom"
    """The shared engine holds as many models as it may, and none of them may go; or it holds the same weights with
    other options, which it can do once only."""

    WaitingForAnswer = "WaitingForAnswer"
    """The engine is up and is being asked for one token."""

    NoAnswer = "NoAnswer"
    """The engine is up and did not give one token when it was asked."""

    RoutersStarting = "RoutersStarting"
    """No router of the pool is ready yet."""

    RoutersBehind = "RoutersBehind"
    """A router does not obey the newest routes yet."""

    RoutesRefused = "RoutesRefused"
    """A router refused the newest routes."""

    NameTaken = "NameTaken"
    """An object of somebody else has a name that the pool or model needs. It is left alone."""

    RoutesOvertaken = "RoutesOvertaken"
    """Routers obey routes of a later leader than this one, or of before a restored backup; nothing is written until
    this leader has made sure that it leads."""

    SourceResolved = "SourceResolved"
    """The source was found, and is known by a digest."""

    ExternalServer = "ExternalServer"
    """The model runs at a server elsewhere, so there is nothing to resolve; each pool asks it before it serves."""

    Resolving = "Resolving"
    """The source is being asked what it holds."""

    ResolveFailed = "ResolveFailed"
    """The source could not be asked; it is tried again."""

    SourceInvalid = "SourceInvalid"
    """The spec cannot mean anything; the message names the field and what would be right."""

    SourceNotFound = "SourceNotFound"
    """The source knows no such model, tag, revision or file."""

    AccessDenied = "AccessDenied"
    """The source does not let us: the pull secret is missing, wrong or not enough."""

    SourceUnusable = "SourceUnusable"
    """The source answered, and what it holds cannot be served as it is."""

    Runnable = "Runnable"
    """The model can be run: its source was found, and what runs it is known."""


class ConditionType(StrEnum):
    """What a condition is about. Ready and Resolved always stand; the others stand only while they are True."""

    Ready = "Ready"
    """A pool: something serves every task. A model: it can be run. A policy: it can be followed."""

    Resolved = "Resolved"
    """The model's source was found."""

    Degraded = "Degraded"
    """It serves, but not as it was asked to."""

    Stalled = "Stalled"
    """Nothing will change until a person acts; kstatus calls the object failed."""

    Reconciling = "Reconciling"
    """The newest spec is still being put in place; kstatus and `--wait` keep waiting, so no swap ever shows as this."""

    SwapProgressing = "SwapProgressing"
    """A swap is in flight. It may ramp for hours, and whoever waits for the object need not wait for it."""

    UnsafeIsolation = "UnsafeIsolation"
    """Both sides of a swap share one engine process, so one may slow the other down."""

    @property
    def stands_only_while_true(self) -> bool:
        """Whether the condition is removed when its aspect is normal, as kstatus wants it of these."""
        return self not in {ConditionType.Ready, ConditionType.Resolved}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something was decided.

    Attributes:
        code: what happened, for machines.
        message: the same as one sentence, for people; it names the object and the figures.
    """

    code: ReasonCode
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
