"""`arbiter router` as a process: it says what is wrong with its options, serves, and ends in order."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arbiter.cli.main import main
from arbiter.core.routes import Target
from arbiter.core.traffic import Side
from tests.unit.router.keyed_engine import keyed_engine
from tests.unit.router.routing import Reply, ask, old, request, table_of, task_of
from tests.unit.router.stand_in import Does, stand_in
from tests.unit.router.wire.loopback import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from arbiter.core.routes import RouteTable


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


@asynccontextmanager
async def command(*options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running router; it is killed if it is still there at the end."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "arbiter.cli.main", "router", *options, env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def admin(port: int, path: str) -> Reply:
    """An answer of the admin port; status 0 while nobody listens."""
    try:
        return await ask(port, b"GET %b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % path.encode())
    except OSError:
        return Reply(0, {}, b"", whole=False)


def obeyed(reply: Reply) -> tuple[str, int, int]:
    """The hash of the table in force, how many workers there should be, and how many obey it."""
    said = json.loads(reply.body)
    return (said["table"] or {"hash": ""})["hash"], said["workers"]["wanted"], said["workers"]["obeying"]


async def ready(port: int, table: RouteTable, workers: int) -> None:
    """Wait until all workers obey a table."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            reply = await admin(port, "/internal/routes")
            if reply.status and obeyed(reply) == (table.hash, workers, workers):
                return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("workers", [1, 2])
def test_stream_in_flight_ends_well_when_the_process_is_told_to_end(tmp_path: Path, workers: int) -> None:
    """A rolling restart fails nobody: no new connections, the old ones to their end, exit code 0."""

    async def check() -> None:
        async with stand_in("a") as engine:
            engine.usual = Does.HALF_NOW
            routes, table = tmp_path / "routes.json", table_of(task_of(old(engine)))
            routes.write_text(table.to_text())
            port, admin_port = free_port(), free_port()
            said = [f"--port={port}", f"--admin-port={admin_port}", f"--workers={workers}", f"--routes={routes}"]
            async with command(*said) as process:
                await ready(admin_port, table, workers)
                await until_serving(port)
                stream = asyncio.ensure_future(ask(port, request(stream=True)))
                await until(lambda: bool(engine.asked))
                process.terminate()
                await until_refused(port)
                engine.go.set()
                reply = await stream

                assert (reply.status, reply.whole) == (200, True)
                assert reply.body.endswith(b"data: [DONE]\n\n")
                assert await process.wait() == 0

    asyncio.run(asyncio.wait_for(check(), 2 * PATIENCE_S))


@pytest.mark.parametrize("workers", [1, 2])
def test_table_is_obeyed_when_it_changes_and_kept_when_it_is_wrong(tmp_path: Path, workers: int) -> None:
    """A lower epoch and a text that is no table leave the last good one in force."""

    async def check() -> None:
        async with stand_in("a") as engine:
            routes, admin_port, port = tmp_path / "routes.json", free_port(), free_port()
            first = table_of(task_of(old(engine)))
            second = table_of(task_of(old(engine)), task_of(old(engine), name="code"), generation=2)
            routes.write_text(first.to_text())
            said = [f"--port={port}", f"--admin-port={admin_port}", f"--workers={workers}", f"--routes={routes}"]
            async with command(*said):
                await ready(admin_port, first, workers)
                routes.write_text(second.to_text())
                await ready(admin_port, second, workers)
                await until_serving(port)
                for wrong, why in (("{", "not JSON"), (replace(first, epoch=0).to_text(), "routes.epoch is 0")):
                    routes.write_text(wrong)
                    reply = await admin(admin_port, "/internal/routes")
                    while why not in str(reply.fields["refused"]):
                        await asyncio.sleep(0.02)
                        reply = await admin(admin_port, "/internal/routes")
                    assert obeyed(reply) == (second.hash, workers, workers)
                    assert (await ask(port, request(model="code"))).status == 200

    asyncio.run(asyncio.wait_for(check(), 2 * PATIENCE_S))


@pytest.mark.parametrize("workers", [1, 2])
def test_key_of_a_model_server_is_shown_once_it_is_mounted(tmp_path: Path, workers: int) -> None:
    """Every worker looks at the folder by itself; the metric tells when the last one has the key."""

    async def check() -> None:
        async with keyed_engine("a", "sk-1") as engine:
            routes, folder, admin_port, port = tmp_path / "routes.json", tmp_path / "keys", free_port(), free_port()
            table = table_of(task_of(Target(Side.OLD, engine.backend("cloud"), 100)))
            routes.write_text(table.to_text())
            folder.mkdir()
            said = [f"--port={port}", f"--admin-port={admin_port}", f"--workers={workers}", f"--routes={routes}"]
            async with command(*said, f"--backend-keys={folder}"):
                await ready(admin_port, table, workers)
                await until_serving(port)
                for missing, status in ((1, 503), (0, 200)):
                    told = b'arbiter_router_backend_keys_missing{task="chat",model="model-a"} %d\n' % missing
                    async with asyncio.timeout(PATIENCE_S):
                        while told not in (await admin(admin_port, "/metrics")).body:  # noqa: ASYNC110  as below
                            await asyncio.sleep(0.02)
                    assert (await ask(port, request())).status == status
                    (folder / "cloud").write_text("sk-1\n")

    asyncio.run(asyncio.wait_for(check(), 2 * PATIENCE_S))


async def until_serving(port: int) -> None:
    """Wait until somebody listens."""
    async with asyncio.timeout(PATIENCE_S):
        while (await admin(port, "/v1/models")).status != 200:  # noqa: ASYNC110  another process is waited for
            await asyncio.sleep(0.02)


async def until_refused(port: int) -> None:
    """Wait until nobody does."""
    async with asyncio.timeout(PATIENCE_S):
        while (await admin(port, "/v1/models")).status:  # noqa: ASYNC110  another process is waited for
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        pytest.param([], "--routes", id="no-table"),
        pytest.param(["--routes", "r", "--config-map", "c"], "--routes", id="two-tables"),
        pytest.param(["--routes", "r", "--workers", "0"], "--workers", id="no-workers"),
        pytest.param(["--routes", "r", "--keys", "/nowhere"], "/nowhere", id="keys-that-are-not-there"),
        pytest.param(["--routes", "r", "--feedback-key", "/nowhere"], "--feedback-key", id="no-feedback-key"),
    ],
)
def test_wrong_option_is_named(options: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and the exit code of wrong usage."""
    assert main(["router", *options, "--port=0", "--admin-port=0"]) == 2
    assert capsys.readouterr().err.startswith(f"arbiter: {named}")


def test_text_where_a_number_belongs_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """As argparse has it."""
    with pytest.raises(SystemExit) as stopped:
        main(["router", "--routes", "r", "--port", "http"])
    assert stopped.value.code == 2
    assert "--port" in capsys.readouterr().err
