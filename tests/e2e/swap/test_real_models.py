"""Swaps between real models on real engines, under continuous traffic: the good one is promoted, the others are not.

SmolLM2 knows its capitals; Gemma 3 270M is not tuned to follow instructions, and fails the task's checks. Without
checks it is held back by what users would feel, once its engine has too little of a processor. Each story has a pool
and clients of its own; all of them begin together, because evidence on latency takes minutes, and all are asked to the
end, because it comes slowly while a machine becomes idle: nothing is as slow any more as the slowest before.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devcluster import pushing
from devcluster.images import built
from tests.e2e.serving.wishes import REGISTRY
from tests.e2e.swap.stories import SHORT, Story, asked, asks, policy, small
from tests.e2e.swap.swaps import POLICY, active

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.serving.operators import Operators
    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

CAPITALS = Path(__file__).with_name("capitals.yaml")
GEMMA = f"oci://{REGISTRY}/models/gemma3:1#/model.gguf"

EVEN = {"rollout": {"steps": [{"weight": 49, "hold": "5s"}]}}
"""As good as half of the requests at once, so that a block of both sides is soon full."""

PROVING = policy("proving", **EVEN, analysis={"maxFirstTokenRatio": 3.0, "maxPerTokenRatio": 3.0})
"""With wider margins for latency: two engines share two processors with everything else that the tests run."""

LOADS = {
    "assistant": SHORT,
    "equal": replace(SHORT, clients=4, stream_tokens=12, plain_tokens=2, pause_s=0.0),
    # Never two at a time on one side, or the slow one is busier than the other and cannot be compared with it.
    "slow": replace(SHORT, clients=1, stream_tokens=8),
}
"""How each pool is asked."""


def wish(name: str, served: str = "smollm2") -> dict[str, Any]:
    """Give a pool as it asks for a model."""
    asked_for = asks(name, served, swap_policy={"equal": "proving", "slow": "even"}.get(name, "seconds"))
    if name == "assistant":
        asked_for["spec"]["tasks"][0]["checks"] = {"configMap": "capitals"}
    return asked_for


@pytest.fixture(scope="module")
def stories(place: Place, hosts: Operators, weights: str) -> Iterator[dict[str, Story]]:
    """Have SmolLM2 serve all pools, and ask for what is decided by measuring."""
    assert weights
    pushing.Registry(REGISTRY).push(built.archive("gemma3-270m"), "models/gemma3", "1")
    hosts.start()
    texts = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "capitals"}}
    place.apply({**texts, "data": {"checks.yaml": CAPITALS.read_text()}}, POLICY, PROVING, policy("even", **EVEN))
    place.apply(small("smollm2"), small("again", "--no-warmup"), small("gemma3", source=GEMMA))
    place.apply(small("slow", "--no-warmup", source=GEMMA, limits={"cpu": "100m"}))
    place.apply(*map(wish, LOADS))
    with asked(place, LOADS) as begun:
        place.apply(wish("equal", "again"), wish("slow", "slow"))
        yield begun


def test_a_model_that_fails_its_checks_is_rejected(stories: dict[str, Story], count: Callable[..., None]) -> None:
    """In Preparing: not one request has reached it."""
    story = stories["assistant"]
    story.traffic.mark("gemma3 is asked for")
    story.place.apply(wish("assistant", "gemma3"))
    status = story.swap().ended("Rejected", 240)
    count("engines started", 2)
    assert status["reason"] == "ChecksFailed"
    assert [each["phase"] for each in status["history"]] == ["Preparing", "Ended"]
    assert {each["name"] for each in status["checks"]} >= {"capital", "japan"}
    assert active(story.place)["model"] == "smollm2"
    count("completions served", story.unharmed("rejected"))
    assert set(story.traffic.seen().split().counts) == {active(story.place)["revision"]}


def test_a_model_whose_engine_is_too_slow_rolls_back(stories: dict[str, Story], count: Callable[..., None]) -> None:
    """A tenth of a processor is enough to come up and to answer, and not for users."""
    story = stories["slow"]
    status = story.swap().ended("RolledBack", 400)
    assert status["reason"] == "RegressionProven"
    assert "first-token" in status["message"] or "per-token" in status["message"]
    assert active(story.place, "slow")["model"] == "smollm2"
    assert story.place.status("modelpool/slow")["rejected"][0]["model"] == "slow"
    count("engines started", 2)
    count("completions served", story.unharmed("rolled back on latency"))


def test_an_equal_model_is_promoted_on_evidence(stories: dict[str, Story], count: Callable[..., None]) -> None:
    """Nobody has said Promote: every metric has shown that the new engine is no worse."""
    story = stories["equal"]
    status = story.swap().ended("Promoted", 600)
    assert [each["phase"] for each in status["history"]] == ["Preparing", "Shifting", "Watching", "Ended"]
    shown = {each["name"]: each for each in status["metrics"]}
    assert set(shown) == {"success", "errors", "first-token", "per-token"}
    assert all(shown[name]["verdict"] in {"NotWorse", "Better"} for name in ("success", "first-token", "per-token"))
    assert active(story.place, "equal")["model"] == "again"
    assert story.task()["previous"]["model"] == "smollm2"
    count("engines started", 2)
    count("completions served", story.unharmed("promoted on evidence"))
