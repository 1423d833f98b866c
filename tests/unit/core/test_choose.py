"""Which model is chosen, what each score is made of, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.api.amounts import Duration
from arbiter.api.modelpool import Needs, Preference, ScoreWeights
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.choose import (
    HALF_LIFE_S,
    PREFERRED,
    TYPICAL_FIRST_TOKEN_S,
    TYPICAL_MEMORY,
    TYPICAL_PER_TOKEN_S,
    UNPROVEN,
    Contest,
    Entrant,
    Known,
    Selection,
    choose,
    score,
    weights_of,
)

CHAT = Contest("chat")
GIB = 1024**3
WELL = Known(
    samples=90,
    success_rate=1.0,
    quality=0.9,
    judgements=40,
    first_token_s=TYPICAL_FIRST_TOKEN_S,
    per_token_s=TYPICAL_PER_TOKEN_S,
    memory=TYPICAL_MEMORY,
    age_s=0.0,
)
"""A model that is known well."""

GOOD, FAST, NEW = (
    Entrant("good", "0a0a0a0a0a", WELL),
    Entrant("fast", "0b0b0b0b0b", replace(WELL, quality=0.7, first_token_s=0.1, per_token_s=0.005)),
    Entrant("new", "0c0c0c0c0c"),
)


def known(**facts: Any) -> Entrant:  # noqa: ANN401  facts of a model
    """Give a model that is known well, but for these facts."""
    return Entrant("some", "0d0d0d0d0d", replace(WELL, **facts))


def names(found: Selection) -> list[str]:
    """Give the ranking."""
    return [each.entrant.model for each in found.ranking]


def needs(**fields: Any) -> Contest:  # noqa: ANN401  fields of the needs
    """Give the contest with these needs."""
    return replace(CHAT, needs=Needs(**fields))


def test_a_score_is_the_weighted_mean_of_its_parts() -> None:
    """By default 0.4 quality, 0.3 latency, and 0.1 of each of the others."""
    found = score(CHAT, GOOD)
    assert (found.parts.quality, found.parts.latency, found.parts.memory) == (0.9, 0.5, 0.5)
    assert (found.parts.reliability, found.parts.recency) == (1.0, 1.0)
    assert found.total == pytest.approx(0.4 * 0.9 + 0.3 * 0.5 + 0.1 * 0.5 + 0.1 + 0.1)
    assert not found.unproven


@pytest.mark.parametrize(
    ("contest", "entrant", "part", "want"),
    [
        pytest.param(needs(first_token_p95=Duration.parse("2s")), known(per_token_s=None), "latency", 0.5, id="limit"),
        pytest.param(CHAT, known(per_token_s=None), "latency", 0.5, id="only the first token is known"),
        pytest.param(CHAT, known(first_token_s=None), "latency", 0.5, id="only further tokens are known"),
        pytest.param(CHAT, known(first_token_s=None, per_token_s=None), "latency", UNPROVEN, id="no stream yet"),
        pytest.param(CHAT, known(first_token_s=0.0, per_token_s=0.0), "latency", 1.0, id="no time at all"),
        pytest.param(replace(CHAT, memory_limit=32 * GIB), GOOD, "memory", 0.75, id="a quarter of the bound"),
        pytest.param(replace(CHAT, memory_limit=4 * GIB), GOOD, "memory", 0.0, id="beyond the bound"),
        pytest.param(CHAT, known(memory=None), "memory", UNPROVEN, id="memory is not known"),
        pytest.param(CHAT, known(age_s=HALF_LIFE_S), "recency", 0.5, id="a half-life old"),
        pytest.param(CHAT, known(age_s=-5.0), "recency", 1.0, id="from a clock that goes ahead"),
        pytest.param(CHAT, known(judgements=9), "quality", UNPROVEN, id="too few judgements"),
        pytest.param(CHAT, known(success_rate=0.25), "reliability", 0.25, id="a quarter succeeds"),
    ],
)
def test_each_part_says_what_it_says(contest: Contest, entrant: Entrant, part: str, want: float) -> None:
    """From 0 to 1, against the task's limit or what is typical; half where nothing is known."""
    assert getattr(score(contest, entrant).parts, part) == pytest.approx(want)


@pytest.mark.parametrize("samples", [0, 1, 9.9])
def test_who_is_known_too_little_scores_the_middle(samples: float) -> None:
    """However well its few requests went."""
    found = score(CHAT, known(samples=samples, first_token_s=0.0, per_token_s=0.0))
    assert (found.total, found.unproven) == (UNPROVEN, True)


def test_an_unknown_quality_is_said() -> None:
    """The model passes, marked."""
    found = score(needs(min_quality=0.8), known(quality=None, judgements=0))
    assert found.unproven
    assert found.total == pytest.approx(0.4 * 0.5 + 0.3 * 0.5 + 0.05 + 0.2)
    assert "(unproven)" in choose(CHAT, [found.entrant]).reason.message


def test_confidence_grows_with_what_is_known() -> None:
    """Half of it at the least number of samples, none without any."""
    assert score(CHAT, NEW).confidence == 0.0
    at_least = score(CHAT, known(samples=10, judgements=10))
    assert at_least.confidence == pytest.approx(0.9 * 0.5 + 0.1)
    assert score(CHAT, GOOD).confidence > at_least.confidence


def test_weights_decide_who_wins() -> None:
    """Quality wins where it counts, speed where that does."""
    assert names(choose(replace(CHAT, weights=PREFERRED[Preference.Quality]), [GOOD, FAST])) == ["good", "fast"]
    assert names(choose(replace(CHAT, weights=PREFERRED[Preference.Speed]), [GOOD, FAST])) == ["fast", "good"]


def test_explicit_weights_count_before_preference_before_what_was_learned() -> None:
    """Else the default ones."""
    given, learned = ScoreWeights(quality=1, latency=0), ScoreWeights(memory=9)
    assert weights_of(given, Preference.Speed, learned) is given
    assert weights_of(None, Preference.Speed, learned) is PREFERRED[Preference.Speed]
    assert weights_of(None, None, learned) is learned
    assert weights_of(None, None, None) == ScoreWeights()


@pytest.mark.parametrize(
    ("contest", "entrant", "code", "told"),
    [
        pytest.param(
            needs(min_quality=0.95), GOOD, ReasonCode.QualityBelowNeed,
            "good has a quality of 0.9 at chat, which needs 0.95", id="quality",
        ),
        pytest.param(
            needs(first_token_p95=Duration.parse("500ms")), GOOD, ReasonCode.SlowerThanNeed,
            "good takes 1 s until the first token at chat in 95 % of requests, which allows 500ms", id="first token",
        ),
        pytest.param(
            needs(per_token_p95=Duration.parse("20ms")), GOOD, ReasonCode.SlowerThanNeed,
            "good takes 0.05 s for each further token at chat in 95 % of requests, which allows 20ms", id="per token",
        ),
        pytest.param(
            CHAT, replace(GOOD, refusal=Reason(ReasonCode.ModelDeprecated, "good is deprecated")),
            ReasonCode.ModelDeprecated, "good is deprecated", id="refused before",
        ),
    ],
)  # fmt: skip
def test_who_cannot_do_is_left_out_with_the_reason(
    contest: Contest, entrant: Entrant, code: ReasonCode, told: str
) -> None:
    """In words that name the figure and what would be right."""
    found = choose(contest, [entrant, NEW])
    assert names(found) == ["new"]
    assert [(each.entrant.model, each.reason) for each in found.left_out] == [("good", Reason(code, told))]
    assert found.reason.message.endswith("; left out: good")


@pytest.mark.parametrize(
    "contest", [needs(min_quality=0.95), needs(first_token_p95=Duration.parse("500ms"))], ids=["quality", "latency"]
)
def test_nobody_is_left_out_for_a_few_requests(contest: Contest) -> None:
    """Luck is not a measurement."""
    assert names(choose(contest, [known(samples=9, judgements=9)])) == ["some"]


def test_of_equals_the_active_one_is_first() -> None:
    """Then who is known best, then the names: so the order never hangs on the order that they came in."""
    equals = [replace(GOOD, model=name) for name in ("a", "b", "c")]
    equals[2] = replace(equals[2], active=True)
    orders = {tuple(names(choose(CHAT, each))) for each in permutations(equals)}
    assert orders == {("c", "a", "b")}


def test_the_reason_explains_the_choice() -> None:
    """With all parts, who comes next, and how many others there are."""
    found = choose(CHAT, [FAST, GOOD])
    assert found.best is not None
    assert found.best.entrant is FAST
    assert found.reason == Reason(
        ReasonCode.Ranked,
        "fast scores 0.80 at chat: quality 0.70, latency 0.91, memory 0.50, reliability 1.00, recency 1.00; then good "
        "with 0.76",
    )


def test_it_says_when_nothing_is_known_and_when_there_is_nobody() -> None:
    """And never names a figure that nobody has measured."""
    assert choose(CHAT, [NEW]).reason.message == "new is known too little at chat to be scored"
    empty = choose(CHAT, [])
    assert empty.best is None
    assert empty.reason == Reason(
        ReasonCode.NoModelFits, "no model comes into question for chat: the pool names no model for it"
    )


FRACTIONS = st.floats(0, 1)
SECONDS = st.none() | st.floats(0, 1e4)
ENTRANTS = st.builds(
    Entrant,
    model=st.sampled_from(["a", "b", "c"]),
    revision=st.sampled_from(["0000000000", "1111111111"]),
    active=st.booleans(),
    known=st.builds(
        Known,
        samples=st.floats(0, 1e6),
        success_rate=FRACTIONS,
        quality=st.none() | FRACTIONS,
        judgements=st.floats(0, 1e6),
        first_token_s=SECONDS,
        per_token_s=SECONDS,
        memory=st.none() | st.integers(0, 1 << 40),
        age_s=st.none() | st.floats(0, 1e8),
    ),
)
WEIGHTS = st.builds(ScoreWeights, quality=st.floats(0.1, 10), latency=st.floats(0, 10), memory=st.floats(0, 10))


@given(st.lists(ENTRANTS, max_size=6, unique_by=lambda each: (each.model, each.revision)), WEIGHTS, st.randoms())
def test_the_same_facts_give_the_same_order(entrants: list[Entrant], weights: ScoreWeights, chance: Any) -> None:  # noqa: ANN401  a source of chance
    """Every score is from 0 to 1, the ranking falls, and shuffling changes nothing."""
    contest = replace(CHAT, weights=weights)
    found = choose(contest, entrants)
    assert all(0.0 <= each.total <= 1.0 and 0.0 <= each.confidence <= 1.0 for each in found.ranking)
    totals = [round(each.total, 9) for each in found.ranking]
    assert totals == sorted(totals, reverse=True)
    shuffled = list(entrants)
    chance.shuffle(shuffled)
    assert choose(contest, shuffled) == found


@given(ENTRANTS, WEIGHTS, st.floats(0, 0.5))
def test_a_better_part_never_lowers_a_score(entrant: Entrant, weights: ScoreWeights, more: float) -> None:
    """Of those that are known well."""
    contest = replace(CHAT, weights=weights)
    base = replace(entrant.known, samples=50.0, judgements=50.0, quality=0.5, success_rate=0.5)
    better = replace(base, quality=0.5 + more)
    low, high = (score(contest, replace(entrant, known=each)).total for each in (base, better))
    assert high >= low - 1e-12
