"""A container of ours waits until no connection to its server is open, and not a second longer than it has to.

The script runs here as it runs in a pod, in a shell, on the kernel's own tables of connections.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from arbiter.engines.draining import LEAVE_S, LONGEST_S, drain_by_sleeping, drain_once_idle

if TYPE_CHECKING:
    from pathlib import Path

FAMILIES = [pytest.param(socket.AF_INET, "127.0.0.1", id="IPv4"), pytest.param(socket.AF_INET6, "::1", id="IPv6")]


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Give a PATH on which `sleep` only writes down for how long, so that no test waits."""
    fake = tmp_path / "sleep"
    fake.write_text(f'#!/bin/sh\necho "$1" >>{tmp_path}/slept\n')
    fake.chmod(0o755)
    return str(tmp_path)


def run(port: int, path: str) -> list[str]:
    """Run the handler of a server on this port to its end; give for how long it slept each time."""
    command = drain_once_idle(port).handler["exec"]["command"]  # type: ignore[index]  # a handler of this very form
    shell = shutil.which(command[0])
    assert shell is not None
    done = subprocess.run([shell, *command[1:]], env={"PATH": path}, capture_output=True, text=True, check=False)  # noqa: S603  our own script
    assert (done.returncode, done.stderr) == (0, "")
    with open(f"{path}/slept") as slept:  # noqa: PTH123  one line
        return slept.read().split()


@pytest.mark.parametrize(("family", "address"), FAMILIES)
def test_an_idle_server_is_left_at_once(family: socket.AddressFamily, address: str, path: str) -> None:
    """A socket that only listens is no connection, and neither is one to another port."""
    with (
        closing(socket.create_server((address, 0), family=family)) as other,
        closing(socket.create_server((address, 0), family=family)) as server,
        closing(socket.create_connection(other.getsockname()[:2])),
    ):
        assert run(server.getsockname()[1], path) == [str(LEAVE_S)]


@pytest.mark.parametrize(("family", "address"), FAMILIES)
def test_an_open_connection_is_waited_for(family: socket.AddressFamily, address: str, path: str) -> None:
    """As long as a router has one open, an answer may be under way; but not for ever."""
    with (
        closing(socket.create_server((address, 0), family=family)) as server,
        closing(socket.create_connection(server.getsockname()[:2])),
    ):
        slept = run(server.getsockname()[1], path)
    assert slept == [str(LEAVE_S), *["1"] * (LONGEST_S - LEAVE_S)]


def test_an_unknown_image_sleeps_within_bounds() -> None:
    """Its hook takes as long as it says."""
    assert drain_by_sleeping(60.2).handler == {"sleep": {"seconds": 61}}
    assert drain_by_sleeping(60.2).longest_s == 61
