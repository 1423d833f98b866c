"""Several worker processes as one router: their books added up, and what remains of one that died."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arbiter.core.feed import Feed
from arbiter.core.stored import Stored
from arbiter.core.traffic import Side
from arbiter.errors import CorruptStateError
from arbiter.router import workers
from arbiter.router.accounting import Ledger, Outcome
from arbiter.router.admin import Standing
from arbiter.router.metric_families import DURATION, IN_FLIGHT, LOST, WORKER_EXITS, WORKERS
from arbiter.router.metrics import FORGET_S, Meter
from arbiter.router.worker_books import Merged
from arbiter.router.workers import MESSAGE_BYTES, Channel, Parent, Reporter, bind
from tests.unit.router.router_examples import START_MS, table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from arbiter.router.accounting import Page

DURATIONS = ("chat", "model-old", "old", "llamacpp", "chat", "")


class Worker:
    """One worker's books, and how it tells them, without a process."""

    def __init__(self, merged: Merged, number: int) -> None:
        """It starts at the loop's second 100, at the beginning of a slice."""
        self.merged = merged
        self.number = number
        self.meter = Meter()
        self.ledger = Ledger(merged.epoch, self.meter, 100.0, START_MS)
        self.standing = Standing(self.meter)
        merged.join(number, START_MS)

    def obey(self, generation: int, now: float = 100.0) -> Worker:
        """A table comes."""
        self.ledger.obey(table(generation), now)
        self.standing.obey(table(generation))
        return self

    def serve(self, now: float, n: int = 1) -> Worker:
        """Answer some attempts at once."""
        for _ in range(n):
            self.ledger.route("chat", Side.OLD, now).finish(Outcome.OK, now, 0)
        return self

    def tell(self, now: float, ask: int = 0) -> None:
        """Report everything that changed, as a reporter does."""
        reading = self.ledger.read(now)
        changed = [self._text(page) for page in reading.pages if page.told is not page.freeze()]
        for message in (
            {"kind": "slices", "slices": changed},
            {"kind": "metrics", "changes": list(self.meter.changes())},
            {"kind": "told", "readMs": reading.read_ms, "ask": ask, "standing": self.standing.to_fields()},
        ):
            self.merged.take(self.number, Stored(json.loads(json.dumps(message)), "message"))

    @staticmethod
    def _text(page: Page) -> object:
        page.told = page.freeze()
        return page.told.to_fields()


def routed(merged: Merged, now: float = 200.0) -> dict[int, int]:
    """Attempts at the old side by the start of the slice, in seconds from the first."""
    feed = merged.feed(START_MS + int((now - 100.0) * 1000))
    assert Feed.from_text(feed.to_text()) == feed
    return {(each.start_ms - START_MS) // 1000: each.side(Side.OLD).routed for each in feed.slices}


def test_the_slices_of_all_workers_are_one_routers() -> None:
    """The operator sees a router, not processes."""
    merged = Merged("pod/1")
    a, b = (Worker(merged, number).obey(1) for number in range(2))
    a.serve(101.0, 2).serve(116.0, 1)
    b.serve(102.0, 3)
    a.tell(117.0)
    b.tell(118.0)
    assert routed(merged) == {0: 5, 15: 1}
    assert merged.metrics().histogram(DURATION, DURATIONS).count == 6
    a.serve(119.0)
    a.tell(120.0)
    assert routed(merged) == {0: 5, 15: 2}


def test_a_slice_is_over_when_it_is_over_for_the_slowest_worker() -> None:
    """Else the operator would take a slice of which a part is still to come."""
    merged = Merged("pod/1")
    a, b = (Worker(merged, number).obey(1) for number in range(2))
    a.tell(131.0)
    assert merged.feed(START_MS + 99_000).read_ms == START_MS
    b.tell(117.0)
    assert merged.feed(START_MS + 99_000).read_ms == START_MS + 17_000


def test_workers_that_change_tables_one_after_the_other_make_slices_of_both() -> None:
    """Each attempt is booked under the table that chose its side."""
    merged = Merged("pod/1")
    a, b = (Worker(merged, number).obey(1) for number in range(2))
    a.obey(2, 105.0).serve(106.0, 2)
    b.serve(106.0, 3)
    a.tell(107.0)
    b.tell(107.0)
    assert merged.acknowledgement().obeyed is None
    seen = {each.generation: each.side(Side.OLD).routed for each in merged.feed(START_MS).slices}
    assert seen == {1: 3, 2: 2}
    b.obey(2, 108.0).tell(109.0)
    obeyed = merged.acknowledgement().obeyed
    assert obeyed is not None
    assert obeyed.generation == 2


def test_the_feed_keeps_the_last_forty_slice_times_of_all_workers() -> None:
    """As a router of one process does."""
    merged = Merged("pod/1")
    a, b = (Worker(merged, number).obey(1) for number in range(2))
    for step in range(50):
        for each in (a, b):
            each.serve(101.0 + 15 * step).tell(102.0 + 15 * step)
    assert routed(merged) == {15 * step: 2 for step in range(10, 50)}


def test_of_a_dead_worker_what_was_over_and_told_stays_and_the_rest_is_withheld() -> None:
    """The operator finds a hole and skips it: no guess, and no engine blamed for requests that we cut."""
    merged = Merged("pod/1")
    dying, other = (Worker(merged, number).obey(1) for number in range(2))
    dying.serve(101.0, 2)
    dying.serve(116.0, 4)
    dying.ledger.route("chat", Side.OLD, 117.0)
    dying.serve(131.0, 8)
    dying.tell(146.0)
    other.serve(101.0).serve(116.0).serve(131.0).serve(146.0).tell(146.0)
    assert routed(merged) == {0: 3, 15: 6, 30: 9, 45: 1}
    assert merged.leave(0, START_MS + 47_000, told_all=False) == 1
    assert routed(merged) == {0: 3, 30: 9}
    fresh = Worker(merged, 0).obey(1)
    for each in (fresh, other):
        each.serve(161.0).tell(162.0)
    assert routed(merged) == {0: 3, 30: 9, 60: 2}


def test_slice_times_that_a_dead_worker_never_told_of_are_withheld_too() -> None:
    """Between its last report and its death it may have served."""
    merged = Merged("pod/1")
    dying, other = (Worker(merged, number).obey(1) for number in range(2))
    dying.serve(114.0).tell(114.5)
    other.serve(114.0).serve(116.0).serve(131.0).tell(131.0)
    merged.leave(0, START_MS + 16_500, told_all=False)
    assert routed(merged) == {30: 1}


def test_prometheus_keeps_what_a_dead_worker_counted_and_counts_what_was_lost() -> None:
    """Counters never fall, and nothing that was running vanishes without a trace."""
    merged = Merged("pod/1")
    worker = Worker(merged, 0).obey(1).serve(101.0, 3)
    worker.ledger.route("chat", Side.OLD, 101.0)
    worker.ledger.route("chat", Side.NEW, 101.0)
    worker.tell(102.0)
    assert merged.metrics().value(IN_FLIGHT, ("chat", "old")) == 1
    merged.leave(0, START_MS + 3_000, told_all=False)
    Worker(merged, 0).obey(1).serve(104.0).tell(105.0)
    total = merged.metrics()
    assert total.histogram(DURATION, DURATIONS).count == 4
    assert (total.value(LOST, ("chat", "old")), total.value(LOST, ("chat", "new"))) == (1, 1)
    assert (total.value(WORKER_EXITS), total.value(WORKERS), total.value(IN_FLIGHT, ("chat", "old"))) == (1, 1, 0)


def test_metrics_of_a_model_that_left_the_table_are_forgotten_after_a_while() -> None:
    """Also those that a dead worker left: swaps go on for months, and each brings a model."""
    merged = Merged("pod/1")
    Worker(merged, 0).obey(1).serve(101.0, 3).tell(102.0)
    merged.leave(0, START_MS + 3_000, told_all=True)
    for now, want in ((0.0, 3), (FORGET_S, 3), (FORGET_S + 1.0, 0)):
        merged.retain({"chat": {"another"}}, now)
        assert merged.metrics().histogram(DURATION, DURATIONS).count == want


def test_a_worker_that_ended_in_order_leaves_no_hole() -> None:
    """It told everything before."""
    merged = Merged("pod/1")
    ending, other = (Worker(merged, number).obey(1) for number in range(2))
    ending.serve(101.0, 2).tell(102.0)
    other.serve(103.0).tell(104.0)
    assert merged.leave(0, START_MS + 5_000, told_all=True) == 0
    assert routed(merged) == {0: 3}
    assert merged.metrics().value(WORKER_EXITS) == 0


def test_the_router_is_ready_as_soon_as_one_worker_is() -> None:
    """The others' connections go to whoever listens."""
    merged = Merged("pod/1")
    assert merged.missing() == "it has no workers"
    a, b = Worker(merged, 0), Worker(merged, 1)
    assert merged.missing() == "its workers are starting"
    a.tell(100.0)
    assert merged.missing() in {"it has no table yet", "its workers are starting"}
    b.obey(1).tell(100.0)
    assert merged.missing() == ""


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"kind": "babble"},
        {"kind": "slices", "slices": [{}]},
        {"kind": "slices", "slices": [], "more": 1},
        {"kind": "told", "readMs": -1, "ask": 0, "standing": {}},
    ],
)
def test_what_no_worker_tells_is_refused(message: dict[str, object]) -> None:
    """A worker that cannot be understood is replaced, not guessed at."""
    merged = Merged("pod/1")
    merged.join(0, START_MS)
    with pytest.raises(CorruptStateError):
        merged.take(0, Stored(message, "message"))


# With real processes.

COMMAND = (sys.executable, str(Path(__file__).with_name("worker_program.py")))


def unix_ms() -> int:
    """The wall clock, as the workers see it."""
    return int(time.time() * 1000)  # noqa: TID251  real processes


async def until(holds: Callable[[], Awaitable[bool] | bool]) -> None:
    """Wait until something holds, for at most ten seconds."""
    async with asyncio.timeout(10.0):
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)


def run_parent(story: Callable[[Parent], Awaitable[None]], count: int = 2) -> None:
    """Run a story with a parent of real processes; none of them outlives it."""

    async def told() -> None:
        parent = Parent(COMMAND, count, Merged("pod/1"), unix_ms)
        parent.publish("table", table(3, slice_ms=3_600_000).to_text())
        parent.start()
        try:
            await until(lambda: parent.acknowledgement().obeyed is not None)
            await story(parent)
        finally:
            await parent.stop(5.0)
        assert parent.pids() == []

    asyncio.run(told())


async def attempts(parent: Parent) -> int:
    """Attempts at the old side that the metrics tell of, fresh."""
    await parent.ask()
    return parent.merged.metrics().histogram(DURATION, DURATIONS).count


def test_a_parent_hands_out_tables_and_adds_up_what_its_workers_count() -> None:
    """A question is answered with what is true now, not with the last report."""

    async def story(parent: Parent) -> None:
        assert parent.acknowledgement().workers == 2
        parent.publish("attempts", "5")
        assert await attempts(parent) == 10
        feed = Feed.from_text((await parent.feed()).decode())
        assert sum(each.side(Side.OLD).ok for each in feed.slices) == 10
        assert b"arbiter_router_workers 2\n" in await parent.metrics()
        parent.publish("table", table(4, slice_ms=3_600_000).to_text())
        await parent.ask()
        obeyed = parent.acknowledgement().obeyed
        assert obeyed is not None
        assert obeyed.generation == 4
        assert parent.missing() == ""

    run_parent(story)


def test_a_worker_that_is_killed_is_replaced_and_its_counts_stay(caplog: pytest.LogCaptureFixture) -> None:
    """The other one serves on; the new one gets the table, and what was counted before does not fall."""

    async def story(parent: Parent) -> None:
        parent.publish("open", "2", keep=False)
        parent.publish("attempts", "5", keep=False)
        assert await attempts(parent) == 10
        before = parent.pids()
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: len(parent.pids()) == 2 and parent.pids() != before)
        await until(lambda: parent.acknowledgement().obeyed is not None)
        assert before[1] in parent.pids()
        assert await attempts(parent) == 10
        total = parent.merged.metrics()
        assert (total.value(WORKER_EXITS), total.value(LOST, ("chat", "old"))) == (1, 2)
        assert Feed.from_text((await parent.feed()).decode()).slices == ()

    with caplog.at_level(logging.ERROR):
        run_parent(story)
    assert "ended with -9; 2 requests were open" in caplog.text


@pytest.mark.parametrize(
    ("topic", "want_log"),
    [
        pytest.param("die", "ended with 3", id="dies"),
        pytest.param("hang", "was silent for", id="hangs"),
        pytest.param("babble", "something unknown: 'babble'", id="cannot be understood"),
    ],
)
def test_a_worker_that_fails_by_itself_is_replaced(
    topic: str, want_log: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that hangs: its loop serves nobody, and nobody else would notice."""
    monkeypatch.setattr(workers, "SILENT_S", 3.0)

    async def story(parent: Parent) -> None:
        before = parent.pids()
        parent.publish(topic, "", keep=False)
        await until(lambda: len(parent.pids()) == 1 and parent.pids() != before)
        await until(lambda: parent.acknowledgement().obeyed is not None)

    with caplog.at_level(logging.ERROR):
        run_parent(story, count=1)
    assert want_log in caplog.text


def test_workers_that_are_told_to_end_tell_the_last_before() -> None:
    """A restart in order loses no count."""

    async def story(parent: Parent) -> None:
        parent.publish("attempts", "7")
        await parent.stop(5.0)
        assert parent.missing() == "it is draining"
        total = parent.merged.metrics()
        assert (total.histogram(DURATION, DURATIONS).count, total.value(WORKER_EXITS)) == (14, 0)

    run_parent(story)


def run_reporter(story: Callable[[Channel, list[object]], Awaitable[None]]) -> None:
    """Run a story with a reporter in this process and the parent's end of its channel."""

    async def told() -> None:
        ends = socket.socketpair()
        ours, theirs = [await Channel.open(end) for end in ends]
        calls: list[object] = []
        meter = Meter()
        ledger = Ledger("pod/1", meter, asyncio.get_running_loop().time(), START_MS)
        reporter = Reporter(theirs, ledger, Standing(meter), lambda *note: calls.append(note), calls.append)
        reporting = asyncio.create_task(reporter.run())
        async with asyncio.timeout(5.0):
            await story(ours, calls)
            ours.close()
            await asyncio.wait([reporting])
        assert calls[-1] is None
        theirs.close()
        if error := reporting.exception():
            raise error

    asyncio.run(told())


def test_a_worker_passes_on_what_its_parent_says_and_ends_when_it_is_gone() -> None:
    """A worker without a parent would serve on by a table that nobody can change."""

    async def story(parent: Channel, calls: list[object]) -> None:
        parent.send('{"kind":"note","topic":"table","text":"{}"}')
        parent.send('{"kind":"drain","seconds":[2.5]}')
        parent.send('{"kind":"tell","ask":7}')
        asked = 0
        while asked != 7:
            message = await parent.receive()
            assert message is not None
            asked = message.integer("ask") if message.text("kind") == "told" else 0
        assert calls == [("table", "{}"), 2.5]

    run_reporter(story)


def test_a_worker_that_does_not_understand_its_parent_ends() -> None:
    """They are of one version, so it is a fault."""

    async def story(parent: Channel, calls: list[object]) -> None:
        parent.send('{"kind":"babble"}')
        await until(lambda: calls == [None])

    with pytest.raises(CorruptStateError, match="unknown: 'babble'"):
        run_reporter(story)


@pytest.mark.parametrize(
    ("data", "want"),
    [
        pytest.param(b"\0\0\0\1{", "is not JSON", id="not JSON"),
        pytest.param((MESSAGE_BYTES + 1).to_bytes(4, "big"), "bytes", id="endless"),
    ],
)
def test_a_message_that_is_none_is_refused(data: bytes, want: str) -> None:
    """Nothing is read into memory on the word of four bytes."""

    async def story() -> None:
        ours, theirs = socket.socketpair()
        with ours:
            ours.sendall(data)
            channel = await Channel.open(theirs)
            with pytest.raises(CorruptStateError, match=want):
                await channel.receive()
            channel.close()

    asyncio.run(story())


def test_several_sockets_share_a_port_only_when_they_are_meant_to() -> None:
    """A second router on the same port by mistake must be an error."""
    with bind("127.0.0.1", 0, shared=True) as one:
        port = one.getsockname()[1]
        with bind("127.0.0.1", port, shared=True) as two:
            one.listen()
            two.listen()
            assert two.getsockname() == one.getsockname()
        with pytest.raises(OSError, match="in use"):
            bind("127.0.0.1", port, shared=False)
