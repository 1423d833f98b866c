"""What a swap does in the situations that matter, each as a text that a person reads: what was seen, what was decided.

`ARBITER_GOLDENS=write` writes the texts anew; read the difference, for each changed line is another behaviour.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arbiter.api.modelswap import Intent, Outcome, Phase
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.candidacy import Check, Fit, refused
from arbiter.core.swap_seen import Checked, Choice, Opening, SideSeen
from tests.unit.core.swap_examples import (
    BOTH,
    CLOSED,
    CRASHES,
    DOWN,
    GONE,
    ONE,
    OPEN,
    SERVES,
    SHORT,
    UP,
    Story,
    judged,
    swap,
)

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDENS = Path(__file__).parent / "goldens" / "swap"

IDLE = SideSeen(SERVES, ready=1, proved=True, idle=True)
PROVEN, UNDECIDED = judged(ReasonCode.EqualOrBetterProven), judged(ReasonCode.EvidenceUndecided)
FEW, WORSE = judged(ReasonCode.TooFewRequests, enough=False), judged(ReasonCode.RegressionProven)
SILENT = judged(ReasonCode.MetricsUnavailable)


def begun() -> Story:
    """Give a story whose new side has its first requests."""
    story = Story()
    story.see("it is asked for")
    return story.see("gemma3 is up", new=UP)


def equal() -> Story:
    """An equal candidate is promoted, and the old side keeps a baseline while it is watched."""
    story = begun()
    story.wait(30).see("undecided so far", judgement=UNDECIDED).see("proven", judgement=PROVEN)
    return story.wait(31).wait(61).wait(61)


def worse() -> Story:
    """A worse candidate loses its requests at once, and ends once its answers have."""
    story = begun().see("worse", judgement=WORSE, obeyed=False)
    return story.see("routers obey", obeyed=True).see("its answers ended", new=IDLE)


def rejected() -> Story:
    """A candidate that fails the task's checks is refused before a user sees it."""
    story = Story().see("it is asked for", checks=Checked(done=False, told="0 of 12 checks answered"))
    story.see("gemma3 is up", new=UP).see("some", checks=Checked(done=False, told="8 of 12 checks answered"))
    failed = Reason(ReasonCode.ChecksFailed, "gemma3 failed 8 of 8 checks, smollm2 passed 8, such as capital")
    return story.see("worse", checks=Checked(done=True, told="12 of 12 checks answered", worse=failed))


def quiet() -> Story:
    """A quiet pool's step is held three times more, and then it is rolled back, as the policy says."""
    story = begun().see("few requests", judgement=FEW)
    return story.wait(61).wait(60).wait(60).wait(60).see("its answers ended", new=IDLE)


def patient() -> Story:
    """The same with `onInconclusive: Hold` goes on once the evidence is there."""
    policy = SHORT.model_copy(
        update={"analysis": SHORT.analysis.model_validate({"onInconclusive": "Hold", "maxExtensions": 1})}
    )
    story = Story(swap(policy)).see("it is asked for").see("gemma3 is up", new=UP).see("few", judgement=FEW)
    return story.wait(61).wait(60).see("proven", judgement=PROVEN)


def silent() -> Story:
    """Metrics that fall silent hold the weights where they are, and the swap goes on once they are back."""
    story = begun().see("proven", judgement=PROVEN).wait(61)
    return story.see("silent", judgement=SILENT).wait(600).see("back", judgement=PROVEN)


def unacknowledged() -> Story:
    """A step that a router does not obey does not count, however long it takes."""
    late = ("assistant-router-x",)
    story = Story().see("it is asked for").see("gemma3 is up, a router is late", new=UP, obeyed=False, laggards=late)
    return story.wait(120).see("it obeys", obeyed=True, laggards=()).wait(30)


def crashes() -> Story:
    """A new engine that crashes while it has requests is rolled back without statistics."""
    broken = SideSeen(CRASHES, broken=CRASHES)
    return begun().see("gemma3 crashes", new=broken)


def never_up() -> Story:
    """A new engine that never comes up is rejected, and nothing has moved."""
    return Story().see("it is asked for").see("gemma3 crashes", new=SideSeen(CRASHES, broken=CRASHES))


def first_failed() -> Story:
    """When all of the first requests failed, nobody waits for statistics."""
    return begun().see("11 failed", first_failed=11).see("12 failed", first_failed=12)


def aborted() -> Story:
    """Abort beats Promote, and undoes a watch as well."""
    story = begun().see("proven", judgement=PROVEN).wait(61).wait(61)
    return story.see("told to abort", intent=Intent.Abort).see("its answers ended", new=IDLE)


def told_to_promote() -> Story:
    """Promote skips what is left of the steps and the watch; routers still have to obey."""
    return begun().see("told to promote", intent=Intent.Promote, obeyed=False).see("routers obey", obeyed=True)


def superseded() -> Story:
    """Another request takes its place: first the old side gets everything back."""
    other = Reason(ReasonCode.Superseded, "assistant-chat-2 takes its place: spec.tasks[0].model is qwen3 now")
    return begun().see("another request", superseded=other).see("its answers ended", new=IDLE)


def paused() -> Story:
    """A paused swap keeps its weight for as long as it takes; what is worse is rolled back all the same."""
    story = begun().see("proven", judgement=PROVEN).see("told to pause", intent=Intent.Pause).wait(3600)
    return (
        story.see("told to run", intent=Intent.Run)
        .see("paused again", intent=Intent.Pause)
        .see("worse", judgement=WORSE)
    )


def undecided_when_paused() -> Story:
    """A long pause uses up none of the extensions: evidence gets the time that the policy grants."""
    story = begun().see("undecided", judgement=UNDECIDED).see("told to pause", intent=Intent.Pause).wait(3600)
    return story.see("told to run", intent=Intent.Run).wait(59).see("proven", judgement=PROVEN).wait(1)


def out_of_reach() -> Story:
    """A router that the operator cannot ask holds the step, and is not replaced for that."""
    cut = ("assistant-router-1",)
    story = begun().see("undecided", judgement=UNDECIDED).see("the router is out of reach", unheard=cut).wait(3600)
    story = story.see("it answers", unheard=()).see("proven", judgement=PROVEN).wait(60)
    return story.see("it obeys nothing and is out of reach", obeyed=False, laggards=cut, unheard=cut).wait(60)


def windows() -> Story:
    """Outside of its window a swap does not begin and weights do not rise; a rollback never waits."""
    story = Story().see("it is asked for at noon", window=CLOSED).see("the window opens", window=OPEN)
    story.see("gemma3 is up", new=UP).see("the window closes", window=CLOSED, judgement=PROVEN).wait(61)
    return story.see("worse", judgement=WORSE)


def undone() -> Story:
    """Back to what was active before: a route change, without analysis, windows or checks."""
    story = Story(swap(analysed=False)).see("it is asked for", new=UP, window=CLOSED, obeyed=False)
    return story.see("routers obey", obeyed=True)


def replicas() -> Story:
    """The new side gets as many pods as its share needs, each before it gets that share."""
    story = Story().see("it is asked for", replicas=2).see("one pod is up", new=UP, judgement=PROVEN)
    story.wait(61).see("two pods are up", new=SideSeen(SERVES, ready=2, proved=True, idle=False))
    return story


def old_side_dies() -> Story:
    """While it rolls back the old side dies: the new one keeps the requests until it is back."""
    story = begun().see("worse, and smollm2 is down", judgement=WORSE, old=GONE)
    return story.see("smollm2 is back", old=UP).see("its answers ended", new=IDLE)


def one_gpu() -> Story:
    """Where there is one GPU requests are held while the models change places."""
    story = Story().see("it is asked for", choice=ONE).see("smollm2 is idle", old=IDLE)
    story.see("smollm2 is gone", old=GONE).see("gemma3 is up", new=UP)
    return story.wait(61)


def one_gpu_fails() -> Story:
    """The new side does not come up in the old one's place: the old one comes back, and requests wait for it."""
    story = Story().see("it is asked for", choice=ONE, old=IDLE).see("smollm2 is gone", old=GONE)
    story.see("gemma3 crashes", new=SideSeen(CRASHES, broken=CRASHES))
    return story.see("gemma3 is gone", new=DOWN).see("smollm2 is back", old=UP)


def one_gpu_aborted() -> Story:
    """Aborted while it serves alone: its answers end, then the models change back."""
    story = one_gpu_served().see("told to abort", intent=Intent.Abort)
    return story.see("gemma3 is idle", new=IDLE).see("gemma3 is gone", new=DOWN).see("smollm2 is back", old=UP)


def one_gpu_served() -> Story:
    """Give a story in which the new side serves alone."""
    story = Story().see("it is asked for", choice=ONE, old=IDLE).see("smollm2 is gone", old=GONE)
    return story.see("gemma3 is up", new=UP)


def delayed() -> Story:
    """A swap waits for another one of the pool that takes up room, and says which."""
    other = Opening(open=False, reason=Reason(ReasonCode.OtherSwapRuns, "assistant-code-4 takes up room for engines"))
    return Story().see("it is asked for", delayed=other).see("the other one ends", delayed=None)


def no_node() -> Story:
    """No node can take the new model; then one can."""
    lacks = refused(Check.NodeFits, ReasonCode.NoNodeFits, "no node can take gemma3: node-1 lacks the label gpu=yes")
    told = Story().see("it is asked for", fit=Fit((lacks,), compatible=False, reason=lacks.reason))
    return told.see("node-1 is labelled", fit=None)


def no_room_beside() -> Story:
    """Another pool has the room that the new model would need, and the policy does not let it replace the old one."""
    full = Choice(None, Reason(ReasonCode.NoRoom, "gemma3 cannot be there beside smollm2"), may_change=True)
    return Story().see("it is asked for", choice=full).see("the other pool goes", choice=BOTH)


def no_room_ever() -> Story:
    """What the pool itself allows its shared engine is too little for both: only a person can change that."""
    bound = Choice(None, Reason(ReasonCode.NoRoom, "the shared engine may hold 1 model, and 2 would have to be there"))
    return Story().see("it is asked for", choice=bound)


def promoted_elsewhere() -> Story:
    """The pass that promoted it ended before it could say so here: the next one says it."""
    return begun().see("the pool says that gemma3 is active", is_active=True, intent=Intent.Abort)


STORIES: dict[str, Callable[[], Story]] = {
    told.__name__.replace("_", "-"): told
    for told in (
        equal,
        worse,
        rejected,
        quiet,
        patient,
        silent,
        unacknowledged,
        crashes,
        never_up,
        first_failed,
        aborted,
        told_to_promote,
        superseded,
        paused,
        undecided_when_paused,
        out_of_reach,
        windows,
        undone,
        replicas,
        old_side_dies,
        one_gpu,
        one_gpu_fails,
        one_gpu_aborted,
        delayed,
        no_node,
        no_room_beside,
        no_room_ever,
        promoted_elsewhere,
    )
}


@pytest.mark.parametrize("name", STORIES)
def test_it_decides_as_it_is_written(name: str) -> None:
    """The decisions of each story, with their reasons, are those that a person has read."""
    told = STORIES[name]
    text = f"{(told.__doc__ or '').strip()}\n\n{told().text()}"
    golden = GOLDENS / f"{name}.txt"
    if os.environ.get("ARBITER_GOLDENS") == "write":
        golden.write_text(text)
    assert golden.read_text() == text


def test_every_golden_has_its_story() -> None:
    """One that nobody tells any more would only mislead."""
    assert {path.stem for path in GOLDENS.glob("*.txt")} == set(STORIES)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("equal", Outcome.Promoted),
        ("worse", Outcome.RolledBack),
        ("rejected", Outcome.Rejected),
        ("quiet", Outcome.RolledBack),
        ("aborted", Outcome.Aborted),
        ("superseded", Outcome.Superseded),
        ("undone", Outcome.Promoted),
        ("one-gpu", Outcome.Promoted),
        ("one-gpu-fails", Outcome.RolledBack),
        ("one-gpu-aborted", Outcome.Aborted),
        ("old-side-dies", Outcome.RolledBack),
        ("no-room-ever", Outcome.Rejected),
    ],
)
def test_it_ends_as_it_should(name: str, outcome: Outcome) -> None:
    """Whatever the texts say, these endings are what the stories are about."""
    flight = STORIES[name]().flight
    assert (flight.phase, flight.outcome) == (Phase.Ended, outcome)
