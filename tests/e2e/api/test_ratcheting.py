"""What becomes of objects that a newer definition would refuse: they are left alone until somebody touches the fault.

The API server calls it ratcheting. How far it reaches depends on where a rule stands: a rule about a value lets
everything beside that value change, a rule between fields is judged again with every change of the part that holds
them, and a rule about the whole object with every write. These tests say which of ours is which.

A copy of our definitions, under another group, is installed without rules first; objects are stored, and then it is
upgraded to the definitions as they are.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.api import crd
from arbiter.api.meta import VERSION
from devcluster.waiting import wait_until
from tests.contract.manifests import GOOD, KINDS, patched
from tests.e2e.api.client import APPLY, Answer, Api

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.cluster

GROUP = "upgraded.arbiter.dev"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
LONG = "a-name-of-more-than-forty-characters-is-long"

SERVED_WITHIN = 30.0
"""Seconds until a definition is in force or gone; the API server works on it in the background, for one or two."""

RULES = frozenset(
    {
        "default", "enum", "exclusiveMaximum", "exclusiveMinimum", "format", "maxItems", "maxLength", "maxProperties",
        "maximum", "minItems", "minLength", "minimum", "required", "x-kubernetes-validations",
    }
)  # fmt: skip
"""What an earlier definition may have lacked."""

STORED: dict[str, tuple[str, dict[str, Any]]] = {
    "unknown scheme": ("LocalModel", {"source": "s3://bucket/model"}),
    "no checksum": ("LocalModel", {"source": "https://files.example/model.gguf"}),
    LONG: ("LocalModel", {"source": "ollama://smollm2:135m"}),
    "no GPU resource": (
        "ModelPool",
        {"tasks": [{"name": "chat", "model": "a"}], "placement": {"gpus": {"resource": "gpu"}}},
    ),
    "models twice": (
        "ModelPool",
        {"tasks": [{"name": "chat", "model": "a"}], "models": ["a"], "modelSelector": {"matchLabels": {"a": "b"}}},
    ),
    "a task with both": (
        "ModelPool",
        {
            "tasks": [
                {"name": "chat", "model": "a", "prefer": "Speed", "weights": {"quality": 1}},
                {"name": "code", "model": "b"},
            ]
        },
    ),
    "no claim": ("ModelPool", {"tasks": [{"name": "chat", "model": "a"}], "cache": {}}),
    "error rate": ("SwapPolicy", {"analysis": {"rollbackErrorRate": 0.5}}),
    "mode": ("SwapPolicy", {"mode": "Auto"}),
    "duration": ("SwapPolicy", {"trigger": {"cooldown": "1d"}}),
    "window": ("SwapPolicy", {"windows": [{"cron": "every night", "duration": "1h"}]}),
    "licence": ("SwapPolicy", {"compatibility": {"licenses": ["", "MIT"]}}),
    "cooldown": ("SwapPolicy", {"rollback": {"cooldown": "72h"}}),
}
"""Specs that an earlier definition took and ours refuses, by what is wrong with them."""

NIGHT = {"cron": "0 22 * * *", "duration": "1h"}
TASK = {"name": "chat", "model": "a", "prefer": "Speed", "weights": {"quality": 1}}

PASSES = [
    # A rule or a bound about one value: everything else may change, and the value may be mended.
    ("unknown scheme", {"deprecated": "its source is gone"}),
    ("no GPU resource", {"placement": {"gpus": {"count": 2}}}),
    ("no GPU resource", {"placement": {"gpus": {"resource": "nvidia.com/gpu"}}}),
    ("error rate", {"analysis": {"minRequests": 10}}),
    ("mode", {"trigger": {"minSamples": 20}}),
    ("duration", {"trigger": {"minSamples": 20}}),
    # A rule between the fields of an entry, or of a part: the other entries and parts may change.
    ("a task with both", {"tasks": [TASK, {"name": "code", "model": "c"}]}),
    ("a task with both", {"tasks": [{"name": "mail", "model": "c"}, TASK]}),
    ("cooldown", {"analysis": {"minRequests": 10}}),
    ("no claim", {"replicas": 2}),
    ("no claim", {"cache": {"claim": "weights"}}),
    # A list that is kept whole is judged when it is touched.
    ("window", {"mode": "Automatic"}),
    ("licence", {"mode": "Automatic"}),
    # A rule between the fields of the spec: only what mends it.
    ("models twice", {"modelSelector": None}),
]

FAILS = [
    ("no GPU resource", {"placement": {"gpus": {"resource": "tpu"}}}, "must be an extended resource such as"),
    ("error rate", {"analysis": {"rollbackErrorRate": 0.4}}, "should be less than or equal to 0.2"),
    ("mode", {"mode": "Hand"}, 'Unsupported value: "Hand"'),
    ("duration", {"trigger": {"cooldown": "2d"}}, "must be a duration of h, m, s and ms"),
    ("a task with both", {"tasks": [{**TASK, "model": "c"}]}, "give prefer or weights, not both"),
    ("cooldown", {"rollback": {"drain": "10s"}}, "cooldown must not be longer than maxCooldown"),
    # The entries of an atomic list and of a set cannot be told apart: whoever adds one is judged for all.
    ("window", {"windows": [{"cron": "every night", "duration": "1h"}, NIGHT]}, "must be five cron fields"),
    ("licence", {"compatibility": {"licenses": ["", "MIT", "Apache-2.0"]}}, "should be at least 1 chars long"),
    # A rule between fields of the spec is judged with every change of the spec, whichever field that is.
    ("models twice", {"replicas": 2}, "give models or modelSelector, not both"),
    ("no checksum", {"deprecated": "it can change"}, "sha256 is required with an https:// source"),
    # A rule that compares with what was before is about the change itself: there is nothing to let through.
    ("unknown scheme", {"source": "ollama://smollm2:135m"}, "source is immutable: make a new object instead"),
    ("no checksum", {"family": "smollm2"}, "family is immutable: make a new object instead"),
]


def earlier(schema: dict[str, Any]) -> dict[str, Any]:
    """Give a schema without rules, but for the keys that tell the entries of a list apart."""
    lax = {key: value for key, value in schema.items() if key not in RULES}
    if "properties" in lax:
        lax["properties"] = {name: earlier(child) for name, child in lax["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in lax:
            lax[key] = earlier(lax[key])
    if "x-kubernetes-list-map-keys" in lax:
        lax["items"]["required"] = lax["x-kubernetes-list-map-keys"]
    return lax


def copied(plural: str) -> dict[str, Any]:
    """Give our definition under the other group; without the short names, which stay ours."""
    made = copy.deepcopy(crd.definitions()[plural])
    made["metadata"]["name"] = f"{plural}.{GROUP}"
    made["spec"]["group"] = GROUP
    del made["spec"]["names"]["shortNames"], made["spec"]["names"]["categories"]
    return made


def earlier_definition(plural: str) -> dict[str, Any]:
    """Give the copied definition as an earlier version might have been: without rules, and with a field more."""
    made = copied(plural)
    version = made["spec"]["versions"][0]
    version["schema"] = {"openAPIV3Schema": earlier(version["schema"]["openAPIV3Schema"])}
    version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["retired"] = {"type": "string"}
    return made


def install(api: Api, definition: dict[str, Any]) -> None:
    """Install a definition, or upgrade the one that is there."""
    path = f"{CRDS}/{definition['metadata']['name']}"
    api.request("PATCH", path, definition, content=APPLY, fieldManager="tests", force="true").taken()


def of_the_group(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Give an object of the copied definitions."""
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": {"name": name}, "spec": spec}


def wait_until_in_force(api: Api, kind: str, *, lax: bool) -> None:
    """Wait until the earlier or the present definition of a kind is obeyed: only the earlier one knows `retired`."""
    asked = of_the_group(kind, "asked", {**GOOD[kind]["spec"], "retired": "long ago"})

    def is_in_force() -> bool:
        return api.create(asked, dryRun="All").code == (201 if lax else 400)

    assert wait_until(is_in_force, SERVED_WITHIN)


@pytest.fixture(scope="module")
def stored(api: Api) -> Iterator[dict[str, dict[str, Any]]]:
    """Give the objects that were stored under the earlier definitions, now that those are upgraded."""
    kinds = {kind: KINDS[kind].names.plural for kind, _ in STORED.values()}
    try:
        for plural in kinds.values():
            install(api, earlier_definition(plural))
        for kind in kinds:
            wait_until_in_force(api, kind, lax=True)
        made = {}
        for number, (key, (kind, spec)) in enumerate(STORED.items()):
            name = key if key == LONG else f"stored-{number}"
            made[key] = api.apply(of_the_group(kind, name, {**spec, "retired": "long ago"}), "git").taken()
        for plural in kinds.values():
            install(api, copied(plural))
        for kind in kinds:
            wait_until_in_force(api, kind, lax=False)
        yield made
    finally:
        paths = [f"{CRDS}/{plural}.{GROUP}" for plural in kinds.values()]
        for path in paths:
            api.request("DELETE", path)
        assert wait_until(lambda: {api.request("GET", path).code for path in paths} == {404}, SERVED_WITHIN)


def changed(api: Api, obj: dict[str, Any], spec: dict[str, Any]) -> Answer:
    """Try a change of the spec, without making it."""
    return api.merge(obj, {"spec": spec}, dryRun="All")


def rows(table: list[Any]) -> list[Any]:
    """Give a table's rows, each named by what is wrong with the object and by what is changed."""
    return [pytest.param(*row, id=f"{row[0]}: {row[1]}") for row in table]


@pytest.mark.parametrize(("key", "change"), rows(PASSES))
def test_a_change_beside_the_fault_passes(
    api: Api, stored: dict[str, dict[str, Any]], key: str, change: dict[str, Any]
) -> None:
    """An upgrade of the definitions does not lock up what users have, as far as ratcheting reaches."""
    changed(api, stored[key], change).taken()


@pytest.mark.parametrize(("key", "change", "says"), rows(FAILS))
def test_a_change_of_the_fault_is_refused(
    api: Api, stored: dict[str, dict[str, Any]], key: str, change: dict[str, Any], says: str
) -> None:
    """Who touches what a newer rule is about has to obey it, and is told so in its words."""
    messages = changed(api, stored[key], change).refused()

    assert any(says in each for each in messages), messages


@pytest.mark.parametrize("key", [key for key in STORED if key != LONG])
def test_labels_and_status_of_a_faulty_object_can_be_written(
    api: Api, stored: dict[str, dict[str, Any]], key: str
) -> None:
    """The operator can always say what is wrong with an object, whatever is wrong with it."""
    api.merge(stored[key], {"metadata": {"labels": {"seen": "yes"}}}).taken()
    after = api.merge(stored[key], {"status": {"observedGeneration": 1}}, "status").taken()

    assert after["status"]["observedGeneration"] == 1


@pytest.mark.parametrize("key", [key for key in STORED if key != LONG])
def test_a_faulty_manifest_is_applied_again_without_harm(api: Api, stored: dict[str, dict[str, Any]], key: str) -> None:
    """What stands in Git unchanged goes on being applied after the upgrade."""
    kind, spec = STORED[key]
    again = of_the_group(kind, stored[key]["metadata"]["name"], spec)

    assert api.apply(again, "git").taken()["metadata"]["generation"] == 1


def test_a_pool_with_a_fault_in_its_spec_cannot_be_scaled(api: Api, stored: dict[str, dict[str, Any]]) -> None:
    """Scaling is a change of the spec: an autoscaler is stopped by a rule between other fields of it."""
    assert "not both" in api.merge(stored["models twice"], {"spec": {"replicas": 2}}, "scale").refused()[0]
    assert api.merge(stored["no GPU resource"], {"spec": {"replicas": 2}}, "scale", dryRun="All").code == 200


def test_an_object_whose_name_is_too_long_can_only_be_deleted(api: Api, stored: dict[str, dict[str, Any]]) -> None:
    """The rule about the name is one about the whole object, so that every write is judged by it."""
    for patch, subresource in (({"metadata": {"labels": {"a": "b"}}}, ""), ({"status": {"size": "1Gi"}}, "status")):
        [says] = api.merge(stored[LONG], patch, subresource).refused()
        assert "metadata.name must be at most 40 characters" in says

    api.delete(stored[LONG]).taken()


def test_a_default_reaches_objects_that_are_older_than_it(api: Api, stored: dict[str, dict[str, Any]]) -> None:
    """Every reader sees the default as soon as the definition has it, although nobody wrote the object again."""
    assert "trigger" not in stored["mode"]["spec"]

    read = api.get(stored["mode"]).taken()

    assert read["spec"]["trigger"]["minSamples"] == 10
    assert read["spec"]["mode"] == "Auto"
    assert read["metadata"]["generation"] == 1


def test_a_field_that_is_gone_is_not_read_any_more(api: Api, stored: dict[str, dict[str, Any]]) -> None:
    """What a newer definition does not know is left out when it is read, and does not make a write fail."""
    assert stored["error rate"]["spec"]["retired"] == "long ago"

    assert "retired" not in api.get(stored["error rate"]).taken()["spec"]
    changed(api, stored["error rate"], {"mode": "Automatic"}).taken()


def test_nothing_new_is_let_through(api: Api, stored: dict[str, dict[str, Any]]) -> None:
    """Ratcheting is for what is there: the same specs are refused when they are made anew."""
    assert stored
    for number, (kind, spec) in enumerate(spec for key, spec in STORED.items() if key != LONG):
        assert api.create(of_the_group(kind, f"new-{number}", spec), dryRun="All").code == 422, spec
    assert api.create(patched(GOOD["SwapPolicy"], {"apiVersion": f"{GROUP}/{VERSION}"}), dryRun="All").code == 201
