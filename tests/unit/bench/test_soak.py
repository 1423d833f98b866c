"""The soak must see what goes wrong in it: a ramp that is not promoted, a failure of a client, a slice that changed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from arbiter.api.localmodel import EngineType
from arbiter.api.swappolicy import SwapPolicySpec
from arbiter.core.feed import Feed
from arbiter.core.rollout import steps_of
from arbiter.core.routes import Backend, Hold, Limits, RouteTable, Target, Task
from arbiter.core.traffic import Side, Slice, Tally
from bench.soak import load, ramps, report
from bench.soak.load import Clients
from bench.soak.ramps import Ramp
from bench.soak.routers import Routers
from tests.unit.traffic.planted import Plant, Server, never, serving

if TYPE_CHECKING:
    from collections.abc import Callable

STATUS: dict[str, Any] = {
    "phase": "Ended",
    "analysed": True,
    "from": {"requests": 900},
    "to": {"requests": 600},
    "metrics": [
        {
            "name": name,
            "old": {"count": 900, "value": 0.16},
            "new": {"count": 600, "value": 0.15},
            "rollback": "0.2/2400",
            "blocks": 151,
            "gaps": 2,
            **({} if name == "errors" else {"promotion": "21/20"}),
        }
        for name in report.METRICS
    ],
}

PROMOTED = Ramp("soak-1", "soak-1-4", ("first", "second"), 243.4, "Promoted", STATUS, 4000, 0)


def clients(failed: int = 0) -> Clients:
    """Give clients that saw so many failures."""
    return Clients("http://nowhere", np.random.default_rng(1), 2000, failed, ["reset: gone"] * failed)


def test_a_ramp_is_one_line() -> None:
    """With its figures on both sides, and its evidence both ways."""
    assert report.row(PROMOTED, "22:15:01") == (
        "| 22:15:01 | soak-1 | soak-1-4: first → second | 243 | 900, 600 | 151, 2 | 0.16 → 0.15; 0.2/2400; 21/20 "
        "| 0.16 → 0.15; 0.2/2400 | 0.16 → 0.15; 0.2/2400; 21/20 | 0.16 → 0.15; 0.2/2400; 21/20 | Promoted |"
    )


def test_a_ramp_that_never_began_is_a_line_too() -> None:
    """Without figures, and not taken for one on evidence."""
    asked = replace(PROMOTED, outcome="Asked", status={})
    assert report.row(asked, "22:15:01").endswith("| ?, ? | ?, ? | ? | ? | ? | ? | Asked, not analysed |")
    assert not asked.promoted


@pytest.mark.parametrize(
    ("ended", "failed", "wanted", "want_clean", "want_last"),
    [
        pytest.param([PROMOTED] * 2, 0, 2, True, "0 of 2 identical models rolled back", id="clean"),
        pytest.param([PROMOTED], 0, 2, False, "0 of 1 identical models rolled back", id="too few"),
        pytest.param([PROMOTED] * 2, 1, 2, False, "0 of 2 identical models rolled back", id="a client saw a failure"),
        pytest.param(
            [PROMOTED, replace(PROMOTED, outcome="RolledBack")], 0, 2, False, "1 of 2 identical models rolled back",
            id="rolled back",
        ),
        pytest.param(
            [PROMOTED, replace(PROMOTED, status={**STATUS, "analysed": False})], 0, 2, False,
            "0 of 2 identical models rolled back", id="promoted without evidence",
        ),
        pytest.param([], 0, 1, False, "0 of 0 identical models rolled back", id="none"),
    ],
)  # fmt: skip
def test_the_end_of_the_report_says_what_counts(
    ended: list[Ramp], failed: int, wanted: int, want_clean: bool, want_last: str
) -> None:
    """Clean is a run in which every ramp was promoted on evidence and no client saw a failure."""
    asking = [clients(), clients(failed)]
    assert report.is_clean(ended, asking, wanted) is want_clean
    lines = report.totals(ended, asking, 31.4, 1)
    assert lines[-1] == want_last
    assert f"4,000 requests of clients, {failed} failed; the operator ended and was started anew 1 times" in lines
    assert lines.count("- reset: gone") == failed


def test_the_policy_of_the_soak_can_be_followed() -> None:
    """Two steps around half, so that both gates are asked, and each long enough to be recorded."""
    spec = SwapPolicySpec.model_validate(ramps.policy()["spec"])
    assert [(step.weight, step.hold_s) for step in steps_of(spec.rollout)] == [(45, 10.0), (60, 10.0)]
    assert spec.analysis.slice.seconds == 1.0


def table(generation: int, swap: str, weight: int) -> RouteTable:
    """Give a table that gives the new side so much."""
    old, new = (
        Backend(revision, "m", EngineType.External, endpoints=("http://m",)) for revision in ("a" * 10, "b" * 10)
    )
    targets = (Target(Side.NEW, new, weight), Target(Side.OLD, old, 100 - weight))
    task = Task("chat", targets, (), Hold(), swap, (), None, {})
    return RouteTable(1, generation, 1000, {"chat": task}, Limits(), None)


def counted(second: int, generation: int, ended: int, epoch: str = "one") -> Slice:
    """Give a slice of five requests on each side, of which so many have ended."""
    sides = {side: Tally(5, ended) for side in Side}
    return Slice(epoch, generation, "chat", second * 1000, 1000, sides)


def test_what_routers_told_last_is_recorded(routers: Routers) -> None:
    """By router, of the tables of this swap in which both sides had requests, and of slices that were over."""
    for generation, swap, weight in ((6, "", 0), (7, "soak-1-1", 40), (8, "soak-1-1", 60), (9, "soak-1-1", 100)):
        routers.noted(table(generation, swap, weight))
    routers.heard(Feed("one", 3500, (counted(1, 6, 5), counted(2, 7, 3), counted(3, 7, 0))))
    routers.heard(Feed("one", 5500, (counted(2, 7, 5), counted(3, 7, 5), counted(3, 8, 5), counted(4, 9, 5))))
    routers.heard(Feed("two", 3500, (counted(2, 7, 5, "two"),)))
    routers.heard(Feed("three", 3500, (counted(2, 6, 5, "three"),)))
    found = routers.recording("soak-1-1")
    assert found.weights == {7: 40, 8: 60}
    assert found.routers == (
        (counted(2, 7, 5), counted(3, 7, 5), counted(3, 8, 5)),
        (counted(2, 7, 5, "two"),),
    )
    routers.forget()
    assert routers.recording("soak-1-1").routers == ()


@pytest.fixture
def routers() -> Routers:
    """Give the routers of a pool that nobody can ask."""
    nobody: Any = None
    return Routers(nobody, nobody, "soak-1")


def asked(plan: Callable[[int, bool], Plant], monkeypatch: pytest.MonkeyPatch) -> Clients:
    """Have clients ask a server for a while, in several tides."""
    monkeypatch.setattr(load, "TIDE_S", (0.1, 0.2))

    async def story() -> Clients:
        async with serving(Server(plan)) as url:
            asking, ended = Clients(url, np.random.default_rng(1)), asyncio.Event()
            task = asyncio.create_task(asking.ask(ended))
            await asyncio.sleep(0.6)
            ended.set()
            await task
            return asking

    return asyncio.run(asyncio.wait_for(story(), 20.0))


def test_clients_come_and_go_and_all_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every tide, the last one included; and nothing fails because they leave."""
    seen = asked(never, monkeypatch)
    assert seen.requests > 20
    assert (seen.failed, seen.told) == (0, [])


def test_a_failure_of_a_client_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its words, of which only so many are kept."""
    seen = asked(lambda number, _: Plant.BUSY if number % 2 else Plant.NOTHING, monkeypatch)
    assert seen.failed > 0
    assert 0 < len(seen.told) <= load.MOST_TOLD
    assert "503" in seen.told[0]


def test_what_takes_a_core_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own handle, at the end of its time and when the soak ends."""
    monkeypatch.setattr(load, "BUSY_S", (0.05, 0.1))
    monkeypatch.setattr(load, "CALM_S", (0.05, 0.1))
    begun: list[asyncio.subprocess.Process] = []
    begin = asyncio.create_subprocess_exec

    async def noted(*command: str) -> asyncio.subprocess.Process:
        begun.append(await begin(*command))
        return begun[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)

    async def story() -> None:
        ended = asyncio.Event()
        task = asyncio.create_task(load.contend(np.random.default_rng(1), ended))
        await asyncio.sleep(0.6)
        ended.set()
        await task

    asyncio.run(asyncio.wait_for(story(), 20.0))
    assert begun
    assert all(each.returncode is not None for each in begun)
