"""The watch loop, against a real server on the loopback that does what real ones do rarely."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from arbiter.kubeapi import watching
from arbiter.kubeapi.resources import CONFIG_MAPS, Selection
from arbiter.kubeapi.watching import Event, Lost, Seen, Synced, watch
from tests.unit.kubeapi.api_server import (
    Answer,
    ApiServer,
    Asked,
    Scripted,
    bookmark,
    connection_to,
    line,
    named,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Step = Callable[[Asked, Answer], Awaitable[None]]

SELECTION = Selection.named(CONFIG_MAPS, "team", "routes")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses, and watches that may be short."""
    monkeypatch.setattr(watching, "PAUSE_S", (0.01, 0.04))
    monkeypatch.setattr(watching, "STEADY_S", 0.0)


def listing(version: int, *items: dict[str, Any]) -> Step:
    """A step that answers a list."""

    async def step(asked: Asked, answer: Answer) -> None:
        assert not asked.watching
        await answer.list(str(version), *items)

    return step


def watched(version: int, *events: tuple[str, dict[str, Any]] | bytes, end: str = "end") -> Step:
    """A step that answers a watch from this version, and ends it in order, cuts it or leaves it open."""

    async def step(asked: Asked, answer: Answer) -> None:
        assert (asked.watching, asked.version) == (True, str(version))
        await answer.begin()
        for event in events:
            await answer.send(event if isinstance(event, bytes) else line(*event))
        if end == "end":
            await answer.end()
        elif end == "cut":
            await answer.cut()
        else:
            await asyncio.sleep(60)

    return step


def failing(status: int, **headers: str) -> Step:
    """A step that answers an error."""

    async def step(_: Asked, answer: Answer) -> None:
        await answer.failure(status, **headers)

    return step


def told(server: ApiServer, folder: Path, count: int) -> list[Event]:
    """The first events of a watch, on uvloop as a router runs."""

    async def story() -> list[Event]:
        found: list[Event] = []
        async with server.up():
            connection = connection_to(server, folder)
            async with asyncio.timeout(5.0), aclosing(watch(connection, SELECTION, lambda: 0.5)) as events:
                async for event in events:
                    found.append(event)
                    if len(found) == count:
                        break
            await connection.close()
        return found

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(story())


def brief(events: list[Event]) -> list[str]:
    """Events as words: `a@1` is object a of version 1, `-a` its end."""

    def word(event: Event) -> str:
        match event:
            case Seen(name, None):
                return f"-{name}"
            case Seen(name, found):
                assert found is not None
                return f"{name}@{found['metadata']['resourceVersion']}"
            case Synced():
                return "synced"
            case Lost():
                return "lost"

    return [word(event) for event in events]


def test_a_watch_goes_on_where_the_list_ended(tmp_path: Path) -> None:
    """Between the two nothing is missed and nothing is told twice."""
    server = Scripted(
        listing(7, named("a", 3), named("b", 7)),
        watched(7, ("MODIFIED", named("a", 8)), ("DELETED", named("b", 9)), ("ADDED", named("c", 10)), end="hang"),
    )
    events = told(server, tmp_path, 6)
    assert brief(events) == ["a@3", "b@7", "synced", "a@8", "-b", "c@10"]
    first = events[0]
    assert isinstance(first, Seen)
    assert first.namespace == "team"
    asked = server.asked[1]
    assert asked.path == "/api/v1/namespaces/team/configmaps"
    assert asked.query["fieldSelector"] == "metadata.name=routes"
    assert asked.query["allowWatchBookmarks"] == "true"
    assert asked.headers["authorization"] == "Bearer open-sesame"
    shortest, longest = watching.WATCH_S
    assert int(asked.query["timeoutSeconds"]) == (shortest + longest) / 2


def test_after_an_orderly_end_the_next_watch_begins_at_the_last_bookmark(tmp_path: Path) -> None:
    """A bookmark keeps a quiet watch from starting at a version that is no longer kept, and is no event."""
    server = Scripted(
        listing(7, named("a", 3)),
        watched(7, ("BOOKMARK", bookmark(20))),
        watched(20, ("MODIFIED", named("a", 21))),
        watched(21, ("MODIFIED", named("a", 22)), end="hang"),
    )
    assert brief(told(server, tmp_path, 4)) == ["a@3", "synced", "a@21", "a@22"]


@pytest.mark.parametrize(
    "expired",
    [
        pytest.param(failing(410), id="as a status"),
        pytest.param(watched(7, ("ERROR", {"kind": "Status", "code": 410, "message": "too old"})), id="in the stream"),
    ],
)
def test_an_expired_version_lists_again_and_tells_only_what_differs(tmp_path: Path, expired: Step) -> None:
    """Nobody is told that anything was lost, because nothing was; what vanished meanwhile is told."""
    server = Scripted(
        listing(7, named("a", 3), named("b", 4), named("c", 5)),
        expired,
        listing(30, named("a", 3), named("b", 29)),
        watched(30, ("MODIFIED", named("a", 31)), end="hang"),
    )
    events = told(server, tmp_path, 7)
    without_synced = [word for word in brief(events) if word != "synced"]
    assert without_synced == ["a@3", "b@4", "c@5", "b@29", "-c", "a@31"]


def test_versions_that_expire_at_once_are_not_listed_without_a_pause(tmp_path: Path) -> None:
    """A server that is broken in this way must not be flooded with lists."""
    steps: list[Step] = []
    for _ in range(3):
        steps += [listing(7, named("a", 3)), failing(410)]
    server = Scripted(*steps, listing(8, named("a", 3)), watched(8, end="hang"))
    events = told(server, tmp_path, 3)
    assert brief(events) == ["a@3", "lost", "synced"]


def test_an_event_that_is_cut_is_told_once_whole(tmp_path: Path) -> None:
    """Half a line moves nothing on: the next watch begins before it."""
    cut = line("MODIFIED", named("a", 8))
    server = Scripted(
        listing(7, named("a", 3)),
        watched(7, cut[:-12], end="cut"),
        watched(7, cut, ("MODIFIED", named("a", 8)), ("MODIFIED", named("a", 9)), end="hang"),
    )
    assert brief(told(server, tmp_path, 6)) == ["a@3", "synced", "lost", "synced", "a@8", "a@9"]


def test_a_line_in_many_pieces_and_many_lines_in_one_piece_are_the_same(tmp_path: Path) -> None:
    """Events of megabytes come in pieces; small ones come together."""
    large = line("MODIFIED", named("a", 8, data={"routes.json": "x" * 6_000_000}))
    small = line("MODIFIED", named("a", 9)) + line("MODIFIED", named("a", 10))
    pieces = [large[i : i + 1_000_000] for i in range(0, len(large), 1_000_000)]
    server = Scripted(listing(7), watched(7, *pieces, small, end="hang"))
    assert brief(told(server, tmp_path, 4)) == ["synced", "a@8", "a@9", "a@10"]


def test_an_event_without_an_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever answers there, the router must live."""
    monkeypatch.setattr("arbiter.kubeapi.connection.LINE_BYTES", 1000)
    server = Scripted(
        listing(7),
        watched(7, *[b"x" * 600] * 4, end="hang"),
        watched(7, ("ADDED", named("a", 8)), end="hang"),
    )
    events = told(server, tmp_path, 4)
    assert brief(events) == ["synced", "lost", "synced", "a@8"]
    assert events[1] == Lost("an event of the API server is longer than 1000 bytes")


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(b"no json\n", id="no JSON"),
        pytest.param(b'"text"\n', id="no object"),
        pytest.param(b'{"type": "ADDED"}\n', id="nothing in it"),
        pytest.param(b'{"type": "ADDED", "object": {"metadata": {"name": "a"}}}\n', id="no version"),
        pytest.param(b'{"type": "ADDED", "object": {}}\n', id="no name"),
        pytest.param(b'{"type": "SHOUTED", "object": {}}\n', id="unknown event"),
        pytest.param(line("ERROR", {"code": 500, "message": "etcd is slow"}), id="an error that is not 410"),
        pytest.param(line("ERROR", {"message": "no code"}), id="an error without a code"),
    ],
)
def test_what_cannot_be_understood_is_asked_for_again(tmp_path: Path, broken: bytes) -> None:
    """The loop goes on from the last event that it understood."""
    server = Scripted(
        listing(7, named("a", 3)),
        watched(7, ("MODIFIED", named("a", 8)), broken, end="hang"),
        watched(8, ("MODIFIED", named("a", 9)), end="hang"),
    )
    assert brief(told(server, tmp_path, 6)) == ["a@3", "synced", "a@8", "lost", "synced", "a@9"]


def test_after_several_failures_everything_is_listed_again(tmp_path: Path) -> None:
    """A server restored from a backup would be silent about a version that it has not reached yet."""
    server = Scripted(
        listing(7000, named("a", 3)),
        watched(7000, ("BOOKMARK", bookmark(7000)), end="cut"),
        failing(503),
        failing(503),
        listing(40, named("a", 2)),
        watched(40, end="hang"),
    )
    events = told(server, tmp_path, 6)
    assert brief(events) == ["a@3", "synced", "lost", "lost", "a@2", "synced"]
    assert events[3] == Lost("the API server answered 503: no")


def test_a_watch_that_ends_without_a_word_is_followed_by_a_list(tmp_path: Path) -> None:
    """A server that came back from a backup quickly: it takes our version of the future and tells nothing."""
    server = Scripted(
        listing(700, named("a", 650)),
        watched(700, end="cut"),
        watched(700),
        listing(400, named("a", 401)),
        watched(400, ("MODIFIED", named("a", 402))),
        watched(402, end="hang"),
    )
    assert brief(told(server, tmp_path, 6)) == ["a@650", "synced", "lost", "synced", "a@401", "a@402"]


def test_failures_count_only_in_a_row(tmp_path: Path) -> None:
    """A connection that breaks now and then, with events in between, is no server that was away."""
    broken = [watched(7 + i, ("MODIFIED", named("a", 8 + i)), end="cut") for i in range(2 * watching.AWAY)]
    server = Scripted(listing(7), *broken, watched(7 + len(broken), ("DELETED", named("a", 99)), end="hang"))
    events = told(server, tmp_path, 1 + 3 * len(broken) + 1)
    assert [asked.watching for asked in server.asked] == [False, *[True] * (len(broken) + 1)]
    assert brief(events)[-1] == "-a"


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_no_answer_ends_the_loop(tmp_path: Path, status: int) -> None:
    """A role may be granted, a kind installed and a server mended while a router runs."""
    server = Scripted(failing(status), failing(status), listing(7, named("a", 3)), watched(7, end="hang"))
    assert brief(told(server, tmp_path, 3)) == ["lost", "a@3", "synced"]


def test_a_server_says_when_to_come_again(tmp_path: Path) -> None:
    """It protects itself so when it has too much to do."""

    async def quiet(asked: Asked, answer: Answer) -> None:
        assert asyncio.get_running_loop().time() - refused[0] >= 0.95
        await listing(7)(asked, answer)

    async def refusing(_: Asked, answer: Answer) -> None:
        refused.append(asyncio.get_running_loop().time())
        await answer.failure(429, retry_after="1")

    refused: list[float] = []
    assert brief(told(Scripted(refusing, quiet, watched(7, end="hang")), tmp_path, 2)) == ["lost", "synced"]


def test_watches_that_end_at_once_are_not_begun_without_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that ends each watch in order, and at once, counts as one that fails."""
    monkeypatch.setattr(watching, "STEADY_S", 1.0)
    server = Scripted(listing(7), watched(7), watched(7), watched(7), listing(7), watched(7, end="hang"))
    assert brief(told(server, tmp_path, 3)) == ["synced", "lost", "synced"]


def test_a_long_list_comes_in_pages(tmp_path: Path) -> None:
    """And when the pages take longer than they are kept, everything is asked for at once."""

    async def first(asked: Asked, answer: Answer) -> None:
        assert asked.query["limit"] == "500"
        await answer.list("7", named("a", 3), more="next")

    async def second(asked: Asked, answer: Answer) -> None:
        assert asked.query["continue"] == "next"
        await answer.list("7", named("b", 4))

    async def everything(asked: Asked, answer: Answer) -> None:
        assert "limit" not in asked.query
        await answer.list("9", named("c", 9))

    server = Scripted(first, second, failing(410), first, failing(410), everything, watched(9, end="hang"))
    assert sorted(brief(told(server, tmp_path, 6))) == sorted(["a@3", "b@4", "synced", "c@9", "-a", "-b"])


def test_a_slow_list_is_given_up_and_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes a request and never answers must not stop the loop for ever."""
    monkeypatch.setattr("arbiter.kubeapi.connection.ANSWER_S", 0.1)

    async def slow(_: Asked, __: Answer) -> None:
        await asyncio.sleep(60)

    events = told(Scripted(slow, listing(7, named("a", 3)), watched(7, end="hang")), tmp_path, 3)
    assert brief(events) == ["lost", "a@3", "synced"]
    assert events[0] == Lost("the API server did not answer GET /api/v1/namespaces/team/configmaps in time")


def test_a_watch_that_the_server_forgets_to_end_is_ended_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that a middle box dropped silently stays silent for a bounded time only."""
    monkeypatch.setattr(watching, "WATCH_S", (0.05, 0.05))
    monkeypatch.setattr(watching, "GRACE_S", 0.05)
    server = Scripted(listing(7), watched(7, end="hang"), watched(7, ("ADDED", named("a", 8)), end="hang"))
    assert brief(told(server, tmp_path, 4)) == ["synced", "lost", "synced", "a@8"]


@pytest.mark.parametrize(("draw", "want"), [(0.0, [1, 2, 4, 8, 16, 16]), (1.0, [0.5, 1, 2, 4, 8, 8])])
def test_pauses_double_and_chance_takes_up_to_a_half(
    monkeypatch: pytest.MonkeyPatch, draw: float, want: list[float]
) -> None:
    """A fleet of routers does not come back in one moment, and none waits for ever."""
    monkeypatch.setattr(watching, "PAUSE_S", (1.0, 16.0))
    assert [watching.pause_s(failures, draw) for failures in (*range(1, 6), 1_000_000)] == want
