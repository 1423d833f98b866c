"""Asks the cluster's API server, as its administrator, and hands it what we run in the cluster.

Everything goes through kubectl, as people's own commands do.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from devcluster import nodes
from devcluster.commands import run
from devcluster.errors import DevclusterError
from devcluster.native import dns
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from devcluster.native.layout import Node
    from devcluster.native.supervision import Supervisor

_APPLY_S = 20.0
"""How long the API server may refuse our own objects, in seconds; usually it takes them at once."""

_REGISTERED_S = 60.0
"""How long a node may take to be known once its kubelet is up, in seconds; 1 is usual."""

_READY_S = 90.0
"""How long nodes and DNS may take once every component is up, in seconds; 3 are usual."""


class Api:
    """The API server of one cluster."""

    def __init__(self, supervisor: Supervisor) -> None:
        """Take the one who knows the programs and their logs."""
        self.supervisor = supervisor
        self.layout = supervisor.layout

    def kubectl(self, *arguments: str, user: str = "admin", stdin: str = "") -> str:
        """Run kubectl, and give what it printed."""
        program = self.supervisor.program("kubectl")
        return run(program, f"--kubeconfig={self.layout.kubeconfig(user)}", *arguments, stdin=stdin)

    def apply(self, objects: Sequence[dict[str, Any]]) -> None:
        """Apply objects of ours; a server that has just come up may refuse them until it has made its own."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        refused: list[DevclusterError] = []

        def is_applied() -> bool:
            try:
                self.kubectl("apply", "--server-side", "--filename=-", user="super-admin", stdin=document)
            except DevclusterError as error:
                refused.append(error)
                return False
            return True

        if not wait_until(is_applied, _APPLY_S, pause=0.5):
            raise refused[-1]

    def mark_gpu(self, node: Node) -> None:
        """Mark a node as a GPU node, as soon as the API server knows it."""
        if not wait_until(lambda: node.name in self._registered(), _REGISTERED_S, pause=0.1):
            raise self.supervisor.late(node.component("kubelet"), f"has not registered {node.name}")
        nodes.mark_gpu(self.kubectl, node.name)

    def await_ready(self, wanted: Iterable[Node]) -> None:
        """Wait until nodes are Ready and the cluster's DNS answers."""
        for node in wanted:
            if not wait_until(lambda name=node.name: name in self.ready_nodes(), _READY_S, pause=0.2):  # type: ignore[misc]  # mypy gives a lambda with a default no type
                raise self.supervisor.late(node.component("kubelet"), f"has not made {node.name} Ready")
        if not wait_until(self.dns_answers, _READY_S, pause=0.1):
            raise self.supervisor.late("kubelet", "runs no DNS that answers")

    def ready_nodes(self) -> set[str]:
        """Name the nodes that are Ready."""
        query = "{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=='Ready')].status} {end}"
        return {said.removesuffix("=True") for said in self._asked(query) if said.endswith("=True")}

    def dns_answers(self) -> bool:
        """Say whether the cluster's DNS answers."""
        return dns.answers(self.layout.addresses.dns, f"kubernetes.default.svc.{self.layout.domain}")

    def _registered(self) -> set[str]:
        """Name the nodes that the API server knows."""
        return self._asked("{range .items[*]}{.metadata.name} {end}")

    def _asked(self, query: str) -> set[str]:
        """Ask about all nodes; nothing is known where the API server does not answer."""
        try:
            return set(self.kubectl("get", "nodes", f"--output=jsonpath={query}").split())
        except DevclusterError:
            return set()
