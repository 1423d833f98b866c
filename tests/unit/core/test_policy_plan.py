"""A SwapPolicy says who uses it, and whether it can be followed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from arbiter.api.swappolicy import SwapPolicy
from arbiter.core.actions import Plan, WriteStatus
from arbiter.core.plan import plan_policy
from arbiter.core.snapshot import PolicySnapshot

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def policy(status: object = None, **spec: Any) -> SwapPolicy:  # noqa: ANN401  fields of a spec
    """Give a policy."""
    about = {"name": "slow", "namespace": "demo", "uid": "uid", "resourceVersion": "7", "generation": 3}
    return SwapPolicy.model_validate({"metadata": about, "spec": spec, **({"status": status} if status else {})})


def written(plan: Plan) -> dict[str, Any]:
    """Give the one status that a plan writes."""
    (action,) = plan.actions
    assert isinstance(action, WriteStatus)
    assert (action.kind, action.name, action.version) == ("SwapPolicy", "slow", "7")
    return dict(action.status)


def test_it_says_who_uses_it_and_writes_that_once() -> None:
    """The second pass finds it said already."""
    status = written(plan_policy(PolicySnapshot(policy(), ("a", "b")), NOW))
    assert (status["pools"], status["poolCount"], status["observedGeneration"]) == (["a", "b"], 2, 3)
    assert [(each["type"], each["status"]) for each in status["conditions"]] == [("Ready", "True")]
    assert plan_policy(PolicySnapshot(policy(status), ("a", "b")), NOW) == Plan()


@pytest.mark.parametrize(
    ("window", "want"),
    [
        pytest.param({"cron": "0 22 31 2 *", "duration": "1h"}, "spec.windows[0]", id="a day that never comes"),
        pytest.param({"cron": "0 22 * * *", "duration": "1h", "timeZone": "Europe/Atlantis"}, "Atlantis", id="no zone"),
    ],
)
def test_what_cannot_be_followed_is_said_where_it_is_written(window: dict[str, str], want: str) -> None:
    """The API server knows no calendar."""
    conditions = {
        each["type"]: each
        for each in written(plan_policy(PolicySnapshot(policy(windows=[window]), ()), NOW))["conditions"]
    }
    assert conditions["Ready"]["status"] == "False"
    assert conditions["Stalled"]["reason"] == "PolicyInvalid"
    assert want in conditions["Ready"]["message"]
