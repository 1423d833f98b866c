"""Plans one pass over a SwapPolicy: say who uses it, and whether it can be followed.

Rule: what the API server cannot judge is judged here once, where the policy's owner sees it, and not first when a swap
needs it: whether a window's day and time zone exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arbiter.api.meta import ConditionStatus
from arbiter.api.reasons import ConditionType, Reason, ReasonCode
from arbiter.api.swappolicy import SwapPolicyStatus
from arbiter.core.actions import Plan, WriteStatus
from arbiter.core.status import with_abnormality, with_condition
from arbiter.core.windows import window_at
from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from datetime import datetime

    from arbiter.core.snapshot import PolicySnapshot

_MOST_POOLS: Final = 256
"""Pools that a status names as users of a policy."""


def plan_policy(snapshot: PolicySnapshot, now: datetime) -> Plan:
    """Plan one pass over a SwapPolicy."""
    policy, metadata = snapshot.policy, snapshot.policy.metadata
    if metadata.deletion_timestamp is not None:
        return Plan()
    problem = _problem(snapshot, now)
    reason = problem or Reason(ReasonCode.PolicyValid, "the policy can be followed")
    conditions = with_condition(
        policy.status.conditions,
        type=ConditionType.Ready,
        status=ConditionStatus.TRUE if problem is None else ConditionStatus.FALSE,
        reason=reason,
        generation=metadata.generation,
        now=now,
    )
    status = SwapPolicyStatus(
        observed_generation=metadata.generation,
        conditions=with_abnormality(
            conditions, type=ConditionType.Stalled, reason=problem, generation=metadata.generation, now=now
        ),
        pools=snapshot.pools[:_MOST_POOLS],
        pool_count=len(snapshot.pools),
    )
    if status.to_dict() == policy.status.to_dict():
        return Plan()
    return Plan((WriteStatus("SwapPolicy", metadata.name, metadata.resource_version, status.to_dict()),))


def _problem(snapshot: PolicySnapshot, now: datetime) -> Reason | None:
    try:
        window_at(snapshot.policy.spec.windows, now)
    except InvalidInputError as error:
        return Reason(ReasonCode.PolicyInvalid, f"{error}; until then no swap that it rules begins")
    return None
