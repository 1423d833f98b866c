"""What people read of a swap beside its phases: what a gate still needs, in requests and in time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from arbiter.api.modelswap import ModelSwap, Verdict
from arbiter.api.reasons import ReasonCode
from arbiter.api.swappolicy import SwapPolicySpec
from arbiter.core.analysis_settings import MetricName
from arbiter.core.judgement import MetricReport
from arbiter.core.swap_record import Shown, swap_status
from tests.unit.core.swap_examples import START, judged, swap

REPORT = MetricReport(
    name=MetricName.FIRST_TOKEN,
    verdict=Verdict.Undecided,
    guard_only=False,
    passed=False,
    old=0.2,
    new=0.21,
    interval=(-0.1, 0.1),
    margin=0.1,
    rollback="1/200",
    promotion="3/20",
    p_value=1.0,
    blocks=40,
    silent=0,
    n_old=960,
    n_new=240,
    missing=None,
)


@pytest.mark.parametrize(
    ("name", "missing", "block", "want"),
    [
        pytest.param(MetricName.FIRST_TOKEN, 310, "1s", "310 more requests of the new side|52 s", id="seconds"),
        pytest.param(MetricName.FIRST_TOKEN, 310, "60s", "310 more requests of the new side|52 min", id="minutes"),
        pytest.param(MetricName.SUCCESS, 620, "60s", "620 more requests of the new side|1.7 h", id="hours"),
        pytest.param(MetricName.QUALITY, 12, "60s", "12 more checks of both sides", id="checks"),
        pytest.param(MetricName.SUCCESS, None, "60s", "", id="nothing, or nobody can say"),
    ],
)
def test_a_metric_says_what_its_gate_still_needs(name: MetricName, missing: int | None, block: str, want: str) -> None:
    """By the rate of the blocks that compared both sides, so that the sentence changes with the evidence alone."""
    policy = SwapPolicySpec.model_validate({"analysis": {"slice": "1s", "blockLength": block}})
    report = replace(REPORT, name=name, missing=missing)
    judgement = replace(judged(ReasonCode.EvidenceUndecided), metrics=(report,))
    about = {"name": "assistant-chat-1", "namespace": "demo"}
    made = ModelSwap.model_validate({"metadata": about, "spec": {"pool": "assistant", "task": "chat", "to": "gemma3"}})
    (metric,) = swap_status(swap(policy), made, Shown(judgement=judgement), START).metrics
    amount, _, time = want.partition("|")
    told = f"about {amount} decide it" + (f", {time} at this rate" if time else "")
    assert metric.message == (told if want else None)
