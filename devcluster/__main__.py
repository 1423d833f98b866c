"""Runs the command line: `python -m devcluster up | down | status | …`.

What goes wrong is one line on standard error, and the exit code says it too. Commands that change the cluster exclude
each other.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from devcluster import build, debian, programs
from devcluster.errors import DevclusterError
from devcluster.layout import Layout
from devcluster.native import Cluster
from devcluster.state import directory
from devcluster.waiting import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_LOCK = "\0arbiter-devcluster"
"""An abstract socket: one holder per machine, as there is one cluster, and the kernel frees it with its holder."""

_TOOLS = {"iproute2", "mount", "nftables", "util-linux"}
"""Debian packages whose programs make namespaces, links and mounts; kube-proxy runs nft."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except DevclusterError as error:
        sys.stderr.write(f"devcluster: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("devcluster: interrupted\n")
        return 130


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "up":
            return _up(install=options.install)
        case "down":
            return _down()
        case "status":
            return _status()
        case "start" | "stop":
            return _switch(options.command, options.component)
        case _:
            return _show(options)


def _up(*, install: bool) -> int:
    watch = Stopwatch()
    _refuse_unfit()
    if Layout(directory(os.environ), {}).socket_is_too_long():
        state = directory(os.environ)
        raise DevclusterError(f"{state} is too long a path for sockets; set XDG_STATE_HOME to a shorter one")
    with _alone():
        debian.require(_TOOLS, install=install, report=_say)
        cluster = _cluster(build.ensure(install=install, report=_say))
        watch_up = Stopwatch()
        cluster.up()
    built = watch.seconds() - watch_up.seconds()
    if built >= 1:
        _say(f"programs took {built:.0f} s")
    _say(f"kubeconfig: {cluster.layout.kubeconfig('admin')}")
    _say(f"ready in {watch_up.seconds():.0f} s (native)")
    return 0


def _down() -> int:
    watch = Stopwatch()
    _refuse_unfit()
    with _alone():
        _cluster({}).down()
    _say(f"down in {watch.seconds():.1f} s")
    return 0


def _status() -> int:
    found, is_up = _cluster(_built()).status()
    width = max(map(len, found))
    for name, condition in found.items():
        _say(f"{name:{width}}  {condition}")
    _say("the cluster is up" if is_up else "the cluster is not up")
    return 0 if is_up else 1


def _switch(command: str, component: str) -> int:
    _refuse_unfit()
    with _alone():
        cluster = _cluster(build.binaries())
        (cluster.start if command == "start" else cluster.stop)(component)
    return 0


def _show(options: argparse.Namespace) -> int:
    cluster = _cluster(_built())
    if not cluster.journal.exists():
        raise DevclusterError("the cluster is not up; bring it up: python -m devcluster up")
    match options.command:
        case "kubeconfig":
            _say(str(cluster.layout.kubeconfig("admin")))
        case "nodes":
            sys.stdout.write(cluster.kubectl("get", "nodes", "--output=wide"))
        case _:
            sys.stdout.write(cluster.log(options.component))
    return 0


def _cluster(built: Mapping[str, Path]) -> Cluster:
    """Give the cluster of this machine, with the programs that are built."""
    server = programs.named("kube-apiserver")
    version = programs.version_of(server)["version"] if isinstance(server, programs.Program) else ""
    return Cluster(Layout(directory(os.environ), built, version=version), _say)


def _built() -> Mapping[str, Path]:
    """Give the programs that are built: asking after a cluster builds none."""
    try:
        return build.binaries()
    except DevclusterError:
        return {}


def _refuse_unfit() -> None:
    """Raise where this machine or this user cannot run a node."""
    if not sys.platform.startswith("linux"):
        raise DevclusterError(f"a node needs Linux, and this is {sys.platform}; run it in a Linux virtual machine")
    if os.geteuid() != 0:
        raise DevclusterError(
            "a node needs root, for namespaces and mounts; become root: sudo --preserve-env=HOME,XDG_CACHE_HOME,"
            f"XDG_STATE_HOME {sys.executable} -m devcluster …"
        )


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the machine's one lock, or raise."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as lock:
        try:
            lock.bind(_LOCK)
        except OSError:
            raise DevclusterError("another devcluster command is changing the cluster; wait for it to end") from None
        yield


def _parser() -> argparse.ArgumentParser:
    """Give the command line's grammar."""
    parser = argparse.ArgumentParser(prog="python -m devcluster", description="A real Kubernetes on this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="bring the cluster up; building what is missing")
    up.add_argument("--install", action="store_true", help="allow it to install Debian packages")
    up.add_argument("--provider", choices=["native"], default="native", help="who runs it (default: native)")
    commands.add_parser("down", help="end the cluster and undo all that it did to this machine")
    commands.add_parser("status", help="say what is up; the exit code says whether all of it is")
    commands.add_parser("kubeconfig", help="print the path of the administrator's kubeconfig")
    commands.add_parser("nodes", help="list the nodes")
    for name, does in (("logs", "print the log of"), ("stop", "stop"), ("start", "start")):
        one = commands.add_parser(name, help=f"{does} one component")
        one.add_argument("component", metavar="COMPONENT")
    return parser


def _say(line: str) -> None:
    """Tell one line, at once: whoever waits wants to see how far it is."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # Ended from outside, as by Ctrl-C: what we started must not go on without us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
