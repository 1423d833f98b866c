"""Says where everything of the cluster is: paths, addresses, names and ports.

Pure values, worked out from the state directory, so that two parts that speak of one file cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTROL_GROUP = "arbiter-devcluster"
"""Control group of everything that we run; its parts are one per use."""

MASKED = ("/var/lib/kubelet", "/var/lib/cni", "/var/log/containers", "/run/containerd")
"""Directories whose names are compiled into the kubelet and containerd: the node sees its own in their place."""

_LONGEST_SOCKET = 107
"""Longest path of a Unix socket, in bytes (sun_path in unix(7), less its final zero)."""


@dataclass(frozen=True)
class Addresses:
    """The networks of the cluster: three private ranges, the same on every machine.

    Attributes:
        host: the host's end of the link to the node.
        node: the node's end; the API server answers here.
        prefix: length of the network that both are in.
        services: range of Service addresses.
        pods: range of all pods.
        node_pods: range of the pods on this node.
        dns: Service address of the cluster's DNS.
    """

    host: str = "10.89.0.1"
    node: str = "10.89.0.2"
    prefix: int = 24
    services: str = "10.96.0.0/16"
    pods: str = "10.244.0.0/16"
    node_pods: str = "10.244.0.0/24"
    dns: str = "10.96.0.10"

    @property
    def link(self) -> str:
        """Give the network that joins host and node."""
        return f"{self.host.rsplit('.', 1)[0]}.0/{self.prefix}"


@dataclass(frozen=True)
class Layout:
    """One cluster with one node, laid out under a state directory."""

    state: Path
    programs: Mapping[str, Path]
    addresses: Addresses = Addresses()
    node: str = "node-1"
    domain: str = "cluster.local"
    version: str = "v1.36.3"

    @property
    def journal(self) -> Path:
        """Give the file that remembers what was done to the machine."""
        return self.state / "state.json"

    @property
    def pki(self) -> Path:
        """Give the directory of keys and certificates."""
        return self.state / "pki"

    @property
    def configuration(self) -> Path:
        """Give the directory of configuration files."""
        return self.state / "etc"

    @property
    def logs(self) -> Path:
        """Give the directory with one log file per component."""
        return self.state / "logs"

    @property
    def images(self) -> Path:
        """Give the directory of image archives that we make."""
        return self.state / "images"

    @property
    def node_root(self) -> Path:
        """Give the directory of everything that the node writes."""
        return self.state / self.node

    @property
    def containerd_socket(self) -> Path:
        """Give where containerd answers."""
        return self.node_root / "containerd.sock"

    @property
    def cni_configuration(self) -> Path:
        """Give the directory of the pod network's configuration."""
        return self.node_root / "cni"

    @property
    def server(self) -> str:
        """Give the API server's URL."""
        return f"https://{self.addresses.node}:6443"

    @property
    def link(self) -> str:
        """Give the name of the host's end of the link to the node."""
        return f"arbiter-{self.node}"

    @property
    def pods_group(self) -> str:
        """Give the part of the control group under which the node's pods are."""
        return f"pods-{self.node}"

    @property
    def path(self) -> str:
        """Give the search path of components: our programs before the system's."""
        ours = dict.fromkeys(str(program.parent) for program in self.programs.values())
        return ":".join([*ours, "/usr/sbin", "/usr/bin", "/sbin", "/bin"])

    @property
    def masks(self) -> Mapping[Path, Path]:
        """Give, for each masked directory, what the node sees in its place."""
        return {Path(masked): self.node_root / "host" / masked.lstrip("/") for masked in MASKED}

    def log(self, component: str) -> Path:
        """Give a component's log file."""
        return self.logs / f"{component}.log"

    def kubeconfig(self, user: str) -> Path:
        """Give a user's kubeconfig: `admin` is for people."""
        return self.configuration / f"{user}.conf"

    def file(self, name: str) -> Path:
        """Give a configuration file."""
        return self.configuration / name

    def certificate(self, name: str) -> tuple[Path, Path]:
        """Give a certificate and its key."""
        return self.pki / f"{name}.crt", self.pki / f"{name}.key"

    def socket_is_too_long(self) -> bool:
        """Say whether sockets of the node would not fit: those of pods are the longest that we name ourselves."""
        return len(str(self.containerd_socket) + ".ttrpc") > _LONGEST_SOCKET
