"""What is learned about a task: folding slices, refusing what cannot be right, storing."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from math import exp
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.core.fading import HALF_LIFE_MS
from arbiter.core.feed import Feed
from arbiter.core.folding import AHEAD_MS, CHAIN, DEADLINE_MS, Refusal
from arbiter.core.known import known
from arbiter.core.profile import MOST_REVISIONS, Profile
from arbiter.core.profile_cursors import LOOK_BACK_MS, Place
from arbiter.core.revision_record import Last, Record, RevisionName
from arbiter.core.tally_recorder import TallyRecorder
from arbiter.core.task_counts import ByComplexity, Complexity, Counts, Energy, Outcomes, Scores
from arbiter.core.traffic import Cause, Side, Slice, Stratum, Tally
from arbiter.errors import CorruptStateError
from tests.unit.core.profile_examples import LATER, LLAMA, MONDAY, QWEN, SLICE_MS, answered, learnt, share

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD = MONDAY // HALF_LIFE_MS


def test_a_slice_adds_its_counts_to_its_period() -> None:
    """All strata go together, and everything else is added as it stands."""
    counted = replace(
        share(MONDAY, answered(3, 1)),
        millijoules=900,
        feedback=Scores.of([1.0, 0.5]),
        complexity={Complexity.LOW: Outcomes(4, 3)},
    )
    profile = learnt([counted])
    want = Counts(
        samples=4,
        successes=3,
        input_tokens=300,
        output_tokens=150,
        feedback=Scores(2, 1_500_000),
        energy=Energy(900, 150),
        first_token={-8: 3},
        per_token={-22: 3},
        total={4: 3},
    )
    assert profile == Profile(
        newest=PERIOD,
        records={LLAMA: Record({PERIOD: want}, sampled_ms=MONDAY)},
        complexity={PERIOD: ByComplexity(low=Outcomes(4, 3))},
        cursors={"a": Place(MONDAY, frozenset({"1/old"}))},
    )
    assert want.failures == 1


def test_rejections_and_clients_that_left_are_no_samples() -> None:
    """They say nothing about the model, as for a swap."""
    profile = learnt([share(MONDAY, Tally(routed=7, ok=2, rejected=3, left=2))])
    counts = profile.records[LLAMA].counts[PERIOD]
    assert (counts.samples, counts.successes, counts.failures) == (2, 2, 0)


def test_an_empty_slice_only_moves_its_cursor() -> None:
    """Silence teaches nothing, and is not counted again either."""
    profile = learnt([share(MONDAY, Tally())])
    assert profile == Profile(cursors={"a": Place(MONDAY, frozenset({"1/old"}))})


def test_a_score_counts_in_a_slice_without_requests() -> None:
    """People judge an answer after they have read it."""
    profile = learnt([replace(share(MONDAY, Tally()), feedback=Scores.of([0.25]))])
    assert profile.records[LLAMA].counts == {PERIOD: Counts(feedback=Scores(1, 250_000))}


def test_unmeasured_energy_stays_unknown() -> None:
    """Tokens of slices without a measurement do not thin it out."""
    measured = replace(share(MONDAY, answered(2)), millijoules=50_000)
    profile = learnt([measured, share(MONDAY + SLICE_MS, answered(8))])
    assert profile.records[LLAMA].counts[PERIOD].energy == Energy(50_000, 100)
    assert learnt([share(MONDAY, answered(8))]).records[LLAMA].counts[PERIOD].energy == Energy()


def test_the_same_slice_counts_once() -> None:
    """It is scraped again and again; both sides and both tables of a start are slices of their own."""
    old, new = share(MONDAY, answered(3)), share(MONDAY, answered(1), QWEN, side=Side.NEW)
    again = replace(old, generation=2)
    profile = learnt([old, new, old, again, new, again])
    assert profile.records[LLAMA].counts[PERIOD].samples == 6
    assert profile.records[QWEN].counts[PERIOD].samples == 1
    assert profile.cursors == {"a": Place(MONDAY, frozenset({"1/old", "1/new", "2/old"}))}


def test_another_life_of_a_router_is_another_source() -> None:
    """Counts begin anew after a restart, so the same start is not the same slice."""
    profile = learnt([share(MONDAY, answered(3)), share(MONDAY, answered(2), epoch="b")])
    assert profile.records[LLAMA].counts[PERIOD].samples == 5


OPEN = Tally(routed=3, ok=1)


@pytest.mark.parametrize(
    ("tally", "read_ms", "now_ms", "want"),
    [
        pytest.param(answered(3), SLICE_MS - 1, SLICE_MS, Refusal.OPEN, id="the slice is not over"),
        pytest.param(answered(3), SLICE_MS, SLICE_MS, None, id="it is over by the router's clock"),
        pytest.param(answered(3), SLICE_MS - 1, LATER, Refusal.OPEN, id="it was last read before its end"),
        pytest.param(OPEN, 2 * SLICE_MS, 2 * SLICE_MS, Refusal.OPEN, id="requests still run"),
        pytest.param(OPEN, 2 * SLICE_MS, SLICE_MS + DEADLINE_MS - 1, Refusal.OPEN, id="the deadline is not over"),
        pytest.param(OPEN, 2 * SLICE_MS, SLICE_MS + DEADLINE_MS, None, id="the deadline is over"),
    ],
)
def test_a_slice_is_counted_when_it_is_closed(tally: Tally, read_ms: int, now_ms: int, want: Refusal | None) -> None:
    """The rule of blocks: failures end early and long answers late, and open requests fail at the deadline."""
    counted = replace(share(MONDAY, tally), read_ms=MONDAY + read_ms)
    seen = Profile().observe(counted, MONDAY + now_ms)
    assert [refused.code for refused in seen.refused] == ([want] if want else [])
    assert (seen.profile == Profile()) == (want is not None)
    if want is None:
        assert seen.profile.records[LLAMA].counts[PERIOD].samples == tally.routed


BEFORE = learnt([share(MONDAY + LOOK_BACK_MS, answered(1))])


@pytest.mark.parametrize(
    ("change", "want", "want_message"),
    [
        pytest.param({"start_ms": MONDAY + LOOK_BACK_MS}, Refusal.COUNTED, "is counted already", id="the same again"),
        pytest.param({"start_ms": MONDAY}, Refusal.COUNTED, "is counted already", id="a clock that went back"),
        pytest.param({"start_ms": LATER + AHEAD_MS + 1}, Refusal.AHEAD, "later than now", id="a clock that runs ahead"),
        pytest.param(
            {"epoch": "b", "start_ms": MONDAY - 1}, Refusal.TOO_OLD, "may be counted", id="a router far behind"
        ),
        pytest.param(
            {"epoch": "b", "tally": Tally(routed=1, ok=2)},
            Refusal.IMPOSSIBLE,
            "more endings",
            id="more ended than began",
        ),
        pytest.param(
            {"epoch": "b", "tally": Tally(routed=1, ok=2, left=-1)},
            Refusal.IMPOSSIBLE,
            "less than nothing",
            id="negative",
        ),
        pytest.param(
            {"epoch": "b", "tally": Tally(output_tokens=-5)}, Refusal.IMPOSSIBLE, "nothing", id="negative tokens"
        ),
        pytest.param({"epoch": "b", "millijoules": -5}, Refusal.IMPOSSIBLE, "nothing", id="negative energy"),
        pytest.param(
            {"epoch": "b", "feedback": Scores(1, 1_000_001)}, Refusal.IMPOSSIBLE, "scores", id="a score above 1"
        ),
        pytest.param({"epoch": "b", "feedback": Scores(1, -1)}, Refusal.IMPOSSIBLE, "scores", id="a score below 0"),
        pytest.param(
            {"epoch": "b", "complexity": {Complexity.HIGH: Outcomes(1, 2)}},
            Refusal.IMPOSSIBLE,
            "of a complexity",
            id="more successes than requests",
        ),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_reason(
    change: dict[str, Any], want: Refusal, want_message: str
) -> None:
    """Nothing is averaged in, and the profile stays as it was."""
    offered = replace(share(MONDAY + LOOK_BACK_MS, answered(5)), **change)
    seen = BEFORE.observe(offered, LATER)
    assert seen.profile is BEFORE
    (refused,) = seen.refused
    assert refused.code is want
    assert want_message in refused.message


def test_a_refusal_names_the_slice() -> None:
    """A person finds the router and the moment."""
    (refused,) = BEFORE.observe(replace(share(MONDAY, answered(1)), start_ms=MONDAY), LATER).refused
    assert refused.message == f"slice {MONDAY} (1/old) of router a is counted already"


def test_the_first_reason_of_the_chain_is_told() -> None:
    """What will never be counted comes before what may still be."""
    assert [code for code, _ in CHAIN] == [
        Refusal.COUNTED,
        Refusal.AHEAD,
        Refusal.TOO_OLD,
        Refusal.IMPOSSIBLE,
        Refusal.OPEN,
    ]


def test_a_clock_at_the_limit_is_believed() -> None:
    """Nodes differ a little."""
    assert not BEFORE.observe(share(LATER + AHEAD_MS, answered(1)), LATER + DEADLINE_MS * 2).refused
    assert not BEFORE.observe(share(LATER + AHEAD_MS, answered(1), epoch="c"), LATER).refused
    assert not BEFORE.observe(share(MONDAY, answered(1), epoch="b"), LATER).refused


def test_a_life_far_behind_is_forgotten_and_its_slices_stay_refused() -> None:
    """Cursors stay few, and forgetting one never lets a slice count twice."""
    first = share(MONDAY, answered(3))
    profile = learnt([first, share(MONDAY + LOOK_BACK_MS + SLICE_MS, answered(1), epoch="b")])
    assert set(profile.cursors) == {"b"}
    assert [refused.code for refused in profile.observe(first, LATER).refused] == [Refusal.TOO_OLD]


def test_a_life_at_the_limit_is_remembered() -> None:
    """What may still be folded is still known: else the slice at the limit would count twice."""
    first = share(MONDAY, answered(3))
    profile = learnt([first, share(MONDAY + LOOK_BACK_MS, answered(1), epoch="b")])
    assert set(profile.cursors) == {"a", "b"}
    assert [refused.code for refused in profile.observe(first, LATER).refused] == [Refusal.COUNTED]


def one_slice(number: int, task: str = "chat", generation: int = 1, **sides: Tally) -> Slice:
    """The slice of that number of router a."""
    named = {Side(name): tally for name, tally in sides.items()}
    return Slice("a", generation, task, MONDAY + number * SLICE_MS, SLICE_MS, named)


def feed(*slices: Slice, read: int = 40) -> Feed:
    """What router a told after so many slices."""
    return Feed("a", MONDAY + read * SLICE_MS, slices)


SIDES = {(1, Side.OLD): LLAMA, (1, Side.NEW): QWEN, (2, Side.OLD): QWEN}
SOON = MONDAY + 4 * SLICE_MS


def test_following_a_feed_stops_at_the_first_open_slice() -> None:
    """A later slice would pass over the open one, and its requests would be lost."""
    slices = [one_slice(0, old=answered(1)), one_slice(1, old=answered(2), new=OPEN), one_slice(2, old=answered(4))]
    first = Profile().follow(feed(*slices), "chat", SIDES, SOON).profile
    assert first.records[LLAMA].counts[PERIOD].samples == 1
    assert QWEN not in first.records
    slices[1] = one_slice(1, old=answered(2), new=answered(3))
    second = first.follow(feed(*reversed(slices)), "chat", SIDES, SOON).profile
    assert second.records[LLAMA].counts[PERIOD].samples == 7
    assert second.records[QWEN].counts[PERIOD].samples == 3
    assert second.follow(feed(*slices), "chat", SIDES, SOON).profile == second


def test_following_a_feed_tells_revisions_apart_by_table() -> None:
    """When a table changes within a slice time there are two slices of the same start, about other revisions."""
    slices = [
        one_slice(0, old=answered(1)),
        one_slice(0, generation=2, old=answered(2)),
        one_slice(1, "code", old=OPEN),
    ]
    profile = Profile().follow(feed(*slices, one_slice(1, generation=3, old=answered(9))), "chat", SIDES, SOON).profile
    assert profile.records[LLAMA].counts[PERIOD].samples == 1
    assert profile.records[QWEN].counts[PERIOD].samples == 2


def test_following_a_feed_tells_what_was_refused() -> None:
    """Counted and open slices are every day's business; the rest is told."""
    slices = [one_slice(0, old=Tally(routed=1, ok=2)), one_slice(1, old=answered(2)), one_slice(900, old=answered(2))]
    seen = Profile().follow(feed(*slices), "chat", SIDES, SOON)
    assert [refused.code for refused in seen.refused] == [Refusal.IMPOSSIBLE, Refusal.AHEAD]
    assert seen.profile.records[LLAMA].counts[PERIOD].samples == 2
    assert seen.profile.follow(feed(slices[1]), "chat", SIDES, SOON).refused == ()


def test_the_next_operator_counts_no_slice_twice() -> None:
    """It reads what the leader stored, and then the same feed."""
    told = feed(one_slice(0, old=answered(1)), one_slice(1, old=answered(2)))
    leader = Profile().follow(told, "chat", SIDES, SOON).profile
    later = feed(*told.slices, one_slice(2, old=answered(4)))
    after = Profile.from_text(leader.to_text(), SOON).follow(later, "chat", SIDES, SOON).profile
    assert after == leader.follow(later, "chat", SIDES, SOON).profile
    assert after.records[LLAMA].counts[PERIOD].samples == 7


def test_a_run_of_checks_counts_once() -> None:
    """A job's result is read again after a restart; the next run counts again."""
    profile = Profile()
    for at_ms in (MONDAY, MONDAY, MONDAY + 1):
        profile = profile.check(LLAMA, [1.0, 0.25], at_ms, LATER).profile
    assert profile.records[LLAMA].counts[PERIOD].checks == Scores(4, 2_500_000)
    (refused,) = profile.check(LLAMA, [1.0], MONDAY + 1, LATER).refused
    assert refused.code is Refusal.COUNTED
    assert not profile.check(QWEN, [1.0], MONDAY, LATER).refused


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_is_a_share(score: float) -> None:
    """Whoever gives percent is told."""
    with pytest.raises(ValueError, match="a score is in"):
        Profile().check(LLAMA, [score], MONDAY, LATER)


def test_the_last_measurement_counts() -> None:
    """Whatever order they come in; at the same moment the greater one."""
    profile = Profile()
    for at_ms, bytes_, load_ms in (
        (MONDAY + 5, 7, None),
        (MONDAY, 9, 800),
        (MONDAY + 5, 8, None),
        (MONDAY + 5, 6, None),
    ):
        profile = profile.measure(LLAMA, at_ms, LATER, memory_bytes=bytes_, load_ms=load_ms).profile
    assert profile.records[LLAMA] == Record(memory=Last(MONDAY + 5, 8), load=Last(MONDAY, 800))
    assert profile.measure(LLAMA, MONDAY, LATER).profile is profile
    with pytest.raises(ValueError, match="below zero"):
        profile.measure(LLAMA, MONDAY, LATER, memory_bytes=-1)


@pytest.mark.parametrize(
    ("at_ms", "want"),
    [
        pytest.param(LATER + AHEAD_MS + 1, Refusal.AHEAD, id="of a time to come"),
        pytest.param(0, Refusal.TOO_OLD, id="without a time"),
        pytest.param(MONDAY - 9 * HALF_LIFE_MS, Refusal.TOO_OLD, id="of a period that is forgotten"),
    ],
)
def test_checks_and_measurements_of_another_time_are_refused(at_ms: int, want: Refusal) -> None:
    """A job's or node's clock may be wrong too."""
    for seen in (BEFORE.check(QWEN, [1.0], at_ms, LATER), BEFORE.measure(QWEN, at_ms, LATER, load_ms=1)):
        assert seen.profile is BEFORE
        assert [refused.code for refused in seen.refused] == [want]


def test_what_is_eight_periods_old_is_kept_and_nine_is_forgotten() -> None:
    """Revisions of which nothing is left are gone altogether."""
    old, newer = share(MONDAY, answered(1)), share(MONDAY + HALF_LIFE_MS, answered(1), QWEN)
    after_eight = learnt([old, newer, share(MONDAY + 8 * HALF_LIFE_MS, answered(1), QWEN)])
    assert LLAMA in after_eight.records
    after_nine = learnt([old, newer, share(MONDAY + 9 * HALF_LIFE_MS, answered(1), QWEN)])
    assert set(after_nine.records) == {QWEN}
    assert sorted(after_nine.records[QWEN].counts) == [PERIOD + 1, PERIOD + 9]


def test_profiles_of_other_half_lives_do_not_merge() -> None:
    """Their periods are not the same times."""
    with pytest.raises(ValueError, match="do not add up"):
        Profile().merge(Profile(half_life_ms=1000))


def test_a_shorter_half_life_has_shorter_periods() -> None:
    """It is an argument, and is stored."""
    profile = Profile(half_life_ms=60_000).observe(share(MONDAY, answered(1)), LATER).profile
    assert profile.newest == MONDAY // 60_000
    assert Profile.from_text(profile.to_text(), LATER) == profile


def many(n: int) -> Profile:
    """So many revisions, one slice after the other, the last one twice."""
    names = [RevisionName(f"model-{i % 7}", f"{i:010x}") for i in range(n)]
    return learnt(share(MONDAY + i * SLICE_MS, answered(1), name) for i, name in enumerate([*names, names[0]]))


def test_the_least_recently_used_revisions_go_first() -> None:
    """The first was used again, so the next two go; merging itself drops none."""
    profile = many(MOST_REVISIONS + 2)
    assert len(profile.records) == MOST_REVISIONS + 2
    gone = set(profile.records) - set(profile.bounded().records)
    assert gone == {RevisionName("model-1", f"{1:010x}"), RevisionName("model-2", f"{2:010x}")}
    assert Profile.from_text(profile.to_text(), LATER) == profile.bounded()


def test_of_equally_recent_revisions_the_last_by_name_stay() -> None:
    """Two operators drop the same ones."""
    names = [RevisionName("llama", f"{i:010x}") for i in range(MOST_REVISIONS + 1)]
    for order in (names, names[::-1]):
        profile = learnt(share(MONDAY, answered(1), name, epoch=name.revision) for name in order)
        assert set(profile.records) - set(profile.bounded().records) == {names[0]}


def test_a_followed_profile_is_bounded() -> None:
    """So what is in memory is what is stored."""
    followed = many(MOST_REVISIONS + 2).follow(feed(one_slice(0)), "chat", {}, LATER).profile
    assert len(followed.records) == MOST_REVISIONS


def test_the_text_is_one_line_that_names_its_parts() -> None:
    """Stored state can be read by a person."""
    profile = learnt([replace(share(MONDAY, answered(3, 1)), complexity={Complexity.MEDIUM: Outcomes(4, 3)})])
    profile = profile.measure(LLAMA, MONDAY, LATER, memory_bytes=900).profile
    profile = profile.check(LLAMA, [1.0], MONDAY + HALF_LIFE_MS, LATER).profile
    assert json.loads(profile.to_text()) == {
        "version": 1,
        "halfLifeMs": HALF_LIFE_MS,
        "newest": PERIOD + 1,
        "revisions": [
            {
                "of": ["llama", "00000000aa"],
                "moments": [MONDAY, MONDAY + HALF_LIFE_MS],
                "memory": [MONDAY, 900],
                "periods": [
                    {"age": 0, "n": [0, 0, 0, 0], "times": ["", "", ""], "checks": [1, 1_000_000]},
                    {"age": 1, "n": [4, 3, 300, 150], "times": ["-8:3", "-22:3", "4:3"]},
                ],
            }
        ],
        "complexity": [{"age": 1, "counts": [0, 0, 4, 3, 0, 0]}],
        "cursors": {"a": [MONDAY, "1/old"]},
    }
    assert Profile.from_text(Profile().to_text(), LATER) == Profile()


def _sound() -> Profile:
    """A profile with something in every field."""
    first = replace(
        share(MONDAY, answered(3, 1)),
        millijoules=5,
        feedback=Scores.of([0.5]),
        complexity={Complexity.LOW: Outcomes(4, 3)},
    )
    profile = learnt(
        [first, share(MONDAY + HALF_LIFE_MS, answered(1)), share(MONDAY + HALF_LIFE_MS, answered(1), QWEN, epoch="b")]
    )
    profile = profile.check(LLAMA, [0.5], MONDAY + HALF_LIFE_MS, LATER).profile
    return profile.measure(LLAMA, MONDAY, LATER, memory_bytes=1, load_ms=1).profile


def _revision(fields: dict[str, Any], **values: object) -> None:
    fields["revisions"][0].update(values)


def _period(fields: dict[str, Any], **values: object) -> None:
    fields["revisions"][0]["periods"][1].update(values)


@pytest.mark.parametrize(
    ("spoil", "want"),
    [
        pytest.param(lambda f: f.update(version=2), r"profile\.version is 2", id="an unknown version"),
        pytest.param(lambda f: f.update(extra=1), "unknown fields: extra", id="an unknown field"),
        pytest.param(lambda f: f.pop("cursors"), r"profile\.cursors is missing", id="a missing field"),
        pytest.param(lambda f: f.update(halfLifeMs=0), r"profile\.halfLifeMs", id="no half-life"),
        pytest.param(lambda f: f.update(newest=PERIOD + 41), r"profile\.newest .* not come yet", id="a future period"),
        pytest.param(lambda f: f.update(newest=PERIOD + 2), "moments are not of its newest", id="a period off"),
        pytest.param(
            lambda f: f.update(newest=1, revisions=[], complexity=[]), "newest is not", id="a period of nothing"
        ),
        pytest.param(
            lambda f: _revision(f, moments=[0, MONDAY]), "moments are not of", id="a moment of another period"
        ),
        pytest.param(lambda f: f.update(newest=PERIOD), r"revisions\[0\] has a moment after", id="moments after all"),
        pytest.param(lambda f: f["revisions"].reverse(), "not written as Arbiter", id="revisions out of order"),
        pytest.param(lambda f: f["revisions"].append(f["revisions"][1]), "not written as Arbiter", id="one twice"),
        pytest.param(lambda f: f["revisions"].extend([f["revisions"][1]] * 63), "at most 64", id="too many revisions"),
        pytest.param(lambda f: _revision(f, of=["llama"]), r"revisions\[0\]\.of", id="a name without a revision"),
        pytest.param(lambda f: _revision(f, moments=[-1, 0]), r"revisions\[0\]\.moments", id="a negative moment"),
        pytest.param(lambda f: _revision(f, moments=[1, 1]), "should have been forgotten", id="a moment long ago"),
        pytest.param(
            lambda f: _revision(f, memory=[0, 0]), r"revisions\[0\]\.memory stands for nothing", id="no memory"
        ),
        pytest.param(lambda f: _revision(f, load=[1]), r"revisions\[0\]\.load", id="half a measurement"),
        pytest.param(lambda f: _revision(f, periods=[{}]), r"periods\[0\]\.age is missing", id="an empty period"),
        pytest.param(
            lambda f: f["revisions"][0]["periods"].reverse(), r"periods\[1\]\.age is not in order", id="unsorted"
        ),
        pytest.param(lambda f: _period(f, age=0), r"periods\[1\]\.age is not in order", id="a period twice"),
        pytest.param(lambda f: _period(f, age=9), r"periods\[1\]\.age must be at most 8", id="a period too old"),
        pytest.param(lambda f: _period(f, age=-1), r"periods\[1\]\.age", id="a period after the newest"),
        pytest.param(
            lambda f: _period(f, n=[4, 5, 0, 50]), r"periods\[1\]\.n: more succeeded", id="too many successes"
        ),
        pytest.param(lambda f: _period(f, n=[4, -1, 0, 50]), r"periods\[1\]\.n", id="a negative count"),
        pytest.param(lambda f: _period(f, n=[4, True, 0, 50]), r"periods\[1\]\.n", id="a truth for a count"),
        pytest.param(lambda f: _period(f, checks=[0, 0]), r"checks stands for nothing", id="no checks, written out"),
        pytest.param(lambda f: _period(f, checks=[1, 1_000_001]), r"periods\[1\]\.checks: scores above 1", id="checks"),
        pytest.param(lambda f: _period(f, feedback=[0, 1]), r"periods\[1\]\.feedback: scores above 1", id="feedback"),
        pytest.param(lambda f: _period(f, feedback=[1, -1]), r"periods\[1\]\.feedback", id="a score below 0"),
        pytest.param(lambda f: _period(f, energy=[5, 151]), r"periods\[1\]\.energy: measured for more", id="energy"),
        pytest.param(lambda f: _period(f, times=["", ""]), r"periods\[1\]\.times", id="a time is missing"),
        pytest.param(
            lambda f: _period(f, times=["", "", "0:0"]), r"periods\[1\]\.times is not of the form", id="times"
        ),
        pytest.param(lambda f: _period(f, x=1), r"periods\[1\] has unknown fields: x", id="an unknown count"),
        pytest.param(
            lambda f: f["complexity"][0].update(counts=[1, 2, 0, 0, 0, 0]),
            r"complexity\[0\]\.counts: more succeeded",
            id="too many successes of a complexity",
        ),
        pytest.param(
            lambda f: f["complexity"].append(f["complexity"][0]), r"complexity\[1\]\.age", id="complexity twice"
        ),
        pytest.param(lambda f: f["cursors"].update(a=[]), r"cursors\.a", id="a cursor without a start"),
        pytest.param(
            lambda f: f["cursors"].update(a=[MONDAY + HALF_LIFE_MS]), r"cursors\.a has no parts", id="no parts"
        ),
        pytest.param(lambda f: f["cursors"].update(a=[MONDAY, "1/old"]), "lives that should", id="a cursor far behind"),
        pytest.param(
            lambda f: f["cursors"].update(a=[LATER + LOOK_BACK_MS + 1, "1/old"]), "not come yet", id="a future cursor"
        ),
        pytest.param(
            lambda f: f["cursors"].update(a=[MONDAY + HALF_LIFE_MS, "b", "a"]),
            "not written as",
            id="parts out of order",
        ),
    ],
)
def test_what_was_not_written_by_us_is_refused(spoil: Callable[[dict[str, Any]], object], want: str) -> None:
    """Impossible numbers would decide wrongly and silently, so the field is named instead."""
    sound = _sound()
    assert Profile.from_text(sound.to_text(), LATER) == sound
    fields = json.loads(sound.to_text())
    spoil(fields)
    with pytest.raises(CorruptStateError, match=want):
        Profile.from_text(json.dumps(fields, separators=(",", ":")), LATER)


def spread(log_mean: float, log_deviation: float, n: int, seed: int) -> list[float]:
    """Values of a log-normal distribution, spread evenly and shuffled, the same for the same seed."""
    bell, golden = NormalDist(log_mean, log_deviation), (5**0.5 - 1) / 2
    return [exp(bell.inv_cdf(((i + 0.5) * golden + seed / 97) % 1.0)) for i in range(n)]


def simulated(requests: int, seed: int) -> Tally:
    """What a router counted of that many requests of a small model: streams of varied lengths, under varied load."""
    book, speed = TallyRecorder(), 0.5 + seed % 8 / 2
    firsts, furthers = spread(-1.2, 0.5, requests, seed), spread(-4.0, 0.25, requests, seed + 31)
    lengths = spread(5.0, 0.8, requests, seed + 53)
    for i, (first, further, length) in enumerate(zip(firsts, furthers, lengths, strict=True)):
        book.route()
        if i % 33 == 32:
            book.fail(Cause.TIMEOUT)
            continue
        book.succeed()
        book.count_tokens(400 + i % 700, int(length))
        stratum = Stratum(i % 5)
        book.time_first_token(stratum, first * speed)
        book.time_per_token(stratum, further * speed)
        book.time_total(stratum, (first + int(length) * further) * speed)
    return book.freeze()


@pytest.mark.parametrize(
    ("periods", "want_bytes"),
    [
        pytest.param(lambda i: range(9) if i < 2 else range(i % 7, i % 7 + 3), 64_000, id="two that stay, 62 tried"),
        pytest.param(lambda _: range(9), 160_000, id="all in use all the time"),
    ],
)
def test_the_text_of_64_revisions_is_small(periods: Callable[[int], range], want_bytes: int) -> None:
    """A thousand requests a week of each that is in use; the most that 64 can fill is still far below 1 MiB."""
    tallies, profile = [simulated(1000, i) for i in range(MOST_REVISIONS)], Profile()
    for period in range(9):
        for i in range(MOST_REVISIONS):
            if period in periods(i):
                at_ms = MONDAY + period * HALF_LIFE_MS + i * SLICE_MS
                counted = share(
                    at_ms, tallies[(i + 7 * period) % MOST_REVISIONS], RevisionName(f"llama-3.1-8b-{i}", f"{i:010x}")
                )
                profile = learnt([replace(counted, complexity={Complexity.LOW: Outcomes(970, 900)})], profile)
    assert len(profile.records) == MOST_REVISIONS
    assert len(profile.to_text().encode()) < want_bytes
    assert Profile.from_text(profile.to_text(), LATER) == profile


def test_a_thousand_requests_take_little_memory() -> None:
    """What grows is the range of durations, not their number."""
    shares = [share(MONDAY + i * SLICE_MS, simulated(10, i)) for i in range(100)]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    profile = learnt(shares)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert known(profile, *LLAMA, MONDAY).samples == 1000
    assert after - before < 100_000
