"""Runs the command line: `python -m devcluster.images [NAME…] [--install]`.

What goes wrong is one line on standard error, or the last lines of the tool that failed, and the exit code says it too.
"""

from __future__ import annotations

import argparse
import signal
import sys
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError
from devcluster.images import build
from devcluster.images.recipes import NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Build images and give the exit code."""
    options = _parser().parse_args(arguments)
    try:
        build.ensure(options.names or NAMES, install=options.install, report=_say)
    except DevclusterError as error:
        sys.stderr.write(f"devcluster: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("devcluster: interrupted\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    """Give the command line's grammar."""
    parser = argparse.ArgumentParser(prog="python -m devcluster.images", description="Build our container images.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which (default: all of {', '.join(NAMES)})")
    parser.add_argument("--install", action="store_true", help="allow it to install Debian packages")
    return parser


def _say(line: str) -> None:
    """Tell one line, at once: whoever waits wants to see how far it is."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # Ended from outside, as by Ctrl-C: what we started must not go on without us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
