"""Joining slices of several routers into blocks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.core.blocks import Block, BlockRules, Cursor, Progress, next_block
from arbiter.core.feed import Feed
from arbiter.core.traffic import Cause, Slice, Tally
from arbiter.errors import CorruptStateError
from tests.unit.core.traffic_examples import MINUTE, one_slice, tallies, tally

if TYPE_CHECKING:
    from collections.abc import Mapping

RULES = BlockRules()
START = Cursor("chat", 0)


def feed(*slices: Slice, read_s: int = 600, epoch: str = "a") -> Feed:
    """What a router answered at that second."""
    return Feed(epoch, read_s * 1000, slices)


def busy(start_s: int, n: int = 5, epoch: str = "a", generation: int = 1, task: str = "chat") -> Slice:
    """A slice with n requests answered on each side."""
    return one_slice(start_s, epoch=epoch, generation=generation, task=task, old=tally(n), new=tally(n))


def look(
    feeds: Mapping[str, Feed | None], cursor: Cursor = START, *, now_s: int = 600, generation: int = 1
) -> Progress:
    """One look at the feeds."""
    return next_block(feeds, generation, cursor, now_s * 1000, RULES)


def test_a_block_closes_at_sixty_seconds_with_five_requests_on_each_side() -> None:
    """The first slice boundary at which both rules hold ends the block."""
    progress = look({"r": feed(*(busy(s, 2) for s in range(0, 120, 15)))})
    assert progress.block == Block(0, MINUTE, 1, tally(8), tally(8))
    assert progress.cursor == replace(START, consumed_to_ms=MINUTE, epochs={"r": "a"})
    again = look({"r": feed(*(busy(s, 2) for s in range(0, 120, 15)))}, progress.cursor)
    assert again.block == Block(MINUTE, 2 * MINUTE, 1, tally(8), tally(8))


@pytest.mark.parametrize(
    ("old", "new", "want_end_s"),
    [
        pytest.param(tally(9), tally(1), 75, id="one new request per slice needs five slices"),
        pytest.param(tally(1), tally(9), 75, id="one old request per slice needs five slices"),
        pytest.param(tally(9), tally(0, 2), 60, id="failures are requests"),
        pytest.param(tally(9), Tally(routed=2, rejected=2), 60, id="rejections are requests"),
    ],
)
def test_a_quiet_side_keeps_the_block_open(old: Tally, new: Tally, want_end_s: int) -> None:
    """A rule on counts and never on outcomes: a block cannot be ended by what it shows."""
    progress = look({"r": feed(*(one_slice(s, old=old, new=new) for s in range(0, 600, 15)))})
    assert progress.block
    assert progress.block.end_ms == want_end_s * 1000


def test_an_open_block_is_kept_in_the_cursor() -> None:
    """A quiet pool needs longer for a block than routers keep slices, so the part in hand is not lost."""
    cursor = START
    for start in range(0, 150, 15):
        progress = look({"r": feed(busy(start, 1) if start < 45 else one_slice(start))}, cursor)
        cursor = progress.cursor
        assert progress.block is None
    assert cursor.open_block == Block(0, 150_000, 1, tally(3), tally(3))
    progress = look({"r": feed(busy(150, 2))}, Cursor.from_text(cursor.to_text()))
    assert progress.block == Block(0, 165_000, 1, tally(5), tally(5))
    assert progress.cursor.gaps == 0


def test_slices_of_all_routers_are_joined() -> None:
    """A block holds what every router counted."""
    one = feed(*(busy(s, 1) for s in range(0, 60, 15)))
    two = feed(*(busy(s, 2, epoch="b") for s in range(0, 60, 15)), epoch="b")
    assert look({"one": one, "two": two}).block == Block(0, MINUTE, 1, tally(12), tally(12))


def test_other_tasks_are_not_mixed_in() -> None:
    """A block is about one task."""
    mixed = [busy(s, 2) for s in range(0, 60, 15)] + [busy(s, 7, task="code") for s in range(0, 60, 15)]
    assert look({"r": feed(*mixed)}).block == Block(0, MINUTE, 1, tally(8), tally(8))


@pytest.mark.parametrize(
    ("late", "want_missing"),
    [
        pytest.param(None, "no counts yet from late", id="not read yet"),
        pytest.param(feed(busy(0), read_s=14, epoch="b"), "no counts yet from late", id="its slice is not over"),
        pytest.param(
            feed(one_slice(0, epoch="b", new=tally(1, running=1)), epoch="b"), "still running", id="requests still run"
        ),
    ],
)
def test_what_is_not_complete_is_waited_for(late: Feed | None, want_missing: str) -> None:
    """Failures end early and long answers late, so a slice is judged only when all of it has ended."""
    progress = look({"r": feed(busy(0)), "late": late}, now_s=314)
    assert progress.block is None
    assert want_missing in progress.missing
    assert progress.cursor.consumed_to_ms == 0
    assert progress.cursor.gaps == 0


def test_after_the_deadline_open_requests_have_timed_out() -> None:
    """A slice whose requests never end is judged 300 s after its end, and they count as failed."""
    slices = [busy(s) for s in (0, 15, 30)] + [one_slice(45, old=tally(5), new=tally(1, running=2))]
    assert look({"r": feed(*slices)}, now_s=359).block is None
    found = look({"r": feed(*slices)}, now_s=360).block
    assert found
    assert found.new == Tally(routed=18, ok=16, failed={Cause.TIMEOUT: 2})


def test_after_the_deadline_a_router_that_does_not_answer_is_a_gap() -> None:
    """Counts that never came are not guessed from those that did."""
    progress = look({"r": feed(*(busy(s) for s in range(0, 60, 15))), "dead": None}, now_s=360)
    assert progress.block is None
    assert progress.cursor.consumed_to_ms == MINUTE
    assert progress.cursor.gaps == 1
    assert "no counts" not in progress.missing


@pytest.mark.parametrize(
    "second",
    [
        pytest.param([busy(0), busy(30), busy(45)], id="a slice is missing"),
        pytest.param([busy(0), busy(15, generation=2), busy(30), busy(45)], id="a slice of another generation"),
    ],
)
def test_a_gap_loses_the_open_block(second: list[Slice]) -> None:
    """A block is whole or it is not a block."""
    other = feed(*(replace(each, epoch="b") for each in second), epoch="b")
    progress = look({"one": feed(*(busy(s) for s in range(0, 60, 15))), "two": other})
    assert progress.block is None
    assert progress.cursor.gaps == 1
    assert progress.cursor.open_block == Block(30_000, MINUTE, 1, tally(20), tally(20))
    assert progress.cursor.hole_ms is None


def test_a_restarted_router_loses_the_open_block() -> None:
    """Counts of two lives are not one count: the block is dropped and a gap noted."""
    first = look({"r": feed(busy(0), busy(15))})
    assert first.cursor.open_block
    second = look({"r": feed(busy(45, epoch="b"), epoch="b")}, first.cursor)
    assert second.cursor.epochs == {"r": "b"}
    assert second.cursor.open_block == Block(45_000, MINUTE, 1, tally(5), tally(5))
    # One gap for the dropped block, one for the slice that nobody has.
    assert second.cursor.gaps == 2


def test_a_router_that_came_or_went_loses_the_open_block() -> None:
    """The same routers must have counted all of a block."""
    first = look({"r": feed(busy(0), busy(15))})
    for feeds in ({"r": feed(busy(30)), "new": feed(busy(30, epoch="b"), epoch="b")}, {"other": feed(busy(30))}):
        found = look({**feeds}, first.cursor).cursor
        assert found.gaps == 1
        assert found.open_block
        assert found.open_block.start_ms == 30_000


def test_a_router_that_could_not_be_read_keeps_its_life() -> None:
    """One failed scrape costs nothing: slices are cumulative."""
    first = look({"r": feed(busy(0), busy(15))})
    second = look({"r": None}, first.cursor)
    assert second.cursor == first.cursor
    third = look({"r": feed(*(busy(s) for s in range(0, 60, 15)))}, second.cursor)
    assert third.block == Block(0, MINUTE, 1, tally(20), tally(20))


def test_a_new_table_loses_the_open_block() -> None:
    """A block is about one set of weights; that the last one was cut short is no gap."""
    first = look({"r": feed(busy(0), busy(15))})
    second = look({"r": feed(busy(30, generation=2))}, first.cursor, generation=2)
    assert second.cursor.gaps == 0
    assert second.cursor.open_block == Block(30_000, 45_000, 2, tally(5), tally(5))


def test_time_under_an_earlier_table_is_passed_without_a_gap() -> None:
    """Slices still running when a step began are not judged under the next, and nothing fell silent."""
    late = [busy(s) for s in range(0, 300, 15)]
    changed = [busy(300), busy(300, generation=2), busy(315, generation=2)]
    progress = look({"r": feed(*late, *changed)}, generation=2)
    assert (progress.cursor.gaps, progress.cursor.hole_ms) == (0, None)
    assert progress.cursor.open_block == Block(300_000, 330_000, 2, tally(10), tally(10))
    other = feed(*(busy(s, epoch="b") for s in range(0, 330, 15)), busy(330, epoch="b", generation=2), epoch="b")
    both = {"r": feed(*late, *changed, busy(330, generation=2)), "late": other}
    found = look(both, generation=2)
    assert found.cursor.gaps == 0
    assert found.cursor.open_block == Block(330_000, 345_000, 2, tally(10), tally(10))


def test_an_older_table_than_the_open_block_is_a_gap() -> None:
    """Tables never go back; if one does, what was collected is lost."""
    first = look({"r": feed(busy(0, generation=2))}, generation=2)
    assert look({"r": feed()}, first.cursor, generation=1).cursor.gaps == 1


def test_a_long_hole_counts_one_gap_per_block() -> None:
    """Five lost minutes are five gaps, however long the slices are."""
    progress = look({"r": feed(*(busy(s, generation=2) for s in range(0, 300, 15)), busy(300))})
    assert progress.cursor.gaps == 5
    stepwise = START
    for start in range(0, 300, 15):
        stepwise = look({"r": feed(busy(start, generation=2))}, stepwise).cursor
    assert (stepwise.gaps, stepwise.hole_ms) == (5, 0)


def test_time_that_no_router_kept_is_a_gap() -> None:
    """An operator that was away longer than routers remember has lost that time."""
    first = look({"r": feed(busy(0), busy(15))})
    progress = look({"r": feed(busy(600), read_s=700)}, first.cursor)
    assert progress.cursor.gaps == 10
    assert progress.cursor.consumed_to_ms == 615_000


def test_a_swap_may_begin_between_two_slices() -> None:
    """What is shorter than a slice is no gap."""
    progress = look({"r": feed(busy(0), busy(15))}, Cursor("chat", 7_000))
    assert progress.cursor.gaps == 0
    assert progress.cursor.open_block == Block(15_000, 30_000, 1, tally(5), tally(5))


def test_nothing_to_consume_says_so() -> None:
    """Whoever waits is told for what."""
    assert look({}).missing == "every slice that was read is consumed"
    assert look({"r": None}).missing == "every slice that was read is consumed"


@given(tallies, tallies, st.none() | st.integers(0, 10**12), st.integers(0, 99))
def test_a_cursor_reads_back_exactly(old: Tally, new: Tally, hole_ms: int | None, gaps: int) -> None:
    """The part in hand survives a restart bit for bit."""
    for open_block in (None, Block(0, 45_000, 3, old, new)):
        cursor = Cursor("chat", 45_000, {"b": "2", "a": "1"}, open_block, gaps, hole_ms)
        assert Cursor.from_text(cursor.to_text()) == cursor


@pytest.mark.parametrize(
    ("change", "want_path"),
    [
        pytest.param({"version": 0}, "cursor.version is 0", id="another version"),
        pytest.param({"gaps": -1}, "cursor.gaps", id="a negative count"),
        pytest.param({"holeMs": ["x"]}, "cursor.holeMs", id="a time that is none"),
        pytest.param({"epochs": {"r": 1}}, "cursor.epochs.r", id="an epoch that is no text"),
        pytest.param({"block": [{}]}, "cursor.block.times is missing", id="half a block"),
        pytest.param({"more": 1}, "unknown fields: more", id="an unknown field"),
    ],
)
def test_any_other_cursor_is_refused(change: dict[str, object], want_path: str) -> None:
    """What does not read back is told with its place."""
    fields = json.loads(Cursor("chat", 0).to_text())
    with pytest.raises(CorruptStateError, match=want_path):
        Cursor.from_text(json.dumps({**fields, **change}))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_every_request_lands_in_one_block_however_often_one_looks(counts: list[tuple[int, int, int]]) -> None:
    """Looking after every slice and looking once at the end give the same blocks, and no request twice."""
    slices = [one_slice(15 * i, old=tally(old, bad), new=tally(new, bad)) for i, (old, new, bad) in enumerate(counts)]

    def collect(cursor: Cursor, upto: int) -> tuple[list[Block], Cursor]:
        found = []
        while (progress := look({"r": feed(*slices[:upto])}, cursor)).block:
            found.append(progress.block)
            cursor = progress.cursor
        return found, progress.cursor

    at_once, end = collect(START, len(slices))
    often: list[Block] = []
    cursor = START
    for upto in range(1, len(slices) + 1):
        found, cursor = collect(Cursor.from_text(cursor.to_text()), upto)
        often += found
    assert often == at_once
    assert cursor == end
    blocks = [*at_once, *([end.open_block] if end.open_block else [])]
    assert sum(each.new.routed for each in blocks) == sum(new + bad for _, new, bad in counts)
