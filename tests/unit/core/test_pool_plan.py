"""Plans of pools beside the stories: what each rule says where no story passes by."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.api.localmodel import LocalModel
from arbiter.api.meta import ConditionStatus
from arbiter.api.modelpool import Residence
from arbiter.api.reasons import ConditionType, ReasonCode
from arbiter.core.actions import ObjectKey, Remove, StartJob, StopJob, WriteStatus
from arbiter.core.plan import plan_model, plan_pool
from arbiter.core.revisions import FrozenRevision
from arbiter.core.routes import RouteTable
from arbiter.core.status import find_condition
from arbiter.errors import CorruptStateError
from tests.unit.core.serving_cluster import DIGEST, RESOLVED, SETTINGS, START, Cluster, cluster
from tests.unit.core.test_serving_repeats import settle, whole
from tests.unit.core.test_serving_stories import EXTERNAL, SIX_LINES, TWO_MODELS

if TYPE_CHECKING:
    from arbiter.core.actions import Action


def served(manifests: str = SIX_LINES, **spec: Any) -> Cluster:  # noqa: ANN401 - fields of a spec
    """Give a cluster at rest."""
    story = cluster(manifests)
    if spec:
        story.edit(**spec)
    settle(story, whole())
    return story


def actions(story: Cluster) -> tuple[Action, ...]:
    """Give what one pass over the pool would do."""
    return plan_pool(story.snapshot(), story.now).actions


def said(story: Cluster, about: ConditionType) -> tuple[ReasonCode, str] | None:
    """Give reason and message of a condition; None if it does not stand."""
    condition = find_condition(story.pool.status.conditions, about)
    return None if condition is None else (ReasonCode(condition.reason), condition.message)


def table(story: Cluster) -> RouteTable:
    """Give the table that stands."""
    return RouteTable.from_text(story.objects[ObjectKey("ConfigMap", "assistant-routes")].body["data"]["routes.json"])


def is_ready(story: Cluster) -> bool:
    """Whether the pool is Ready."""
    ready = find_condition(story.pool.status.conditions, ConditionType.Ready)
    return ready is not None and ready.status is ConditionStatus.TRUE


def settle_once(story: Cluster) -> None:
    """Pass once, and let time pass only if nothing was begun."""
    for name in story.models:
        for action in plan_model(story.model_snapshot(name), story.now).actions:
            story.carry_out(action)
    for action in actions(story):
        story.carry_out(action)
    if not any(job.running for job in story.jobs.values()):
        story.step()


@pytest.mark.parametrize(
    ("needs", "code"),
    [
        ({"capabilities": ["vision"]}, ReasonCode.CapabilityMissing),
        ({"contextWindow": 100_000}, ReasonCode.ContextWindowTooSmall),
        ({"maxMemory": "100Mi"}, ReasonCode.MemoryAboveNeed),
    ],
)
def test_a_model_that_lacks_what_the_task_needs_is_not_started(needs: dict[str, Any], code: ReasonCode) -> None:
    """The message says what it lacks; the pool waits for a person."""
    story = served(tasks=[{"name": "chat", "model": "smollm2", "needs": needs}])
    assert story.pool.status.tasks[0].reason == code
    assert not any(key.kind == "ControllerRevision" for key in story.objects)


def test_a_deprecated_model_is_not_chosen_and_reported_where_it_serves() -> None:
    """Whoever asks for it by name gets it, with a word."""
    story = cluster(TWO_MODELS)
    fields = story.models["qwen3"].to_dict()
    story.models["qwen3"] = LocalModel.model_validate({**fields, "spec": {**fields["spec"], "deprecated": "too old"}})
    story.edit(tasks=[{"name": "chat", "candidates": ["qwen3", "smollm2"]}, {"name": "code", "model": "qwen3"}])
    settle(story, whole())
    chat, code = story.pool.status.tasks
    assert (chat.active and chat.active.model, code.active and code.active.model) == ("smollm2", "qwen3")
    assert code.reason == ReasonCode.DeprecatedInUse
    assert is_ready(story)
    assert said(story, ConditionType.Degraded) == (
        ReasonCode.DeprecatedInUse,
        "qwen3 is deprecated and serves code: too old",
    )


@pytest.mark.parametrize(
    ("operator", "values", "chosen"),
    [
        ("In", ["small"], "smollm2"),
        ("NotIn", ["small"], "qwen3"),
        ("Exists", [], "smollm2"),
        ("DoesNotExist", [], "qwen3"),
    ],
)
def test_a_selector_means_what_it_means_in_kubernetes(operator: str, values: list[str], chosen: str) -> None:
    """Each operator chooses the models that it should."""
    story = cluster(TWO_MODELS)
    fields = story.models["smollm2"].to_dict()
    labelled = {**fields["metadata"], "labels": {"tier": "small"}}
    story.models["smollm2"] = LocalModel.model_validate({**fields, "metadata": labelled})
    asked = {"key": "tier", "operator": operator, "values": values}
    story.edit(tasks=[{"name": "chat"}], modelSelector={"matchExpressions": [asked]})
    settle(story, whole())
    active = story.pool.status.tasks[0].active
    assert active is not None
    assert active.model == chosen


def test_a_selector_that_matches_nothing_says_so() -> None:
    """There is nothing to choose, and the message says what to do."""
    story = served(tasks=[{"name": "chat"}], modelSelector={"matchLabels": {"tier": "huge"}})
    assert story.pool.status.tasks[0].message == "chat names no model, and no LocalModel matches: create one"


def test_no_engine_pods_are_asked_for_where_the_pool_is_scaled_to_zero() -> None:
    """What serves is kept on record and comes back when the pool is scaled up."""
    story = served()
    story.edit(replicas=0)
    settle(story, whole())
    assert said(story, ConditionType.Ready) == (
        ReasonCode.ScaledToZero,
        "spec.replicas is 0, so nothing runs smollm2: raise it to serve again",
    )
    assert said(story, ConditionType.Stalled) is None
    story.edit(replicas=2)
    settle(story, whole())
    assert is_ready(story)
    assert story.pool.status.replicas == 2


@pytest.mark.parametrize(
    ("unschedulable", "words"),
    [
        ("", ""),
        ("no room", ": the scheduler finds no node for {engine}: no room"),
    ],
)
def test_what_keeps_one_of_several_pods_is_told(unschedulable: str, words: str) -> None:
    """The pool serves, and its flaw says why it is no whole; a pod that only starts is no more than counted."""
    story = served(replicas=2)
    snapshot = story.snapshot()
    (engine,) = snapshot.engines.values()
    other = replace(engine.pods[0], name="other", ready=False, unschedulable=unschedulable)
    short = replace(engine, ready_endpoints=1, pods=(*engine.pods, other))
    plan = plan_pool(replace(snapshot, nodes=(), engines={engine.name: short}), story.now)
    (status,) = [action.status for action in plan.actions if isinstance(action, WriteStatus)]
    (degraded,) = [each for each in status["conditions"] if each["type"] == "Degraded"]
    assert degraded["reason"] == "PodsMissing"
    assert degraded["message"] == "1 of 2 engine pods of smollm2 are ready" + words.format(engine=engine.name)


def test_what_is_preloaded_is_asked_too_and_takes_no_requests() -> None:
    """It lies ready beside what serves."""
    story = served(TWO_MODELS, preload=["qwen3"])
    assert {each.model: each.state for each in story.pool.status.residents} == {
        "qwen3": Residence.Loaded,
        "smollm2": Residence.Loaded,
    }
    assert len([key for key, job in story.jobs.items() if key.startswith("prove/") and job.ok]) == 2
    assert [each.backend.model for each in table(story).tasks["chat"].targets] == ["smollm2"]
    gone = served(preload=["gone"])
    assert is_ready(gone)
    reason, message = said(gone, ConditionType.Degraded) or (None, "")
    assert reason == ReasonCode.PreloadNotReady
    assert message.startswith("gone is not preloaded: there is no LocalModel gone")


def test_a_lost_frozen_form_leaves_the_engine_as_it_stands() -> None:
    """It serves on, nothing is applied over it or removed, and people are told."""
    story = served()
    revision = story.pool.status.tasks[0].active
    assert revision is not None
    key = ObjectKey("ControllerRevision", f"assistant-{revision.revision}")
    story.objects[key].body["data"] = {"version": 99}
    story.settings = replace(
        SETTINGS, engines=replace(SETTINGS.engines, llama_server_image="arbiter.local/arbiter-llama-server:9")
    )
    settle(story, whole())
    assert is_ready(story)
    assert (said(story, ConditionType.Degraded) or ("",))[0] == ReasonCode.FrozenFormLost
    assert ObjectKey("Deployment", key.name) in story.objects
    assert [each.backend.revision for each in table(story).tasks["chat"].targets] == [revision.revision]


def test_a_frozen_form_that_was_deleted_is_written_again_while_it_would_be_the_same() -> None:
    """As long as LocalModel and settings are what they were, nothing is lost."""
    story = served()
    (key,) = [key for key in story.objects if key.kind == "ControllerRevision"]
    del story.objects[key]
    settle(story, whole())
    assert key in story.objects
    assert said(story, ConditionType.Degraded) is None


def test_routers_that_do_not_obey_keep_a_new_pool_from_being_ready_and_no_other() -> None:
    """Once Ready, a router that is behind takes nothing away from anybody."""
    deaf = cluster(SIX_LINES)
    deaf.deaf = True
    settle(deaf, whole())
    assert (said(deaf, ConditionType.Ready) or ("",))[0] == ReasonCode.RoutersStarting
    story = served()
    story.deaf = True
    story.edit(router={"limits": {"heldRequests": 5}})
    settle(story, whole())
    assert is_ready(story)
    assert (said(story, ConditionType.Reconciling) or ("",))[0] == ReasonCode.RoutersBehind


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}, None),
        ({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 1}, ReasonCode.RoutersStarting),
        ({"observedGeneration": 0, "replicas": 2, "updatedReplicas": 2}, ReasonCode.RoutersStarting),
    ],
)
def test_routers_that_are_replaced_are_told_from_one_that_is_away(
    status: dict[str, int], reason: ReasonCode | None
) -> None:
    """A rollout is the spec being put in place; a router that restarts is not."""
    story = served()
    story.objects[ObjectKey("Deployment", "assistant-router")].body["status"] = status
    settle(story, whole())
    assert is_ready(story)
    assert (said(story, ConditionType.Reconciling) or (None,))[0] == reason


def test_a_table_that_was_deleted_is_written_above_what_routers_obey() -> None:
    """Else they would refuse it as old."""
    story = served()
    before = table(story)
    del story.objects[ObjectKey("ConfigMap", "assistant-routes")]
    settle(story, whole())
    after = table(story)
    assert (after.hash, after.generation) == (before.hash, before.generation + 1)
    assert is_ready(story)


def test_another_leader_writes_the_same_instruction_under_its_epoch() -> None:
    """The generation stays: it counts what was said, not by whom."""
    story = served()
    before = table(story)
    story.settings = replace(SETTINGS, epoch=9)
    settle(story, whole())
    assert table(story) == replace(before, epoch=9)


def test_a_table_names_no_key_before_routers_have_it() -> None:
    """Routers are rolled first; until then the model is neither asked nor routed to."""
    story = cluster(EXTERNAL)
    settle_once(story)
    assert table(story).tasks["chat"].targets == ()
    settle(story, whole())
    (target,) = table(story).tasks["chat"].targets
    assert (target.backend.key, target.backend.endpoints) == ("mac-key", ("http://mac.example:11434",))
    deployment = story.objects[ObjectKey("Deployment", "assistant-router")].body
    assert "--backend-keys=/etc/arbiter/backend-keys" in str(deployment)


def test_a_name_that_routers_cannot_be_told_stops_its_task_alone() -> None:
    """They would refuse the whole table for it."""
    story = cluster(EXTERNAL.replace("keySecret: mac-key", "model: 'qwen 3'"))
    settle(story, whole())
    task = story.pool.status.tasks[0]
    assert task.reason == ReasonCode.ModelNotRunnable
    assert task.message is not None
    assert "spec.external.model: must be visible ASCII" in task.message


def test_an_operator_that_was_replaced_writes_nothing() -> None:
    """A table of a later leader stands: whoever sees it has to make sure first."""
    story = served()
    story.edit(replicas=3)
    story.settings = replace(SETTINGS, epoch=2)
    plan = plan_pool(story.snapshot(), story.now)
    assert plan.actions == ()
    assert [note.code for note in plan.notes] == [ReasonCode.RoutesOvertaken]
    assert plan.look_again is not None


def test_what_others_own_is_never_removed_or_applied() -> None:
    """Only what the pool controls by its uid is ours, whatever its labels say."""
    story = served()
    for key, kept in list(story.objects.items()):
        story.objects[ObjectKey(key.kind, f"x-{key.name}")] = replace(kept, owner="theirs")
        if key.kind == "Service":
            story.objects[key] = replace(kept, owner="theirs")
            kept.body["spec"] = {}
    assert not any(isinstance(action, Remove) for action in actions(story))
    settle(story, whole())
    assert (said(story, ConditionType.Ready) or ("",))[0] == ReasonCode.NameTaken
    story.step(60)
    settle(story, whole())
    assert (said(story, ConditionType.Stalled) or ("",))[0] == ReasonCode.NameTaken


def test_an_engine_whose_name_is_taken_says_so() -> None:
    """The object is named, and nothing of the engine is made under another name."""
    story = served()
    (key,) = [key for key in story.objects if key.kind == "Deployment" and "router" not in key.name]
    fresh = cluster(SIX_LINES)
    fresh.objects[key] = replace(story.objects[key], owner="theirs")
    settle(fresh, whole())
    task = fresh.pool.status.tasks[0]
    assert task.reason == ReasonCode.NameTaken
    assert task.message is not None
    assert task.message.startswith(f"Deployment {key.name} belongs to somebody else")


def test_a_router_that_refuses_the_routes_is_told() -> None:
    """With its own words, and the pool serves on."""
    story = served()
    snapshot = story.snapshot()
    (router,) = snapshot.routers
    refused = replace(snapshot, routers=(replace(router, refused="routes.tasks is missing"),))
    (write,) = [each for each in plan_pool(refused, story.now).actions if isinstance(each, WriteStatus)]
    degraded = next(each for each in write.status["conditions"] if each["type"] == "Degraded")
    assert degraded["reason"] == ReasonCode.RoutesRefused
    assert "routes.tasks is missing" in degraded["message"]


def test_one_that_was_made_anew_under_an_old_name_starts_from_no_conditions() -> None:
    """Its status tells of generations that it has not had."""
    story = served()
    fields = story.pool.to_dict()
    for condition in fields["status"]["conditions"]:
        condition["observedGeneration"] = 7
    story.pool = type(story.pool).model_validate(fields)
    settle(story, whole())
    assert all(condition.observed_generation == 1 for condition in story.pool.status.conditions)


def test_a_question_that_nobody_needs_any_more_is_stopped() -> None:
    """Its task asks for another model by now."""
    story = cluster(TWO_MODELS)
    while not any(job.running for job in story.jobs.values()):
        settle_once(story)
    story.edit(tasks=[{"name": "chat", "model": "qwen3"}])
    assert [type(action) for action in actions(story) if isinstance(action, StopJob)] == [StopJob]


def test_what_it_failed_with_stands_while_it_is_asked_once_more() -> None:
    """Else each attempt would be two writes of the status."""
    story = cluster(SIX_LINES)
    story.answers["prove/"] = {"status": 200, "reply": {}, "problem": "nothing"}
    for _ in range(10):
        settle_once(story)
        story.step()
    (key,) = story.jobs
    assert story.pool.status.tasks[0].reason == ReasonCode.NoAnswer
    for attempts, writes in ((3, 0), (0, 1)):
        story.jobs[key] = replace(story.jobs[key], running=True, attempts=attempts)
        assert sum(isinstance(action, WriteStatus) for action in actions(story)) == writes


def test_another_pod_is_asked_without_a_pause() -> None:
    """Whoever mends what an engine starts with, and deletes its pod, does not wait for minutes."""
    story = cluster(SIX_LINES)
    story.answers["prove/"] = {"status": 500, "problem": "upside down"}
    for _ in range(10):
        settle_once(story)
        story.step()
    (key,) = story.jobs
    story.jobs[key] = replace(story.jobs[key], running=False, at=story.now, attempts=8)
    snapshot = story.snapshot()
    (engine,) = snapshot.engines.values()
    newer = replace(engine.pods[0], name="newer", created_at=story.now + timedelta(seconds=1))
    for pod, jobs in ((engine.pods[0], 0), (newer, 1)):
        plan = plan_pool(replace(snapshot, engines={engine.name: replace(engine, pods=(pod,))}), story.now)
        assert sum(isinstance(action, StartJob) for action in plan.actions) == jobs


def test_when_a_model_was_last_used_is_written_seldom() -> None:
    """At most every ten minutes, for each change is a write."""
    story = served()
    active = story.pool.status.tasks[0].active
    assert active is not None
    story.in_flight = {active.revision: 2}
    settle(story, whole())
    used = story.pool.status.residents[0].used_at
    assert used is not None
    assert used > START
    story.step(300)
    assert actions(story) == ()
    story.step(600)
    assert actions(story) != ()


def test_a_frozen_form_reads_back_as_it_was_and_no_other_does() -> None:
    """A field that is missing or unknown is told, not guessed."""
    frozen = next(
        FrozenRevision.read(kept.body["data"], "it")
        for key, kept in served().objects.items()
        if key.kind == "ControllerRevision"
    )
    fields = frozen.to_fields()
    assert FrozenRevision.read(fields, "it") == frozen
    assert (frozen.model, frozen.digest) == ("smollm2", DIGEST)
    for wrong in (
        {**fields, "engine": "Magic"},
        {**fields, "more": 1},
        {**fields, "version": 2},
        {**fields, "pod": []},
    ):
        with pytest.raises(CorruptStateError):
            FrozenRevision.read(wrong, "it")
    assert RESOLVED["digest"] == frozen.digest
