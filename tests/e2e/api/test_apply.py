"""Server-side apply on our kinds: who owns what, what is a conflict, and what two wishes together may not say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.manifests import GOOD, KINDS, patched
from tests.e2e.api.objects import AT, OLD, STATUSES, condition

if TYPE_CHECKING:
    from tests.e2e.api.client import Api

pytestmark = pytest.mark.cluster

REJECTED = STATUSES["ModelPool"]["rejected"][0]


def test_what_is_not_given_belongs_to_nobody(api: Api, name: str) -> None:
    """A default is not a wish: whoever first asks for something else meets no conflict."""
    pool = patched(GOOD["ModelPool"], {"metadata": {"name": name}})
    api.apply(pool, "git").taken()
    routers = {**pool, "spec": {"router": {"replicas": 3}}}

    assert api.apply(routers, "platform").taken()["spec"]["router"]["replicas"] == 3
    assert api.apply(pool, "git").taken()["spec"]["router"]["replicas"] == 3
    assert api.apply({**pool, "spec": {}}, "platform").taken()["spec"]["router"]["replicas"] == 2


def test_a_conflict_names_the_owner_and_the_field(api: Api, name: str) -> None:
    """Whoever edits a task that somebody else owns is told whose it is, to the field, and has changed nothing."""
    pool = patched(GOOD["ModelPool"], {"metadata": {"name": name}})
    made = api.apply(pool, "team-a").taken()
    other = {**pool, "spec": {"tasks": [{"name": "chat", "model": "gemma3"}]}}

    assert api.apply(other, "team-b").refused() == ['.spec.tasks[name="chat"].model: conflict with "team-a"']
    assert api.get(made).taken()["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert api.apply(other, "team-b", force=True).taken()["spec"]["tasks"][0]["model"] == "gemma3"
    assert api.apply(pool, "team-a").refused() == ['.spec.tasks[name="chat"].model: conflict with "team-b"']


def test_a_merge_is_judged_as_a_whole(api: Api, name: str) -> None:
    """Two wishes that are good each may be wrong together; the second is refused in the words of the rule."""
    pool = patched(GOOD["ModelPool"], {"metadata": {"name": name}})
    api.apply(pool, "team-a").taken()
    fallback = {**pool, "spec": {"tasks": [{"name": "chat", "fallback": ["smollm2"]}]}}

    messages = api.apply(fallback, "team-b").refused()

    assert "fallback must not name the task's own model: it is what failed" in messages[0]


def test_a_pool_keeps_its_last_task(api: Api, name: str) -> None:
    """An owner who takes back the only task is refused, rather than leaving a pool that serves nothing."""
    pool = patched(GOOD["ModelPool"], {"metadata": {"name": name}})
    made = api.apply(pool, "git").taken()

    assert api.apply({**pool, "spec": {"tasks": []}}, "git").refused()[0] == "spec: Required value"
    assert api.get(made).taken() == made


def test_the_operator_and_its_router_write_one_status(api: Api, name: str) -> None:
    """Each keeps its own condition up to date, and neither sees a conflict in the other's nor in the user's spec."""
    pool = patched(GOOD["ModelPool"], {"metadata": {"name": name}})
    api.apply(pool, "git").taken()
    known = {key: value for key, value in pool.items() if key != "spec"}

    def writes(manager: str, *conditions: dict[str, Any], **more: object) -> dict[str, Any]:
        return api.apply({**known, "status": {"conditions": list(conditions), **more}}, manager, "status").taken()

    writes("arbiter-operator", condition("Ready", "False"), observedGeneration=1)
    writes("arbiter-router", condition("Degraded"))
    after = writes("arbiter-operator", condition("Ready"), observedGeneration=1)
    status = {each["type"]: each["status"] for each in after["status"]["conditions"]}
    assert status == {"Ready": "True", "Degraded": "True"}
    normal = writes("arbiter-router")
    assert [each["type"] for each in normal["status"]["conditions"]] == ["Ready"]
    assert normal["spec"]["tasks"] == pool["spec"]["tasks"]
    assert normal["metadata"]["generation"] == 1


def test_the_owner_of_a_status_is_no_owner_of_the_spec(api: Api, name: str) -> None:
    """What the operator owns is in its status: its write through that door cannot touch a wish, forced or not."""
    pool = patched(GOOD["ModelPool"], {"metadata": {"name": name}})
    made = api.apply(pool, "git").taken()
    greedy = {**pool, "spec": {"suspend": True}, "status": {"observedGeneration": 1}}

    after = api.apply(greedy, "arbiter-operator", "status", force=True).taken()

    assert after["spec"] == made["spec"]
    owned = {entry["manager"]: entry["fieldsV1"] for entry in after["metadata"]["managedFields"]}
    assert owned["arbiter-operator"] == {"f:status": {"f:observedGeneration": {}}}


@pytest.mark.parametrize("kind", KINDS)
def test_two_conditions_of_one_type_cannot_stand(api: Api, name: str, kind: str) -> None:
    """A list told apart by its key holds each key once, whatever a client sends."""
    made = api.create(patched(GOOD[kind], {"metadata": {"name": name}})).taken()
    twice = {"status": {"conditions": [condition("Ready"), condition("Ready", "False")]}}

    assert 'status.conditions[1]: Duplicate value: {"type":"Ready"}' in api.merge(made, twice, "status").refused()


def test_times_are_kept_as_they_were_written(api: Api, name: str) -> None:
    """A time is compared as text when nothing is to be written, so the API server must not rewrite it."""
    made = api.create(patched(GOOD["ModelSwap"], {"metadata": {"name": name}})).taken()

    assert api.merge(made, {"status": {"startedAt": AT}}, "status").taken()["status"]["startedAt"] == AT
    assert "must be of type date-time" in api.merge(made, {"status": {"startedAt": "noon"}}, "status").refused()[0]


def test_a_revision_that_failed_twice_is_written_once(api: Api, name: str) -> None:
    """The pair of task and revision is the key: counting up changes the entry and adds none."""
    made = api.create(patched(GOOD["ModelPool"], {"metadata": {"name": name}})).taken()
    known = {key: value for key, value in made.items() if key not in ("spec", "status")}
    for times in (1, 2):
        status = {"rejected": [{**REJECTED, "revision": OLD, "times": times}]}
        after = api.apply({**known, "status": status}, "arbiter-operator", "status").taken()

    assert after["status"]["rejected"] == [{**REJECTED, "revision": OLD, "times": 2}]
