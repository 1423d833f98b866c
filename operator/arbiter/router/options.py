"""What a router is told on its command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """The command line of a router.

    Attributes:
        routes: the file that holds its table, or None to follow a ConfigMap.
        config_map: the ConfigMap that holds it.
        namespace: of that ConfigMap and of the Services that the table names.
        kubeconfig: how the cluster is reached; None inside it.
        kept: the folder in which the last good table is kept.
        host: the address that clients reach.
        port: the clients' port.
        admin_host: the address of the admin port.
        admin_port: the operator's and Prometheus' port.
        workers: processes that share the clients' port.
        keys: the file with the keys' hashes.
        backend_keys: the folder with the keys of model servers that want one, each in a file of its name.
        feedback_key: the file with the key that signs ids of answers.
        tls_certificate: the certificate chain of the clients' port.
        tls_key: its key, where that is another file.
        drain_s: seconds that requests under way get at the end.
        worker_fd: this process is a worker, and this is its end of the pair to its parent.
    """

    routes: Path | None = None
    config_map: str | None = None
    namespace: str = "default"
    kubeconfig: Path | None = None
    kept: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    admin_host: str = "127.0.0.1"
    admin_port: int = 9090
    workers: int = 1
    keys: Path | None = None
    backend_keys: Path | None = None
    feedback_key: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    drain_s: float = 30.0
    worker_fd: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot mean anything.

        Raises:
            InvalidInputError: it names the option.
        """
        if (self.routes is None) == (self.config_map is None) and self.worker_fd is None:
            raise InvalidInputError("--routes", "give exactly one of --routes FILE and --config-map NAME")
        if not 1 <= self.workers <= 64:
            raise InvalidInputError("--workers", f"must be from 1 to 64, not {self.workers}")
        for name, port in (("--port", self.port), ("--admin-port", self.admin_port)):
            if not 0 <= port <= 65_535:
                raise InvalidInputError(name, f"must be from 0 (any free one) to 65535, not {port}")
        if self.workers > 1 and self.port == 0:
            raise InvalidInputError("--port", "must not be 0 with several workers: they have to meet at one")
        if self.drain_s < 0:
            raise InvalidInputError("--drain", "must not be negative")
        if self.tls_key is not None and self.tls_certificate is None:
            raise InvalidInputError("--tls-key", "needs --tls-certificate")
