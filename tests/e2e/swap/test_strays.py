"""Swaps of what is not there: they wait and say for what; and with its pool a swap ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.serving.wishes import external, pool
from tests.e2e.swap.swaps import POLICY, Seen, swap
from tests.e2e.swap.upstream import upstream

if TYPE_CHECKING:
    from tests.e2e.serving.operators import Operators
    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]


def test_a_swap_waits_for_its_pool_and_ends_with_it(place: Place, hosts: Operators) -> None:
    """A folder may be applied in any order; and whoever deletes a pool leaves nothing that goes on for ever."""
    hosts.start()
    early, typo = Seen(place, "early"), Seen(place, "typo")
    with upstream() as models:
        place.apply(swap("early", "second", pool="late"))
        waiting = early.until(lambda status: status.get("reason") == "PoolNotFound", "says what it waits for")
        assert waiting["phase"] == "Waiting"
        assert "there is no ModelPool late in namespace" in waiting["message"]
        place.apply(POLICY, *(external(name, f"{models.address}/{name}", name) for name in ("first", "second")))
        place.apply(pool("late", "first", swapPolicy="seconds"))
        early.in_phase("Shifting")
        place.apply(swap("typo", "second", pool="late", task="chart"))
        told = typo.until(lambda status: status.get("reason") == "TaskNotFound", "says which tasks there are")
        assert told["message"] == "late has no task chart; its tasks are chat"
        place.delete("modelpool/late")
        ended = early.ended("Aborted")
        assert ended["reason"] == "Withdrawn"
        assert [each["phase"] for each in ended["history"]] == ["Preparing", "Shifting", "RollingBack", "Ended"]
        typo.until(lambda status: status.get("reason") == "PoolNotFound", "waits for the pool again")
