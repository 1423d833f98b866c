"""The form in which a kind of model server is described, and the fields that all of them take.

Rule: a field passes only if it is listed. A server reads fields that nobody documented, some of them change what the
process holds in memory or whose cache it uses, and each version brings new ones; so what is not known stays out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Ask(StrEnum):
    """What a model server can be asked for."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    MESSAGES = "messages"
    """The form of the Anthropic API."""


PATHS: Mapping[Ask, bytes] = {
    Ask.CHAT: b"/v1/chat/completions",
    Ask.COMPLETION: b"/v1/completions",
    Ask.EMBEDDING: b"/v1/embeddings",
    Ask.MESSAGES: b"/v1/messages",
}
"""Where each is asked for, behind a server's base address."""


class Thinking(StrEnum):
    """How a server is told whether a model should think before it answers."""

    EFFORT = "reasoning_effort"
    """By a word: none, low, medium or high."""

    TEMPLATE = "chat_template_kwargs"
    """By a truth value handed to the model's own chat template."""


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """What one kind of model server understands.

    Attributes:
        fields: the JSON fields that pass, by what is asked for; what is not in it cannot be asked of this server.
        pins: runner options that a RouteTable may set on every request; a client's own value never passes.
        thinking: how it is told to think or not.
        reasoning: the field of a message in which it takes and gives back a model's thoughts.
        renames: its own names for fields that others name otherwise; the right side wins when both are given.
    """

    fields: Mapping[Ask, frozenset[str]]
    pins: frozenset[str] = frozenset()
    thinking: Thinking = Thinking.EFFORT
    reasoning: str = "reasoning_content"
    renames: Mapping[str, str] = field(default_factory=dict)


_SAMPLING = frozenset({
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "model",
    "n",
    "presence_penalty",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "user",
})  # fmt: skip

CHAT_FIELDS = _SAMPLING | {
    "max_completion_tokens",
    "messages",
    "parallel_tool_calls",
    "reasoning_effort",
    "response_format",
    "tool_choice",
    "tools",
    "top_logprobs",
}
"""Chat completions of the OpenAI API, without what only that company's own service gives a meaning."""

COMPLETION_FIELDS = _SAMPLING | {"best_of", "echo", "prompt"}
"""Completions of the OpenAI API."""

EMBEDDING_FIELDS = frozenset({"dimensions", "encoding_format", "input", "model", "user"})
"""Embeddings of the OpenAI API."""

MESSAGES_FIELDS = frozenset({
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
})  # fmt: skip
"""Messages of the Anthropic API."""

OPENAI_FIELDS: Mapping[Ask, frozenset[str]] = {
    Ask.CHAT: CHAT_FIELDS,
    Ask.COMPLETION: COMPLETION_FIELDS,
    Ask.EMBEDDING: EMBEDDING_FIELDS,
}
"""What every server with an OpenAI interface can be asked."""


def with_sampling(more: frozenset[str], *, messages: bool) -> Mapping[Ask, frozenset[str]]:
    """The common fields, and these further ones wherever text is generated."""
    fields = {
        Ask.CHAT: CHAT_FIELDS | more,
        Ask.COMPLETION: COMPLETION_FIELDS | more,
        Ask.EMBEDDING: EMBEDDING_FIELDS,
    }
    return {**fields, Ask.MESSAGES: MESSAGES_FIELDS} if messages else fields
