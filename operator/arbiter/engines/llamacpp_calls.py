"""What a llama-server is asked about itself, and how its answers are read.

The rule: what it does not say stays unknown; nothing is concluded from a model's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arbiter.engines.calls import Call, Load, metric

if TYPE_CHECKING:
    from arbiter.engines.calls import Answer, Reply

HEALTH: Final = Call("GET", "/health")
"""Asks whether the model is loaded."""

PROPS: Final = Call("GET", "/props")
"""Asks what the model and the server are like."""

SLOTS: Final = Call("GET", "/slots")
"""Asks what each slot is doing."""

METRICS: Final = Call("GET", "/metrics")
"""Asks for its counters."""

_RUNNING = "llamacpp:requests_processing"
_WAITING = "llamacpp:requests_deferred"

_GENERAL_TEMPLATE: Final = (
    "{%- for message in messages -%}\n  {{- '<|im_start|>' + message.role + '\n' + message.content"
)
"""How the template begins that the server takes for a model without one of its own (as of b11669)."""


@dataclass(frozen=True, slots=True)
class Health:
    """How far a server is.

    Attributes:
        ready: whether it can be asked.
        loading: whether it is loading its model.
        said: its own words where it is not ready.
    """

    ready: bool
    loading: bool = False
    said: str = ""


@dataclass(frozen=True, slots=True)
class Props:
    """What a llama-server says about its model and itself.

    Attributes:
        context_window: tokens that fit into one slot, so into one request and its answer.
        slots: requests that it computes at a time.
        capabilities: what model and server can do, as far as they say it.
        build: the server's version.
    """

    context_window: int
    slots: int
    capabilities: frozenset[str]
    build: str


def read_health(reply: Reply) -> Health:
    """Read how far a server is; an error is an answer here."""
    if reply.ok:
        return Health(ready=True)
    said = reply.error()
    return Health(ready=False, loading=reply.status == 503 and "loading" in said.casefold(), said=said)


def read_props(reply: Reply) -> Props:
    """Read what the model and the server are like; raises EngineReplyError."""
    answer = reply.parse()
    return Props(
        context_window=answer.part("default_generation_settings").count("n_ctx"),
        slots=answer.count("total_slots"),
        capabilities=_capabilities(answer),
        build=answer.text("build_info", ""),
    )


def read_slots(reply: Reply) -> Load:
    """Read how many slots are at work. Requests that wait for a slot are not told here, only by `METRICS`.

    Raises:
        EngineReplyError: it says an error, or something else.
    """
    return Load(running=sum(slot.flag("is_processing") for slot in reply.parse_list()))


def read_load(reply: Reply) -> Load:
    """Read the counters of `METRICS`; raises EngineReplyError."""
    text = reply.parse_text()
    return Load(int(metric(text, _RUNNING, reply.asked)), int(metric(text, _WAITING, reply.asked)))


def _capabilities(answer: Answer) -> frozenset[str]:
    modalities, template = answer.part("modalities"), answer.part("chat_template_caps")
    # Any model continues text here, under any grammar. That a chat succeeds says nothing about a model without a
    # template of its own: the server then takes a general one.
    found = {"completion", "json"}
    found |= {"vision"} if modalities.flag("vision", default=False) else set()
    found |= {"audio"} if modalities.flag("audio", default=False) else set()
    found |= {"tools"} if template.flag("supports_tools", default=False) else set()
    own = answer.text("chat_template", "")
    found |= {"chat"} if own and not own.startswith(_GENERAL_TEMPLATE) else set()
    return frozenset(found)
