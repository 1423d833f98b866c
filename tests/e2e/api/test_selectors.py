"""Objects chosen by fields of ours, with `--field-selector`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.manifests import GOOD, KINDS, patched
from tests.e2e.running import Cluster, said

if TYPE_CHECKING:
    from tests.e2e.api.client import Api

pytestmark = pytest.mark.cluster

VALUES: dict[str, dict[str, tuple[str, str]]] = {
    "LocalModel": {"spec.family": ("gemma3", "qwen3"), "spec.engine.type": ("Ollama", "")},
    "ModelPool": {"spec.swapPolicy": ("nightly", "weekly")},
    "SwapPolicy": {"spec.mode": ("Automatic", "Manual")},
    "ModelSwap": {
        "spec.pool": ("a", "b"),
        "spec.task": ("chat", "code"),
        "spec.to": ("gemma3", "qwen3"),
        "status.phase": ("Watching", "Ended"),
        "status.outcome": ("Promoted", ""),
    },
    "TaskProfile": {"spec.pool": ("a", "b"), "spec.task": ("chat", "code")},
}
"""Fields that choose, each with the value of the one object and of another; empty: the other leaves it out."""

ROWS = [(kind, field) for kind, fields in VALUES.items() for field in fields]


def setting(field: str, value: str) -> dict[str, Any]:
    """Give the patch that sets one field."""
    patch: Any = value
    for part in reversed(field.split(".")):
        patch = {part: patch}
    return dict(patch) if value else {}


@pytest.fixture(scope="module")
def chosen(api: Api) -> None:
    """Make two objects of each kind that differ in every field that chooses."""
    for kind, fields in VALUES.items():
        for number, name in enumerate(("first", "second")):
            patch: dict[str, Any] = {"metadata": {"name": f"chosen-{name}", "labels": {"chosen": "yes"}}}
            for field, values in fields.items():
                patch = patched(patch, setting(field, values[number]))
            made = api.create(patched(GOOD[kind], patch)).taken()
            if "status" in patch:
                api.merge(made, {"status": patch["status"]}, "status").taken()


def test_every_field_that_chooses_is_tried() -> None:
    """A field that is made selectable is tried here."""
    assert {kind: {f".{field}" for field in fields} for kind, fields in VALUES.items()} == {
        name: set(kind.names.selectable) for name, kind in KINDS.items()
    }


@pytest.mark.parametrize(("kind", "field"), ROWS, ids=[f"{kind}.{field}" for kind, field in ROWS])
@pytest.mark.usefixtures("chosen")
def test_a_field_chooses_objects(api: Api, kind: str, field: str) -> None:
    """The API server sends only what was asked for, so that nobody reads every swap to find those of one pool."""

    def names(selector: str) -> list[str]:
        answer = api.list(GOOD[kind], fieldSelector=selector, labelSelector="chosen=yes").taken()
        return sorted(item["metadata"]["name"] for item in answer["items"])

    first, second = VALUES[kind][field]
    assert names(f"{field}={first}") == ["chosen-first"]
    assert names(f"{field}={second}") == ["chosen-second"]
    assert names(f"{field}!={first}") == ["chosen-second"]
    assert names(f"{field}=nothing") == []


@pytest.mark.usefixtures("chosen")
def test_fields_choose_together_in_kubectl(cluster: Cluster, api: Api) -> None:
    """`kubectl get mswap --field-selector` finds what is in flight in one pool."""
    selector = "--field-selector=spec.pool=a,status.phase!=Ended"

    found = said(cluster.kubectl("get", "mswap", f"--namespace={api.namespace}", selector, "--output=name"))

    assert found.split() == ["modelswap.arbiter.dev/chosen-first"]


@pytest.mark.parametrize("kind", VALUES)
def test_a_field_that_does_not_choose_is_refused(api: Api, kind: str) -> None:
    """A misspelt selector is told so, instead of choosing everything or nothing."""
    answer = api.list(GOOD[kind], fieldSelector="spec.misspelt=a")

    assert answer.code == 400
    assert "field label not supported: spec.misspelt" in answer.body["message"]
