"""Leading, by a clock of the test's own: hours of it take no time, and every pause ends when it should."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arbiter.errors import ClusterError, ConflictError, DeposedError, RejectedError, UnreachableError
from arbiter.kubeapi import leading, lease
from arbiter.kubeapi.connection import Request
from arbiter.kubeapi.leading import Candidate, Tenure, WhileLeading, lead
from arbiter.kubeapi.lease import Record
from tests.unit.kubeapi.steps import run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

PATH = "/apis/coordination.k8s.io/v1/namespaces/arbiter/leases"
SOON_S = 15.0
"""Seconds in which a leader that died is to be replaced."""


class Hours:
    """A clock that moves on when everybody waits."""

    def __init__(self) -> None:
        """It begins anywhere."""
        self.time = 1000.0
        self._over = False
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        """Wait by this clock."""
        if self._over:
            raise asyncio.CancelledError
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self.time + max(seconds, 0.0), next(self._order), woken))
        await woken

    async def until(self, end: float) -> None:
        """Let everything happen up to a moment."""
        while True:
            for _ in range(20):
                await asyncio.sleep(0)
            if not self._waiting or self._waiting[0][0] > end:
                break
            when, _, woken = heapq.heappop(self._waiting)
            self.time = max(self.time, when)
            if not woken.done():
                woken.set_result(None)
        self.time = max(self.time, end)

    def end(self) -> None:
        """Let nobody wait any more, so that a test that failed ends too."""
        self._over = True
        for _, _, woken in self._waiting:
            woken.cancel()


class Store:
    """The API server, as far as Leases go."""

    def __init__(self) -> None:
        """It is empty."""
        self.lease: dict[str, Any] | None = None
        self.version = 1

    @property
    def record(self) -> Record:
        """What the Lease says."""
        assert self.lease is not None
        return Record.of(self.lease)

    def carry_out(self, request: Request) -> dict[str, Any]:
        """Do as it is asked, or refuse as the API server does."""
        assert request.path == (PATH if request.method == "POST" else f"{PATH}/arbiter-operator")
        if request.method == "GET":
            if self.lease is None:
                raise RejectedError("not found", 404)
            return self.lease
        body = request.body
        assert body is not None
        if request.method == "POST" and self.lease is not None:
            raise ConflictError("already exists")
        if request.method == "PUT":
            if self.lease is None:
                raise RejectedError("not found", 404)
            if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
                raise ConflictError("the object has been modified")
        self.version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self.version)}
        self.lease = {**body, "metadata": metadata}
        return self.lease


class Way:
    """One candidate's way to it, which may be broken.

    Attributes:
        fates: what becomes of its next requests: `well`, `refused` before anything was done, `lost` after it was, or
            `silent`, which means that no answer comes in time.
    """

    def __init__(self, store: Store, hours: Hours) -> None:
        """It is not broken."""
        self.fates: Iterator[str] = itertools.repeat("well")
        self._store = store
        self._hours = hours

    async def ask(self, request: Request) -> dict[str, Any]:
        """Ask, by the fate of this request."""
        fate = next(self.fates)
        await self._hours.sleep(0.01)
        if fate == "refused":
            raise UnreachableError("refused")
        if fate == "silent":
            await self._hours.sleep(request.seconds)
            raise UnreachableError("silent")
        answer = self._store.carry_out(request)
        if fate == "lost":
            raise UnreachableError("lost")
        return answer


class Process:
    """One operator that wants to lead.

    Attributes:
        leads: whether it does its work just now.
        spans: from when to when it did.
        way: its way to the API server.
        tenure: for how long it may lead.
    """

    def __init__(self, name: str, store: Store, hours: Hours, skew_s: float = 0.0) -> None:
        """It does not run yet."""
        self.leads = False
        self.spans: list[list[float]] = []
        self.way = Way(store, hours)
        self.tenure = Tenure()
        self._hours = hours
        self._candidate = Candidate(
            self.way,
            "arbiter",
            name,
            lambda: hours.time,
            lambda: datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=hours.time + skew_s),
            hours.sleep,
            self.tenure,
        )

    def start(self, work: Callable[[], Coroutine[Any, Any, str]] | None = None) -> asyncio.Task[str]:
        """Run it."""
        return asyncio.create_task(lead(self._candidate, work or self._work))

    async def _work(self) -> str:
        self.leads = True
        self.spans.append([self._hours.time, self._hours.time])
        try:
            while True:
                self.spans[-1][1] = self._hours.time
                await self._hours.sleep(0.25)
        finally:
            self.spans[-1][1] = self._hours.time
            self.leads = False


def play(story: Callable[[Hours, Store], Coroutine[Any, Any, None]]) -> None:
    """Run a story."""

    async def played() -> None:
        hours = Hours()
        try:
            await story(hours, Store())
        finally:
            hours.end()

    run(played())


async def stopped(hours: Hours, *tasks: asyncio.Task[Any]) -> None:
    """End what a test has begun, which gives the Lease back."""
    for task in tasks:
        task.cancel()
    await hours.until(hours.time + 10)
    assert all(task.done() for task in tasks)


async def kill(hours: Hours, process: Process, task: asyncio.Task[Any]) -> None:
    """End a process without letting it do anything more at the API server."""
    process.way.fates = itertools.repeat("refused")
    task.cancel()
    await hours.until(hours.time + 0.1)
    assert task.done()


def test_one_leads_and_renews_and_the_other_waits() -> None:
    """For hours, whatever the two clocks say."""

    async def story(hours: Hours, store: Store) -> None:
        one, two = Process("a_1", store, hours), Process("b_2", store, hours, skew_s=-7200)
        first = one.start()
        await hours.until(1001)
        second = two.start()
        await hours.until(1000 + 3600)
        assert (one.leads, two.leads) == (True, False)
        assert (store.record.holder, store.record.transitions) == ("a_1", 0)
        assert store.version == pytest.approx(1800, rel=0.02)
        await stopped(hours, second, first)

    play(story)


def test_a_leader_that_dies_is_replaced_soon() -> None:
    """Its Lease has to run out first, as seen by the other."""

    async def story(hours: Hours, store: Store) -> None:
        one, two = Process("a_1", store, hours), Process("b_2", store, hours, skew_s=7200)
        first = one.start()
        await hours.until(1001)
        second = two.start()
        await hours.until(1100)
        await kill(hours, one, first)
        await hours.until(1100 + SOON_S)
        assert two.leads
        assert two.spans[0][0] >= one.spans[0][1] + lease.HOLDS_S - lease.RENEW_S
        assert (store.record.holder, store.record.transitions) == ("b_2", 1)
        await stopped(hours, second)

    play(story)


def test_a_leader_that_ends_in_order_is_replaced_at_once() -> None:
    """It gives the Lease back, after its work has ended."""

    async def story(hours: Hours, store: Store) -> None:
        one, two = Process("a_1", store, hours), Process("b_2", store, hours)
        first = one.start()
        await hours.until(1001)
        second = two.start()
        await hours.until(1100)
        first.cancel()
        await hours.until(1100 + 2 * lease.LOOK_S)
        assert first.cancelled()
        assert two.leads
        await stopped(hours, second)

    play(story)


def test_work_that_ends_by_itself_gives_its_result_and_the_lease() -> None:
    """An operator that has nothing more to do does not block the next one."""

    async def story(hours: Hours, store: Store) -> None:
        async def short() -> str:
            await hours.sleep(5)
            return "done"

        async def wrong() -> str:
            await hours.sleep(5)
            raise RejectedError("a mistake", 400)

        first = Process("a_1", store, hours).start(short)
        await hours.until(1010)
        assert first.result() == "done"
        assert store.record.holder == ""
        second = Process("b_2", store, hours).start(wrong)
        await hours.until(1020)
        with pytest.raises(RejectedError, match="a mistake"):
            second.result()
        assert store.record.holder == ""

    play(story)


@pytest.mark.parametrize("fate", ["refused", "silent"])
def test_a_leader_that_cannot_renew_stops_before_its_lease_runs_out(fate: str) -> None:
    """Cut off from the API server it cannot know who leads, so it does not."""

    async def story(hours: Hours, store: Store) -> None:
        one = Process("a_1", store, hours)
        first = one.start()
        await hours.until(1100)
        renewed = store.record.renewed
        one.way.fates = itertools.repeat(fate)
        await hours.until(1110)
        assert not one.leads
        with pytest.raises(DeposedError, match=f"not renewed for 6 s: {fate}"):
            first.result()
        assert one.spans[0][1] <= 1100 + lease.RENEW_WITHIN_S + 0.25
        assert store.record.renewed == renewed, "one that was deposed no longer writes"

    play(story)


def test_a_short_trouble_does_not_cost_the_lead() -> None:
    """An API server restarts within some seconds."""

    async def story(hours: Hours, store: Store) -> None:
        one = Process("a_1", store, hours)
        first = one.start()
        await hours.until(1100)
        one.way.fates = itertools.chain(["refused"] * 4, ["lost"], itertools.repeat("well"))
        await hours.until(1200)
        assert one.leads
        assert store.record.transitions == 0
        await stopped(hours, first)

    play(story)


def test_a_leader_whose_lease_was_taken_stops() -> None:
    """Somebody wrote another name into it; whatever the reason, that one leads."""

    async def story(hours: Hours, store: Store) -> None:
        one = Process("a_1", store, hours)
        first = one.start()
        await hours.until(1100)
        assert store.lease is not None
        taken = lease.to_lease("arbiter", replace(store.record, holder="b_2"), str(store.version))
        store.lease = {**taken, "metadata": {**taken["metadata"], "resourceVersion": "999"}}
        await hours.until(1103)
        with pytest.raises(DeposedError, match="another process took the Lease: b_2 leads"):
            first.result()
        assert store.record.holder == "b_2"

    play(story)


def test_a_lease_that_was_removed_is_made_again_by_its_holder() -> None:
    """Nobody else makes it before it would have run out, or two would lead."""

    async def story(hours: Hours, store: Store) -> None:
        one, two = Process("a_1", store, hours), Process("b_2", store, hours)
        first = one.start()
        await hours.until(1001)
        second = two.start()
        await hours.until(1100)
        store.lease = None
        await hours.until(1200)
        assert (one.leads, two.spans, store.record.holder) == (True, [], "a_1")
        await stopped(hours, second, first)

    play(story)


def test_a_process_that_was_held_up_stops_though_nobody_took_its_lease() -> None:
    """A machine that slept must not lead on before it looked, and ends: others may have led meanwhile."""

    async def story(hours: Hours, store: Store) -> None:
        one = Process("a_1", store, hours)
        first = one.start()
        await hours.until(1100)
        hours.time += 60
        await hours.until(1161)
        with pytest.raises(DeposedError, match="this process did not run"):
            first.result()

    play(story)


def test_what_a_process_does_first_after_it_was_held_up_is_not_written() -> None:
    """It learns that it is deposed only once its pauses have ended; until then it goes on where it was."""

    async def story(hours: Hours, store: Store) -> None:
        one = Process("a_1", store, hours)
        writing = WhileLeading(one.way, one.tenure, lambda: hours.time)
        written: list[float] = []

        async def work() -> str:
            while True:
                await hours.sleep(0.25)
                await writing.ask(Request("GET", f"{PATH}/arbiter-operator", {}))
                written.append(hours.time)

        with pytest.raises(DeposedError):
            await writing.ask(Request("GET", f"{PATH}/arbiter-operator", {}))
        first = one.start(work)
        await hours.until(1100)
        last = written[-1]
        assert last > 1099
        hours.time += 60
        await hours.until(1161)
        assert written[-1] == last, "nothing was written after the clock went on"
        with pytest.raises(DeposedError, match="nothing is written any more"):
            first.result()

    play(story)


def test_one_that_ends_writes_nothing_once_its_work_is_cancelled() -> None:
    """The Lease is given back then, and another one may lead at any moment."""

    async def story(hours: Hours, store: Store) -> None:
        one = Process("a_1", store, hours)
        writing = WhileLeading(one.way, one.tenure, lambda: hours.time)
        first = one.start()
        await hours.until(1010)
        await stopped(hours, first)
        assert store.record.holder == ""
        with pytest.raises(DeposedError):
            await writing.ask(Request("GET", f"{PATH}/arbiter-operator", {}))

    play(story)


def test_work_that_does_not_end_keeps_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it may still write, nobody is let in by hand; the Lease runs out in its own time."""
    monkeypatch.setattr(leading, "STOP_S", 0.01)

    async def story(hours: Hours, store: Store) -> None:
        ends = asyncio.Event()

        async def stubborn() -> str:
            try:
                await hours.sleep(1e9)
            finally:
                await ends.wait()
            return ""

        first = Process("a_1", store, hours).start(stubborn)
        await hours.until(1100)
        first.cancel()
        await asyncio.wait([first])
        assert store.record.holder == "a_1"
        ends.set()
        await asyncio.sleep(0)

    play(story)


def test_an_error_of_work_that_is_stopped_does_not_hide_why() -> None:
    """The process ends because it was deposed; what its work said to that stands in the log."""

    async def story(hours: Hours, store: Store) -> None:
        one = Process("a_1", store, hours)

        async def upset() -> str:
            try:
                await hours.sleep(1e9)
            except asyncio.CancelledError:
                raise RejectedError("in the middle of something", 400) from None
            return ""

        first = one.start(upset)
        await hours.until(1100)
        one.way.fates = itertools.repeat("refused")
        await hours.until(1110)
        with pytest.raises(DeposedError):
            first.result()

    play(story)


def test_a_lease_that_cannot_be_given_back_runs_out() -> None:
    """Ending in order does not fail for that."""

    async def story(hours: Hours, store: Store) -> None:
        one = Process("a_1", store, hours)
        first = one.start()
        await hours.until(1100)
        one.way.fates = itertools.repeat("refused")
        first.cancel()
        await hours.until(1101)
        assert first.cancelled()
        assert store.record.holder == "a_1"

    play(story)


FATES = st.sampled_from(["well", "well", "well", "refused", "lost", "silent"])


@settings(max_examples=40)
@given(
    st.lists(FATES, min_size=1, max_size=30),
    st.lists(FATES, min_size=1, max_size=30),
    st.floats(-86400, 86400),
    st.floats(0, 20),
)
def test_two_never_lead_at_once(one_s: list[str], two_s: list[str], skew_s: float, later_s: float) -> None:
    """Whatever becomes of the requests of either, and whatever their clocks say."""

    async def story(hours: Hours, store: Store) -> None:
        processes = Process("a_1", store, hours), Process("b_2", store, hours, skew_s)
        for process, fates in zip(processes, (one_s, two_s), strict=True):
            process.way.fates = itertools.chain(itertools.islice(itertools.cycle(fates), 40), itertools.repeat("well"))
        tasks: list[asyncio.Task[str]] = []
        for process in processes:
            tasks.append(process.start())
            await hours.until(hours.time + later_s)
        for _ in range(200):
            await hours.until(hours.time + 1)
            assert not all(process.leads for process in processes)
            for number, process in enumerate(processes):
                if tasks[number].done():
                    assert isinstance(tasks[number].exception(), DeposedError)
                    tasks[number] = process.start()
        assert any(process.leads for process in processes)
        spans = sorted(span for process in processes for span in process.spans)
        assert all(one[1] <= two[0] for one, two in itertools.pairwise(spans))
        await stopped(hours, *tasks)

    play(story)


def test_errors_while_waiting_are_waited_out(caplog: pytest.LogCaptureFixture) -> None:
    """A role may come after its account; what stands in the way is told once."""

    async def story(hours: Hours, store: Store) -> None:
        one = Process("a_1", store, hours)
        one.way.fates = itertools.chain(["refused"] * 10, ["well", "lost"], itertools.repeat("well"))
        with caplog.at_level("INFO"):
            first = one.start()
            await hours.until(1020)
        assert one.leads
        assert sum("waiting to lead: refused" in each.message for each in caplog.records) == 1
        await stopped(hours, first)

    play(story)


def test_one_of_two_that_begin_at_once_leads() -> None:
    """Both see no Lease, and only one can make it."""

    async def story(hours: Hours, store: Store) -> None:
        processes = Process("a_1", store, hours), Process("b_2", store, hours)
        tasks = [process.start() for process in processes]
        await hours.until(1010)
        assert sorted(process.leads for process in processes) == [False, True]
        await stopped(hours, *tasks)

    play(story)


def test_an_error_is_a_cluster_error() -> None:
    """Whoever handles those of the API server handles this one too."""
    assert issubclass(DeposedError, ClusterError)
