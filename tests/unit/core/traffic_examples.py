"""Small values that the tests of traffic, blocks and evidence are built of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from arbiter.core.blocks import Block
from arbiter.core.histogram import Histogram
from arbiter.core.traffic import Cause, Side, Slice, Stratum, Tally, Timings, no_timings

if TYPE_CHECKING:
    from collections.abc import Mapping

MINUTE = 60_000


def tally(ok: int = 0, bad: int = 0, *, running: int = 0, first_token: Timings | None = None) -> Tally:
    """So many answered, failed and still running."""
    failed = {Cause.SERVER_ERROR: bad} if bad else {}
    return Tally(routed=ok + bad + running, ok=ok, failed=failed, first_token=first_token or no_timings())


def block(number: int, new: Tally, old: Tally) -> Block:
    """The block of the given minute, the first being 0."""
    return Block(number * MINUTE, (number + 1) * MINUTE, 1, old, new)


def timings(durations: Mapping[Stratum, Mapping[float, int]]) -> Timings:
    """Histograms by stratum, of counts by duration."""
    filled = no_timings()
    for stratum, counts in durations.items():
        for seconds, n in counts.items():
            filled[stratum].add(seconds, n)
    return filled


def one_slice(start_s: int, *, epoch: str = "a", generation: int = 1, task: str = "chat", **sides: Tally) -> Slice:
    """A slice of 15 s."""
    named = {Side(name): counts for name, counts in sides.items()}
    return Slice(epoch, generation, task, start_s * 1000, 15_000, named)


def _a_tally(counts: tuple[int, ...], failed: dict[Cause, int], durations: list[float]) -> Tally:
    ok, rejected, left, running, read, written = counts
    histograms = no_timings()
    for i, seconds in enumerate(durations):
        histograms[Stratum(i % 5)].add(seconds)
    return Tally(
        routed=ok + rejected + left + running + sum(failed.values()),
        ok=ok,
        failed=failed,
        rejected=rejected,
        left=left,
        input_tokens=read,
        output_tokens=written,
        first_token=histograms,
        per_token=tuple(reversed(histograms)),
        total=tuple(Histogram.merged((each, each)) for each in histograms),
    )


tallies = st.builds(
    _a_tally,
    st.tuples(*[st.integers(0, 1000)] * 6),
    st.dictionaries(st.sampled_from(Cause), st.integers(1, 50)),
    st.lists(st.floats(0.0, 100.0), max_size=8),
)
"""Any tally."""
