"""Tools that images are made with: each to its end, with the end of what it said where it fails."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from devcluster.errors import DevclusterError
from devcluster.images import tools
from devcluster.images.tools import Command

ROOT = Path(__file__).parents[3]


def shell(script: str, **environment: str) -> Command:
    """Give a command that runs a script."""
    return Command("sh", ("sh", "-c", script), environment)


def test_a_failed_tool_is_quoted_from_its_last_lines() -> None:
    """The reason stands at the end; what comes before is progress."""
    with pytest.raises(DevclusterError) as caught:
        tools.run(
            shell("for n in 1 2 3 4 5 6 7 8 9 10 11 12; do echo step $n; done; echo 'no room' >&2; exit 3"), "build x"
        )

    first, *lines = str(caught.value).splitlines()
    assert first == "cannot build x; the last lines of sh:"
    assert lines[-1] == "no room"
    assert len(lines) == tools.LAST_LINES
    assert "step 1" not in lines


def test_a_silent_failure_is_said_to_be_one() -> None:
    """Nothing to quote is told apart from a quotation that was lost."""
    with pytest.raises(DevclusterError, match=r"^cannot build x; the last lines of sh:\n\(it said nothing\)$"):
        tools.run(shell("exit 1"), "build x")


def test_a_tool_that_is_not_there_is_named() -> None:
    """Where no package manager could say so before."""
    with pytest.raises(DevclusterError, match=r"^cannot build x: no-such-tool is not installed$"):
        tools.run(Command("no-such-tool", ("sh", "-c", "no-such-tool")), "build x")


def test_a_tool_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download may hang for ever."""
    monkeypatch.setattr(tools, "LIMIT_S", 0.1)
    with pytest.raises(DevclusterError, match=r"^cannot build x: sh took more than 0 s$"):
        tools.run(shell("exec sleep 600"), "build x")


def test_a_tool_sees_the_users_settings_only_where_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy matters to a download; a storage of the user's own must not reach a build."""
    monkeypatch.setenv("STORAGE_DRIVER", "overlay")
    script = f'echo "$STORAGE_DRIVER $GIVEN" >>{tmp_path}/said'
    tools.run(shell(script, GIVEN="1"), "ask")
    tools.run(Command("sh", ("sh", "-c", script), {"GIVEN": "2"}, inherits=False), "ask")

    assert (tmp_path / "said").read_text() == "overlay 1\n 2\n"


def test_a_tool_ends_with_us(tmp_path: Path) -> None:
    """When we are killed there is nobody to end it: the kernel does."""
    started = tmp_path / "started"
    os.mkfifo(started)
    program = (
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from devcluster.images import tools\n"
        f"tools.run(tools.Command('sh', ('sh', '-c', 'echo $$ >{started}; exec sleep 600')), 'wait')\n"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as running:  # noqa: S603  ourselves
        tool = int(started.read_text())
        ended = os.pidfd_open(tool)
        running.kill()
    with os.fdopen(ended) as pidfd:
        assert ready(pidfd.fileno())


def ready(descriptor: int) -> bool:
    """Wait until a process has ended."""
    return bool(select.select([descriptor], [], [], 10)[0])
