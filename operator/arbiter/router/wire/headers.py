"""Writes heads, and keeps back what belongs to one connection only.

Rule: the wire alone says how a message is framed. Whatever a caller hands over under those names is dropped, and a
line feed inside a field is an error of ours that must not reach a peer.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
"""Header fields that mean one connection: RFC 9110, 7.6.1, and what used to be sent in their place."""

OWN_IN_ANSWERS: Final = HOP_BY_HOP | {b"content-length", b"date"}
METHODS_WITHOUT_BODY: Final = frozenset({b"GET", b"HEAD"})
OWN_IN_REQUESTS: Final = HOP_BY_HOP | {b"content-length", b"host", b"expect"}

STATUS_LINES: Final = {each.value: b"HTTP/1.1 %d %b" % (each.value, each.phrase.encode()) for each in HTTPStatus}


def end_to_end(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The fields that may go further than this connection; names in lower case."""
    kept = [field for field in headers if field[0] not in HOP_BY_HOP]
    if len(kept) == len(headers):
        return kept
    named = {
        token.strip(b" \t").lower() for name, value in headers if name == b"connection" for token in value.split(b",")
    }
    return [field for field in kept if field[0] not in named]


def answer_head(status: int, headers: Iterable[tuple[bytes, bytes]], framing: bytes) -> bytes:
    """The head of an answer; `framing` is the last fields, each with its CR LF.

    Raises:
        ValueError: if a field holds a line break.
    """
    line = STATUS_LINES.get(status)
    lines = [line if line is not None else b"HTTP/1.1 %d " % status]
    lines += [b": ".join(field) for field in headers if field[0] not in OWN_IN_ANSWERS]
    if has_break(b" ".join(lines)):
        raise ValueError("a header field of an answer holds a line break")
    lines.append(framing)
    return b"%b\r\n" % b"\r\n".join(lines)


def request_head(
    method: bytes, target: bytes, host: bytes, headers: Iterable[tuple[bytes, bytes]], length: int
) -> bytes:
    """The head of a request to an engine. It has a Content-Length if there is a body or the method implies one.

    Raises:
        ValueError: if a field holds a line break, or the target a space.
    """
    head = _request_lines(method, target, host, tuple(headers))
    if length or method not in METHODS_WITHOUT_BODY:
        return b"%b\r\ncontent-length: %d\r\n\r\n" % (head, length)
    return head + b"\r\n\r\n"


@lru_cache(512)
def _request_lines(method: bytes, target: bytes, host: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """All but the length; remembered, because an engine is sent the same with nearly every request."""
    lines = [b"%b %b HTTP/1.1" % (method, target), b"host: %b" % host]
    lines += [b": ".join(field) for field in headers if field[0] not in OWN_IN_REQUESTS]
    if has_break(b" ".join(lines)) or b" " in target:
        raise ValueError("a header field of a request holds a line break, or its target a space")
    return b"\r\n".join(lines)


def has_break(text: bytes) -> bool:
    """Whether a line break stands in it, or half of one."""
    return text.find(b"\n") >= 0 or text.find(b"\r") >= 0
