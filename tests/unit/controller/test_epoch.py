"""The epoch: above all that was obeyed, risen again when a router is further, and never after the lead was lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from arbiter.controller.answers import Fence
from arbiter.controller.epoch import Epoch
from arbiter.core.routes import Limits, RouteTable
from arbiter.errors import DeposedError, UnreachableError
from tests.unit.controller.cluster_objects import POOL

TABLE = RouteTable(epoch=4, generation=9, slice_ms=15000, tasks={}, limits=Limits(), auth=None)


async def _leading() -> None:
    """We lead."""


async def _risen(*found: int) -> Epoch:
    epoch = Epoch(_leading)
    await epoch.rise(found)
    return epoch


@pytest.mark.parametrize(
    ("found", "want_epoch"),
    [
        pytest.param([], 1, id="a new cluster"),
        pytest.param([3, 3], 4, id="above every table"),
        pytest.param([3, 9, 5], 10, id="above a router that is further"),
    ],
)
def test_a_new_leader_begins_above_everything(found: list[int], want_epoch: int) -> None:
    """What a router obeyed must be older than what is written next."""
    assert asyncio.run(_risen(*found)).value == want_epoch


def test_it_rises_even_when_what_it_found_is_lower() -> None:
    """A cluster that was restored tells lower epochs than its leader has."""

    async def story() -> int:
        epoch = await _risen(7)
        await epoch.rise([2])
        return epoch.value

    assert asyncio.run(story()) == 9


@pytest.mark.parametrize("error", [DeposedError("another one leads"), UnreachableError("nobody says who leads")])
def test_it_does_not_rise_unless_the_lease_was_seen_to_be_ours(error: Exception) -> None:
    """A leader that was replaced must not overtake the new one."""

    async def story() -> int:
        epoch = await _risen(4)

        async def not_leading() -> None:
            raise error

        lost = Epoch(not_leading)
        lost.value = epoch.value
        with pytest.raises(type(error)):
            await lost.rise([9])
        return lost.value

    assert asyncio.run(story()) == 5


@pytest.mark.parametrize(
    ("fence", "table", "want_overtaken"),
    [
        pytest.param(Fence(4, 9), TABLE, False, id="it obeys the table that stands"),
        pytest.param(Fence(3, 90), TABLE, False, id="it obeys an older one"),
        pytest.param(Fence(4, 10), TABLE, True, id="a later table of this epoch: the cluster was restored"),
        pytest.param(Fence(5, 1), TABLE, True, id="a later epoch"),
        pytest.param(Fence(4, 99), None, False, id="no table stands, and it obeys one of ours"),
        pytest.param(Fence(6, 1), None, True, id="no table stands, and it obeys a later leader's"),
        pytest.param(Fence(4, 9), replace(TABLE, epoch=8), True, id="the table that stands is a later leader's"),
    ],
)
def test_a_router_that_is_further_is_seen_at_the_second_look(
    fence: Fence, table: RouteTable | None, *, want_overtaken: bool
) -> None:
    """At the first one a watch may just tell what was before our own last write."""

    async def story() -> None:
        epoch = await _risen(3)
        tables = [] if table is None else [(POOL, table)]
        assert not epoch.overtaken([(POOL, fence)], tables)
        assert epoch.overtaken([(POOL, fence)], tables) is want_overtaken
        assert not epoch.overtaken([], [])
        assert not epoch.overtaken([(POOL, fence)], tables), "it has to be seen twice in a row"

    asyncio.run(story())
