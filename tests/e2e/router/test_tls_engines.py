"""Engines that are reached by https: a real llama-server behind TLS, with certificates that are right and wrong."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import threading
import urllib.request
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import openai
import pytest

from arbiter.api.localmodel import EngineType
from devcluster.waiting import wait_until
from tests.e2e.engines import llama_server
from tests.e2e.router.on_host import HostRouter, Reply, reply, router, served_by
from tests.traffic.driver import Load, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.cluster

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]

ASKED: dict[str, Any] = {"messages": QUESTION, "max_tokens": 8, "temperature": 0}


class Terminator:
    """Ends TLS in front of an engine and copies bytes both ways, as an ingress would.

    Attributes:
        port: on the loopback.
        taken: connections whose handshake was done.
    """

    def __init__(self, engine: str, context: ssl.SSLContext) -> None:
        """Listen to nothing yet."""
        self._engine = urlsplit(engine)
        self._context = context
        self.port = 0
        self.taken = 0

    async def serve(self) -> asyncio.Server:
        """Take connections from now on."""
        server = await asyncio.start_server(self._take, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        behind = await asyncio.open_connection(self._engine.hostname, self._engine.port)
        ways = [asyncio.create_task(_copy(reader, behind[1])), asyncio.create_task(_copy(behind[0], writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for end in (writer, behind[1]):
            end.close()
            with suppress(OSError):
                await end.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one side ends."""
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@contextmanager
def terminating(engine: str, certificate: Path) -> Iterator[Terminator]:
    """Run one in a thread of its own; the file holds the certificate and its key."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    made, loop = Terminator(engine, context), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="terminator", daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(made.serve(), loop).result(10)
    try:
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    """Take no more connections, and cut those that there are."""
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Place(NamedTuple):
    """A router that trusts one certificate, which is one for `localhost`, and what it can ask.

    Attributes:
        router: it serves the tasks `named`, at https://localhost, and `numbered`, the same at https://127.0.0.1.
        engine: the llama-server itself.
        terminator: in front of it.
        folder: for another router.
    """

    router: HostRouter
    engine: str
    terminator: Terminator
    folder: Path


@pytest.fixture(scope="module")
def place(start: Callable[[list[dict[str, Any]]], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Start the engine, what ends TLS in front of it, and the router."""
    engine, folder = start(llama_server("smollm2", 4)), tmp_path_factory.mktemp("tls")
    certificate, both = folder / "certificate.pem", folder / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(both), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603  openssl with our own arguments
    with both.open("a") as key:
        key.write(certificate.read_text())
    with (
        terminating(engine, both) as terminator,
        router(tmp_path_factory.mktemp("router"), *tasks(terminator.port), trusting=certificate) as running,
    ):
        yield Place(running, engine, terminator, tmp_path_factory.mktemp("other"))


def tasks(port: int) -> tuple[Any, ...]:
    """What is served at the terminator, by its name and by its address."""
    hosts = {"named": "localhost", "numbered": "127.0.0.1"}
    return tuple(
        served_by(name, EngineType.LlamaCpp, "smollm2", f"https://{host}:{port}") for name, host in hosts.items()
    )


def answer_of(running: HostRouter, task: str) -> Reply:
    """A chat's answer."""
    return reply(f"{running.url}/v1/chat/completions", {"model": task, **ASKED})


def test_an_engine_with_a_trusted_certificate_is_asked_by_tls(place: Place, count: Callable[..., None]) -> None:
    """Plain answers share one connection, since a handshake costs more than a request; streams pass as they come."""
    count("engines started")
    before = place.terminator.taken
    answers = [answer_of(place.router, "named") for _ in range(4)]
    assert [answer.status for answer in answers] == [200] * 4, answers
    assert place.terminator.taken == before + 1
    with openai.OpenAI(base_url=f"{place.router.url}/v1", api_key="none", max_retries=0) as client:
        chunks = list(client.chat.completions.create(model="named", **ASKED, stream=True))
    count("completions served", 5)

    assert chunks[-1].choices[0].finish_reason
    assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) > 1
    booked = place.router.booked("named")
    assert (booked.ok, booked.failed) == (5, 0)
    assert booked.written >= 5


def test_many_streams_and_answers_at_once_pass_whole(place: Place, count: Callable[..., None]) -> None:
    """Each stream ends its connection, so each begins with a handshake; none fails or is cut."""
    with Traffic(place.router.url, Load("named", clients=4, stream_tokens=24, plain_tokens=4)) as traffic:
        traffic.more(40)
    report = traffic.report
    count("completions served", len(report.attempts) - len(report.failed))

    assert not report.failed, report
    assert place.router.booked("named").failed == 0


def test_a_certificate_for_another_name_is_refused_with_the_reason(place: Place) -> None:
    """It is trusted, and says nothing of the address in the table; whoever answers there is not believed."""
    refused = answer_of(place.router, "numbered")

    assert refused.status == 502
    assert "certificate is not valid for '127.0.0.1'" in refused.fields["error"]["message"]
    assert place.router.booked("numbered").failed == 1


def test_a_certificate_that_nobody_vouches_for_is_refused_with_the_reason(place: Place) -> None:
    """A router that was told of no authority but the system's asks nothing of an engine that it cannot know."""
    with router(place.folder, *tasks(place.terminator.port)) as other:
        refused = answer_of(other, "named")

        assert refused.status == 502
        assert "certificate verify failed: self-signed certificate" in refused.fields["error"]["message"]
        assert other.booked("named").failed == 1


def test_an_engine_that_speaks_no_tls_is_refused(place: Place) -> None:
    """An address with the wrong scheme must not hang, nor be asked in the clear."""
    plain = place.engine.replace("http://", "https://")
    with router(place.folder, served_by("plain", EngineType.LlamaCpp, "smollm2", plain)) as other:
        refused = answer_of(other, "plain")

    assert refused.status == 502
    assert "no connection to" in refused.fields["error"]["message"]


def test_the_model_behind_tls_stops_when_its_client_leaves(place: Place) -> None:
    """The end of a client passes through TLS as well."""
    question = [{"role": "user", "content": "Count to a thousand."}]
    asked: dict[str, Any] = {"model": "named", "messages": question, "max_tokens": 900}
    with openai.OpenAI(base_url=f"{place.router.url}/v1", api_key="none", max_retries=0) as client:
        stream = client.chat.completions.create(**asked, stream=True)
        next(iter(stream))
        assert busy(place.engine)
        stream.close()

    assert wait_until(lambda: not busy(place.engine), 10, pause=0.1), "the model goes on"


def busy(engine: str) -> bool:
    """Whether the llama-server works on anything."""
    with urllib.request.urlopen(f"{engine}/slots", timeout=10) as answer:  # noqa: S310  an address of the cluster
        return any(slot["is_processing"] for slot in json.loads(answer.read()))
