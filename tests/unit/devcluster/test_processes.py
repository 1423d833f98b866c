"""Processes: recorded before they run, known by more than their number, stopped and nobody else with them."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from devcluster.native import processes
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from devcluster.native.processes import Process

ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """Give a list of the processes that a test started; they are ended after it."""
    recorded: list[Process] = []
    yield recorded
    for process in recorded:
        processes.stop(process, grace=0)


def start(script: str, tmp_path: Path, started: list[Process]) -> Process:
    """Start a shell script."""
    return processes.spawn(["sh", "-c", script], tmp_path / "log", ENVIRONMENT, started.append)


def test_a_process_is_recorded_before_its_program_runs(tmp_path: Path) -> None:
    """Whatever happens to us between the two, nothing of ours runs unrecorded."""
    trace = tmp_path / "trace"
    seen: list[bool] = []

    def record(process: Process) -> None:
        time.sleep(0.2)
        seen.append(trace.exists())
        assert processes.is_running(process)

    process = processes.spawn(["touch", str(trace)], tmp_path / "log", ENVIRONMENT, record)

    assert wait_until(trace.exists, 10)
    assert seen == [False]
    processes.stop(process, grace=0)


def test_a_process_that_cannot_be_recorded_never_runs_its_program(tmp_path: Path) -> None:
    """A full disk under the state file must not leave a stray process."""
    trace = tmp_path / "trace"
    held: list[Process] = []

    def refuse(process: Process) -> None:
        held.append(process)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        processes.spawn(["touch", str(trace)], tmp_path / "log", ENVIRONMENT, refuse)

    assert wait_until(lambda: not processes.is_running(held[0]), 10)
    assert not trace.exists()
    processes.reap(held[0].pid)


def test_a_process_keeps_its_identity_when_its_program_starts(tmp_path: Path, started: list[Process]) -> None:
    """The record names the program, not only the shell that waited in its place."""
    process = start("echo running; exec sleep 60", tmp_path, started)

    assert wait_until(lambda: (tmp_path / "log").read_text() == "running\n", 10)
    assert processes.is_running(process)
    assert os.getsid(process.pid) == process.pid


def test_stopping_ends_a_process_gently(tmp_path: Path, started: list[Process]) -> None:
    """A program that tidies up on TERM gets to."""
    process = start("trap 'echo tidied; exit 0' TERM; echo up; while :; do sleep 0.05; done", tmp_path, started)
    assert wait_until(lambda: (tmp_path / "log").read_text() == "up\n", 10)

    processes.stop(process, grace=10)

    assert not processes.is_running(process)
    assert (tmp_path / "log").read_text() == "up\ntidied\n"


def test_stopping_ends_a_process_that_does_not_listen(tmp_path: Path, started: list[Process]) -> None:
    """TERM is asked once; after the grace it is not asked any more."""
    process = start("trap '' TERM; echo up; while :; do sleep 0.05; done", tmp_path, started)
    assert wait_until(lambda: (tmp_path / "log").read_text() == "up\n", 10)

    processes.stop(process, grace=0.2)

    assert not processes.is_running(process)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda process: replace(process, started=1), id="which started at another time"),
        pytest.param(lambda process: replace(process, boot="another"), id="which ran before the machine restarted"),
    ],
)
def test_another_process_with_the_same_number_is_left_alone(
    change: Callable[[Process], Process], tmp_path: Path, started: list[Process]
) -> None:
    """Numbers are used again; who has ours now is none of our business."""
    other = start("exec sleep 60", tmp_path, started)
    recorded = change(other)

    processes.stop(recorded, grace=0)

    assert not processes.is_running(recorded)
    assert processes.is_running(other)


def test_stopping_what_is_gone_is_nothing(tmp_path: Path, started: list[Process]) -> None:
    """`down` after a crash finds most of it gone."""
    process = start("exit 0", tmp_path, started)
    assert wait_until(lambda: not processes.is_running(process), 10)

    processes.stop(process, grace=0)
    processes.stop(process, grace=10)


def test_a_process_of_which_only_the_exit_status_is_left_does_not_run() -> None:
    """It still has its number and its start time, until its parent asks how it ended."""
    with subprocess.Popen(["sleep", "60"]) as child:  # noqa: S607  found on the PATH of the test
        process = processes.identify(child.pid)
        assert process is not None
        assert processes.is_running(process)

        child.kill()

        assert wait_until(lambda: not processes.is_running(process), 10)


def test_killing_asks_again_whether_the_process_is_ours(tmp_path: Path, started: list[Process]) -> None:
    """Between reading a number and holding its process, the number may have changed hands."""
    process = start("exec sleep 60", tmp_path, started)

    processes.kill(process.pid, lambda: False)
    assert processes.is_running(process)

    processes.kill(process.pid, lambda: True)
    assert not processes.is_running(process)


def test_output_goes_to_the_log_after_what_was_there(tmp_path: Path, started: list[Process]) -> None:
    """A component that is started again keeps the log of its first life."""
    for word in ("first", "second"):
        process = start(f"echo {word}; echo {word} >&2", tmp_path, started)
        assert wait_until(lambda process=process: not processes.is_running(process), 10)  # type: ignore[misc]  # a lambda with a default has no type of its own

    assert (tmp_path / "log").read_text() == "first\nfirst\nsecond\nsecond\n"
