"""Reads what a model server's answer tells about tokens and time, whichever server gave it.

The forms do not collide, so one reader serves all: OpenAI's `usage` (Ollama and vLLM give no more), llama.cpp's
`timings` beside it, and the Anthropic form's `usage`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Told:
    """What one answer tells; what it does not tell is `None`.

    Attributes:
        tokens_in: tokens of the prompt, those found in a cache included.
        tokens_out: tokens generated.
        prompt_ns: time spent on the prompt, in nanoseconds.
        output_ns: time spent on the output, in nanoseconds.
    """

    tokens_in: int | None = None
    tokens_out: int | None = None
    prompt_ns: int | None = None
    output_ns: int | None = None


def told_by(answer: Mapping[str, object]) -> Told:
    """Read an answer, or the last chunk of one. Fields of a wrong type tell nothing: an answer is never refused."""
    usage, timings = answer.get("usage"), answer.get("timings")
    spent = usage if isinstance(usage, dict) else {}
    timed = timings if isinstance(timings, dict) else {}
    return Told(
        tokens_in=_first(_count(spent, "prompt_tokens"), _anthropic_prompt(spent), _prompt(timed)),
        tokens_out=_first(
            _count(spent, "completion_tokens"), _count(spent, "output_tokens"), _count(timed, "predicted_n")
        ),
        prompt_ns=_nanoseconds(timed, "prompt_ms"),
        output_ns=_nanoseconds(timed, "predicted_ms"),
    )


def refused_by(status: int, answer: bytes) -> bool:
    """Whether an answer of 500 or above says that this server cannot do what it was asked, and not that it failed.

    llama-server answers so to a client that sends a picture to a model without eyes, or wants embeddings of one that
    was not started for them. Else five such requests would keep everybody away from a server that is well.
    """
    return status == 501 or (status == 500 and b"input is not supported" in answer)


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _anthropic_prompt(spent: Mapping[str, object]) -> int | None:
    # `input_tokens` counts only what was neither in the cache nor put there.
    counts = [
        _count(spent, name) for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    ]
    return None if counts[0] is None else sum(count or 0 for count in counts)


def _prompt(timed: Mapping[str, object]) -> int | None:
    # `prompt_n` counts only what was not in the cache.
    computed = _count(timed, "prompt_n")
    return None if computed is None else computed + (_count(timed, "cache_n") or 0)


def _count(fields: Mapping[str, object], name: str) -> int | None:
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _nanoseconds(fields: Mapping[str, object], name: str) -> int | None:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        return None
    return round(value * 1e6)
