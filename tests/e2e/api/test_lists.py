"""Every list of ours under server-side apply: two owners share it entry by entry, or it has one owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from arbiter.api import crd
from tests.contract.manifests import GOOD, patched
from tests.contract.test_crd import walk
from tests.e2e.api.objects import KNOWLEDGE, NEW, STATUSES, condition

if TYPE_CHECKING:
    from tests.e2e.api.client import Api

pytestmark = pytest.mark.cluster

METRIC = STATUSES["ModelSwap"]["metrics"][0]
TRANSITION = STATUSES["ModelSwap"]["history"][0]
RESIDENT = STATUSES["ModelPool"]["residents"][0]
REJECTED = STATUSES["ModelPool"]["rejected"][0]
MODEL = KNOWLEDGE["models"][0]

SHARED: dict[tuple[str, str], tuple[Any, Any]] = {
    ("LocalModel", "status.conditions"): (condition("Ready"), condition("Resolved")),
    ("LocalModel", "status.capabilities"): ("chat", "tools"),
    ("LocalModel", "status.usedBy"): ({"pool": "a"}, {"pool": "b"}),
    ("ModelPool", "spec.tasks"): ({"name": "code", "candidates": ["a"]}, {"name": "mail", "candidates": ["a"]}),
    ("ModelPool", "spec.tasks[chat].candidates"): ("a", "b"),
    ("ModelPool", "spec.tasks[chat].needs.capabilities"): ("chat", "tools"),
    ("ModelPool", "spec.models"): ("a", "b"),
    ("ModelPool", "spec.preload"): ("a", "b"),
    ("ModelPool", "status.conditions"): (condition("Ready"), condition("Degraded")),
    ("ModelPool", "status.tasks"): ({"name": "chat"}, {"name": "code"}),
    ("ModelPool", "status.residents"): (RESIDENT, {**RESIDENT, "revision": NEW}),
    # A revision that failed for two tasks is two entries, and so are two revisions of one model further down.
    ("ModelPool", "status.rejected"): (REJECTED, {**REJECTED, "task": "code"}),
    ("SwapPolicy", "spec.compatibility.licenses"): ("MIT", "Apache-2.0"),
    ("SwapPolicy", "status.conditions"): (condition("Ready"), condition("Stalled")),
    ("SwapPolicy", "status.pools"): ("a", "b"),
    ("ModelSwap", "status.conditions"): (condition("Ready"), condition("Stalled")),
    ("ModelSwap", "status.metrics"): (METRIC, {**METRIC, "name": "first token"}),
    ("ModelSwap", "status.checks"): ({"name": "a", "old": 1, "new": 1}, {"name": "b", "old": 1, "new": 0}),
    ("ModelSwap", "status.policy.compatibility.licenses"): ("MIT", "Apache-2.0"),
    ("TaskProfile", "spec.prior.knowledge.models"): (MODEL, {**MODEL, "revision": NEW}),
    ("TaskProfile", "status.conditions"): (condition("Ready"), condition("Stalled")),
    ("TaskProfile", "status.learned.models"): (MODEL, {**MODEL, "model": "gemma3"}),
}
"""Lists that two owners share, by kind and path, with an entry of the one and an entry of the other."""

WHOLE: dict[tuple[str, str], tuple[Any, Any]] = {
    ("LocalModel", "status.usedBy[a].tasks"): ("chat", "code"),
    ("ModelPool", "spec.tasks[chat].fallback"): ("a", "b"),
    ("ModelPool", "spec.modelSelector.matchExpressions"): (
        {"key": "a", "operator": "Exists"},
        {"key": "b", "operator": "Exists"},
    ),
    ("ModelPool", "spec.placement.tolerations"): ({"operator": "Exists"}, {"key": "gpu", "operator": "Exists"}),
    ("SwapPolicy", "spec.rollout.steps"): ({"weight": 10, "hold": "1h"}, {"weight": 20, "hold": "1h"}),
    ("SwapPolicy", "spec.windows"): ({"cron": "0 22 * * *", "duration": "1h"}, {"cron": "0 4 * * *", "duration": "1h"}),
    ("ModelSwap", "status.policy.rollout.steps"): ({"weight": 10, "hold": "1h"}, {"weight": 20, "hold": "1h"}),
    ("ModelSwap", "status.policy.windows"): (
        {"cron": "0 22 * * *", "duration": "1h"},
        {"cron": "0 4 * * *", "duration": "1h"},
    ),
    ("ModelSwap", "status.history"): (TRANSITION, {**TRANSITION, "phase": "Shifting"}),
}
"""Lists whose order means something, likewise."""

ELSEWHERE = {
    # Of entries that never change, so that two owners can only agree about them.
    ("LocalModel", "spec.capabilities"),
    ("LocalModel", "spec.engine.args"),
    ("LocalModel", "spec.engine.env"),
    # Inside an entry of a list that is replaced whole.
    ("ModelPool", "spec.modelSelector.matchExpressions[].values"),
    # Two numbers, written together by one owner.
    ("ModelSwap", "status.metrics[].interval"),
}
"""Lists that are not tried here, each with the reason; those of a pod's affinity are Kubernetes' own."""

KEYS = {"tasks": "name", "usedBy": "pool"}
"""What tells the entries of a list apart that lies on the way to another one."""


def holding(path: str, items: list[Any]) -> dict[str, Any]:
    """Give the part of an object that holds `items` at `path`, and beside it only the keys on the way there."""
    name, _, rest = path.partition(".")
    if not rest:
        return {name: items}
    name, _, key = name.removesuffix("]").partition("[")
    inner = holding(rest, items)
    return {name: [{KEYS[name]: key, **inner}] if key else inner}


def held(obj: dict[str, Any], path: str) -> list[Any]:
    """Give the list at a path; an absent one is empty."""
    value: Any = obj
    for part in path.split("."):
        name, _, key = part.removesuffix("]").partition("[")
        value = value.get(name, [])
        if key:
            value = next(item for item in value if item[KEYS[name]] == key)
    return list(value)


def holds(items: list[Any], item: object) -> bool:
    """Say whether a list holds an item; the API server may have filled in defaults."""
    return any(patched(each, item) == each for each in items)


def begun(api: Api, kind: str, name: str) -> dict[str, Any]:
    """Make an object whose maker says nothing about the lists, and give what names it."""
    manifest = patched(GOOD[kind], {"metadata": {"name": name}})
    if kind == "ModelPool":
        # Without `model`, which the pool's own models would have to name.
        manifest["spec"] = {"tasks": [{"name": "chat", "candidates": ["of-the-maker"]}]}
    api.create(manifest).taken()
    return {key: value for key, value in manifest.items() if key != "spec"}


def cases(table: dict[tuple[str, str], tuple[Any, Any]]) -> list[Any]:
    """Give the rows of a table of lists."""
    return [pytest.param(of, *items, id=".".join(of)) for of, items in table.items()]


@pytest.mark.parametrize(("of", "first", "second"), cases(SHARED))
def test_two_owners_share_a_list(api: Api, name: str, of: tuple[str, str], first: object, second: object) -> None:
    """Each puts in its own entry without knowing of the other's, and can take back only its own."""
    kind, path = of
    obj, subresource = begun(api, kind, name), "status" if path.startswith("status") else ""

    api.apply({**obj, **holding(path, [first])}, "one", subresource).taken()
    both = held(api.apply({**obj, **holding(path, [second])}, "two", subresource).taken(), path)
    assert holds(both, first)
    assert holds(both, second)

    left = held(api.apply({**obj, **holding(path, [])}, "one", subresource).taken(), path)
    assert not holds(left, first)
    assert holds(left, second)
    assert len(left) == len(both) - 1


@pytest.mark.parametrize(("of", "first", "second"), cases(WHOLE))
def test_a_list_whose_order_means_something_has_one_owner(
    api: Api, name: str, of: tuple[str, str], first: object, second: object
) -> None:
    """A second owner is told whose list it is, and by insisting replaces it whole: two orders cannot be merged."""
    kind, path = of
    obj, subresource = begun(api, kind, name), "status" if path.startswith("status") else ""
    api.apply({**obj, **holding(path, [first])}, "one", subresource).taken()
    wish = {**obj, **holding(path, [second])}

    [says] = api.apply(wish, "two", subresource).refused()
    assert f'.{path.rpartition(".")[2]}: conflict with "one"' in says

    [left] = held(api.apply(wish, "two", subresource, force=True).taken(), path)
    assert holds([left], second)


def test_every_list_of_ours_is_tried() -> None:
    """A list that is added to a kind is tried here, in the table that fits what its definition says."""
    lists = {
        (kind.__name__, path.removeprefix(".")): schema["x-kubernetes-list-type"]
        for kind in crd.KINDS
        for path, schema in walk(crd.schema(kind))
        if schema.get("type") == "array" and ".affinity." not in path
    }

    def tried(table: dict[tuple[str, str], tuple[Any, Any]]) -> set[tuple[str, str]]:
        return {(kind, path.replace("[chat]", "[]").replace("[a]", "[]")) for kind, path in table}

    assert tried(WHOLE) == {key for key, kept in lists.items() if kept == "atomic"} - ELSEWHERE
    assert tried(SHARED) == {key for key, kept in lists.items() if kept != "atomic"} - ELSEWHERE
    assert set(lists) >= ELSEWHERE
