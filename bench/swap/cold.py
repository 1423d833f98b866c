"""Measures a swap to a model that is not there yet, part by part, with its image on the node.

Rule: moments are those at which watches tell. A part is ours if it ends with something that Arbiter does.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from arbiter.kubeapi.resources import CONFIG_MAPS, DEPLOYMENTS, ENDPOINT_SLICES, MODEL_SWAPS, PODS
from bench.operator import ground
from tests.e2e.serving.wishes import model, pool
from tests.e2e.swap.swaps import POLICY, Seen, swap

if TYPE_CHECKING:
    from tests.e2e.serving.place import Place

LONGEST_S = 120.0

PARTS = (
    ("asked for; its Deployment is made", "ours"),
    ("its pod is made, scheduled, and its container runs", "Kubernetes"),
    ("the engine loads its model; its endpoint is listed", "engine"),
    ("it answers three completions; the swap begins to shift", "ours"),
    ("the routes are written", "ours"),
)
"""What lies between two moments, and whose time that is."""


@dataclass(frozen=True)
class Cold:
    """Seconds of each part, in the order of `PARTS`."""

    parts: tuple[float, ...]

    @property
    def ours(self) -> float:
        """Seconds that Arbiter took."""
        return sum(seconds for seconds, (_, whose) in zip(self.parts, PARTS, strict=True) if whose == "ours")


def measured(place: Place, number: int) -> Cold:
    """Swap to a model that no swap has had before, and go back."""
    if not number:
        place.apply(POLICY, model("smollm2"), pool("assistant", "smollm2", swapPolicy="seconds"))
        place.ready("modelpool/assistant")
    place.apply(model(f"cold-{number}", contextWindow=1024 + 256 * (number + 1)))
    place.ready(f"localmodel/cold-{number}")
    found = asyncio.run(_timed(place, f"cold-{number}"))
    Seen(place, f"cold-{number}").intend("Abort")
    Seen(place, f"cold-{number}").ended("Aborted", LONGEST_S)
    return found


async def _timed(place: Place, name: str) -> Cold:
    moments: dict[str, float] = {}
    complete = asyncio.Event()

    def told(what: ground.Told) -> None:
        moment = _moment(what, name)
        if moment and "asked" in moments and moment not in moments:
            moments[moment] = what.at
        if "routed" in moments:
            complete.set()

    kinds = [DEPLOYMENTS, PODS, ENDPOINT_SLICES, MODEL_SWAPS, CONFIG_MAPS]
    async with ground.api(place) as api, api.watched(kinds, told):
        moments["asked"] = time.perf_counter()
        await api.apply(MODEL_SWAPS, swap(name, name))
        async with asyncio.timeout(LONGEST_S):
            await complete.wait()
    order = ("asked", "made", "runs", "listed", "shifts", "routed")
    times = [moments[each] for each in order]
    return Cold(tuple(after - before for before, after in pairwise(times)))


def _moment(what: ground.Told, model_name: str) -> str:
    """Say which moment something that a watch told is; empty if it is none."""
    body = what.body or {}
    labels = (body.get("metadata") or {}).get("labels") or {}
    ours = labels.get("arbiter.dev/model") == model_name
    status = body.get("status") or {}
    match what.kind:
        case "Deployment" if ours:
            return "made"
        case "Pod" if ours and any("running" in each["state"] for each in status.get("containerStatuses") or ()):
            return "runs"
        case "EndpointSlice" if any(each["conditions"].get("ready") for each in body.get("endpoints") or ()):
            return "listed"
        case "ModelSwap" if what.name == model_name and status.get("phase") == "Shifting":
            return "shifts"
        case "ConfigMap":
            targets = ground.table_of(body).get("tasks", {}).get("chat", {}).get("targets", [])
            return "routed" if any(each["model"] == model_name for each in targets) else ""
        case _:
            return ""
