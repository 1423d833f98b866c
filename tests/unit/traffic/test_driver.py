"""The traffic driver must see every fault that is planted, and none that is not."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.traffic.attempts import Fault, Report
from tests.traffic.driver import Driver, Load, Traffic
from tests.unit.traffic.planted import Plant, Server, never, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOAD = Load(task="chat", clients=6, stream_tokens=20, deadline_s=10.0, pause_s=0.01)


def ran(server: Server, load: Load = LOAD, requests: int = 60) -> Report:
    """Run the clients until so many requests have ended, with a mark in the middle."""

    async def story() -> Report:
        async with serving(server) as url:
            driver = Driver(url, load)
            await driver.start()
            await driver.more(requests // 2)
            await driver.mark("middle")
            await driver.more(requests // 2)
            return await driver.stop()

    return asyncio.run(asyncio.wait_for(story(), 30.0))


def once(plant: Plant, *, stream: bool) -> Callable[[int, bool], Plant]:
    """A plan that does something to the fifth request of a kind."""
    seen: list[int] = []

    def plan(number: int, is_stream: bool) -> Plant:
        if is_stream is stream:
            seen.append(number)
            if len(seen) == 5:
                return plant
        return Plant.NOTHING

    return plan


def test_a_clean_server_has_no_failures_and_its_mark_is_proved() -> None:
    """A driver that cried wolf would hide what a swap breaks."""
    report = ran(Server(never))

    assert report.failed == ()
    verdict = report.verdict("middle")
    assert verdict.clean, verdict
    assert verdict.across
    assert {attempt.status for attempt in report.attempts} == {200}
    assert {attempt.events for attempt in report.attempts if attempt.stream} == {20}


@pytest.mark.parametrize(
    ("plant", "stream", "want"),
    [
        pytest.param(Plant.CUT, True, Fault.CUT, id="stream cut inside a chunk"),
        pytest.param(Plant.CUT_BETWEEN, True, Fault.CUT, id="stream cut between chunks"),
        pytest.param(Plant.RESET_INSIDE, True, Fault.RESET, id="stream reset"),
        pytest.param(Plant.RESET_BEFORE, True, Fault.RESET, id="stream reset before its answer"),
        pytest.param(Plant.CLOSE_BEFORE, True, Fault.CUT, id="stream closed before its answer"),
        pytest.param(Plant.BUSY, True, Fault.STATUS, id="stream 503"),
        pytest.param(Plant.NO_DONE, True, Fault.NO_DONE, id="stream without DONE"),
        pytest.param(Plant.NO_FINISH, True, Fault.NO_FINISH, id="stream with an invented DONE"),
        pytest.param(Plant.AFTER_DONE, True, Fault.MALFORMED, id="stream goes on after DONE"),
        pytest.param(Plant.ERROR, True, Fault.ERROR_EVENT, id="error inside a stream"),
        pytest.param(Plant.GARBLED, True, Fault.NOT_JSON, id="event is not JSON"),
        pytest.param(Plant.BAD_CHUNK, True, Fault.MALFORMED, id="wrong chunk size"),
        pytest.param(Plant.HANG, True, Fault.LATE, id="stream hangs"),
        pytest.param(Plant.RESET_BEFORE, False, Fault.RESET, id="plain reset before its answer"),
        pytest.param(Plant.CLOSE_BEFORE, False, Fault.CUT, id="plain closed before its answer"),
        pytest.param(Plant.BUSY, False, Fault.STATUS, id="plain 503"),
        pytest.param(Plant.SHORT, False, Fault.CUT, id="body shorter than it says"),
        pytest.param(Plant.ERROR, False, Fault.ERROR_EVENT, id="plain error with 200"),
        pytest.param(Plant.GARBLED, False, Fault.NOT_JSON, id="body is not JSON"),
        pytest.param(Plant.NO_FINISH, False, Fault.NO_FINISH, id="plain without finish_reason"),
        pytest.param(Plant.NO_LENGTH, False, Fault.MALFORMED, id="body without an end"),
        pytest.param(Plant.BAD_HEADER, False, Fault.MALFORMED, id="wrong header"),
        pytest.param(Plant.BAD_STATUS, False, Fault.MALFORMED, id="wrong status line"),
        pytest.param(Plant.BOTH, False, Fault.MALFORMED, id="two ways to tell the end"),
        pytest.param(Plant.HANG, False, Fault.LATE, id="plain hangs"),
    ],
)
def test_a_planted_fault_is_seen_once_for_what_it_is(plant: Plant, stream: bool, want: Fault) -> None:
    """One request of sixty is broken; the driver must name that one, and no other."""
    server = Server(once(plant, stream=stream))
    report = ran(server, Load("chat", clients=6, stream_tokens=20, deadline_s=0.6, pause_s=0.01))

    assert server.planted == 1
    assert len(report.failed) == 1, report
    (attempt,) = report.failed
    assert attempt.stream is stream
    assert attempt.failure
    assert attempt.failure.fault is want, report
    assert want in str(report)


def test_no_request_is_sent_twice() -> None:
    """A client that retried would turn a failure into a success."""
    server = Server(once(Plant.RESET_BEFORE, stream=False))
    report = ran(server)
    assert server.requests == len(report.attempts)


def test_a_failure_far_from_the_mark_is_none_around_it() -> None:
    """A verdict is about its own mark; the report still has the failure."""
    report = ran(Server(once(Plant.BUSY, stream=False)), requests=100)

    assert len(report.failed) == 1
    assert report.verdict("middle", window_s=0.0).clean
    assert not report.verdict("middle", window_s=60.0).clean


def test_connections_are_kept_or_not_as_asked() -> None:
    """Both ways must work through a swap, and they fail differently."""
    kept, new_each = Server(never), Server(never)

    report = ran(kept)
    assert kept.connections == 6
    assert sum(attempt.reused for attempt in report.attempts) == len(report.attempts) - 6

    report = ran(new_each, Load("chat", clients=6, stream_tokens=20, keep_alive=False))
    assert report.failed == ()
    assert new_each.connections == len(report.attempts)


def test_a_connection_closed_between_requests_is_no_failure() -> None:
    """A server may close what is idle; only a request that it had accepted must be answered."""

    async def story() -> tuple[int, Report]:
        connections: list[asyncio.StreamWriter] = []
        server = Server(never)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(writer)
            await server.serve(reader, writer)

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            driver = Driver(url, Load("chat", clients=1, stream_tokens=20, pause_s=0.2))
            await driver.start()
            await driver.more(1)
            await asyncio.sleep(0.05)
            connections[0].close()
            await driver.more(1)
            return len(connections), await driver.stop()

    opened, report = asyncio.run(asyncio.wait_for(story(), 10.0))
    assert opened == 2
    assert report.failed == ()


def test_a_server_that_is_gone_is_a_failure_of_each_request() -> None:
    """Refused connections are failed requests, not a reason to wait."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"

    async def story() -> Report:
        driver = Driver(url, LOAD)
        await driver.start()
        await driver.more(12)
        return await driver.stop()

    report = asyncio.run(asyncio.wait_for(story(), 10.0))
    assert {attempt.failure.fault for attempt in report.attempts if attempt.failure} == {Fault.CONNECT}
    assert len(report.failed) == len(report.attempts)


def test_a_mark_without_streams_is_refused() -> None:
    """A driver that streams nothing could not prove that no stream was cut."""

    async def story() -> None:
        async with serving(Server(lambda _, stream: Plant.BUSY if stream else Plant.NOTHING)) as url:
            driver = Driver(url, Load("chat", clients=2, stream_tokens=20, deadline_s=0.3))
            await driver.start()
            with pytest.raises(TimeoutError):
                await driver.mark("nothing streams")
            await driver.stop()

    asyncio.run(asyncio.wait_for(story(), 10.0))


def test_a_mark_has_one_name() -> None:
    """A verdict is asked for by name."""

    async def story() -> None:
        async with serving(Server(never)) as url:
            driver = Driver(url, LOAD)
            await driver.start()
            await driver.mark("once")
            with pytest.raises(ValueError, match="once"):
                await driver.mark("once")
            await driver.stop()

    asyncio.run(asyncio.wait_for(story(), 10.0))


def test_the_split_of_each_step_is_seen() -> None:
    """A ramp is proved step by step: each split belongs to the requests between its marks."""

    async def story() -> Report:
        server = Server(never, new_weight=0)
        async with serving(server) as url:
            driver = Driver(url, LOAD)
            await driver.start()
            for weight in (10, 50, 100, 0):
                await driver.mark(f"{weight} %")
                server.new_weight = weight
                await driver.settle()
                await driver.mark(f"all at {weight} %")
                await driver.more(150)
            return await driver.stop()

    report = asyncio.run(asyncio.wait_for(story(), 30.0))
    assert report.failed == ()
    edges = [f"all at {weight} %" for weight in (10, 50, 100, 0)]
    steps = zip((10, 50, 100, 0), edges, [f"{weight} %" for weight in (50, 100, 0)] + [None], strict=True)
    for weight, after, before in steps:
        split = report.split(after, before)
        assert split.within({"new": weight, "old": 100 - weight}), (weight, str(split))
    assert not report.split("all at 100 %", "0 %").within({"new": 50, "old": 50})


@pytest.fixture
def thread_url() -> Iterator[str]:
    """A clean server in another thread."""
    started, address = threading.Event(), []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with serving(Server(never)) as url:
            address.append(url)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    started.wait(10.0)
    yield address[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(10.0)
    loop.close()


def test_traffic_runs_beside_a_test_that_blocks(thread_url: str) -> None:
    """Cluster tests call kubectl and wait for it; the clients must go on meanwhile."""
    with Traffic(thread_url, LOAD) as traffic:
        traffic.mark("here")
        threading.Event().wait(0.2)
        traffic.settle()
        traffic.more(6)
        assert traffic.seen().attempts

    assert traffic.report.verdict("here").clean, traffic.report
    assert not [thread for thread in threading.enumerate() if thread.name == "traffic"]
