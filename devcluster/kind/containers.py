"""Asks an engine about the containers of a kind cluster, and stops and starts what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError
from devcluster.kind.parts import CLUSTER, CONTROL_PLANE, Part, container
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_COMMAND_S = 300.0
"""How long the engine may take for one command, in seconds: a registry's image may have to come first."""

_SWITCH_S = 90.0
"""How long a part may take to come or to go, in seconds: the kubelet looks at its files every 20 s."""

STATES = """\
for unit in containerd kubelet; do echo "$unit $(systemctl is-active "$unit")"; done
for pod in "$@"; do
  if found=$(crictl ps --quiet --name "^$pod\\$"); then
    echo "$pod ${found:+active}"
  else
    echo "$pod unknown"
  fi
done
"""
"""Run in a node: says of every service, and of every pod that it is given, whether it runs."""

_WORDS = {"running": "up", "active": "up", "": "not running", "exited": "not running", "inactive": "not running"}
"""What engine and systemd call it, in ours; any other word of theirs is passed on."""


class Containers:
    """The containers of our cluster."""

    def __init__(self, engine: str, run: Callable[..., str]) -> None:
        """Take the engine's program, and what runs commands; without an engine there are no containers."""
        self.engine = engine
        self._run = run

    def command(self, *arguments: str | Path, stdin: str = "") -> str:
        """Run a command of the engine."""
        return self._run(self.engine, *arguments, stdin=stdin, seconds=_COMMAND_S)

    def states(self) -> dict[str, str]:
        """Give our containers with the state that the engine says they are in."""
        if not self.engine:
            return {}
        printed = self.command("ps", "--all", "--filter", f"name=^{CLUSTER}-", "--format", "{{.Names}} {{.State}}")
        return _pairs(printed)

    def conditions(self, parts: Sequence[Part]) -> dict[str, str]:
        """Say in words how parts are, by name."""
        states = self.states()
        inside = {
            name: self._inside(name)
            for name in dict.fromkeys(part.container for part in parts if part.inside)
            if states.get(name) == "running"
        }
        found = {}
        for part in parts:
            state = inside.get(part.container, {}).get(part.inside, "") if part.inside else states.get(part.container)
            found[part.name] = _WORDS.get(state or "", state or "")
        return found

    def switch(self, part: Part, verb: str) -> None:
        """Stop or start a part, and wait until that is done; a node is there once its services are."""
        wants_up = verb == "start"
        asked = [part, *(Part(unit, part.container, unit=unit) for unit in part.services if wants_up)]

        def is_done() -> bool:
            return all(is_up(condition) is wants_up for condition in self.conditions(asked).values())

        if is_done():
            return
        self.command(*part.switch(verb))
        if not wait_until(is_done, _SWITCH_S, pause=0.5):
            late = f"{part.name} is not {'up' if wants_up else 'gone'} after {_SWITCH_S:.0f} s"
            raise DevclusterError(f"{late}; see what it says: python -m devcluster logs {part.name}")

    def log(self, part: Part) -> str:
        """Give what a part wrote; a container's two streams are one log."""
        return self._run("sh", "-c", 'exec "$@" 2>&1', "sh", self.engine, *part.log(), seconds=_COMMAND_S)

    def _inside(self, name: str) -> dict[str, str]:
        """Give the state of everything in a node."""
        pods = CONTROL_PLANE if name == container(1) else ()
        return _pairs(self.command("exec", name, "sh", "-c", STATES, "sh", *pods))


def is_up(condition: str) -> bool:
    """Say whether a condition is that of a part that is well."""
    return condition.startswith("up")


def _pairs(printed: str) -> dict[str, str]:
    """Read lines of a name and a word, which may be missing."""
    return {line.partition(" ")[0]: line.partition(" ")[2].strip() for line in printed.splitlines()}
