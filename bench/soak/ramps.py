"""Swaps the model of one pool for an identical one, again and again, and says how each swap ended.

Rule: no swap returns to what served before, for that would come back without analysis. So three models take turns.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arbiter.errors import ClusterError
from arbiter.kubeapi.resources import MODEL_SWAPS
from bench.soak.models import MODELS
from bench.soak.routers import LOOK_S
from tests.e2e.serving.wishes import pool
from tests.e2e.swap.swaps import POLICY, swap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.operator.ground import Api
    from bench.recordings import Recording
    from bench.soak.load import Clients
    from bench.soak.routers import Routers

WEIGHTS = (45, 60)
"""Percent for the new side in each step. The nearer to half, the more requests of both sides meet at equal load."""

HOLD = "10s"
"""How long each step and the watch last. With the extensions of the policy a step may wait 17 minutes for evidence."""

TIMES, REQUEST = ("firstByteTimeout", "idleTimeout", "totalTimeout"), "30s"
"""How long a request may take: routers that go wait for the longest, and the namespace waits for them."""

SMALL = {"requests": {"cpu": "20m", "memory": "64Mi"}}
"""What each router asks for, so that those of all pools find room on a node of two cores beside others."""

LONGEST_S = 1500.0
"""Seconds after which a ramp counts as not ended."""

SETTLE_S = 4.0
"""Seconds after a ramp in which its last requests end."""


@dataclass(frozen=True)
class Ramp:
    """One swap between identical models, from its wish to its end.

    Attributes:
        pool: where.
        swap: its ModelSwap.
        models: from which to which.
        seconds: it took.
        outcome: how it ended; its phase, if it did not.
        status: of the ModelSwap at the end.
        requests: that the pool's clients have sent so far.
        failed: those of them that failed.
    """

    pool: str
    swap: str
    models: tuple[str, str]
    seconds: float
    outcome: str
    status: dict[str, Any]
    requests: int
    failed: int

    @property
    def promoted(self) -> bool:
        """Whether it ended as it has to: promoted, on evidence."""
        return self.outcome == "Promoted" and self.status.get("analysed") is True


def policy() -> dict[str, Any]:
    """Give the policy of the soak: that of the tests, with steps that last long enough to be recorded."""
    spec = POLICY["spec"]
    steps = [{"weight": weight, "hold": HOLD} for weight in WEIGHTS]
    return {**POLICY, "spec": {**spec, "rollout": {**spec["rollout"], "steps": steps, "watch": HOLD}}}


def pool_wish(name: str, routers: int) -> dict[str, Any]:
    """Give a pool that serves the first model."""
    router = {"replicas": routers, "resources": SMALL, "limits": dict.fromkeys(TIMES, REQUEST)}
    return pool(name, MODELS[0], swapPolicy=POLICY["metadata"]["name"], router=router)


async def ramp_on(
    api: Api, clients: Clients, routers: Routers, turns: Iterator[int], ended: Callable[[Ramp, Recording], None]
) -> None:
    """Swap as long as there are turns left, which all pools take from the same ones."""
    for number, _ in enumerate(turns):
        models = MODELS[number % len(MODELS)], MODELS[(number + 1) % len(MODELS)]
        ramp = await _ramped(api, clients, routers, f"{routers.pool}-{number + 1}", models)
        ended(ramp, routers.recording(ramp.swap))
        if ramp.outcome != "Promoted":
            return


async def _ramped(api: Api, clients: Clients, routers: Routers, name: str, models: tuple[str, str]) -> Ramp:
    wish = swap(name, models[1], pool=routers.pool)
    wish["spec"]["reason"] = "identical models are swapped"
    routers.forget()
    began = looked = time.monotonic()
    status: dict[str, Any] = {}
    while status.get("phase") != "Ended" and time.monotonic() < began + LONGEST_S:
        try:
            # The same wish again is no other one, so one that may have been lost is sent once more.
            found = await (api.get(MODEL_SWAPS, name) if status else api.apply(MODEL_SWAPS, wish))
            status = found.get("status") or {"phase": "Asked"}
        except ClusterError:
            pass  # The API server is away for a moment, which is no fault of the swap.
        if time.monotonic() >= looked + LOOK_S:
            looked = time.monotonic()
            await routers.look()
        await asyncio.sleep(1.0)
    seconds = time.monotonic() - began - 1.0
    await asyncio.sleep(SETTLE_S)
    await routers.look()
    outcome = status.get("outcome") or status.get("phase") or "Asked"
    return Ramp(routers.pool, name, models, seconds, outcome, status, clients.requests, clients.failed)
