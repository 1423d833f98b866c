"""Draws new ramps from recorded ones: other stretches, in another order, at other weights, either side called new.

Requests of one second stay together, and so do seconds that follow one another (a circular moving-block bootstrap),
so that bursts, load and a machine's moods stay as they were. Rule: both sides are one model, so which of them is called
new is for chance to decide, once for each ramp; what was recorded at another weight is thinned, request by request, on
the side that has too many, and never added to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from arbiter.core.feed import Feed
from arbiter.core.histogram import PER_DOUBLING, Histogram
from arbiter.core.traffic import Cause, Side, Slice, Tally
from bench.replay import TASK, Look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.random import Generator

    from arbiter.core.traffic import Timings
    from bench.recordings import Recording

    Fault = Callable[[Generator, Tally], Tally]

SECOND_MS = 1000
"""Length of a slice, as the soak's policy has it."""

LEAST_S = 30
"""Seconds that a stretch has at least: shorter ones would only be repeated."""

CHUNK_S = (5, 40)
"""Shortest and longest run of seconds that stay together; drawn for each ramp."""


@dataclass(frozen=True)
class Second:
    """One second of a recorded ramp, all its routers together.

    Attributes:
        weight: percent of requests for the new side.
        old: what became of those of the old side.
        new: the same of the new side.
    """

    weight: int
    old: Tally
    new: Tally


Stretch = tuple[Second, ...]
"""Seconds of one recorded ramp at one weight, in their order."""


def stretches(recordings: Sequence[Recording]) -> tuple[Stretch, ...]:
    """Give what ramps can be drawn from: each step that lasted long enough."""
    found = []
    for recording in recordings:
        by_weight: dict[int, list[Second]] = {}
        for second in _seconds(recording):
            by_weight.setdefault(second.weight, []).append(second)
        found += [tuple(seconds) for seconds in by_weight.values() if len(seconds) >= LEAST_S]
    return tuple(found)


def _seconds(recording: Recording) -> Iterator[Second]:
    """Give the slice times that every router obeyed one table in, and whose requests have all ended."""
    by_time: dict[int, list[Slice]] = {}
    for each in (each for router in recording.routers for each in router):
        by_time.setdefault(each.start_ms, []).append(each)
    for _, slices in sorted(by_time.items()):
        whole = len({each.generation for each in slices}) == 1 and all(each.finished for each in slices)
        if whole and len(slices) == len(recording.routers):
            old, new = (Tally.merged(each.side(side) for each in slices) for side in (Side.OLD, Side.NEW))
            yield Second(recording.weights[slices[0].generation], old, new)


@dataclass(frozen=True)
class Design:
    """How ramps are drawn.

    Attributes:
        weights: percent for the new side, step by step; the watch is the last one.
        step_s: shortest and longest step in seconds.
        sources: how many recorded stretches a ramp is drawn from; with more of them, load changes more.
        both: what is wrong with both sides alike; None for nothing.
        fault: what is wrong with the new side; None for nothing.
    """

    weights: tuple[int, ...]
    step_s: tuple[int, int]
    sources: int = 1
    both: Fault | None = None
    fault: Fault | None = None

    def looks(self, rng: Generator, there: Sequence[Stretch]) -> Iterator[Look]:
        """Draw one ramp, second by second."""
        chosen = [there[i] for i in rng.choice(len(there), min(self.sources, len(there)), replace=False)]
        turned, chunk_s = bool(rng.random() < 0.5), int(rng.integers(CHUNK_S[0], CHUNK_S[1] + 1))
        now_ms = 0
        for step, weight in enumerate(self.weights):
            seconds = int(rng.integers(self.step_s[0], self.step_s[1] + 1))
            for second in islice(moving(rng, chosen, chunk_s), seconds):
                old, new = at_weight(rng, second, weight, turned=turned)
                if self.both is not None:
                    old, new = self.both(rng, old), self.both(rng, new)
                if self.fault is not None:
                    new = self.fault(rng, new)
                counted = Slice(_ROUTER, step + 1, TASK, now_ms, SECOND_MS, {Side.OLD: old, Side.NEW: new})
                now_ms += SECOND_MS
                yield Look(step, step + 1, now_ms, {_ROUTER: Feed(_ROUTER, now_ms, (counted,))})


_ROUTER = "replayed"


def moving(rng: Generator, chosen: Sequence[Stretch], chunk_s: int) -> Iterator[Second]:
    """Give seconds without end: runs of so many, each from anywhere in one of the stretches, which close in circles."""
    while True:
        stretch = chosen[int(rng.integers(len(chosen)))]
        start = int(rng.integers(len(stretch)))
        yield from (stretch[(start + i) % len(stretch)] for i in range(chunk_s))


def at_weight(rng: Generator, second: Second, weight: int, *, turned: bool) -> tuple[Tally, Tally]:
    """Give the old and the new side of a second as if it had had another weight; turned: the sides change names."""
    old, new, recorded = second.old, second.new, second.weight
    if turned:
        old, new, recorded = new, old, 100 - recorded
    wanted, there = weight / (100 - weight), recorded / (100 - recorded)
    if there > wanted:
        return old, thinned(rng, new, wanted / there)
    return thinned(rng, old, there / wanted), new


def thinned(rng: Generator, tally: Tally, share: float) -> Tally:
    """Keep each request with this chance, and each of its durations with the same, apart from one another."""
    if share >= 1.0:
        return tally
    counts = (tally.ok, tally.rejected, tally.left, *tally.failed.values())
    ok, rejected, left, *failures = (int(n) for n in rng.binomial(counts, share))
    failed = {cause: n for cause, n in zip(tally.failed, failures, strict=True) if n}
    return Tally(
        routed=ok + rejected + left + sum(failures),
        ok=ok,
        failed=failed,
        rejected=rejected,
        left=left,
        first_token=_thinned(rng, tally.first_token, share),
        per_token=_thinned(rng, tally.per_token, share),
    )


def _thinned(rng: Generator, timings: Timings, share: float) -> Timings:
    return tuple(
        Histogram(
            {bucket: kept for bucket, n in times.buckets.items() if (kept := int(rng.binomial(n, share)))},
            int(rng.binomial(times.zero, share)) if times.zero else 0,
        )
        for times in timings
    )


def failing(share: float) -> Fault:
    """Plant errors: so large a share of what went well fails, and is not timed."""

    def planted(rng: Generator, tally: Tally) -> Tally:
        broken = int(rng.binomial(tally.ok, share))
        if not broken:
            return tally
        kept = 1.0 - broken / tally.ok
        return replace(
            tally,
            ok=tally.ok - broken,
            failed={**tally.failed, Cause.SERVER_ERROR: tally.failed.get(Cause.SERVER_ERROR, 0) + broken},
            first_token=_thinned(rng, tally.first_token, kept),
            per_token=_thinned(rng, tally.per_token, kept),
        )

    return planted


def slower(*, first_token: int = 0, per_token: int = 0) -> Fault:
    """Plant slowness: durations so many buckets of the histograms longer, of which 64 are a doubling."""

    def planted(_rng: Generator, tally: Tally) -> Tally:
        return replace(
            tally,
            first_token=_later(tally.first_token, first_token),
            per_token=_later(tally.per_token, per_token),
        )

    return planted


def factor_of(buckets: int) -> float:
    """Give how many times as long a duration is that lies so many buckets higher."""
    factor: float = 2.0 ** (buckets / PER_DOUBLING)
    return factor


def _later(timings: Timings, buckets: int) -> Timings:
    return tuple(
        Histogram({bucket + buckets: n for bucket, n in times.buckets.items()}, times.zero) for times in timings
    )
