"""Answers from the table alone what clients ask about models: lists, details, version, and empty requests.

Rule: only what is known is said. Sizes, dates and formats of weights are not the router's business and are left out.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from arbiter.router.call import Operation, find
from arbiter.router.ollama_answers import created_at
from arbiter.router.refusal import encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arbiter.core.routes import Task
    from arbiter.router.call import Call

OLLAMA_VERSION: Final = "0.17.4"
"""The version of Ollama whose API the translation follows; clients decide by it what they may ask."""

_JSON: Final = b"application/json"

_OLLAMA_CAPABILITIES: Final[Mapping[str, str]] = {
    "chat": "completion",
    "completion": "completion",
    "embeddings": "embedding",
    "thinking": "thinking",
    "tools": "tools",
    "vision": "vision",
}


def answer(call: Call, tasks: Mapping[str, Task], wall: float) -> tuple[bytes, bytes]:
    """Answer a call that no engine is needed for.

    Args:
        call: any but the operations `FORWARDED` and feedback.
        tasks: those that the caller may use.
        wall: Unix time.

    Returns:
        The content type and body of an answer with status 200.

    Raises:
        Refusal: 404 for a task that does not exist.
    """
    if call.operation is Operation.OLLAMA_ALIVE:
        return b"text/plain; charset=utf-8", b"Ollama is running"
    if call.operation is Operation.OLLAMA_VERSION:
        return _JSON, encode({"version": OLLAMA_VERSION}).encode()
    return _JSON, encode(_fields(call, tasks, wall)).encode()


def _fields(call: Call, tasks: Mapping[str, Task], wall: float) -> dict[str, object]:
    match call.operation:
        case Operation.MODELS:
            return {"object": "list", "data": [_openai_model(task) for task in _sorted(tasks.values())]}
        case Operation.MODEL:
            return _openai_model(find(call, tasks))
        case Operation.OLLAMA_TAGS:
            return {"models": [_ollama_model(task) for task in _sorted(tasks.values())]}
        case Operation.OLLAMA_PS:
            serving = [task for task in _sorted(tasks.values()) if task.targets]
            return {"models": [{**_ollama_model(task), **_context(task)} for task in serving]}
        case Operation.OLLAMA_SHOW:
            return _shown(find(call, tasks))
        case _:
            return _empty(call, tasks, wall)


def _openai_model(task: Task) -> dict[str, object]:
    capabilities = {"capabilities": list(task.capabilities)} if task.capabilities else {}
    window = {} if task.context_window is None else {"context_window": task.context_window}
    return {"id": task.name, "object": "model", "created": 0, "owned_by": "arbiter", **capabilities, **window}


def _ollama_model(task: Task) -> dict[str, object]:
    return {
        "name": task.name,
        "model": task.name,
        "digest": _digest(task),
        "details": {"parent_model": "", "format": "", "family": "", "families": [], "parameter_size": ""},
        "capabilities": _capabilities(task),
    }


def _shown(task: Task) -> dict[str, object]:
    info: dict[str, object] = {"general.architecture": "arbiter"}
    if task.context_window is not None:
        info["arbiter.context_length"] = task.context_window
    details = _ollama_model(task)["details"]
    return {"details": details, "model_info": info, "capabilities": _capabilities(task)}


def _empty(call: Call, tasks: Mapping[str, Task], wall: float) -> dict[str, object]:
    """What Ollama says to a request without content. What is in memory is the pool's business, so nothing is done."""
    find(call, tasks)
    chat = call.operation is Operation.OLLAMA_CHAT_EMPTY
    empty: dict[str, object] = {"message": {"role": "assistant", "content": ""}} if chat else {"response": ""}
    keep = call.fields.get("keep_alive")
    reason = "unload" if keep is not False and keep in (0, "0", "0s") else "load"
    return {"model": call.model, "created_at": created_at(wall), **empty, "done": True, "done_reason": reason}


def _digest(task: Task) -> str:
    """Stands for what serves: another revision, another digest."""
    revisions = [target.backend.revision for target in task.targets]
    return sha256(encode([task.name, revisions]).encode()).hexdigest()


def _capabilities(task: Task) -> list[str]:
    return sorted({_OLLAMA_CAPABILITIES[each] for each in task.capabilities if each in _OLLAMA_CAPABILITIES})


def _context(task: Task) -> dict[str, object]:
    return {} if task.context_window is None else {"context_length": task.context_window}


def _sorted(tasks: Iterable[Task]) -> list[Task]:
    return sorted(tasks, key=lambda task: task.name)
