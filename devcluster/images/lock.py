"""Reads a lock of Python packages, and says which of its pins hold for an image's Python.

pip can fetch packages for another Python, but asks a pin's marker about the Python that runs it. So markers are decided
here, and what pip is given has none.
"""

from __future__ import annotations

import ast
import operator
import platform
import re
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NEWEST_GLIBC = 41
"""Minor version of the C library in Debian's trixie: wheels for a newer one do not load there."""

_OLDEST_GLIBC = 17
"""Minor version of the oldest C library that wheels are still made for (PEP 599)."""

_Version = tuple[int, ...]

_COMPARED: Mapping[type[ast.cmpop], Callable[[_Version, _Version], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def environment(python: str) -> Mapping[str, str]:
    """Give what markers ask about (PEP 508), for a version of Python on Linux on this machine's processor."""
    return {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": platform.machine(),
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }


def platforms() -> tuple[str, ...]:
    """Name every platform whose wheels run in an image: pip takes each by its exact name."""
    machine = platform.machine()
    newer = (f"manylinux_2_{minor}_{machine}" for minor in range(_NEWEST_GLIBC, _OLDEST_GLIBC - 1, -1))
    return (*newer, f"manylinux2014_{machine}")


def for_environment(text: str, facts: Mapping[str, str]) -> str:
    """Give the lock's pins that hold, with their hashes and without markers."""
    logical = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    kept = []
    for line in filter(str.strip, logical.splitlines()):
        pin, *hashes = re.split(r"\s+(?=--hash=)", line.strip())
        requirement, _, marker = pin.partition(";")
        if not marker or holds(marker.strip(), facts):
            kept.append(" \\\n    ".join([requirement.strip(), *map(str.strip, hashes)]))
    return "".join(f"{pin}\n" for pin in kept)


def holds(marker: str, facts: Mapping[str, str]) -> bool:
    """Decide a marker; one of a form that locks do not have is refused, since a wrong guess would be silent."""
    try:
        return _true(ast.parse(marker, mode="eval").body, facts)
    except (SyntaxError, LookupError) as error:
        raise DevclusterError(f"cannot read the marker `{marker}` of a lock; lock.py must learn its form") from error


def _true(node: ast.expr, facts: Mapping[str, str]) -> bool:
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_true(value, facts) for value in values)
        case ast.BoolOp(op=ast.Or(), values=values):
            return any(_true(value, facts) for value in values)
        case ast.Compare(left=ast.Name(id=name), ops=[how], comparators=[ast.Constant(value=str(value))]):
            return _compare(name, how, value, facts)
        case _:
            raise LookupError(ast.dump(node))


def _compare(name: str, how: ast.cmpop, value: str, facts: Mapping[str, str]) -> bool:
    found = facts[name]
    if value.endswith(".*"):  # as in python_full_version == '3.13.*'
        found, value = ".".join(found.split(".")[: value.count(".")]), value.removesuffix(".*")
    if "version" in name:
        return _COMPARED[type(how)](_numbers(found), _numbers(value))
    return {ast.Eq: found == value, ast.NotEq: found != value}[type(how)]


def _numbers(text: str) -> _Version:
    """Give a version to compare: 3.13 and 3.13.0 are one, a name of a pre-release counts as its release."""
    numbers = [int(number) for number in re.findall(r"\d+", text)[:3]]
    return tuple(numbers + [0] * (3 - len(numbers)))
