"""Whatever is seen, in whatever order, a swap keeps its promises.

Every sequence of looks is drawn by chance: both sides come and go, routers obey or do not, people change their minds,
the evidence says anything, and time passes or stands still.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arbiter.api.modelswap import Intent, Outcome, Phase, Stage
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.api.swappolicy import Strategy
from arbiter.core.swap import advance
from arbiter.core.swap_flight import Flight
from arbiter.core.swap_seen import Checked, Choice, SideSeen, SwapSeen
from arbiter.core.swap_table import TABLE, Event, IllegalTransitionError, diagram, follow
from tests.unit.core.swap_examples import BOTH, CLOSED, CRASHES, ONE, OPEN, SERVES, START, judged, swap

ROOT = Path(__file__).parents[3]
JUDGED = (
    ReasonCode.RegressionProven,
    ReasonCode.EqualOrBetterProven,
    ReasonCode.EvidenceUndecided,
    ReasonCode.MetricsUnavailable,
)

SIDES = st.builds(
    SideSeen,
    st.just(SERVES),
    ready=st.integers(0, 2),
    proved=st.booleans(),
    broken=st.sampled_from([None, None, None, CRASHES]),
    idle=st.sampled_from([None, True, False]),
)
NONE = Choice(None, Reason(ReasonCode.NoRoom, "no room"))
GONE = Reason(ReasonCode.Withdrawn, "the task chat is gone")
OTHER = Reason(ReasonCode.Superseded, "another request takes its place")
FAILED = Reason(ReasonCode.ChecksFailed, "gemma3 failed all checks")
RARELY: list[None] = [None] * 12

LOOKS = st.builds(
    SwapSeen,
    old=SIDES,
    new=SIDES,
    choice=st.sampled_from([BOTH, BOTH, ONE, NONE, replace(NONE, may_change=True)]),
    window=st.sampled_from([OPEN, OPEN, OPEN, CLOSED]),
    intent=st.sampled_from([Intent.Run] * 12 + [Intent.Pause, Intent.Promote, Intent.Abort]),
    replicas=st.integers(1, 2),
    is_active=st.sampled_from([False] * 20 + [True]),
    withdrawn=st.sampled_from([*RARELY, GONE]),
    superseded=st.sampled_from([*RARELY, OTHER]),
    obeyed=st.booleans(),
    checks=st.sampled_from(
        [
            None,
            None,
            Checked(done=False, told="some"),
            Checked(done=True, told="all"),
            Checked(done=True, told="all", worse=FAILED),
        ]
    ),
    judgement=st.sampled_from([None, *map(judged, JUDGED)]),
    first_failed=st.sampled_from([0] * 12 + [12]),
)
FLIGHTS = st.lists(st.tuples(LOOKS, st.sampled_from([0, 1, 29, 61, 300])), min_size=1, max_size=40)
STARTS = st.builds(swap, analysed=st.booleans())

Step = tuple[Flight, SwapSeen, Flight]


def flown(first: Flight, looks: list[tuple[SwapSeen, int]]) -> list[Step]:
    """Give what each look changed: before, what was seen, and after."""
    flight, now, steps = first, START, []
    for seen, seconds in looks:
        now += timedelta(seconds=seconds)
        after = advance(flight, seen, now)
        steps.append((flight, seen, after))
        flight = after
    return steps


@settings(max_examples=400)
@given(STARTS, FLIGHTS)
def test_each_move_is_an_arrow_of_the_table(first: Flight, looks: list[tuple[SwapSeen, int]]) -> None:
    """No look raises, none moves by more than one arrow, and what has ended stays as it ended."""
    for before, _, after in flown(first, looks):
        if before.ended:
            assert after == before
        if after.phase is not before.phase:
            assert after.phase in {arrow.to for (phase, _), arrow in TABLE.items() if phase is before.phase}
            assert len(after.history) == len(before.history) + 1


@settings(max_examples=400)
@given(STARTS, FLIGHTS)
def test_requests_go_only_to_what_can_answer_them(first: Flight, looks: list[tuple[SwapSeen, int]]) -> None:
    """The new side's weight rises only while it serves; and unless the old side is dead, only if routers obey."""
    for before, seen, after in flown(first, looks):
        if after.weight <= before.weight:
            continue
        assert seen.new.serves
        stranded = after.phase is Phase.RollingBack
        commanded = seen.intent is Intent.Promote or not before.analysed
        assert stranded or commanded or before.phase is Phase.Preparing or seen.obeyed
        if stranded:
            assert not seen.old.ready


@settings(max_examples=400)
@given(STARTS, FLIGHTS)
def test_nothing_rises_in_a_closed_window(first: Flight, looks: list[tuple[SwapSeen, int]]) -> None:
    """But for commands, for going back to what was active, and for rollbacks."""
    for before, seen, after in flown(first, looks):
        commanded = seen.intent is Intent.Promote or not before.analysed
        if after.weight > before.weight and not commanded and after.phase is not Phase.RollingBack:
            assert seen.window.open or after.stage is Stage.NewAlone


@settings(max_examples=400)
@given(STARTS, FLIGHTS)
def test_the_old_side_stays_whole_until_the_new_one_serves(first: Flight, looks: list[tuple[SwapSeen, int]]) -> None:
    """Side by side its engine is always there; in place it goes once idle, or once requests have waited long enough."""
    for before, seen, after in flown(first, looks):
        if after.strategy is not Strategy.OneAtATime:
            assert after.stage is Stage.Shared
        elif before.stage.has_old and not after.stage.has_old:
            assert before.stage is Stage.ClearingOld
            assert seen.obeyed
        if after.stage is Stage.NewAlone and before.stage is not Stage.NewAlone:
            assert seen.new.serves


@settings(max_examples=400)
@given(STARTS, FLIGHTS)
def test_it_is_promoted_only_when_routers_obey(first: Flight, looks: list[tuple[SwapSeen, int]]) -> None:
    """Every live router sends nearly everything to the new side by then, or the pool says so already."""
    for before, seen, after in flown(first, looks):
        if after.outcome is Outcome.Promoted and not before.ended:
            assert seen.is_active or (seen.obeyed and before.weight >= 98)
            assert before.phase is not Phase.RollingBack


@settings(max_examples=400)
@given(STARTS, FLIGHTS)
def test_a_way_back_leads_to_the_old_side(first: Flight, looks: list[tuple[SwapSeen, int]]) -> None:
    """What ended otherwise than promoted leaves the old side with everything, and says why as it was decided."""
    steps = flown(first, looks)
    ended = next((after for _, _, after in steps if after.ended and after.outcome is not Outcome.Promoted), None)
    if ended is None:
        return
    assert (ended.weight, ended.stage) == (0, Stage.Shared)
    returns = [begun for begun in ended.history if begun.phase is Phase.RollingBack]
    assert not returns or ended.reason == returns[0].reason


@settings(max_examples=200)
@given(STARTS, FLIGHTS)
def test_a_look_that_is_repeated_changes_little(first: Flight, looks: list[tuple[SwapSeen, int]]) -> None:
    """With the same seen at the same moment a swap comes to rest: no pass goes on for ever."""
    steps = flown(first, looks)
    seen, flight = replace(steps[-1][1], obeyed=False), steps[-1][2]
    for _ in range(12):
        after = advance(flight, seen, START)
        if after == flight:
            return
        flight = after
    raise AssertionError(flight)


@settings(max_examples=200)
@given(STARTS, FLIGHTS)
def test_times_of_its_phases_never_go_back(first: Flight, looks: list[tuple[SwapSeen, int]]) -> None:
    """History is written forwards."""
    history = flown(first, looks)[-1][2].history
    assert all(one.at <= two.at for one, two in pairwise(history))


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", Event)
def test_an_event_without_an_arrow_changes_nothing(phase: Phase, event: Event) -> None:
    """It raises, and names both."""
    flight: Any = swap(phase=phase)
    if (phase, event) in TABLE:
        assert flight.moved(event, SERVES, START).phase is follow(phase, event).to
        return
    with pytest.raises(IllegalTransitionError, match=f"{phase} knows no {event}"):
        flight.moved(event, SERVES, START)


def test_the_diagram_shows_every_arrow() -> None:
    """It is drawn from the table, so nobody has to keep the two together."""
    lines = diagram().splitlines()
    assert len(lines) == len(TABLE) + 2
    assert "    Shifting --> RollingBack: Regressed" in lines
    assert "    Watching --> [*]: Promoted (Promoted)" in lines
    assert diagram() in (ROOT / "docs" / "swaps.md").read_text()
