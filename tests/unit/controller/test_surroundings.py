"""What is around the passes: names of Services, the log, the probes, and what the command line may say."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import logging
import socket
from typing import TYPE_CHECKING

import pytest
from aiohttp.test_utils import TestClient, TestServer

from arbiter import settings
from arbiter.api.localmodel import EngineType
from arbiter.cli.main import parser
from arbiter.controller import log, probes
from arbiter.controller.cache import Cache
from arbiter.controller.options import Options
from arbiter.controller.resolver import ServiceResolver
from arbiter.engines.runnable import PullPolicy
from arbiter.kubeapi.resources import SERVICES
from tests.unit.controller.cluster_objects import MODEL, POOL, child

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("host", "want"),
    [
        pytest.param("engine.team.svc.cluster.local", "10.96.0.7", id="a Service of ours"),
        pytest.param("headless.team.svc.cluster.local", None, id="one without an address"),
        pytest.param("other.team.svc.cluster.local", None, id="one that is not known"),
        pytest.param("a.engine.team.svc.cluster.local", None, id="a pod of one"),
        pytest.param("engine.team.svc.elsewhere", None, id="another domain"),
        pytest.param("localhost", None, id="no Service"),
    ],
)
def test_names_of_services_are_resolved_by_what_the_watches_told(host: str, want: str | None) -> None:
    """All other names by the system."""

    async def story() -> str | None:
        cache = Cache(lambda _: None)
        for name, address in (("engine", "10.96.0.7"), ("headless", "None")):
            cache.child_seen(SERVICES, ("team", name), child(name, spec={"clusterIP": address}))
        resolver = ServiceResolver(cache, "cluster.local")
        others: list[str] = []

        class Others:
            async def resolve(self, name: str, *_: object) -> list[object]:
                others.append(name)
                return []

            async def close(self) -> None:
                pass

        resolver._others = Others()  # type: ignore[assignment]  # noqa: SLF001  the system's own would ask a network
        found = await resolver.resolve(host, 80)
        await resolver.close()
        assert bool(others) is (want is None)
        return found[0]["host"] if found else None

    assert asyncio.run(story()) == want
    assert socket.AF_INET


def logged(form: str, tell: Callable[[logging.Logger], None]) -> str:
    """What is written to the log."""
    before = logging.getLogger().handlers[:], logging.getLogger().level
    stream = io.StringIO()
    try:
        log.set_up(form, stream)
        tell(logging.getLogger("arbiter.test"))
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)
    return stream.getvalue()


def test_a_line_of_the_log_is_one_json_object() -> None:
    """With what it is about, and why."""
    line = logged("json", lambda to: to.warning("it is %s\nagain", "so", extra={"about": POOL, "reason": "NameTaken"}))
    assert line.count("\n") == 1
    told = json.loads(line)
    assert told.pop("time").endswith("Z")
    want = {"level": "warning", "logger": "arbiter.test", "pool": "team/assistant", "reason": "NameTaken"}
    assert told == {**want, "message": "it is so\nagain"}
    assert json.loads(logged("json", lambda to: to.info("x", extra={"about": MODEL})))["model"] == "team/smollm2"
    assert logged("json", lambda to: to.debug("quiet")) == ""


def test_a_mistake_is_logged_with_where_it_was_made() -> None:
    """In both forms."""

    def tell(to: logging.Logger) -> None:
        try:
            assert 1 // len("")
        except ZeroDivisionError:
            to.exception("it failed")

    assert "ZeroDivisionError: " in json.loads(logged("json", tell))["trace"]
    assert "ZeroDivisionError: " in logged("text", tell)


def test_a_line_of_text_is_for_people() -> None:
    """What it is about stands behind it."""
    line = logged("text", lambda to: to.info("applied", extra={"about": POOL, "reason": "Applied"}))
    assert line.endswith("INFO    applied [pool=team/assistant reason=Applied]\n")


def test_probes_say_what_is_missing() -> None:
    """Some of it, where it is much."""

    async def story() -> None:
        missing: tuple[str, ...] = ()
        made = probes.application(lambda: missing, lambda: b"arbiter_leader 1.0\n")
        async with TestClient(TestServer(made)) as client:
            assert await (await client.get("/readyz")).text() == "ok\n"
            missing = tuple("abcdefg")
            answer = await client.get("/readyz")
            assert (answer.status, await answer.text()) == (503, "not ready: waiting for a, b, c, d, e, and 2 more\n")
            assert (await client.get("/healthz")).status == 200
            metrics = await client.get("/metrics")
            assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("read", "text", "want"),
    [
        pytest.param(settings.read_names, "a, b,a,", ("a", "b"), id="names"),
        pytest.param(settings.read_port, "0", 0, id="a port"),
        pytest.param(
            settings.read_image, "r.example:5000/a/b@sha256:00", "r.example:5000/a/b@sha256:00", id="an image"
        ),
        pytest.param(settings.read_object_name, "kube-root-ca.crt", "kube-root-ca.crt", id="a name with dots"),
        pytest.param(settings.read_domain, "cluster.local", "cluster.local", id="a domain"),
        pytest.param(settings.read_registries, "a.example:5000, b,", ("a.example:5000", "b"), id="registries"),
        pytest.param(settings.read_registries, "", (), id="no registries"),
    ],
)
def test_what_means_something_is_read(read: Callable[[str], object], text: str, want: object) -> None:
    """As it is."""
    assert read(text) == want


@pytest.mark.parametrize(
    ("read", "text"),
    [
        pytest.param(settings.read_names, "a,B", id="no name"),
        pytest.param(settings.read_port, "65536", id="no port"),
        pytest.param(settings.read_port, "-1", id="less than none"),
        pytest.param(settings.read_image, "a b", id="no image"),
        pytest.param(settings.read_domain, "..", id="no domain"),
        pytest.param(settings.read_object_name, "a/b", id="a path for a name"),
        pytest.param(settings.read_registries, "http://a.example", id="an address for a registry"),
    ],
)
def test_what_means_nothing_is_refused_with_what_would_be_right(read: Callable[[str], object], text: str) -> None:
    """As a sentence that follows the flag's name."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"^must be "):
        read(text)


def options(*words: str) -> Options:
    """What the command line says."""
    arguments = parser().parse_args(["operator", *words])
    return Options(**{name: getattr(arguments, name) for name in Options.__dataclass_fields__})


def test_a_flag_wins_over_its_variable_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is one that was not set."""
    assert options() == Options()
    monkeypatch.setenv("ARBITER_NAMESPACES", "a,b")
    monkeypatch.setenv("ARBITER_PORT", "9000")
    monkeypatch.setenv("ARBITER_LLAMA_SERVER_GPU_IMAGE", "")
    found = options("--port=9001", "--pull-policy=Never", "--ollama-gpu-image=r.example/ollama:1")
    assert (found.namespaces, found.port, found.pull_policy) == (("a", "b"), 9001, PullPolicy.Never)
    engines = found.settings(3).engines
    assert engines.gpu_images == {EngineType.Ollama: "r.example/ollama:1"}
    assert engines.arbiter_image == found.image


@pytest.mark.parametrize(
    ("words", "want"),
    [
        pytest.param(["--port=http"], "--port: must be a port from 0 (any free one) to 65535, not 'http'", id="port"),
        pytest.param(["--log-format=xml"], "--log-format: must be json or text, not 'xml'", id="log format"),
        pytest.param(
            ["--pull-policy=Sometimes"], "--pull-policy: must be Always, IfNotPresent, Never", id="pull policy"
        ),
        pytest.param(["--namespaces=A"], "--namespaces: must be a name of lower-case letters", id="namespaces"),
    ],
)
def test_a_wrong_flag_is_named(words: list[str], want: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what would be right."""
    with pytest.raises(SystemExit):
        options(*words)
    assert want in capsys.readouterr().err
