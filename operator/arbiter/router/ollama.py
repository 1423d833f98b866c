"""Turns requests of the Ollama form into the OpenAI form in which every engine is spoken to.

Rule: what has no counterpart is dropped by name, never guessed. Runner options (`num_ctx`, `num_gpu`, `keep_alive`, …)
are among that: at an Ollama server a change of one loads the model anew, for everybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arbiter.engines import ENGINES
from arbiter.engines.base import Ask, Thinking
from arbiter.router.call import Operation
from arbiter.router.ollama_messages import openai_messages, with_images
from arbiter.router.openai import rebuilt
from arbiter.router.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.core.routes import Backend, Pin
    from arbiter.engines.base import EngineDescription
    from arbiter.router.call import Call
    from arbiter.router.openai import Upstream

_OPTIONS: Final[Mapping[str, str]] = {
    "frequency_penalty": "frequency_penalty",
    "min_p": "min_p",
    "mirostat": "mirostat",
    "mirostat_eta": "mirostat_eta",
    "mirostat_tau": "mirostat_tau",
    "num_predict": "max_tokens",
    "presence_penalty": "presence_penalty",
    "repeat_last_n": "repeat_last_n",
    "repeat_penalty": "repeat_penalty",
    "seed": "seed",
    "stop": "stop",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "typical_p": "typical_p",
}
"""Sampling options and their names in the OpenAI form or, where it has none, at most engines."""

_READ: Final[Mapping[Operation, frozenset[str]]] = {
    Operation.OLLAMA_CHAT: frozenset({"format", "messages", "model", "options", "stream", "think", "tools"}),
    Operation.OLLAMA_GENERATE: frozenset({
        "format",
        "images",
        "model",
        "options",
        "prompt",
        "raw",
        "stream",
        "suffix",
        "system",
        "think",
    }),
    Operation.OLLAMA_EMBED: frozenset({"dimensions", "input", "model"}),
    Operation.OLLAMA_EMBEDDINGS: frozenset({"model", "prompt"}),
}  # fmt: skip
"""Fields that are translated; all others are dropped by name."""


def translated(call: Call, backend: Backend, pins: Mapping[str, Pin]) -> Upstream:
    """The request in OpenAI form.

    Raises:
        Refusal: 400 for a field of a wrong type, or one that cannot be left out without changing what is asked.
    """
    fields, dropped = call.fields, _unread(call)
    if call.operation in {Operation.OLLAMA_EMBED, Operation.OLLAMA_EMBEDDINGS}:
        ask, sent = Ask.EMBEDDING, _embedding(call.operation, fields)
    elif call.operation is Operation.OLLAMA_CHAT:
        ask, sent = Ask.CHAT, {"messages": openai_messages(fields.get("messages"), ENGINES[backend.engine].reasoning)}
        if fields.get("tools"):
            sent["tools"] = fields["tools"]
    else:
        ask, sent = _generation(fields, backend)
    if ask is not Ask.EMBEDDING:
        sent |= _settings(fields, ask, ENGINES[backend.engine], dropped)
        sent["stream"] = call.stream
    left = {f"options.{_OURS[name]}" for name in sent if name in _OURS and not _takes(backend, ask, name)}
    kept = {name: value for name, value in sent.items() if f"options.{_OURS.get(name)}" not in left}
    return rebuilt(kept, ask, backend, pins, dropped | left)


_OURS: Final[Mapping[str, str]] = {theirs: ours for ours, theirs in _OPTIONS.items()}


def _takes(backend: Backend, ask: Ask, name: str) -> bool:
    engine = ENGINES[backend.engine]
    return engine.renames.get(name, name) in engine.fields.get(ask, ())


def _unread(call: Call) -> set[str]:
    """What will not be sent, by its path in the client's body."""
    options = call.fields.get("options")
    dropped = {name for name, value in call.fields.items() if name not in _READ[call.operation] and value is not None}
    if not isinstance(options, dict):
        if options is not None:
            raise Refusal(400, "invalid_type", "options must be an object", "options")
        return dropped
    if "options" in dropped:
        dropped.remove("options")
        return dropped | {f"options.{name}" for name in options}
    return dropped | {f"options.{name}" for name in options if name not in _OPTIONS}


def _settings(
    fields: Mapping[str, object], ask: Ask, engine: EngineDescription, dropped: set[str]
) -> dict[str, object]:
    options = fields.get("options")
    given = options if isinstance(options, dict) else {}
    sent = {_OPTIONS[name]: value for name, value in given.items() if name in _OPTIONS and value is not None}
    limit = sent.get("max_tokens")
    if isinstance(limit, int) and limit < 0:
        # -1 and -2 mean "no bound", which is what leaving it out means.
        del sent["max_tokens"]
    if isinstance(sent.get("stop"), str):
        sent["stop"] = [sent["stop"]]
    if ask is not Ask.CHAT:
        dropped |= {"think"} & fields.keys()
        return sent
    if (wanted := _response_format(fields.get("format"))) is not None:
        sent["response_format"] = wanted
    return sent | _thinking(fields.get("think"), engine, dropped)


def _response_format(wanted: object) -> dict[str, object] | None:
    if wanted is None or wanted == "":
        return None
    if wanted == "json":
        return {"type": "json_object"}
    if isinstance(wanted, dict):
        return {"type": "json_schema", "json_schema": {"name": "format", "schema": wanted}}
    raise Refusal(400, "invalid_format", "format must be json or a JSON schema", "format")


def _thinking(wanted: object, engine: EngineDescription, dropped: set[str]) -> dict[str, object]:
    if wanted is None or wanted == "":
        return {}
    if not isinstance(wanted, bool | str):
        raise Refusal(400, "invalid_type", "think must be true, false, or a level", "think")
    if engine.thinking is Thinking.TEMPLATE:
        level = {} if isinstance(wanted, bool) else {"reasoning_effort": wanted}
        return {"chat_template_kwargs": {"enable_thinking": wanted is not False, **level}}
    if wanted is True:
        # A model that can think does so unless it is told not to; no level of effort was asked for.
        return {}
    if engine.reasoning == "reasoning_content" and wanted is False:
        # Of a server that nothing is known about, only the levels of the OpenAI API can be expected.
        dropped.add("think")
        return {}
    return {"reasoning_effort": "none" if wanted is False else wanted}


def _generation(fields: Mapping[str, object], backend: Backend) -> tuple[Ask, dict[str, object]]:
    prompt, system, suffix = fields.get("prompt"), fields.get("system"), fields.get("suffix")
    for name, value in (("prompt", prompt), ("system", system), ("suffix", suffix)):
        if value is not None and not isinstance(value, str):
            raise Refusal(400, "invalid_type", f"{name} must be text", name)
    if not suffix and fields.get("raw") is not True:
        messages: list[dict[str, object]] = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": with_images(prompt, fields.get("images"), "images")})
        return Ask.CHAT, {"messages": messages}
    for name in ("images", "system", "format"):
        if fields.get(name):
            raise Refusal(400, "unsupported", f"{name} cannot go with raw or suffix", name)
    if not suffix:
        return Ask.COMPLETION, {"prompt": prompt}
    if "suffix" not in ENGINES[backend.engine].fields[Ask.COMPLETION]:
        raise Refusal(400, "unsupported", f"{backend.model} does not support insert", "suffix")
    return Ask.COMPLETION, {"prompt": prompt, "suffix": suffix}


def _embedding(operation: Operation, fields: Mapping[str, object]) -> dict[str, object]:
    name = "input" if operation is Operation.OLLAMA_EMBED else "prompt"
    value = fields.get(name)
    if not isinstance(value, str) and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
        raise Refusal(400, "invalid_type", f"{name} must be text or a list of texts", name)
    sent: dict[str, object] = {"input": value, "encoding_format": "float"}
    if fields.get("dimensions"):
        sent["dimensions"] = fields["dimensions"]
    return sent
