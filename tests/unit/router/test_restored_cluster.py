"""A cluster that was restored from an old backup: what a router tells of it, and how a leader gets its ear again."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import uvloop

from arbiter.kubeapi import watching
from arbiter.router import follow as following
from arbiter.router import kept_routes
from arbiter.router.admin import Acknowledgement, Standing
from arbiter.router.follow import Source, follow
from arbiter.router.metrics import Meter
from tests.unit.core import route_examples
from tests.unit.kubeapi.api_server import Stocked, connection_to

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path
    from typing import Any

    from arbiter.core.routes import RouteTable


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses, no waiting for endpoints, and a server that was away once was away for long."""
    monkeypatch.setattr(watching, "AWAY", 1)
    monkeypatch.setattr(watching, "PAUSE_S", (0.01, 0.04))
    monkeypatch.setattr(following, "KEPT_AFTER_S", 60.0)
    monkeypatch.setattr(following, "ENDPOINTS_WAIT_S", 0.01)


def of(epoch: int, generation: int) -> RouteTable:
    """A table of this leader."""
    return replace(route_examples.table(), epoch=epoch, generation=generation)


class Cluster(Stocked):
    """An API server with the ConfigMap of a router, which remembers more or less."""

    def __init__(self, version: int, table: RouteTable) -> None:
        """Its resource versions begin there."""
        super().__init__()
        self._version = version
        self.write(table)

    def write(self, table: RouteTable) -> None:
        """What the operator writes."""
        self.put("configmaps", "pool-routes", data={"routes.json": table.to_text()})

    @property
    def epoch(self) -> int:
        """The one in the ConfigMap."""
        data = self.stock["configmaps", "pool-routes"]["data"]
        return int(json.loads(data["routes.json"])["epoch"])


def acknowledged(standing: Standing) -> dict[str, Any]:
    """What `/internal/routes` answers."""
    told: dict[str, Any] = json.loads(Acknowledgement.of("pod/1", (standing,)).to_text())
    return told


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


@pytest.mark.parametrize("restarted", [False, True], ids=["goes-on", "restarts-with-the-cluster"])
def test_router_obeys_again_once_a_leader_has_risen_above_what_it_reports(tmp_path: Path, *, restarted: bool) -> None:
    """It serves on by its own table meanwhile, and says of the old one what was refused and why."""

    async def story() -> None:
        standing = Standing(Meter())
        before = Cluster(900, of(7, 31))
        async with before.up():
            port = before.port
            router = asyncio.create_task(routed(before, tmp_path, standing))
            await until(lambda: acknowledged(standing)["fence"] == {"epoch": 7, "generation": 31})
            await until(lambda: (kept := kept_routes.read(tmp_path)) and kept.table == of(7, 31))
            await until(lambda: any(asked.watching and "configmaps" in asked.path for asked in before.asked))
            if restarted:
                router.cancel()
                await asyncio.wait([router])
                standing = Standing(Meter())

        restored = Cluster(400, of(2, 12))
        async with restored.up(port):
            if restarted:
                router = asyncio.create_task(routed(restored, tmp_path, standing))
            await until(lambda: acknowledged(standing)["refused"] and acknowledged(standing)["table"])
            told = acknowledged(standing)
            assert told["refused"] == "routes.epoch is 2, and a leader of epoch 7 has written since"
            assert (told["table"]["epoch"], told["table"]["generation"]) == (7, 31)
            restored.write(of(restored.epoch + 1, 13))  # a leader that does not ask the routers
            await until(lambda: "epoch is 3" in acknowledged(standing)["refused"])

            restored.write(of(max(restored.epoch, told["fence"]["epoch"]) + 1, 14))
            await until(lambda: acknowledged(standing)["fence"] == {"epoch": 8, "generation": 14})
            assert acknowledged(standing)["refused"] == ""
            router.cancel()
            await asyncio.wait([router])

    run(story())


async def routed(server: Cluster, folder: Path, standing: Standing) -> None:
    """A router that follows this cluster until cancelled."""
    connection = connection_to(server, folder)
    source = Source(connection, "team", "pool-routes", folder, lambda: 0.5)
    try:
        await follow(source, standing.obey, standing.refuse, lambda *_: None)
    finally:
        await connection.close()
