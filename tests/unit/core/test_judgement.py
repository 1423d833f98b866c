"""What the evidence says: roll back, pass a gate, hold or go on."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from arbiter.api.modelswap import Verdict
from arbiter.api.reasons import ReasonCode
from arbiter.core.analysis_settings import AnalysisSettings, MetricName
from arbiter.core.count_evidence import CountEvidence, Past
from arbiter.core.eprocess import Bettor, MeanInterval, Wealth
from arbiter.core.evidence import Evidence
from arbiter.core.histogram import Histogram
from arbiter.core.judgement import Judgement, MetricReport, judge
from arbiter.core.samples import no_pasts
from arbiter.core.score_evidence import ScoreEvidence

RULES = AnalysisSettings(metrics=(MetricName.SUCCESS, MetricName.ERRORS))
SUCCESS = CountEvidence(
    MetricName.SUCCESS, seen=True, blocks=10, pasts=(Past(190, 200, 90, 100, 90, 100, 19, 20),), step_logs=(0.0,) * 7
)
ERRORS = replace(SUCCESS, name=MetricName.ERRORS)
PASSED = Bettor(100, 5.0, 1.0, Wealth(math.log(20.0), math.log(20.0)))
SURE = MeanInterval(100, 80.0, 1.0, 50.0, 40.0, 0.1)
"""An interval around a mean of 0.6, clear of zero."""


def evidence(*metrics: CountEvidence | ScoreEvidence, new: int = 50, old: int = 50) -> Evidence:
    """Evidence of these metrics, in a step with so many requests."""
    return Evidence(0, metrics, step_new=new, step_old=old)


def reports(judgement: Judgement) -> dict[MetricName, MetricReport]:
    """The figures by metric."""
    return {each.name: each for each in judgement.metrics}


@pytest.mark.parametrize(
    ("step", "swap", "want"),
    [
        pytest.param(math.log(2 * 10 * 2 / 0.01), 0.0, True, id="the step's test reached its bound"),
        pytest.param(math.log(2 * 10 * 2 / 0.01) - 1e-9, 0.0, False, id="the step's test is just below"),
        pytest.param(0.0, math.log(2 * 2 / 0.01), True, id="the swap's test reached its bound"),
        pytest.param(0.0, math.log(2 * 2 / 0.01) - 1e-9, False, id="the swap's test is just below"),
    ],
)
def test_either_rollback_bound_rolls_back(step: float, swap: float, *, want: bool) -> None:
    """Both metrics have a source, so each test has a quarter of α, the step's spread over ten."""
    worse = replace(ERRORS, step=Wealth(0.0, step), swap=Wealth(0.0, swap))
    judgement = judge(evidence(SUCCESS, worse), RULES)
    assert judgement.must_roll_back is want
    assert reports(judgement)[MetricName.SUCCESS].verdict is Verdict.Undecided
    if want:
        assert judgement.verdict is Verdict.Worse
        assert judgement.reason.code is ReasonCode.RegressionProven
        assert "errors old 0.05, new 0.1" in judgement.reason.message
        assert reports(judgement)[MetricName.ERRORS].p_value == pytest.approx(0.01)


def test_a_bound_that_was_reached_stays_reached() -> None:
    """The guarantee is about the highest value, so good blocks afterwards take nothing back."""
    worse = replace(SUCCESS, swap=Wealth(-3.0, 20.0))
    assert judge(evidence(worse, ERRORS), RULES).must_roll_back


def test_metrics_without_a_source_leave_more_of_alpha() -> None:
    """With one source the bound is half of that with two, and only sources are reported."""
    just = replace(SUCCESS, swap=Wealth(0.0, math.log(2 / 0.01)))
    assert judge(evidence(just, CountEvidence.begin(MetricName.ERRORS)), RULES).must_roll_back
    assert not judge(evidence(just, ERRORS), RULES).must_roll_back
    assert set(reports(judge(evidence(just, CountEvidence.begin(MetricName.ERRORS)), RULES))) == {MetricName.SUCCESS}


@pytest.mark.parametrize(("silent", "want_hold"), [(5, False), (6, True)])
def test_a_source_that_fell_silent_holds(silent: int, *, want_hold: bool) -> None:
    """Five silent blocks may be chance; with the sixth nothing moves until data is back."""
    judgement = judge(evidence(replace(SUCCESS, gate=PASSED), replace(ERRORS, silent=silent)), RULES)
    assert judgement.must_hold is want_hold
    assert judgement.gates_open is not want_hold
    if want_hold:
        assert judgement.verdict is Verdict.Undecided
        assert judgement.reason.message == "No data that compares both sides: errors for 6 blocks."


def test_a_regression_is_told_before_silence() -> None:
    """What is proven is proven, whether data still comes or not."""
    worse = replace(SUCCESS, swap=Wealth(0.0, 20.0), silent=9)
    assert judge(evidence(worse, ERRORS), RULES).must_roll_back


@pytest.mark.parametrize(("new", "old"), [(49, 50), (50, 49)])
def test_a_step_needs_its_fewest_requests_on_both_sides(new: int, old: int) -> None:
    """Until then the gates stay closed, whatever the evidence."""
    judgement = judge(evidence(replace(SUCCESS, gate=PASSED), ERRORS, new=new, old=old), RULES)
    assert judgement.reason.code is ReasonCode.TooFewRequests
    assert (judgement.enough, judgement.gates_open, judgement.verdict) == (False, False, Verdict.Undecided)
    want = f"This step has {new} requests on the new side and {old} on the old, of at least 50 each."
    assert judgement.reason.message == want


def test_the_gates_ask_for_evidence_on_every_metric_that_is_no_guard() -> None:
    """Errors guard, so success alone opens the gates; with quality both must."""
    passed = replace(SUCCESS, gate=PASSED)
    judgement = judge(evidence(passed, ERRORS), RULES)
    assert judgement.gates_open
    assert judgement.enough
    assert judgement.verdict is Verdict.NotWorse
    assert judgement.reason.code is ReasonCode.EqualOrBetterProven
    assert judgement.reason.message == (
        "The new side is within every margin: success old 0.95, new 0.9, evidence 20/20."
    )
    quality = ScoreEvidence(seen=True, new_total=3.0, old_total=3.5, gate=Bettor(5, 0.1, 0.1))
    assert not judge(evidence(passed, ERRORS, quality), RULES).gates_open
    guarded = replace(RULES, guard_only=(MetricName.ERRORS, MetricName.QUALITY))
    assert judge(evidence(passed, ERRORS, quality), guarded).gates_open


def test_a_gate_follows_the_evidence_of_now() -> None:
    """A gate that would have opened earlier closes again when later blocks speak against it."""
    fallen = replace(SUCCESS, gate=Bettor(100, 5.0, 1.0, Wealth(math.log(19.0), 9.0)))
    judgement = judge(evidence(fallen, ERRORS), RULES)
    assert judgement.reason.code is ReasonCode.EvidenceUndecided
    assert judgement.reason.message.startswith("More requests are needed: success old 0.95, new 0.9, evidence 19/20, ")
    assert judgement.reason.message.endswith("more on the new side.")


def test_guards_alone_open_no_gate() -> None:
    """With nothing but guards there is no evidence for the new side."""
    judgement = judge(evidence(ERRORS), RULES)
    assert judgement.reason.code is ReasonCode.EvidenceUndecided
    assert judgement.reason.message == "No metric that the gates ask for has a source yet."
    assert judge(Evidence.begin(RULES, 0), RULES).reason.code is ReasonCode.TooFewRequests


def test_better_is_told_from_not_worse() -> None:
    """An interval clear of zero is more than the margin asks for."""
    judgement = judge(evidence(replace(SUCCESS, gate=PASSED, interval=SURE), ERRORS), RULES)
    assert judgement.verdict is Verdict.Better
    assert reports(judgement)[MetricName.SUCCESS].verdict is Verdict.Better
    assert reports(judgement)[MetricName.ERRORS].verdict is Verdict.Undecided


def test_a_report_holds_every_figure() -> None:
    """Nobody has to compute anything again."""
    metric = replace(
        SUCCESS,
        step=Wealth(math.log(3.14), 2.0),
        swap=Wealth(math.log(0.0012), 1.0),
        gate=Bettor(10, 0.5, 0.1, Wealth(math.log(14.2), 3.0)),
    )
    report = reports(judge(evidence(metric, ERRORS), RULES))[MetricName.SUCCESS]
    assert report == MetricReport(
        name=MetricName.SUCCESS,
        verdict=Verdict.Undecided,
        guard_only=False,
        passed=False,
        old=0.95,
        new=0.9,
        interval=(-1.0, 1.0),
        margin=0.95,
        rollback="3.1/4000",
        promotion="14/20",
        # The swap's test is nearer to its bound of 400: e^1; the step's of 4000 got to e^2.
        p_value=1.0,
        blocks=10,
        silent=0,
        n_old=200,
        n_new=100,
        # λ = 0.9/0.95, so each block of ten requests adds λ·0.05 - λ²·0.01/2 of the log(20/14.2) that are missing.
        missing=round(math.log(20 / 14.2) / (0.9 / 0.95 * 0.05 - (0.9 / 0.95) ** 2 * 0.005) * 10),
    )


@pytest.mark.parametrize(
    ("step", "swap", "want_text", "want_p"),
    [
        pytest.param(
            Wealth(8.0, 8.0), Wealth(-5.0, 0.0), "3e+03/4000", 0.01 * 4000 / math.exp(8), id="the step's is nearer"
        ),
        pytest.param(
            Wealth(-9.0, 0.0), Wealth(5.0, 5.5), "148/400", 0.01 * 400 / math.exp(5.5), id="the swap's is nearer"
        ),
        pytest.param(Wealth(0.0, 900.0), Wealth(900.0, 900.0), "1.0e+304/400", 0.0, id="beyond what a float can hold"),
    ],
)
def test_the_nearer_of_the_two_tests_is_shown(step: Wealth, swap: Wealth, want_text: str, want_p: float) -> None:
    """One figure for people: the test that is closer to a rollback, and the p-value of both together."""
    report = judge(evidence(replace(SUCCESS, step=step, swap=swap), ERRORS), RULES).metrics[0]
    assert report.rollback == (want_text if want_text != "3e+03/4000" else "2981/4000")
    assert report.p_value == pytest.approx(want_p)


def test_error_rates_are_shown_as_errors_and_guards_without_promotion() -> None:
    """A guard has no promotion evidence and no estimate."""
    report = reports(judge(evidence(SUCCESS, ERRORS), RULES))[MetricName.ERRORS]
    assert report.old == pytest.approx(0.05)
    assert report.new == pytest.approx(0.1)
    assert (report.guard_only, report.passed, report.promotion, report.missing) == (True, False, "", None)
    assert report.margin == 2.0


def test_latencies_are_shown_in_seconds_at_their_percentile() -> None:
    """The old side's sketches of all strata together, and the new side's own."""
    metric = CountEvidence(
        MetricName.FIRST_TOKEN,
        seen=True,
        blocks=4,
        pasts=(Past(9, 10, 19, 20), Past(1, 1, 2, 2), Past(), Past(), Past()),
        sketches=(Histogram({0: 90}), Histogram({64: 10}), *no_pasts()[2:]),
        shown=Histogram({128: 10}),
    )
    report = reports(judge(evidence(metric), AnalysisSettings()))[MetricName.FIRST_TOKEN]
    assert report.old == pytest.approx(2.0, rel=0.006)
    assert report.new == pytest.approx(4.0, rel=0.006)
    assert (report.n_old, report.n_new, report.margin) == (11, 22, 1.2)


def test_scores_are_shown_as_means() -> None:
    """Quality counts pairs, and its estimate too."""
    gate = Bettor(10, 0.4, 0.1, Wealth(math.log(5.0), 2.0))
    metric = ScoreEvidence(seen=True, new_total=7.0, old_total=8.0, gate=gate)
    report = reports(judge(evidence(metric), AnalysisSettings(metrics=(MetricName.QUALITY,))))[MetricName.QUALITY]
    assert (report.old, report.new, report.n_old, report.n_new, report.blocks) == (0.8, 0.7, 10, 10, 10)
    assert (report.margin, report.promotion, report.silent) == (0.95, "5/20", 0)
    stake = 0.5 / 0.95
    assert report.missing == round(math.log(4.0) / ((stake * 0.4 - stake**2 * 0.05) / 10))
    worse = replace(metric, swap=Bettor(wealth=Wealth(0.0, 20.0)))
    assert judge(evidence(worse), AnalysisSettings(metrics=(MetricName.QUALITY,))).must_roll_back


def test_without_data_on_a_side_its_value_is_unknown() -> None:
    """A question mark instead of a division by zero."""
    one_sided = replace(SUCCESS, pasts=(Past(19, 20),), blocks=0)
    judgement = judge(evidence(one_sided), RULES)
    assert (judgement.metrics[0].new, judgement.metrics[0].missing) == (None, None)
    assert "success old 0.95, new ?" in judgement.reason.message
