"""Runs the command line: `python -m devcluster up | down | status | …`.

What goes wrong is one line on standard error, and the exit code says it too. Commands that change the cluster exclude
each other.
"""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import signal
import socket
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import build, debian, engine, programs, pushing
from devcluster.commands import last_line
from devcluster.errors import DevclusterError
from devcluster.images import built as built_images
from devcluster.kind import cluster as kind
from devcluster.kind.cluster import KindCluster
from devcluster.native import storage
from devcluster.native.cluster import Cluster
from devcluster.native.layout import Layout
from devcluster.native.state import directory
from devcluster.nodes import Shape
from devcluster.provider import KIND, NATIVE, PROVIDERS, Facts, choose, refuse_unfit
from devcluster.waiting import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from devcluster.provider import Provider

_LOCK = "\0arbiter-devcluster"
"""An abstract socket: one holder per machine, as there is one cluster, and the kernel frees it with its holder."""

_TOOLS = frozenset({"iproute2", "mount", "nftables", "util-linux"})
"""Debian packages whose programs make namespaces, links and mounts; kube-proxy runs nft."""

_MACHINE_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES})
"""Errors of files that are about the machine and not about us: a full disk, or one that is not ours to write to."""

_NOT_UP = "the cluster is not up; bring it up: python -m devcluster up"


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
    except OSError as error:
        if error.errno not in _MACHINE_FAULTS:
            raise
        sys.stderr.write(f"devcluster: {error.filename}: {error.strerror}; make room there, or the right to write\n")
        return 1


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "up":
            return _up(options)
        case "down":
            return _down()
        case "status":
            return _status()
        case "start" | "stop" | "load":
            return _change(options)
        case "push":
            return _push(options)
        case _:
            return _show(options)


def _up(options: argparse.Namespace) -> int:
    watch = Stopwatch()
    shape = Shape(options.nodes, frozenset(options.gpu_node))
    standing = _standing()
    if standing is None:
        shape.resolved()  # what no new cluster can be is refused before minutes of building
    facts = _facts(standing, options.provider)
    choice = choose(facts)
    _say(f"uses {choice.provider}: {choice.why}")
    if choice.provider == NATIVE and Layout(directory(os.environ), {}).socket_is_too_long():
        state = directory(os.environ)
        raise DevclusterError(f"{state} is too long a path for sockets; set XDG_STATE_HOME to a shorter one")
    with _alone():
        if _standing() != standing:
            raise DevclusterError("another devcluster command has changed the cluster meanwhile; run this one again")
        built = _ensure(choice.provider, install=options.install)
        cluster = _provider(choice.provider, built, facts.engine.name)
        watch_up = Stopwatch()
        cluster.up(shape)
    seconds = watch.seconds() - watch_up.seconds()
    if seconds >= 1:
        _say(f"programs took {seconds:.0f} s")
    path, kubeconfig = (shlex.quote(str(one)) for one in (built["kubectl"].parent, cluster.kubeconfig()))
    _say(f"export KUBECONFIG={kubeconfig} PATH={path}:$PATH")
    _say(f"ready in {watch_up.seconds():.0f} s ({cluster.name})")
    return 0


def _down() -> int:
    watch = Stopwatch()
    standing = _standing()
    facts = _facts(standing)
    provider = standing or choose(facts).provider
    refuse_unfit(provider, facts)
    with _alone():
        _provider(provider, _built(provider), facts.engine.name).down()
    _say(f"down in {watch.seconds():.1f} s")
    return 0


def _status() -> int:
    standing = _standing()
    found, is_up = _cluster(standing).status() if standing else ({}, False)
    width = max(map(len, found), default=0)
    for name, condition in found.items():
        _say(f"{name:{width}}  {condition}")
    _say("the cluster is up" if is_up else "the cluster is not up")
    return 0 if is_up else 1


def _change(options: argparse.Namespace) -> int:
    """Change a cluster that is up."""
    archives = [_archive(image) for image in options.images] if options.command == "load" else []
    with _alone():
        standing = _standing()
        if standing is None:
            raise DevclusterError(_NOT_UP)
        refuse_unfit(standing, _facts(standing))
        cluster = _cluster(standing)
        match options.command:
            case "load":
                cluster.load(archives)
            case "start":
                cluster.start(options.component)
            case _:
                cluster.stop(options.component)
    return 0


def _push(options: argparse.Namespace) -> int:
    """Push images to the open registry of a cluster that is up, and print what pods and models call them."""
    archives = {name: _archive(name) for name in options.images}
    standing = _standing()
    if standing is None:
        raise DevclusterError(_NOT_UP)
    host = _cluster(standing).registry()
    for name, archive in archives.items():
        repository, tag = pushing.name_of(archive)
        try:
            pushing.Registry(host).push(archive, repository, tag)
        except OSError as error:
            raise DevclusterError(f"{name}: the registry at {host} did not take it: {error}") from error
        _say(f"{host}/{repository}:{tag}")
    return 0


def _show(options: argparse.Namespace) -> int:
    """Print something of a cluster that is up."""
    standing = _standing()
    if standing is None:
        raise DevclusterError(_NOT_UP)
    cluster = _cluster(standing)
    match options.command:
        case "kubeconfig":
            _say(str(cluster.kubeconfig()))
        case "nodes":
            sys.stdout.write(cluster.kubectl("get", "nodes", "--output=wide"))
        case "logs" if options.component is None:
            names = cluster.components()
            for name in names:
                _say(f"{name:{max(map(len, names))}}  {last_line(cluster.log(name))}")
        case _:
            sys.stdout.write(cluster.log(options.component))
    return 0


def _archive(image: str) -> Path:
    """Give the archive of an image: the file itself where one is named, else what was built under that name."""
    if not image.endswith(".tar"):
        return built_images.archive(image)
    path = Path(image)
    if not path.is_file():
        raise DevclusterError(f"{image} is not there; name an archive that is, or an image that `make image` built")
    return path


def _facts(standing: str | None, forced: str | None = None) -> Facts:
    """Gather what the choice of a provider depends on; an engine is asked only where that is open."""
    found = engine.find() if standing is None and forced != NATIVE else engine.Engine()
    return Facts(sys.platform, os.geteuid(), found, forced, standing)


def _standing() -> str | None:
    """Name the provider whose cluster is there, up or half way."""
    return next((name for name in PROVIDERS if _provider(name, {}, "").exists()), None)


def _cluster(standing: str) -> Provider:
    """Give the cluster that is there."""
    return _provider(standing, _built(standing), "")


def _provider(name: str, built: Mapping[str, Path], engine_name: str) -> Provider:
    """Give the cluster of this machine as one provider runs it, with the programs that are built."""
    if name == KIND:
        return KindCluster(kind.directory(os.environ, os.geteuid()), built, engine_name, _say)
    server = programs.named("kube-apiserver")
    version = programs.version_of(server)["version"] if isinstance(server, programs.Program) else ""
    return Cluster(Layout(directory(os.environ), built, version=version), _say)


def _ensure(provider: str, *, install: bool) -> Mapping[str, Path]:
    """Give a provider's programs, with what it needs of Debian; building what is missing."""
    if provider == NATIVE:
        debian.require(_TOOLS | storage.PACKAGES, install=install, report=_say)
        return build.ensure(programs.NATIVE, install=install, report=_say)
    found = kind.on_path(_say)
    built = build.ensure(_kind_programs(found), install=install, report=_say)
    return {**built, "kind": found} if found else built


def _built(provider: str) -> Mapping[str, Path]:
    """Give the programs that are built: asking after a cluster builds none."""
    found = kind.on_path(lambda _: None) if provider == KIND else None
    try:
        built = build.binaries(_kind_programs(found) if provider == KIND else programs.NATIVE)
    except DevclusterError:
        built = {}
    return {**built, "kind": found} if found else built


def _kind_programs(found: Path | None) -> Sequence[programs.AnyProgram]:
    """Give what is to be built for kind where it was found on PATH, or was not."""
    return [program for program in programs.KIND if found is None or program.name != "kind"]


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
    up = commands.add_parser("up", help="bring the cluster up, or let it grow; building what is missing")
    up.add_argument("--install", action="store_true", help="allow it to install Debian packages")
    up.add_argument("--provider", choices=PROVIDERS, help="who runs it (default: kind where an engine answers)")
    up.add_argument("--nodes", type=int, metavar="N", help="how many nodes (default: as many as there are, or one)")
    up.add_argument(
        "--gpu-node",
        type=int,
        action="append",
        default=[],
        metavar="N",
        help="mark node N as one with a GPU; repeatable",
    )
    commands.add_parser("down", help="end the cluster and undo all that it did to this machine")
    commands.add_parser("status", help="say what is up; the exit code says whether all of it is")
    commands.add_parser("kubeconfig", help="print the path of the administrator's kubeconfig")
    commands.add_parser("nodes", help="list the nodes")
    load = commands.add_parser("load", help="put images into the store of every node")
    load.add_argument("images", nargs="+", metavar="IMAGE", help="an OCI archive (*.tar), or an image of `make image`")
    push = commands.add_parser("push", help="put images into the cluster's open registry, and print their names there")
    push.add_argument("images", nargs="+", metavar="IMAGE", help="as with load")
    logs = commands.add_parser("logs", help="print the log of one component, or the last line of every one's")
    logs.add_argument("component", nargs="?", metavar="COMPONENT")
    for name in ("stop", "start"):
        one = commands.add_parser(name, help=f"{name} one component")
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
