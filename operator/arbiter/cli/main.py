"""`arbiter`: one program, a command for each of its processes and for what it generates.

Exit codes: 0 done, 1 the command found something to mend, 2 the command could not be carried out as it was given.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from arbiter import __version__
from arbiter.cli import fetch, operator, router
from arbiter.errors import ArbiterError

if TYPE_CHECKING:
    from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    top = argparse.ArgumentParser(prog="arbiter", description="Keeps the best local language model behind an endpoint.")
    top.add_argument("--version", action="version", version=f"arbiter {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    generate = commands.add_parser(
        "crds",
        help="write the CustomResourceDefinitions and what else follows from the kinds",
        description="Write the CustomResourceDefinitions, the chart's copy of them and their reference.",
    )
    way = generate.add_mutually_exclusive_group()
    way.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is out of date")
    way.add_argument("--print", action="store_true", help="print the definitions, for `kubectl apply -f -`")
    generate.add_argument("--root", type=Path, default=Path(), help="the checkout to write to (default: this folder)")
    generate.set_defaults(run=_run_crds)
    fetch.add(commands)
    operator.add(commands)
    router.add(commands)
    return top


def _run_crds(arguments: argparse.Namespace) -> int:
    from arbiter.cli import crds  # noqa: PLC0415  all kinds are built there, and a resolver should start soon

    return crds.run(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    arguments = parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except ArbiterError as error:
        print(f"arbiter: {error}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
