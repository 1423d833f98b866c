"""The choice of a provider: what the machine has decides, and every choice and refusal says why."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from devcluster import engine
from devcluster.engine import Engine
from devcluster.errors import DevclusterError
from devcluster.provider import KIND, NATIVE, Choice, Facts, choose

if TYPE_CHECKING:
    from pathlib import Path

DOCKER = Engine("docker")
NONE = Engine(silence="neither docker nor podman is on PATH")
DEAD = Engine(silence="docker: Cannot connect to the Docker daemon")
ROOT, USER = 0, 1000
SUDO = f"sudo --preserve-env=HOME,XDG_CACHE_HOME,XDG_STATE_HOME {sys.executable} -m devcluster …"


@pytest.mark.parametrize(
    ("facts", "want"),
    [
        pytest.param(Facts("linux", ROOT, DOCKER), Choice(KIND, "docker answers"), id="an engine, as root"),
        pytest.param(Facts("linux", USER, Engine("podman")), Choice(KIND, "podman answers"), id="an engine, as a user"),
        pytest.param(
            Facts("linux", ROOT, DEAD),
            Choice(NATIVE, "no container engine answers (docker: Cannot connect to the Docker daemon)"),
            id="an engine that does not answer",
        ),
        pytest.param(
            Facts("linux", ROOT, NONE),
            Choice(NATIVE, "no container engine answers (neither docker nor podman is on PATH)"),
            id="no engine",
        ),
        pytest.param(
            Facts("linux", ROOT, DOCKER, forced=NATIVE), Choice(NATIVE, "--provider asks for it"), id="native is forced"
        ),
        pytest.param(
            Facts("linux", ROOT, DOCKER, forced=KIND), Choice(KIND, "--provider asks for it"), id="kind is forced"
        ),
        pytest.param(
            Facts("linux", ROOT, Engine(), standing=NATIVE),
            Choice(NATIVE, "its cluster is there"),
            id="a native cluster is there",
        ),
        pytest.param(
            Facts("linux", USER, Engine(), forced=KIND, standing=KIND),
            Choice(KIND, "its cluster is there"),
            id="a kind cluster is there and is asked for",
        ),
    ],
)
def test_the_provider_and_its_reason(facts: Facts, want: Choice) -> None:
    """An engine that answers means kind, else it is native; a cluster that is there and force come before."""
    assert choose(facts) == want


@pytest.mark.parametrize(
    ("facts", "want"),
    [
        pytest.param(
            Facts("linux", USER, NONE),
            "no container engine answers (neither docker nor podman is on PATH) and this user is not root; "
            f"start Docker or Podman, or become root: {SUDO}",
            id="a user without an engine",
        ),
        pytest.param(
            Facts("linux", USER, DOCKER, forced=NATIVE),
            f"a native node needs root, for namespaces and mounts; become root: {SUDO}",
            id="native is forced on a user",
        ),
        pytest.param(
            Facts("linux", USER, Engine(), standing=NATIVE),
            f"a native node needs root, for namespaces and mounts; become root: {SUDO}",
            id="root's cluster is there",
        ),
        pytest.param(
            Facts("linux", ROOT, DEAD, forced=KIND),
            "kind needs a container engine, and none answers (docker: Cannot connect to the Docker daemon); "
            "start Docker or Podman, or leave --provider kind out",
            id="kind is forced without an engine",
        ),
        pytest.param(
            Facts("linux", ROOT, Engine(), forced=KIND, standing=NATIVE),
            "--provider kind: a cluster of native is there; take it down first: python -m devcluster down",
            id="the other one's cluster is there",
        ),
        pytest.param(
            Facts("darwin", USER, NONE),
            "a node needs Linux, and this is darwin; run it in a Linux virtual machine",
            id="another system",
        ),
        pytest.param(
            Facts("darwin", USER, DOCKER, forced=KIND),
            "a node needs Linux, and this is darwin; run it in a Linux virtual machine",
            id="another system with an engine",
        ),
    ],
)
def test_a_refusal_says_what_is_missing_and_what_to_do(facts: Facts, want: str) -> None:
    """One line, whatever was asked for."""
    with pytest.raises(DevclusterError) as refused:
        choose(facts)

    assert str(refused.value) == want


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the only directory on the PATH, still empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def tool(directory: Path, name: str, script: str) -> None:
    """Put a program into a directory."""
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


DAEMON_DOWN = "echo 'Client: 28.1' >&2; echo 'Cannot connect to the Docker daemon' >&2; exit 1"


@pytest.mark.parametrize(
    ("scripts", "want"),
    [
        pytest.param({}, NONE, id="none installed"),
        pytest.param({"docker": '[ "$1" = version ] && echo 28.1.1'}, DOCKER, id="Docker answers"),
        pytest.param(
            {"docker": "echo 28.1.1; echo broken >&2; exit 1"},
            Engine(silence="docker: broken"),
            id="Docker's client fails with a version",
        ),
        pytest.param({"docker": DAEMON_DOWN}, DEAD, id="Docker's daemon does not run"),
        pytest.param(
            {"docker": DAEMON_DOWN, "podman": '[ "$1" = info ] && echo 5.4.2'}, Engine("podman"), id="Podman answers"
        ),
        pytest.param(
            {"docker": "exit 0", "podman": "echo broken >&2; exit 125"},
            Engine(silence="docker: it said nothing; podman: broken"),
            id="neither answers",
        ),
    ],
)
def test_an_engine_is_found_by_its_answer(tools: Path, scripts: dict[str, str], want: Engine) -> None:
    """A client without its daemon is no engine; why it is none is passed on."""
    for name, script in scripts.items():
        tool(tools, name, script)

    assert engine.find() == want


def test_an_engine_that_hangs_is_none(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`up` does not wait for ever to find out what it can use."""
    monkeypatch.setattr(engine, "_ANSWER_S", 0.2)
    tool(tools, "docker", "exec /bin/sleep 60")

    assert engine.find() == Engine(silence="docker: no answer in 0 s")


def test_an_engine_that_cannot_be_run_is_none(tools: Path) -> None:
    """A file of another machine's kind is not a stack of calls on the terminal."""
    tool(tools, "docker", "")
    (tools / "docker").write_bytes(b"\x7fELF")

    assert engine.find() == Engine(silence="docker: Exec format error")
