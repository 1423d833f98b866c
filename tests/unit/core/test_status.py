"""Conditions: when their times move, when nothing is written, and what is left unsaid."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.api.meta import Condition, ConditionStatus
from arbiter.api.reasons import ConditionType, Reason, ReasonCode
from arbiter.core.status import find_condition, with_abnormality, with_condition, without_condition
from arbiter.errors import CorruptStateError

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
EARLIER = NOW - timedelta(hours=1)
OPEN = Reason(ReasonCode.WindowOpen, "inside 'nightly'")
CLOSED = Reason(ReasonCode.WindowClosed, "outside of all windows")

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


def condition(
    about: ConditionType = ConditionType.Ready,
    status: ConditionStatus = TRUE,
    reason: Reason = OPEN,
    generation: int | None = 3,
    since: datetime = EARLIER,
) -> Condition:
    """Build a condition that has stood for an hour."""
    return Condition(
        type=about.value,
        status=status,
        observed_generation=generation,
        last_transition_time=since,
        reason=reason.code.value,
        message=reason.message,
    )


def set_ready(
    conditions: tuple[Condition, ...],
    status: ConditionStatus = TRUE,
    reason: Reason = OPEN,
    generation: int = 3,
    now: datetime = NOW,
) -> tuple[Condition, ...]:
    """Set Ready."""
    return with_condition(
        conditions, type=ConditionType.Ready, status=status, reason=reason, generation=generation, now=now
    )


def test_the_first_condition_starts_now() -> None:
    """A condition that did not stand begins at `now` and says all that Kubernetes asks of one."""
    assert set_ready(()) == (condition(since=NOW),)


@pytest.mark.parametrize(
    ("status", "reason", "generation", "want_since"),
    [
        pytest.param(TRUE, CLOSED, 3, EARLIER, id="another reason keeps the time"),
        pytest.param(TRUE, OPEN, 4, EARLIER, id="another generation keeps the time"),
        pytest.param(FALSE, OPEN, 3, NOW, id="another status moves the time"),
        pytest.param(UNKNOWN, CLOSED, 4, NOW, id="to unknown moves the time"),
    ],
)
def test_only_the_status_moves_the_time(
    status: ConditionStatus, reason: Reason, generation: int, want_since: datetime
) -> None:
    """`lastTransitionTime` says when the status changed, not when somebody looked."""
    want_condition = condition(status=status, reason=reason, generation=generation, since=want_since)
    assert set_ready((condition(),), status, reason, generation) == (want_condition,)


def test_nothing_new_gives_the_very_same_tuple() -> None:
    """A caller can tell by `is` that there is nothing to write, even where the order is not ours."""
    before = (condition(ConditionType.Stalled), condition())
    assert set_ready(before) is before


def test_times_are_whole_seconds_in_utc() -> None:
    """Kubernetes stores whole seconds: a finer time would differ from what is read back, for ever."""
    now = datetime(2026, 11, 21, 14, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
    (ready,) = set_ready((), now=now)
    assert ready.to_dict()["lastTransitionTime"] == "2026-11-21T12:00:00Z"
    assert set_ready((Condition.model_validate(ready.to_dict()),), now=now) == (ready,)


def test_others_stay_and_all_are_sorted() -> None:
    """Conditions stand in the order of their types, whatever order they came in."""
    degraded, stalled = condition(ConditionType.Degraded), condition(ConditionType.Stalled, FALSE)
    assert set_ready((stalled, degraded), now=EARLIER) == (degraded, condition(), stalled)


def test_a_newer_generation_is_not_overwritten_by_an_older() -> None:
    """A pass over a stale spec stops, instead of undoing in silence what a later one found out."""
    want_message = (
        r"^condition Ready was found for generation 4, but the spec in hand is generation 3: read the object again, "
        r"and if it says the same, its status is that of a replaced object$"
    )
    with pytest.raises(CorruptStateError, match=want_message):
        set_ready((condition(generation=4),), FALSE, generation=3)


def test_a_condition_without_generation_can_be_set() -> None:
    """What another writer left without a generation is no obstacle."""
    assert set_ready((condition(generation=None),)) == (condition(),)


def test_another_condition_of_a_newer_generation_is_no_obstacle() -> None:
    """Only the condition that is set is compared."""
    newer = condition(ConditionType.Resolved, generation=9)
    assert set_ready((newer,), now=EARLIER) == (condition(), newer)


def test_now_needs_a_zone() -> None:
    """A time without a zone could mean any instant."""
    with pytest.raises(ValueError, match=r"^now must have a time zone$"):
        set_ready((), now=datetime(2026, 11, 21))  # noqa: DTZ001 - what is refused here


def test_find() -> None:
    """A condition is found by its type, or not at all."""
    ready, stalled = condition(), condition(ConditionType.Stalled)
    assert find_condition((ready, stalled), ConditionType.Stalled) is stalled
    assert find_condition((ready,), ConditionType.Stalled) is None


def test_without() -> None:
    """A condition is taken away, and the very same tuple comes back where there was none."""
    before = (condition(), condition(ConditionType.Stalled))
    assert without_condition(before, ConditionType.Stalled) == (condition(),)
    assert without_condition(before, ConditionType.Degraded) is before


ABNORMAL = [
    ConditionType.Degraded,
    ConditionType.Stalled,
    ConditionType.Reconciling,
    ConditionType.SwapProgressing,
    ConditionType.UnsafeIsolation,
]


@pytest.mark.parametrize("about", ABNORMAL)
def test_what_is_normal_is_left_unsaid(about: ConditionType) -> None:
    """Such a condition stands with a reason, as True, and goes when the reason does."""
    normal = (condition(),)
    abnormal = with_abnormality(normal, type=about, reason=CLOSED, generation=5, now=NOW)
    assert find_condition(abnormal, about) == condition(about, TRUE, CLOSED, 5, NOW)
    assert with_abnormality(abnormal, type=about, reason=None, generation=5, now=NOW) == normal
    assert with_abnormality(normal, type=about, reason=None, generation=5, now=NOW) is normal


def test_a_stale_pass_does_not_call_a_newer_spec_normal() -> None:
    """To take a condition away is to write, and an older spec may not."""
    before = (condition(ConditionType.Stalled, generation=4),)
    with pytest.raises(CorruptStateError, match=r"^condition Stalled was found for generation 4"):
        with_abnormality(before, type=ConditionType.Stalled, reason=None, generation=3, now=NOW)


@pytest.mark.parametrize("about", sorted(set(ConditionType) - set(ABNORMAL)))
def test_what_always_stands_is_never_left_unsaid(about: ConditionType) -> None:
    """Ready and Resolved are not taken away: a wait on a condition that is absent hangs."""
    with pytest.raises(ValueError, match=rf"^{about} always stands: give its status to with_condition$"):
        with_abnormality((), type=about, reason=None, generation=1, now=NOW)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(ConditionType),
        st.sampled_from(ConditionStatus),
        st.sampled_from([OPEN, CLOSED]),
        st.integers(0, 2),
    ),
    max_size=20,
)


@given(STEPS)
def test_any_history_leaves_one_sorted_condition_of_each_type(
    steps: list[tuple[ConditionType, ConditionStatus, Reason, int]],
) -> None:
    """Each type stands once, in order, and a second pass over the same facts changes nothing."""
    conditions: tuple[Condition, ...] = ()
    generation = 0
    for minute, (about, status, reason, edits) in enumerate(steps):
        generation += edits
        now = NOW + timedelta(minutes=minute)
        conditions = with_condition(
            conditions, type=about, status=status, reason=reason, generation=generation, now=now
        )
        again = with_condition(
            conditions, type=about, status=status, reason=reason, generation=generation, now=now + timedelta(days=1)
        )
        assert again is conditions
    types = [one.type for one in conditions]
    assert types == sorted({about for about, *_ in steps})
