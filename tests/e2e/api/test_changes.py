"""What may change once an object exists, and what a live API server says to each way of changing the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.manifests import GOOD, KINDS, patched
from tests.e2e.api.objects import NEW, SPECS, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.api.client import Answer, Api

pytestmark = pytest.mark.cluster

FROZEN: dict[str, dict[str, Any]] = {
    "LocalModel": {
        "source": "https://files.example/other.gguf",
        "sha256": "f" * 64,
        "external": {"url": "http://mac.example:11434"},
        "engine": {"port": 8080},
        "pullSecret": "other",
        "family": "gemma3",
        "version": "3",
        "capabilities": ["chat", "tools"],
        "contextWindow": 4096,
        "parameters": "360M",
        "quantization": "Q8_0",
        "memory": "401Mi",
        "license": "MIT",
        "provenance": {"trainedBy": "somebody"},
    },
    "ModelSwap": {"pool": "other", "task": "other", "to": "other", "revision": "aaaaaaaaaa", "reason": "other"},
    "TaskProfile": {"pool": "other", "task": "other"},
}
"""What never changes, by kind, with another value for each field."""

MUTABLE = {"LocalModel": {"deprecated"}, "ModelSwap": {"intent"}, "TaskProfile": {"prior"}}

WAYS: dict[str, Callable[[Api, dict[str, Any], str, Any], Answer]] = {
    "by a merge patch": lambda api, obj, field, value: api.merge(obj, {"spec": {field: value}}),
    "by an update": lambda api, obj, field, value: api.replace(patched(obj, {"spec": {field: value}})),
    "by a forced apply": lambda api, obj, field, value: api.apply(
        {**obj, "spec": {field: value}}, "somebody-else", force=True
    ),
}


@pytest.fixture(scope="module")
def existing(api: Api) -> dict[str, dict[str, Any]]:
    """Make an object of each frozen kind with every field given; the tests are refused to change it."""
    return {kind: api.create(whole(kind, "frozen")).taken() for kind in FROZEN}


def test_every_field_that_never_changes_is_tried() -> None:
    """A field that is added to a kind is tried here, or is said to be changeable."""
    for kind, fields in FROZEN.items():
        spec = KINDS[kind].model_fields["spec"].annotation
        assert spec is not None
        aliases = {field.alias for field in spec.model_fields.values()}
        assert set(fields) | MUTABLE[kind] == aliases
        assert set(SPECS[kind]) | {"external"} >= aliases


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, fields in FROZEN.items() for field in fields])
def test_a_frozen_field_is_not_changed(
    api: Api, existing: dict[str, dict[str, Any]], kind: str, field: str, way: str
) -> None:
    """Evidence about a model stays true only if no tool, however it writes, can make the entry mean another model."""
    messages = WAYS[way](api, existing[kind], field, FROZEN[kind][field]).refused()

    assert any(
        says.startswith(f"spec.{field}: ") and says.endswith(f"{field} is immutable: make a new object instead")
        for says in messages
    ), messages


@pytest.mark.parametrize(
    ("kind", "field"),
    [("LocalModel", field) for field in SPECS["LocalModel"] if field in FROZEN["LocalModel"]]
    + [("ModelSwap", "revision")],
)
def test_a_frozen_field_is_not_taken_away(api: Api, existing: dict[str, dict[str, Any]], kind: str, field: str) -> None:
    """To leave a field out later would change what the entry means as much as another value."""
    messages = api.merge(existing[kind], {"spec": {field: None}}).refused()

    assert any(f"{field} is immutable: make a new object instead" in says for says in messages), messages


def test_what_was_refused_has_left_no_trace(api: Api, existing: dict[str, dict[str, Any]]) -> None:
    """A refusal is whole: neither the object, nor who owns which field, has moved."""
    messages = api.merge(existing["LocalModel"], {"spec": {"family": "x", "deprecated": "y"}}).refused()

    assert any("family is immutable" in says for says in messages)
    assert api.get(existing["LocalModel"]).taken() == existing["LocalModel"]


@pytest.mark.parametrize("way", WAYS)
def test_deprecating_a_model_is_the_one_change_that_is_allowed(api: Api, name: str, way: str) -> None:
    """An entry of the registry is frozen, but it can be taken out of use and back, with any tool."""
    made = api.create(patched(whole("LocalModel", name), {"spec": {"deprecated": None}})).taken()

    deprecated = WAYS[way](api, made, "deprecated", "superseded").taken()
    assert deprecated["spec"] == {**made["spec"], "deprecated": "superseded"}
    back = api.merge(deprecated, {"spec": {"deprecated": None}}).taken()
    assert back["spec"] == made["spec"]
    assert back["metadata"]["generation"] == 3


@pytest.mark.parametrize("way", WAYS)
def test_an_intent_is_changed_with_any_tool(api: Api, name: str, way: str) -> None:
    """A swap is paused, promoted and aborted while it flies; the abort is final whoever tries to take it back."""
    swap = api.create(patched(GOOD["ModelSwap"], {"metadata": {"name": name}})).taken()

    for intent in ("Pause", "Run", "Promote", "Abort"):
        swap = WAYS[way](api, swap, "intent", intent).taken()
        assert swap["spec"]["intent"] == intent
    assert "Abort is final" in WAYS[way](api, swap, "intent", "Run").refused()[0]


def test_a_swap_that_names_no_intent_again_stays_aborted(api: Api, name: str) -> None:
    """An apply from Git without `intent`, after `kubectl` aborted the swap, does not start it again."""
    swap = patched(GOOD["ModelSwap"], {"metadata": {"name": name}})
    made = api.apply(swap, "git").taken()
    api.merge(made, {"spec": {"intent": "Abort"}}, fieldManager="kubectl").taken()

    assert api.apply(swap, "git").taken()["spec"]["intent"] == "Abort"


def test_a_profile_takes_another_prior(api: Api, name: str) -> None:
    """Knowledge can be imported into a profile that is in use already."""
    profile = api.create(patched(GOOD["TaskProfile"], {"metadata": {"name": name}})).taken()

    imported = api.merge(profile, {"spec": {"prior": SPECS["TaskProfile"]["prior"]}}).taken()

    assert imported["spec"]["prior"]["knowledge"]["models"][0]["model"] == "smollm2"


@pytest.mark.parametrize("kind", SPECS)
def test_the_same_manifest_again_is_no_change(api: Api, name: str, kind: str) -> None:
    """Tools apply what is in Git every few minutes: that is never refused, and wakes nobody up.

    The first time it stores the default of `status`, which the creation, as of every object, left out.
    """
    made, stored, again = (api.apply(whole(kind, name), "git").taken() for _ in range(3))

    assert again == stored
    assert again["spec"] == made["spec"]
    assert again["metadata"]["generation"] == 1


def test_a_frozen_entry_may_have_a_second_owner(api: Api, name: str) -> None:
    """Two tools that agree share the entry; when one lets go, nothing of it goes."""
    model = patched(GOOD["LocalModel"], {"metadata": {"name": name}, "spec": {"family": "smollm2"}})
    first = api.apply(model, "git").taken()
    api.apply(model, "argo").taken()

    left = api.apply({**model, "spec": {}}, "git").taken()

    assert left["spec"] == first["spec"]


def test_a_swap_to_a_kept_revision_is_applied(api: Api, name: str) -> None:
    """An undo that names the revision is taken as it is written."""
    swap = patched(GOOD["ModelSwap"], {"metadata": {"name": name}, "spec": {"revision": NEW}})

    assert api.apply(swap, "git").taken()["spec"]["revision"] == NEW
