"""Says where everything of the cluster is: paths, addresses, names and ports.

Pure values, worked out from the state directory, so that two parts that speak of one file cannot disagree.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import nodes

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTROL_GROUP = "arbiter-devcluster"
"""Control group of everything that we run; its parts are one per node."""

MASKED = ("/var/lib/kubelet", "/var/lib/cni", "/var/log/containers", "/run/containerd")
"""Directories whose names are compiled into the kubelet and containerd: a node sees its own in their place."""

_LONGEST_SOCKET = 107
"""Longest path of a Unix socket, in bytes (sun_path in unix(7), less its final zero)."""


@dataclass(frozen=True)
class Addresses:
    """The networks of the cluster: three private ranges, the same on every machine.

    Attributes:
        host: the host's address in the network of the nodes; those of the nodes follow it.
        prefix: length of that network.
        services: range of Service addresses.
        pods: range of all pods; each node has a part of it.
        dns: Service address of the cluster's DNS.
    """

    host: str = "10.89.0.1"
    prefix: int = 24
    services: str = "10.96.0.0/16"
    pods: str = "10.244.0.0/16"
    dns: str = "10.96.0.10"

    @property
    def link(self) -> str:
        """Give the network that joins host and nodes."""
        return str(ipaddress.ip_interface(f"{self.host}/{self.prefix}").network)

    def node(self, number: int) -> str:
        """Give the address of a node; at that of the first, the API server and the registries answer too."""
        return str(ipaddress.ip_address(self.host) + number)

    def node_pods(self, number: int) -> str:
        """Give the range of a node's pods: one of 256 addresses."""
        every = list(ipaddress.ip_network(self.pods).subnets(new_prefix=24))
        return str(every[number - 1])


@dataclass(frozen=True)
class Node:
    """One node: what is its own, so that no two of them meet.

    Attributes:
        number: counted from 1; the first runs the control plane as well.
        root: the directory of everything that the node writes.
        address: its address in the network of the nodes.
        pods: the range of its pods.
    """

    number: int
    root: Path
    address: str
    pods: str

    @property
    def name(self) -> str:
        """Give its name, which is also that of the process that holds its namespaces."""
        return nodes.name(self.number)

    @property
    def is_first(self) -> bool:
        """Say whether it runs the control plane."""
        return self.number == 1

    @property
    def configuration(self) -> Path:
        """Give the directory of its configuration files."""
        return self.root / "etc"

    @property
    def cni(self) -> Path:
        """Give the directory of its pod network's configuration."""
        return self.root / "cni"

    @property
    def volumes(self) -> Path:
        """Give the directory of its dynamic volumes."""
        return self.root / "volumes"

    @property
    def volatile(self) -> Path:
        """Give the directory of what a real node would keep in /run: it is emptied when the node starts."""
        return self.root / "run"

    @property
    def containerd_socket(self) -> Path:
        """Give where its containerd answers."""
        return self.root / "containerd.sock"

    @property
    def kubeconfig(self) -> Path:
        """Give the kubeconfig of its kubelet."""
        return self.file("kubelet.conf")

    @property
    def group(self) -> str:
        """Give the control group of everything that runs on it."""
        return f"{CONTROL_GROUP}/{self.name}"

    @property
    def pods_group(self) -> str:
        """Give the part of its control group in which its pods are."""
        return f"{self.group}/pods"

    @property
    def link(self) -> str:
        """Give the other end of its link: the first node's is on the host, the others' are in the first node."""
        return f"arbiter-{self.name}" if self.is_first else self.name

    @property
    def hardware_address(self) -> str:
        """Give the address of its network interface, made from its IP address.

        It stays when the node comes back after a fault, so that nobody asks for it at its last address.
        """
        return ":".join(f"{byte:02x}" for byte in (2, 0, *ipaddress.ip_address(self.address).packed))

    @property
    def masks(self) -> Mapping[Path, Path]:
        """Give, for each masked directory, what the node sees in its place."""
        return {Path(masked): self.root / "host" / masked.lstrip("/") for masked in MASKED}

    def file(self, name: str) -> Path:
        """Give a configuration file of the node."""
        return self.configuration / name

    def component(self, program: str) -> str:
        """Give the name of the component that a program is on this node."""
        return program if self.is_first else f"{program}@{self.name}"


@dataclass(frozen=True)
class Layout:
    """One cluster, laid out under a state directory."""

    state: Path
    programs: Mapping[str, Path]
    addresses: Addresses = Addresses()
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
        """Give the directory of configuration files that belong to no single node."""
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
    def first(self) -> Node:
        """Give the node that runs the control plane."""
        return self.node(1)

    @property
    def server(self) -> str:
        """Give the API server's URL."""
        return f"https://{self.first.address}:6443"

    @property
    def path(self) -> str:
        """Give the search path of components: our programs before the system's."""
        ours = dict.fromkeys(str(program.parent) for program in self.programs.values())
        return ":".join([*ours, "/usr/sbin", "/usr/bin", "/sbin", "/bin"])

    def node(self, number: int) -> Node:
        """Give a node by its number."""
        root = self.state / nodes.name(number)
        return Node(number, root, self.addresses.node(number), self.addresses.node_pods(number))

    def nodes(self, count: int) -> tuple[Node, ...]:
        """Give the first so many nodes."""
        return tuple(self.node(number) for number in range(1, count + 1))

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
        """Say whether sockets of a node would not fit: containerd's second one is the longest that we name."""
        return len(f"{self.first.containerd_socket}.ttrpc") > _LONGEST_SOCKET
