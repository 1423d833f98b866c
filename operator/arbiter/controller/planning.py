"""Asks the core what a pool, a model or a policy needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arbiter.core.plan import plan_model, plan_policy, plan_pool, plan_stray_swaps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from arbiter.api.modelswap import ModelSwap
    from arbiter.core.actions import Plan
    from arbiter.core.snapshot import ModelSnapshot, PolicySnapshot, PoolSnapshot


class CorePlanning:
    """The core's decisions."""

    def pool(self, snapshot: PoolSnapshot, now: datetime) -> Plan:
        """Decide what a pool needs."""
        return plan_pool(snapshot, now)

    def strays(self, swaps: Sequence[ModelSwap], now: datetime) -> Plan:
        """Decide what becomes of swaps whose pool is not there."""
        return plan_stray_swaps(swaps, now)

    def model(self, snapshot: ModelSnapshot, now: datetime) -> Plan:
        """Decide what a LocalModel needs."""
        return plan_model(snapshot, now)

    def policy(self, snapshot: PolicySnapshot, now: datetime) -> Plan:
        """Decide what a SwapPolicy needs."""
        return plan_policy(snapshot, now)
