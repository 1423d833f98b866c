"""Passes that are cut short, and passes that see what they did: the end is the same, and then nothing is written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arbiter.core.plan import plan_model, plan_pool
from arbiter.core.routes import RouteTable
from tests.unit.core.serving_cluster import Cluster, cluster
from tests.unit.core.test_serving_stories import CARRIED, EXTERNAL, OLLAMA, SIX_LINES, TWO_MODELS

if TYPE_CHECKING:
    from collections.abc import Iterator

FALLBACK = TWO_MODELS.replace("{name: chat, model: smollm2}", "{name: chat, model: smollm2, fallback: [qwen3]}")
GONE = FALLBACK.replace("tasks: [", "router: {replicas: 1}\n  tasks: [{name: code, model: qwen3}, ")


def settle(story: Cluster, cuts: Iterator[int]) -> None:
    """Pass until nothing is done; each pass carries out no more actions than the next cut says."""
    quiet = 0
    for _ in range(120):
        left, done = next(cuts), 0
        for name in sorted(story.models):
            for action in plan_model(story.model_snapshot(name), story.now).actions[: max(left - done, 0)]:
                story.carry_out(action)
                done += 1
        for action in plan_pool(story.snapshot(), story.now).actions[: max(left - done, 0)]:
            story.carry_out(action)
            done += 1
        whole = left >= 1000
        quiet = quiet + 1 if whole and not done and not any(job.running for job in story.jobs.values()) else 0
        if quiet == 2:
            return
        story.step()
    raise AssertionError("it does not come to rest")


def end_of(story: Cluster) -> dict[str, Any]:
    """Give what stands in the end, without what tells when and how often it was written."""
    ends: dict[str, Any] = {"pool": story.pool.status.to_dict()}
    ends |= {f"model {name}": model.status.to_dict() for name, model in story.models.items()}
    for key, kept in story.objects.items():
        if key.kind == "ConfigMap":
            ends[str(key)] = RouteTable.from_text(kept.body["data"]["routes.json"]).hash
        elif key.kind != "Job":
            ends[str(key)] = {name: part for name, part in kept.body.items() if name not in {"metadata", "status"}}
    for status in ends.values():
        for condition in status.get("conditions", ()) if isinstance(status, dict) else ():
            del condition["lastTransitionTime"]
        if isinstance(status, dict):
            status.pop("resolvedAt", None)
    return ends


def whole() -> Iterator[int]:
    """Passes that are carried out whole."""
    while True:
        yield 1000


@pytest.mark.parametrize(
    "manifests", [SIX_LINES, OLLAMA, CARRIED, EXTERNAL, GONE], ids=["six", "ollama", "carried", "external", "two"]
)
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 12), max_size=25))
def test_a_pass_that_was_cut_short_changes_nothing_about_the_end(manifests: str, cuts: list[int]) -> None:
    """Whatever part of each plan was carried out, later passes come to the same end and then write nothing."""
    straight, interrupted = cluster(manifests), cluster(manifests)
    settle(straight, whole())
    settle(interrupted, iter([*cuts, *([1000] * 120)]))
    assert end_of(interrupted) == end_of(straight)


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 12), max_size=25))
def test_an_engine_goes_only_after_its_routes(cuts: list[int]) -> None:
    """While a task is taken away in interrupted passes, no router is ever told of an engine that does not stand."""
    story = cluster(GONE)
    settle(story, whole())
    story.edit(tasks=[{"name": "chat", "model": "smollm2"}])
    for cut in [*cuts, *([1000] * 20)]:
        for action in plan_pool(story.snapshot(), story.now).actions[:cut]:
            story.carry_out(action)
            table = RouteTable.from_text(story.obeyed)
            standing = {key.name for key in story.objects if key.kind == "Deployment"}
            for task in table.tasks.values():
                assert {backend.service for backend in task.backends} <= standing
        story.step()
    assert "qwen3" not in json.dumps([kept.body for key, kept in story.objects.items() if key.kind != "Job"])


def test_a_pool_that_is_deleted_is_left_to_its_owner_references() -> None:
    """Nothing is planned for what is on its way out."""
    story = cluster(SIX_LINES)
    settle(story, whole())
    fields = story.pool.to_dict()
    fields["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z"
    story.pool = type(story.pool).model_validate(fields)
    assert plan_pool(story.snapshot(), story.now).actions == ()
