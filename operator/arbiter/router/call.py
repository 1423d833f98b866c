"""Reads what a client asked for, once, in whichever protocol it speaks.

Rule: only listed methods and paths exist, and a body is one JSON object in UTF-8. Whatever else is wrong with it is
left to the engine to say, unless the router needs the field itself.
"""

from __future__ import annotations

from enum import StrEnum
from json import JSONDecodeError, JSONDecoder
from math import isfinite
from typing import TYPE_CHECKING, Final, NoReturn

from arbiter.router.refusal import Protocol, Refusal, protocol_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arbiter.core.routes import Task


class Operation(StrEnum):
    """What a client can ask for."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    MODELS = "models"
    MODEL = "model"
    MESSAGES = "messages"
    FEEDBACK = "feedback"
    OLLAMA_CHAT = "ollama-chat"
    OLLAMA_GENERATE = "ollama-generate"
    OLLAMA_EMBED = "ollama-embed"
    OLLAMA_EMBEDDINGS = "ollama-embeddings"
    """The older form of `OLLAMA_EMBED`: one text, one vector."""
    OLLAMA_CHAT_EMPTY = "ollama-chat-empty"
    """A chat without messages: it asks that the model be in memory or leave it, and nothing else."""
    OLLAMA_GENERATE_EMPTY = "ollama-generate-empty"
    """A generation without a prompt: the same."""
    OLLAMA_TAGS = "ollama-tags"
    OLLAMA_SHOW = "ollama-show"
    OLLAMA_PS = "ollama-ps"
    OLLAMA_VERSION = "ollama-version"
    OLLAMA_ALIVE = "ollama-alive"
    """What Ollama's own command line asks first, at `/`."""


FORWARDED: Final = frozenset({
    Operation.CHAT,
    Operation.COMPLETIONS,
    Operation.EMBEDDINGS,
    Operation.MESSAGES,
    Operation.OLLAMA_CHAT,
    Operation.OLLAMA_GENERATE,
    Operation.OLLAMA_EMBED,
    Operation.OLLAMA_EMBEDDINGS,
})  # fmt: skip
"""What an engine answers; `FEEDBACK` is the ledger's, and all others are answered from the table."""

_POSTS: Final[Mapping[bytes, Operation]] = {
    b"/v1/chat/completions": Operation.CHAT,
    b"/v1/completions": Operation.COMPLETIONS,
    b"/v1/embeddings": Operation.EMBEDDINGS,
    b"/v1/messages": Operation.MESSAGES,
    b"/v1/feedback": Operation.FEEDBACK,
    b"/api/chat": Operation.OLLAMA_CHAT,
    b"/api/generate": Operation.OLLAMA_GENERATE,
    b"/api/embed": Operation.OLLAMA_EMBED,
    b"/api/embeddings": Operation.OLLAMA_EMBEDDINGS,
    b"/api/show": Operation.OLLAMA_SHOW,
}

_GETS: Final[Mapping[bytes, Operation]] = {
    b"/v1/models": Operation.MODELS,
    b"/api/tags": Operation.OLLAMA_TAGS,
    b"/api/ps": Operation.OLLAMA_PS,
    b"/api/version": Operation.OLLAMA_VERSION,
    b"/": Operation.OLLAMA_ALIVE,
}

_MODEL_PREFIX: Final = b"/v1/models/"

_STREAMING_BY_DEFAULT: Final = frozenset({Operation.OLLAMA_CHAT, Operation.OLLAMA_GENERATE})

_SHOWN: Final = 100
"""Characters of a client's own text that an error repeats."""


class Call:
    """What a client asked for. Nobody changes it: a retry or a fallback reads it again.

    Attributes:
        operation: what.
        protocol: in which form.
        model: the model's name as the client wrote it, and gets it back in the Ollama form.
        task: the same without the tag `:latest`, which Ollama's clients add by themselves.
        stream: whether the answer comes in pieces.
        session: what ties requests to one side, or empty.
        fields: the body.
        body: the same as it came.
    """

    __slots__ = ("body", "fields", "model", "operation", "protocol", "session", "stream", "task")

    def __init__(  # noqa: PLR0913  what one request says
        self,
        operation: Operation,
        protocol: Protocol,
        model: str = "",
        *,
        stream: bool = False,
        session: bytes = b"",
        fields: dict[str, object] | None = None,
        body: bytes = b"",
    ) -> None:
        """Written out because it is made for each request."""
        self.operation = operation
        self.protocol = protocol
        self.model = model
        self.task = model.removesuffix(":latest")
        self.stream = stream
        self.session = session
        self.fields = fields or {}
        self.body = body


def parse(method: bytes, path: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Call:
    """Read a request.

    Raises:
        Refusal: 404 and 405 for what does not exist, 400 for a body that cannot be read.
    """
    protocol = protocol_of(path)
    operation = _POSTS.get(path) if method == b"POST" else None
    if operation is None:
        return _parse_get(method, path, protocol)
    fields = _object(body)
    if operation is Operation.FEEDBACK:
        _check_feedback(fields)
        return Call(operation, protocol, fields=fields, body=body)
    model = fields.get("model", fields.get("name") if operation is Operation.OLLAMA_SHOW else None)
    if not isinstance(model, str) or not model:
        raise Refusal(400, "missing_model", "model must be the name of a task", "model")
    stream = fields.get("stream")
    if stream is None:
        stream = operation in _STREAMING_BY_DEFAULT
    elif not isinstance(stream, bool):
        raise Refusal(400, "invalid_type", "stream must be true or false", "stream")
    if protocol is Protocol.OLLAMA:
        operation = _of_ollama(operation, fields)
    session = _session(headers, fields)
    return Call(operation, protocol, model, stream=stream, session=session, fields=fields, body=body)


def find(call: Call, tasks: Mapping[str, Task]) -> Task:
    """The task that a call is for, among those that the caller may use.

    Raises:
        Refusal: 404, which names the tasks that exist.
    """
    task = tasks.get(call.task)
    if task is None:
        served = ", ".join(sorted(tasks)) or "none"
        message = f"model '{call.model[:_SHOWN]}' not found; the models here are: {served}"
        raise Refusal(404, "model_not_found", message, "model")
    return task


def _parse_get(method: bytes, path: bytes, protocol: Protocol) -> Call:
    operation = _GETS.get(path)
    named = ""
    if operation is None and path.startswith(_MODEL_PREFIX) and len(path) > len(_MODEL_PREFIX):
        operation, named = Operation.MODEL, path[len(_MODEL_PREFIX) :].decode("ascii", "replace")
    if operation is not None and method in {b"GET", b"HEAD"}:
        return Call(operation, protocol, named)
    if operation is not None or path in _POSTS:
        allow = "GET, HEAD" if operation is not None else "POST"
        raise Refusal(405, "method_not_allowed", f"this path takes {allow}", allow=allow)
    raise Refusal(404, "not_found", f"there is nothing at {path[:_SHOWN].decode('ascii', 'replace')}")


def _object(body: bytes) -> dict[str, object]:
    try:
        loaded = _loaded(body.decode())
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid_json", f"the body must be JSON in UTF-8: {str(error)[:_SHOWN]}") from error
    if not isinstance(loaded, dict):
        raise Refusal(400, "invalid_json", "the body must be a JSON object")
    return loaded


def _check_feedback(fields: Mapping[str, object]) -> None:
    said, score = fields.get("id"), fields.get("score")
    if not isinstance(said, str) or not 0 < len(said) <= 512:
        raise Refusal(400, "invalid_id", "id must be the x-arbiter-request-id of an answer", "id")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1 or not isfinite(score):
        raise Refusal(400, "invalid_score", "score must be a number from 0 to 1", "score")


def _of_ollama(operation: Operation, fields: Mapping[str, object]) -> Operation:
    if operation is Operation.OLLAMA_CHAT and not fields.get("messages"):
        return Operation.OLLAMA_CHAT_EMPTY
    if operation is Operation.OLLAMA_GENERATE and not fields.get("prompt"):
        return Operation.OLLAMA_GENERATE_EMPTY
    return operation


def _session(headers: Iterable[tuple[bytes, bytes]], fields: Mapping[str, object]) -> bytes:
    for name, value in headers:
        if name == b"x-session-id":
            return value
    metadata = fields.get("metadata")
    user = fields.get("user") or (metadata.get("user_id") if isinstance(metadata, dict) else None)
    return user.encode("utf-8", "surrogatepass") if isinstance(user, str) else b""


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


_decoder: Final = JSONDecoder(parse_constant=_no_constant)
_SPACE: Final = " \t\n\r"


def _loaded(text: str) -> object:
    """One JSON value with nothing around it but space: what `decode` does, in fewer steps."""
    loaded, end = _decoder.raw_decode(text, len(text) - len(text.lstrip(_SPACE)))
    if end != len(text) and text[end:].strip(_SPACE):
        raise JSONDecodeError("Extra data", text, end)
    value: object = loaded
    return value
