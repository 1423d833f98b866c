"""The load of the router's bench must count every error that is planted, or "no errors" would mean nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from bench.router import load, standin
from tests.unit.traffic.planted import EVENTS, Plant, Server, never, serving

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to settle here."""
    monkeypatch.setattr(load, "SETTLE_S", 0.1)


def streamed(plan: Callable[[int, bool], Plant]) -> dict[str, Any]:
    """Four streams at once for a short while."""

    async def story() -> dict[str, Any]:
        async with serving(Server(plan)) as url:
            return await load.streams(int(url.rpartition(":")[2]), 4, (300, EVENTS), 0.5, [])

    return asyncio.run(asyncio.wait_for(story(), 10.0))


def test_clean_streams_have_no_errors() -> None:
    """Nothing is planted, so nothing is counted; and events are, or it would not be looking."""
    seen = streamed(never)

    assert seen["errors"] == {}
    assert seen["open"] == 4
    assert seen["events_per_s"] > 100


@pytest.mark.parametrize(
    ("plant", "want"),
    [
        pytest.param(Plant.CUT, "cut", id="cut inside a chunk"),
        pytest.param(Plant.RESET_INSIDE, "cut", id="reset"),
        pytest.param(Plant.RESET_BEFORE, "cut", id="reset before the answer"),
        pytest.param(Plant.BAD_CHUNK, "cut", id="wrong chunk size"),
        pytest.param(Plant.BUSY, "status 503", id="503"),
        pytest.param(Plant.NO_DONE, "no [DONE]", id="no DONE"),
    ],
)
def test_a_planted_fault_is_counted_once(plant: Plant, want: str) -> None:
    """One stream is broken; the others go on, and so does a new one in its place."""
    seen = streamed(lambda number, _: plant if number == 6 else Plant.NOTHING)

    assert seen["errors"] == {want: 1}
    assert seen["open"] == 4


def test_the_stand_in_streams_at_the_pace_asked_for_and_ends_as_it_should() -> None:
    """Its pace is part of each figure."""

    async def story() -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        pacers: dict[int, standin.Pacer] = {}
        listening = await loop.create_server(lambda: standin.Connection(b"old", pacers), "127.0.0.1", 0)
        async with listening:
            port = listening.sockets[0].getsockname()[1]
            return await load.streams(port, 8, (50, 25), 1.0, [])

    seen = asyncio.run(asyncio.wait_for(story(), 10.0))
    assert seen["errors"] == {}
    assert 200 < seen["events_per_s"] < 450, "eight streams of fifty events a second"


def test_requests_are_sent_at_the_rate_and_a_refused_one_is_an_error() -> None:
    """Two hundred a second for half a second; one of them is refused, and that is counted."""

    async def story() -> dict[str, Any]:
        async with serving(Server(lambda number, _: Plant.BUSY if number == 20 else Plant.NOTHING)) as url:
            return await load.paced(int(url.rpartition(":")[2]), 4, 200.0, 0.5)

    done = asyncio.run(asyncio.wait_for(story(), 10.0))
    assert done["errors"] == {"status 503": 1}
    assert 50 < done["asked"] <= 100
    assert 0 < done["requests"] <= done["asked"]
    assert 0 < done["p50"] <= done["p99"]
