"""Decides from both sides' grades whether the new model is clearly worse, and keeps them through restarts.

The rule: a prompt counts once in a swap, as one pair of scores, in the file's order and up to the first prompt that one
of the sides has not answered. Asked again, a model at temperature 0 says nearly the same, and its luck would count
twice; and in order of arrival, quick wrong answers would come first. So neither speed nor a restart changes a decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import exp, log
from typing import TYPE_CHECKING, Final

from arbiter.api.modelswap import CheckStatus
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.check_expectations import PASSED
from arbiter.core.score_evidence import ScoreEvidence
from arbiter.core.stored import Stored, to_json
from arbiter.core.swap_seen import Checked
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.core.analysis_settings import AnalysisSettings
    from arbiter.core.prompt_checks import Checks, Grade

PAIRS_VERSION: Final = 1
"""Version of the stored form."""

PREPARING_ALPHA: Final = 0.05
"""How often a new model that is good enough may be called clearly worse before it gets any traffic."""

FIRST: Final = 8
FIRST_PASSED: Final = 6
"""A new model that fails all of the first 8 checks, where the active one passes at least 6, needs no further proof."""

_NAMED: Final = 3
"""How many prompts a sentence names."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Both sides' scores at one check.

    Attributes:
        name: of the check.
        old: the active side's score.
        new: the new side's.
        weight: what the check counts.
    """

    name: str
    old: float
    new: float
    weight: float

    @property
    def weighed(self) -> tuple[float, float]:
        """The scores as evidence takes them, new side first.

        Both times the weight, which is known beforehand: what is bet on, new - ratio·old, becomes smaller by it, and
        its mean does not change its sign, so the error rates hold.
        """
        return self.weight * self.new, self.weight * self.old


@dataclass(frozen=True, slots=True)
class Pairs:
    """The scores so far.

    Attributes:
        checks: the hash of the checks that they are about.
        old: the active side's, by name of the check.
        new: the new side's.
    """

    checks: str
    old: Mapping[str, float] = field(default_factory=dict)
    new: Mapping[str, float] = field(default_factory=dict)

    def with_old(self, grade: Grade) -> Pairs:
        """The same with a grade of the active side; unchanged if that prompt has one."""
        return self if grade.name in self.old else replace(self, old={**self.old, grade.name: grade.score})

    def with_new(self, grade: Grade) -> Pairs:
        """The same with a grade of the new side; unchanged if that prompt has one."""
        return self if grade.name in self.new else replace(self, new={**self.new, grade.name: grade.score})

    def missing_old(self, checks: Checks) -> tuple[str, ...]:
        """What is still to be asked of the active side, in order."""
        return tuple(name for name in checks.names if name not in self.old)

    def missing_new(self, checks: Checks) -> tuple[str, ...]:
        """What is still to be asked of the new side, in order."""
        return tuple(name for name in checks.names if name not in self.new)

    def settled(self, checks: Checks) -> tuple[Pair, ...]:
        """The pairs that count: in order, up to the first prompt that a side has not answered.

        Raises:
            ValueError: the scores are about other checks.
        """
        if self.checks != checks.hash:
            raise ValueError("these scores are about other checks")
        pairs: list[Pair] = []
        for check in checks.items:
            if check.name not in self.old or check.name not in self.new:
                break
            pairs.append(Pair(check.name, self.old[check.name], self.new[check.name], check.weight))
        return tuple(pairs)

    def statuses(self, checks: Checks) -> tuple[CheckStatus, ...]:
        """What a ModelSwap shows: every prompt that both sides have answered."""
        both = (name for name in checks.names if name in self.old and name in self.new)
        return tuple(CheckStatus(name=name, old=self.old[name], new=self.new[name]) for name in both)

    def to_text(self) -> str:
        """The stored form: one line of JSON, with both scores by name and null for one that is not there yet."""
        names = sorted({*self.old, *self.new})
        scores = {name: [self.old.get(name), self.new.get(name)] for name in names}
        return to_json({"version": PAIRS_VERSION, "checks": self.checks, "scores": scores})

    @staticmethod
    def from_text(text: str) -> Pairs:
        """Read back what `to_text` wrote.

        Raises:
            CorruptStateError: for anything else; it names the field.
        """
        stored = Stored.parse(text, "checks", PAIRS_VERSION)
        checks, scores = stored.text("checks"), stored.child("scores")
        sides: tuple[dict[str, float], dict[str, float]] = ({}, {})
        for name in scores.names():
            for side, score in zip(sides, scores.items(name, 2), strict=True):
                if score is not None:
                    (side[name],) = Stored({name: [score]}, scores.path).numbers(name, 1)
                    if not 0.0 <= side[name] <= 1.0:
                        raise CorruptStateError(f"{scores.path}.{name} must be scores from 0 to 1")
        scores.done()
        stored.done()
        read = Pairs(checks, *sides)
        if read.to_text() != text:
            raise CorruptStateError("checks are not written as Arbiter writes them")
        return read


def judge_pairs(pairs: Pairs, checks: Checks, settings: AnalysisSettings, old: str, new: str) -> Checked:
    """Say how far the checks are and whether the new model is clearly worse.

    Args:
        pairs: the scores so far.
        checks: what is asked.
        settings: of the swap; the margin of quality is taken from them.
        old: name of the active model, for the sentences.
        new: name of the new one.
    """
    settled = pairs.settled(checks)
    worse = _failed_at_first(settled, old, new) or _proven(settled, settings, old, new)
    done = len(settled) == len(checks.items)
    guard = "" if can_promote(checks, settings) else f"; {guard_told(checks)}"
    if not settled:
        told = f"None of {_counted(len(checks.items))} is answered by both {old} and {new} yet{guard}."
    else:
        told = (
            f"{len(settled)} of {_counted(len(checks.items))} answered by both: {old} scores {_mean_old(settled):.2g}, "
            f"{new} {_mean_new(settled):.2g}{guard}."
        )
    return Checked(done=done, told=told, worse=worse)


def can_promote(checks: Checks, settings: AnalysisSettings) -> bool:
    """Whether two perfect models would reach the bound of promotion with these checks; if not, quality only guards."""
    evidence = ScoreEvidence()
    for check in checks.items:
        evidence = evidence.observe(check.weight, check.weight, settings)
    return evidence.gate.wealth.log_e >= settings.gate_bound


def guard_told(checks: Checks) -> str:
    """Say that quality can reject and roll back, and is not asked for at the gates."""
    count = len(checks.items)
    return f"quality: guard only, {count} prompt{'' if count == 1 else 's'}"


def _failed_at_first(settled: tuple[Pair, ...], old: str, new: str) -> Reason | None:
    first = settled[:FIRST]
    passed = sum(pair.old >= PASSED for pair in first)
    if len(first) < FIRST or passed < FIRST_PASSED or any(pair.new >= PASSED for pair in first):
        return None
    told = f"{new} failed {FIRST} of the first {FIRST} checks where {old} passed {passed}: {_names(first)}"
    return Reason(ReasonCode.ChecksFailed, told)


def _proven(settled: tuple[Pair, ...], settings: AnalysisSettings, old: str, new: str) -> Reason | None:
    """The bet over the swap that the new side is beyond the margin, at its highest so far."""
    evidence = ScoreEvidence()
    for pair in settled:
        evidence = evidence.observe(*pair.weighed, settings)
    reached, bound = evidence.swap.wealth.highest, log(1.0 / PREPARING_ALPHA)
    if reached < bound:
        return None
    told = (
        f"{new} scores {_mean_new(settled):.2g} at {_counted(len(settled))} where {old} scores "
        f"{_mean_old(settled):.2g}, evidence {exp(min(reached, 700.0)):.3g}/{exp(bound):.3g}: {_names(settled)}"
    )
    return Reason(ReasonCode.ChecksFailed, told)


def _names(pairs: tuple[Pair, ...]) -> str:
    """Prompts that the new side did worse at, the worst first and else in order."""
    losses = sorted((pair for pair in pairs if pair.new < pair.old), key=lambda pair: pair.new - pair.old)
    names = ", ".join(pair.name for pair in losses[:_NAMED])
    return f"{names} …" if len(losses) > _NAMED else f"{names}."


def _mean_old(pairs: tuple[Pair, ...]) -> float:
    return sum(pair.weight * pair.old for pair in pairs) / sum(pair.weight for pair in pairs)


def _mean_new(pairs: tuple[Pair, ...]) -> float:
    return sum(pair.weight * pair.new for pair in pairs) / sum(pair.weight for pair in pairs)


def _counted(count: int) -> str:
    return f"{count} check{'' if count == 1 else 's'}"
