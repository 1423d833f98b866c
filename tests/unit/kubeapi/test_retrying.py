"""Asking again, with pauses that nobody waits for: the test's own clock takes them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.errors import ClusterError, ConflictError, DeniedError, RejectedError, UnreachableError
from arbiter.kubeapi.applying import apply, create
from arbiter.kubeapi.connection import ExpiredError, Request
from arbiter.kubeapi.deleting import delete
from arbiter.kubeapi.resources import CONFIG_MAPS
from arbiter.kubeapi.retrying import Patience, Retrying
from tests.unit.kubeapi.api_server import Scripted, connection_to
from tests.unit.kubeapi.steps import POOL, breaks, config_map, fails, run, says, stored

if TYPE_CHECKING:
    from pathlib import Path

    from arbiter.kubeapi.connection import Asking
    from tests.unit.kubeapi.steps import Step

QUESTION = Request("PATCH", "/api/v1/nodes/one", {}, {})
"""No method that aiohttp itself sends again when a connection breaks."""


class Hours:
    """A clock that only pauses move on."""

    def __init__(self) -> None:
        """It begins anywhere."""
        self.time = 1000.0
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Pass the time."""
        self.pauses.append(seconds)
        self.time += seconds

    def retrying(self, asking: Asking, **patience: Any) -> Retrying:  # noqa: ANN401  any of its fields
        """Ask again by this clock, without chance."""
        return Retrying(asking, lambda: 0.0, Patience(**patience), lambda: self.time, self.sleep)


class Answering:
    """Answers from a list: raises what is an error."""

    def __init__(self, *answers: dict[str, Any] | ClusterError) -> None:
        """Take the answers."""
        self.answers = list(answers)
        self.asked: list[Request] = []

    async def ask(self, request: Request) -> dict[str, Any]:
        """Give the next one."""
        self.asked.append(request)
        match self.answers.pop(0):
            case ClusterError() as error:
                raise error
            case answer:
                return answer


@pytest.mark.parametrize(
    "step", [fails(429), fails(408), fails(500), fails(503, "starting"), fails(504), breaks, says("<html>")]
)
def test_what_time_mends_is_asked_again(tmp_path: Path, step: Step) -> None:
    """An API server that restarts, is too busy or breaks a connection costs a pause, and no pass."""

    async def story() -> None:
        hours, server = Hours(), Scripted(step, step, says(stored()))
        async with server.up():
            connection = connection_to(server, tmp_path)
            assert await hours.retrying(connection).ask(QUESTION) == stored()
            await connection.close()
        assert len(server.asked) == 3
        assert hours.pauses == [0.1, 0.2]

    run(story())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RejectedError),
        (401, DeniedError),
        (403, DeniedError),
        (404, RejectedError),
        (409, ConflictError),
        (410, ExpiredError),
        (422, RejectedError),
    ],
)
def test_what_would_come_again_is_told_at_once(tmp_path: Path, status: int, kind: type[ClusterError]) -> None:
    """Who may not write today may not in a second."""

    async def story() -> None:
        hours, server = Hours(), Scripted(fails(status))
        async with server.up():
            connection = connection_to(server, tmp_path)
            with pytest.raises(kind):
                await hours.retrying(connection).ask(QUESTION)
            await connection.close()
        assert (len(server.asked), hours.pauses) == (1, [])

    run(story())


def test_the_server_says_how_long_to_wait(tmp_path: Path) -> None:
    """It knows how busy it is; the pause is never shorter than it asks for."""

    async def story() -> None:
        hours = Hours()
        server = Scripted(fails(429, retry_after="3"), fails(503, retry_after="0"), says(stored()))
        async with server.up():
            connection = connection_to(server, tmp_path)
            await hours.retrying(connection).ask(QUESTION)
            await connection.close()
        assert hours.pauses == [3.0, 0.2]

    run(story())


@pytest.mark.parametrize(
    ("patience", "error", "want_asked"),
    [
        pytest.param({"attempts": 3}, UnreachableError("away"), 3, id="so many attempts"),
        pytest.param({"attempts": 99, "seconds": 1.0}, UnreachableError("away"), 4, id="so long"),
        pytest.param({"seconds": 5.0}, UnreachableError("busy", 10.0), 1, id="no use in waiting so long"),
    ],
)
def test_patience_ends(patience: dict[str, Any], error: ClusterError, want_asked: int) -> None:
    """A pass must end, and the next one tries anew."""

    async def story() -> None:
        hours, asking = Hours(), Answering(*[error] * 99)
        with pytest.raises(UnreachableError) as raised:
            await hours.retrying(asking, **patience).ask(QUESTION)
        assert raised.value is error
        assert len(asking.asked) == want_asked

    run(story())


def test_an_attempt_may_not_take_longer_than_is_left() -> None:
    """The limit is for all of them together."""

    async def story() -> None:
        hours = Hours()
        asking = Answering(UnreachableError("away", 4.0), UnreachableError("away", 4.0), {})
        await hours.retrying(asking, seconds=10.0).ask(QUESTION)
        assert [each.seconds for each in asking.asked] == [10.0, 6.0, 2.0]

    run(story())


def test_pauses_grow_to_a_limit_and_chance_takes_up_to_a_half() -> None:
    """Passes that failed together must not come back together."""
    patience = Patience(first_pause_s=1.0, longest_pause_s=4.0)
    assert [patience.pause_s(failures, 0.0) for failures in (1, 2, 3, 4, 50)] == [1.0, 2.0, 4.0, 4.0, 4.0]
    assert patience.pause_s(2, 0.5) == 1.5


def test_a_real_clock_and_real_pauses_are_the_default() -> None:
    """The controller gives only what the linter keeps from us: chance."""

    async def story() -> None:
        asking = Answering(UnreachableError("away"), {"kind": "Status"})
        assert await Retrying(asking, lambda: 1.0).ask(QUESTION) == {"kind": "Status"}

    run(story())


def test_a_write_whose_answer_was_lost_is_sent_again_without_harm(tmp_path: Path) -> None:
    """The connection broke after the object was made, applied or deleted: all three ask again and are content."""

    async def story() -> None:
        hours = Hours()
        mine = stored("u2")
        server = Scripted(
            *(fails(404), breaks, fails(409), says(mine), says(mine)),
            *(breaks, fails(409), says(mine)),
            *(breaks, fails(404)),
        )
        async with server.up():
            connection = connection_to(server, tmp_path)
            asking = hours.retrying(connection)
            assert await apply(asking, CONFIG_MAPS, config_map(), POOL) == mine
            assert await create(asking, CONFIG_MAPS, config_map(), POOL) == mine
            await delete(asking, CONFIG_MAPS, mine)
            await connection.close()
        methods = [each.method for each in server.asked]
        assert methods == ["GET", "PATCH", "PATCH", "GET", "PATCH", "POST", "POST", "GET", "DELETE", "DELETE"]

    run(story())


def test_cancelling_ends_the_asking() -> None:
    """A pass that is ended does not come back from its pause."""

    async def story() -> None:
        asking = Answering(UnreachableError("away", 20.0), {})
        task = asyncio.create_task(Retrying(asking, lambda: 0.0).ask(QUESTION))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asking.asked) == 1

    run(story())
