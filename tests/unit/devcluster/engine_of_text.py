"""An engine with kind and kubectl, made of text: it remembers what it is told and answers as they would."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError
from devcluster.kind.containers import STATES
from devcluster.kind.parts import container

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST, SECOND = "arbiter-devcluster-control-plane", "arbiter-devcluster-worker"
REGISTRIES = ("arbiter-devcluster-registry", "arbiter-devcluster-registry-private")
PS = ("docker", "ps", "--all", "--filter", "name=^arbiter-devcluster-", "--format", "{{.Names}} {{.State}}")


@dataclass
class Machine:
    """An engine, kind and kubectl that do what they are told and remember it."""

    containers: dict[str, str] = field(default_factory=dict)
    stopped: set[tuple[str, str]] = field(default_factory=set)
    commands: list[tuple[str, ...]] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    environments: list[dict[str, str]] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    fails: str = ""

    def run(
        self, *command: str | Path, stdin: str = "", environment: dict[str, str] | None = None, seconds: float = 0
    ) -> str:
        """Run one command."""
        words = tuple(map(str, command))
        assert seconds > 0, words
        self.commands.append((Path(words[0]).name, *words[1:]))
        self.inputs.append(stdin)
        self.environments.append(environment or {})
        line = " ".join(self.commands[-1])
        if self.fails and self.fails in line:
            raise DevclusterError(f"`{line}` failed: no")
        return self._answer(self.commands[-1], stdin)

    def _answer(self, words: tuple[str, ...], stdin: str) -> str:
        match words:
            case (_, "ps", *_):
                return "".join(f"{name} {state}\n" for name, state in self.containers.items())
            case (_, "exec", name, *inside):
                return self._inside(name, inside)
            case ("kind", "create", *_):
                count = len(json.loads(stdin)["nodes"])
                self.containers |= {container(number): "running" for number in range(1, count + 1)}
            case ("kind", "delete", *_):
                self.containers = {name: state for name, state in self.containers.items() if name in REGISTRIES}
            case (_, "run", "--detach", "--name", name, *_):
                self.containers[name] = "running"
            case (_, "rm", "--force", "--volumes", *names):
                for name in names:
                    del self.containers[name]
            case (_, "stop", "-t", _, name):
                self.containers[name] = "exited"
            case (_, "start", name):
                self.containers[name] = "running"
            case _:
                line = " ".join(words)
                return next((answer for asked, answer in self.answers.items() if asked in line), "")
        return ""

    def _inside(self, name: str, words: Sequence[str]) -> str:
        """Run a command in a node."""
        match words:
            case ("sh", "-c", script, "sh", *pods) if script == STATES:
                every = ("containerd", "kubelet", *pods)
                return "".join(f"{one} {'' if (name, one) in self.stopped else 'active'}\n" for one in every)
            case ("systemctl", verb, unit):
                (self.stopped.add if verb == "stop" else self.stopped.remove)((name, unit))
            case ("mv", source, _):
                moved = source.rpartition("/")[2].partition(".")[0]
                (self.stopped.add if source.endswith(".yaml") else self.stopped.remove)((name, moved))
            case _:
                pass
        return ""

    def told(self) -> list[tuple[str, ...]]:
        """Give the commands that change something."""
        asking = {PS, ("podman", *PS[1:])}
        return [command for command in self.commands if command not in asking and STATES not in command]

    def input(self, *begin: str) -> str:
        """Give what a command read."""
        return next(
            text for command, text in zip(self.commands, self.inputs, strict=True) if command[: len(begin)] == begin
        )
