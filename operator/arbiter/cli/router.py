"""`arbiter router`: the data plane of one pool, or of a table in a file."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from arbiter.router.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "router",
        help="route requests to models by a table",
        description="Route requests to models by a table, in a file or in a ConfigMap, and count what becomes of them.",
    )
    default = Options(routes=Path())

    def option(name: str, kind: Callable[[str], object], help_text: str, value: object = None) -> None:
        """An option; the variable ARBITER_NAME gives its value where the flag is not given."""
        found = os.environ.get(f"ARBITER_{name.upper().replace('-', '_')}")
        said = "" if value is None else f" (default: {value})"
        parser.add_argument(f"--{name}", type=kind, default=found or value, help=help_text + said)

    option("routes", Path, "the file that holds the table; it is obeyed again whenever it changes")
    option("config-map", str, "the ConfigMap that holds the table, in its key routes.json")
    option("namespace", str, "the namespace of that ConfigMap", default.namespace)
    option("kubeconfig", Path, "how to reach the cluster from outside of it")
    option("kept", Path, "a folder for the last good table, to start from while the API server is away")
    option("host", str, "the address that clients reach; 0.0.0.0 for every one", default.host)
    option("port", int, "the clients' port", default.port)
    option("admin-host", str, "the address of the admin port", default.admin_host)
    option("admin-port", int, "the port of the operator and of Prometheus", default.admin_port)
    option("workers", int, "processes that share the clients' port", default.workers)
    option("keys", Path, "a file with hashes of API keys; without it whoever reaches the port may ask")
    option("backend-keys", Path, "a folder with the keys of model servers, each in a file of the name in the table")
    option("feedback-key", Path, "a file with the key that signs ids of answers, shared by all routers of a pool")
    option("tls-certificate", Path, "a PEM file with the certificate chain of the clients' port")
    option("tls-key", Path, "its key, where that is another file")
    option("drain", float, "seconds that requests under way get at the end", default.drain_s)
    parser.add_argument("--worker-fd", type=int, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the router until it is told to end."""
    from arbiter.router.main import run as run_router  # noqa: PLC0415  other commands need nothing of it

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    fields = {
        name: getattr(arguments, name)
        for name in Options.__dataclass_fields__
        if name != "drain_s" and hasattr(arguments, name)
    }
    # Workers get the same words again: flags and variables alike.
    return run_router(
        Options(**fields, drain_s=arguments.drain), (sys.executable, "-m", "arbiter.cli.main", *sys.argv[1:])
    )
