"""Swaps between engines in pods of their own: as many as the weights need, none that comes up, and some that die.

Each story has a pool and clients of its own, and all of them begin together. Where a pod is killed with its process,
the answers that it had begun may be cut, and nothing else; else no request fails.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.e2e.serving.wishes import REGISTRY, model
from tests.e2e.swap.stories import SHORT, Story, asked, asks, policy, small
from tests.e2e.swap.swaps import POLICY, active, swap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.serving.operators import Operators
    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

LONG = replace(SHORT, clients=4, stream_tokens=300, prompt="Write a long story about a village by the sea.")
"""Streams that run through whatever happens, and that keep the new side from being let go while it is taken back."""

LOADS = {"replicas": SHORT, "crashing": SHORT, "nowhere": SHORT, "deleted": LONG, "killed": LONG}
"""How each pool is asked."""

WANTED = {"replicas": "second", "crashing": "crashing", "nowhere": "nowhere", "deleted": "second", "killed": "second"}
"""What each pool is to be swapped to; the ModelSwap is named after the pool."""

UNPROVEN = policy(
    "unproven",
    rollout={"steps": [{"weight": 50, "hold": "5s"}, {"weight": 60, "hold": "10m"}]},
    analysis={"maxExtensions": 0, "onInconclusive": "Promote"},
)
"""Rises without waiting for evidence, so that a story about pods is over in seconds."""

PATIENT = policy("patient", rollout={"steps": [{"weight": 97, "hold": "10m"}]}, rollback={"drain": "60s"})
"""Has most answers given by the new side, and lets it end the longest of them."""

POLICIES = {"replicas": "unproven", "deleted": "patient", "killed": "patient"}
"""Whose rollouts are not those of the policy of seconds."""


@pytest.fixture(scope="module")
def stories(place: Place, hosts: Operators, weights: str) -> Iterator[dict[str, Story]]:
    """Have SmolLM2 serve all pools, and ask each for the model of its story."""
    assert weights
    hosts.start()
    nowhere = {**model("nowhere")["spec"]["engine"], "image": f"{REGISTRY}/stories/nowhere:1"}
    place.apply(POLICY, UNPROVEN, PATIENT, small("first"), small("second", "--no-warmup"))
    place.apply(model("nowhere", engine=nowhere), small("crashing", "--no-such-option"))
    for name in LOADS:
        replicas = 2 if name == "replicas" else 1
        place.apply(asks(name, "first", swap_policy=POLICIES.get(name, "seconds"), replicas=replicas))
    with asked(place, LOADS) as begun:
        place.apply(*(swap(name, to, pool=name) for name, to in WANTED.items()))
        yield begun


def test_pods_of_the_new_side_follow_its_weight(stories: dict[str, Story], count: Callable[..., None]) -> None:
    """One of two serves half of the requests; the second is there before more of them come."""
    story = stories["replicas"]
    seen = story.swap("replicas")
    half = seen.until(lambda status: status.get("weights", {}).get("set") == 50, "has half of the requests")
    assert (half["to"]["replicas"], half["from"]["readyReplicas"]) == (1, 2)
    more = seen.until(lambda status: status["weights"]["set"] == 60, "has more than half")
    assert (more["to"]["readyReplicas"], more["from"]["readyReplicas"]) == (2, 2)
    seen.intend("Promote")
    seen.ended("Promoted", 60)
    served = active(story.place, "replicas")
    assert served["model"] == "second"
    pods = story.place.listed("pods", f"arbiter.dev/pool=replicas,arbiter.dev/revision={served['revision']}")
    assert [each["status"]["containerStatuses"][0]["ready"] for each in pods] == [True, True]
    count("engines started", 4)
    count("completions served", story.over("promoted with two pods"))


def test_an_engine_that_crashes_is_told(stories: dict[str, Story], count: Callable[..., None]) -> None:
    """With what its server said last; what nobody needs is gone afterwards."""
    story = stories["crashing"]
    status = story.swap("crashing").ended("Rejected", 240)
    assert status["reason"] == "EngineCrashed"
    assert "--no-such-option" in status["message"]
    assert [each["phase"] for each in status["history"]] == ["Preparing", "Ended"]
    assert active(story.place, "crashing")["model"] == "first"
    story.place.until(lambda: len(story.engines()) == 1, "only the old engine is left")
    count("engines started")
    count("completions served", story.over("an engine that crashes"))


def test_the_old_pod_is_deleted_on_the_way_back(stories: dict[str, Story], count: Callable[..., None]) -> None:
    """As by a person: it ends its answers, requests stay where they are served, and go back to the next pod."""
    story = stories["deleted"]
    old = story.engines(story.revision())
    take_back(story)
    story.place.kubectl("delete", "pod", *old, "--wait=false")
    story.swap("deleted").until(lambda status: status["reason"] == "OldSideDown", "says who keeps the requests")
    story.swap("deleted").ended("Aborted", 240)
    assert active(story.place, "deleted")["model"] == "first"
    story.place.until(lambda: len(story.engines()) == 1, "only the old side's engine is left")
    assert story.engines() != old
    count("engines started", 3)
    count("completions served", story.over("the old pod deleted on the way back"))


def test_the_old_process_is_killed_on_the_way_back(stories: dict[str, Story], count: Callable[..., None]) -> None:
    """Without a word to anybody: at most the answers are cut that it had begun, and everything else is served."""
    story = stories["killed"]
    revision = story.revision()
    old = story.engines(revision)
    take_back(story)
    story.place.kubectl("delete", "pod", *old, "--grace-period=0", "--force", "--wait=false")
    story.swap("killed").until(lambda status: status["reason"] == "OldSideDown", "says who keeps the requests")
    story.traffic.mark("killed")
    story.swap("killed").ended("Aborted", 240)
    assert active(story.place, "killed")["model"] == "first"
    story.traffic.more(4)
    story.traffic.rest()
    seen = story.traffic.seen()
    killed = seen.mark("killed").at
    assert all(each.revision == revision and each.began < killed for each in seen.failed), seen
    count("engines started", 3)
    count("completions served", len(seen.attempts) - len(seen.failed))


def test_an_image_that_is_nowhere_is_told(stories: dict[str, Story], count: Callable[..., None]) -> None:
    """Which image, of which engine, and what to look at; requests have never moved."""
    story = stories["nowhere"]
    status = story.swap("nowhere").ended("Rejected", 240)
    assert status["reason"] == "ImageNotPulled"
    for words in ("nowhere", f"{REGISTRY}/stories/nowhere:1", "check its name and the pull secret"):
        assert words in status["message"]
    assert [each["phase"] for each in status["history"]] == ["Preparing", "Ended"]
    assert active(story.place, "nowhere")["model"] == "first"
    count("engines started")
    count("completions served", story.over("an image that is nowhere"))


def take_back(story: Story) -> None:
    """Let the old side get everything back, while the new one still answers: it has begun a long answer."""
    seen = story.swap(story.pool)
    seen.obeyed()
    story.traffic.settle()
    story.traffic.mark("taken back")
    seen.intend("Abort")
    status = seen.in_phase("RollingBack")
    assert status["phase"] == "RollingBack", status
