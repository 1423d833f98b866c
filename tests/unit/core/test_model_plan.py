"""LocalModels: what is asked when, and what their status says of the answers."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.api.localmodel import LocalModel
from arbiter.api.meta import ConditionStatus
from arbiter.api.reasons import ConditionType, ReasonCode
from arbiter.core.actions import Create, ObjectKey, Remove, WriteStatus
from arbiter.core.model_plan import MOVING_EVERY, estimated_memory, is_moving, plan_model
from arbiter.core.resolution import Failure, Resolution, read_resolution
from arbiter.core.snapshot import PodPhase, PodView
from arbiter.core.status import find_condition
from arbiter.engines.sources import parse_source
from tests.unit.core.serving_cluster import RESOLVED, START, Cluster, cluster
from tests.unit.core.test_serving_stories import EXTERNAL, SIX_LINES

if TYPE_CHECKING:
    from arbiter.core.actions import Plan

NAME = "smollm2"
JOB = ObjectKey("Job", "smollm2-resolve")


def one_pass(story: Cluster) -> Plan:
    """Pass over the model once, and carry it out."""
    plan = plan_model(story.model_snapshot(NAME), story.now)
    for action in plan.actions:
        story.carry_out(action)
    story.step()
    return plan


def said(story: Cluster, about: ConditionType) -> tuple[ConditionStatus, str]:
    """Give status and reason of a condition."""
    condition = find_condition(story.models[NAME].status.conditions, about)
    assert condition is not None
    return condition.status, condition.reason


def with_spec(**spec: Any) -> Cluster:  # noqa: ANN401 - fields of a spec
    """Give a cluster whose model has this spec."""
    story = cluster(SIX_LINES)
    story.models[NAME] = LocalModel.model_validate({**story.models[NAME].to_dict(), "spec": spec})
    return story


def ended(message: str, **fields: Any) -> PodView:  # noqa: ANN401 - fields of a PodView
    """Give a resolver's pod that has ended with these words."""
    usual: dict[str, Any] = {
        "phase": PodPhase.SUCCEEDED,
        "ready": False,
        "deleting": False,
        "address": "",
        "node": "n",
        "created_at": START,
        "last_exit": 0,
    }
    return PodView(name="r", last_message=message, **{**usual, **fields})


def test_what_was_found_is_completed_by_what_was_given() -> None:
    """The owner's figures win; memory is estimated from the weights where nobody gives it."""
    story = cluster(SIX_LINES)
    story.resolutions[NAME] = {**RESOLVED, "capabilities": ["tools"]}
    one_pass(story)
    one_pass(story)
    status = story.models[NAME].status
    assert status.capabilities == ("chat", "tools")
    assert status.context_window == 8192
    assert status.memory is not None
    assert 0 <= int(status.memory) - estimated_memory(100_000_000) < 1024**2
    assert status.resolved_at == START
    given = with_spec(source="oci://registry.example/m:1", memory="2Gi", contextWindow=512)
    one_pass(given)
    one_pass(given)
    assert str(given.models[NAME].status.memory) == "2Gi"
    assert given.models[NAME].status.context_window == 512


def test_nothing_is_done_at_rest_and_a_tag_is_asked_again_after_an_hour() -> None:
    """A digest is never asked again, a tag is, and the old answer stands meanwhile."""
    story = cluster(SIX_LINES)
    one_pass(story)
    one_pass(story)
    rest = one_pass(story)
    assert rest.actions == ()
    assert rest.look_again == START + MOVING_EVERY
    story.now = START + MOVING_EVERY
    story.resolutions[NAME] = {**RESOLVED, "digest": "sha256:" + "2" * 64}
    assert one_pass(story).actions == (Remove(JOB, rest_uid(story)),)
    assert isinstance(one_pass(story).actions[0], Create)
    assert said(story, ConditionType.Ready) == (ConditionStatus.TRUE, ReasonCode.Runnable)
    one_pass(story)
    assert story.models[NAME].status.digest == "sha256:" + "2" * 64


def rest_uid(story: Cluster) -> str:
    """Give the uid that the Job had."""
    return next(uid for uid in story.results)


def test_a_source_that_fails_is_asked_again_after_a_pause_that_grows() -> None:
    """The message stands until there is another; after a minute the model has failed for whoever waits."""
    story = cluster(SIX_LINES)
    story.resolutions[NAME] = {"version": 1, "ok": False, "reason": "SourceUnreachable", "message": "no route"}
    asked = []
    for _ in range(400):
        plan = one_pass(story)
        asked += [story.now for action in plan.actions if isinstance(action, Create)]
    pauses = [after - before for before, after in itertools.pairwise(asked)]
    assert pauses[0] < timedelta(minutes=2)
    assert timedelta(minutes=9) < pauses[-1] < timedelta(minutes=11)
    assert said(story, ConditionType.Resolved) == (ConditionStatus.FALSE, ReasonCode.ResolveFailed)
    assert said(story, ConditionType.Stalled) == (ConditionStatus.TRUE, ReasonCode.ResolveFailed)
    story.resolutions[NAME] = RESOLVED
    for _ in range(400):
        one_pass(story)
    assert said(story, ConditionType.Ready) == (ConditionStatus.TRUE, ReasonCode.Runnable)
    assert find_condition(story.models[NAME].status.conditions, ConditionType.Stalled) is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "create another one whose spec.pullSecret names a Secret"),
        ({"pullSecret": "login"}, "spec.pullSecret names Secret login of namespace demo"),
    ],
)
def test_who_is_not_let_in_is_told_which_secret_it_is_about(spec: dict[str, Any], words: str) -> None:
    """A resolver knows the file that it was given, and not where that comes from."""
    story = with_spec(source="oci://registry.example/m:1", **spec)
    story.resolutions[NAME] = {"version": 1, "ok": False, "reason": "AccessDenied", "message": "not let in"}
    one_pass(story)
    one_pass(story)
    ready = find_condition(story.models[NAME].status.conditions, ConditionType.Ready)
    assert ready is not None
    assert ready.message.startswith("not let in; ")
    assert words in ready.message


def test_a_known_model_that_cannot_be_asked_again_stays_ready() -> None:
    """That a registry is away for a while takes nothing from what is known."""
    story = cluster(SIX_LINES)
    one_pass(story)
    one_pass(story)
    story.now = START + MOVING_EVERY
    story.resolutions[NAME] = {"version": 1, "ok": False, "reason": "SourceNotFound", "message": "gone"}
    plans = [one_pass(story) for _ in range(5)]
    assert said(story, ConditionType.Ready) == (ConditionStatus.TRUE, ReasonCode.Runnable)
    assert not any(isinstance(action, WriteStatus) for plan in plans for action in plan.actions)
    assert [note.code for note in plans[-1].notes] == [ReasonCode.SourceNotFound]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"source": "ollama://smollm2"}, "spec.source: must be ollama://name:tag"),
        ({"source": "https://files.example/m.gguf"}, "spec.sha256: is required"),
        ({"source": "hf://org/repo/m.bin"}, "spec.engine.type: must be given"),
        ({"external": {"url": "http://mac.example:1/v1"}}, "spec.external.url: must end before /v1"),
    ],
)
def test_a_spec_that_cannot_mean_anything_names_the_field(spec: dict[str, Any], words: str) -> None:
    """No Job is made for it, and it has failed at once: a spec does not change."""
    story = with_spec(**spec)
    plan = one_pass(story)
    assert not any(isinstance(action, Create) for action in plan.actions)
    condition = find_condition(story.models[NAME].status.conditions, ConditionType.Stalled)
    assert condition is not None
    assert condition.message.startswith(words)


def test_a_server_elsewhere_is_resolved_as_it_is_written() -> None:
    """Nothing is started for it, and its identity is its address and the model's name there."""
    story = cluster(EXTERNAL)
    plan = one_pass(story)
    assert [type(action).__name__ for action in plan.actions] == ["WriteStatus", "Emit"]
    assert story.models[NAME].status.digest == "http://mac.example:11434#smollm2"
    assert one_pass(story).actions == ()


def test_a_name_of_somebody_else_is_left_alone() -> None:
    """The Job of another owner is not touched, and the message names it."""
    story = cluster(SIX_LINES)
    one_pass(story)
    story.objects[JOB] = replace(story.objects[JOB], owner="theirs")
    plan = one_pass(story)
    assert not any(isinstance(action, Create | Remove) for action in plan.actions)
    assert said(story, ConditionType.Stalled) == (ConditionStatus.TRUE, ReasonCode.NameTaken)


def test_a_deprecated_model_in_use_is_reported() -> None:
    """It stays Ready: whoever uses it goes on."""
    story = with_spec(external={"url": "http://mac.example:1"}, deprecated="use qwen3")
    one_pass(story)
    assert said(story, ConditionType.Degraded) == (ConditionStatus.TRUE, ReasonCode.DeprecatedInUse)
    assert said(story, ConditionType.Ready)[0] == ConditionStatus.TRUE
    story.edit(tasks=[{"name": "chat", "model": "other"}])
    one_pass(story)
    assert find_condition(story.models[NAME].status.conditions, ConditionType.Degraded) is None


@pytest.mark.parametrize(
    ("source", "moving"),
    [
        ("ollama://smollm2:135m", True),
        ("oci://registry.example/m:1", True),
        (f"oci://registry.example/m@sha256:{'a' * 64}", False),
        ("hf://org/repo", True),
        (f"hf://org/repo@{'a' * 40}", False),
        ("https://files.example/m.gguf", False),
        ("pvc://claim/m.gguf", False),
    ],
)
def test_only_what_can_move_is_asked_again(source: str, moving: bool) -> None:
    """Tags and branches can; digests, commits, sums and files of a claim are what they are."""
    assert is_moving(parse_source(source)) is moving


@pytest.mark.parametrize(
    "message", ["", "not JSON", "[]", '{"version": 2, "ok": true, "digest": "x"}', '{"version": 1, "ok": true}']
)
def test_words_that_are_no_result_are_a_failure_that_is_tried_again(message: str) -> None:
    """A pod can be killed, or be of another version."""
    found = read_resolution(ended(message, last_exit=137))
    assert isinstance(found, Failure)
    assert "exit code 137" in found.reason.message


def test_a_result_is_believed_in_its_own_form_only() -> None:
    """Figures of another kind are not known, and a word that is no capability is none."""
    told = {
        "version": 1,
        "ok": True,
        "digest": "sha256:1",
        "size": -1,
        "contextWindow": "8k",
        "capabilities": ["chat", 7, "Tool_Use"],
    }
    assert read_resolution(ended(json.dumps(told))) == Resolution("sha256:1", None, None, frozenset({"chat"}))


def test_a_resolver_that_cannot_start_says_why() -> None:
    """The model waits, and its message is the cause."""
    story = cluster(SIX_LINES)
    one_pass(story)
    stuck = ended("", phase=PodPhase.PENDING, waiting="ErrImagePull", waiting_container="resolve", last_exit=None)
    snapshot = replace(story.model_snapshot(NAME), resolver=(stuck,))
    (write,) = [each for each in plan_model(snapshot, story.now).actions if isinstance(each, WriteStatus)]
    ready = next(each for each in write.status["conditions"] if each["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("Unknown", ReasonCode.ImageNotPulled)


@pytest.mark.parametrize("known", [True, False])
def test_a_result_whose_pod_is_gone_is_asked_for_again_unless_it_was_read(known: bool) -> None:
    """Nodes go with their pods; what was read before is kept."""
    story = cluster(SIX_LINES)
    one_pass(story)
    if known:
        one_pass(story)
    story.objects[JOB].body["status"] = {
        "conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": START.isoformat()}]
    }
    snapshot = replace(story.model_snapshot(NAME), resolver=())
    plan = plan_model(snapshot, START + timedelta(minutes=30))
    assert (plan.actions == ()) is known
    assert any(isinstance(action, Remove) for action in plan.actions) is not known


def test_words_of_an_earlier_job_are_not_taken_for_this_ones() -> None:
    """Its pod may linger while the new one starts."""
    story = cluster(SIX_LINES)
    story.step()
    one_pass(story)
    before = ended(json.dumps(RESOLVED))
    plan = plan_model(replace(story.model_snapshot(NAME), resolver=(before,)), story.now)
    assert plan.actions == ()


@pytest.mark.parametrize(
    ("exit_code", "resolved"),
    [pytest.param(0, True, id="it ended well"), pytest.param(1, False, id="it failed, and its end is waited for")],
)
def test_a_result_is_read_before_its_pod_counts_as_ended(exit_code: int, resolved: bool) -> None:
    """The kubelet tells the end of the container, words included, about a second before the end of the pod."""
    story = cluster(SIX_LINES)
    one_pass(story)
    soon = ended(json.dumps(RESOLVED), phase=PodPhase.RUNNING, last_exit=exit_code, created_at=story.now)
    plan = plan_model(replace(story.model_snapshot(NAME), resolver=(soon,)), story.now)
    assert [action.status.get("digest") for action in plan.actions if isinstance(action, WriteStatus)] == (
        [RESOLVED["digest"]] if resolved else []
    )
