"""A whole `arbiter router`: it ends in order, at once when it is told twice, and not start where it must not."""

from __future__ import annotations

import asyncio
import signal
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

import pytest

from arbiter.router.keys import line_of
from arbiter.router.workers import bind
from tests.unit.router.router_process import Started, eventually, is_running, launched, started
from tests.unit.router.routing import ask, new, old, request, table_of, task_of
from tests.unit.router.stand_in import Does, StandIn, stand_in
from tests.unit.router.wire.loopback import until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from tests.unit.router.routing import Reply

P = ParamSpec("P")

SECRET = "s" * 40
PATIENCE_S = 60.0
"""A process needs a second to start, and many seconds on a machine that has other work."""

LONG_DRAIN = ("--drain", "600")
"""So that a router that ends has not ended because its time was up."""


def in_a_loop(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Run a test on asyncio's own loop; the router's process has its own."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), PATIENCE_S))

    return run


def table_at(path: Path, engine: StandIn) -> Path:
    """A file with a table that leads to this engine."""
    routes = path / "routes.json"
    routes.write_text(table_of(task_of(old(engine))).to_text())
    return routes


async def streaming(router: Started, engine: StandIn, count: int) -> list[asyncio.Task[Reply]]:
    """Streams of which the engine has sent half."""
    engine.usual = Does.HALF_NOW
    streams = [asyncio.create_task(ask(router.port, request(stream=True))) for _ in range(count)]
    await until(lambda: len(engine.asked) == count)
    return streams


async def drains(router: Started) -> None:
    """Wait until it says so."""

    async def says_so() -> bool:
        return b"draining" in (await router.told(b"/readyz")).body

    await eventually(says_so)


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        pytest.param(signal.SIGTERM, 1, id="SIGTERM"),
        pytest.param(signal.SIGINT, 1, id="SIGINT"),
        pytest.param(signal.SIGTERM, 2, id="SIGTERM-and-workers"),
    ],
)
@in_a_loop
async def test_first_signal_lets_streams_end(tmp_path: Path, number: signal.Signals, workers: int) -> None:
    """No stream is cut by a rollout of the router, and no new request is taken."""
    async with stand_in("a") as engine, started(table_at(tmp_path, engine), *LONG_DRAIN, workers=workers) as router:
        streams = await streaming(router, engine, 4)
        processes = router.workers()
        assert len(processes) == (workers if workers > 1 else 0)
        router.child.send_signal(number)
        await drains(router)
        await until(lambda: refuses(router.port))
        assert router.child.returncode is None
        assert not any(stream.done() for stream in streams)
        engine.go.set()
        replies = await asyncio.gather(*streams)

        assert {(each.status, each.whole, each.body.endswith(b"[DONE]\n\n")) for each in replies} == {(200, True, True)}
        assert await router.child.wait() == 0
        assert not any(is_running(pid) for pid in processes)


@pytest.mark.parametrize(
    ("first", "second", "workers"),
    [
        pytest.param(signal.SIGTERM, signal.SIGTERM, 1, id="SIGTERM-twice"),
        pytest.param(signal.SIGINT, signal.SIGINT, 1, id="SIGINT-twice"),
        pytest.param(signal.SIGTERM, signal.SIGINT, 2, id="SIGTERM-SIGINT-and-workers"),
    ],
)
@in_a_loop
async def test_second_signal_ends_it_at_once(
    tmp_path: Path, first: signal.Signals, second: signal.Signals, workers: int
) -> None:
    """Whoever says it twice does not want to wait; the streams end as broken, and no worker stays behind."""
    async with stand_in("a") as engine, started(table_at(tmp_path, engine), *LONG_DRAIN, workers=workers) as router:
        streams = await streaming(router, engine, 2)
        processes = router.workers()
        router.child.send_signal(first)
        await drains(router)
        assert router.child.returncode is None
        router.child.send_signal(second)

        assert await router.child.wait() == 1
        replies = await asyncio.gather(*streams)
        assert {(each.status, each.whole) for each in replies} == {(200, False)}
        assert not any(b"[DONE]" in each.body for each in replies)
        await until(lambda: not any(is_running(pid) for pid in processes))
        assert not router.logged("Traceback")


@in_a_loop
async def test_workers_take_over_tables_and_keys_as_they_change(tmp_path: Path) -> None:
    """All of them: the parent hands out tables, and each reads the keys itself."""
    keys = tmp_path / "keys"
    keys.write_text(line_of("first", SECRET, b"1" * 16))
    async with (
        stand_in("a") as engine,
        stand_in("b") as newer,
        started(table_at(tmp_path, engine), "--keys", str(keys), workers=2) as router,
    ):
        assert await told(router, "first") == {(200, "model-a")}
        replace(tmp_path / "routes.json", table_of(task_of(new(newer)), generation=2).to_text())
        await router.obeys(2)
        assert await told(router, "first") == {(200, "model-b")}

        replace(keys, line_of("second", SECRET, b"2" * 16))
        await eventually(lambda: tells(router, second=(200, "model-b"), first=(401, "")))
        replace(keys, "no keys at all")
        await until(lambda: sum("keys" in line and "line 1" in line for line in router.lines) == 2)
        assert await router.metric("arbiter_router_keys_refused_total") > 0
        assert await told(router, "second") == {(200, "model-b")}


@pytest.mark.parametrize(
    ("options", "want", "workers"),
    [
        pytest.param(["--keys", "{folder}/none"], "cannot be read", "1", id="no-keys"),
        pytest.param(["--keys", "{folder}/broken"], "line 1", "2", id="broken-keys-and-workers"),
        pytest.param(["--tls-certificate", "{folder}/broken"], "--tls-certificate", "1", id="no-certificate"),
        pytest.param(
            ["--tls-certificate", "{folder}/broken"], "--tls-certificate", "2", id="no-certificate-and-workers"
        ),
        pytest.param(["--feedback-key", "{folder}/broken"], "at least 16 bytes", "1", id="short-feedback-key"),
        pytest.param(["--port", "{taken}"], "--port", "1", id="port-taken"),
        pytest.param(["--port", "{taken}"], "--port", "2", id="port-taken-and-workers"),
        pytest.param(["--admin-port", "{taken}"], "--admin-port", "1", id="admin-port-taken"),
    ],
)
@in_a_loop
async def test_router_that_cannot_do_what_it_was_told_does_not_start(
    tmp_path: Path, options: list[str], want: str, workers: str
) -> None:
    """It says why in a line, where a router that serves without what it was given would harm somebody."""
    (tmp_path / "broken").write_text("broken")
    (tmp_path / "routes.json").write_text("{}")
    with bind("127.0.0.1", 0, shared=False) as taken, bind("127.0.0.1", 0, shared=True) as free:
        taken.listen()
        ports = {"--port": str(free.getsockname()[1] if workers == "2" else 0), "--admin-port": "0"}
        told = [each.format(folder=tmp_path, taken=taken.getsockname()[1]) for each in options]
        said = [word for pair in {**ports, told[0]: told[1]}.items() for word in pair]
        async with launched("--routes", str(tmp_path / "routes.json"), "--workers", workers, *said) as router:
            code = await router.child.wait()
            await until(lambda: bool(router.lines))

            assert code not in {0, None}
            assert router.logged(want)
            assert not router.logged("Traceback")


def replace(path: Path, text: str) -> None:
    """Replace a file in one step."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


async def told(router: Started, key: str) -> set[tuple[int, str]]:
    """What ten connections are told, which the kernel deals out to the workers."""
    data = request(headers=[b"x-api-key: %b.%b" % (key.encode(), SECRET.encode())])
    replies = await asyncio.gather(*(ask(router.port, data) for _ in range(10)))
    return {(each.status, each.headers.get("x-arbiter-model", "")) for each in replies}


async def tells(router: Started, **keys: tuple[int, str]) -> bool:
    """Whether every worker tells each key this."""
    return all([await told(router, key) == {want} for key, want in keys.items()])


def refuses(port: int) -> bool:
    """Whether nobody listens there any more."""
    with bind("127.0.0.1", 0, shared=False) as ours:
        ours.settimeout(5.0)
        return ours.connect_ex(("127.0.0.1", port)) != 0
