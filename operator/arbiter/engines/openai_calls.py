"""What every server with OpenAI's interface is asked: its models, the proof that one really answers, and one chat.

The rule of the proof: a model is ready once one token, or one vector, came back. A health page says that a process
runs; only an answer says that weights, template and memory are right, and it warms the model up as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arbiter.engines.base import PATHS, Ask
from arbiter.engines.calls import Call, EngineReplyError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from arbiter.engines.calls import Reply

MODELS: Final = Call("GET", "/v1/models")
"""Asks which models there are."""

_PROMPT: Final = "Hi"

_PROOF_S: Final = 120.0
"""Seconds for one token: a first request may still read weights from disk and compile."""

_CHAT_S: Final = 180.0
"""Seconds for a short answer: on a busy processor a small model gives ten tokens a second."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a server offers.

    Attributes:
        name: what it is asked for by.
        context_window: tokens in one request and its answer; `None` if the server does not say.
    """

    name: str
    context_window: int | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """That a model answered.

    Attributes:
        tokens: tokens that came back; 0 where the server does not count, or gave a vector.
        dimensions: the length of the vector; 0 for text.
    """

    tokens: int = 0
    dimensions: int = 0


@dataclass(frozen=True, slots=True)
class Chatted:
    """What a model answered in a chat.

    Attributes:
        text: its words; empty where it gave none, such as a model that did not come to an end with thinking.
        cut: it would have gone on, but had no more tokens.
    """

    text: str
    cut: bool = False


def read_models(reply: Reply) -> tuple[ServedModel, ...]:
    """Read which models there are, in the server's order.

    Raises:
        EngineReplyError: it says an error, or something else.
    """
    return tuple(
        ServedModel(one.text("id"), one.count("max_model_len", 0) or one.part("meta").count("n_ctx", 0) or None)
        for one in reply.parse().parts("data")
    )


def proof_call(model: str, capabilities: Collection[str], deadline_s: float = _PROOF_S) -> Call:
    """Ask for one token, or for a vector of a model that gives nothing else.

    Args:
        model: its name at the server.
        capabilities: what it can do. A chat proves the chat template as well, so it is asked for where it can be.
        deadline_s: seconds.
    """
    if "chat" in capabilities:
        message = {"role": "user", "content": _PROMPT}
        body = {"model": model, "messages": [message], "max_tokens": 1, "temperature": 0, "stream": False}
        return _ask(Ask.CHAT, body, deadline_s)
    if "embeddings" in capabilities and "completion" not in capabilities:
        return _ask(Ask.EMBEDDING, {"model": model, "input": _PROMPT}, deadline_s)
    body = {"model": model, "prompt": _PROMPT, "max_tokens": 1, "temperature": 0, "stream": False}
    return _ask(Ask.COMPLETION, body, deadline_s)


def read_proof(reply: Reply) -> Proof:
    """Read whether a token or a vector came back.

    Raises:
        EngineRefusedError: the server says an error.
        EngineReplyError: neither came; a server that answers with nothing is not ready.
    """
    answer = reply.parse()
    if answer.has("data"):
        vectors = answer.parts("data")
        dimensions = vectors[0].length("embedding") if vectors else 0
        if dimensions == 0:
            raise EngineReplyError(reply.asked, "the answer holds no vector")
        return Proof(dimensions=dimensions)
    if not answer.parts("choices"):
        raise EngineReplyError(reply.asked, "the answer holds no choice")
    usage = answer.part("usage")
    if usage.has("completion_tokens") and usage.count("completion_tokens") == 0:
        raise EngineReplyError(reply.asked, "the answer holds no token")
    return Proof(tokens=usage.count("completion_tokens", 0))


def chat_call(
    model: str,
    messages: Sequence[Mapping[str, str]],
    *,
    max_tokens: int,
    seed: int,
    deadline_s: float = _CHAT_S,
) -> Call:
    """Ask for the answer that the model holds most likely: temperature 0, and a seed for what is random still.

    Args:
        model: its name at the server.
        messages: role and content of each, in order.
        max_tokens: where the answer is cut.
        seed: the same for both of two models that are compared.
        deadline_s: seconds.
    """
    body = {
        "model": model,
        "messages": [dict(message) for message in messages],
        "max_tokens": max_tokens,
        "temperature": 0,
        "seed": seed,
        "stream": False,
    }
    return _ask(Ask.CHAT, body, deadline_s)


def read_chat(reply: Reply) -> Chatted:
    """Read what the model answered.

    Raises:
        EngineRefusedError: the server says an error.
        EngineReplyError: there is no answer in it.
    """
    choices = reply.parse().parts("choices")
    if not choices:
        raise EngineReplyError(reply.asked, "the answer holds no choice")
    text = choices[0].part("message").text("content", "")
    return Chatted(text, cut=choices[0].text("finish_reason", "") == "length")


def _ask(what: Ask, body: dict[str, object], deadline_s: float) -> Call:
    return Call("POST", PATHS[what].decode(), body, deadline_s)
