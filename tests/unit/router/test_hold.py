"""Requests that wait while nothing can serve them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from arbiter.core import routes
from arbiter.router.hold import WAKE_BATCH, Hold, HoldRefusedError, Refused, Waiter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Places:
    """Free places of an endpoint; each attempt is noted."""

    def __init__(self) -> None:
        """None free."""
        self.free = 0
        self.asked: list[str] = []
        self.taken: list[str] = []

    def attempt(self, name: str) -> Callable[[], str | None]:
        """What a waiter tries."""

        def take() -> str | None:
            self.asked.append(name)
            if not self.free:
                return None
            self.free -= 1
            self.taken.append(name)
            return name

        return take


def hold_of(requests: int = 10, seconds: float = 30.0, hopeless: str = "", shares: int = 1) -> Hold[str]:
    """A hold with these rules."""
    return Hold(routes.Hold(requests, seconds, hopeless), shares)


def run(story: Coroutine[None, None, None]) -> None:
    """Run a story that must not take longer than a test may."""

    async def limited() -> None:
        await asyncio.wait_for(story, 5.0)

    asyncio.run(limited())


async def refusal_of(hold: Hold[str], waiter: Waiter[str]) -> HoldRefusedError:
    """Why a waiter was refused."""
    with pytest.raises(HoldRefusedError) as refused:
        await hold.wait(waiter)
    return refused.value


def test_first_come_is_first_served_and_a_higher_priority_goes_before() -> None:
    """Within a priority nobody overtakes."""

    async def story() -> None:
        hold, places = hold_of(), Places()
        order = [("a", 0), ("b", 0), ("vip", 5), ("low", -1), ("c", 0), ("vip2", 5)]
        for name, priority in order:
            hold.join(places.attempt(name), priority)
        places.free = 6
        hold.wake()
        assert places.taken == ["vip", "vip2", "a", "b", "c", "low"]
        assert len(hold) == 0

    run(story())


def test_waking_stops_at_the_first_who_finds_nothing() -> None:
    """A hundred waiters do not all run for two places, and whoever found none keeps the first place in line."""

    async def story() -> None:
        hold, places = hold_of(100), Places()
        waiters = [hold.join(places.attempt(str(i))) for i in range(100)]
        places.free = 2
        hold.wake()
        assert places.asked == ["0", "1", "2"]
        assert [await hold.wait(waiter) for waiter in waiters[:2]] == ["0", "1"]
        places.free = 1
        hold.wake()
        assert places.taken == ["0", "1", "2"]

    run(story())


def test_a_long_line_is_served_in_turns_of_the_loop() -> None:
    """Those who are served first begin while the rest is still being woken."""

    async def story() -> None:
        hold, places = hold_of(3 * WAKE_BATCH), Places()
        waiters = [hold.join(places.attempt(str(i))) for i in range(2 * WAKE_BATCH + 1)]
        places.free = len(waiters)
        hold.wake()
        hold.wake()
        assert len(places.taken) == WAKE_BATCH
        assert await hold.wait(waiters[-1]) == str(2 * WAKE_BATCH)
        assert places.taken == [str(i) for i in range(len(waiters))]

    run(story())


def test_who_leaves_is_gone_at_once() -> None:
    """No place is given to a client that is not there."""

    async def story() -> None:
        hold, places = hold_of(2), Places()
        gone, stays = hold.join(places.attempt("gone")), hold.join(places.attempt("stays"))
        hold.leave(gone)
        hold.leave(gone)
        assert len(hold) == 1
        assert (await refusal_of(hold, gone)).reason is Refused.LEFT
        places.free = 1
        hold.wake()
        assert await hold.wait(stays) == "stays"
        assert places.asked == ["stays"]

    run(story())


def test_a_waiter_whose_task_is_cancelled_gives_its_place_back() -> None:
    """A place taken in the same moment must not be lost with it."""

    async def story() -> None:
        hold, places = hold_of(), Places()
        returned: list[str] = []
        before, after = hold.join(places.attempt("before")), hold.join(places.attempt("after"))
        tasks = [asyncio.create_task(hold.wait(each, returned.append)) for each in (before, after)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        assert len(hold) == 1
        places.free = 1
        hold.wake()
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert returned == ["after"]
        assert all(task.cancelled() for task in tasks)

    run(story())


def test_the_time_of_waiting_is_limited() -> None:
    """Then the client is told when to come again."""

    async def story() -> None:
        hold = hold_of(seconds=0.01)
        refused = await refusal_of(hold, hold.join(Places().attempt("a")))
        assert (refused.reason, refused.retry_after_s, len(hold)) == (Refused.TIMEOUT, 1, 0)
        assert "within 0.01 s" in refused.message

    run(story())


def test_the_line_is_limited_and_a_higher_priority_displaces_the_last_of_the_lowest() -> None:
    """Those who waited longest within a priority are the last to lose their place."""

    async def story() -> None:
        hold, places = hold_of(2, seconds=7.5), Places()
        first, last = hold.join(places.attempt("first")), hold.join(places.attempt("last"))
        with pytest.raises(HoldRefusedError) as refused:
            hold.join(places.attempt("third"))
        assert (refused.value.reason, refused.value.retry_after_s) == (Refused.FULL, 8)
        hold.join(places.attempt("vip"), 1)
        assert (await refusal_of(hold, last)).reason is Refused.FULL
        assert not first.future.done()
        assert len(hold) == 2

    run(story())


@pytest.mark.parametrize(("requests", "shares", "want"), [(5, 2, 3), (1, 4, 1), (0, 1, 0)])
def test_workers_divide_the_room_among_them(requests: int, shares: int, want: int) -> None:
    """Rounded up, so that a task that may hold one request can hold one wherever it arrives."""

    async def story() -> None:
        hold, places = hold_of(requests, shares=shares), Places()
        for i in range(want):
            hold.join(places.attempt(str(i)))
        with pytest.raises(HoldRefusedError):
            hold.join(places.attempt("one more"), 9 if not want else 0)
        assert len(hold) == want

    run(story())


def test_when_nothing_will_come_nobody_waits() -> None:
    """Neither those who come nor those who wait, and they are not told to come again."""

    async def story() -> None:
        hold, places = hold_of(), Places()
        waiter = hold.join(places.attempt("a"))
        hold.obey(routes.Hold(10, 30.0, "the model does not fit on any node"))
        refused = await refusal_of(hold, waiter)
        assert (refused.reason, refused.retry_after_s) == (Refused.HOPELESS, None)
        with pytest.raises(HoldRefusedError, match="does not fit"):
            hold.join(places.attempt("b"))

    run(story())


def test_an_attempt_that_breaks_is_the_waiters_own_trouble() -> None:
    """The others are still served."""

    async def story() -> None:
        hold, places = hold_of(), Places()

        def breaks() -> str | None:
            raise ValueError("broken")

        broken, fine = hold.join(breaks), hold.join(places.attempt("fine"))
        places.free = 1
        hold.wake()
        assert await hold.wait(fine) == "fine"
        with pytest.raises(ValueError, match="broken"):
            await hold.wait(broken)

    run(story())
