"""`arbiter resolve`, `fetch` and `carry`: what a source is, and its files on a volume or as a model in an Ollama."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from arbiter.api.amounts import Duration

if TYPE_CHECKING:
    from arbiter.fetch.fetch import FetchOptions
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
    _fetching(fetch)
    fetch.add_argument("--to", type=Path, required=True, metavar="PATH", help="the file, or the folder for several")
    fetch.set_defaults(run=run_fetch)

    carry = commands.add_parser(
        "carry",
        help="bring a model to an Ollama server that cannot pull it itself",
        description="Bring a resolved model here, give it to an Ollama server and have it made there.",
    )
    _fetching(carry)
    carry.add_argument("--engine", required=True, metavar="URL", help="the server's base address")
    carry.add_argument("--model", required=True, metavar="NAME", help="what the model is called there")
    carry.add_argument(
        "--options", type=_object, default={}, metavar="JSON", help="the runner options that it is made with"
    )
    where = carry.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", type=Path, metavar="FOLDER", help="where it is brought; removed once it is made")
    where.add_argument("--mounted", type=Path, metavar="FILE", help="the file, where it need not be brought")
    carry.set_defaults(run=run_carry)


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
    from arbiter.fetch.fetch import run  # noqa: PLC0415  other commands need nothing of it

    return run(_fetch_options(arguments, arguments.to))


def run_carry(arguments: argparse.Namespace) -> int:
    """Carry a source to a server."""
    from arbiter.fetch.carry import CarryOptions, run  # noqa: PLC0415  other commands need nothing of it

    fetching = _fetch_options(arguments, arguments.to or Path())
    return run(CarryOptions(fetching, arguments.engine, arguments.model, arguments.options, arguments.mounted))


def _fetch_options(arguments: argparse.Namespace, to: Path) -> FetchOptions:
    """Give what both commands that bring files are told."""
    from arbiter.fetch.fetch import FetchOptions  # noqa: PLC0415  as above

    host = {"progress_host": arguments.progress_host} if arguments.progress_host else {}
    return FetchOptions(
        arguments.source,
        arguments.digest,
        to,
        arguments.sha256,
        _access(arguments),
        progress_port=arguments.progress_port,
        total_s=arguments.total.seconds,
        idle_s=arguments.idle.seconds,
        termination_log=arguments.termination_log,
        **host,
    )


def _fetching(parser: argparse.ArgumentParser) -> None:
    """Add what both commands that bring files are told."""
    _asking(parser)
    parser.add_argument("--digest", required=True, help="what the source was resolved to")
    parser.add_argument("--progress-port", type=int, default=9093, help="where progress is told (default: %(default)s)")
    parser.add_argument("--progress-host", help="the address of that port (default: every one)")
    _duration(parser, "--total", "12h", "how long all of it may take")
    _duration(parser, "--idle", "1m", "how long a server may send nothing")


def _object(text: str) -> dict[str, object]:
    """Read a JSON object."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a JSON object: {error}") from error
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"must be a JSON object, not {text!r}")
    return found


def _asking(parser: argparse.ArgumentParser) -> None:
    """Add what all of these commands are told."""
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
