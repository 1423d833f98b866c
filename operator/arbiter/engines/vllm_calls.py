"""What a vLLM server is asked about its load. Its models are asked for as of any server with OpenAI's interface.

The rule: it counts by engine, so the figures of all its engines are added up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arbiter.engines.calls import Call, Load, metric

if TYPE_CHECKING:
    from arbiter.engines.calls import Reply

METRICS: Final = Call("GET", "/metrics")
"""Asks for its counters."""

_RUNNING = "vllm:num_requests_running"
_WAITING = "vllm:num_requests_waiting"


def read_load(reply: Reply) -> Load:
    """Read the counters of `METRICS`; raises EngineReplyError."""
    text = reply.parse_text()
    return Load(int(metric(text, _RUNNING, reply.asked)), int(metric(text, _WAITING, reply.asked)))
