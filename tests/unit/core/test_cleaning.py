"""What is deleted from the store of a shared engine: what we made and nothing names, and never anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from arbiter.core.actions import StartJob
from arbiter.core.plan import plan_model
from tests.unit.core.serving_cluster import GIB, RESOLVED, Cluster, cluster
from tests.unit.core.test_pool_plan import actions, is_ready, served
from tests.unit.core.test_serving_repeats import settle, whole
from tests.unit.core.test_serving_stories import OLLAMA, TWO_MODELS

if TYPE_CHECKING:
    from collections.abc import Callable

OLD = "arbiter/gemma3:0123456789"
TWO_OLLAMA = TWO_MODELS.replace("oci://registry.example/", "ollama://")


def deleted(story: Cluster) -> list[str]:
    """Give what one pass would have deleted."""
    jobs = [action for action in actions(story) if isinstance(action, StartJob)]
    return [str((job.call.body or {})["model"]) for job in jobs if job.key.startswith("delete/")]


def at_rest() -> Cluster:
    """Give a pool with one model that serves."""
    story = served(OLLAMA)
    assert [name.partition(":")[0] for name in story.stored] == ["arbiter/smollm2"]
    return story


def test_what_nothing_names_any_more_is_deleted_and_what_others_put_there_stays() -> None:
    """Once, and once more if it is still seen after a while."""
    story = at_rest()
    story.stored |= {OLD: "sha256:1", "somebody/else:1": "sha256:2", "qwen3:8b": "sha256:3"}
    assert deleted(story) == [OLD]
    story.answers["delete/"] = {"status": 500, "problem": "no"}
    settle_for(story, 30)
    assert deleted(story) == []
    story.step(60)
    assert deleted(story) == [OLD]
    story.answers.clear()
    settle(story, whole())
    assert OLD not in story.stored
    assert is_ready(story)


def settle_for(story: Cluster, seconds: int) -> None:
    """Carry one pass out, and let time pass."""
    for action in actions(story):
        story.carry_out(action)
    story.step(seconds)


def loaded(story: Cluster) -> None:
    """It is in memory, and a request is in flight there."""
    story.edit(capacity={"maxLoadedModels": 9})
    story.loaded[OLD] = GIB


def in_flight(story: Cluster) -> None:
    """A router still has a request there."""
    story.in_flight = {"0123456789": 1}


def shared_claim(story: Cluster) -> None:
    """Another pool keeps its models in the same claim."""
    story.same_claim = ("other",)


def another_is_brought(story: Cluster) -> None:
    """A needed model is not there yet, and may be made of the same files."""
    story.stored = {name: digest for name, digest in story.stored.items() if name == OLD}
    story.jobs.clear()


def engine_is_away(story: Cluster) -> None:
    """Nobody knows what it holds."""
    story.troubles = {"ollama": {"waiting": "ContainerCreating"}}


def form_is_lost(story: Cluster) -> None:
    """What serves is not on record, so nobody knows its name there."""
    for key in [key for key in story.objects if key.kind == "ControllerRevision" and "ollama" not in key.name]:
        del story.objects[key]
    story.models.clear()


def named_unresolved(story: Cluster) -> None:
    """A task names its model, and nobody knows yet which revision that will be."""
    story.edit(tasks=[{"name": "chat", "model": "smollm2", "fallback": ["gemma3"]}])


def asked_for(story: Cluster) -> None:
    """It is requested and not swapped to yet."""
    story.edit(tasks=[{"name": "chat", "model": "gemma3"}])


@pytest.mark.parametrize(
    "happens",
    [loaded, in_flight, shared_claim, another_is_brought, engine_is_away, form_is_lost, named_unresolved, asked_for],
)
def test_what_may_be_needed_is_not_deleted(happens: Callable[[Cluster], Any]) -> None:
    """In doubt it stays: disk is cheaper than a request that fails."""
    story = at_rest()
    story.stored[OLD] = "sha256:1"
    happens(story)
    assert deleted(story) == []


def test_the_pulled_tag_goes_once_all_models_of_it_are_made() -> None:
    """Its layers are theirs by then. One that stands for other weights stays, because it is what tells so."""
    story = cluster(TWO_OLLAMA.replace("ollama://qwen3:q4", "ollama://smollm2:q4").replace("[chat, tools]", "[chat]"))
    fields = story.models["qwen3"].to_dict()
    story.models["qwen3"] = type(story.models["qwen3"]).model_validate(
        {**fields, "spec": {**fields["spec"], "contextWindow": 512}}
    )
    story.edit(tasks=[{"name": "chat", "model": "smollm2"}, {"name": "short", "model": "qwen3"}])
    seen = set[str]()
    for _ in range(60):
        for job in (action for action in actions(story) if isinstance(action, StartJob)):
            if job.key.startswith("delete/"):
                assert len([name for name in story.stored if name.startswith("arbiter/")]) == 2
                seen.add(job.key)
        settle_all(story)
    assert seen == {"delete/smollm2:q4"}
    assert sorted(name.partition(":")[0] for name in story.stored) == ["arbiter/qwen3", "arbiter/smollm2"]
    story.stored["smollm2:q4"] = "sha256:" + "9" * 64
    assert deleted(story) == []
    story.stored["smollm2:q4"] = str(RESOLVED["digest"])
    story.step(60)
    assert deleted(story) == ["smollm2:q4"]


def settle_all(story: Cluster) -> None:
    """Pass over models and pool once, and let time pass."""
    for name in sorted(story.models):
        for action in plan_model(story.model_snapshot(name), story.now).actions:
            story.carry_out(action)
    settle_for(story, 5)
