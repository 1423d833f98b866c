"""Says what every provider of a cluster can do, and chooses the one for this machine, with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from devcluster.nodes import Shape


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
