"""One look at all deadlines: nothing passed is forgotten, and a stall of ours is not blamed on others."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from arbiter.router.wire.deadlines import GRAIN_S, Sweep

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Clock:
    """A loop whose time is set by the test.

    Attributes:
        now: its time.
        due: what it would call next, or None.
    """

    def __init__(self) -> None:
        """At the beginning of time."""
        self.now = 1000.0
        self.due: Callable[[], None] | None = None

    def time(self) -> float:
        """Now."""
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> Clock:
        """Keep the call; this is its handle too."""
        assert delay == GRAIN_S
        self.due = call
        return self

    def cancel(self) -> None:
        """Forget the call."""
        self.due = None

    def pass_by(self, seconds: float) -> None:
        """Let time pass, and then make the call."""
        self.now += seconds
        call, self.due = self.due, None
        assert call is not None
        call()


class Thing:
    """Something timed."""

    def __init__(self, deadline: float) -> None:
        """Nothing passed yet."""
        self.deadline = deadline
        self.passed: list[float] = []

    def on_deadline(self, now: float) -> None:
        """Note it."""
        self.passed.append(now)


def swept(*things: Thing) -> tuple[Sweep, Clock]:
    """A sweep of these, and its clock."""
    clock = Clock()
    sweep = Sweep(cast("asyncio.AbstractEventLoop", clock))
    for thing in things:
        sweep.add(thing)
    return sweep, clock


def test_a_deadline_is_met_at_the_next_look_and_again_until_it_is_moved() -> None:
    """Whoever is told may need more than one attempt to end."""
    thing, later = Thing(1000.15), Thing(1001.0)
    _, clock = swept(thing, later)

    for _ in range(3):
        clock.pass_by(GRAIN_S)

    assert [round(now, 6) for now in thing.passed] == [1000.2, 1000.3]
    assert later.passed == []


def test_a_sweep_of_nothing_keeps_no_timer() -> None:
    """A loop with nothing to do must be able to rest."""
    thing = Thing(0)
    sweep, clock = swept(thing)
    before = clock.due

    sweep.discard(thing)
    sweep.discard(thing)

    assert (before is None, clock.due is None) == (False, True)
    clock.now += 50
    assert sweep.time() == 1050.0
    sweep.add(thing)
    assert sweep.now == 1050.0


def test_after_a_stall_of_ours_what_came_meanwhile_is_read_first() -> None:
    """A stopped process wakes to passed deadlines of everyone, with their bytes waiting to be read."""
    thing = Thing(1002.0)
    _, clock = swept(thing)

    clock.pass_by(60)
    assert thing.passed == []
    clock.pass_by(GRAIN_S)

    assert len(thing.passed) == 1


def test_a_loop_that_is_always_late_still_meets_its_deadlines() -> None:
    """Under load every look may come late, and limits matter most then."""
    thing = Thing(1002.0)
    _, clock = swept(thing)

    for _ in range(4):
        clock.pass_by(5)

    assert len(thing.passed) == 2
