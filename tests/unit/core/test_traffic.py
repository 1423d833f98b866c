"""What happened to requests: tallies, slices and the feed of a router."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.core.feed import Feed
from arbiter.core.occupancy import Occupancy
from arbiter.core.tally_recorder import TallyRecorder
from arbiter.core.traffic import Cause, Side, Slice, Stratum, Tally
from arbiter.errors import CorruptStateError
from tests.unit.core.traffic_examples import one_slice, tallies, tally

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("others", "want"),
    [
        (0, Stratum.ALONE),
        (1, Stratum.ONE),
        (2, Stratum.FEW),
        (3, Stratum.FEW),
        (4, Stratum.SEVERAL),
        (7, Stratum.SEVERAL),
        (8, Stratum.MANY),
        (1000, Stratum.MANY),
    ],
)
def test_strata_are_0_1_2to3_4to7_and_8_or_more(others: int, want: Stratum) -> None:
    """Each stratum is twice as wide as the one before."""
    assert Stratum.of(others) is want


def test_every_routed_request_is_judged_or_apart_or_open() -> None:
    """Rejections and clients that left are neither success nor failure; what has not ended is open."""
    seen = Tally(routed=20, ok=9, failed={Cause.RESET: 2, Cause.TIMEOUT: 1}, rejected=3, left=1)
    assert (seen.failures, seen.judged, seen.open) == (3, 12, 4)


def test_after_the_deadline_open_requests_have_failed_by_timeout() -> None:
    """A request that never ends is a failure, not a gap in the statistics."""
    late = Tally(routed=6, ok=3, failed={Cause.TIMEOUT: 1}).expired()
    assert late == Tally(routed=6, ok=3, failed={Cause.TIMEOUT: 3})
    assert late.expired() is late


@given(tallies, tallies, tallies)
def test_merging_tallies_is_associative_and_commutative(a: Tally, b: Tally, c: Tally) -> None:
    """Routers, workers and slices may be merged in any order."""
    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c)) == Tally.merged((c, b, a))
    assert Tally().merge(a) == a
    assert Tally.merged(()) == Tally()


@given(tallies, tallies)
def test_merging_adds_every_count(a: Tally, b: Tally) -> None:
    """Nothing is dropped and nothing is counted twice."""
    both = a.merge(b)
    for count in ("routed", "ok", "failures", "rejected", "left", "open", "judged", "input_tokens", "output_tokens"):
        assert getattr(both, count) == getattr(a, count) + getattr(b, count)
    for timing in ("first_token", "per_token", "total"):
        for stratum in Stratum:
            want = getattr(a, timing)[stratum].merge(getattr(b, timing)[stratum])
            assert getattr(both, timing)[stratum] == want


def test_the_recorder_books_each_ending_once() -> None:
    """What the router notes while requests pass is what the tally says, and a frozen tally stays as it was."""
    book = TallyRecorder()
    for _ in range(7):
        book.route()
    book.succeed()
    book.fail(Cause.BROKEN_STREAM)
    book.fail(Cause.BROKEN_STREAM)
    book.fail(Cause.REFUSED)
    book.reject()
    book.leave()
    book.count_tokens(10, 20)
    book.count_tokens(1, 2)
    book.time_first_token(Stratum.FEW, 0.5)
    book.time_per_token(Stratum.ONE, 0.25)
    book.time_total(Stratum.MANY, 2.0)
    frozen = book.freeze()
    book.route()
    book.fail(Cause.RESET)
    book.time_first_token(Stratum.FEW, 0.5)
    assert (frozen.routed, frozen.ok, frozen.rejected, frozen.left, frozen.open) == (7, 1, 1, 1, 1)
    assert frozen.failed == {Cause.BROKEN_STREAM: 2, Cause.REFUSED: 1}
    assert (frozen.input_tokens, frozen.output_tokens) == (11, 22)
    assert [each.count for each in frozen.first_token] == [0, 0, 1, 0, 0]
    assert [each.count for each in frozen.per_token] == [0, 1, 0, 0, 0]
    assert [each.sum for each in frozen.total] == [0, 0, 0, 0, 2.0]


@given(tallies, tallies)
def test_a_feed_reads_back_exactly(old: Tally, new: Tally) -> None:
    """The operator reads what the router wrote."""
    feed = Feed("a", 30_500, (one_slice(0, old=old, new=new), one_slice(15, old=old), one_slice(30)))
    assert Feed.from_text(feed.to_text()) == feed


def test_the_form_of_a_feed_is_fixed() -> None:
    """Routers and operators of neighbouring versions meet, so the form may not drift unnoticed."""
    feed = Feed("pod/1", 15_000, (one_slice(0, epoch="pod/1", new=tally(2, 1)),))
    assert json.loads(feed.to_text()) == {
        "version": 1,
        "epoch": "pod/1",
        "readMs": 15000,
        "slices": [
            {
                "generation": 1,
                "task": "chat",
                "startMs": 0,
                "lengthMs": 15000,
                "sides": {
                    "new": {
                        "routed": 3,
                        "ok": 2,
                        "failed": {"5xx": 1},
                        "rejected": 0,
                        "left": 0,
                        "tokens": [0, 0],
                        "firstToken": [""] * 5,
                        "perToken": [""] * 5,
                        "total": [""] * 5,
                    }
                },
            }
        ],
    }


def _in_slice(change: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda feed: change(feed["slices"][0])


def _in_tally(change: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda feed: change(feed["slices"][0]["sides"]["new"])


@pytest.mark.parametrize(
    ("change", "want_path"),
    [
        pytest.param(lambda feed: feed.update(version=2), r"feed\.version is 2", id="another version"),
        pytest.param(lambda feed: feed.update(version=True), r"feed\.version", id="a version that is no number"),
        pytest.param(lambda feed: feed.pop("epoch"), r"feed\.epoch is missing", id="a missing field"),
        pytest.param(lambda feed: feed.update(extra=1), "unknown fields: extra", id="an unknown field"),
        pytest.param(lambda feed: feed.update(epoch=1), r"feed\.epoch must be text", id="a number for a text"),
        pytest.param(lambda feed: feed.update(slices={}), r"feed\.slices must be a list", id="an object for a list"),
        pytest.param(lambda feed: feed.update(slices=[1]), r"feed\.slices\[0\] must be an object", id="a slice of one"),
        pytest.param(_in_slice(lambda it: it.update(startMs=1)), r"slices\[0\]\.startMs", id="a slice off the grid"),
        pytest.param(_in_slice(lambda it: it.update(lengthMs=0)), "lengthMs must be", id="a slice without length"),
        pytest.param(_in_slice(lambda it: it["sides"].update(third={})), "unknown fields: third", id="a third side"),
        pytest.param(_in_slice(lambda it: it.update(more=0)), "unknown fields: more", id="an unknown slice field"),
        pytest.param(_in_tally(lambda it: it.update(routed=2)), "more requests ended", id="more ended than routed"),
        pytest.param(_in_tally(lambda it: it.update(ok=-1)), "ok must be a whole number", id="a negative count"),
        pytest.param(_in_tally(lambda it: it.update(ok=1.0)), "ok must be a whole number", id="a fraction"),
        pytest.param(_in_tally(lambda it: it.update(tokens=[1])), "tokens must be a list of 2", id="too few tokens"),
        pytest.param(_in_tally(lambda it: it["failed"].update(sigh=1)), "unknown fields: sigh", id="unknown cause"),
        pytest.param(_in_tally(lambda it: it["failed"].update(reset=0)), "reset must be", id="a cause of zero"),
        pytest.param(_in_tally(lambda it: it.update(total=[0] * 5)), "list of texts", id="a histogram of zero"),
        pytest.param(_in_tally(lambda it: it.update(total=["x"] * 5)), "histogram 'x'", id="a broken histogram"),
        pytest.param(_in_tally(lambda it: it.update(total=[""] * 4)), "list of 5", id="too few strata"),
        pytest.param(_in_tally(lambda it: it.update(new=1)), "unknown fields: new", id="an unknown count"),
    ],
)
def test_any_other_feed_is_refused(change: Callable[[Any], object], want_path: str) -> None:
    """What is wrong is told with its place; nothing is guessed."""
    feed = Feed("a", 15_000, (one_slice(0, new=tally(2, 1)),))
    fields = json.loads(feed.to_text())
    change(fields)
    with pytest.raises(CorruptStateError, match=want_path):
        Feed.from_text(json.dumps(fields))


@pytest.mark.parametrize(
    ("text", "want_message"),
    [
        pytest.param("{", "feed is not JSON", id="cut short"),
        pytest.param("[]", "feed must be an object", id="a list"),
        pytest.param('{"version":1,"version":1}', "a field stands twice", id="a field twice"),
        pytest.param('{"version":NaN}', "NaN is not a number", id="not a number"),
        pytest.param("[" * 100_000, "feed is not JSON", id="endless nesting"),
    ],
)
def test_what_is_not_a_feed_at_all_is_refused(text: str, want_message: str) -> None:
    """Broken JSON is corrupt state like any other."""
    with pytest.raises(CorruptStateError, match=want_message):
        Feed.from_text(text)


def test_a_slice_lies_on_the_grid() -> None:
    """Slices of several routers are matched by their start, so they must not start anywhere."""
    with pytest.raises(ValueError, match="multiple of its length"):
        Slice("a", 1, "chat", 7, 15_000, {})
    with pytest.raises(ValueError, match="multiple of its length"):
        Slice("a", 1, "chat", 0, 0, {})
    assert one_slice(30).end_ms == 45_000


def test_a_slice_is_finished_when_no_side_has_open_requests() -> None:
    """One open request on either side keeps a slice from being judged."""
    assert one_slice(0, old=tally(1), new=tally(1)).finished
    assert not one_slice(0, old=tally(1), new=tally(1, running=1)).finished
    assert one_slice(0).finished
    assert one_slice(0, old=tally(1)).side(Side.NEW) == Tally()


def test_workers_of_a_router_merge_their_shares_of_a_slice() -> None:
    """A parent process adds up its workers; slices that are not shares of the same one do not merge."""
    first, second = one_slice(0, old=tally(1)), one_slice(0, old=tally(2), new=tally(3, 1))
    assert first.merge(second) == second.merge(first) == one_slice(0, old=tally(3), new=tally(3, 1))
    for other in (one_slice(15), replace(second, epoch="b"), replace(second, generation=2), replace(second, task="x")):
        with pytest.raises(ValueError, match="do not merge"):
            first.merge(other)


def test_occupancy_is_the_mean_number_of_others_while_one_was_there() -> None:
    """One request alone for 6 s and beside two others for 4 s had 0.8 others on average: one, rounded."""
    endpoint = Occupancy(100.0)
    mark = endpoint.enter(100.0)
    assert endpoint.in_flight == 1
    assert endpoint.others(mark, 100.0, 106.0) == 0
    endpoint.enter(106.0)
    endpoint.enter(106.0)
    assert endpoint.area(110.0) == 6.0 + 3 * 4.0
    assert endpoint.others(mark, 100.0, 110.0) == 1
    endpoint.leave(110.0)
    endpoint.leave(110.0)
    assert endpoint.others(mark, 100.0, 130.0) == 0
    assert endpoint.in_flight == 1


def test_occupancy_of_no_time_is_the_number_there() -> None:
    """A timing too short for the clock still has a stratum."""
    endpoint = Occupancy(0.0)
    endpoint.enter(1.0)
    mark = endpoint.enter(1.0)
    assert endpoint.others(mark, 1.0, 1.0) == 1
    endpoint.leave(1.0)
    endpoint.leave(1.0)
    assert endpoint.others(mark, 1.0, 1.0) == 0


@given(st.lists(st.floats(0.001, 10.0), min_size=1, max_size=20))
def test_occupancy_equals_plain_integration(gaps: list[float]) -> None:
    """The running area is the integral of the number in flight."""
    endpoint, now, area = Occupancy(0.0), 0.0, 0.0
    for i, gap in enumerate(gaps):
        area += endpoint.in_flight * gap
        now += gap
        if i % 3 == 2:
            endpoint.leave(now)
        else:
            assert endpoint.enter(now) == pytest.approx(area)
    assert endpoint.area(now) == pytest.approx(area)
