"""Describes vLLM's OpenAI server.

Left out on purpose: `priority` (the queue is the router's), `chat_template` and `mm_processor_kwargs` (code of the
client's in the server), `cache_salt`, `kv_transfer_params` and `lora_request` (another model or another's cache).
"""

from __future__ import annotations

from arbiter.engines.base import EngineDescription, Thinking, with_sampling

_SAMPLERS = frozenset({
    "add_generation_prompt",
    "bad_words",
    "chat_template_kwargs",
    "continue_final_message",
    "ignore_eos",
    "include_stop_str_in_output",
    "length_penalty",
    "min_p",
    "min_tokens",
    "repetition_penalty",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "stop_token_ids",
    "structured_outputs",
    "top_k",
    "truncate_prompt_tokens",
})  # fmt: skip

VLLM = EngineDescription(
    fields=with_sampling(_SAMPLERS, messages=True),
    pins=frozenset({"priority"}),
    thinking=Thinking.TEMPLATE,
    reasoning="reasoning",
    renames={"repeat_penalty": "repetition_penalty"},
)
"""What vLLM understands."""
