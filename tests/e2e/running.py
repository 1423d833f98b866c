"""Runs commands on the cluster of the tests, as its user would: kubectl, and devcluster's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devcluster import build

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What a container of ours may do: the most that the restricted Pod Security level allows, and a read-only root."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up.

    Attributes:
        kubeconfig: a file that holds this cluster's context and no other.
        program: the kubectl to ask it with.
        up: what bringing it up printed; empty where it was up before.
        was_up: whether it is somebody's, so that no test may take it down.
    """

    kubeconfig: Path
    program: str
    up: str = ""
    was_up: bool = True

    def kubectl(self, *arguments: str, stdin: str = "", seconds: float = 180) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator."""
        return run(self.program, f"--kubeconfig={self.kubeconfig}", *arguments, input=stdin, timeout=seconds)

    def apply(self, objects: Sequence[dict[str, Any]]) -> str:
        """Apply objects server-side, all of which must be taken."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        return said(self.kubectl("apply", "--server-side", "--filename=-", stdin=document))


def run(*command: str, **how: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401  what subprocess.run takes
    """Run a command to its end."""
    return subprocess.run(command, capture_output=True, text=True, check=False, **how)  # noqa: S603  our own tools


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Give what a command printed, which must have succeeded."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def devcluster(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one devcluster command."""
    return run(sys.executable, "-m", "devcluster", *arguments, cwd=ROOT, timeout=3600)


def up(*options: str) -> tuple[str, ...]:
    """Give the command that brings the cluster up; packages are installed only where `make` says so."""
    return "up", *allowed(), *options


def allowed() -> tuple[str, ...]:
    """Give the option that allows packages to be installed, where `make` allows it."""
    return ("--install",) if os.environ.get("DEVCLUSTER_INSTALL") else ()


def named_context(context: str, path: Path) -> Cluster:
    """Give the cluster of one context of the user's kubeconfig; stop the run where there is none of that name."""
    program = shutil.which("kubectl") or str(build.binaries()["kubectl"])
    known = said(run(program, "config", "get-contexts", "--output=name")).split()
    if context not in known:
        there = ", ".join(known) or "none"
        pytest.exit(f"ARBITER_KUBECONTEXT names {context}, and the kubeconfig has these contexts: {there}", 2)
    path.touch(mode=0o600)
    path.write_text(said(run(program, "config", "view", "--minify", "--flatten", f"--context={context}")))
    return Cluster(path, program)
