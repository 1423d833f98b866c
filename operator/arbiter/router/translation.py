"""Chooses, for a call and an engine, what is sent and who reads the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arbiter.engines.base import Ask
from arbiter.router.anthropic import MessageRefused, MessagesPassing
from arbiter.router.call import Operation
from arbiter.router.ollama import translated
from arbiter.router.ollama_answers import LinesFromStream, WholeTranslation
from arbiter.router.openai import StreamPassing, pass_on, wants_usage
from arbiter.router.reader import WholePassing
from arbiter.router.refusal import Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.core.routes import Backend, Pin
    from arbiter.router.call import Call
    from arbiter.router.openai import Upstream
    from arbiter.router.reader import Reader, Times

_PASSING: Final[Mapping[Operation, Ask]] = {
    Operation.CHAT: Ask.CHAT,
    Operation.COMPLETIONS: Ask.COMPLETION,
    Operation.EMBEDDINGS: Ask.EMBEDDING,
    Operation.MESSAGES: Ask.MESSAGES,
}


def upstream(call: Call, backend: Backend, pins: Mapping[str, Pin]) -> Upstream:
    """What the backend is sent.

    Args:
        call: one of the operations `FORWARDED`.
        backend: who will answer.
        pins: runner options of the task.

    Raises:
        Refusal: when this backend cannot be asked this.
    """
    ask = _PASSING.get(call.operation)
    return translated(call, backend, pins) if ask is None else pass_on(call, ask, backend, pins)


def reader(call: Call, *, streamed: bool, status: int, times: Times) -> Reader:
    """Who reads the answer.

    Args:
        call: what was asked.
        streamed: whether the answer is `text/event-stream`, whatever was asked for.
        status: of the answer.
        times: of the request, for the Ollama form.
    """
    if call.protocol is Protocol.OLLAMA:
        return LinesFromStream(call, times) if streamed and status < 400 else WholeTranslation(call, times, status)
    if not streamed:
        return MessageRefused(status) if call.operation is Operation.MESSAGES and status >= 400 else WholePassing()
    if call.operation is Operation.MESSAGES:
        return MessagesPassing()
    return StreamPassing(withhold_usage=not wants_usage(call.fields))
