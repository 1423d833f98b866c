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
