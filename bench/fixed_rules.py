"""The usual rules with fixed thresholds, on the same kind of traffic: how often they roll back an identical model.

Success 0.97 on both sides, nine hours from 10 % to 90 % in hourly steps. They stand here to be compared with, so
each is written in its most favourable plain form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.traffic_model import STEP_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable

SUCCESS = 0.97
RATES = (0.2, 1.0, 5.0)
FIXED_RAMPS = 500


@dataclass(frozen=True)
class Windows:
    """Requests and successes of both sides in windows of five minutes over the ramp."""

    new: np.ndarray
    new_ok: np.ndarray
    old: np.ndarray
    old_ok: np.ndarray


def drawn(rng: np.random.Generator, rate: float) -> Windows:
    """One ramp of an identical model."""
    weight = np.repeat(STEP_WEIGHTS, 12)
    new, old = rng.poisson(rate * 300 * weight), rng.poisson(rate * 300 * (1 - weight))
    return Windows(new, rng.binomial(new, SUCCESS), old, rng.binomial(old, SUCCESS))


def absolute(windows: Windows) -> bool:
    """New success below 0.95 in more than three windows; empty ones pass."""
    share = windows.new_ok / np.maximum(windows.new, 1)
    return bool(((share < 0.95) & (windows.new > 0)).sum() > 3)


def point_estimate(windows: Windows) -> bool:
    """New success below 0.95 of the old in any window in which both sides have 20 requests."""
    new, old = windows.new_ok / np.maximum(windows.new, 1), windows.old_ok / np.maximum(windows.old, 1)
    return bool(((new < 0.95 * old) & (windows.new >= 20) & (windows.old >= 20)).any())


def peeking(windows: Windows) -> bool:
    """A one-sided z-test of equal success at 5 % on all requests so far, looked at after every window."""
    new, old = np.cumsum(windows.new), np.cumsum(windows.old)
    new_ok, old_ok = np.cumsum(windows.new_ok), np.cumsum(windows.old_ok)
    known = (new >= 20) & (old >= 20)
    new, old, new_ok, old_ok = new[known], old[known], new_ok[known], old_ok[known]
    pool = (new_ok + old_ok) / (new + old)
    spread = np.sqrt(np.maximum(pool * (1 - pool) * (1 / new + 1 / old), 1e-12))
    return bool(((old_ok / old - new_ok / new) / spread > 1.645).any())


RULES: dict[str, Callable[[Windows], bool]] = {
    "success below 0.95 four times": absolute,
    "success below 0.95 of the old, once": point_estimate,
    "z-test at 5 %, every five minutes": peeking,
}


def table(ramps: int, seed: int) -> list[str]:
    """How often each rule rolls back an identical model, as a Markdown table."""
    lines = [
        "| fixed rule, identical model, success 0.97 | 0.2 req/s | 1 req/s | 5 req/s |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, rule in RULES.items():
        shares = (f"{false_rollbacks(rule, rate, ramps, seed):.1%}" for rate in RATES)
        lines.append(f"| {name} | {' | '.join(shares)} |")
    return lines


def false_rollbacks(rule: Callable[[Windows], bool], rate: float, ramps: int, seed: int) -> float:
    """Share of identical models rolled back."""
    rng = np.random.default_rng(seed)
    return sum(rule(drawn(rng, rate)) for _ in range(ramps)) / ramps
