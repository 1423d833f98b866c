"""Runs the programs that images are made with, each to its end or to none.

A tool that mounts something or starts processes in a root file system of its own gets namespaces of its own for that:
however it ends, and however we do, no mount and no process is left.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Mapping

APART = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Mounts and processes of its own: both end with the tool, and the tool with us."""

OFFLINE = (*APART, "--net")
"""A network without a way out as well, so that nothing comes in that no lock names."""

_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""Ends a tool when we are killed; there on Linux, which is where we run anything that would stay."""

LIMIT_S = 1800.0
"""How long a tool may take, in seconds: far longer than any, since downloads have no bound of their own."""

LAST_LINES = 12
"""As much of a failed tool's output as is shown."""


@dataclass(frozen=True)
class Command:
    """One run of a tool.

    Attributes:
        tool: the program that does the work.
        arguments: the command line.
        environment: variables that it sees, beside or in place of the user's own.
        inherits: whether it sees the user's own variables at all; PATH is passed on in any case.
    """

    tool: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    inherits: bool = True


def run(command: Command, purpose: str) -> None:
    """Run a tool; raise with its last lines where it fails, saying what it was to do (`cannot {purpose}`)."""
    if shutil.which(command.tool) is None:
        raise DevclusterError(f"cannot {purpose}: {command.tool} is not installed")
    prefix = _WITH_US if shutil.which(_WITH_US[0]) else ()
    own = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(  # noqa: S603  our own tools, with arguments that we made
        (*prefix, *command.arguments),
        env={**(os.environ if command.inherits else {}), **own, **command.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            said, _ = process.communicate(timeout=LIMIT_S)
        except BaseException as error:
            process.kill()
            process.communicate()  # its children hold the pipe: when that has ended, they have
            if isinstance(error, subprocess.TimeoutExpired):
                raise DevclusterError(f"cannot {purpose}: {command.tool} took more than {LIMIT_S:.0f} s") from None
            raise
    if process.returncode != 0:
        lines = "\n".join(said.strip().splitlines()[-LAST_LINES:]) or "(it said nothing)"
        raise DevclusterError(f"cannot {purpose}; the last lines of {command.tool}:\n{lines}")
