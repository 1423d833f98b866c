"""Writes heads, and keeps back what belongs to one connection only.

Rule: the wire alone says how a message is framed. Whatever a caller hands over under those names is dropped, and a
line feed inside a field is an error of ours that must not reach a peer.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOP_BY_HOP = frozenset(
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

OWN_IN_ANSWERS = HOP_BY_HOP | {b"content-length", b"date"}
METHODS_WITHOUT_BODY = frozenset({b"GET", b"HEAD"})
OWN_IN_REQUESTS = HOP_BY_HOP | {b"content-length", b"host", b"expect"}

STATUS_LINES = {each.value: b"HTTP/1.1 %d %b" % (each.value, each.phrase.encode()) for each in HTTPStatus}


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
    fields = b"\r\n".join(lines)
    breaks = len(lines) - 1
    if fields.count(b"\n") != breaks or fields.count(b"\r") != breaks:
        raise ValueError("a header field of an answer holds a line break")
    return b"%b\r\n%b\r\n" % (fields, framing)


def request_head(
    method: bytes, target: bytes, host: bytes, headers: Iterable[tuple[bytes, bytes]], length: int
) -> bytes:
    """The head of a request to an engine. It has a Content-Length if there is a body or the method implies one.

    Raises:
        ValueError: if a field holds a line break, or the target a space.
    """
    lines = [b"%b %b HTTP/1.1\r\nhost: %b" % (method, target, host)]
    lines += [b": ".join(field) for field in headers if field[0] not in OWN_IN_REQUESTS]
    head = b"\r\n".join(lines)
    breaks = len(lines)
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b" " in target:
        raise ValueError("a header field of a request holds a line break, or its target a space")
    if length or method not in METHODS_WITHOUT_BODY:
        return b"%b\r\ncontent-length: %d\r\n\r\n" % (head, length)
    return head + b"\r\n\r\n"
