"""Swaps between real models on real engines, under continuous traffic: one that is no good is never seen by a user.

SmolLM2 knows its capitals; Gemma 3 270M is not tuned to follow instructions, and fails the task's checks.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devcluster import pushing
from devcluster.images import built
from tests.e2e.serving.wishes import REGISTRY, model, pool
from tests.e2e.swap.swaps import POLICY, Seen, active
from tests.traffic.driver import Load, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.serving.operators import Operators
    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

CAPITALS = Path(__file__).with_name("capitals.yaml")
LOAD = Load(task="chat", clients=2, stream_tokens=24, plain_tokens=4)


def wish(served: str) -> dict[str, Any]:
    """Give the pool as it asks for a model."""
    asked = pool("assistant", served, swapPolicy="seconds")
    asked["spec"]["tasks"][0]["checks"] = {"configMap": "capitals"}
    return asked


@pytest.fixture(scope="module")
def there(place: Place, hosts: Operators, weights: str) -> Place:
    """Have SmolLM2 serve, with Gemma beside it in the registry."""
    assert weights
    pushing.Registry(REGISTRY).push(built.archive("gemma3-270m"), "models/gemma3", "1")
    hosts.start()
    texts = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "capitals"}}
    place.apply({**texts, "data": {"checks.yaml": CAPITALS.read_text()}})
    place.apply(POLICY, model("smollm2"), model("gemma3", f"oci://{REGISTRY}/models/gemma3:1#/model.gguf"))
    place.apply(wish("smollm2"))
    place.ready("modelpool/assistant")
    return place


@pytest.fixture(scope="module")
def traffic(there: Place) -> Iterator[Traffic]:
    """Ask without a pause."""
    with Traffic(there.url("assistant"), LOAD) as asking:
        yield asking


def test_a_model_that_fails_its_checks_is_rejected(there: Place, traffic: Traffic, count: Callable[..., None]) -> None:
    """In Preparing: not one request has reached it."""
    traffic.more(2)
    traffic.mark("gemma3 is asked for")
    there.apply(wish("gemma3"))
    status = Seen(there, "assistant-chat-1").ended("Rejected", 240)
    count("engines started", 2)
    assert status["reason"] == "ChecksFailed"
    assert [each["phase"] for each in status["history"]] == ["Preparing", "Ended"]
    assert {each["name"] for each in status["checks"]} >= {"capital", "japan"}
    assert active(there)["model"] == "smollm2"
    traffic.more(5)
    traffic.settle()
    seen = traffic.seen()
    assert not seen.failed, seen
    assert set(seen.split().counts) == {active(there)["revision"]}
    count("completions served", len(seen.attempts))
