"""What the API server says to manifests of our kinds: good ones, and wrong ones in the promised words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.contract.manifests import FOREIGN, GOOD, KINDS, SAMPLES, WRONG, patched

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.judge import Judge


@pytest.mark.parametrize("case", [pytest.param(case, id=case["wrong"]) for case in WRONG])
def test_wrong_manifest_is_refused_with_the_promised_words(judge: Judge, case: dict[str, Any]) -> None:
    """Whoever applies it is told the field and what would be right."""
    manifest = patched(GOOD[case["kind"]], case["change"])
    if "then" in case:
        created = judge.review(manifest)
        assert created.errors == ()
        verdict = judge.review(patched(created.object, case["then"]), old=created.object)
    else:
        verdict = judge.review(manifest)

    assert not verdict.allowed
    messages = [error.message for error in verdict.errors]
    assert any(says.startswith(case["at"]) and case["says"] in says for says in messages), messages


def test_the_table_of_wrong_manifests_covers_every_kind() -> None:
    """No kind is left without a wrong manifest, and no two entries tell the same story."""
    assert {case["kind"] for case in WRONG} == set(KINDS)
    assert len({case["wrong"] for case in WRONG}) == len(WRONG)
    assert len(WRONG) >= 40


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_smallest_good_manifest_is_accepted_and_reads_back(judge: Judge, kind: str) -> None:
    """What the API server stores, defaults included, is what our own class reads and would default to."""
    verdict = judge.review(GOOD[kind])

    assert verdict.errors == ()
    stored = KINDS[kind].model_validate(verdict.object)
    written = KINDS[kind].model_validate(GOOD[kind])
    assert stored.model_dump(exclude={"metadata"}) == written.model_dump(exclude={"metadata"})


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: str(path.name))
def test_samples_are_accepted(judge: Judge, path: Path) -> None:
    """Every manifest that we show to users is one that they can apply."""
    for manifest in yaml.safe_load_all(path.read_text()):
        if manifest["kind"] in FOREIGN:
            continue
        verdict = judge.review(manifest)
        assert verdict.errors == (), manifest["metadata"]["name"]
        KINDS[manifest["kind"]].model_validate(verdict.object)


def test_deprecating_a_model_is_the_one_change_that_is_allowed(judge: Judge) -> None:
    """An entry of the registry is frozen, but it can be taken out of use and back."""
    created = judge.review(GOOD["LocalModel"]).object
    deprecated = patched(created, {"spec": {"deprecated": "superseded by smollm3"}})

    assert judge.review(deprecated, old=created).errors == ()
    assert judge.review(created, old=deprecated).errors == ()


@pytest.mark.parametrize(
    ("before", "after", "want_allowed"),
    [
        pytest.param("Run", "Pause", True, id="a running swap is paused"),
        pytest.param("Pause", "Run", True, id="a paused swap goes on"),
        pytest.param("Pause", "Promote", True, id="a paused swap is promoted"),
        pytest.param("Promote", "Abort", True, id="a promoted swap is aborted"),
        pytest.param("Run", "Abort", True, id="a running swap is aborted"),
        pytest.param("Abort", "Promote", False, id="abort beats promote"),
        pytest.param("Promote", "Run", False, id="a promotion is not taken back by running on"),
    ],
)
def test_intent_moves_only_forward(judge: Judge, before: str, after: str, *, want_allowed: bool) -> None:
    """Intents may be changed, but for what would take back a decision that was acted on."""
    created = judge.review(patched(GOOD["ModelSwap"], {"spec": {"intent": before}})).object

    verdict = judge.review(patched(created, {"spec": {"intent": after}}), old=created)

    assert verdict.allowed is want_allowed


def test_status_of_a_user_is_dropped_on_create(judge: Judge) -> None:
    """Nobody can create an object that claims to be ready."""
    verdict = judge.review({**GOOD["ModelPool"], "status": {"observedGeneration": 7}})

    assert verdict.allowed
    assert verdict.object["status"] == {"observedGeneration": 0}
