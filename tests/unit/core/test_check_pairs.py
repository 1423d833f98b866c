"""Whether the new model is clearly worse at the checks, and the scores' stored form."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.api.reasons import ReasonCode
from arbiter.core.analysis_settings import AnalysisSettings
from arbiter.core.check_pairs import Pairs, can_promote, guard_told, judge_pairs
from arbiter.core.prompt_checks import Checks, Grade, read_checks
from arbiter.core.score_evidence import gate_within_reach
from arbiter.core.swap_seen import Checked
from arbiter.errors import CorruptStateError
from tests.unit.core.check_examples import counting, written

SETTINGS = AnalysisSettings()


def pairs(checks: Checks, old: str, new: str) -> Pairs:
    """Scores in the file's order: `+` passed, `-` failed, `h` half, `.` not answered."""
    worth = {"+": 1.0, "-": 0.0, "h": 0.5}
    sides = [
        {name: worth[each] for name, each in zip(checks.names, side, strict=False) if each != "."}
        for side in (old, new)
    ]
    return Pairs(checks.hash, *sides)


def judged(old: str, new: str, count: int | None = None) -> Checked:
    """What is said about these scores."""
    checks = counting(count or max(len(old), len(new)))
    return judge_pairs(pairs(checks, old, new), checks, SETTINGS, "smollm2", "gemma3")


def test_all_of_the_first_eight_failed_is_clearly_worse() -> None:
    """The sentence names the models, the counts and some prompts."""
    worse = judged("+++-++++", "--------", 12).worse
    assert worse is not None
    assert worse.code is ReasonCode.ChecksFailed
    assert worse.message == "gemma3 failed 8 of the first 8 checks where smollm2 passed 7: c0, c1, c2 …"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("+++++---", "--------", id="the active side is not good at them either"),
        pytest.param("++++++++", "-------+", id="one was passed"),
        pytest.param("+++++++", "-------", id="seven are not eight"),
        pytest.param("++++++++", "-------.", id="one is not answered yet"),
        pytest.param("++++++++", ".-------", id="the first one neither"),
    ],
)
def test_less_than_that_is_not(old: str, new: str) -> None:
    """A model is not rejected on a hunch."""
    assert judged(old, new, 20).worse is None


def test_an_answer_that_is_nearly_right_has_not_passed() -> None:
    """What counts as passed is what the file asks for."""
    assert judged("++++++++", "hhhhhhhh").worse is not None
    assert judged("hhh+++++", "--------").worse is None


def test_a_model_that_is_worse_over_the_file_is_found() -> None:
    """By the bet, at 20 for α = 0.05, with both means."""
    worse = judged("+" * 40, "+--+-" * 8).worse
    assert worse is not None
    assert worse.code is ReasonCode.ChecksFailed
    assert worse.message.startswith("gemma3 scores 0.4 at 40 checks where smollm2 scores 1, evidence ")
    assert worse.message.endswith("/20: c1, c2, c4 …")


def test_what_was_proven_stays_proven() -> None:
    """The bound holds for the highest value: later good answers do not take it back."""
    begin = "+--+-" * 5
    assert judged("+" * 25, begin).worse is not None
    assert judged("+" * 60, begin + "+" * 35).worse is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("+" * 60, "+" * 60, id="both perfect"),
        pytest.param("-" * 60, "-" * 60, id="both at a loss"),
        pytest.param("-+" * 30, "+-" * 30, id="each right where the other is wrong"),
        pytest.param("-" * 60, "+" * 60, id="better"),
        pytest.param("+" * 60, "+" * 57 + "---", id="hardly worse than the margin allows"),
    ],
)
def test_an_equal_model_is_not_rejected(old: str, new: str) -> None:
    """Nor a better one, nor one within the margin."""
    seen = judged(old, new)
    assert seen.worse is None
    assert seen.done


@pytest.mark.parametrize(
    ("quality", "want"),
    [
        pytest.param(0.8, (0.0, 0.05), id="an equal one hardly ever"),
        pytest.param(0.76, (0.0, 0.05), id="nor one at the margin"),
        pytest.param(0.9, (0.0, 0.01), id="a better one never"),
        pytest.param(0.4, (0.8, 1.0), id="one that is half as good nearly always"),
    ],
)
def test_rejections_are_as_rare_as_promised(quality: float, want: tuple[float, float]) -> None:
    """Over 300 files of 60 prompts, where the active side passes 0.8 of all."""
    checks = counting(60)
    luck = np.random.default_rng(20261121)
    rejected = 0
    for _ in range(300):
        old, new = ("".join("+" if passed else "-" for passed in luck.random(60) < rate) for rate in (0.8, quality))
        rejected += judge_pairs(pairs(checks, old, new), checks, SETTINGS, "a", "b").worse is not None
    assert want[0] <= rejected / 300 <= want[1]


def test_the_order_is_the_files_and_ends_at_the_first_gap() -> None:
    """Neither quick answers nor a restart change what is decided."""
    checks = counting(5)
    partly = pairs(checks, "++.++", "+-+++")
    assert [(each.name, each.old, each.new) for each in partly.settled(checks)] == [("c0", 1, 1), ("c1", 1, 0)]
    assert partly.missing_old(checks) == ("c2",)
    assert partly.missing_new(checks) == ()
    assert [status.name for status in partly.statuses(checks)] == ["c0", "c1", "c3", "c4"]


def test_a_prompt_counts_once() -> None:
    """Asked again, the same luck would count twice."""
    checks = counting(2)
    once = Pairs(checks.hash).with_old(Grade("c0", 1.0, "")).with_new(Grade("c0", 0.5, ""))
    assert once.with_old(Grade("c0", 0.0, "")) == once
    assert once.with_new(Grade("c0", 0.0, "")) == once
    assert once.statuses(checks)[0].to_dict() == {"name": "c0", "old": 1.0, "new": 0.5}


def test_scores_of_other_checks_are_not_judged() -> None:
    """A file that was edited is another one."""
    with pytest.raises(ValueError, match="about other checks"):
        Pairs(counting(3).hash).settled(counting(4))


def test_a_weight_makes_a_prompt_count_less() -> None:
    """Half the weight moves the bet half as far, and the means are weighed."""
    heavy, light = {"weight": 1.0}, {"weight": 0.5}
    checks = read_checks(written(heavy, light))
    first, second = pairs(checks, "++", "-+").settled(checks)
    assert first.weighed == (0.0, 1.0)
    assert second.weighed == (0.5, 0.5)
    told = judge_pairs(pairs(checks, "++", "-+"), checks, SETTINGS, "a", "b").told
    assert told == "2 of 2 checks answered by both: a scores 1, b 0.33; quality: guard only, 2 prompts."


def test_progress_is_told() -> None:
    """How many, what came out, and what it can do."""
    assert judged("", "", 12) == Checked(
        done=False,
        told="None of 12 checks is answered by both smollm2 and gemma3 yet; quality: guard only, 12 prompts.",
    )
    assert judged("++", "+-", 12) == Checked(
        done=False,
        told="2 of 12 checks answered by both: smollm2 scores 1, gemma3 0.5; quality: guard only, 12 prompts.",
    )
    assert judged("+", "+", 1).told.endswith("guard only, 1 prompt.")
    assert "guard only" not in judged("+" * 150, "+" * 150).told


def test_how_many_prompts_promote_follows_from_the_bound() -> None:
    """117 at the default margin, as docs/evidence.md says; more with less weight, fewer with a wider margin."""
    assert (can_promote(counting(116), SETTINGS), can_promote(counting(117), SETTINGS)) == (False, True)
    assert (gate_within_reach(116, SETTINGS), gate_within_reach(117, SETTINGS)) == (False, True)
    assert not can_promote(counting(117, weight=0.5), SETTINGS)
    assert can_promote(counting(40), replace(SETTINGS, quality_ratio=0.8))
    assert guard_told(counting(12)) == "quality: guard only, 12 prompts"


NINE = counting(9).hash
SCORES = st.dictionaries(st.sampled_from([f"c{i}" for i in range(9)]), st.floats(0, 1), max_size=9)


@given(SCORES, SCORES)
def test_scores_read_back_as_they_were(old: dict[str, float], new: dict[str, float]) -> None:
    """With every bit, so that a restart changes no decision."""
    before = Pairs(NINE, old, new)
    after = Pairs.from_text(before.to_text())
    assert after == before
    assert after.to_text() == before.to_text()


def test_five_hundred_scores_fit_beside_the_evidence() -> None:
    """With the longest names that there may be."""
    names = [f"{i:03}".ljust(63, "x") for i in range(500)]
    scores = dict.fromkeys(names, 0.1234)
    assert len(Pairs("f" * 64, scores, scores).to_text()) < 65_536


STORED = json.loads(Pairs("h", {"a": 1.0}, {"a": 0.5, "b": 0.0}).to_text())


@pytest.mark.parametrize(
    ("change", "want"),
    [
        ({"version": 2}, "checks.version is 2, and only 1 can be read"),
        ({"checks": 3}, "checks.checks must be text"),
        ({"more": 1}, "checks has unknown fields: more"),
        ({"scores": []}, "checks.scores must be an object"),
        ({"scores": {"a": [1.0]}}, "checks.scores.a must be a list of 2"),
        ({"scores": {"a": [1.0, "x"]}}, "checks.scores.a must be a finite number"),
        ({"scores": {"a": [1.0, True]}}, "checks.scores.a must be a finite number"),
        ({"scores": {"a": [1.0, 1.5]}}, "checks.scores.a must be scores from 0 to 1"),
        ({"scores": {"a": [None, None]}}, "not written as Arbiter writes them"),
        ({"scores": {"b": [1.0, 1.0], "a": [1.0, 1.0]}}, "not written as Arbiter writes them"),
    ],
)
def test_what_was_not_written_so_is_not_read(change: dict[str, object], want: str) -> None:
    """Nothing is repaired and nothing is guessed."""
    text = json.dumps({**STORED, **change}, separators=(",", ":"))
    with pytest.raises(CorruptStateError) as caught:
        Pairs.from_text(text)
    assert want in str(caught.value)


@given(st.text(max_size=60) | st.recursive(st.none() | st.integers(), st.lists, max_leaves=5).map(json.dumps))
def test_any_text_is_refused(text: str) -> None:
    """Whatever somebody wrote into the object."""
    with pytest.raises(CorruptStateError):
        Pairs.from_text(text)
