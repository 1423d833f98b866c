"""Following a table in a cluster, against a server on the loopback that answers as an API server does."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from arbiter.kubeapi import watching
from arbiter.router import follow as following
from arbiter.router import kept_routes
from arbiter.router.fence import STILL
from arbiter.router.follow import Source, follow
from arbiter.router.kept_routes import FILE, Kept
from tests.unit.core import route_examples
from tests.unit.kubeapi.api_server import Answer, Asked, Scripted, Stocked, connection_to

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine
    from pathlib import Path

    from arbiter.core.routes import RouteTable
    from tests.unit.kubeapi.api_server import ApiServer

OLD, NEW = "smollm2-0a1b2c3d4e", "qwen3-0a1b2c3d4e"
"""The Services of the two sides."""


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses, and what was kept is used for a reason only, not because time passed."""
    monkeypatch.setattr(watching, "PAUSE_S", (0.01, 0.04))
    monkeypatch.setattr(following, "KEPT_AFTER_S", 60.0)


def of(generation: int, new: int | None = None, epoch: int = 3) -> RouteTable:
    """A table with this weight on the new side, or with the old side alone."""
    task = route_examples.task(new, 100 if new is None else 100 - new)
    return replace(route_examples.table(task), epoch=epoch, generation=generation)


class Router:
    """What a router was told, in order."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        """It keeps its table beside the kubeconfig."""
        self.server = server
        self.folder = folder
        self.told: list[object] = []
        self.refusals: list[tuple[str, str]] = []

    @asynccontextmanager
    async def running(self, *, keeping: bool = True) -> AsyncGenerator[None, None]:
        """Follow for as long as this lasts."""
        connection = connection_to(self.server, self.folder)
        source = Source(connection, "team", "pool-routes", self.folder if keeping else None, lambda: 0.5)
        task = asyncio.create_task(
            follow(
                source,
                lambda table: self.told.append(table.generation),
                lambda reason, message: self.refusals.append((reason, message)),
                lambda service, urls: self.told.append((service, *urls)),
            )
        )
        try:
            yield
        finally:
            assert not task.done(), task.exception()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await connection.close()


def run(story: Coroutine[None, None, None]) -> None:
    """Run a story on the router's loop, no longer than a test may take."""

    async def limited() -> None:
        await asyncio.wait_for(story, 10.0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(limited())


async def until(true: Callable[[], object]) -> None:
    """Wait for something to become true."""
    while not true():  # noqa: ASYNC110  what is waited for has no event
        await asyncio.sleep(0.002)


def write(server: Stocked, table: RouteTable | None, key: str = "routes.json") -> None:
    """What the operator writes."""
    server.put("configmaps", "pool-routes", data={key: table.to_text() if table else "{"})


def place(server: Stocked, service: str, *hosts: str, unready: str = "", name: str = "1") -> None:
    """What the cluster writes about a Service's pods."""
    endpoints = [{"addresses": [host], "conditions": {"ready": host != unready}} for host in (*hosts, unready) if host]
    labels = {"kubernetes.io/service-name": service}
    slices: dict[str, Any] = {"addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints}
    server.put("endpointslices", f"{service}-{name}", labels, **slices)


def test_endpoints_are_told_before_the_table_that_names_them_and_again_as_they_change(tmp_path: Path) -> None:
    """A request routed by a table whose endpoints are not known yet would wait or be refused for nothing."""

    async def story() -> None:
        server = Stocked()
        router = Router(server, tmp_path)
        async with server.up():
            write(server, of(1))
            place(server, OLD, "10.0.0.1", unready="10.0.0.2")
            place(server, "somebody-elses", "10.9.9.9")
            async with router.running():
                await until(lambda: 1 in router.told)
                assert router.told == [(OLD, "http://10.0.0.1:8080"), 1]
                place(server, OLD, "10.0.0.1", "10.0.0.2")
                await until(lambda: len(router.told) == 3)
                place(server, NEW, "10.0.1.1")
                write(server, of(2, 10))
                await until(lambda: 2 in router.told)
                place(server, NEW, "10.0.1.1", "10.0.1.2", name="other")
                await until(lambda: len(router.told) == 6)
                server.delete("endpointslices", f"{NEW}-other")
                await until(lambda: len(router.told) == 7)
        both = (OLD, "http://10.0.0.1:8080", "http://10.0.0.2:8080")
        new = (NEW, "http://10.0.1.1:8080")
        assert router.told[2:] == [both, new, 2, (*new, "http://10.0.1.2:8080"), new]
        assert router.refusals == []

    run(story())


def test_services_that_a_table_no_longer_names_are_no_longer_followed(tmp_path: Path) -> None:
    """And when one is named again, its endpoints are told again, because the router forgot them."""

    async def story() -> None:
        server = Stocked()
        router = Router(server, tmp_path)
        async with server.up():
            place(server, OLD, "10.0.0.1")
            place(server, NEW, "10.0.1.1")
            write(server, of(1, 10))
            async with router.running():
                await until(lambda: 1 in router.told)
                write(server, of(2))
                await until(lambda: 2 in router.told)
                place(server, NEW, "10.0.1.2")
                place(server, OLD, "10.0.0.2")
                await until(lambda: router.told[-1] == (OLD, "http://10.0.0.2:8080"))
                assert (NEW, "http://10.0.1.2:8080") not in router.told
                write(server, of(3, 10))
                await until(lambda: 3 in router.told)
                assert router.told[-2:] == [(NEW, "http://10.0.1.2:8080"), 3]

    run(story())


def test_a_table_does_not_wait_for_endpoints_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where they may not be read, tables with addresses of their own still work, and the log says what is missing."""
    monkeypatch.setattr(following, "ENDPOINTS_WAIT_S", 0.05)

    async def story() -> None:
        server = Stocked()
        server.forbidden.add("endpointslices")
        router = Router(server, tmp_path)
        async with server.up():
            write(server, of(1))
            async with router.running():
                await until(lambda: 1 in router.told)
                assert router.told == [1]
                server.forbidden.clear()
                place(server, OLD, "10.0.0.1")
                await until(lambda: len(router.told) == 2)

    run(story())
    assert any("cannot list endpointslices" in record.getMessage() for record in caplog.records)


def test_a_service_without_pods_is_known_to_have_none(tmp_path: Path) -> None:
    """That is something else than not knowing."""

    async def story() -> None:
        server = Stocked()
        router = Router(server, tmp_path)
        async with server.up():
            write(server, of(1))
            async with router.running():
                await until(lambda: 1 in router.told)
                assert router.told == [(OLD,), 1]

    run(story())


def test_bad_tables_and_a_config_map_that_goes_leave_the_last_good_table(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is refused once, by its name, and the next good one is obeyed."""

    async def story() -> None:
        server = Stocked()
        router = Router(server, tmp_path)
        async with server.up(), router.running():
            await until(lambda: any(asked.watching for asked in server.asked))
            write(server, of(5))
            await until(lambda: 5 in router.told)
            write(server, None)
            write(server, None)
            write(server, of(5), key="other.json")
            write(server, of(4))
            write(server, of(9, epoch=2))
            await until(lambda: len(router.refusals) == 4)
            server.delete("configmaps", "pool-routes")
            write(server, of(6))
            await until(lambda: 6 in router.told)
        assert [each for each in router.told if isinstance(each, int)] == [5, 6]
        assert [reason for reason, _ in router.refusals] == ["unreadable", "unreadable", "stale", "stale"]
        assert router.refusals[1][1] == "ConfigMap pool-routes has no key routes.json"

    run(story())
    assert any("is gone; the last good table stays" in record.getMessage() for record in caplog.records)


def test_a_router_serves_on_while_the_api_server_is_away_and_catches_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that is in force is taken back; what changed meanwhile comes at once, and only that."""

    async def story() -> None:
        server = Stocked()
        router = Router(server, tmp_path)
        async with AsyncExitStack() as running:
            async with server.up():
                write(server, of(1))
                place(server, OLD, "10.0.0.1")
                await running.enter_async_context(router.running())
                await until(lambda: 1 in router.told)
            await until(lambda: "Cannot connect" in caplog.text)
            assert len(router.told) == 2
            place(server, OLD, "10.0.0.7")
            async with server.up(server.port):
                write(server, of(2))
                await until(lambda: len(router.told) == 4)
        assert sorted(router.told[2:], key=str) == [(OLD, "http://10.0.0.7:8080"), 2]

    caplog.set_level(logging.INFO)
    run(story())
    assert caplog.text.count("ConfigMap pool-routes is no longer followed") <= 3


def kept_text(folder: Path) -> str:
    """What stands in the folder."""
    path = folder / FILE
    return path.read_text() if path.exists() else ""


def test_a_router_that_starts_while_the_api_server_is_away_serves_as_it_did(tmp_path: Path) -> None:
    """The table and the endpoints of its earlier life are at hand at once, and replaced as soon as there are newer."""

    async def story() -> None:
        server = Stocked()
        before = Router(server, tmp_path)
        async with server.up():
            write(server, of(7, 10))
            place(server, OLD, "10.0.0.1")
            place(server, NEW, "10.0.1.1")
            async with before.running():
                await until(lambda: "10.0.1.1" in kept_text(tmp_path))
        after = Router(server, tmp_path)
        async with after.running():
            await until(lambda: 7 in after.told)
            assert sorted(after.told[:2], key=str) == [(NEW, "http://10.0.1.1:8080"), (OLD, "http://10.0.0.1:8080")]
            assert after.told[2:] == [7]
            place(server, NEW, "10.0.1.9")
            async with server.up(server.port):
                write(server, of(8, 20))
                await until(lambda: len(after.told) == 5)
                assert sorted(after.told[3:], key=str) == [(NEW, "http://10.0.1.9:8080"), 8]
                await until(lambda: "10.0.1.9" in kept_text(tmp_path))

    run(story())


def test_a_starting_router_does_not_wait_long_for_a_server_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load balancer in front of an API server that is gone takes connections and never answers."""
    monkeypatch.setattr(following, "KEPT_AFTER_S", 0.05)

    async def hang(_: Asked, __: Answer) -> None:
        await asyncio.sleep(60)

    async def story() -> None:
        server = Scripted(*[hang] * 9)
        router = Router(server, tmp_path)
        kept_routes.write(tmp_path, Kept(of(7), {OLD: ("http://10.0.0.1:8080",), "unnamed": ()}))
        async with server.up(), router.running():
            await until(lambda: 7 in router.told)
            assert router.told == [(OLD, "http://10.0.0.1:8080"), 7]

    run(story())


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        pytest.param(of(9, epoch=2), "stale", id="of an older leader"),
        pytest.param(None, "unreadable", id="unreadable"),
    ],
)
def test_what_was_refused_before_a_restart_is_refused_after_it(
    tmp_path: Path, offered: RouteTable | None, reason: str
) -> None:
    """Else a restart would hand the traffic to a leader that was replaced, or leave the router without a table."""

    async def story() -> None:
        server = Stocked()
        router = Router(server, tmp_path)
        kept_routes.write(tmp_path, Kept(of(7)))
        async with server.up():
            write(server, offered)
            place(server, OLD, "10.0.0.1")
            async with router.running():
                await until(lambda: len(router.told) == 2)
                assert sorted(router.told, key=str) == [(OLD, "http://10.0.0.1:8080"), 7]
                assert [each for each, _ in router.refusals] == [reason, STILL]
                assert router.refusals[0][1] == router.refusals[1][1]

    run(story())


def test_a_newer_table_is_obeyed_without_the_kept_one_in_between(tmp_path: Path) -> None:
    """Old endpoints are for when nobody can be asked."""

    async def story() -> None:
        server = Stocked()
        router = Router(server, tmp_path)
        kept_routes.write(tmp_path, Kept(of(7), {OLD: ("http://10.0.0.99:8080",)}))
        async with server.up():
            write(server, of(8))
            place(server, OLD, "10.0.0.1")
            async with router.running():
                await until(lambda: 8 in router.told)
                assert router.told == [(OLD, "http://10.0.0.1:8080"), 8]

    run(story())


def test_endpoints_that_were_just_listed_are_not_replaced_by_kept_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time to begin may come while a table still waits for the endpoints of one of its Services."""
    monkeypatch.setattr(following, "KEPT_AFTER_S", 1.5)
    monkeypatch.setattr(following, "ENDPOINTS_WAIT_S", 60.0)

    class HalfSilent(Stocked):
        async def answer(self, asked: Asked, answer: Answer) -> None:
            if asked.query.get("labelSelector", "").endswith(NEW):
                await until(lambda: 7 in router.told)
            await super().answer(asked, answer)

    server = HalfSilent()
    router = Router(server, tmp_path)

    async def story() -> None:
        kept_routes.write(tmp_path, Kept(of(7), {OLD: ("http://10.0.0.99:8080",)}))
        async with server.up():
            write(server, of(8, 10))
            place(server, OLD, "10.0.0.1")
            async with router.running():
                await until(lambda: 8 in router.told)
                assert router.told == [(OLD, "http://10.0.0.1:8080"), 7, (NEW,), 8]

    run(story())


def test_a_folder_that_cannot_be_written_is_told_once_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk must not stop the traffic."""

    async def story() -> None:
        server = Stocked()
        router = Router(server, tmp_path)
        (tmp_path / f"{FILE}.new").mkdir()
        async with server.up():
            write(server, of(1))
            async with router.running():
                await until(lambda: 1 in router.told)
                await until(lambda: "cannot be kept" in caplog.text)
                write(server, of(2))
                await until(lambda: 2 in router.told)
                await asyncio.sleep(0.05)

    run(story())
    assert caplog.text.count("cannot be kept for a restart") == 1


def test_each_table_is_kept_though_no_endpoint_changed(tmp_path: Path) -> None:
    """A weight that was raised must not fall back with a restart."""

    def generation() -> int | None:
        kept = kept_routes.read(tmp_path)
        return kept.table.generation if kept else None

    async def story() -> None:
        server = Stocked()
        router = Router(server, tmp_path)
        async with server.up():
            place(server, OLD, "10.0.0.1")
            write(server, of(1))
            async with router.running():
                await until(lambda: generation() == 1)
                write(server, of(2))
                await until(lambda: generation() == 2)

    run(story())


def test_nothing_is_kept_without_a_folder(tmp_path: Path) -> None:
    """A router on a developer's machine leaves nothing behind."""

    async def story() -> None:
        server = Stocked()
        router = Router(server, tmp_path)
        async with server.up():
            write(server, of(1))
            async with router.running(keeping=False):
                await until(lambda: 1 in router.told)
                await asyncio.sleep(0.02)
        assert not (tmp_path / FILE).exists()

    run(story())
