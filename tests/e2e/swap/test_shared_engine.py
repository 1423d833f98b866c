"""Swaps inside one Ollama: the new model is loaded beside the old one where the pool's memory allows it.

Where it does not, the policy decides: refused, or one in the other's place; the figures are said either way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from devcluster import pushing
from devcluster.images import built
from tests.e2e.serving.wishes import REGISTRY, model
from tests.e2e.swap.stories import SHORT, Story, asked, asks, policy
from tests.e2e.swap.swaps import POLICY, active, swap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.serving.operators import Operators
    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

OLLAMA = {"type": "Ollama", "resources": {"limits": {"cpu": "1"}}}
"""One thread, or it counts the machine's processors and waits for time slices."""

ROOMY, TIGHT = "2Gi", "600Mi"
"""What the models of each pool may hold together; they need 400Mi and 500Mi."""

BESIDE = policy("beside", rollout={"strategy": "SideBySide"})
"""Allows nothing else than both at once."""


def wish(name: str, served: str = "smollm2", **spec: Any) -> dict[str, Any]:  # noqa: ANN401  a spec
    """Give a pool as it asks for a model."""
    return asks(name, served, capacity={"memory": ROOMY if name == "roomy" else TIGHT}, **spec)


@pytest.fixture(scope="module")
def stories(place: Place, hosts: Operators, weights: str) -> Iterator[dict[str, Story]]:
    """Have SmolLM2 serve in two engines, with Gemma beside it in the registry."""
    assert weights
    pushing.Registry(REGISTRY).push(built.archive("gemma3-270m"), "models/gemma3", "1")
    hosts.start()
    gemma = f"oci://{REGISTRY}/models/gemma3:1#/model.gguf"
    place.apply(model("smollm2", engine=OLLAMA, memory="400Mi"), model("gemma3", gemma, engine=OLLAMA, memory="500Mi"))
    place.apply(POLICY, BESIDE, wish("roomy"), wish("tight", swap_policy="beside"))
    with asked(place, {"roomy": SHORT, "tight": SHORT}) as begun:
        yield begun


def loaded(story: Story) -> list[str]:
    """Give the models that the engine holds in memory, as the pool's status tells."""
    residents = story.place.status(f"modelpool/{story.pool}").get("residents", [])
    return sorted(each["model"] for each in residents if each["state"] == "Loaded")


def test_with_room_for_both_they_serve_side_by_side(stories: dict[str, Story], count: Callable[..., None]) -> None:
    """The same pod holds both; the one that served before stays loaded, for it may be wanted again."""
    story = stories["roomy"]
    engines = story.engines()
    story.place.apply(swap("roomy", "gemma3", pool="roomy"))
    seen = story.swap("roomy")
    status = seen.in_phase("Shifting", 180)
    assert status["strategy"] == "SideBySide"
    assert status["history"][0]["reason"] == "RoomForBoth"
    assert loaded(story) == ["gemma3", "smollm2"]
    seen.intend("Promote")
    seen.ended("Promoted", 60)
    assert active(story.place, "roomy")["model"] == "gemma3"
    assert story.engines() == engines
    assert loaded(story) == ["gemma3", "smollm2"]
    count("engines started")
    count("completions served", story.over("side by side"))


def test_without_room_a_policy_of_both_refuses(stories: dict[str, Story]) -> None:
    """With what there is and what would be needed; the old model serves on, alone in memory."""
    story = stories["tight"]
    story.place.apply(swap("refused", "gemma3", pool="tight"))
    status = story.swap("refused").ended("Rejected", 60)
    assert status["reason"] == "NoRoom"
    for words in ("600Mi", "900Mi", "the policy allows nothing else than SideBySide"):
        assert words in status["message"]
    assert loaded(story) == ["smollm2"]
    assert active(story.place, "tight")["model"] == "smollm2"
    story.unharmed("refused")


def test_without_room_one_takes_the_place_of_the_other(stories: dict[str, Story], count: Callable[..., None]) -> None:
    """Requests wait meanwhile, in the same engine, and all are answered."""
    story = stories["tight"]
    engines = story.engines()
    story.place.apply(wish("tight", swap_policy="seconds"))
    story.place.apply(swap("replaced", "gemma3", pool="tight"))
    status = story.swap("replaced").ended("Promoted", 240)
    assert status["strategy"] == "OneAtATime"
    assert [each["reason"] for each in status["history"]] == ["RoomForOne", "RequestsHeld", "WatchedAlone", "Promoted"]
    for words in ("600Mi", "900Mi", "requests are held meanwhile"):
        assert words in status["history"][0]["message"]
    assert loaded(story) == ["gemma3"]
    assert active(story.place, "tight")["model"] == "gemma3"
    assert story.engines() == engines
    count("engines started")
    count("completions served", story.over("one in the other's place"))
