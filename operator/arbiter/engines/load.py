"""Decides how to find out whether a server is computing anything, whatever kind it is.

The rule: where a server cannot say, the answer is "unknown" and never "idle"; then only the router's own count of open
requests tells when it may go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arbiter.api.localmodel import EngineType
from arbiter.engines import llamacpp_calls, vllm_calls

if TYPE_CHECKING:
    from arbiter.engines.calls import Call, Load, Reply


def load_call(engine: EngineType) -> Call | None:
    """Give the question that shows a server's load; `None` for one that cannot say."""
    match engine:
        case EngineType.LlamaCpp:
            return llamacpp_calls.METRICS
        case EngineType.VLLM:
            return vllm_calls.METRICS
        case EngineType.Ollama | EngineType.Custom | EngineType.External:
            return None


def read_load(engine: EngineType, reply: Reply) -> Load | None:
    """Read the answer to it; `None` for a server that cannot say.

    Raises:
        EngineReplyError: the server says an error, or something else.
    """
    match engine:
        case EngineType.LlamaCpp:
            return llamacpp_calls.read_load(reply)
        case EngineType.VLLM:
            return vllm_calls.read_load(reply)
        case EngineType.Ollama | EngineType.Custom | EngineType.External:
            return None
