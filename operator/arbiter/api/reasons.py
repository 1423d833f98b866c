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

    MetricsUnavailable = "MetricsUnavailable"
    """A metric that had a source fell silent: weights are held, nothing is guessed."""


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
