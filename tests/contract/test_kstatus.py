"""How kstatus, by which Helm and Flux wait, reads our conditions: what it calls ready, unfinished and failed.

The objects are as the API server stores them and the statuses as our own code writes them; kstatus itself is the
library that Helm uses, behind the small program in `kstatus/`.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.api.meta import ConditionStatus
from arbiter.api.reasons import ConditionType, Reason, ReasonCode
from arbiter.core.status import with_abnormality, with_condition
from tests.contract.judge import build
from tests.contract.manifests import GOOD, KINDS, patched

if TYPE_CHECKING:
    from arbiter.api.meta import Condition
    from tests.contract.judge import Judge

SOURCES = Path(__file__).with_name("kstatus")
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
WHY = Reason(ReasonCode.FactUnknown, "nothing has been found out yet")

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN

CURRENT, IN_PROGRESS, FAILED, TERMINATING = "Current", "InProgress", "Failed", "Terminating"

MEANING = {
    ConditionType.Degraded: CURRENT,
    ConditionType.Stalled: FAILED,
    ConditionType.Reconciling: IN_PROGRESS,
    ConditionType.SwapProgressing: CURRENT,
    ConditionType.UnsafeIsolation: CURRENT,
}
"""What an object that is Ready is meant to be for whoever waits, while one further condition stands."""


@dataclass(frozen=True)
class Reading:
    """What kstatus makes of one object."""

    status: str
    message: str


def kstatus(obj: dict[str, Any]) -> Reading:
    """Ask kstatus about one object, which it must be able to read."""
    asked = subprocess.run(  # noqa: S603  the program built from our own sources
        [build(SOURCES)], input=json.dumps(obj), capture_output=True, text=True, check=True
    )
    answer = json.loads(asked.stdout)
    assert "error" not in answer, answer
    return Reading(**answer)


def conditions(ready: ConditionStatus | None, *abnormal: ConditionType, generation: int = 1) -> tuple[Condition, ...]:
    """Give conditions as our own code sets them: Ready, unless nothing is known of it, and what is abnormal."""
    made: tuple[Condition, ...] = ()
    if ready is not None:
        made = with_condition(made, type=ConditionType.Ready, status=ready, reason=WHY, generation=generation, now=NOW)
    for about in abnormal:
        made = with_abnormality(made, type=about, reason=WHY, generation=generation, now=NOW)
    return made


def written(judge: Judge, kind: str, made: tuple[Condition, ...], *, generation: int = 1) -> dict[str, Any]:
    """Give an object of generation 1 after a pass that saw `generation`, as the API server stores it."""
    stored = judge.review(GOOD[kind]).object
    status = (
        KINDS[kind]
        .model_fields["status"]
        .default.model_copy(update={"observed_generation": generation, "conditions": made})
    )
    verdict = judge.review({**stored, "status": status.to_dict()}, old=stored, status=True)
    assert verdict.errors == ()
    return dict(verdict.object)


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_that_nobody_has_looked_at_is_unfinished(judge: Judge, kind: str) -> None:
    """Helm waits for an object from the moment it made it, which is before the operator has seen it."""
    assert kstatus(dict(judge.review(GOOD[kind]).object)).status == IN_PROGRESS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("ready", "want"),
    [
        pytest.param(TRUE, CURRENT, id="ready"),
        pytest.param(FALSE, IN_PROGRESS, id="starting"),
        pytest.param(UNKNOWN, IN_PROGRESS, id="not yet known"),
    ],
)
def test_ready_alone_says_whether_an_object_is_finished(
    judge: Judge, kind: str, ready: ConditionStatus, want: str
) -> None:
    """Whoever waits goes on when the object is Ready, and neither earlier nor with a failure while it starts."""
    assert kstatus(written(judge, kind, conditions(ready))).status == want


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("about", MEANING)
def test_an_abnormal_condition_holds_up_only_whom_it_is_meant_to(judge: Judge, kind: str, about: ConditionType) -> None:
    """A swap may ramp for hours while something serves: it must not hang `helm upgrade --wait` or a Kustomization."""
    assert kstatus(written(judge, kind, conditions(TRUE, about))).status == MEANING[about]


def test_every_condition_that_comes_and_goes_has_a_meaning_here() -> None:
    """A new condition cannot be forgotten: what it does to those who wait is decided when it is made."""
    assert set(MEANING) == {about for about in ConditionType if about.stands_only_while_true}


@pytest.mark.parametrize(
    "abnormal",
    [
        pytest.param((ConditionType.SwapProgressing,), id="side by side"),
        pytest.param((ConditionType.SwapProgressing, ConditionType.UnsafeIsolation), id="in one engine process"),
        pytest.param((ConditionType.SwapProgressing, ConditionType.Degraded), id="with a task on its fallback"),
    ],
)
def test_a_pool_is_finished_during_the_whole_flight_of_a_swap(
    judge: Judge, abnormal: tuple[ConditionType, ...]
) -> None:
    """However a swap runs, the pool serves, so nobody who applied it needs to wait."""
    assert kstatus(written(judge, "ModelPool", conditions(TRUE, *abnormal))).status == CURRENT


@pytest.mark.parametrize("ready", [TRUE, FALSE, UNKNOWN, None])
def test_a_stalled_object_has_failed_whatever_ready_says(judge: Judge, ready: ConditionStatus | None) -> None:
    """Nothing will change until a person acts, so waiting ends at once, with the sentence that says what to do."""
    reading = kstatus(written(judge, "ModelPool", conditions(ready, ConditionType.Stalled)))

    assert reading == Reading(FAILED, WHY.message)


def test_why_an_object_is_unfinished_reaches_whoever_waits(judge: Judge) -> None:
    """What Helm prints when its time is up is our sentence and not one about kstatus."""
    assert kstatus(written(judge, "LocalModel", conditions(FALSE))) == Reading(IN_PROGRESS, WHY.message)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("abnormal", [(), (ConditionType.Stalled,)], ids=["ready", "stalled"])
def test_a_verdict_about_an_older_spec_is_not_believed(
    judge: Judge, kind: str, abnormal: tuple[ConditionType, ...]
) -> None:
    """After an edit, the old Ready says nothing, and the old Stalled may be what the edit repaired."""
    obj = patched(written(judge, kind, conditions(TRUE, *abnormal)), {"metadata": {"generation": 2}})

    assert kstatus(obj).status == IN_PROGRESS


@pytest.mark.parametrize("kind", KINDS)
def test_a_deleted_object_is_on_its_way_out(judge: Judge, kind: str) -> None:
    """Whoever waits for it to be gone is told that it goes, although it was Ready."""
    obj = written(judge, kind, conditions(TRUE))

    assert kstatus(patched(obj, {"metadata": {"deletionTimestamp": "2026-11-21T12:00:00Z"}})).status == TERMINATING


@pytest.mark.parametrize(
    "line",
    [pytest.param("no JSON", id="no JSON"), pytest.param('{"metadata": {"generation": "one"}}', id="no kind")],
)
def test_an_object_that_cannot_be_read_is_said_to_be_none(line: str) -> None:
    """A test that asks about nonsense is told so, instead of being told that nonsense is Current."""
    asked = subprocess.run(  # noqa: S603  the program built from our own sources
        [build(SOURCES)], input=line, capture_output=True, text=True, check=True
    )

    assert json.loads(asked.stdout)["error"].startswith("not an object: ")
