"""Tells which Debian packages are missing, and installs them where that was allowed.

Nothing is installed unasked: without leave, the missing ones are named in the command that installs them. On a machine
without dpkg nothing is said; there, what needs a package fails for itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

APT = ("apt-get", "install", "--yes", "--no-install-recommends")


def require(names: Collection[str], *, install: bool, report: Callable[[str], None]) -> None:
    """Return once all the packages are there."""
    absent = missing(names)
    if not absent:
        return
    command = " ".join([*APT, *absent])
    if not install:
        raise DevclusterError(f"missing: {', '.join(absent)}; run `{command}`, or allow it with --install")
    report(f"installs {', '.join(absent)}")
    if _run(*APT, *absent).returncode == 0:
        return
    _run("apt-get", "update")  # a fresh machine has no lists, an old one has stale ones
    tried = _run(*APT, *absent)
    if tried.returncode != 0:
        last = tried.stdout.strip().splitlines()[-1:]
        raise DevclusterError(f"cannot install {', '.join(absent)}: `{command}` says: {' '.join(last)}")


def missing(names: Collection[str]) -> tuple[str, ...]:
    """Name those of the packages that are not installed, in the order of the alphabet."""
    if shutil.which("dpkg-query") is None:
        return ()
    wanted = sorted(set(names))
    asked = _run("dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *wanted)
    installed = {line.split()[0] for line in asked.stdout.splitlines() if line.endswith(" installed")}
    return tuple(name for name in wanted if name not in installed)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  the package manager, with names from our own tables
        command,
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
