"""Runs a short command to its end and gives what it printed.

A command that fails becomes one line: what was run, and the last line that it wrote about it. None outlives us.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Mapping

_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""Ends a command when we are killed, so that it does not go on writing under the next `up`."""


def run(
    *command: str | Path, stdin: str = "", environment: Mapping[str, str] | None = None, seconds: float = 60
) -> str:
    """Run a command and give its standard output; raise with its last words where it fails or takes too long."""
    if shutil.which(command[0]) is None:
        raise DevclusterError(f"{command[0]} is not installed")
    shown = " ".join([Path(command[0]).name, *map(str, command[1:])])
    try:
        done = subprocess.run(  # noqa: S603  our own tools, with arguments that we made
            (*_WITH_US, *command),
            input=stdin,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DevclusterError(f"`{shown}` took more than {seconds:.0f} s") from None
    if done.returncode:
        raise DevclusterError(f"`{shown}` failed: {last_line(done.stderr or done.stdout)}")
    return done.stdout


def last_line(text: str) -> str:
    """Give the last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
