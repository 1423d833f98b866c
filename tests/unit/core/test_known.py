"""What a profile says about a revision: faded, with a prior beside it, and as people see it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given

from arbiter.api import taskprofile as api
from arbiter.core.fading import HALF_LIFE_MS
from arbiter.core.known import Informed, Told, known, to_knowledge, with_prior
from arbiter.core.profile import Profile
from arbiter.core.revision_record import RevisionName
from arbiter.core.task_counts import Complexity, Outcomes, Scores
from arbiter.core.traffic import Tally
from arbiter.core.weighed import Known, Quality
from arbiter.errors import InvalidInputError
from tests.unit.core.profile_examples import LATER, LLAMA, MONDAY, QWEN, SLICE_MS, answered, learnt, profiles, share


def test_what_was_never_seen_is_unknown() -> None:
    """Unknown is None, not zero."""
    assert known(Profile(), *LLAMA, MONDAY) == Known()
    assert known(learnt([share(MONDAY, answered(1))]), *QWEN, MONDAY) == Known()


def test_everything_that_is_known_of_a_revision() -> None:
    """Rates, means and quantiles of one period, before anything fades."""
    counted = replace(share(MONDAY, answered(9, 1)), millijoules=90_000, feedback=Scores.of([0.0]))
    profile = learnt([counted]).check(LLAMA, [1.0, 0.5], MONDAY, LATER).profile
    profile = profile.measure(LLAMA, MONDAY, LATER, memory_bytes=7_000, load_ms=12_500).profile
    read = known(profile, *LLAMA, MONDAY + 60_000)
    assert (read.samples, read.successes, read.success_rate) == (10.0, 9.0, 0.9)
    assert (read.quality, read.checks, read.feedback) == (Quality(0.5, 3.0), Quality(0.75, 2.0), Quality(0.0, 1.0))
    assert (read.input_tokens, read.output_tokens) == (900.0, 450.0)
    assert (read.memory_bytes, read.load_seconds, read.joules_per_token) == (7_000, 12.5, 0.2)
    assert read.age_seconds == 60.0
    for times, want in ((read.first_token, 0.25), (read.per_token, 0.02), (read.total, 2.0)):
        assert times
        assert tuple(times) == pytest.approx((want, want), rel=0.19)
    assert read.tokens_per_second == pytest.approx(50.0, rel=0.1)


def test_old_counts_are_worth_less() -> None:
    """Ten bad requests of four weeks ago weigh less than one good of today."""
    profile = learnt([share(MONDAY, answered(0, 16)), share(MONDAY + 4 * HALF_LIFE_MS, answered(1))])
    read = known(profile, *LLAMA, MONDAY + 4 * HALF_LIFE_MS)
    assert (read.samples, read.success_rate) == (2.0, 0.5)


def test_times_fade_with_their_period() -> None:
    """A model that became fast is called fast once recent answers outweigh the old ones."""
    slow, fast = answered(60, total=8.0), answered(40, total=1.0)
    profile = learnt([share(MONDAY, slow), share(MONDAY + HALF_LIFE_MS, fast)])
    read = known(profile, *LLAMA, MONDAY + HALF_LIFE_MS)
    assert read.total
    assert tuple(read.total) == pytest.approx((1.0, 8.0), rel=0.19)


def test_a_quiet_task_forgets_too() -> None:
    """Rates stay, and the number behind them falls, so the next request does not change it at a stroke."""
    profile = learnt([share(MONDAY, answered(30, 10))])
    assert known(profile, *LLAMA, MONDAY + HALF_LIFE_MS - 1).samples == 40.0
    for weeks, want in ((1, 20.0), (2, 10.0), (20, 40 / 2**20)):
        read = known(profile, *LLAMA, MONDAY + weeks * HALF_LIFE_MS)
        assert (read.samples, read.success_rate) == (want, 0.75)


def test_a_clock_that_went_back_sees_no_count_as_more_than_one() -> None:
    """Nothing is worth more than on the day it was counted, and nothing is younger than new."""
    read = known(learnt([share(MONDAY, answered(3))]), *LLAMA, MONDAY - 5 * HALF_LIFE_MS)
    assert (read.samples, read.age_seconds) == (3.0, 0.0)


def test_energy_is_of_the_tokens_that_it_was_measured_with() -> None:
    """Slices without a measurement do not make a model look frugal."""
    measured = replace(share(MONDAY, answered(2)), millijoules=50_000)
    profile = learnt([measured, share(MONDAY + SLICE_MS, answered(98))])
    assert known(profile, *LLAMA, MONDAY).joules_per_token == 0.5
    silent = replace(share(MONDAY, Tally(routed=1, ok=1)), millijoules=50_000)
    assert known(learnt([silent]), *LLAMA, MONDAY).joules_per_token is None


def test_a_prior_counts_at_its_discount() -> None:
    """Four samples from elsewhere are two of one's own; neither profile changes."""
    own = learnt([share(MONDAY, answered(2))])
    prior = learnt([share(MONDAY, answered(0, 4)), share(MONDAY, answered(8), QWEN, epoch="b")])
    texts = own.to_text(), prior.to_text()
    both = with_prior(own, prior, 0.5)
    read = both.known(*LLAMA, MONDAY)
    assert (read.samples, read.success_rate) == (4.0, 0.5)
    assert both.known(*QWEN, MONDAY).samples == 4.0
    assert both.revisions() == (LLAMA, QWEN)
    assert Informed(own).revisions() == (LLAMA,)
    assert (own.to_text(), prior.to_text()) == texts


def test_what_was_measured_is_taken_from_the_prior_only_where_it_is_missing() -> None:
    """One's own node says more than another's."""
    own = Profile().measure(LLAMA, MONDAY, LATER, memory_bytes=5).profile
    prior = Profile().measure(LLAMA, MONDAY + 1, LATER, memory_bytes=6, load_ms=2000).profile
    read = with_prior(own, prior, 0.1).known(*LLAMA, MONDAY)
    assert (read.memory_bytes, read.load_seconds) == (5, 2.0)


@given(profiles, profiles)
def test_a_prior_without_weight_says_nothing(own: Profile, prior: Profile) -> None:
    """A discount of 0 is no prior, and one of 1 counts like one's own."""
    for name in own.records:
        assert with_prior(own, prior, 0.0).known(*name, LATER) == known(own, *name, LATER)
        full = with_prior(own, prior, 1.0).known(*name, LATER)
        assert full.samples == known(own, *name, LATER).samples + known(prior, *name, LATER).samples


@pytest.mark.parametrize("discount", [-0.5, 1.5, float("nan")])
def test_a_discount_is_a_share(discount: float) -> None:
    """Knowledge from elsewhere never counts more than one's own."""
    with pytest.raises(ValueError, match="a discount is in"):
        with_prior(Profile(), Profile(), discount)


def test_people_see_what_is_known() -> None:
    """The form of a TaskProfile's status, in the order of names; what is unknown is left out."""
    counted = replace(
        share(MONDAY, answered(9, 1)),
        millijoules=90_000,
        feedback=Scores.of([1.0, 0.5]),
        complexity={Complexity.HIGH: Outcomes(10, 9)},
    )
    profile = learnt([counted, share(MONDAY, Tally(routed=1, ok=1), QWEN, epoch="b")])
    profile = profile.measure(LLAMA, MONDAY, LATER, memory_bytes=7_000, load_ms=12_500).profile
    shown = to_knowledge(profile, MONDAY + HALF_LIFE_MS)
    when = datetime.fromtimestamp(MONDAY / 1000, UTC)
    assert [each.model for each in shown.models] == ["llama", "qwen"]
    assert shown.models[0] == api.ModelKnowledge(
        model="llama",
        revision="00000000aa",
        samples=5.0,
        successes=4.5,
        quality=0.75,
        quality_samples=1.0,
        first_token=shown.models[0].first_token,
        per_token=shown.models[0].per_token,
        total=shown.models[0].total,
        input_tokens=450.0,
        output_tokens=225.0,
        memory_bytes=7_000,
        load_seconds=12.5,
        energy_joules=45.0,
        updated_at=when,
    )
    assert shown.models[1] == api.ModelKnowledge(
        model="qwen", revision="00000000bb", samples=0.5, successes=0.5, updated_at=when
    )
    assert shown.by_complexity == api.ByComplexity(high=api.Complexity(samples=5.0, successes=4.5))
    assert to_knowledge(Profile(), MONDAY) == api.Knowledge()


def test_a_revision_that_was_only_checked_has_no_moment_of_a_request() -> None:
    """A candidate that was rejected before any user saw it is known by its checks."""
    profile = Profile().check(QWEN, [0.25], MONDAY, LATER).profile
    (shown,) = to_knowledge(profile, MONDAY).models
    assert (shown.quality, shown.samples, shown.updated_at, shown.energy_joules) == (0.25, 0.0, None, None)
    assert known(profile, *QWEN, MONDAY).age_seconds is None


@given(profiles)
def test_what_people_see_is_always_valid(profile: Profile) -> None:
    """Whatever was learned, the status can be written and read back as a prior."""
    shown = to_knowledge(profile, LATER - 30 * HALF_LIFE_MS)
    assert api.Knowledge.model_validate_json(shown.model_dump_json()) == shown
    told = Told.read(shown, "spec.prior.knowledge")
    assert with_prior(Profile(), told, 1.0).revisions() == tuple(sorted(profile.records))


def test_what_people_wrote_is_a_prior() -> None:
    """One profile's status is another's prior: the same numbers, at the discount, in the same buckets."""
    counted = replace(share(MONDAY, answered(16)), millijoules=80_000, feedback=Scores.of([0.5] * 4))
    source = learnt([counted]).measure(LLAMA, MONDAY, LATER, memory_bytes=3, load_ms=500).profile
    told = Told.read(to_knowledge(source, MONDAY), "spec.prior.knowledge")
    want = known(source, *LLAMA, MONDAY)
    read = with_prior(Profile(), told, 0.25).known(*LLAMA, MONDAY)
    assert (read.samples, read.success_rate, read.quality) == (4.0, 1.0, Quality(0.5, 1.0))
    assert (read.memory_bytes, read.load_seconds, read.joules_per_token) == (3, 0.5, 0.1)
    assert (read.first_token, read.per_token, read.total) == (want.first_token, want.per_token, want.total)
    assert with_prior(Profile(), told, 0.25).known("llama", "ffffffffff", MONDAY) == Known()
    assert with_prior(Profile(), told, 0.25).revisions() == (RevisionName("llama", "00000000aa"),)


def test_a_prior_with_a_broken_histogram_names_the_field() -> None:
    """A person wrote it, so a person can mend it."""
    broken = api.ModelKnowledge(model="llama", revision="00000000aa", samples=1, successes=1, total="fast")
    with pytest.raises(InvalidInputError, match=r"spec\.prior\.knowledge\.models\[0\]\.total: histogram 'fast'"):
        Told.read(api.Knowledge(models=(broken,)), "spec.prior.knowledge")
