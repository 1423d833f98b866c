"""Asks the core what a pool, a model or a policy needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arbiter.core.plan import plan_model, plan_policy, plan_pool

if TYPE_CHECKING:
    from datetime import datetime

    from arbiter.core.actions import Plan
    from arbiter.core.snapshot import ModelSnapshot, PolicySnapshot, PoolSnapshot


class CorePlanning:
    """The core's decisions."""

    def pool(self, snapshot: PoolSnapshot, now: datetime) -> Plan:
        """Decide what a pool needs."""
        return plan_pool(snapshot, now)

    def model(self, snapshot: ModelSnapshot, now: datetime) -> Plan:
        """Decide what a LocalModel needs."""
        return plan_model(snapshot, now)

    def policy(self, snapshot: PolicySnapshot, now: datetime) -> Plan:
        """Decide what a SwapPolicy needs."""
        return plan_policy(snapshot, now)
