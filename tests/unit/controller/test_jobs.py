"""Jobs: one at a time for each key, what came of them, and streams; against a real server on the loopback."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from arbiter.controller import jobs as module
from arbiter.controller.jobs import HttpSending, Jobs
from arbiter.controller.scrape import HttpGetting
from arbiter.core.actions import StartJob
from arbiter.engines.calls import Call
from tests.unit.controller.cluster_objects import MODEL, POOL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from arbiter.controller.queue import Subject
    from arbiter.core.snapshot import JobResult

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)

Handler = "Callable[[web.Request], Awaitable[web.StreamResponse]]"


class World:
    """Jobs that ask one server, and what they told."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session
        self.told = asyncio.Event()
        self.concerned: list[Subject] = []
        self.jobs = Jobs(HttpSending(session), self.concern, lambda: NOW)

    def concern(self, subject: Subject) -> None:
        """Note it."""
        self.concerned.append(subject)
        self.told.set()

    def start(self, call: Call | None = None, key: str = "prove/x", url: str = "") -> None:
        """Begin a job."""
        self.jobs.start(POOL, StartJob(key, url or self.url, call or Call("POST", "/ask", {"max_tokens": 1})))

    async def result(self, key: str = "prove/x") -> JobResult:
        """Wait until the job told something, and give it."""
        async with asyncio.timeout(5.0):
            await self.told.wait()
        self.told.clear()
        return self.jobs.results(POOL)[key]


@asynccontextmanager
async def world(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncGenerator[World, None]:
    """A server that answers everything so, and jobs that ask it."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        made = World(f"http://127.0.0.1:{runner.addresses[0][1]}", session)
        yield made
        await made.jobs.close()
    await runner.cleanup()


def test_an_answer_is_kept_and_concerns_its_pool() -> None:
    """With its status, and with what was sent as the call has it."""

    async def story() -> None:
        bodies = []

        async def answer(request: web.Request) -> web.Response:
            bodies.append((request.method, request.path, await request.json()))
            return web.json_response({"choices": []})

        async with world(answer) as made:
            made.start()
            running = made.jobs.results(POOL)["prove/x"]
            assert (running.running, running.ok, running.attempts) == (True, False, 0)
            done = await made.result()
            assert (done.running, done.ok, done.reply, done.status) == (False, True, {"choices": []}, 200)
            assert (done.at, done.problem, done.attempts) == (NOW, "", 0)
            assert made.concerned == [POOL]
            assert made.jobs.results(MODEL) == {}
        assert bodies == [("POST", "/ask", {"max_tokens": 1})]

    asyncio.run(story())


def test_no_connection_outlives_its_question() -> None:
    """One that stayed would lead to the pod that a Service had then, and keep that from ending."""

    async def story() -> None:
        clients = set()

        async def answer(request: web.Request) -> web.Response:
            assert request.transport is not None
            clients.add(request.transport.get_extra_info("peername"))
            assert not request.keep_alive
            return web.json_response({})

        async with world(answer) as made:
            for _ in range(3):
                made.start()
                await made.result()
            await HttpGetting(made.session).get(f"{made.url}/api/ps")
        assert len(clients) == 4

    asyncio.run(story())


def test_one_that_runs_goes_on_and_one_that_ended_is_done_once_more() -> None:
    """A plan names what it wants done, and sees how often it was tried in vain."""

    async def story() -> None:
        asked = 0
        go = asyncio.Event()

        async def answer(_: web.Request) -> web.Response:
            nonlocal asked
            asked += 1
            await go.wait()
            return web.json_response({"error": {"message": "loading"}}, status=503)

        async with world(answer) as made:
            made.start()
            made.start()
            assert made.jobs.running == 1
            go.set()
            first = await made.result()
            made.start()
            assert made.jobs.results(POOL)["prove/x"].attempts == 1, "it is being tried again"
            second = await made.result()
            assert [each.attempts for each in (first, second)] == [1, 2]
            assert second.problem == "the server answered 503: loading"
            assert second.reply == {"error": {"message": "loading"}}
        assert asked == 2

    asyncio.run(story())


def test_another_question_under_the_same_key_begins_anew() -> None:
    """What ran under it is ended."""

    async def story() -> None:
        async def answer(request: web.Request) -> web.Response:
            if request.path == "/old":
                await asyncio.sleep(3600)
            return web.json_response({"path": request.path})

        async with world(answer) as made:
            made.start(Call("GET", "/old"))
            await asyncio.sleep(0)
            made.start(Call("GET", "/new"))
            assert (await made.result()).reply == {"path": "/new"}
            assert made.jobs.running == 0

    asyncio.run(story())


@pytest.mark.parametrize(
    ("body", "status", "want_problem"),
    [
        pytest.param(b"<html>", 200, "the server answered 200, and not in JSON: '<html>'", id="no JSON"),
        pytest.param(b"[1]", 200, "the server answered 200, and no JSON object", id="a list"),
        pytest.param(b'{"error": "model not found"}', 200, "the server answered 200: model not found", id="an error"),
        pytest.param(b"{}", 404, "the server answered 404: without a message", id="a status"),
        pytest.param(b"", 302, "the server answered 302: without a message", id="a redirect, which is not followed"),
    ],
)
def test_an_answer_that_is_none_has_failed(body: bytes, status: int, want_problem: str) -> None:
    """In words that a person can act on."""

    async def story() -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=body, status=status, headers={"location": "/elsewhere"})

        async with world(answer) as made:
            made.start()
            failed = await made.result()
            assert (failed.ok, failed.problem, failed.status) == (False, want_problem, status)

    asyncio.run(story())


def test_an_empty_good_answer_is_an_empty_object() -> None:
    """Ollama answers an unload so."""

    async def story() -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=200)

        async with world(answer) as made:
            made.start()
            done = await made.result()
            assert (done.ok, done.reply) == (True, {})

    asyncio.run(story())


def test_nobody_there_is_a_failure_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a moment, because a Service's address works a little later than its endpoints are told."""
    monkeypatch.setattr(module, "REFUSED_S", 0.1)
    monkeypatch.setattr(module, "REFUSED_PAUSE_S", 0.01)

    async def story() -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.json_response({})

        async with world(answer) as made:
            made.start(url="http://127.0.0.1:1")
            failed = await made.result()
            assert failed.problem == "POST /ask: no connection to 127.0.0.1:1: Connect call failed ('127.0.0.1', 1)"

    asyncio.run(story())


def test_a_server_that_comes_up_a_moment_later_is_still_the_first_attempt(unused_tcp_port: int) -> None:
    """Nothing was sent before."""

    async def story() -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.json_response({"late": True})

        async with world(answer) as made:
            made.start(url=f"http://127.0.0.1:{unused_tcp_port}")
            await asyncio.sleep(0.05)
            application = web.Application()
            application.router.add_route("*", "/{path:.*}", answer)
            runner = web.AppRunner(application, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
            done = await made.result()
            assert (done.ok, done.attempts) == (True, 0)
            await runner.cleanup()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("lost", "want_problem"),
    [
        pytest.param(2, "", id="found at last"),
        pytest.param(1000, "POST /ask: no connection within 0.05 s", id="never found"),
    ],
)
def test_a_connection_that_gets_lost_is_tried_again_ever_more_patiently(
    lost: int, want_problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node may drop what comes before it knows a Service; the kernel alone would wait a second for that."""
    monkeypatch.setattr(module, "CONNECT_S", 0.05)
    monkeypatch.setattr(module, "FIRST_CONNECT_S", 0.01)
    monkeypatch.setattr(module, "REFUSED_PAUSE_S", 0.005)
    patience: list[float | None] = []

    async def story() -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.json_response({})

        async with world(answer) as made:
            found = made.session._request  # noqa: SLF001  what every request of a session goes through

            async def losing(*arguments: Any, timeout: aiohttp.ClientTimeout, **more: Any) -> aiohttp.ClientResponse:  # noqa: ANN401, ASYNC109  as the library has it
                patience.append(timeout.sock_connect)
                if len(patience) <= lost:
                    raise aiohttp.ConnectionTimeoutError("lost")
                return await found(*arguments, timeout=timeout, **more)

            monkeypatch.setattr(made.session, "_request", losing)
            made.start()
            assert (await made.result()).problem == want_problem

    asyncio.run(story())
    assert patience[:3] == [0.01, 0.02, 0.04]


@pytest.fixture
def unused_tcp_port() -> int:
    """A port of the loopback that nobody has."""
    import socket  # noqa: PLC0415  for this alone

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def test_an_answer_that_takes_too_long_has_failed() -> None:
    """By the call's own deadline."""

    async def story() -> None:
        async def answer(_: web.Request) -> web.Response:
            await asyncio.sleep(3600)
            return web.Response()

        async with world(answer) as made:
            made.start(Call("GET", "/slow", deadline_s=0.05))
            assert (await made.result()).problem == "GET /slow: no answer within 0.05 s"

    asyncio.run(story())


def test_the_latest_line_of_a_stream_is_the_reply_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass sees how far a pull is; the last line is what came of it."""
    monkeypatch.setattr(module, "TOLD_S", 0.0)

    async def story() -> None:
        go = asyncio.Event()

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b'{"status": "pulling", "compl')
            await response.write(b'eted": 1}\n\n{"completed": 2}\n')
            await go.wait()
            await response.write(b'{"status": "success"}')
            return response

        async with world(answer) as made:
            made.start(Call("POST", "/api/pull", {"model": "m"}, streams=True))
            while (sofar := await made.result()).reply != {"completed": 2}:
                assert sofar.running
            go.set()
            while (done := await made.result()).running:
                pass
            assert (done.ok, done.reply) == (True, {"status": "success"})

    asyncio.run(story())


def test_an_error_inside_a_stream_is_a_failure() -> None:
    """Ollama answers 200 before it knows."""

    async def story() -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=b'{"status": "pulling"}\n{"error": "no such model"}\n')

        async with world(answer) as made:
            made.start(Call("POST", "/api/pull", streams=True))
            while (failed := await made.result()).running:
                pass
            assert failed.problem == "the server answered 200: no such model"

    asyncio.run(story())


def test_one_that_is_stopped_or_whose_pool_is_gone_is_forgotten_and_ended() -> None:
    """Its connection is closed, so the server stops too."""

    async def story() -> None:
        left = asyncio.Queue[str]()

        async def answer(request: web.Request) -> web.Response:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                left.put_nowait(request.path)
                raise
            return web.Response()

        async with world(answer) as made:
            made.start(Call("GET", "/a"), key="a")
            made.start(Call("GET", "/b"), key="b")
            await asyncio.sleep(0.05)
            made.jobs.stop(POOL, "a")
            made.jobs.stop(POOL, "never-started")
            assert set(made.jobs.results(POOL)) == {"b"}
            made.jobs.forget(POOL)
            assert made.jobs.results(POOL) == {}
            assert made.jobs.running == 0
            assert made.concerned == []

    asyncio.run(story())


def test_results_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that ended first are forgotten."""
    monkeypatch.setattr(module, "KEPT", 2)

    async def story() -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.json_response({})

        async with world(answer) as made:
            for key in "abcd":
                made.start(Call("GET", "/"), key=key)
                await made.result(key)
            assert set(made.jobs.results(POOL)) == {"c", "d"}

    asyncio.run(story())


def test_a_job_that_meets_something_unforeseen_has_failed_and_does_not_run_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where it was met stands in the log."""

    async def story() -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.json_response({})

        async with world(answer) as made:
            made.start(Call("POST", "/ask", {"not json": {1, 2}}))
            failed = await made.result()
            assert (failed.running, failed.ok, failed.attempts) == (False, False, 1)
            assert "TypeError" in failed.problem
            assert "met something unforeseen" in caplog.text

    asyncio.run(story())
