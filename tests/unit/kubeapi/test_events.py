"""Events: what stands in them, what is a repeat, and that nothing about them holds up a pass."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.api.reasons import Reason, ReasonCode
from arbiter.errors import ConflictError, DeniedError, RejectedError, UnreachableError
from arbiter.kubeapi import events as events_module
from arbiter.kubeapi.events import Events, Importance, shortened
from tests.unit.kubeapi.api_server import Scripted, connection_to
from tests.unit.kubeapi.steps import POOL, run, says

if TYPE_CHECKING:
    from pathlib import Path

    from arbiter.errors import ClusterError
    from arbiter.kubeapi.connection import Request

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
OPEN = Reason(ReasonCode.WindowOpen, "the window nights is open until 06:00")
CLOSED = Reason(ReasonCode.WindowClosed, "the window nights is closed until 22:00")


class Noting:
    """Takes every event, or fails as it is told to."""

    def __init__(self, *failures: ClusterError | None) -> None:
        """Take the failures, one for each request; none for those after."""
        self.asked: list[Request] = []
        self._failures = list(failures)

    async def ask(self, request: Request) -> dict[str, Any]:
        """Note the request."""
        self.asked.append(request)
        if self._failures and (failure := self._failures.pop(0)):
            raise failure
        return {}

    @property
    def methods(self) -> list[str]:
        """How it was asked."""
        return [each.method for each in self.asked]


def after(seconds: float) -> datetime:
    """So long after noon."""
    return NOON + timedelta(seconds=seconds)


def test_an_event_says_what_was_decided_about_which_object(tmp_path: Path) -> None:
    """As Kubernetes wants it of those who report in the new way."""

    async def story() -> None:
        server = Scripted(says({}))
        async with server.up():
            connection = connection_to(server, tmp_path)
            events = Events(connection, "arbiter-0")
            events.tell(POOL, OPEN, "Shift", NOON, Importance.WARNING)
            await events.send()
            await connection.close()
        [asked] = server.asked
        assert (asked.method, asked.path) == ("POST", "/apis/events.k8s.io/v1/namespaces/team/events")
        assert asked.query == {"fieldManager": "arbiter", "fieldValidation": "Strict"}
        name = asked.body["metadata"]["name"]
        assert name.startswith("assistant.")
        assert asked.body == {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": "team"},
            "eventTime": "2026-11-21T12:00:00.000000Z",
            "reportingController": "arbiter.dev/operator",
            "reportingInstance": "arbiter-0",
            "action": "Shift",
            "reason": "WindowOpen",
            "note": "the window nights is open until 06:00",
            "type": "Warning",
            "regarding": POOL.to_regarding(),
        }

    run(story())


def test_a_repeat_is_counted_and_not_told_anew() -> None:
    """It is written when its count has doubled, and else once a minute, however often it is said."""

    async def story() -> None:
        asking = Noting()
        events = Events(asking, "arbiter-0")
        for second in range(130):
            events.tell(POOL, OPEN, "Shift", after(second))
        await events.send()
        name = asking.asked[0].body["metadata"]["name"] if asking.asked[0].body else ""
        assert asking.methods == ["POST"] + ["PATCH"] * 8
        assert {each.path.rpartition("/")[2] for each in asking.asked[1:]} == {name}
        assert {each.content for each in asking.asked[1:]} == {"application/merge-patch+json"}
        series = [each.body["series"] for each in asking.asked[1:] if each.body]
        assert [each["count"] for each in series] == [2, 4, 8, 16, 32, 64, 124, 128]
        assert series[-1]["lastObservedTime"] == "2026-11-21T12:02:07.000000Z"

    run(story())


@pytest.mark.parametrize(
    ("second", "want"),
    [
        pytest.param((POOL, OPEN, "Shift", 600.0, Importance.NORMAL), ["POST", "PATCH"], id="the same in ten minutes"),
        pytest.param((POOL, OPEN, "Shift", 601.0, Importance.NORMAL), ["POST", "POST"], id="the same much later"),
        pytest.param((POOL, CLOSED, "Shift", 1.0, Importance.NORMAL), ["POST", "POST"], id="another reason"),
        pytest.param((POOL, OPEN, "Hold", 1.0, Importance.NORMAL), ["POST", "POST"], id="another action"),
        pytest.param((POOL, OPEN, "Shift", 1.0, Importance.WARNING), ["POST", "POST"], id="more important"),
        pytest.param(
            (replace(POOL, uid="other"), OPEN, "Shift", 1.0, Importance.NORMAL), ["POST", "POST"], id="another object"
        ),
    ],
)
def test_what_counts_as_a_repeat(second: tuple[Any, ...], want: list[str]) -> None:
    """The same words about the same object, within ten minutes since they were last said."""

    async def story() -> None:
        asking = Noting()
        events = Events(asking, "arbiter-0")
        about, reason, action, seconds, importance = second
        events.tell(POOL, OPEN, "Shift", NOON)
        events.tell(about, reason, action, after(seconds), importance)
        await events.send()
        assert asking.methods == want
        names = {each.body["metadata"]["name"] for each in asking.asked if each.method == "POST" and each.body}
        assert len(names) == want.count("POST")

    run(story())


def test_a_count_whose_event_is_gone_makes_it_again() -> None:
    """The API server lets go of events after an hour, or never took the first one."""

    async def story() -> None:
        asking = Noting(UnreachableError("away"), RejectedError("not found", 404))
        events = Events(asking, "arbiter-0")
        events.tell(POOL, OPEN, "Shift", NOON)
        await events.send()
        events.tell(POOL, OPEN, "Shift", after(1))
        await events.send()
        assert asking.methods == ["POST", "PATCH", "POST"]
        made = asking.asked[2].body
        assert made is not None
        assert made["series"] == {"count": 2, "lastObservedTime": "2026-11-21T12:00:01.000000Z"}
        assert events.lost == 1

    run(story())


@pytest.mark.parametrize(
    ("failure", "want_lost"),
    [
        pytest.param(UnreachableError("away"), 1, id="nobody answers"),
        pytest.param(DeniedError("the namespace is being terminated"), 1, id="no right"),
        pytest.param(RejectedError("invalid", 422), 1, id="our mistake"),
        pytest.param(ConflictError("already exists"), 0, id="sent twice"),
    ],
)
def test_an_event_that_is_not_taken_fails_nothing(failure: ClusterError, want_lost: int) -> None:
    """What is said after it is sent all the same."""

    async def story() -> None:
        asking = Noting(failure)
        events = Events(asking, "arbiter-0")
        events.tell(POOL, OPEN, "Shift", NOON)
        events.tell(POOL, CLOSED, "Hold", NOON)
        await events.send()
        assert (asking.methods, events.lost) == (["POST", "POST"], want_lost)

    run(story())


def test_a_refused_count_is_lost_and_no_more() -> None:
    """Only an event that is gone is made anew."""

    async def story() -> None:
        asking = Noting(None, RejectedError("invalid", 422))
        events = Events(asking, "arbiter-0")
        events.tell(POOL, OPEN, "Shift", NOON)
        events.tell(POOL, OPEN, "Shift", NOON)
        await events.send()
        assert (asking.methods, events.lost) == (["POST", "PATCH"], 1)

    run(story())


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that says something new each second, while the API server is away for a day, must not fill it."""
    monkeypatch.setattr(events_module, "SERIES", 3)
    monkeypatch.setattr(events_module, "WAITING", 4)

    async def story() -> None:
        asking = Noting()
        events = Events(asking, "arbiter-0")
        for number in range(10):
            events.tell(POOL, Reason(ReasonCode.TooFewRequests, f"{number} of 50 requests"), "Hold", after(number))
        assert events.lost == 6
        await events.send()
        events.tell(POOL, Reason(ReasonCode.TooFewRequests, "9 of 50 requests"), "Hold", after(10))
        events.tell(POOL, Reason(ReasonCode.TooFewRequests, "0 of 50 requests"), "Hold", after(10))
        await events.send()
        assert asking.methods == ["POST"] * 4 + ["PATCH", "POST"]

    run(story())


def test_events_are_sent_beside_the_pass() -> None:
    """Telling neither waits nor fails; sending goes on for ever."""

    async def story() -> None:
        asking = Noting()
        events = Events(asking, "arbiter-0")
        sending = asyncio.create_task(events.run())
        for want in (1, 2):
            events.tell(POOL, Reason(ReasonCode.WindowOpen, str(want)), "Shift", NOON)
            while len(asking.asked) < want:  # noqa: ASYNC110  what is waited for has no event
                await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait([sending])

    run(story())


def test_lengths_are_kept() -> None:
    """The API server refuses an event of which any part is too long."""

    async def story() -> None:
        asking = Noting()
        events = Events(asking, "i" * 200)
        node = replace(POOL, kind="Node", namespace="", name="n" * 253)
        events.tell(node, Reason(ReasonCode.NoNodeFits, "ä" * 600), "a" * 200, NOON)
        await events.send()
        body = asking.asked[0].body
        assert body is not None
        assert len(body["note"].encode()) == 1023
        assert body["note"].endswith("ä…")
        assert (len(body["action"]), len(body["reportingInstance"]), len(body["metadata"]["name"])) == (128, 128, 253)
        assert asking.asked[0].path == "/apis/events.k8s.io/v1/namespaces/default/events"
        assert "namespace" not in body["regarding"]

    run(story())


def test_a_text_is_cut_between_characters() -> None:
    """And only if it is too long."""
    assert shortened("x" * 1024, 1024) == "x" * 1024
    assert shortened("x" * 1025, 1024) == "x" * 1021 + "…"
    assert shortened("1234€", 6) == "123…"
