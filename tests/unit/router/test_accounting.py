"""The router's books: each attempt counted once, in the slice in which it was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.core.feed import Feed
from arbiter.core.traffic import Cause, Side, Stratum
from arbiter.router.accounting import KEPT, Ending, Ledger, Outcome
from arbiter.router.metric_families import DURATION, FALLBACKS, FIRST_TOKEN, IN_FLIGHT, PER_TOKEN
from arbiter.router.metrics import Meter
from tests.unit.router.router_examples import START_MS, backend, table, task

if TYPE_CHECKING:
    from arbiter.core.routes import RouteTable
    from arbiter.core.traffic import Slice

LABELS = ("chat", "model-old", "old", "llamacpp", "chat")


def ledger(first: RouteTable | None = None) -> Ledger:
    """Books that were opened at the loop's second 100, at the beginning of a slice."""
    books = Ledger("pod/1", Meter(), 100.0, START_MS)
    books.obey(first or table(), 100.0)
    return books


def slices(books: Ledger, now: float, name: str = "chat") -> list[Slice]:
    """The slices of a task, oldest first."""
    return [each for each in books.feed(now).slices if each.task == name]


@pytest.mark.parametrize("ending", [*Outcome, *Cause])
def test_each_ending_is_counted_once_and_closes_the_entry(ending: Ending) -> None:
    """A client that leaves while the server breaks is noticed twice and may count once."""
    books = ledger()
    entry = books.route("chat", Side.OLD, 100.0)
    assert entry.finish(ending, 101.0, 0)
    for other in (*Outcome, *Cause):
        assert not entry.finish(other, 102.0, 0, 5, 5)
    seen = slices(books, 103.0)[0].side(Side.OLD)
    assert (seen.routed, seen.open) == (1, 0)
    want = {Outcome.OK: seen.ok, Outcome.REJECTED: seen.rejected, Outcome.LEFT: seen.left}
    assert (want[ending] if isinstance(ending, Outcome) else seen.failed[ending]) == 1
    assert (seen.input_tokens, seen.output_tokens) == (0, 0)


def test_a_retry_elsewhere_leaves_the_failure_with_the_side_that_failed() -> None:
    """Else a broken side would look fine for as long as the other one helps out."""
    books = ledger()
    books.route("chat", Side.NEW, 100.0).finish(Cause.RESET, 100.1, 0)
    books.route("chat", Side.OLD, 100.1).finish(Outcome.OK, 100.5, 0)
    only = slices(books, 101.0)[0]
    new, old = only.side(Side.NEW), only.side(Side.OLD)
    assert (new.routed, new.ok, new.failed) == (1, 0, {Cause.RESET: 1})
    assert (old.routed, old.ok, old.failures) == (1, 1, 0)


def test_an_answered_stream_is_timed_in_all_three_ways() -> None:
    """First token from routing, pace over the further tokens, and the whole; each in the stratum it met."""
    books = ledger()
    entry = books.route("chat", Side.OLD, 100.0)
    entry.first_token(100.5, 0)
    entry.first_token(100.7, 0)
    entry.finish(Outcome.OK, 102.5, 3, tokens_in=12, tokens_out=11)
    seen = slices(books, 103.0)[0].side(Side.OLD)
    assert seen.first_token[Stratum.ALONE].sum == 0.5
    assert seen.first_token[Stratum.ALONE].count == 1
    assert seen.per_token[Stratum.FEW].sum == 0.2
    assert seen.total[Stratum.FEW].sum == 2.5
    assert (seen.input_tokens, seen.output_tokens) == (12, 11)


@pytest.mark.parametrize(
    ("stream", "first_at", "want_first", "want_pace"),
    [
        pytest.param(True, None, [3.0], [], id="before the first token"),
        pytest.param(True, 101.0, [1.0], [0.25], id="in the middle of a stream"),
        pytest.param(False, None, [], [], id="of a plain answer"),
    ],
)
def test_a_client_that_leaves_counts_as_at_least_that_long(
    *, stream: bool, first_at: float | None, want_first: list[float], want_pace: list[float]
) -> None:
    """Who runs out of patience must not make a slow side look fast by taking the worst times along."""
    books = ledger()
    entry = books.route("chat", Side.NEW, 100.0, stream=stream)
    if first_at is not None:
        entry.first_token(first_at, 0)
    entry.finish(Outcome.LEFT, 103.0, 0, 4, 9 if first_at else 0)
    seen = slices(books, 104.0)[0].side(Side.NEW)
    assert (seen.left, seen.failures, seen.judged) == (1, 0, 0)
    assert [each.sum for each in seen.first_token if each.count] == want_first
    assert [each.sum for each in seen.per_token if each.count] == want_pace
    assert seen.total[0].sum == 3.0


@pytest.mark.parametrize("ending", [Outcome.REJECTED, Cause.SERVER_ERROR, Cause.TIMEOUT])
def test_failures_and_rejections_are_not_timed(ending: Ending) -> None:
    """An engine that refuses at once is not a fast engine."""
    books = ledger()
    books.route("chat", Side.OLD, 100.0).finish(ending, 100.001, 0)
    assert not any(each.count for each in slices(books, 101.0)[0].side(Side.OLD).total)


def test_requests_are_booked_to_the_slice_of_their_routing() -> None:
    """However late they end; the running slice stays as it is."""
    books = ledger()
    late = books.route("chat", Side.OLD, 114.9)
    books.route("chat", Side.OLD, 115.0).finish(Outcome.OK, 115.5, 0)
    first, second = slices(books, 116.0)
    assert (first.start_ms, first.end_ms, second.start_ms) == (START_MS, START_MS + 15_000, START_MS + 15_000)
    assert (first.side(Side.OLD).open, second.side(Side.OLD).open) == (1, 0)
    late.finish(Outcome.OK, 131.0, 0)
    first, second, _ = slices(books, 131.0)
    assert (first.side(Side.OLD).ok, second.side(Side.OLD).ok) == (1, 1)


def test_there_is_a_slice_for_every_task_side_and_time_also_without_requests() -> None:
    """Silence is told; only what is missing was lost."""
    books = ledger(table(1, task("chat"), task("code", sides=(Side.OLD,))))
    books.tick(146.0, START_MS + 46_000)
    feed = books.feed(146.0)
    assert feed.read_ms == START_MS + 46_000
    starts = [START_MS + 15_000 * i for i in range(4)]
    assert [(each.start_ms, each.task) for each in feed.slices] == [
        (at, name) for at in starts for name in ("chat", "code")
    ]
    assert [set(each.sides) for each in feed.slices] == [{Side.OLD, Side.NEW}, {Side.OLD}] * 4


def test_slices_begin_at_multiples_of_their_length_on_the_wall_clock() -> None:
    """Those of several routers are matched by equality."""
    books = Ledger("pod/1", Meter(), 7.25, START_MS + 6_789)
    books.obey(table(), 7.25)
    assert [each.start_ms for each in slices(books, 7.25)] == [START_MS]
    assert [each.start_ms for each in slices(books, 7.25 + 8.211)] == [START_MS, START_MS + 15_000]


def test_a_table_that_changes_within_a_slice_makes_two_of_the_same_start() -> None:
    """Counts under different weights are different evidence; open requests stay where they were routed."""
    books = ledger(table(1, task(sides=(Side.OLD,))))
    early = books.route("chat", Side.OLD, 101.0)
    books.obey(table(2), 105.0)
    books.route("chat", Side.NEW, 106.0).finish(Outcome.OK, 107.0, 0)
    early.finish(Outcome.OK, 108.0, 0)
    one, two = slices(books, 109.0)
    assert (one.generation, two.generation, one.start_ms, two.start_ms) == (1, 2, START_MS, START_MS)
    assert (one.side(Side.OLD).ok, set(one.sides), two.side(Side.NEW).ok, set(two.sides)) == (
        1,
        {Side.OLD},
        1,
        {Side.OLD, Side.NEW},
    )


def test_the_same_table_again_changes_nothing() -> None:
    """Watches repeat themselves."""
    books = ledger()
    books.route("chat", Side.OLD, 101.0)
    books.obey(table(), 102.0)
    books.route("chat", Side.OLD, 103.0)
    assert [each.side(Side.OLD).routed for each in slices(books, 104.0)] == [2]


def test_a_task_that_left_the_table_gets_no_further_slices() -> None:
    """Its old ones stay until they are read."""
    books = ledger()
    running = books.route("chat", Side.OLD, 101.0)
    books.obey(table(2, task("code")), 102.0)
    running.finish(Outcome.OK, 120.0, 0)
    assert [each.side(Side.OLD).ok for each in slices(books, 120.0)] == [1]
    assert len(slices(books, 120.0, "code")) == 2


def test_another_slice_length_takes_effect_at_once() -> None:
    """Tests shorten the time; the form of the feed is the same."""
    books = ledger()
    books.obey(table(2, slice_ms=500), 101.2)
    seen = slices(books, 101.8)
    assert [(each.start_ms - START_MS, each.length_ms) for each in seen] == [(0, 15_000), (1_000, 500), (1_500, 500)]


def test_the_last_forty_slice_times_are_kept() -> None:
    """Ten minutes; an operator that was away for longer has a gap, not a guess."""
    books = ledger()
    books.obey(table(2), 100.0)
    seen = slices(books, 100.0 + 15 * 50)
    assert len(seen) == KEPT == 40
    assert (seen[0].start_ms, seen[-1].start_ms) == (START_MS + 15_000 * 11, START_MS + 15_000 * 50)


def test_a_clock_that_is_set_back_opens_no_slice_twice() -> None:
    """Nothing may be added to a slice that was told to be over."""
    books = ledger()
    assert len(slices(books, 131.0)) == 3
    books.tick(132.0, START_MS + 2_000)
    books.route("chat", Side.OLD, 140.0)
    seen = slices(books, 141.0)
    assert [each.start_ms - START_MS for each in seen] == [0, 15_000, 30_000]
    assert [each.side(Side.OLD).routed for each in seen] == [0, 0, 1]


def test_a_clock_that_is_set_forward_is_followed() -> None:
    """Slices of several routers must meet again."""
    books = ledger()
    books.tick(101.0, START_MS + 31_000)
    assert [each.start_ms - START_MS for each in slices(books, 101.0)] == [0, 15_000, 30_000]


@given(st.lists(st.tuples(st.floats(0, 90), st.sampled_from(list(Side)), st.sampled_from([*Outcome, *Cause, None]))))
def test_the_feed_in_pieces_is_the_feed(attempts: list[tuple[float, Side, Ending | None]]) -> None:
    """The operator's strict reader takes what the router makes without building it twice, whatever was cached."""
    books = ledger()
    for after, side, ending in sorted(attempts, key=lambda each: each[0]):
        entry = books.route("chat", side, 100.0 + after)
        "".join(books.feed_text(100.0 + after))
        if ending:
            entry.finish(ending, 101.0 + after, 2, 3, 4)
    text = "".join(books.feed_text(200.0))
    assert text == books.feed(200.0).to_text()
    feed = Feed.from_text(text)
    tallies = [tally for each in feed.slices for tally in each.sides.values()]
    assert sum(tally.routed for tally in tallies) == len(attempts)
    assert sum(tally.open for tally in tallies) == sum(ending is None for _, _, ending in attempts)


def test_a_slice_is_made_into_text_again_only_when_something_was_booked() -> None:
    """A feed of forty slices must not cost forty each time."""
    books = ledger()
    books.tick(120.0, START_MS + 20_000)
    first, second = books.read(120.0).pages
    before = first.freeze(), second.freeze()
    books.route("chat", Side.OLD, 120.0)
    assert first.freeze() is before[0]
    assert second.freeze() is not before[1]
    assert first.text_of(before[0]) is first.text_of(before[0])


def test_prometheus_counts_the_same_attempts_by_model_and_operation() -> None:
    """One event, counted in one place for both readers."""
    meter = Meter()
    books = Ledger("pod/1", meter, 100.0, START_MS)
    books.obey(table(), 100.0)
    entry = books.route("chat", Side.OLD, 100.0)
    books.route("chat", Side.OLD, 100.0, "embeddings", stream=False).finish(Cause.TIMEOUT, 130.0, 0)
    assert meter.value(IN_FLIGHT, ("chat", "old")) == 1
    entry.first_token(100.5, 0)
    entry.finish(Outcome.OK, 102.5, 0, 1, 5)
    assert meter.value(IN_FLIGHT, ("chat", "old")) == 0
    assert meter.histogram(DURATION, (*LABELS, "")).sum == 2.5
    assert meter.histogram(FIRST_TOKEN, LABELS).sum == 0.5
    assert meter.histogram(PER_TOKEN, LABELS).sum == 0.5
    assert meter.histogram(DURATION, (*LABELS[:4], "embeddings", "timeout")).sum == 30.0


def test_a_fallback_is_in_prometheus_and_in_no_slice() -> None:
    """It is evidence for neither side."""
    meter = Meter()
    books = Ledger("pod/1", meter, 100.0, START_MS)
    books.obey(table(), 100.0)
    before = books.feed(101.0).slices
    entry = books.route_fallback("chat", backend("spare"), 101.0)
    entry.first_token(101.5, 0)
    entry.finish(Outcome.OK, 102.0, 0, 1, 2)
    assert books.feed(101.0).slices == before
    assert meter.value(FALLBACKS, ("chat", "model-spare")) == 1
    assert meter.histogram(DURATION, ("chat", "model-spare", "fallback", "llamacpp", "chat", "")).count == 1
