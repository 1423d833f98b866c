"""Draws the traffic that the calibration judges: closed blocks of two sides, from a model of users and engines.

Two models. `Steady`: independent requests with given success rates and lognormal latencies, optionally in bursts;
cheap, for thousands of ramps. `queued_blocks`: every request in a processor-sharing server, so that latency follows
load as it does in an engine with continuous batching; for the claims about load.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from heapq import heappop, heappush
from math import log
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import ndtr

from arbiter.core.blocks import Block, BlockRules
from arbiter.core.histogram import PER_DOUBLING, Histogram
from arbiter.core.occupancy import Occupancy
from arbiter.core.score_evidence import disjoint_pairs
from arbiter.core.tally_recorder import TallyRecorder
from arbiter.core.traffic import Cause, Side, Stratum, Tally, no_timings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.random import Generator

    from arbiter.core.traffic import Timings

RULES = BlockRules()
SLICE_S = 15
STEP_WEIGHTS = tuple(step / 10 for step in range(1, 10))


@dataclass(frozen=True)
class Arm:
    """What one side is like.

    Attributes:
        success: share of requests answered.
        slowness: factor on all its latencies; None for a side without timings.
        strata: shares of its requests in the strata of load.
    """

    success: float
    slowness: float | None = None
    strata: tuple[float, ...] = (0.35, 0.3, 0.2, 0.1, 0.05)


@dataclass(frozen=True)
class Steady:
    """Independent requests; the sides may change over time.

    Attributes:
        old: the old side by share of the ramp passed.
        new: the new side by share of the ramp passed.
        rate: requests per second of both together.
        hours: length of the ramp, in nine steps from 10 % to 90 %.
        clustering: correlation of two requests of one side in one minute; 0 for none.
    """

    old: Callable[[float], Arm]
    new: Callable[[float], Arm]
    rate: float = 1.0
    hours: float = 9.0
    clustering: float = 0.0

    def blocks(self, rng: Generator) -> Iterator[tuple[int, Block]]:
        """Closed blocks with the step that each belongs to."""
        step_s = round(self.hours * 3600 / len(STEP_WEIGHTS))
        for step, weight in enumerate(STEP_WEIGHTS):
            for start_s, end_s, old_n, new_n in _closed_spans(rng, self.rate, weight, step * step_s, step_s):
                passed = start_s / (step_s * len(STEP_WEIGHTS))
                old = _tally(rng, self.old(passed), old_n, self.clustering)
                new = _tally(rng, self.new(passed), new_n, self.clustering)
                yield step, Block(start_s * 1000, end_s * 1000, step, old, new)


def always(arm: Arm) -> Callable[[float], Arm]:
    """A side that does not change."""
    return lambda _: arm


def _closed_spans(
    rng: Generator, rate: float, weight: float, from_s: int, length_s: int
) -> Iterator[tuple[int, int, int, int]]:
    """Start, end and requests of each side, closed by the rule of `BlockRules` on slices of 15 s."""
    slices = length_s // SLICE_S
    old_counts = rng.poisson(rate * (1.0 - weight) * SLICE_S, slices).tolist()
    new_counts = rng.poisson(rate * weight * SLICE_S, slices).tolist()
    start, old_n, new_n = 0, 0, 0
    for i in range(slices):
        old_n, new_n = old_n + old_counts[i], new_n + new_counts[i]
        long_enough = (i + 1 - start) * SLICE_S * 1000 >= RULES.min_length_ms
        if long_enough and min(old_n, new_n) >= RULES.min_requests:
            yield from_s + start * SLICE_S, from_s + (i + 1) * SLICE_S, old_n, new_n
            start, old_n, new_n = i + 1, 0, 0


def _tally(rng: Generator, arm: Arm, n: int, clustering: float) -> Tally:
    success = arm.success
    if clustering:
        # Beta-binomial: one draw of the rate for the block gives its requests this correlation.
        size = (1.0 - clustering) / clustering
        success = float(rng.beta(success * size, (1.0 - success) * size))
    ok = int(rng.binomial(n, success))
    failed = {Cause.SERVER_ERROR: n - ok} if n > ok else {}
    if arm.slowness is None:
        return Tally(routed=n, ok=ok, failed=failed)
    first_token = drawn_timings(rng, ok, arm.slowness * 0.4, arm.strata)
    per_token = drawn_timings(rng, ok, arm.slowness * 0.03, arm.strata)
    return Tally(routed=n, ok=ok, failed=failed, first_token=first_token, per_token=per_token)


def drawn_timings(rng: Generator, n: int, median: float, strata: tuple[float, ...]) -> Timings:
    """Lognormal durations of spread 0.6, shared out over the strata, each stratum 1.3 times as slow as the last."""
    timings = no_timings()
    for stratum, count in zip(Stratum, rng.multinomial(n, strata).tolist(), strict=True):
        first, shares = _bucket_shares(median * 1.3**stratum)
        counts = rng.multinomial(count, shares)
        filled = np.flatnonzero(counts)
        timings[stratum].buckets.update(zip((filled + first).tolist(), counts[filled].tolist(), strict=True))
    return timings


@lru_cache(maxsize=256)
def _bucket_shares(median: float, sigma: float = 0.6) -> tuple[int, np.ndarray]:
    """Lowest bucket and the probability of each bucket, of a lognormal duration."""
    middle = round(PER_DOUBLING * log(median) / log(2.0))
    reach = round(PER_DOUBLING * 4.0 * sigma / log(2.0))
    edges = np.arange(middle - reach, middle + reach + 1)
    cumulative = ndtr((edges * (log(2.0) / PER_DOUBLING) - log(median)) / sigma)
    shares = np.diff(cumulative, prepend=0.0)
    return int(edges[0]), shares / shares.sum()


@dataclass(frozen=True)
class Queued:
    """Two processor-sharing servers of equal size; the router's weight alone divides the load.

    The first token comes after a tenth of a request's work.

    Attributes:
        utilisation: of a server that gets all requests.
        rate: requests per second of both together.
        hours: length of the ramp, in nine steps from 10 % to 90 %.
        slowdown: factor on the new side's work from `onset` on.
        onset: share of the ramp passed when it begins.
        at_routing: book timings by the load met at routing instead of the mean load while they were taken.
    """

    utilisation: float = 0.7
    rate: float = 2.0
    hours: float = 3.0
    slowdown: float = 1.0
    onset: float = 0.5
    at_routing: bool = False

    def blocks(self, rng: Generator) -> Iterator[tuple[int, Block]]:
        """Closed blocks of one minute with the step that each belongs to."""
        length_s = self.hours * 3600
        arrivals = np.cumsum(rng.exponential(1.0 / self.rate, int(self.rate * length_s * 1.1)))
        arrivals = arrivals[arrivals < length_s]
        weights = np.array(STEP_WEIGHTS)[(arrivals / length_s * len(STEP_WEIGHTS)).astype(int)]
        to_new = rng.random(arrivals.size) < weights
        # A mean of 1 before scaling: exp(-0.18 + 0.6²/2) = 1.
        tokens = rng.lognormal(-0.18, 0.6, arrivals.size)
        pace = np.full(arrivals.size, self.utilisation / self.rate)
        pace[to_new & (arrivals >= self.onset * length_s)] *= self.slowdown
        minutes = int(length_s / 60)
        books = {side: [TallyRecorder() for _ in range(minutes)] for side in Side}
        for side, mine in ((Side.OLD, ~to_new), (Side.NEW, to_new)):
            requests = zip(arrivals[mine].tolist(), tokens[mine].tolist(), pace[mine].tolist(), strict=True)
            _Server(books[side], at_routing=self.at_routing).serve(requests)
        for minute in range(minutes):
            old, new = books[Side.OLD][minute].freeze(), books[Side.NEW][minute].freeze()
            if min(old.routed, new.routed) >= RULES.min_requests:
                step = minute * len(STEP_WEIGHTS) // minutes
                yield step, Block(minute * 60_000, (minute + 1) * 60_000, step, old, new)


class _Milestone(NamedTuple):
    """A moment in the life of a request: its first token, or its end."""

    virtual: float
    last: bool
    arrived: float
    tokens: float
    mark: float
    met: int


class _Server:
    """Serves with processor sharing and books each request to the minute in which it arrived.

    With n requests in service each gets 1/n of the server, so all gain the same "virtual" time; a milestone is
    reached when that has grown by the work up to it.
    """

    def __init__(self, minutes: list[TallyRecorder], *, at_routing: bool) -> None:
        self.minutes = minutes
        self.at_routing = at_routing
        self.now = self.virtual = 0.0
        self.occupancy = Occupancy(0.0)
        self.ahead: list[_Milestone] = []

    def serve(self, requests: Iterable[tuple[float, float, float]]) -> None:
        """Serve all: arrival in seconds, tokens, and seconds of work for each token."""
        for arrived, tokens, pace in requests:
            self._advance(arrived)
            self.minutes[int(arrived // 60)].route()
            met, mark, work = self.occupancy.in_flight, self.occupancy.enter(arrived), tokens * pace
            for last, share in ((False, 0.1), (True, 1.0)):
                milestone = _Milestone(self.virtual + share * work, last, arrived, tokens, mark, met)
                heappush(self.ahead, milestone)
        self._advance(self.now + 1e9)

    def _advance(self, moment: float) -> None:
        while self.ahead:
            share = self.occupancy.in_flight
            reached = self.now + (self.ahead[0].virtual - self.virtual) * share
            if reached > moment:
                self.virtual += (moment - self.now) / share
                break
            milestone = heappop(self.ahead)
            self.now, self.virtual = reached, milestone.virtual
            self._book(milestone)
        self.now = moment

    def _book(self, milestone: _Milestone) -> None:
        taken = self.now - milestone.arrived
        others = self.occupancy.others(milestone.mark, milestone.arrived, self.now)
        stratum = Stratum.of(milestone.met if self.at_routing else others)
        book = self.minutes[int(milestone.arrived // 60)]
        if milestone.last:
            book.succeed()
            book.time_per_token(stratum, taken / milestone.tokens)
            self.occupancy.leave(self.now)
        else:
            book.time_first_token(stratum, taken)


def pooled(block: Block) -> Block:
    """The same block as if load were not told apart: what a comparison without strata sees."""

    def joined(tally: Tally) -> Tally:
        rest = no_timings()[1:]
        first_token, per_token = Histogram.merged(tally.first_token), Histogram.merged(tally.per_token)
        return replace(tally, first_token=(first_token, *rest), per_token=(per_token, *rest))

    return replace(block, old=joined(block.old), new=joined(block.new))


def paired_scores(rng: Generator, n: int, means: tuple[float, float], correlation: float) -> list[tuple[float, float]]:
    """Pairs of scores in [0, 1] of the same prompt, with a spread of 0.25, new side first."""
    base = rng.standard_normal((n, 2))
    base[:, 1] = correlation * base[:, 0] + (1.0 - correlation**2) ** 0.5 * base[:, 1]
    uniform = ndtr(base)
    columns = [_beta_quantiles(mean)[(uniform[:, i] * 4096).astype(int)] for i, mean in enumerate(means)]
    return list(zip(columns[0].tolist(), columns[1].tolist(), strict=True))


def grouped_scores(
    rng: Generator, n: int, means: tuple[float, float], old_for_each: int
) -> tuple[tuple[float, float], ...]:
    """Scores of different prompts, so many old ones for each new one, paired by `disjoint_pairs`."""
    new = _beta_quantiles(means[0])[rng.integers(0, 4096, n)]
    old = _beta_quantiles(means[1])[rng.integers(0, 4096, n * old_for_each)]
    return disjoint_pairs(new.tolist(), old.tolist())


@lru_cache(maxsize=32)
def _beta_quantiles(mean: float, spread: float = 0.25) -> np.ndarray:
    """A beta distribution of that mean and spread, as a table of its quantiles."""
    from scipy.stats import beta  # noqa: PLC0415  # slow to import, and only scores need it

    size = mean * (1.0 - mean) / spread**2 - 1.0
    return np.asarray(beta.ppf((np.arange(4096) + 0.5) / 4096, mean * size, (1.0 - mean) * size))
