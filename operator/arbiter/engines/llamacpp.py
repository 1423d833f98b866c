"""Describes llama-server of llama.cpp.

Left out on purpose: `id_slot` and `slot_id` (another client's cache), `n_discard` and `n_keep` (context shifting),
`lora` (another model), `speculative.*`, and what only debugging needs.
"""

from __future__ import annotations

from arbiter.engines.base import EngineDescription, Thinking, with_sampling

_SAMPLERS = frozenset({
    "chat_template_kwargs",
    "dry_allowed_length",
    "dry_base",
    "dry_multiplier",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "dynatemp_exponent",
    "dynatemp_range",
    "grammar",
    "ignore_eos",
    "json_schema",
    "min_p",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "n_predict",
    "reasoning_format",
    "repeat_last_n",
    "repeat_penalty",
    "samplers",
    "top_k",
    "top_n_sigma",
    "typical_p",
    "xtc_probability",
    "xtc_threshold",
})  # fmt: skip

LLAMACPP = EngineDescription(
    fields=with_sampling(_SAMPLERS, messages=True),
    pins=frozenset({"cache_prompt", "n_keep", "t_max_predict_ms"}),
    thinking=Thinking.TEMPLATE,
)
"""What llama-server understands."""
