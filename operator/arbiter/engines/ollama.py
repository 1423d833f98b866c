"""Ollama, asked through its OpenAI interface.

A change of a runner option (`num_ctx`, `num_gpu`, `use_mlock`, …) makes it load the model anew, and `keep_alive`
decides when a model leaves memory; both are the pool's business and neither is reachable through this interface, so
none of them can be pinned here either: they are set where the model is made.
"""

from __future__ import annotations

from arbiter.engines.base import (
    CHAT_FIELDS,
    COMPLETION_FIELDS,
    EMBEDDING_FIELDS,
    MESSAGES_FIELDS,
    Ask,
    EngineDescription,
)

_IGNORED = frozenset({"logit_bias", "n", "parallel_tool_calls", "user"})
"""Read by nobody there; better said in the answer's header than lost in silence."""

OLLAMA = EngineDescription(
    fields={
        Ask.CHAT: (CHAT_FIELDS - _IGNORED - {"max_completion_tokens"}) | {"reasoning"},
        Ask.COMPLETION: (COMPLETION_FIELDS - _IGNORED - {"best_of", "echo"}) | {"suffix"},
        Ask.EMBEDDING: EMBEDDING_FIELDS - _IGNORED,
        Ask.MESSAGES: MESSAGES_FIELDS,
    },
    reasoning="reasoning",
    renames={"max_completion_tokens": "max_tokens"},
)
"""What Ollama understands."""
