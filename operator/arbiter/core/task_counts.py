"""Counts what one revision did at one task during one period.

Rule: everything is a whole number, so that adding is exact: scores are millionths, energy is millijoules.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from arbiter.core.coarse_times import Buckets, coarse, from_text, merged, to_text
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arbiter.core.stored import Stored
    from arbiter.core.traffic import Tally

MILLION: Final = 1_000_000
"""Parts that a score is counted in."""


class Complexity(StrEnum):
    """How hard a request is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Outcomes(NamedTuple):
    """How many requests there were, and how many of them succeeded."""

    samples: int = 0
    successes: int = 0

    def merge(self, other: Outcomes) -> Outcomes:
        """Both together."""
        return Outcomes(self.samples + other.samples, self.successes + other.successes)


class Scores(NamedTuple):
    """How many scores there were, and their sum in millionths."""

    n: int = 0
    millionths: int = 0

    @staticmethod
    def of(scores: Iterable[float]) -> Scores:
        """Count scores, each from 0 to 1."""
        n = total = 0
        for score in scores:
            if not 0.0 <= score <= 1.0:
                raise ValueError(f"a score is in [0, 1], not {score}")
            n, total = n + 1, total + round(score * MILLION)
        return Scores(n, total)

    def merge(self, other: Scores) -> Scores:
        """Both together."""
        return Scores(self.n + other.n, self.millionths + other.millionths)


class Energy(NamedTuple):
    """Energy in millijoules, and the tokens that were generated with it. Without tokens it is unknown, not zero."""

    millijoules: int = 0
    tokens: int = 0

    def merge(self, other: Energy) -> Energy:
        """Both together."""
        return Energy(self.millijoules + other.millijoules, self.tokens + other.tokens)


NO_OUTCOMES: Final = Outcomes()
NO_SCORES: Final = Scores()
NO_ENERGY: Final = Energy()


@dataclass(frozen=True, slots=True)
class ByComplexity:
    """Requests of one period by complexity."""

    low: Outcomes = NO_OUTCOMES
    medium: Outcomes = NO_OUTCOMES
    high: Outcomes = NO_OUTCOMES

    @staticmethod
    def of(outcomes: Mapping[Complexity, Outcomes]) -> ByComplexity:
        """Sort them into the three."""
        return ByComplexity(*(outcomes.get(complexity, NO_OUTCOMES) for complexity in Complexity))

    def parts(self) -> tuple[Outcomes, Outcomes, Outcomes]:
        """In the order of `Complexity`."""
        return self.low, self.medium, self.high

    def merge(self, other: ByComplexity) -> ByComplexity:
        """Both together."""
        return ByComplexity(*(a.merge(b) for a, b in zip(self.parts(), other.parts(), strict=True)))

    def to_fields(self) -> list[int]:
        """The stored form."""
        return [n for outcomes in self.parts() for n in outcomes]

    @staticmethod
    def read(stored: Stored) -> ByComplexity:
        """Read back what `to_fields` wrote."""
        counts = stored.integers("counts", 6)
        parts = tuple(Outcomes(*counts[i : i + 2]) for i in (0, 2, 4))
        if any(each.successes > each.samples for each in parts):
            raise CorruptStateError(f"{stored.path}.counts: more succeeded than there were")
        return ByComplexity(*parts)


@dataclass(frozen=True, slots=True)
class Counts:
    """What one revision did in one period.

    Attributes:
        samples: requests that were answered in full or failed.
        successes: those answered in full.
        input_tokens: tokens read.
        output_tokens: tokens written.
        checks: scores of the task's checks.
        feedback: scores that clients gave.
        energy: where it was measured.
        first_token: seconds to the first token; of all strata, as the next two.
        per_token: mean seconds for each further token of an answer.
        total: seconds of whole requests.
    """

    samples: int = 0
    successes: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    checks: Scores = NO_SCORES
    feedback: Scores = NO_SCORES
    energy: Energy = NO_ENERGY
    first_token: Buckets = field(default_factory=dict)
    per_token: Buckets = field(default_factory=dict)
    total: Buckets = field(default_factory=dict)

    @staticmethod
    def of(tally: Tally, feedback: Scores, millijoules: int | None) -> Counts:
        """What one slice of one router adds."""
        return Counts(
            samples=tally.judged,
            successes=tally.ok,
            input_tokens=tally.input_tokens,
            output_tokens=tally.output_tokens,
            feedback=feedback,
            energy=NO_ENERGY if millijoules is None else Energy(millijoules, tally.output_tokens),
            first_token=coarse(tally.first_token),
            per_token=coarse(tally.per_token),
            total=coarse(tally.total),
        )

    @property
    def failures(self) -> int:
        """Requests that failed."""
        return self.samples - self.successes

    def merge(self, other: Counts) -> Counts:
        """Both together: associative, commutative and exact."""
        return Counts(
            self.samples + other.samples,
            self.successes + other.successes,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.checks.merge(other.checks),
            self.feedback.merge(other.feedback),
            self.energy.merge(other.energy),
            merged(self.first_token, other.first_token),
            merged(self.per_token, other.per_token),
            merged(self.total, other.total),
        )

    def to_fields(self) -> dict[str, object]:
        """The stored form; what was never scored or measured stands nowhere."""
        fields: dict[str, object] = {
            "n": [self.samples, self.successes, self.input_tokens, self.output_tokens],
            "times": [to_text(each) for each in (self.first_token, self.per_token, self.total)],
        }
        pairs = {"checks": self.checks, "feedback": self.feedback, "energy": self.energy}
        return fields | {name: list(pair) for name, pair in pairs.items() if any(pair)}

    @staticmethod
    def read(stored: Stored) -> Counts:
        """Read back what `to_fields` wrote."""
        samples, successes, input_tokens, output_tokens = stored.integers("n", 4)
        if successes > samples:
            raise CorruptStateError(f"{stored.path}.n: more succeeded than there were")
        times = (from_text(text, f"{stored.path}.times") for text in stored.texts("times", 3))
        checks, feedback = _read_scores(stored, "checks"), _read_scores(stored, "feedback")
        energy = Energy(*optional(stored, "energy"))
        if energy.tokens > output_tokens:
            raise CorruptStateError(f"{stored.path}.energy: measured for more tokens than there were")
        return Counts(samples, successes, input_tokens, output_tokens, checks, feedback, energy, *times)


def optional(stored: Stored, name: str) -> tuple[int, ...]:
    """Two whole numbers that may be left out, and then are none; written as noughts they were not written by us."""
    if name not in stored.names():
        return ()
    pair = stored.integers(name, 2)
    if not any(pair):
        raise CorruptStateError(f"{stored.path}.{name} stands for nothing, so it should not stand")
    return pair


def _read_scores(stored: Stored, name: str) -> Scores:
    scores = Scores(*optional(stored, name))
    if scores.millionths > scores.n * MILLION:
        raise CorruptStateError(f"{stored.path}.{name}: scores above 1")
    return scores
