"""A replay of recorded ramps must be one: nothing lost in the file, nothing favoured in drawing, every fault found."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pytest

from arbiter.api.swappolicy import SwapPolicySpec
from arbiter.core.histogram import Histogram
from arbiter.core.traffic import Cause, Side, Slice, Tally, no_timings
from arbiter.errors import CorruptStateError
from bench import recorded, recordings
from bench.claims import Result
from bench.ramps import Outcome
from bench.recordings import Recording
from bench.replay import as_recorded, replayed
from bench.resample import Design, Second, at_weight, failing, moving, slower, stretches, thinned
from bench.scenarios import Scenario
from bench.soak.ramps import policy

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.random import Generator

    from arbiter.core.traffic import Timings

SPEC = SwapPolicySpec.model_validate(policy()["spec"])

ROLLED_BACK, PROMOTED = Outcome("errors", 50, 1.0, None, None), Outcome("", 900, 4.0, 600, 2.5)


def drawn() -> Generator:
    """Give the same draws each time."""
    return np.random.default_rng(7)


def timed(chance: Generator, n: int) -> Timings:
    """Give so many durations of about 50 ms with a tail, all of them alone."""
    times = Histogram()
    for seconds in chance.lognormal(-3.0, 0.1, n).tolist():
        times.add(seconds)
    return (Histogram(times.buckets), *no_timings()[1:])


def tally(chance: Generator, n: int, failed: int = 0) -> Tally:
    """Give so many requests, of which some failed, and all others were timed."""
    causes = {Cause.RESET: failed} if failed else {}
    first_token, per_token = timed(chance, n - failed), timed(chance, n - failed)
    return Tally(n, n - failed, causes, first_token=first_token, per_token=per_token)


def recording(seconds: int = 60, routers: int = 2, weight: int = 30) -> Recording:
    """Give a ramp of one step between identical models."""
    chance = drawn()
    counted = tuple(
        tuple(
            Slice(
                f"router-{router}", 4, "chat", at * 1000, 1000,
                {Side.OLD: tally(chance, 14), Side.NEW: tally(chance, 6)},
            )
            for at in range(seconds)
        )
        for router in range(routers)
    )  # fmt: skip
    return Recording("soak-1", "soak-1-1", "chat", 1000, {4: weight}, counted)


def test_a_recording_is_read_back_as_it_was(tmp_path: Path) -> None:
    """Ramp after ramp, with failures, empty sides and zeros; sums of durations and tokens are what it leaves out."""
    full = tally(drawn(), 9, failed=2)
    zero = Tally(1, 1, first_token=(Histogram({}, 1), *no_timings()[1:]))
    odd = Slice("router-0", 4, "chat", 61_000, 1000, {Side.OLD: full, Side.NEW: zero})
    alone = Slice("router-0", 5, "chat", 62_000, 1000, {Side.OLD: Tally()})
    want = [recording(5), Recording("soak-2", "soak-2-1", "chat", 1000, {4: 30, 5: 60}, ((odd, alone),))]
    for each in want:
        recordings.append(tmp_path / "slices.jsonl.gz", each)
    assert list(recordings.read(tmp_path / "slices.jsonl.gz")) == want


def test_a_recording_of_another_version_is_refused() -> None:
    """Half understood, it would be replayed as something that never was."""
    with pytest.raises(CorruptStateError, match="version 2"):
        Recording.from_line(recording(1).to_line().replace('"version":1', '"version":2'))


def test_the_newest_recording_is_taken(tmp_path: Path) -> None:
    """By its date; where there is none, it is said how to get one."""
    with pytest.raises(SystemExit, match="soak-swap"):
        recorded.newest(tmp_path)
    for date in ("2026-11-30", "2026-12-01", "2026-11-21"):
        (tmp_path / f"recorded-slices-{date}.jsonl.gz").touch()
    assert [path.name for path in recorded.newest(tmp_path)] == ["recorded-slices-2026-12-01.jsonl.gz"]


def test_a_recorded_ramp_is_replayed_second_by_second() -> None:
    """Each router as it told, one step; what does not run at a time says nothing then."""
    whole = recording(30)
    late = Recording("soak-1", "a", "chat", 1000, {4: 30}, (whole.routers[0], whole.routers[1][10:]))
    looks = list(as_recorded(late))
    assert [look.now_ms for look in looks] == [1000 * second for second in range(1, 31)]
    assert [len(look.feeds) for look in looks] == [1] * 10 + [2] * 20
    assert {look.step for look in looks} == {0}
    assert replayed(as_recorded(whole), SPEC, 3).requests == 30 * 12


def test_identical_models_pass_the_gates() -> None:
    """Four minutes at twelve requests a second of the new side are enough, as in the soak."""
    outcome = replayed(as_recorded(recording(240)), SPEC, 3)
    assert not outcome.culprit
    assert outcome.gate_minutes is not None


def test_only_whole_seconds_are_drawn_from() -> None:
    """A second that a router missed, or that two tables share, or that has open requests, is no second of a ramp."""
    whole = recording(40)
    first, second = whole.routers
    opened = Slice("router-0", 4, "chat", 0, 1000, {Side.OLD: Tally(3, 2)})
    shared = Slice("router-0", 5, "chat", 39_000, 1000, {Side.OLD: Tally(1, 1)})
    spoiled = Recording(
        "soak-1", "a", "chat", 1000, {4: 30, 5: 60}, ((opened, *first[1:], shared), (*second[:20], *second[21:]))
    )
    assert [len(stretch) for stretch in stretches([whole, spoiled])] == [40, 37]
    assert stretches([recording(20)]) == ()


def test_seconds_that_follow_one_another_stay_together() -> None:
    """Runs of the wanted length, each in order and around the end."""
    stretch = tuple(Second(30, Tally(n), Tally()) for n in range(10))
    numbers = [each.old.routed for each in islice(moving(drawn(), [stretch], 4), 400)]
    for at in range(0, 400, 4):
        assert numbers[at : at + 4] == [(numbers[at] + i) % 10 for i in range(4)]
    assert set(numbers[::4]) == set(range(10))


@pytest.mark.parametrize(
    ("weight", "turned", "want_old", "want_new"),
    [
        pytest.param(30, False, 7000, 3000, id="as recorded"),
        pytest.param(10, False, 7000, 778, id="less for the new side"),
        pytest.param(60, False, 2000, 3000, id="more for the new side"),
        pytest.param(30, True, 3000, 1286, id="the sides change names"),
        pytest.param(70, True, 3000, 7000, id="the sides change names and keep their shares"),
    ],
)
def test_a_second_is_thinned_to_another_weight(weight: int, turned: bool, want_old: int, want_new: int) -> None:
    """On the side that has too many; the other one stays as it was."""
    old, new = at_weight(drawn(), Second(30, Tally(7000, 7000), Tally(3000, 3000)), weight, turned=turned)
    assert old.routed == pytest.approx(want_old, rel=0.06)
    assert new.routed == pytest.approx(want_new, rel=0.06)


def test_thinning_takes_from_everything_alike() -> None:
    """Answers, failures and durations; what is left is a tally in which everything has ended."""
    whole = tally(drawn(), 4000, failed=1000)
    kept = thinned(drawn(), whole, 0.25)
    assert kept.open == 0
    assert kept.ok == pytest.approx(750, rel=0.15)
    assert kept.failures == pytest.approx(250, rel=0.15)
    assert kept.first_token[0].count == pytest.approx(750, rel=0.15)
    assert thinned(drawn(), whole, 1.0) is whole


def test_planted_errors_are_failures() -> None:
    """A tenth of what went well, and those are not timed."""
    planted = failing(0.1)(drawn(), tally(drawn(), 4000, failed=100))
    assert planted.routed == 4000
    assert planted.open == 0
    assert planted.failures == pytest.approx(490, rel=0.15)
    assert planted.first_token[0].count == pytest.approx(planted.ok, rel=0.05)
    assert failing(0.1)(drawn(), Tally()) == Tally()


def test_planted_slowness_moves_one_metric() -> None:
    """64 buckets are a doubling, and nothing is lost."""
    whole = tally(drawn(), 500)
    planted = slower(first_token=64)(drawn(), whole)
    before, after = whole.first_token[0].quantile(0.5), planted.first_token[0].quantile(0.5)
    assert before is not None
    assert after == pytest.approx(2 * before)
    assert planted.first_token[0].count == 500
    assert planted.per_token == whole.per_token


def test_a_drawn_ramp_follows_its_weights() -> None:
    """Step by step, a second each, all of one table in a step; the same draws give the same ramp."""
    design = Design((30, 60, 98), (20, 40))
    there = stretches([recording(60)])
    looks = list(design.looks(drawn(), there))
    assert [look.now_ms for look in looks] == [1000 * n for n in range(1, len(looks) + 1)]
    assert [step for step, _ in sorted({(look.step, look.generation) for look in looks})] == [0, 1, 2]
    sides = [feed.slices[0] for look in looks for feed in look.feeds.values() if look.step == 1]
    old, new = (sum(each.side(side).routed for each in sides) for side in (Side.OLD, Side.NEW))
    assert new / (old + new) == pytest.approx(0.6, abs=0.05)
    assert [look.feeds for look in design.looks(drawn(), there)] == [look.feeds for look in looks]


def test_a_planted_fault_is_found_and_what_both_have_is_not() -> None:
    """Else nothing would follow from identical models that stay."""
    there = stretches([recording(60)])
    at_fault = Design((30, 60, 98), (60, 90), fault=failing(0.1))
    assert replayed(at_fault.looks(drawn(), there), SPEC, 3).culprit
    alike = Design((30, 60, 98), (60, 90), both=failing(0.1))
    assert not replayed(alike.looks(drawn(), there), SPEC, 3).culprit


def results(rolled_back: int, found: int, within: int = 0) -> dict[str, Result]:
    """Give results of 100 ramps of each kind, of which so many were rolled back."""

    def one(group: str, name: str, count: int) -> Result:
        outcomes = [ROLLED_BACK] * count + [PROMOTED] * (100 - count)
        return Result(Scenario(group, name, 100, lambda _: PROMOTED), outcomes)

    kinds = (("recorded", "as recorded", 0), ("identical", "identical", rolled_back), ("within", "within", within))
    named = {name: one(group, name, count) for group, name, count in kinds}
    return {**named, recorded.ERRORS: one("fault", recorded.ERRORS, found)}


@pytest.mark.parametrize(
    ("given", "want_failed"),
    [
        pytest.param(results(2, 90), [], id="all hold: α of them may go"),
        pytest.param(results(3, 100), ["identical models rolled back 3 of 200"], id="more identical models go"),
        pytest.param(results(0, 89), [recorded.ERRORS], id="a fault is not found"),
        pytest.param(results(0, 100, within=20), ["within: rolled back 20 of 100"], id="what is within goes"),
    ],
)
def test_a_claim_that_does_not_hold_is_told(given: dict[str, Result], want_failed: list[str]) -> None:
    """Identical models may be rolled back as often as α says, and what is at fault has to be."""
    failed = [claim.text for claim in recorded.claims(given) if not claim.holds]
    assert len(failed) == len(want_failed)
    assert all(text.startswith(want) for text, want in zip(failed, want_failed, strict=True))


def test_the_last_line_counts() -> None:
    """Recorded ramps and drawn ones of identical models together."""
    assert recorded.last_line(results(3, 100)) == (
        "on recorded slices, identical models rolled back: 3 of 200; "
        "errors in a tenth of the new side found after a median of 50 candidate requests"
    )
    assert "| identical | 100 | 3.0% |" in "\n".join(recorded.table(results(3, 100)))


def test_all_kinds_are_replayed() -> None:
    """What was recorded counts as one kind, and the outcome follows from the seed."""
    ramps = [recording(60), recording(40)]
    chosen = recorded.scenarios(ramps, stretches(ramps))
    few = [each for each in chosen if each.name in {"as recorded", recorded.ERRORS}]
    found = recorded.simulate(few, 0.01, 5, 1)
    assert {name: len(each.outcomes) for name, each in found.items()} == {"as recorded": 2, recorded.ERRORS: 2}
    assert recorded.simulate(few, 0.01, 5, 1)[recorded.ERRORS].outcomes == found[recorded.ERRORS].outcomes
    assert sum(each.ramps for each in chosen if each.group == "identical") >= 2000
    assert "2 ramps were recorded" in recorded.told(ramps, stretches(ramps))
