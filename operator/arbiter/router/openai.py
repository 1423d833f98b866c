"""OpenAI in front of an engine: the body with the model's own name, and the answer as it comes.

Rule: the bytes of an answer pass unread. A stream's events are only searched for the few words that matter, and
parsed when they hold usage or an error. The usage chunk that the router asked for and the client did not is withheld.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from arbiter.engines import ENGINES
from arbiter.engines.answers import told_by
from arbiter.engines.base import PATHS, Ask
from arbiter.router.media import check_media
from arbiter.router.reader import Reader, json_object, message_of
from arbiter.router.refusal import Refusal, encode
from arbiter.router.sse import Cutter, events, payload

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arbiter.core.routes import Backend, Pin
    from arbiter.router.call import Call

_TELLS_USAGE: Final = frozenset({Ask.CHAT, Ask.COMPLETION})


class Upstream:
    """What an engine is sent; nobody changes it.

    Attributes:
        path: behind the base address of whichever endpoint takes it.
        body: JSON.
        dropped: fields of the client's that the engine was not sent, fit for a header.
    """

    __slots__ = ("body", "dropped", "path")

    def __init__(self, path: bytes, body: bytes, dropped: tuple[str, ...]) -> None:
        """Written out because it is made for each request."""
        self.path = path
        self.body = body
        self.dropped = dropped


def pass_on(call: Call, ask: Ask, backend: Backend, pins: Mapping[str, Pin]) -> Upstream:
    """The request as it came, but for the model's name and what the engine does not take.

    Raises:
        Refusal: when the engine has no such operation, or the request wants it to fetch something.
    """
    engine = ENGINES[backend.engine]
    check_media(call.fields)
    if ask in engine.fields and call.fields.keys() <= engine.fields[ask] and not pins:
        quick = _edited(call, backend.model, add_usage=ask in _TELLS_USAGE and call.stream)
        if quick is not None:
            return Upstream(PATHS[ask], quick, ())
    return rebuilt(call.fields, ask, backend, pins)


def rebuilt(
    fields: Mapping[str, object],
    ask: Ask,
    backend: Backend,
    pins: Mapping[str, Pin],
    dropped: Iterable[str] = (),
) -> Upstream:
    """A request written anew from fields of the OpenAI form.

    Args:
        fields: what is wanted.
        ask: of which kind.
        backend: from whom.
        pins: runner options of the task; they win over the client's.
        dropped: names that were dropped before.

    Raises:
        Refusal: when the engine has no such operation, or JSON cannot say a number.
    """
    engine = ENGINES[backend.engine]
    if ask not in engine.fields:
        raise Refusal(404, "unsupported", f"{backend.engine} has no {PATHS[ask].decode()}")
    left = set(dropped)
    sent: dict[str, object] = {}
    for name, value in fields.items():
        own = engine.renames.get(name, name)
        if own in engine.fields[ask] and (own == name or own not in fields):
            sent[own] = value
        else:
            left.add(name)
    sent["model"] = backend.model
    if ask in _TELLS_USAGE and fields.get("stream") is True:
        asked = fields.get("stream_options")
        sent["stream_options"] = {**(asked if isinstance(asked, dict) else {}), "include_usage": True}
    sent |= {name: value for name, value in pins.items() if name in engine.pins}
    try:
        return Upstream(PATHS[ask], encode(sent).encode(), _names(left))
    except ValueError as error:
        raise Refusal(400, "invalid_number", "the body holds a number that is too large") from error


def wants_usage(fields: Mapping[str, object]) -> bool:
    """Whether the client itself asked for the usage chunk."""
    options = fields.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


_MODEL: Final = re.compile(rb'"model"\s*:\s*"([^"\\]*)"')


def _edited(call: Call, model: str, *, add_usage: bool) -> bytes | None:
    """The body with another model's name, edited in place; `None` when it is not certain where that stands."""
    body = call.body
    # Without \u escapes a key `model` is spelt so, and where that is there once it is the one that was read.
    if body.count(b'"model"') != 1 or body.find(b"\\u") >= 0 or (match := _MODEL.search(body)) is None:
        return None
    start, end = match.span(1)
    body = b"%b%b%b" % (body[:start], _inside_quotes(model), body[end:])
    if not add_usage or wants_usage(call.fields):
        return body
    if "stream_options" in call.fields:
        return None
    return body.replace(b"{", b'{"stream_options":{"include_usage":true},', 1)


@lru_cache(maxsize=256)
def _inside_quotes(model: str) -> bytes:
    return encode(model)[1:-1].encode()


_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9_.]{1,64}")


def _names(left: set[str]) -> tuple[str, ...]:
    return tuple(sorted({name if _HEADER_NAME.fullmatch(name) else "(other)" for name in left})[:16])


_CONTENT: Final = b'"content":"'
_QUOTE: Final = ord('"')
_COLON: Final = ord(":")
_TOKEN: Final = re.compile(
    rb'"(?:content|reasoning_content|reasoning|text|refusal)"\s*:\s*"[^"]'
    rb'|"tool_calls"\s*:\s*\[\s*\{|"function_call"\s*:\s*\{'
)


class StreamPassing(Reader):
    """Passes on the events of a streamed chat or completion."""

    __slots__ = ("_cutter", "_withhold")

    def __init__(self, *, withhold_usage: bool) -> None:
        super().__init__()
        self._cutter = Cutter()
        self._withhold = withhold_usage

    def feed(self, data: bytes, now: float) -> bytes:  # noqa: ARG002  whoever asks after the first token has a clock
        """Whole events pass."""
        whole = self._cutter.whole(data)
        # Nearly always one piece is one event.
        if whole.count(b"\n\n") == 1 and whole.find(b"\r") < 0:
            return self._passed(whole)
        return b"".join([self._passed(event) for event in events(whole)])

    def end(self, now: float) -> bytes:  # noqa: ARG002  as in feed
        """The beginning of an event passes too, as it stands."""
        rest = self._cutter.rest()
        return self._passed(rest + b"\n\n").removesuffix(b"\n\n") if rest else b""

    def _passed(self, event: bytes) -> bytes:
        # `find` and not `in`, which for bytes first makes an error of not being given a number, and forgets it again.
        usage = event.find(b'"usage"') >= 0 and event.find(b'"usage":null') < 0
        if usage or event.find(b'"error"') >= 0:
            found = json_object(payload(event)) or {}
            if self._learn(found) and self._withhold:
                return event[: len(event) - len(event.lstrip(b"\r\n"))]
        at = event.find(_CONTENT)
        if at >= 0 and event[at + 11] != _QUOTE and event[0] != _COLON:
            self._count_token()
        else:
            self._read_rare(event)
        return event

    def _read_rare(self, event: bytes) -> None:
        if event[0] == _COLON:
            # A comment; data may still stand below it.
            event = b"data: " + payload(event)
        if _TOKEN.search(event):
            self._count_token()
        elif b"[DONE]" in event and payload(event).strip() == b"[DONE]":
            self.complete = True
        elif event.startswith(b"error:"):
            self.error = event[6:506].decode("utf-8", "replace").strip()

    def _learn(self, found: Mapping[str, object]) -> bool:
        """Take what a chunk tells; returns whether it tells usage and nothing else."""
        if error := found.get("error"):
            self.error = message_of(error)
        self._believe(told_by(found))
        return found.get("choices") == [] and isinstance(found.get("usage"), dict)
