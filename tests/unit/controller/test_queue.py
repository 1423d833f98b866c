"""The work queue: one pass of a subject at a time, no edit lost, pauses that grow, and fair order."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from arbiter.controller.queue import NO_SOONER_S, PAUSE_S, Subject, Waiting, WorkQueue

SUBJECTS = [Subject("ModelPool", "team", name) for name in "abc"]
POOL = SUBJECTS[0]


def queue() -> WorkQueue:
    """A queue whose pauses have no chance in them."""
    return WorkQueue(lambda: 0.0)


def test_what_is_added_often_is_passed_once() -> None:
    """Ten edits in a second are one pass, if none is running."""
    made = queue()
    for _ in range(10):
        made.add(POOL, 0.0)
    assert made.take(0.0) == POOL
    assert made.take(0.0) is None


def test_an_edit_during_a_pass_causes_exactly_one_more() -> None:
    """However many they are."""
    made = queue()
    made.add(POOL, 0.0)
    made.take(0.0)
    made.add(POOL, 1.0)
    made.add(POOL, 2.0)
    assert made.take(5.0) is None
    made.done(POOL)
    assert made.take(5.0) == POOL
    made.done(POOL)
    assert made.take(100.0) is None


def test_a_look_again_time_is_brought_forward_by_an_edit_and_never_put_off() -> None:
    """Whichever comes first counts."""
    made = queue()
    made.add(POOL, 0.0)
    made.take(0.0)
    made.done(POOL, look_again=60.0)
    assert made.next_at() == 60.0
    made.add(POOL, 90.0)
    assert made.next_at() == 60.0
    made.add(POOL, 10.0)
    assert made.next_at() == 10.0
    assert made.take(9.0) is None
    assert made.take(10.0) == POOL


def test_pauses_after_failures_double_up_to_a_limit_and_a_success_ends_them() -> None:
    """Chance takes up to a half of each."""
    made, pauses, now = queue(), [], 0.0
    made.add(POOL, now)
    for _ in range(12):
        now = made.next_at() or 0.0
        made.take(now)
        pauses.append(made.failed(POOL, now))
    first, longest = PAUSE_S
    assert pauses[:4] == [first, 2 * first, 4 * first, 8 * first]
    assert pauses[-1] == longest
    now = made.next_at() or 0.0
    made.take(now)
    made.done(POOL)
    made.add(POOL, now)
    made.take(now)
    assert made.failed(POOL, now) == first
    halved = WorkQueue(lambda: 0.999)
    halved.add(POOL, 0.0)
    halved.take(0.0)
    assert first / 2 < halved.failed(POOL, 0.0) < first


def test_a_failure_that_changes_something_itself_does_not_spin() -> None:
    """Its own change brings the next pass forward to a second after, and no closer."""
    made = queue()
    made.add(POOL, 0.0)
    for _ in range(8):
        made.take(made.next_at() or 0.0)
        made.failed(POOL, 0.0)
    made.add(POOL, 0.0)
    assert made.next_at() == NO_SOONER_S


def test_a_server_that_wants_to_be_left_alone_is() -> None:
    """What it asked for is the least, whatever changes meanwhile."""
    made = queue()
    made.add(POOL, 0.0)
    made.take(0.0)
    made.add(POOL, 0.0)
    assert made.failed(POOL, 0.0, at_least=20.0) == 20.0
    assert made.next_at() == 20.0


def test_those_that_are_due_come_in_the_order_in_which_they_fell_due() -> None:
    """A busy pool goes to the back each time, so the others come in between."""
    made = queue()
    for subject in SUBJECTS:
        made.add(subject, 0.0)
    order = []
    for now in range(6):
        taken = made.take(float(now))
        assert taken is not None
        order.append(taken.name)
        made.add(taken, float(now))
        made.done(taken)
    assert order == ["a", "b", "c", "a", "b", "c"]
    assert (len(made), made.depth(100.0), made.running) == (3, 3, 0)


def test_what_is_forgotten_is_not_passed_again() -> None:
    """Neither by its time nor by its failures."""
    made = queue()
    made.add(POOL, 5.0)
    made.forget(POOL)
    assert made.next_at() is None
    made.add(POOL, 0.0)
    made.take(0.0)
    made.add(POOL, 0.0)
    made.forget(POOL)
    made.done(POOL)
    assert made.take(9.0) is None


class Passing(RuleBasedStateMachine):
    """Any order of edits, passes, failures and time."""

    def __init__(self) -> None:
        super().__init__()
        self.draws = 0.5
        self.queue = WorkQueue(lambda: self.draws)
        self.now = 0.0
        self.running: set[Subject] = set()
        self.unseen: dict[Subject, float] = {}
        """Edits that no pass that began later has seen, with their time."""
        self.blocked: dict[Subject, float] = {}
        """Until when a failed subject may be kept waiting."""

    @rule(subject=st.sampled_from(SUBJECTS))
    def edit(self, subject: Subject) -> None:
        """Somebody changes something."""
        self.queue.add(subject, self.now)
        self.unseen.setdefault(subject, self.now)

    @rule(seconds=st.floats(0.0, 90.0))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule()
    def begin(self) -> None:
        """A pass begins, if one is due."""
        subject = self.queue.take(self.now)
        if subject is None:
            late = [
                each for each in self.unseen if each not in self.running and self.blocked.get(each, 0.0) <= self.now
            ]
            assert not late, "an edit waits although nothing keeps it"
            return
        assert subject not in self.running, "two passes of one subject at a time"
        self.running.add(subject)
        self.unseen.pop(subject, None)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), again=st.none() | st.floats(0.0, 100.0))
    def succeed(self, data: st.DataObject, again: float | None) -> None:
        """A pass ends well."""
        subject = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(subject)
        self.blocked.pop(subject, None)
        self.queue.done(subject, None if again is None else self.now + again)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), draw=st.floats(0.0, 0.99))
    def fail(self, data: st.DataObject, draw: float) -> None:
        """A pass fails."""
        self.draws = draw
        subject = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(subject)
        pause = self.queue.failed(subject, self.now)
        assert PAUSE_S[0] / 2 < pause <= PAUSE_S[1]
        self.blocked[subject] = self.now + NO_SOONER_S
        next_at = self.queue.next_at()
        assert next_at is not None

    @invariant()
    def no_edit_is_lost(self) -> None:
        """Whatever was edited is being passed once more, or will be within a second of its failure."""
        waiting = [each for each in self.unseen if each not in self.running]
        if waiting:
            next_at = self.queue.next_at()
            assert next_at is not None
            assert next_at <= max([self.now, *(self.blocked.get(each, 0.0) for each in waiting)])

    @invariant()
    def what_runs_is_counted(self) -> None:
        """Neither more nor less."""
        assert self.queue.running == len(self.running)


TestPassing = Passing.TestCase
TestPassing.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_whoever_waits_is_woken_by_what_falls_due_first() -> None:
    """An edit wakes it before the time that it waits for."""

    async def story() -> list[str]:
        loop = asyncio.get_running_loop()
        waiting = Waiting(queue(), loop.time)
        seen = []
        waiting.add(SUBJECTS[1], after=3600.0)
        taking = asyncio.create_task(waiting.next())
        await asyncio.sleep(0)
        waiting.add(POOL)
        seen.append((await taking).name)
        waiting.done(POOL, after=0.0)
        seen.append((await waiting.next()).name)
        waiting.failed(POOL)
        return seen

    assert asyncio.run(story()) == ["a", "a"]


@pytest.mark.parametrize("after", [pytest.param(None, id="no time"), pytest.param(0.01, id="a time")])
def test_a_look_again_time_wakes_by_itself(after: float | None) -> None:
    """Without one nothing comes until something changes."""

    async def story() -> Subject | None:
        waiting = Waiting(queue(), asyncio.get_running_loop().time)
        waiting.add(POOL)
        waiting.done(await waiting.next(), after)
        try:
            async with asyncio.timeout(0.2):
                return await waiting.next()
        except TimeoutError:
            return None

    assert asyncio.run(story()) == (None if after is None else POOL)
