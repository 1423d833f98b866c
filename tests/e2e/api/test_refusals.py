"""What a live API server says to manifests of our kinds: all good ones, and all wrong ones in the promised words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.contract.manifests import GOOD, KINDS, SAMPLES, WRONG, patched
from tests.e2e.running import Cluster, said

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.api.client import Api

pytestmark = pytest.mark.cluster

CREATED = [case for case in WRONG if "then" not in case]
UPDATED = [case for case in WRONG if "then" in case]


def named(case: dict[str, Any], name: str) -> dict[str, Any]:
    """Give a case's manifest under this name, unless the name is what is wrong with it."""
    manifest: dict[str, Any] = patched(patched(GOOD[case["kind"]], {"metadata": {"name": name}}), case["change"])
    return manifest


def assert_promised(messages: list[str], case: dict[str, Any]) -> None:
    """Hold the messages against the words that the case promises, at the field that it names."""
    assert any(says.startswith(case["at"]) and case["says"] in says for says in messages), messages


@pytest.mark.parametrize("case", [pytest.param(case, id=case["wrong"]) for case in CREATED])
def test_wrong_manifest_is_refused_with_the_promised_words(api: Api, name: str, case: dict[str, Any]) -> None:
    """Whoever applies it is told the field and what would be right, by a real API server as by its code."""
    assert_promised(api.create(named(case, name), dryRun="All").refused(), case)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["wrong"]) for case in UPDATED])
def test_wrong_change_is_refused_with_the_promised_words(api: Api, name: str, case: dict[str, Any]) -> None:
    """What may not change is said so when it is changed, and the object stays as it was."""
    created = api.create(named(case, name)).taken()

    assert_promised(api.merge(created, case["then"]).refused(), case)
    assert api.get(created).taken() == created


def test_kubectl_prints_the_promised_words(cluster: Cluster, api: Api) -> None:
    """People meet the words through `kubectl apply`, which neither cuts nor rewrites them."""
    manifests = [
        patched(named(case, f"wrong-{number}"), {"metadata": {"namespace": api.namespace}})
        for number, case in enumerate(CREATED)
    ]
    # As YAML from the first line on: kubectl takes what begins with a brace for one JSON document.
    documents = "".join(f"---\n{json.dumps(manifest)}\n" for manifest in manifests)

    applied = cluster.kubectl("apply", "--dry-run=server", "--filename=-", stdin=documents)

    assert applied.returncode == 1
    assert applied.stdout == ""
    assert [case["wrong"] for case in CREATED if case["says"] not in applied.stderr] == []
    assert applied.stderr.count("Error from server") == len(CREATED)


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_smallest_good_manifest_is_accepted_and_reads_back(api: Api, name: str, kind: str) -> None:
    """What the API server stores, defaults included, is what our own class reads and would default to."""
    stored = api.create(patched(GOOD[kind], {"metadata": {"name": name}})).taken()

    read, written = (KINDS[kind].model_validate(obj) for obj in (stored, GOOD[kind]))
    assert read.model_dump(exclude={"metadata"}) == written.model_dump(exclude={"metadata"})
    assert read.metadata.name == name
    assert read.metadata.generation == 1


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: str(path.name))
def test_samples_are_applied_as_the_readme_says(cluster: Cluster, api: Api, path: Path) -> None:
    """Every manifest that we show to users goes through `kubectl apply` as it stands, without a warning."""
    applied = cluster.kubectl("apply", f"--namespace={api.namespace}", "--dry-run=server", f"--filename={path}")

    assert len(said(applied).splitlines()) == len(list(yaml.safe_load_all(path.read_text())))
    assert applied.stderr == ""


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_a_status_that_says_too_much_is_refused(api: Api, name: str, kind: str) -> None:
    """A mistake in the operator is stopped at the API server, instead of being read by everybody else."""
    made = api.create(patched(GOOD[kind], {"metadata": {"name": name}})).taken()

    answer = api.merge(made, {"status": {"conditions": [{"type": "Ready", "status": "Maybe"}]}}, "status")

    messages = "\n".join(answer.refused())
    assert 'status.conditions[0].status: Unsupported value: "Maybe"' in messages
    assert "status.conditions[0].lastTransitionTime: Required value" in messages


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_an_unknown_field_is_refused_or_dropped_as_the_writer_asks(api: Api, name: str, kind: str) -> None:
    """A misspelling is refused to kubectl; an older client that writes leniently stores nothing that has no meaning."""
    manifest = patched(GOOD[kind], {"metadata": {"name": name}, "spec": {"misspelt": 1}})

    assert 'unknown field "spec.misspelt"' in api.create(manifest, fieldValidation="Strict").refused()[0]
    warned = api.create(manifest, fieldValidation="Warn", dryRun="All")
    assert warned.warnings == ('unknown field \\"spec.misspelt\\"',)
    stored = api.create(manifest, fieldValidation="Ignore")
    assert stored.warnings == ()
    assert "misspelt" not in stored.taken()["spec"]
    assert "misspelt" not in warned.taken()["spec"]
