"""Says what every provider of a cluster can do, and chooses the one for this machine, with its reason.

The choice is a function of facts: whoever gathers them runs programs, this module does not.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from devcluster.engine import Engine
    from devcluster.nodes import Shape

KIND = "kind"
"""Nodes are containers of an engine."""

NATIVE = "native"
"""Nodes are processes of this machine."""

PROVIDERS = (NATIVE, KIND)
"""Every provider by name."""

_BECOME_ROOT = f"become root: sudo --preserve-env=HOME,XDG_CACHE_HOME,XDG_STATE_HOME {sys.executable} -m devcluster …"


class Provider(Protocol):
    """One way to run the machine's one cluster. Every failure is a DevclusterError."""

    name: str
    """What people call it: the word after `--provider`."""

    def up(self, shape: Shape) -> None:
        """Bring the cluster up; one that is up is used as it is and grows where the shape asks for more."""

    def down(self) -> None:
        """End the cluster and undo everything that was done to the machine; none up is no failure."""

    def exists(self) -> bool:
        """Say whether a cluster of this provider is there, up or half way."""

    def status(self) -> tuple[dict[str, str], bool]:
        """Say of every part how it is (`up…` where it is well), and whether the whole cluster is up."""

    def kubeconfig(self) -> Path:
        """Give the administrator's kubeconfig; the file holds this cluster's context and no other."""

    def load(self, archives: Sequence[Path]) -> None:
        """Put the images of OCI archives into the store of every node."""

    def registry(self) -> str:
        """Give the address at which the host and the nodes reach the open registry."""

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl as the administrator, and give what it printed."""

    def components(self) -> tuple[str, ...]:
        """Name everything that can be stopped, started and has a log."""

    def start(self, name: str) -> None:
        """Start a component that was stopped, and wait until it is up."""

    def stop(self, name: str) -> None:
        """Stop a component, and leave it stopped."""

    def log(self, name: str) -> str:
        """Give what a component wrote since the cluster came up."""


@dataclass(frozen=True)
class Facts:
    """What the choice depends on.

    Attributes:
        platform: the system, as Python names it.
        uid: the user's number; 0 is root.
        engine: the container engine that answers, or why none does; not asked for where a cluster is there.
        forced: the provider that the user asks for, if any.
        standing: the provider whose cluster is there already, if any.
    """

    platform: str
    uid: int
    engine: Engine
    forced: str | None = None
    standing: str | None = None


@dataclass(frozen=True)
class Choice:
    """A provider, by name, and why it is that one."""

    provider: str
    why: str


def choose(facts: Facts) -> Choice:
    """Choose the provider that brings a cluster up here.

    Raises:
        DevclusterError: none can, the one that is asked for cannot, or another one's cluster is in the way.
    """
    if facts.standing:
        choice = _standing(facts.standing, facts.forced)
    elif facts.forced:
        choice = Choice(facts.forced, "--provider asks for it")
    elif facts.engine.name:
        choice = Choice(KIND, f"{facts.engine.name} answers")
    elif facts.platform.startswith("linux") and facts.uid != 0:
        raise DevclusterError(
            f"no container engine answers ({facts.engine.silence}) and this user is not root; start Docker or Podman, "
            f"or {_BECOME_ROOT}"
        )
    else:
        choice = Choice(NATIVE, f"no container engine answers ({facts.engine.silence})")
    refuse_unfit(choice.provider, facts)
    return choice


def _standing(standing: str, forced: str | None) -> Choice:
    """Keep to the cluster that is there; the machine has room for one."""
    if forced not in {None, standing}:
        raise DevclusterError(
            f"--provider {forced}: a cluster of {standing} is there; take it down first: python -m devcluster down"
        )
    return Choice(standing, "its cluster is there")


def refuse_unfit(provider: str, facts: Facts) -> None:
    """Raise where this machine or this user cannot run nodes of a provider."""
    if not facts.platform.startswith("linux"):
        raise DevclusterError(f"a node needs Linux, and this is {facts.platform}; run it in a Linux virtual machine")
    if provider == NATIVE and facts.uid != 0:
        raise DevclusterError(f"a native node needs root, for namespaces and mounts; {_BECOME_ROOT}")
    if provider == KIND and facts.engine.silence:
        raise DevclusterError(
            f"kind needs a container engine, and none answers ({facts.engine.silence}); start Docker or Podman, or "
            "leave --provider kind out"
        )
