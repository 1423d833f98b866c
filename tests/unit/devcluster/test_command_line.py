"""The command line: what goes wrong is one line that says what to do, and the exit code says it too."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from devcluster import build
from devcluster.__main__ import main
from devcluster.commands import last_line, run
from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the command at an empty state and an empty cache, so that no real cluster is in reach."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "ensure", lambda **_options: pytest.fail("went on to build"))


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail, and give what it said about it."""
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize("command", [("up",), ("down",), ("stop", "etcd"), ("start", "etcd")], ids=" ".join)
def test_whoever_is_not_root_is_told_how_to_become_it(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is built or done."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert failure(capsys, *command).startswith("devcluster: a node needs root, for namespaces and mounts; become root")


def test_another_system_is_told_what_to_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Namespaces are Linux's."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "a node needs Linux, and this is darwin" in failure(capsys, "up")


def test_a_state_directory_too_long_for_sockets_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the variable that moves it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ("long" * 30)))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "set XDG_STATE_HOME to a shorter one" in failure(capsys, "up")


@pytest.mark.parametrize("command", [("kubeconfig",), ("nodes",), ("logs", "etcd")], ids=" ".join)
def test_asking_a_cluster_that_is_not_up_says_how_to_bring_it_up(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """No path is printed that leads nowhere."""
    want = "devcluster: the cluster is not up; bring it up: python -m devcluster up\n"
    assert failure(capsys, *command) == want


def test_status_without_a_cluster_lists_what_does_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    """It is an answer, not a fault: nothing on standard error."""
    assert main(["status"]) == 1
    printed = capsys.readouterr()

    assert printed.out.splitlines()[0] == "node                     not running"
    assert printed.out.splitlines()[-1] == "the cluster is not up"
    assert printed.err == ""


def test_a_command_that_fails_says_its_last_words() -> None:
    """One line, with what was run."""
    with pytest.raises(DevclusterError, match=r"^`sh -c echo first >&2; echo last >&2; exit 3` failed: last$"):
        run("sh", "-c", "echo first >&2; echo last >&2; exit 3")


def test_a_command_that_is_not_there_is_named() -> None:
    """Rather than shown as a stack of calls."""
    with pytest.raises(DevclusterError, match=r"^no-such-tool is not installed$"):
        run("no-such-tool")


def test_a_command_that_hangs_is_ended() -> None:
    """Every wait has an end."""
    with pytest.raises(DevclusterError, match=r"^`sleep 60` took more than 0 s$"):
        run("sleep", "60", seconds=0.2)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("one\ntwo\n\n  \n", "two", id="empty lines at the end do not count"),
        pytest.param("", "it said nothing", id="silence has words too"),
    ],
)
def test_last_words(text: str, want: str) -> None:
    """What an error message ends with."""
    assert last_line(text) == want
