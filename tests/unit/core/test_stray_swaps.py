"""Swaps whose pool is not there: what was asked for waits and says for what, what was under way ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from arbiter.api.modelswap import ModelSwap, Outcome, Phase
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.actions import Emit, Plan, WriteStatus
from arbiter.core.plan import plan_stray_swaps
from arbiter.core.swap_record import Shown, SideNow, swap_status
from arbiter.core.swap_table import Event
from tests.unit.core.swap_examples import START, swap

LATER = START + timedelta(minutes=5)
WHY = Reason(ReasonCode.StepHeld, "it went on")


def made(status: object = None) -> ModelSwap:
    """Give a ModelSwap of a pool that is not there."""
    about = {"name": "assistant-chat-1", "namespace": "demo", "uid": "uid", "resourceVersion": "7", "generation": 1}
    spec = {"pool": "assistant", "task": "chat", "to": "gemma3"}
    return ModelSwap.model_validate({"metadata": about, "spec": spec, **({"status": status} if status else {})})


def under_way(*events: Event) -> ModelSwap:
    """Give one that has come so far."""
    flight = swap(started_at=START)
    for event in events:
        flight = flight.moved(event, WHY, START)
    shown = Shown(SideNow(1, "sha256:1", 120), SideNow(1, "sha256:2", 30))
    return made(swap_status(flight, made(), shown, START).to_dict())


def written(plan: Plan) -> dict[str, Any]:
    """Give the one status that a plan writes."""
    (action,) = [each for each in plan.actions if isinstance(each, WriteStatus)]
    assert (action.kind, action.name, action.version) == ("ModelSwap", "assistant-chat-1", "7")
    return dict(action.status)


def test_what_was_asked_for_waits_and_says_that_once() -> None:
    """The second pass finds it said already."""
    status = written(plan_stray_swaps([made()], LATER))
    assert (status["phase"], status["reason"]) == ("Waiting", "PoolNotFound")
    assert "there is no ModelPool assistant in namespace demo: create it" in status["message"]
    assert plan_stray_swaps([made(status)], LATER) == Plan()


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        pytest.param((), Outcome.Aborted, id="waiting"),
        pytest.param((Event.STARTED,), Outcome.Aborted, id="preparing"),
        pytest.param((Event.STARTED, Event.PREPARED), Outcome.Aborted, id="shifting"),
        pytest.param((Event.STARTED, Event.PREPARED, Event.SHIFTED), Outcome.Aborted, id="watching"),
        pytest.param((Event.STARTED, Event.PREPARED, Event.REGRESSED), Outcome.RolledBack, id="rolling back"),
    ],
)
def test_what_was_under_way_ends(events: tuple[Event, ...], outcome: Outcome) -> None:
    """There is nobody to give requests back to; what was counted stays, and what a rollback was for stands."""
    plan = plan_stray_swaps([under_way(*events)], LATER)
    status = ModelSwap.model_validate(made().to_dict() | {"status": written(plan)}).status
    assert (status.phase, status.outcome, status.ended_at) == (Phase.Ended, outcome, LATER)
    assert status.from_ is not None
    assert (status.from_.requests, status.from_.ready_replicas) == (120, 0)
    (event,) = [each for each in plan.actions if isinstance(each, Emit)]
    assert event.reason.code.value == status.reason


def test_what_has_ended_is_left_alone() -> None:
    """Its history is its owner's."""
    assert plan_stray_swaps([under_way(Event.REFUSED)], LATER) == Plan()
