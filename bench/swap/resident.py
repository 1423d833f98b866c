"""Measures how fast requests move between models that are there: promoted, undone, rolled back.

The models run at a stand-in elsewhere, so no engine takes part. Two routers are asked every few milliseconds which
table they obey; a move is over when both obey one in which the right side has everything.

Rule: a move begins when the command for it is sent, or when the operator's own record says that it was decided.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import aiohttp

from arbiter.kubeapi.resources import CONFIG_MAPS, MODEL_SWAPS
from bench.operator import ground
from tests.e2e.serving.wishes import external, pool
from tests.e2e.swap.swaps import POLICY, Seen, swap
from tests.traffic.driver import Load, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.serving.place import Place
    from tests.e2e.swap.upstream import Upstream

LOOK_S = 0.003
"""Seconds between two looks at a router."""

LONGEST_S = 60.0

LOAD = Load(task="chat", clients=6, stream_tokens=8, plain_tokens=2, pause_s=0.05)


@dataclass(frozen=True)
class Moves:
    """Seconds of each move, and what clients saw of all of them.

    Attributes:
        promoted: from sending `intent: Promote` until both routers send everything to the new side.
        undone: from sending a ModelSwap to what served before until both send everything there.
        rolled_back: from the decision until both send everything to the old side.
        failed: requests that failed.
        requests: requests in all.
    """

    promoted: tuple[float, ...]
    undone: tuple[float, ...]
    rolled_back: tuple[float, ...]
    failed: int
    requests: int


def measured(place: Place, models: Upstream, repeats: int, say: Callable[[str], None]) -> Moves:
    """Measure each move so many times, under traffic."""
    models.behave("broken", failing=2)
    place.apply(POLICY, *(external(name, f"{models.address}/{name}", name) for name in ("first", "second", "broken")))
    place.apply(pool("assistant", "first", swapPolicy="seconds", router={"replicas": 2}))
    place.ready("modelpool/assistant")
    with Traffic(place.url("assistant"), LOAD) as traffic:
        traffic.more(20)
        promoted, undone = [], []
        for number in range(repeats):
            say(f"promoted and undone, {number + 1} of {repeats}")
            promoted.append(_promoted(place, f"there-{number}"))
            undone.append(_undone(place, f"back-{number}"))
        rolled_back = []
        for number in range(max(repeats // 3, 1)):
            say(f"rolled back, {number + 1} of {max(repeats // 3, 1)}")
            rolled_back.append(_rolled_back(place, f"broken-{number}"))
        seen = traffic.seen()
    return Moves(tuple(promoted), tuple(undone), tuple(rolled_back), len(seen.failed), len(seen.attempts))


def _promoted(place: Place, name: str) -> float:
    place.apply(swap(name, "second"))
    seen = Seen(place, name)
    seen.obeyed(LONGEST_S)
    took = asyncio.run(_timed(place, {"spec": {"intent": "Promote"}}, name, "second")).seconds
    seen.ended("Promoted", LONGEST_S)
    return took


def _undone(place: Place, name: str) -> float:
    previous = place.status("modelpool/assistant")["tasks"][0]["previous"]["revision"]
    wish = swap(name, "first", revision=previous)
    took = asyncio.run(_timed(place, wish, "", "first")).seconds
    Seen(place, name).ended("Promoted", LONGEST_S)
    return took


def _rolled_back(place: Place, name: str) -> float:
    place.apply(swap(name, "broken"))
    seen = Seen(place, name)
    seen.in_phase("Shifting", LONGEST_S)
    ended = asyncio.run(_timed(place, None, "", "first")).ended
    status = seen.ended("RolledBack", LONGEST_S)
    decided = next(each["at"] for each in status["history"] if each["phase"] == "RollingBack")
    return ended - datetime.fromisoformat(decided).timestamp()


@dataclass(frozen=True)
class _Move:
    """Times of day."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


async def _timed(place: Place, change: dict[str, Any] | None, name: str, model: str) -> _Move:
    """Send a command, if there is one, and wait until both routers send everything to a model, after they had not."""
    shares: dict[int, int] = {}

    def told(what: ground.Told) -> None:
        table = ground.table_of(what.body)
        if table:
            targets = table["tasks"]["chat"]["targets"]
            shares[table["generation"]] = sum(each["weight"] for each in targets if each["model"] == model)

    async with ground.api(place) as api, aiohttp.ClientSession() as session:
        routers = _routers(place)
        async with api.watched([CONFIG_MAPS], told, "arbiter.dev/pool=assistant"):
            began = time.time()
            if change is not None and name:
                await api.edit(MODEL_SWAPS, name, change)
            elif change is not None:
                await api.apply(MODEL_SWAPS, change)
            else:
                await _until(session, routers, lambda generation: shares.get(generation, 100) < 100)
            return _Move(began, await _until(session, routers, lambda generation: shares.get(generation) == 100))


async def _until(session: aiohttp.ClientSession, routers: list[str], fact: Callable[[int], bool]) -> float:
    """Wait until something holds of the generation that each router obeys; give when it did."""
    end = time.time() + LONGEST_S
    while time.time() < end:
        if all([fact(await _generation(session, address)) for address in routers]):
            return time.time()
        await asyncio.sleep(LOOK_S)
    raise SystemExit("the routers did not come to obey what was asked for")


async def _generation(session: aiohttp.ClientSession, address: str) -> int:
    """Give the generation of the table that a router obeys; 0 before it obeys one."""
    async with session.get(f"http://{address}:9090/internal/routes") as answer:
        table = (await answer.json())["table"]
    return 0 if table is None else int(table["generation"])


def _routers(place: Place) -> list[str]:
    found = place.listed("pods", "arbiter.dev/pool=assistant,app.kubernetes.io/component=router")
    return [each["status"]["podIP"] for each in found if "deletionTimestamp" not in each["metadata"]]
