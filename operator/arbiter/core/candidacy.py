"""What is asked when a model may be tried for a task, and the form of each answer.

The rule: a candidacy is one frozen value that holds every fact a check may look at, and a verdict names its check,
its weight and its reason, so that a refusal can be told without asking again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from arbiter.api.modelpool import Capacity, Needs, Placement
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.api.swappolicy import Compatibility, Trigger

if TYPE_CHECKING:
    from arbiter.core.facts import ModelFacts, NodeFacts


class Check(StrEnum):
    """What is checked, in the order in which it is told."""

    NotDeprecated = "NotDeprecated"
    EngineRuns = "EngineRuns"
    CapabilitiesNeeded = "CapabilitiesNeeded"
    CapabilitiesKept = "CapabilitiesKept"
    ContextWindowNeeded = "ContextWindowNeeded"
    ContextWindowKept = "ContextWindowKept"
    MemoryAllowed = "MemoryAllowed"
    MemoryShared = "MemoryShared"
    NodeFits = "NodeFits"
    LicenseAllowed = "LicenseAllowed"
    SuccessOnRecord = "SuccessOnRecord"


class Level(StrEnum):
    """How much a verdict weighs."""

    Ok = "Ok"
    Warning = "Warning"
    """It is tried all the same, and the swap says so."""
    Refused = "Refused"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check found.

    Attributes:
        check: which.
        level: how much it weighs.
        reason: why, with the figures.
    """

    check: Check
    level: Level
    reason: Reason


@dataclass(frozen=True, slots=True)
class Candidacy:
    """All that the checks may look at.

    Attributes:
        task: the task's name.
        candidate: the model that may be tried.
        active: the model that serves; None if none does.
        needs: what the task asks of a model.
        compatibility: what the policy asks of a candidate.
        min_samples: requests on record below which a success rate says nothing.
        placement: where engine pods run.
        capacity: what a shared engine may use.
        nodes: the cluster's nodes; None if they cannot be read.
    """

    task: str
    candidate: ModelFacts
    active: ModelFacts | None = None
    needs: Needs = field(default_factory=Needs)
    compatibility: Compatibility = field(default_factory=Compatibility)
    min_samples: int = Trigger().min_samples
    placement: Placement = field(default_factory=Placement)
    capacity: Capacity = field(default_factory=Capacity)
    nodes: tuple[NodeFacts, ...] | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a candidate may be tried.

    Attributes:
        verdicts: what every check that applied found, in order.
        compatible: whether none refused.
        reason: all refusals; else all warnings; else that it fits. Its code is that of the first refusal.
    """

    verdicts: tuple[Verdict, ...]
    compatible: bool
    reason: Reason

    def at(self, level: Level) -> tuple[Verdict, ...]:
        """The verdicts of one weight."""
        return tuple(verdict for verdict in self.verdicts if verdict.level == level)

    def lacks_only(self, check: Check) -> bool:
        """Whether one check has refused, and no other one."""
        return {verdict.check for verdict in self.at(Level.Refused)} == {check}


def ok(check: Check, sentence: str) -> Verdict:
    """Give a verdict that stands for nothing to worry about."""
    return Verdict(check, Level.Ok, Reason(ReasonCode.Compatible, sentence))


def unknown(check: Check, sentence: str) -> Verdict:
    """Warn of a fact that is not known."""
    return warning(check, ReasonCode.FactUnknown, sentence)


def warning(check: Check, code: ReasonCode, sentence: str) -> Verdict:
    """Warn."""
    return Verdict(check, Level.Warning, Reason(code, sentence))


def refused(check: Check, code: ReasonCode, sentence: str) -> Verdict:
    """Refuse."""
    return Verdict(check, Level.Refused, Reason(code, sentence))
