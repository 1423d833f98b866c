"""The algebra of profiles: merging, folding again, starting again."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from arbiter.core.fading import KEPT, period_of
from arbiter.core.feed import Feed
from arbiter.core.folding import Refusal, Share
from arbiter.core.known import known
from arbiter.core.profile import Profile
from arbiter.core.traffic import Side, Slice, Tally
from tests.unit.core.profile_examples import (
    LATER,
    LLAMA,
    MONDAY,
    QWEN,
    SLICE_MS,
    Event,
    learnt,
    moment,
    profiles,
    traffic,
)
from tests.unit.core.traffic_examples import tallies


@given(profiles, profiles, profiles)
def test_merging_is_associative_and_commutative(a: Profile, b: Profile, c: Profile) -> None:
    """Profiles may be merged in any order, forgetting included; the bits are the same."""
    want = a.merge(b).merge(c)
    assert all(x.merge(y).merge(z) == want == x.merge(y.merge(z)) for x, y, z in permutations((a, b, c)))
    assert a.merge(b).merge(c).to_text() == c.merge(b.merge(a)).to_text()


@given(profiles)
def test_an_empty_profile_changes_nothing(profile: Profile) -> None:
    """It is the identity of merging, on either side."""
    assert profile.merge(Profile()) == profile == Profile().merge(profile)


@given(traffic, st.data())
def test_merged_parts_equal_one_profile_of_all_traffic(events: list[Event], data: st.DataObject) -> None:
    """Whoever saw which part: scores, energy, cursors and what was forgotten are the same, bit for bit."""
    owners = data.draw(st.lists(st.integers(0, 2), min_size=len(events), max_size=len(events)))
    parts = [learnt(e for e, owner in zip(events, owners, strict=True) if owner == who) for who in range(3)]
    merged, whole = parts[2].merge(parts[0]).merge(parts[1]), learnt(events)
    assert merged == whole
    assert merged.to_text() == whole.to_text()


@given(traffic)
def test_counting_again_changes_nothing(events: list[Event]) -> None:
    """A slice is scraped again and again, and a job's result is read again; each counts once."""
    once = learnt(events)
    assert learnt(events, once) == once
    for event in events:
        if isinstance(event, Share):
            again = once.observe(event, LATER)
            assert again.profile is once
            assert {refused.code for refused in again.refused} <= {Refusal.COUNTED, Refusal.TOO_OLD}


@given(traffic, st.integers(0, 9))
def test_starting_again_in_the_middle_changes_nothing(events: list[Event], at: int) -> None:
    """The next operator reads what was stored and goes on as if there had been one, even with the same events."""
    stored = learnt(events[:at]).to_text()
    resumed = Profile.from_text(stored, LATER)
    assert resumed.to_text() == stored
    assert learnt(events[at:], resumed) == learnt(events) == learnt(events, resumed)


_counts = st.lists(tallies, min_size=1, max_size=4)


@given(st.lists(_counts, min_size=1, max_size=3), st.data())
def test_the_order_of_routers_does_not_matter(books: list[list[Tally]], data: st.DataObject) -> None:
    """Feeds arrive as they like, and more than once."""
    feeds = [_feed(f"router-{i}", counts) for i, counts in enumerate(books)]
    revisions = {(1, Side.OLD): LLAMA, (1, Side.NEW): QWEN}
    want = Profile()
    for feed in feeds:
        want = want.follow(feed, "chat", revisions, LATER).profile
    got = Profile()
    for feed in data.draw(st.permutations([*feeds, feeds[0]])):
        got = got.follow(feed, "chat", revisions, LATER).profile
    assert got == want
    assert sum(each.samples for record in got.records.values() for each in record.counts.values()) == sum(
        tally.judged + tally.open for counts in books for tally in counts
    )


def _feed(epoch: str, counts: list[Tally]) -> Feed:
    slices = (
        Slice(epoch, 1, "chat", MONDAY + i * SLICE_MS, SLICE_MS, {(Side.OLD, Side.NEW)[i % 2]: tally})
        for i, tally in enumerate(counts)
    )
    return Feed(epoch, LATER, tuple(slices))


@given(traffic, st.data())
def test_what_is_forgotten_depends_on_the_newest_period_only(events: list[Event], data: st.DataObject) -> None:
    """A period stays exactly while it is at most eight before the newest of all, however profiles were merged."""
    merged = Profile()
    for event in data.draw(st.permutations(events)):
        merged = merged.merge(learnt([event]))
    newest = max((period_of(moment(event), merged.half_life_ms) for event in _telling(events)), default=0)
    assert merged.newest == newest
    periods = {period for record in merged.records.values() for period in record.counts}
    assert all(newest - KEPT <= period <= newest for period in periods)
    assert merged == learnt(events)


def _telling(events: list[Event]) -> list[Event]:
    """Those that tell of anything: a slice without requests and scores only moves its cursor."""
    return [
        event
        for event in events
        if not isinstance(event, Share)
        or event.tally.routed
        or event.feedback.n
        or any(each.samples for each in event.complexity.values())
    ]


@given(traffic)
def test_what_is_read_is_within_its_bounds(events: list[Event]) -> None:
    """Rates and scores are shares, and half of the times are not longer than most of them."""
    profile = learnt(events)
    for name in profile.records:
        read = known(profile, *name, LATER)
        assert read.successes <= read.samples
        assert read.quality is None or 0.0 <= read.quality.mean <= 1.0 + 1e-12
        assert all(times is None or times.p50 <= times.p95 for times in (read.first_token, read.per_token, read.total))
