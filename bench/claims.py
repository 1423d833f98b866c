"""What the calibration claims, and how surely a run must show it.

A full run holds the figures of the reference within the stated width. A quick run has too few ramps for that; its
limits are so wide that chance practically never breaks them, yet evidence that is wrong does.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from statistics import median
from typing import TYPE_CHECKING

from scipy.stats import binom

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.ramps import Outcome
    from bench.scenarios import Scenario


@dataclass(frozen=True)
class Result:
    """All ramps of one scenario."""

    scenario: Scenario
    outcomes: Sequence[Outcome]

    @property
    def rolled_back(self) -> int:
        """How many were rolled back."""
        return sum(bool(each.culprit) for each in self.outcomes)

    @property
    def passed(self) -> int:
        """How many would have passed the gates."""
        return sum(each.gate_requests is not None for each in self.outcomes)

    def found_after(self) -> float:
        """Median of the new side's requests until the rollback; infinite if most were not found."""
        return median(each.requests if each.culprit else inf for each in self.outcomes)

    def found_minutes(self) -> float:
        """Median of the minutes until the rollback."""
        return median(each.minutes if each.culprit else inf for each in self.outcomes)

    def gate_after(self) -> float:
        """Median of the new side's requests until the gates open."""
        return median(inf if each.gate_requests is None else each.gate_requests for each in self.outcomes)

    def gate_minutes(self) -> float:
        """Median of the minutes until the gates open."""
        return median(inf if each.gate_minutes is None else each.gate_minutes for each in self.outcomes)


@dataclass(frozen=True)
class Claim:
    """One claim and whether this run shows it."""

    text: str
    holds: bool

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'FAILS'}: {self.text}"


IDENTICAL = ("identical", "drift", "load")
"""Groups in which the two sides are the same model."""

SIZES = {
    "ratio 0.93": (2700, 2800),
    "ratio 0.9": (458, 560),
    "ratio 0.8": (65, 150),
    "ratio 0.5": (12, 30),
    "p95 ×1.5": (300, 360),
    "quality 0.93, 9 old for each new": (3500, 3500),
    "quality 0.9, 9 old for each new": (560, 560),
    "quality 0.85, 9 old for each new": (180, 180),
    "quality 0.8, 9 old for each new": (110, 110),
    "quality 0.9, paired, ρ 0.7": (380, 380),
    "quality 0.85, paired, ρ 0.7": (160, 160),
}
"""New-side requests until the rollback, lowest and highest of the reference's medians."""


def identical_counts(results: Mapping[str, Result]) -> tuple[int, int]:
    """How many identical models were rolled back, of how many."""
    same = [result for result in results.values() if result.scenario.group in IDENTICAL]
    return sum(result.rolled_back for result in same), sum(len(result.outcomes) for result in same)


def claims(results: Mapping[str, Result], *, quick: bool) -> list[Claim]:
    """All claims that these results can show."""
    found = [_identical(results, quick=quick)]
    found += [_size(results[name], span, quick=quick) for name, span in SIZES.items() if name in results]
    for result in results.values():
        match result.scenario.group:
            case "margin" | "latency-margin":
                found += [rare(result, rollback=0.01), rare(result, gate=0.05)]
            case "bursts" | "bursts-equal" | "errors-margin" | "load" | "drift":
                found.append(rare(result, rollback=0.01))
            case "bursts-margin" | "quality-margin":
                found.append(rare(result, gate=0.05))
            case "load-pooled" | "load-routing":
                found.append(_often(result))
            case _:
                pass
    return [*found, *_later(results, quick=quick)]


def _identical(results: Mapping[str, Result], *, quick: bool) -> Claim:
    wrong, ramps = identical_counts(results)
    text = f"identical models rolled back {wrong} of {ramps}, to be below 1 %"
    return Claim(text, wrong < 0.01 * ramps or (quick and wrong <= 1))


def _size(result: Result, span: tuple[int, int], *, quick: bool) -> Claim:
    width = 0.5 if quick else 0.2
    low, high = span[0] * (1 - width), span[1] * (1 + width)
    text = f"{result.scenario.name} found after {result.found_after():.0f}, to be within {low:.0f} to {high:.0f}"
    return Claim(text, low <= result.found_after() <= high)


def rare(result: Result, *, rollback: float | None = None, gate: float | None = None) -> Claim:
    """As rare as stated, as far as so many ramps can tell: a truth at the limit fails once in ten thousand."""
    limit, count = (rollback, result.rolled_back) if rollback else (gate, result.passed)
    ramps = len(result.outcomes)
    most = int(binom.ppf(1 - 1e-4, ramps, limit))
    what = "rolled back" if rollback else "passed the gates"
    return Claim(f"{result.scenario.name}: {what} {count} of {ramps}, {limit:.0%} means at most {most}", count <= most)


def _often(result: Result) -> Claim:
    ramps = len(result.outcomes)
    text = f"{result.scenario.name}: an identical model rolled back {result.rolled_back} of {ramps}, to be over half"
    return Claim(text, result.rolled_back > ramps / 2)


def _later(results: Mapping[str, Result], *, quick: bool) -> list[Claim]:
    """A fault from half time on is found sooner by a fresh test per step than by one product over the swap."""
    found = []
    for what, half in (("1.6× slower", 90), ("success × 0.9", 270)):
        name = f"{what} from half time, "
        if name + "test per step" not in results:
            continue
        fresh = results[name + "test per step"].found_minutes() - half
        product = results[name + "one product over the swap"].found_minutes() - half
        wanted = 1.2 if quick else 2.0
        text = f"{what} from half time: a test per step {fresh:.0f} min, one product {product:.0f} min, {wanted:g}×"
        found.append(Claim(text, fresh > 0 and product >= wanted * fresh))
    return found
