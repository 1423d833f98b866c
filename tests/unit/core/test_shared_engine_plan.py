"""Plans of pools whose models share an Ollama engine: what is fetched, loaded and let go there, and what is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from arbiter.api.modelpool import Residence
from arbiter.api.reasons import ConditionType, ReasonCode
from arbiter.core.actions import ObjectKey, StartJob, WriteStatus
from tests.unit.core.serving_cluster import GIB, RESOLVED, Cluster, cluster
from tests.unit.core.test_pool_plan import actions, is_ready, said, served, settle_once
from tests.unit.core.test_serving_repeats import settle, whole
from tests.unit.core.test_serving_stories import OLLAMA, TWO_MODELS

OTHER = {**RESOLVED, "digest": "sha256:" + "5" * 64}

TWO_OLLAMA = TWO_MODELS.replace("oci://registry.example/", "ollama://")


def test_what_matters_less_waits_where_the_shared_engine_is_full() -> None:
    """The preloaded model does not push out the one that serves."""
    story = cluster(TWO_OLLAMA)
    story.resolutions["qwen3"] = OTHER
    story.edit(preload=["qwen3"], capacity={"maxLoadedModels": 1})
    settle(story, whole())
    assert is_ready(story)
    reason, message = said(story, ConditionType.Degraded) or (None, "")
    assert reason == ReasonCode.PreloadNotReady
    assert "may hold 1 models, of which 1 loaded models hold 1Gi" in message
    assert len(story.loaded) == 1


def test_an_idle_model_of_the_shared_engine_makes_room() -> None:
    """Its name is nobody's any more, and its room is needed; before that it may stay."""
    alone = served(OLLAMA)
    alone.loaded |= {"somebody/else:1": GIB}
    alone.edit(capacity={"maxLoadedModels": 1})
    settle(alone, whole())
    assert "somebody/else:1" in alone.loaded
    both = cluster(TWO_OLLAMA)
    both.resolutions["qwen3"] = OTHER
    both.edit(capacity={"maxLoadedModels": 2})
    settle(both, whole())
    both.loaded |= {"somebody/else:1": GIB}
    both.edit(tasks=[{"name": "chat", "model": "smollm2"}, {"name": "code", "model": "qwen3"}])
    settle(both, whole())
    assert is_ready(both)
    assert sorted(name.partition(":")[0] for name in both.loaded) == ["arbiter/qwen3", "arbiter/smollm2"]


def test_weights_that_moved_before_they_were_fetched_are_told() -> None:
    """The engine had to fetch the tag again, and it stands for others by now."""
    story = served(OLLAMA)
    story.stored["smollm2:135m"] = "sha256:" + "9" * 64
    settle(story, whole())
    assert is_ready(story)
    assert (said(story, ConditionType.Degraded) or ("",))[0] == ReasonCode.WeightsMoved


def test_what_is_idle_leaves_an_engine_without_bounds_at_once() -> None:
    """Nothing would ever need its room, and the pod would grow and grow."""
    story = served(OLLAMA)
    story.loaded |= {"somebody/else:1": GIB}
    settle(story, whole())
    assert [name.partition(":")[0] for name in story.loaded] == ["arbiter/smollm2"]


def test_the_server_is_never_given_more_than_it_was_told_to_hold() -> None:
    """It would unload one of them by itself, and that may be one that serves."""
    story = cluster(TWO_OLLAMA)
    story.resolutions["qwen3"] = OTHER
    story.edit(capacity={"maxLoadedModels": 1})
    settle(story, whole())
    story.edit(capacity={"maxLoadedModels": 4}, preload=["qwen3"])
    settle(story, whole())
    assert (said(story, ConditionType.Degraded) or (None, ""))[0] == ReasonCode.PreloadNotReady
    assert len(story.loaded) == 1


@pytest.mark.parametrize(
    ("capacity", "reserved"), [({}, "742Mi"), ({"maxLoadedModels": 1}, "371Mi"), ({"memory": "2Gi"}, "2Gi")]
)
def test_a_node_keeps_what_the_models_need_where_no_capacity_is_named(capacity: dict[str, Any], reserved: str) -> None:
    """What they needed when it began; a model less or more restarts nothing, and a bound on models counts."""
    story = cluster(TWO_OLLAMA)
    story.resolutions["qwen3"] = OTHER
    story.edit(preload=["qwen3"], capacity=capacity)
    settle(story, whole())
    deployment = story.objects[ObjectKey("Deployment", "assistant-ollama")]
    resources = deployment.body["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources["requests"]["memory"] == reserved
    assert ("limits" in resources) is ("memory" in capacity)
    story.edit(preload=[])
    settle(story, whole())
    assert story.objects[ObjectKey("Deployment", "assistant-ollama")].body == deployment.body
    assert story.pool.status.tasks[0].reason == ReasonCode.Serving


def test_the_shared_engine_goes_with_its_last_model() -> None:
    """It stays while a request may be in flight in it, and its frozen form goes last."""
    story = cluster(OLLAMA + "---" + TWO_MODELS.partition("---")[0])
    settle(story, whole())
    active = story.pool.status.tasks[0].active
    assert active is not None
    story.in_flight = {active.revision: 1}
    story.edit(tasks=[{"name": "other", "model": "qwen3"}])
    for _ in range(8):
        settle_once(story)
        story.step()
    assert ObjectKey("Deployment", "assistant-ollama") in story.objects
    story.in_flight = {}
    settle(story, whole())
    assert not [key for key in story.objects if "ollama" in key.name or active.revision in key.name]


def test_a_fetch_that_fails_is_told_until_it_succeeds() -> None:
    """While it is tried once more its message stands, so that each attempt is not two writes."""
    story = cluster(OLLAMA)
    story.answers["pull/"] = {"status": 500, "problem": "no space left on device"}
    for _ in range(10):
        settle_once(story)
        story.step()
    task = story.pool.status.tasks[0]
    assert task.message == "smollm2 could not be fetched into the shared engine: no space left on device"
    assert sum(isinstance(each, WriteStatus) for each in actions(story)) == 0
    story.answers.clear()
    story.step(300)
    settle(story, whole())
    assert is_ready(story)


def test_how_far_a_fetch_is_stands_in_the_message() -> None:
    """The small layers are over before anybody reads of them."""
    story = cluster(OLLAMA)
    while not any(key.startswith("pull/") for key in story.jobs):
        settle_once(story)
    (key,) = story.jobs
    for reply, words in (
        ({"total": 1000, "completed": 10}, "is being fetched into the shared engine"),
        ({"total": GIB, "completed": GIB // 2}, "is being fetched into the shared engine: 50 % of 1Gi"),
    ):
        story.jobs[key] = replace(story.jobs[key], reply=reply)
        for action in actions(story):
            story.carry_out(action)
        assert story.pool.status.tasks[0].message == f"smollm2 {words}"


SAME = {"qwen3": ("8" * 64, "num_ctx 1024"), "smollm2": ("8" * 64, "num_ctx 1024")}


def alike(**made_of: tuple[str, str]) -> Cluster:
    """Give a pool whose two models are made of one file."""
    story = cluster(TWO_OLLAMA)
    story.resolutions["qwen3"] = OTHER
    story.made_of = SAME | made_of
    story.edit(tasks=[{"name": "chat", "model": "smollm2"}, {"name": "code", "model": "qwen3"}])
    settle(story, whole())
    return story


def test_two_models_of_the_same_weights_are_one_in_memory() -> None:
    """Ollama lists it once, under the name that was loaded first; both serve, and it counts once."""
    story = alike()
    assert is_ready(story)
    assert len(story.loaded) == 1
    assert [each.state for each in story.pool.status.residents] == [Residence.Loaded] * 2
    story.edit(capacity={"maxLoadedModels": 1})
    settle(story, whole())
    assert is_ready(story)


def test_what_is_in_memory_under_a_name_that_nobody_needs_stays_for_the_other() -> None:
    """To unload it would be to unload what serves."""
    story = alike()
    (name,) = story.loaded
    other = "qwen3" if "smollm2" in name else "smollm2"
    story.edit(tasks=[{"name": "chat" if other == "smollm2" else "code", "model": other}])
    settle(story, whole())
    assert list(story.loaded) == [name]
    assert is_ready(story)


def test_nothing_leaves_while_an_operator_that_was_restarted_asks_what_models_are_made_of() -> None:
    """What seems to be nobody's may be what serves under another name."""
    story = alike()
    story.jobs.clear()
    story.loaded["somebody/else:1"] = GIB
    asked = [action.key.partition("/")[0] for action in actions(story) if isinstance(action, StartJob)]
    assert asked == ["show", "show"]
    settle(story, whole())
    assert is_ready(story)
    assert "somebody/else:1" not in story.loaded


def test_the_same_weights_with_other_options_wait() -> None:
    """Each request to one of them would take the other out; the reason names both."""
    story = alike(qwen3=("8" * 64, "num_ctx 2048"))
    assert not is_ready(story)
    waiting = [task for task in story.pool.status.tasks if task.reason == ReasonCode.WaitingForRoom]
    (task,) = waiting
    assert "is made of the same weights as" in (task.message or "")
    assert "in another pool" in (task.message or "")
    assert len(story.loaded) == 1
    assert not [action for action in actions(story) if isinstance(action, StartJob)]
