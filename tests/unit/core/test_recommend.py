"""When a task changes its model by itself, to which, and what keeps it from changing to and fro."""

from __future__ import annotations

import random  # noqa: TID251  the noise of a simulated week, with a seed
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from arbiter.api.modelpool import Needs
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.api.swappolicy import Rollback
from arbiter.core.choose import Contest, Entrant, Known, choose
from arbiter.core.recommend import TRIES_A_DAY, Case, Cause, Failed, Past, recommend, tried_again_at
from arbiter.core.swap_seen import Opening

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
A, B, C = "aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"
SOME = Known(
    samples=100,
    success_rate=0.99,
    quality=0.8,
    judgements=50,
    first_token_s=0.3,
    per_token_s=0.02,
    memory=1 << 30,
    age_s=0,
)


def case(active: dict[str, Any], *others: Entrant, min_quality: float | None = None, **facts: Any) -> Case:  # noqa: ANN401  facts of a case
    """Give a case in which the first model serves, with some of what is known of it changed."""
    entrants = [Entrant("old", A, replace(SOME, **active), active=True), *others]
    selection = choose(Contest("chat"), entrants)
    return Case("chat", selection, needs=Needs(min_quality=min_quality), **facts)


def other(name: str = "new", revision: str = B, **known: Any) -> Entrant:  # noqa: ANN401  what is known of a model
    """Give another model, known as well as the active one."""
    return Entrant(name, revision, replace(SOME, **known))


UNTRIED = Entrant("new", B)
CLOSED = Opening(
    open=False, reason=Reason(ReasonCode.WindowClosed, "nights opens at 22:00"), changes_at=NOW + 10 * HOUR
)


@pytest.mark.parametrize(
    ("given", "cause", "told"),
    [
        pytest.param(
            case({"success_rate": 0.7}, other()), Cause.FAILING,
            "old answers 70.0% of its requests for chat, below 80%: change to new, which scores 0.83", id="it fails",
        ),
        pytest.param(
            case({"success_rate": 0.7}, UNTRIED), Cause.FAILING,
            "old answers 70.0% of its requests for chat, below 80%: change to new, of which little is known yet",
            id="it fails, and the other one is new",
        ),
        pytest.param(
            case({"quality": 0.4}, other(quality=0.45), min_quality=0.6), Cause.POOR,
            "the answers of old for chat are worth 0.40, below 0.54: change to new, which scores 0.69", id="it is poor",
        ),
        pytest.param(
            case({"quality": 0.6}, other()), Cause.BETTER, "new scores 0.83 for chat and old 0.75: change to new",
            id="another one is better",
        ),
        pytest.param(
            case({}, UNTRIED, roomy=frozenset({B})), Cause.UNTRIED,
            "new was never tried for chat, and there is room for it beside old", id="another one is new and has room",
        ),
    ],
)  # fmt: skip
def test_what_speaks_for_a_change(given: Case, cause: Cause, told: str) -> None:
    """With the figures that did."""
    found = recommend(given, NOW)
    assert (found.cause, found.reason.message, found.due, found.blocked) == (cause, told, NOW, None)
    assert found.to is not None
    assert found.to.entrant.model == "new"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param(case({}, other()), "no other model is better by 0.05; next is new with 0.83", id="a tie"),
        pytest.param(case({"samples": 9}, other()), "9 requests of at least 10 have been seen", id="too few requests"),
        pytest.param(case({}), "no other model comes into question", id="nobody else"),
        pytest.param(case({}, UNTRIED), "no other model is better by 0.05; next is new with 0.50", id="no room"),
        pytest.param(
            case({"quality": 0.6}, other(), past=(Past(frozenset({A, B}), NOW - 23 * HOUR),)),
            "new changed places with it within a day", id="the pair rests",
        ),
    ],
)  # fmt: skip
def test_what_keeps_the_active_one(given: Case, told: str) -> None:
    """It is said why."""
    found = recommend(given, NOW)
    assert found.reason == Reason(ReasonCode.NothingBetter, f"old stays for chat: {told}")
    assert (found.to, found.cause, found.due) == (None, None, None)


def test_the_pair_rests_for_a_day_and_not_when_the_active_one_fails() -> None:
    """A failure is no noise."""
    past = (Past(frozenset({A, B}), NOW - 23 * HOUR),)
    assert recommend(case({"success_rate": 0.1}, other(), past=past), NOW).cause is Cause.FAILING
    assert recommend(case({"quality": 0.6}, other(), past=past), NOW + HOUR).cause is Cause.BETTER


def test_what_failed_is_left_alone_longer_each_time() -> None:
    """Six hours, then twelve, and at most two days; another model is taken meanwhile."""
    rollback = Rollback()
    hours = [(tried_again_at(Failed(NOW, times), rollback) - NOW) / HOUR for times in (1, 2, 3, 4, 5, 500)]
    assert hours == [6, 12, 24, 48, 48, 48]
    given = case({"quality": 0.5}, other(quality=0.9), other("third", C), failed={B: Failed(NOW - 5 * HOUR)})
    found = recommend(given, NOW)
    assert found.to is not None
    assert found.to.entrant.model == "third"
    later = recommend(given, NOW + HOUR)
    assert later.to is not None
    assert later.to.entrant.model == "new"


@pytest.mark.parametrize(
    ("facts", "due", "blocked"),
    [
        pytest.param(
            {"past": (Past(frozenset({A, C}), NOW - timedelta(minutes=2)),)}, NOW + timedelta(minutes=3),
            "the last swap of chat ended at 11:58, and cooldown is 5m", id="cooldown",
        ),
        pytest.param(
            {"past": tuple(Past(frozenset({A, C}), NOW - (hour + 1) * HOUR) for hour in range(TRIES_A_DAY))},
            NOW + (24 - TRIES_A_DAY) * HOUR,
            "5 swaps of chat were begun by Arbiter within a day, which is as many as it may",
            id="tries of a day",
        ),
        pytest.param(
            {"window": CLOSED},
            NOW + 10 * HOUR, "nights opens at 22:00", id="window",
        ),
    ],
)  # fmt: skip
def test_what_a_change_waits_for(facts: dict[str, Any], due: datetime, blocked: str) -> None:
    """It is recommended all the same, with the time at which it may begin."""
    found = recommend(case({"quality": 0.6}, other(), **facts), NOW)
    assert found.cause is Cause.BETTER
    assert found.due == due
    assert found.blocked is not None
    assert found.blocked.message == blocked


def test_nothing_is_recommended_where_nothing_serves() -> None:
    """The selection says why."""
    selection = choose(Contest("chat"), [])
    assert recommend(Case("chat", selection), NOW).reason.message.startswith(
        "nothing serves chat that could be compared"
    )


@pytest.mark.parametrize("seed", range(20))
def test_equals_never_change_places_twice_in_a_day(seed: int) -> None:
    """A week in which both models' scores wander by more than the margin, looked at every five minutes."""
    chance, active = random.Random(seed), 0  # noqa: S311  noise, no secret
    past: list[Past] = []
    quality = [0.8, 0.8]
    for step in range(7 * 24 * 12):
        now = NOW + step * timedelta(minutes=5)
        quality = [min(max(each + chance.gauss(0, 0.05) + 0.1 * (0.8 - each), 0.0), 1.0) for each in quality]
        entrants = [
            Entrant(name, revision, replace(SOME, quality=quality[side]), active=side == active)
            for side, (name, revision) in enumerate((("one", A), ("two", B)))
        ]
        found = recommend(Case("chat", choose(Contest("chat"), entrants), past=tuple(past)), now)
        if found.to is not None and found.blocked is None:
            active = 1 - active
            past.append(Past(frozenset({A, B}), now))
    gaps = [after.ended_at - before.ended_at for before, after in pairwise(past)]
    assert all(gap >= timedelta(days=1) for gap in gaps)
    assert past, "the noise is beyond the margin, or nothing is tested here"
