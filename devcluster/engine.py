"""Finds a container engine of this machine that answers, or says why none does.

Docker is asked before Podman: kind is developed on it. A program named `docker` that is Podman in disguise does not
answer Docker's question, so it is found under its own name.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devcluster.commands import last_line

if TYPE_CHECKING:
    from collections.abc import Mapping

_QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "docker": ("version", "--format", "{{.Server.Version}}"),
    "podman": ("info", "--format", "{{.Version.Version}}"),
}
"""What only an engine that can run containers now answers with a version."""

_ANSWER_S = 5.0
"""How long an engine may think, in seconds; one that is up answers in tenths of one."""


@dataclass(frozen=True)
class Engine:
    """What was found.

    Attributes:
        name: the engine's program; empty where none answers.
        silence: why none answers; empty where one does.
    """

    name: str = ""
    silence: str = ""


def find() -> Engine:
    """Ask every engine whose program is on PATH; the first that answers is the one."""
    silences = []
    for name in _QUESTIONS:
        program = shutil.which(name)
        if program is None:
            continue
        silence = _ask(name, program)
        if not silence:
            return Engine(name)
        silences.append(f"{name}: {silence}")
    return Engine(silence="; ".join(silences) or f"neither {' nor '.join(_QUESTIONS)} is on PATH")


def _ask(name: str, program: str) -> str:
    """Ask one engine, and say why it does not answer; nothing where it does."""
    try:
        asked = subprocess.run(  # noqa: S603  an engine found on PATH, with a question of our own
            (program, *_QUESTIONS[name]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {_ANSWER_S:.0f} s"
    except OSError as error:
        return str(error.strerror)
    return "" if asked.returncode == 0 and asked.stdout.strip() else last_line(asked.stderr or asked.stdout)
