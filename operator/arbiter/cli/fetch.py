"""`arbiter resolve` and `arbiter fetch`: what a source is, and its files on a volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from arbiter.api.amounts import Duration

if TYPE_CHECKING:
    import argparse

    from arbiter.fetch.resolve import Access

TERMINATION_LOG = Path("/dev/termination-log")
"""Where a container leaves its last word, unless its pod names another place."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the commands."""
    resolve = commands.add_parser(
        "resolve",
        help="find out what a model's source is right now",
        description="Find out what a model's source is right now, and write it as one line of JSON.",
    )
    _asking(resolve)
    resolve.add_argument("--mounted", type=Path, metavar="FOLDER", help="where the claim of a pvc source is mounted")
    resolve.add_argument("--architecture", default="", help="of the image that is read (default: this machine's)")
    _duration(resolve, "--deadline", "5m", "how long the source may be asked again")
    resolve.set_defaults(run=run_resolve)

    fetch = commands.add_parser(
        "fetch",
        help="bring a model's files to a volume",
        description="Bring the files of a resolved source to a volume, resumed where it broke off and checked.",
    )
    _asking(fetch)
    fetch.add_argument("--digest", required=True, help="what the source was resolved to")
    fetch.add_argument("--to", type=Path, required=True, metavar="PATH", help="the file, or the folder for several")
    fetch.add_argument("--progress-port", type=int, default=9093, help="where progress is told (default: %(default)s)")
    fetch.add_argument("--progress-host", help="the address of that port (default: every one)")
    _duration(fetch, "--total", "12h", "how long all of it may take")
    _duration(fetch, "--idle", "1m", "how long a server may send nothing")
    fetch.set_defaults(run=run_fetch)


def run_resolve(arguments: argparse.Namespace) -> int:
    """Resolve a source."""
    from arbiter.fetch.resolve import ResolveOptions, run  # noqa: PLC0415  other commands need nothing of it

    return run(
        ResolveOptions(
            arguments.source,
            arguments.sha256,
            _access(arguments),
            arguments.mounted,
            arguments.architecture,
            arguments.deadline.seconds,
            arguments.termination_log,
        )
    )


def run_fetch(arguments: argparse.Namespace) -> int:
    """Fetch a source."""
    from arbiter.fetch.fetch import FetchOptions, run  # noqa: PLC0415  other commands need nothing of it

    host = {"progress_host": arguments.progress_host} if arguments.progress_host else {}
    return run(
        FetchOptions(
            arguments.source,
            arguments.digest,
            arguments.to,
            arguments.sha256,
            _access(arguments),
            progress_port=arguments.progress_port,
            total_s=arguments.total.seconds,
            idle_s=arguments.idle.seconds,
            termination_log=arguments.termination_log,
            **host,
        )
    )


def _asking(parser: argparse.ArgumentParser) -> None:
    """Add what both commands are told."""
    parser.add_argument("--source", required=True, metavar="URI", help="oci://, ollama://, hf://, https:// or pvc://")
    parser.add_argument("--sha256", default="", metavar="HEX", help="the sum that the file must have")
    parser.add_argument("--docker-config", type=Path, metavar="FILE", help="who we are at registries")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a bearer token for hf and https sources")
    parser.add_argument(
        "--termination-log",
        type=Path,
        metavar="FILE",
        default=TERMINATION_LOG if TERMINATION_LOG.exists() else None,
        help=f"the file that the kubelet reads (default: {TERMINATION_LOG}, where there is one)",
    )
    parser.add_argument(
        "--plain-http", action="append", default=[], metavar="HOST", help="a host, with its port, asked without TLS"
    )


def _duration(parser: argparse.ArgumentParser, name: str, default: str, help_text: str) -> None:
    """Add an option that is a duration."""
    parser.add_argument(name, type=Duration.parse, default=default, help=f"{help_text} (default: {default})")


def _access(arguments: argparse.Namespace) -> Access:
    """Give what lets us in."""
    from arbiter.fetch.resolve import Access, hub_address  # noqa: PLC0415  as above

    return Access(arguments.docker_config, arguments.token_file, tuple(arguments.plain_http), hub_address())
