"""Replays slices of routers through what decides in the operator: feeds, blocks, evidence, judgement.

Nothing is computed here that the operator would not compute. Rule: as in the operator, a look takes in what routers
have told by then, and nothing is decided on what came later.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from arbiter.api.modelswap import Verdict
from arbiter.core.analysis_settings import MetricName
from arbiter.core.feed import Feed
from arbiter.core.swap_analysis import Learnt, Scored
from bench.ramps import Outcome, gates_passed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from arbiter.api.swappolicy import SwapPolicySpec
    from arbiter.core.judgement import Judgement
    from arbiter.core.traffic import Slice
    from bench.recordings import Recording

TASK = "chat"

TOLD = 5
"""Slices of each router that a look sees again: what still ran at the first look has ended by then, or is a gap."""


@dataclass(frozen=True)
class Look:
    """What one look of the operator sees.

    Attributes:
        step: the step of the rollout, from 0; the watch is the last one.
        generation: of the table whose weights are judged.
        now_ms: the operator's clock.
        feeds: what each router has told, by its name.
    """

    step: int
    generation: int
    now_ms: int
    feeds: Mapping[str, Feed]


def replayed(looks: Iterable[Look], policy: SwapPolicySpec, steps: int) -> Outcome:
    """Give what becomes of a ramp: look by look until it is rolled back, or to its end.

    Args:
        looks: of the operator.
        policy: that rules the swap.
        steps: how often the weights change, the watch included.
    """
    following = iter(looks)
    first = next(following, None)
    if first is None:
        return Outcome("", 0, 0.0, None, None)
    began_ms = min(each.start_ms for feed in first.feeds.values() for each in feed.slices)
    learnt = Learnt.begin(policy, TASK, Scored.NOT, steps, began_ms)
    gate: tuple[int, float] | None = None
    requests, minutes = 0, 0.0
    for look in chain((first,), following):
        while learnt.evidence.step < look.step:
            learnt = learnt.next_step()
        before, learnt = learnt.evidence.consumed_to_ms, learnt.observe(look.feeds, look.generation, look.now_ms)
        if learnt.evidence.consumed_to_ms == before:
            continue
        judgement = learnt.judge()
        requests, minutes = _new_requests(judgement), (learnt.evidence.consumed_to_ms - began_ms) / 60_000
        if judgement.must_roll_back:
            culprit = next(each.name for each in judgement.metrics if each.verdict is Verdict.Worse)
            return Outcome(culprit, requests, minutes, *(gate or (None, None)))
        if gate is None and gates_passed(judgement):
            gate = requests, minutes
    return Outcome("", requests, minutes, *(gate or (None, None)))


def _new_requests(judgement: Judgement) -> int:
    return next((each.n_new for each in judgement.metrics if each.name is MetricName.SUCCESS), 0)


def as_recorded(recording: Recording) -> Iterator[Look]:
    """Give the looks at a recorded ramp, one after each slice time."""
    weights = sorted(set(recording.weights.values()))
    steps = {generation: weights.index(weight) for generation, weight in recording.weights.items()}
    told: list[dict[int, list[Slice]]] = []
    for slices in recording.routers:
        by_start: dict[int, list[Slice]] = {}
        for each in slices:
            by_start.setdefault(each.start_ms, []).append(each)
        told.append(by_start)
    for start_ms in sorted({start for by_start in told for start in by_start}):
        end_ms = start_ms + recording.length_ms
        # A router that has nothing to tell of this slice time does not run.
        running = [(number, by_start) for number, by_start in enumerate(told) if start_ms in by_start]
        generation = max(each.generation for _, by_start in running for each in by_start[start_ms])
        seen = range(start_ms - (TOLD - 1) * recording.length_ms, end_ms, recording.length_ms)
        feeds = {
            f"router-{number}": Feed(
                f"router-{number}", end_ms, tuple(each for at in seen for each in by_start.get(at, ()))
            )
            for number, by_start in running
        }
        yield Look(steps[generation], generation, end_ms, feeds)
