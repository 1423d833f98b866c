"""Reads what a process is told: a flag, else the variable ARBITER_ and its name, else the default.

Rule: a value that cannot mean anything is refused by the name of its flag, with what would be right.
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Value = TypeVar("Value")

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_OBJECT = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_REGISTRY = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}")


def variable(flag: str) -> str:
    """The variable that gives a flag's value where the flag is not given."""
    return f"ARBITER_{flag.upper().replace('-', '_')}"


def add_setting(  # noqa: PLR0913  what describes a flag
    parser: argparse.ArgumentParser,
    *,
    flag: str,
    read: Callable[[str], Value],
    default: Value | None,
    help_text: str,
    environ: Mapping[str, str],
) -> None:
    """Describe a flag, whose default is its variable or else the one given.

    Args:
        parser: of the command.
        flag: without dashes in front.
        read: makes a value of a text, or raises `argparse.ArgumentTypeError` with what would be right.
        default: what holds when neither is given.
        help_text: what it is for.
        environ: the variables.
    """
    shown = "" if default in (None, (), "") else f" (default: {default})"

    def read_given(text: str) -> Value | None:
        """An empty text is a value that was not given: that is what a chart makes of a value that is not set."""
        return read(text) if text else default

    # argparse reads a default that is a text as if it had been given.
    given = environ.get(variable(flag)) or default
    parser.add_argument(f"--{flag}", type=read_given, default=given, help=help_text + shown, metavar="VALUE")


def read_name(text: str) -> str:
    """The name of a namespace or another object."""
    if _NAME.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"must be a name of lower-case letters, digits and '-', not {text!r}")
    return text


def read_object_name(text: str) -> str:
    """The name of an object whose name may hold dots, such as a ConfigMap."""
    if _OBJECT.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"must be a name of lower-case letters, digits, '-' and '.', not {text!r}")
    return text


def read_names(text: str) -> tuple[str, ...]:
    """Names, with commas between; empty for none."""
    return tuple(dict.fromkeys(read_name(name.strip()) for name in text.split(",") if name.strip()))


def read_registries(text: str) -> tuple[str, ...]:
    """Hosts of registries, each with its port if it has one, with commas between; empty for none."""
    hosts = tuple(dict.fromkeys(host.strip() for host in text.split(",") if host.strip()))
    if wrong := [host for host in hosts if _REGISTRY.fullmatch(host) is None]:
        raise argparse.ArgumentTypeError(f"must be hosts such as registry.example:5000, not {wrong[0]!r}")
    return hosts


def read_domain(text: str) -> str:
    """The domain of a cluster."""
    if _DOMAIN.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"must be a domain such as cluster.local, not {text!r}")
    return text


def read_image(text: str) -> str:
    """A container image."""
    if _IMAGE.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"must be a container image such as registry.example/name:tag, not {text!r}")
    return text


def read_port(text: str) -> int:
    """A TCP port."""
    if not text.isascii() or not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"must be a port from 0 (any free one) to 65535, not {text!r}")
    return int(text)
