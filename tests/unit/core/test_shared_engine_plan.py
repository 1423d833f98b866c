"""Plans of pools whose models share an Ollama engine: what is fetched, loaded and let go there, and what is told."""

from __future__ import annotations

from dataclasses import replace

from arbiter.api.localmodel import LocalModel
from arbiter.api.reasons import ConditionType, ReasonCode
from arbiter.core.actions import ObjectKey, WriteStatus
from tests.unit.core.serving_cluster import GIB, RESOLVED, cluster
from tests.unit.core.test_pool_plan import actions, is_ready, said, served, settle_once
from tests.unit.core.test_serving_repeats import settle, whole
from tests.unit.core.test_serving_stories import OLLAMA, SIX_LINES, TWO_MODELS

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


def test_a_model_in_a_file_is_not_given_to_a_shared_engine() -> None:
    """The message says what to write instead."""
    story = cluster(SIX_LINES)
    fields = story.models["smollm2"].to_dict()
    spec = {"source": "oci://registry.example/m:1#m.gguf", "engine": {"type": "Ollama"}}
    story.models["smollm2"] = LocalModel.model_validate({**fields, "spec": spec})
    settle(story, whole())
    task = story.pool.status.tasks[0]
    assert task.reason == ReasonCode.ModelNotRunnable
    assert task.message is not None
    assert "spec.engine.type: must be LlamaCpp" in task.message


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
