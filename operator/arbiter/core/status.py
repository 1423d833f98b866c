"""Decides what the conditions of an object say, and whether that is worth a write.

The rule: `lastTransitionTime` moves only when a status changes; conditions that stand only while they are True are
taken away when things are normal again; and when nothing changed the caller gets back the very tuple that it gave,
so `is` tells it that there is nothing to write. Every condition of every kind is set here.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from arbiter.api.meta import Condition, ConditionStatus
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from datetime import datetime

    from arbiter.api.reasons import ConditionType, Reason


def find_condition(conditions: tuple[Condition, ...], about: ConditionType) -> Condition | None:
    """Give the condition of one type, if it stands."""
    return next((condition for condition in conditions if condition.type == about), None)


def with_condition(  # noqa: PLR0913 - the six things that a condition says, all named
    conditions: tuple[Condition, ...],
    *,
    type: ConditionType,  # noqa: A002 - the word that Kubernetes uses, and every caller names it
    status: ConditionStatus,
    reason: Reason,
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    """Set one condition, sorted among the others by type.

    Args:
        conditions: those that stand.
        type: which to set.
        status: whether it holds.
        reason: why.
        generation: `metadata.generation` of the spec that this was found for.
        now: the time; it is kept in whole seconds, as Kubernetes stores it.

    Returns:
        The conditions with this one, or the given tuple itself if this one already says the same.

    Raises:
        CorruptStateError: the standing condition is about a newer generation. Either the spec in hand is stale, and
            to write would undo what a later pass found out; or the status belongs to an object that was replaced,
            and the caller starts from no conditions. Which of the two it is cannot be seen here.
        ValueError: `now` has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError("now must have a time zone")
    before = find_condition(conditions, type)
    _refuse_older(before, generation)
    since = now.astimezone(UTC).replace(microsecond=0)
    if before is not None and before.status == status:
        since = before.last_transition_time
    after = Condition(
        type=type.value,
        status=status,
        observed_generation=generation,
        last_transition_time=since,
        reason=reason.code.value,
        message=reason.message,
    )
    if after == before:
        return conditions
    return _sorted((*without_condition(conditions, type), after))


def with_abnormality(
    conditions: tuple[Condition, ...],
    *,
    type: ConditionType,  # noqa: A002 - as in `with_condition`
    reason: Reason | None,
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    """Set a condition that stands only while it is True, or take it away when there is no `reason` for it.

    kstatus and Helm read the mere presence of `Stalled: False` correctly, but people do not: what is normal is left
    unsaid.

    Raises:
        ValueError: the type is one that always stands, such as Ready.
        CorruptStateError: as `with_condition`.
    """
    if not type.stands_only_while_true:
        raise ValueError(f"{type} always stands: give its status to with_condition")
    if reason is None:
        _refuse_older(find_condition(conditions, type), generation)
        return without_condition(conditions, type)
    return with_condition(
        conditions, type=type, status=ConditionStatus.TRUE, reason=reason, generation=generation, now=now
    )


def without_condition(conditions: tuple[Condition, ...], about: ConditionType) -> tuple[Condition, ...]:
    """Take a condition away; the given tuple itself if it does not stand."""
    if find_condition(conditions, about) is None:
        return conditions
    return tuple(condition for condition in conditions if condition.type != about)


def _refuse_older(before: Condition | None, generation: int) -> None:
    """Stop a pass that would let a condition go back to an older spec."""
    if before is None or before.observed_generation is None:
        return
    if generation < before.observed_generation:
        raise CorruptStateError(
            f"condition {before.type} was found for generation {before.observed_generation}, but the spec in hand is "
            f"generation {generation}: read the object again, and if it says the same, its status is that of a "
            "replaced object"
        )


def _sorted(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    return tuple(sorted(conditions, key=lambda condition: condition.type))
