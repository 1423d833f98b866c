"""What the fields of a RouteTable may look like: names, addresses, words and spans of time.

Rule: every refusal names the field and what would be right, because in a file a person wrote it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from arbiter.core.stored import Stored

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
"""The name of an object of Kubernetes; a task's name too."""

_TOKEN = re.compile(r"[!-~]{1,253}")
"""A model's name or a revision: both become response headers, so no blanks and only ASCII."""

_SENTENCE = re.compile(r"[ -~]{0,1024}")
"""A reason that is told to clients."""

_URL = re.compile(
    r"https?://(?:[A-Za-z0-9_](?:[-A-Za-z0-9._]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?(?:/[-A-Za-z0-9._~%!$&'()*+,;=:]+)*"
)
"""A base address: no user, no query, no fragment and no '/' at its end, for a path goes behind it."""


def checked_name(value: str, path: str) -> str:
    """A name that stands anywhere."""
    if not _NAME.fullmatch(value):
        raise CorruptStateError(f"{path} must be a name of lower-case letters, digits, '-' and '.'")
    return value


def name(stored: Stored, field: str) -> str:
    """A field that is the name of an object."""
    return checked_name(stored.text(field), f"{stored.path}.{field}")


def name_or_empty(stored: Stored, field: str) -> str:
    """A field that is the name of an object, or says that there is none."""
    value = stored.text(field)
    return checked_name(value, f"{stored.path}.{field}") if value else value


def token(stored: Stored, field: str) -> str:
    """A field that can stand in a response header."""
    return _matching(stored, field, _TOKEN, "visible ASCII without blanks, of 1 to 253 characters")


def sentence(stored: Stored, field: str) -> str:
    """A field that can be told to people, or is empty."""
    return _matching(stored, field, _SENTENCE, "a sentence in ASCII of at most 1024 characters, or empty")


def words(stored: Stored, field: str) -> tuple[str, ...]:
    """A field that is a list of different names."""
    path = f"{stored.path}.{field}"
    found = [checked_name(each if isinstance(each, str) else "", path) for each in stored.items(field)]
    if len(set(found)) != len(found):
        raise CorruptStateError(f"{path} must name each once")
    return tuple(found)


def addresses(stored: Stored, field: str) -> tuple[str, ...]:
    """A field that is a list of different base addresses, at least one."""
    path = f"{stored.path}.{field}"
    found = [_address(each, f"{path}[{i}]") for i, each in enumerate(stored.items(field))]
    if not found or len(set(found)) != len(found):
        raise CorruptStateError(f"{path} must name at least one address, and each once")
    return tuple(found)


def count_or_none(stored: Stored, field: str) -> int | None:
    """A field that is a whole number of at least 1, or null."""
    value = stored.take(field)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise CorruptStateError(f"{stored.path}.{field} must be a whole number of at least 1, or null")
    return value


def _address(value: object, path: str) -> str:
    match = _URL.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match["port"] or 80) > 65_535:
        raise CorruptStateError(f"{path} must be http:// or https://, host and port, without user, query or '/' behind")
    return match.string


def _matching(stored: Stored, field: str, pattern: re.Pattern[str], wanted: str) -> str:
    value = stored.text(field)
    if not pattern.fullmatch(value):
        raise CorruptStateError(f"{stored.path}.{field} must be {wanted}")
    return value
