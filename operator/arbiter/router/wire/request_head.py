"""Reads the head of a request in the strictest way that RFC 9112 allows, or says why not.

Rule: what two parsers could read differently is refused, whichever of them is right. No line folding, no bare line
feed, no space before a colon, one Content-Length, Transfer-Encoding only as `chunked` and never beside a length,
one Host, and a target that begins with a slash. The grammar is one regular expression; only a head that fails it is
looked at again to find the words for the refusal.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NoReturn

from arbiter.router.wire.headers import end_to_end
from arbiter.router.wire.limits import TARGET_BYTES

if TYPE_CHECKING:
    from arbiter.router.wire.limits import Limits

METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
"""The methods that reach a handler. Any other that is spelled well is answered 501."""

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]"
FIELDS: Final = rb"(?:" + TOKEN + rb"++:" + VALUE + rb"*+\r\n)*+"
HEAD: Final = re.compile(
    rb"(" + b"|".join(METHODS) + rb") (/[!-\"$-~]*+) HTTP/1\.([01])\r\n(" + FIELDS + rb")\r\n",
)
FIELD_LINES: Final = re.compile(FIELDS)
LENGTH_DIGITS: Final = 15
"""A body of more digits than these is not meant."""
HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~%!$&'()*+,;=]+)(?::[0-9]{0,5})?")
METHOD: Final = TOKEN + rb"{1,24}"
REQUEST_LINE: Final = re.compile(rb"(" + METHOD + rb") ([!-~]+) HTTP/([0-9])\.([0-9])")
LONG_TARGET: Final = re.compile(METHOD + rb" [!-~]{%d}" % TARGET_BYTES)
BEGINNING: Final = re.compile(METHOD + rb"(?: |\Z)")
"""A method and a space, or the first part of that."""
NEVER: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""What no head holds, complete or not; a client that sends it need not be waited for."""

FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"host", b"connection", b"expect", b"upgrade"})


@lru_cache(256)
def is_host(value: bytes) -> bool:
    """Whether it is a host with or without a port. Remembered, as clients say the same one with each request."""
    return HOST.fullmatch(value) is not None


class RefusedError(Exception):
    """A request that is answered by the wire itself, after which the connection is closed.

    Attributes:
        status: of the answer.
        reason: one sentence for the client.
        request_line: what it sent as one, as far as it came; b"" if nothing.
    """

    def __init__(self, status: int, reason: str, request_line: bytes = b"") -> None:
        """Say what is wrong."""
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.request_line = request_line


class Request:
    """One request, complete.

    Attributes:
        method: one of METHODS.
        path: of the target, before `?`; begins with a slash.
        query: after `?`; b"" without one.
        headers: names in lower case, values without the space around them, in the order they came; without those
            that Connection names.
        body: whole, without chunk framing.
        http10: whether it is HTTP/1.0.
        keep: whether the client lets the connection stay open.
    """

    __slots__ = ("body", "headers", "http10", "keep", "method", "path", "query")

    def __init__(  # noqa: PLR0913  the parts of a head
        self, method: bytes, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], *, http10: bool, keep: bool
    ) -> None:
        """Without its body, which comes later."""
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = b""
        self.http10 = http10
        self.keep = keep

    def header(self, name: bytes) -> bytes | None:
        """The first value of that name (in lower case), or None."""
        for each, value in self.headers:
            if each == name:
                return value
        return None


class Framing:
    """What the header fields say about the rest of the message.

    Attributes:
        length: of the body; -1 without a Content-Length.
        chunked: whether the body is in chunks.
        expects: whether the client waits for `100 Continue`.
        upgrade: whether it offers another protocol. The offer is ignored, which RFC 9110 allows.
        named: whether Connection names other fields, which then mean this connection only.
    """

    __slots__ = ("chunked", "close", "expects", "hosts", "keep", "length", "named", "upgrade")

    def __init__(self) -> None:
        """Nothing said yet."""
        self.length = -1
        self.chunked = self.expects = self.upgrade = self.close = self.keep = self.named = False
        self.hosts = 0

    def read(self, name: bytes, value: bytes) -> None:
        """Take one field of FRAMING.

        Raises:
            RefusedError: if it cannot stand, or not beside those before it.
        """
        match name:
            case b"content-length":
                self._read_length(value)
            case b"transfer-encoding":
                self._read_coding(value)
            case b"host":
                self.hosts += 1
                if not is_host(value):
                    raise RefusedError(400, "the Host field is not a host and port")
            case b"connection":
                for token in value.lower().split(b","):
                    self._read_connection(token.strip(b" \t"))
            case b"expect":
                if value.lower() != b"100-continue":
                    raise RefusedError(417, "the only expectation that can be met is 100-continue")
                self.expects = True
            case _:
                self.upgrade = True

    def _read_length(self, value: bytes) -> None:
        if self.length >= 0:
            raise RefusedError(400, "there is more than one Content-Length")
        if not value.isdigit() or len(value) > LENGTH_DIGITS:
            raise RefusedError(400, "the Content-Length is not a plain number")
        self.length = int(value)

    def _read_connection(self, token: bytes) -> None:
        if token == b"close":
            self.close = True
        elif token == b"keep-alive":
            self.keep = True
        else:
            self.named = True

    def _read_coding(self, value: bytes) -> None:
        if self.chunked:
            raise RefusedError(400, "there is more than one Transfer-Encoding")
        lower = value.lower()
        if lower != b"chunked":
            codings = [each.strip(b" \t") for each in lower.split(b",")]
            if codings[-1] == b"chunked" and codings.count(b"chunked") == 1 and all(codings):
                raise RefusedError(501, "the only transfer coding that is understood is chunked")
            raise RefusedError(400, "the Transfer-Encoding does not end with a single chunked")
        self.chunked = True

    def check(self, *, http10: bool) -> bool:
        """Check what only shows when all fields are read; returns whether the connection may stay open.

        Raises:
            RefusedError: for a body of two lengths, or not exactly one Host.
        """
        if self.chunked and (self.length >= 0 or http10):
            other = "HTTP/1.0" if http10 else "a Content-Length"
            raise RefusedError(400, f"a Transfer-Encoding cannot stand beside {other}")
        if self.hosts != 1 and (self.hosts or not http10):
            raise RefusedError(400, "there must be exactly one Host field")
        return not self.close and (self.keep or not http10)


def read_head(raw: bytes, end: int, limits: Limits) -> tuple[Request, Framing]:
    """Read everything up to `end`, which is after the empty line; the body is still to be set.

    Raises:
        RefusedError: with the status and the reason.
    """
    match = HEAD.fullmatch(raw, 0, end)
    if match is None:
        refuse(raw[:end])
    method, target, minor, block = match.groups()
    if len(target) > TARGET_BYTES:
        raise RefusedError(414, "the request target is too long", first_line(raw))
    headers = []
    for line in block.split(b"\r\n"):
        name, _, value = line.partition(b":")
        headers.append((name.lower(), value.strip(b" \t")))
    headers.pop()  # what is behind the last line end
    if len(headers) > limits.headers:
        raise RefusedError(431, f"there are more than {limits.headers} header fields", first_line(raw))
    framing = Framing()
    http10 = minor == b"0"
    try:
        for name, value in headers:
            if name in FRAMING:
                framing.read(name, value)
        keep = framing.check(http10=http10)
    except RefusedError as refused:
        refused.request_line = first_line(raw)
        raise
    if framing.named:
        headers = end_to_end(headers)
    path, _, query = target.partition(b"?")
    return Request(method, path, query, headers, http10=http10, keep=keep), framing


def first_line(raw: bytes) -> bytes:
    """The request line, as far as it came."""
    return raw[: TARGET_BYTES + 64].partition(b"\n")[0].rstrip(b"\r")


def refuse(raw: bytes) -> NoReturn:
    """Find the words for a head that is not one, complete or not.

    Raises:
        RefusedError: always.
    """
    line = first_line(raw)
    whole, _, rest = raw.partition(b"\r\n")
    found = REQUEST_LINE.fullmatch(whole)
    if found is None and LONG_TARGET.match(whole):
        raise RefusedError(414, "the request target is too long", line)
    if found is None:
        raise RefusedError(400, "the request line is not `METHOD /path HTTP/1.1`", line)
    method, target, major, minor = found.groups()
    if (major, minor) not in {(b"1", b"0"), (b"1", b"1")}:
        raise RefusedError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here", line)
    if method == b"CONNECT":
        raise RefusedError(400, "this is no proxy: CONNECT leads nowhere", line)
    if method not in METHODS:
        raise RefusedError(501, "the method is not known here", line)
    if not target.startswith(b"/") or b"#" in target:
        raise RefusedError(400, "the request target must be a path that begins with a slash", line)
    raise RefusedError(400, _fault_of_fields(rest), line)


def _fault_of_fields(rest: bytes) -> str:
    match = FIELD_LINES.match(rest)
    bad = rest[match.end() if match else 0 :].partition(b"\n")[0].rstrip(b"\r")
    name, colon, _ = bad.partition(b":")
    if bad[:1] in {b" ", b"\t"}:
        return "a header field is folded over two lines"
    if not colon or not re.fullmatch(TOKEN + rb"+", name):
        return "a line of the head is not `name: value` with a plain name and no space before the colon"
    return "a header field holds a control character or a line ends without CR LF"
