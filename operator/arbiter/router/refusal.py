"""Says no in the caller's own protocol: OpenAI, Ollama and Anthropic clients each read another form of error.

Rule: whatever the router itself refuses is raised as a `Refusal` and becomes bytes only in `refusal_body`.
"""

from __future__ import annotations

from enum import StrEnum
from json import JSONEncoder
from typing import TYPE_CHECKING, Final

from arbiter.errors import ArbiterError

if TYPE_CHECKING:
    from collections.abc import Mapping

encode = JSONEncoder(separators=(",", ":"), allow_nan=False).encode
"""Compact JSON in ASCII; `ValueError` for what JSON cannot say."""


class Protocol(StrEnum):
    """The API that a client speaks."""

    OPENAI = "openai"
    OLLAMA = "ollama"
    ANTHROPIC = "anthropic"


class Refusal(ArbiterError):  # noqa: N818  an answer, not an accident
    """A request that is answered by the router itself, and not well.

    Attributes:
        status: the HTTP status.
        code: a word that programs can compare, such as `model_not_found`.
        message: what is wrong and what would be right, as a sentence.
        field: the JSON field that is to blame, if one is.
        retry_after: seconds after which another try may succeed; `None` when that is not known.
        allow: the methods that the path does take, for status 405.
    """

    def __init__(  # noqa: PLR0913  the parts of one answer
        self,
        status: int,
        code: str,
        message: str,
        field: str | None = None,
        *,
        retry_after: int | None = None,
        allow: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.retry_after = retry_after
        self.allow = allow

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What its answer carries beside content type and length."""
        headers = []
        if self.retry_after is not None:
            headers.append((b"retry-after", b"%d" % self.retry_after))
        if self.allow:
            headers.append((b"allow", self.allow.encode()))
        return headers


_OPENAI_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}

_ANTHROPIC_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def protocol_of(path: bytes) -> Protocol:
    """The protocol in which whoever asked for this path expects an answer, whether the path exists or not."""
    if path.startswith(b"/api/") or path == b"/":
        return Protocol.OLLAMA
    return Protocol.ANTHROPIC if path.startswith(b"/v1/messages") else Protocol.OPENAI


def refusal_body(protocol: Protocol, refusal: Refusal) -> tuple[bytes, bytes]:
    """The content type and body of a refusal's answer."""
    return b"application/json", encode(_form(protocol, refusal)).encode()


def refusal_event(protocol: Protocol, refusal: Refusal) -> bytes:
    """The same inside a stream whose status went out before: a client that waited with a heartbeat is told so."""
    body = encode(_form(protocol, refusal)).encode()
    if protocol is Protocol.OLLAMA:
        return body + b"\n"
    return b"event: error\ndata: " + body + b"\n\n" if protocol is Protocol.ANTHROPIC else b"data: " + body + b"\n\n"


def error_body(protocol: Protocol, status: int, message: str) -> bytes:
    """What a model server said when it refused, in the form that the client reads."""
    return refusal_body(protocol, Refusal(status, "engine_refused", message))[1]


def _form(protocol: Protocol, refusal: Refusal) -> dict[str, object]:
    status, message = refusal.status, refusal.message
    other = "invalid_request_error" if status < 500 else "server_error"
    match protocol:
        case Protocol.OLLAMA:
            return {"error": message}
        case Protocol.ANTHROPIC:
            other = other if status < 500 else "api_error"
            return {"type": "error", "error": {"type": _ANTHROPIC_TYPES.get(status, other), "message": message}}
        case Protocol.OPENAI:
            kind = _OPENAI_TYPES.get(status, other)
            return {"error": {"message": message, "type": kind, "param": refusal.field, "code": refusal.code}}
