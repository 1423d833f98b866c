"""Collecting evidence block by block, and storing it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arbiter.core.analysis_settings import AnalysisSettings, MetricName
from arbiter.core.blocks import Block, Cursor, Progress
from arbiter.core.count_evidence import Clustering, CountEvidence, Past
from arbiter.core.eprocess import GUARD_STEPS, Trials, guard_log_e, log_mean_exp, worse_log_e
from arbiter.core.evidence import Evidence
from arbiter.core.score_evidence import ScoreEvidence, disjoint_pairs, gate_within_reach
from arbiter.core.traffic import Stratum, Tally
from arbiter.errors import CorruptStateError
from tests.unit.core.traffic_examples import MINUTE, block, tally, timings

if TYPE_CHECKING:
    from collections.abc import Callable

EVERYTHING = AnalysisSettings(metrics=tuple(MetricName))
SUCCESS = AnalysisSettings(metrics=(MetricName.SUCCESS,), guard_only=())
ERRORS = AnalysisSettings(metrics=(MetricName.ERRORS,))
FIRST_TOKEN = AnalysisSettings(metrics=(MetricName.FIRST_TOKEN,), guard_only=())
QUALITY = AnalysisSettings(metrics=(MetricName.QUALITY,), guard_only=())


def counts(evidence: Evidence, place: int = 0) -> CountEvidence:
    """The evidence of a counted metric."""
    metric = evidence.metrics[place]
    assert isinstance(metric, CountEvidence)
    return metric


def scores(evidence: Evidence) -> ScoreEvidence:
    """The evidence of quality."""
    metric = evidence.metrics[-1]
    assert isinstance(metric, ScoreEvidence)
    return metric


def test_success_evidence_is_the_average_over_the_alternatives() -> None:
    """Six fixed ratios below the margin and the side's own past, each a product of block e-values."""
    rules = replace(SUCCESS, temper=False, block_share=1e9)
    first, second = (tally(8, 2), tally(19, 1)), (tally(5, 5), tally(30))
    evidence = Evidence.begin(rules, 0).observe(block(0, *first), rules).observe(block(1, *second), rules)
    logs = [0.0] * 7
    # Rates before the first block are 0.95 (two made-up trials); before the second those of the first with them.
    for trials, old, new in (
        (Trials(8, 10, 19, 20), 0.95, 0.95),
        (Trials(5, 10, 30, 30), (19 + 1.9) / 22, (8 + 1.9) / 12),
    ):
        for i, step in enumerate((0.98, 0.95, 0.9, 0.8, 0.6, 0.3)):
            logs[i] += worse_log_e(trials, 0.95 * old * step, old, 0.95)
        logs[6] += worse_log_e(trials, new, old, 0.95)
    metric = counts(evidence)
    assert metric.step_logs == metric.swap_logs == pytest.approx(logs)
    assert metric.swap.log_e == metric.step.log_e == pytest.approx(log_mean_exp(logs))
    assert metric.swap.highest == metric.swap.log_e
    assert metric.pasts == (Past(49, 50, 13, 20, 13, 20, 30, 30),)
    assert (metric.seen, metric.blocks, metric.silent) == (True, 2, 0)


def test_error_evidence_is_the_average_over_multiples_of_the_guard() -> None:
    """The guard looks at who has the errors."""
    rules = replace(ERRORS, temper=False, block_share=1e9)
    metric = counts(Evidence.begin(rules, 0).observe(block(0, tally(7, 3), tally(20, 0)), rules))
    want = [guard_log_e(Trials(7, 10, 20, 20), 2.0, 2.0 * step) for step in GUARD_STEPS]
    assert metric.step_logs == pytest.approx(want)
    assert metric.swap.log_e == pytest.approx(log_mean_exp(want))


def test_the_gate_bets_on_one_value_per_block() -> None:
    """However many requests a block has, it is one observation: bursts cannot count many times."""
    small = Evidence.begin(SUCCESS, 0)
    large = small
    for i in range(20):
        small = small.observe(block(i, tally(9, 1), tally(9, 1)), SUCCESS)
        large = large.observe(block(i, tally(900, 100), tally(900, 100)), SUCCESS)
    assert counts(small).gate.wealth.log_e == counts(large).gate.wealth.log_e > 0.0
    assert counts(small).gate.n == 20
    assert counts(small).gate.total == pytest.approx(20 * (0.9 - 0.95 * 0.9))
    assert counts(small).interval.n == 20


def test_one_block_goes_at_most_a_third_of_the_way() -> None:
    """A single bad minute convicts nobody: the third does."""
    rules = replace(SUCCESS, temper=False)
    evidence = Evidence.begin(rules, 0)
    bound = math.log(2 / 0.01)
    assert rules.block_bound(1) == pytest.approx(bound / 3)
    for i in range(3):
        assert counts(evidence).swap.log_e < bound
        evidence = evidence.observe(block(i, tally(0, 500), tally(500)), rules)
        assert max(counts(evidence).swap_logs) <= (i + 1) * bound / 3 + 1e-9
    again = evidence.observe(block(3, tally(0, 500), tally(500)), rules)
    assert counts(again).swap.log_e > bound


def test_a_new_step_starts_fresh_beside_the_test_of_the_swap() -> None:
    """The step's test forgets how good it was; that of the swap does not, and neither do the highest values."""
    evidence = Evidence.begin(SUCCESS, 0)
    for i in range(10):
        evidence = evidence.observe(block(i, tally(50), tally(50)), SUCCESS)
    before = counts(evidence)
    begun = evidence.next_step(SUCCESS)
    after = counts(begun)
    assert (begun.step, begun.step_new, begun.step_old) == (1, 0, 0)
    assert (evidence.step_new, evidence.step_old) == (500, 500)
    assert after.step_logs == (0.0,) * 7
    assert after.step.log_e == 0.0
    assert after.step.highest == before.step.highest
    assert (after.swap_logs, after.swap, after.gate) == (before.swap_logs, before.swap, before.gate)
    assert before.step.log_e == before.swap.log_e < 0.0
    assert after.pasts == (replace(before.pasts[0], step_ok=0, step=0),)


def test_beyond_the_planned_steps_the_last_test_goes_on() -> None:
    """α is split over so many tests and no more."""
    rules = replace(SUCCESS, steps=2)
    evidence = Evidence.begin(rules, 0).next_step(rules).observe(block(0, tally(9), tally(9)), rules)
    further = evidence.next_step(rules)
    assert (further.step, further.step_new) == (2, 0)
    assert further.metrics == evidence.metrics


def test_a_block_is_added_once() -> None:
    """A pass that is repeated changes nothing."""
    first = block(3, tally(9), tally(9))
    once = Evidence.begin(SUCCESS, 0).observe(first, SUCCESS)
    assert once.consumed_to_ms == 4 * MINUTE
    assert once.observe(first, SUCCESS) is once


def latency_block(number: int, new: float, old: float, n: int = 30, stratum: Stratum = Stratum.ONE) -> Block:
    """A block in which every request of a side took the same time."""
    new_times, old_times = timings({stratum: {new: n}}), timings({stratum: {old: n}})
    return block(number, Tally(n, n, first_token=new_times), Tally(n, n, first_token=old_times))


def test_latency_thresholds_come_from_blocks_before() -> None:
    """The first block of a stratum only teaches what is usual there."""
    evidence = Evidence.begin(FIRST_TOKEN, 0).observe(latency_block(0, 9.0, 1.0), FIRST_TOKEN)
    assert counts(evidence).swap.log_e == 0.0
    assert counts(evidence).blocks == 1
    assert counts(evidence).sketches[Stratum.ONE].count == 30
    slower = evidence.observe(latency_block(1, 9.0, 1.0), FIRST_TOKEN)
    assert counts(slower).swap.log_e > 0.0
    assert counts(slower).pasts[Stratum.ONE] == Past(30, 30, 0, 30, 0, 30, 30, 30)
    assert counts(slower).shown.count == 60
    elsewhere = evidence.observe(latency_block(1, 9.0, 1.0, stratum=Stratum.MANY), FIRST_TOKEN)
    assert counts(elsewhere).swap.log_e == 0.0


def test_a_side_that_is_slower_because_it_is_fuller_is_not_slower() -> None:
    """Alone 1 s and in a crowd 4 s on both sides: the fuller side is as good."""
    evidence = Evidence.begin(FIRST_TOKEN, 0)
    for i in range(60):
        # A little of everything above and below, so that the percentile is no single value.
        usual = {Stratum.ALONE: {0.8: 18, 1.0: 1, 1.1: 1}, Stratum.MANY: {3.2: 18, 4.0: 1, 4.4: 1}}
        few = {stratum: dict.fromkeys(durations, 1) for stratum, durations in usual.items()}
        new = timings({Stratum.ALONE: few[Stratum.ALONE], Stratum.MANY: usual[Stratum.MANY]})
        old = timings({Stratum.ALONE: usual[Stratum.ALONE], Stratum.MANY: few[Stratum.MANY]})
        evidence = evidence.observe(
            block(i, Tally(23, 23, first_token=new), Tally(23, 23, first_token=old)), FIRST_TOKEN
        )
    assert counts(evidence).swap.highest < 1.0


@pytest.mark.parametrize(
    ("blocks", "want_silent", "want_seen"),
    [
        pytest.param([(0, 0)] * 3, 0, False, id="never a source, never silent"),
        pytest.param([(9, 9), (0, 0), (0, 0)], 2, True, id="a source that stopped"),
        pytest.param([(9, 9), (0, 0), (9, 9)], 0, True, id="a source that came back"),
        pytest.param([(0, 9), (0, 9)], 2, True, id="only the old side has ever had data"),
        pytest.param([(9, 0)], 1, True, id="only the new side has data"),
    ],
)
def test_silence_is_counted_in_blocks(blocks: list[tuple[int, int]], want_silent: int, *, want_seen: bool) -> None:
    """A metric that one side does not deliver is silent; one that nobody delivers does not exist."""
    evidence = Evidence.begin(FIRST_TOKEN, 0)
    for i, (new, old) in enumerate(blocks):
        new_times, old_times = (timings({Stratum.ONE: {1.0: n}} if n else {}) for n in (new, old))
        evidence = evidence.observe(
            block(i, Tally(9, 9, first_token=new_times), Tally(9, 9, first_token=old_times)), FIRST_TOKEN
        )
    assert (counts(evidence).silent, counts(evidence).seen) == (want_silent, want_seen)
    assert evidence.sources == 1


def test_following_the_feeds_counts_gaps_before_the_block() -> None:
    """Time that was lost is silence, and a block that came ends it."""
    evidence = Evidence.begin(SUCCESS, 0).observe(block(0, tally(9), tally(9)), SUCCESS)
    lost = evidence.follow(Progress(Cursor("chat", 0, gaps=4), None), SUCCESS)
    assert (lost.gaps, counts(lost).silent) == (4, 4)
    same = lost.follow(Progress(Cursor("chat", 0, gaps=4), None), SUCCESS)
    assert same == lost
    back = lost.follow(Progress(Cursor("chat", 0, gaps=6), block(9, tally(9), tally(9))), SUCCESS)
    assert (back.gaps, counts(back).silent, counts(back).blocks) == (6, 0, 2)


def test_sources_are_the_metrics_that_ever_had_data() -> None:
    """α is not wasted on metrics that nobody measures."""
    evidence = Evidence.begin(EVERYTHING, 0)
    assert evidence.sources == 1
    evidence = evidence.observe(block(0, tally(9), tally(9)), EVERYTHING)
    assert evidence.sources == 2
    assert evidence.score([(1.0, 1.0)], EVERYTHING).sources == 3


def test_scores_are_bet_on_pair_by_pair() -> None:
    """Both directions from the same values: new - 0.95·old."""
    evidence = Evidence.begin(QUALITY, 0).score([(0.5, 1.0), (1.0, 0.5)], QUALITY)
    metric = scores(evidence)
    assert (metric.new_total, metric.old_total, metric.gate.n) == (1.5, 1.5, 2)
    assert metric.gate.total == pytest.approx(-0.45 + 0.525)
    assert metric.step.total == metric.swap.total == pytest.approx(0.45 - 0.525)
    assert metric.interval.n == 2
    # The first value was bad, so the bet on "worse" is on when the good one comes.
    assert metric.swap.wealth.log_e == pytest.approx(math.log(1 - 0.5 * 0.525))
    assert metric.gate.wealth.log_e == 0.0
    begun = scores(evidence.next_step(QUALITY))
    assert begun.step.wealth.log_e == 0.0
    assert begun.step.total == metric.step.total
    assert begun.swap == metric.swap


@pytest.mark.parametrize("pair", [(-0.1, 0.5), (1.1, 0.5), (0.5, -0.1), (0.5, 1.1), (math.nan, 0.5)])
def test_scores_lie_between_0_and_1(pair: tuple[float, float]) -> None:
    """A score off the scale would break every bound."""
    with pytest.raises(ValueError, match=r"scores are in \[0, 1\]"):
        Evidence.begin(QUALITY, 0).score([pair], QUALITY)


@pytest.mark.parametrize(
    ("new", "old", "want"),
    [
        pytest.param([0.5], [0.2, 0.4], ((0.5, pytest.approx(0.3)),), id="one new score against the mean of two"),
        pytest.param([0.1, 0.2], [0.3, 0.5, 0.7, 0.9], ((0.1, 0.5), (0.2, 0.7)), id="groups do not overlap"),
        pytest.param([0.2, 0.4, 0.6], [0.5], ((pytest.approx(0.4), 0.5),), id="more new scores than old"),
        pytest.param([], [0.5], (), id="nothing to compare"),
    ],
)
def test_groups_of_scores_share_nothing(new: list[float], old: list[float], want: object) -> None:
    """Each score is used once."""
    assert disjoint_pairs(new, old) == want


def test_a_short_file_of_checks_cannot_promote() -> None:
    """With the default margin perfect sides need more than a hundred prompts."""
    assert not gate_within_reach(100, QUALITY)
    assert gate_within_reach(125, QUALITY)
    assert min(n for n in range(100, 140) if gate_within_reach(n, QUALITY)) == 117


@pytest.mark.parametrize(
    ("correlation", "low", "high"),
    [pytest.param(0.0, 0.0, 0.01, id="independent"), (0.05, 0.02, 0.09), (0.2, 0.12, 0.3)],
)
def test_clustering_measures_how_failures_come_together(correlation: float, low: float, high: float) -> None:
    """The estimate is near the correlation that the failures were drawn with."""
    rng = np.random.default_rng(5)
    past, clustering = Past(), Clustering()
    for _ in range(2000):
        rate = 0.9 if not correlation else rng.beta(0.9 * (1 / correlation - 1), 0.1 * (1 / correlation - 1))
        trials = Trials(0, 0, int(rng.binomial(50, rate)), 50)
        clustering, past = clustering.joined(past, trials), past.joined(trials)
    assert low <= clustering.rho <= high


def test_clustering_of_two_known_blocks() -> None:
    """Rates 0.8 and 1 of ten each: variance 0.9·0.1·20/19, change 0.04, sampling 0.2."""
    past = Past(last_ok=8, last=10)
    found = Clustering().joined(past, Trials(5, 5, 10, 10))
    variance = 0.9 * 0.1 * 20 / 19
    assert found.excess == pytest.approx(0.04 - variance * 0.2)
    assert found.scale == pytest.approx(variance * 1.8)
    assert found.rho == pytest.approx(found.excess / (0.1 + found.scale))
    assert Clustering().joined(past, Trials(5, 5, 0, 0)) == Clustering()
    assert Clustering().joined(Past(), Trials(5, 5, 10, 10)) == Clustering()


def test_counts_weigh_less_where_failures_cluster() -> None:
    """The power is 1 over the design effect of the larger side, and 1 where nothing clusters."""
    half = Clustering(excess=0.5, scale=0.9)
    assert half.rho == 0.5
    assert half.weight(Trials(1, 3, 1, 5)) == pytest.approx(1 / 3)
    assert half.weight(Trials(1, 5, 1, 3)) == pytest.approx(1 / 3)
    assert half.weight(Trials(0, 0, 0, 0)) == 1.0
    assert Clustering(5.0, 0.0).rho == 1.0
    assert Clustering(5.0, 0.0).weight(Trials(0, 0, 0, 0)) == 1.0
    assert Clustering(-1.0, 1.0).weight(Trials(9, 9, 9, 9)) == 1.0


def test_tempering_uses_the_clustering_known_before_the_block() -> None:
    """A tempered block adds the same log e-value times the power."""
    trials = block(2, tally(6, 4), tally(10))
    clustered = replace(CountEvidence.begin(MetricName.SUCCESS), clustering=Clustering(0.1, 0.9))
    tempered = clustered.observe(trials, SUCCESS, 99.0)
    plain = clustered.observe(trials, replace(SUCCESS, temper=False), 99.0)
    assert tempered.swap_logs == pytest.approx([each / (1 + 9 * 0.1) for each in plain.swap_logs])


@pytest.mark.parametrize(
    ("settings_", "metrics", "want_step", "want_swap"),
    [
        pytest.param(AnalysisSettings(), 4, 8000.0, 800.0, id="defaults: half of α each, ten steps"),
        pytest.param(replace(SUCCESS, steps=1, swap_share=1.0), 1, math.inf, 100.0, id="one test alone"),
        pytest.param(replace(SUCCESS, steps=9, swap_share=0.0), 3, 2700.0, math.inf, id="steps only"),
    ],
)
def test_bounds(settings_: AnalysisSettings, metrics: int, want_step: float, want_swap: float) -> None:
    """α is split over tests, steps and metrics; the bounds are the inverse of the shares."""
    assert math.exp(settings_.step_bound(metrics)) == pytest.approx(want_step)
    assert math.exp(settings_.swap_bound(metrics)) == pytest.approx(want_swap)
    assert math.exp(settings_.gate_bound) == pytest.approx(20.0)
    assert settings_.block_bound(metrics) == pytest.approx(math.log(min(want_step, want_swap)) / 3)


sides = st.tuples(st.integers(0, 40), st.integers(0, 10), st.integers(0, 4), st.floats(0.01, 5.0), st.integers(0, 30))


def any_tally(side: tuple[int, int, int, float, int]) -> Tally:
    """A tally with timings of both kinds."""
    ok, bad, stratum, seconds, timed = side
    times = timings({Stratum(stratum): {seconds: timed, seconds * 1.3: 1} if timed else {}})
    return replace(tally(ok, bad), first_token=times, per_token=tuple(reversed(times)))


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(sides, sides, st.booleans(), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=3)),
        min_size=1,
        max_size=12,
    )
)
def test_evidence_read_back_goes_on_bit_for_bit(course: list[Any]) -> None:
    """Storing and reading between all blocks gives the same bits as never storing: a restart changes no test."""
    kept = stored = Evidence.begin(EVERYTHING, 0)
    for i, (new, old, step, pairs) in enumerate(course):
        stored = Evidence.from_text(stored.to_text(), EVERYTHING)
        assert stored == kept
        if step:
            kept, stored = kept.next_step(EVERYTHING), stored.next_step(EVERYTHING)
        each = block(i, any_tally(new), any_tally(old))
        kept, stored = (it.observe(each, EVERYTHING).score(pairs, EVERYTHING) for it in (kept, stored))
    assert stored.to_text() == kept.to_text()


def test_stored_evidence_is_small() -> None:
    """Ten thousand requests in every stratum take a few kilobytes, and no more than a thousand do."""
    rng = np.random.default_rng(1)
    evidence, sizes = Evidence.begin(EVERYTHING, 0), []
    for i in range(100):
        times = timings({stratum: dict.fromkeys(rng.lognormal(0, 0.6, 20).tolist(), 1) for stratum in Stratum})
        side = replace(tally(99, 1), first_token=times, per_token=times)
        evidence = evidence.observe(block(i, side, side), EVERYTHING)
        sizes.append(len(evidence.to_text()))
    assert sizes[-1] < 10_000
    assert sizes[-1] < 1.2 * sizes[50]


def _metric(name: str, change: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda fields: change(fields["metrics"][name])


@pytest.mark.parametrize(
    ("change", "want_message"),
    [
        pytest.param(lambda it: it.update(version=9), r"evidence\.version is 9", id="another version"),
        pytest.param(lambda it: it.update(counts=[1]), r"evidence\.counts must be a list of 5", id="too few counts"),
        pytest.param(lambda it: it["metrics"].pop("errors"), r"metrics\.errors is missing", id="a metric is missing"),
        pytest.param(lambda it: it["metrics"].update(more={}), "unknown fields: more", id="an unknown metric"),
        pytest.param(_metric("success", lambda it: it.pop("gate")), r"success\.gate is missing", id="half a metric"),
        pytest.param(_metric("success", lambda it: it.update(more=1)), "unknown fields: more", id="a field too many"),
        pytest.param(
            _metric("success", lambda it: it["stepLogs"].pop()),
            r"stepLogs must be a list of 7",
            id="alternatives changed",
        ),
        pytest.param(
            _metric("success", lambda it: it["wealth"].__setitem__(0, "0x1p0")),
            "a finite number",
            id="a number as text",
        ),
        pytest.param(_metric("success", lambda it: it.update(wealth=[True, 0, 0, 0])), "a finite number", id="a truth"),
        pytest.param(
            _metric("success", lambda it: it["pasts"].__setitem__(0, [2, 1, 0, 0, 0, 0, 0, 0])),
            "went well",
            id="2 of 1",
        ),
        pytest.param(
            _metric("success", lambda it: it["gate"].__setitem__(0, 1.5)), "as Arbiter writes", id="half a block"
        ),
        pytest.param(
            _metric("success", lambda it: it["blocks"].__setitem__(0, 2)), "as Arbiter writes", id="seen twice"
        ),
        pytest.param(
            _metric("first-token", lambda it: it["durations"].pop()),
            r"durations must be a list of 6",
            id="a stratum less",
        ),
        pytest.param(
            _metric("per-token", lambda it: it["durations"].__setitem__(0, "x")), "histogram 'x'", id="a broken sketch"
        ),
        pytest.param(_metric("quality", lambda it: it.update(totals=[1])), r"totals must be", id="half the scores"),
    ],
)
def test_any_other_evidence_is_refused(change: Callable[[Any], object], want_message: str) -> None:
    """What was not written by us is not read as evidence, and the message says where it differs."""
    fields = json.loads(Evidence.begin(EVERYTHING, 0).to_text())
    change(fields)
    with pytest.raises(CorruptStateError, match=want_message):
        Evidence.from_text(json.dumps(fields, separators=(",", ":")), EVERYTHING)


@pytest.mark.parametrize("text", ["", "null", '{"version":1}', '{"version":1,"counts":[0,0,0,0,0],"metrics":{}} '])
def test_what_is_no_evidence_at_all_is_refused(text: str) -> None:
    """Broken or foreign text is corrupt state."""
    with pytest.raises(CorruptStateError, match="evidence"):
        Evidence.from_text(text, SUCCESS)
