"""Small values that the tests of profiles are built of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from arbiter.core.fading import HALF_LIFE_MS
from arbiter.core.folding import Share
from arbiter.core.profile import Profile
from arbiter.core.revision_record import RevisionName
from arbiter.core.task_counts import Complexity, Outcomes, Scores
from arbiter.core.traffic import Cause, Side, Stratum, Tally
from tests.unit.core.traffic_examples import timings

if TYPE_CHECKING:
    from collections.abc import Iterable

SLICE_MS = 15_000
MONDAY = 2950 * HALF_LIFE_MS
"""Where a period begins, in July 2026."""

LATER = MONDAY + 40 * HALF_LIFE_MS
"""After anything that happens here."""

LLAMA = RevisionName("llama", "00000000aa")
QWEN = RevisionName("qwen", "00000000bb")


def answered(ok: int, bad: int = 0, *, first_token: float = 0.25, per_token: float = 0.02, total: float = 2.0) -> Tally:
    """So many answered and failed, each answer as fast and with 100 tokens read and 50 written."""
    first, further, whole = (timings({Stratum.ALONE: {s: ok}} if ok else {}) for s in (first_token, per_token, total))
    return Tally(
        routed=ok + bad,
        ok=ok,
        failed={Cause.TIMEOUT: bad} if bad else {},
        input_tokens=100 * ok,
        output_tokens=50 * ok,
        first_token=first,
        per_token=further,
        total=whole,
    )


def share(at_ms: int, tally: Tally, name: RevisionName = LLAMA, *, epoch: str = "a", side: Side = Side.OLD) -> Share:
    """One side of one slice of one router, told of when it was over."""
    return Share(epoch, 1, side, at_ms, at_ms + SLICE_MS, at_ms + SLICE_MS, name, tally)


@dataclass(frozen=True)
class Run:
    """One run of checks, and what was measured beside it."""

    name: RevisionName
    at_ms: int
    scores: tuple[float, ...]
    memory_bytes: int


Event = Share | Run
"""Something that a profile learns from."""


def moment(event: Event) -> int:
    """When it was."""
    return event.start_ms if isinstance(event, Share) else event.at_ms


def learnt(events: Iterable[Event], profile: Profile | None = None) -> Profile:
    """A profile of these events, in this order."""
    profile = profile or Profile()
    for event in events:
        if isinstance(event, Share):
            profile = profile.observe(event, LATER).profile
        else:
            profile = profile.check(event.name, event.scores, event.at_ms, LATER).profile
            profile = profile.measure(event.name, event.at_ms, LATER, memory_bytes=event.memory_bytes).profile
    return profile


_tallies = st.builds(
    lambda ok, bad, running, seconds: replace(
        answered(ok, bad, first_token=seconds, per_token=seconds / 10, total=seconds * 7),
        routed=ok + bad + running,
        left=running // 2,
    ),
    st.integers(0, 30),
    st.integers(0, 5),
    st.integers(0, 4),
    st.sampled_from([0.0, 0.01, 0.2, 0.25, 3.0, 1e6]),
)
_names = st.sampled_from([LLAMA, QWEN, RevisionName("llama", "00000000cc")])
_starts = st.builds(
    lambda period, number: MONDAY + period * HALF_LIFE_MS + number * SLICE_MS, st.integers(0, 14), st.integers(0, 300)
)
_outcomes = st.integers(0, 50).flatmap(lambda n: st.builds(Outcomes, st.just(n), st.integers(0, n)))


def _a_share(
    where: tuple[str, int, Side, int],
    name: RevisionName,
    tally: Tally,
    extras: tuple[int | None, list[float]],
    complexity: dict[Complexity, Outcomes],
) -> Share:
    epoch, generation, side, start_ms = where
    end_ms, (millijoules, scores) = start_ms + SLICE_MS, extras
    return Share(
        epoch, generation, side, start_ms, end_ms, end_ms, name, tally, millijoules, Scores.of(scores), complexity
    )


_shares = st.builds(
    _a_share,
    st.tuples(st.sampled_from("abc"), st.integers(1, 2), st.sampled_from(Side), _starts),
    _names,
    _tallies,
    st.tuples(st.none() | st.integers(0, 10**7), st.lists(st.floats(0.0, 1.0), max_size=3)),
    st.dictionaries(st.sampled_from(Complexity), _outcomes),
)
_runs = st.builds(Run, _names, _starts, st.lists(st.floats(0.0, 1.0), max_size=4).map(tuple), st.integers(1, 10**10))


def _key(event: Event) -> object:
    if isinstance(event, Share):
        return event.epoch, event.start_ms, event.part
    return event.name, event.at_ms


traffic = st.lists(_shares | _runs, max_size=9, unique_by=_key).map(lambda events: sorted(events, key=moment))
"""Events of several routers and runs of checks over fifteen periods, oldest first, each one once."""

profiles = traffic.map(learnt)
"""Any profile."""
