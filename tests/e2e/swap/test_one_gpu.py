"""A swap where one GPU is all that there is: the new model takes the old one's place, and requests wait for it.

The cluster gets a second node, which it keeps, with the marks of a node with one GPU; nothing computes on it, so the
engine is the one for CPUs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devcluster.images.recipes import reference
from devcluster.nodes import GPU_TOLERATION
from tests.e2e.running import devcluster, said, up
from tests.e2e.swap.stories import SHORT, Story, asked, asks, small
from tests.e2e.swap.swaps import POLICY, active

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.serving.operators import Operators
    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

POOL = "modelpool/assistant"

GPU = {"gpus": {"count": 1}, "tolerations": [GPU_TOLERATION]}
"""A placement on a GPU node, as its owner writes it."""


@pytest.fixture(scope="module")
def story(place: Place, hosts: Operators, weights: str) -> Iterator[Story]:
    """Have the first model on the only GPU."""
    assert weights
    said(devcluster(*up("--nodes", "2", "--gpu-node", "2")))
    hosts.start(f"--llama-server-gpu-image={reference('llama-server')}")
    place.apply(POLICY, small("first"), small("second", "--no-warmup"), asks("assistant", "first", placement=GPU))
    with asked(place, {"assistant": SHORT}) as begun:
        yield begun["assistant"]


def where(story: Story) -> list[str]:
    """Give the nodes of the engine pods that are to stay."""
    found = story.place.listed("pods", "arbiter.dev/pool=assistant,app.kubernetes.io/component=engine")
    return [each["spec"].get("nodeName", "") for each in found if "deletionTimestamp" not in each["metadata"]]


def test_one_model_takes_the_place_of_the_other(story: Story, count: Callable[..., None]) -> None:
    """It is said before why and what that means, and while requests wait; all are answered, and by one or the other."""
    place, traffic, old = story.place, story.traffic, story.task()["active"]["revision"]
    assert where(story) == ["node-2"]
    place.apply(asks("assistant", "second", placement=GPU))
    seen = story.swap()
    chosen = seen.until(lambda status: status.get("strategy") == "OneAtATime", "has chosen how")
    begun = chosen["history"][0]
    assert (begun["phase"], begun["reason"]) == ("Preparing", "RoomForOne")
    for words in ("second takes the place of first, because", "node-2", "requests are held meanwhile"):
        assert words in begun["message"]
    place.until(lambda: place.condition(POOL)["status"] == "False", "the pool says that its task is not served")
    status = seen.ended("Promoted", 240)
    assert [each["phase"] for each in status["history"]] == ["Preparing", "Shifting", "Watching", "Ended"]
    assert [each["reason"] for each in status["history"]] == ["RoomForOne", "RequestsHeld", "WatchedAlone", "Promoted"]
    place.ready(POOL)
    assert active(place)["model"] == "second"
    assert where(story) == ["node-2"]
    traffic.mark("promoted")
    count("engines started", 2)
    count("completions served", story.over("one model in the other's place"))
    assert set(traffic.seen().split(before="promoted").counts) == {old, active(place)["revision"]}
    assert set(traffic.seen().split("promoted").counts) == {active(place)["revision"]}
