"""Turns an engine's answer of the OpenAI form into the Ollama form: lines of JSON, and times in nanoseconds.

Rule: the closing line (`done: true`) is written only when the engine itself has closed its stream. Times are the
engine's own where it tells them (llama.cpp), and else what passed between the pieces here. The time that a request
waited for a model stands as `load_duration`, as at an Ollama server that has to load one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from arbiter.engines.answers import told_by
from arbiter.router.call import Operation
from arbiter.router.reader import Reader, json_object, message_of
from arbiter.router.refusal import encode
from arbiter.router.sse import Cutter, events, payload
from arbiter.router.tool_calls import ToolCalls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.router.call import Call
    from arbiter.router.reader import Times

ANSWER_LIMIT: Final = 256 * 1024 * 1024
"""Bytes of an unstreamed answer that are kept for translation: some hundred thousand embeddings."""

_DONE_REASONS: Final[Mapping[object, str]] = {
    "length": "length",
    "stop": "stop",
    "tool_calls": "stop",
    "function_call": "stop",
}


def created_at(wall: float) -> str:
    """A Unix time as Ollama writes it."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class _Translation(Reader):
    """What streamed and whole answers have in common."""

    __slots__ = ("_call", "_first_at", "_last_at", "_output_ns", "_prompt_ns", "_times")

    def __init__(self, call: Call, times: Times, content_type: bytes) -> None:
        super().__init__(content_type)
        self._call = call
        self._times = times
        self._first_at = 0.0
        self._last_at = 0.0
        self._prompt_ns: int | None = None
        self._output_ns: int | None = None

    def _learn(self, found: Mapping[str, object]) -> None:
        told = told_by(found)
        self._believe(told)
        self._prompt_ns = told.prompt_ns if told.prompt_ns is not None else self._prompt_ns
        self._output_ns = told.output_ns if told.output_ns is not None else self._output_ns

    def _head(self, now: float) -> dict[str, object]:
        return {"model": self._call.model, "created_at": created_at(self._times.wall + now)}

    def _piece(self, text: str, thinking: str, calls: list[dict[str, object]] | None = None) -> dict[str, object]:
        if self._call.operation is Operation.OLLAMA_GENERATE:
            return {"response": text, **({"thinking": thinking} if thinking else {})}
        message: dict[str, object] = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = calls
        return {"message": message}

    def _closing(self, reason: object, now: float) -> dict[str, object]:
        times = self._times
        prompt, output = self._prompt_ns, self._output_ns
        if self._first_at:
            prompt = _ns(self._first_at - times.routed) if prompt is None else prompt
            output = _ns(self._last_at - self._first_at) if output is None else output
        elif prompt is None and output is None:
            # Of a whole answer only the sum is known; the engine's work is booked where clients compute speed from.
            output = _ns(now - times.routed)
        return {
            "done": True,
            **({"done_reason": _DONE_REASONS.get(reason, reason)} if isinstance(reason, str) else {}),
            "total_duration": _ns(now - times.arrived),
            "load_duration": _ns(times.routed - times.arrived),
            "prompt_eval_count": self.tokens_in,
            "prompt_eval_duration": prompt or 0,
            "eval_count": self.tokens_out,
            "eval_duration": output or 0,
        }


class LinesFromStream(_Translation):
    """A streamed chat or generation: each event becomes a line."""

    __slots__ = ("_calls", "_cutter", "_reason")

    def __init__(self, call: Call, times: Times) -> None:
        super().__init__(call, times, b"application/x-ndjson")
        self._cutter = Cutter()
        self._calls = ToolCalls()
        self._reason: object = None

    def feed(self, data: bytes, now: float) -> bytes:
        """Whole events become lines."""
        return b"".join([self._line(event, now) for event in events(self._cutter.whole(data))])

    def end(self, now: float) -> bytes:
        """A last event may lack its empty line."""
        return self._line(self._cutter.rest(), now)

    def _line(self, event: bytes, now: float) -> bytes:
        text = payload(event)
        if event.startswith(b"error:"):
            return self._fail(event[6:506].decode("utf-8", "replace").strip())
        if self.complete or not text:
            return b""
        if text.strip() == b"[DONE]":
            return self._close(now)
        found = json_object(text)
        if found is None:
            return b""
        if error := found.get("error"):
            return self._fail(message_of(error))
        if "usage" in found or "timings" in found:
            self._learn(found)
        choices = found.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        return self._choice(choice, now) if isinstance(choice, dict) else b""

    def _choice(self, choice: Mapping[str, object], now: float) -> bytes:
        if choice.get("finish_reason") is not None:
            self._reason = choice["finish_reason"]
        delta = choice.get("delta")
        if isinstance(delta, dict):
            text, thinking = _text(delta.get("content")), thoughts(delta)
            called = self._calls.add(delta.get("tool_calls"))
        else:
            text, thinking, called = _text(choice.get("text")), "", False
        if not (text or thinking or called):
            return b""
        self._last_at = now
        self._first_at = self._first_at or now
        self._count_token()
        return self._written(self._piece(text, thinking), now) if text or thinking else b""

    def _close(self, now: float) -> bytes:
        self.complete = True
        calls = self._calls.made()
        before = self._written(self._piece("", "", calls), now) if calls else b""
        closing = {**self._head(now), **self._piece("", ""), **self._closing(self._reason, now)}
        return before + encode(closing).encode() + b"\n"

    def _written(self, piece: Mapping[str, object], now: float) -> bytes:
        return encode({**self._head(now), **piece, "done": False}).encode() + b"\n"

    def _fail(self, message: str) -> bytes:
        if self.error is not None:
            return b""
        self.error = message
        return encode({"error": message}).encode() + b"\n"


class WholeTranslation(_Translation):
    """An answer in one piece: a chat, a generation, embeddings, or an error of any status."""

    __slots__ = ("_pieces", "_size", "_status")

    def __init__(self, call: Call, times: Times, status: int) -> None:
        super().__init__(call, times, b"application/json")
        self._status = status
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes, now: float) -> bytes:  # noqa: ARG002  whole answers are not timed by piece
        """Nothing passes before the end."""
        self._size += len(data)
        if self._size <= ANSWER_LIMIT:
            self._pieces.append(data)
        return b""

    def end(self, now: float) -> bytes:
        """The whole answer, translated."""
        body = b"".join(self._pieces)
        self._pieces = []
        found = json_object(body) if self._size <= ANSWER_LIMIT else None
        if found is None or found.get("error") or self._status >= 400:
            return self._failed(found, body)
        self._learn(found)
        answer = self._embeddings(found, now) if "data" in found else self._text(found, now)
        if answer is None:
            return self._failed(None, body)
        self.complete = True
        return encode(answer).encode()

    def _failed(self, found: Mapping[str, object] | None, body: bytes) -> bytes:
        self.complete = found is not None or self._status >= 400
        if found:
            said = message_of(found.get("error", found.get("message", found)))
        else:
            said = body[:500].decode("utf-8", "replace").strip() if self._status >= 400 else ""
        message = said or "the engine's answer cannot be read"
        if self._status < 400:
            self.error = message
        return encode({"error": message}).encode()

    def _text(self, found: Mapping[str, object], now: float) -> dict[str, object] | None:
        choices = found.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return None
        message = choice.get("message")
        closing = self._closing(choice.get("finish_reason"), now)
        if not isinstance(message, dict):
            return {**self._head(now), **self._piece(_text(choice.get("text")), ""), **closing}
        calls = ToolCalls()
        calls.add(message.get("tool_calls"))
        piece = self._piece(_text(message.get("content")), thoughts(message), calls.made())
        return {**self._head(now), **piece, **closing}

    def _embeddings(self, found: Mapping[str, object], now: float) -> dict[str, object] | None:
        data = found["data"]
        if not isinstance(data, list) or not all(isinstance(each, dict) and "embedding" in each for each in data):
            return None
        vectors = [each["embedding"] for each in sorted(data, key=lambda each: each.get("index", 0))]
        if self._call.operation is Operation.OLLAMA_EMBEDDINGS:
            return {"embedding": vectors[0] if vectors else []}
        times = self._times
        return {
            "model": self._call.model,
            "embeddings": vectors,
            "total_duration": _ns(now - times.arrived),
            "load_duration": _ns(times.routed - times.arrived),
            "prompt_eval_count": self.tokens_in,
        }


def thoughts(message: Mapping[str, object]) -> str:
    """A model's thoughts, under either of the names that engines give them."""
    return _text(message.get("reasoning_content")) or _text(message.get("reasoning"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _ns(seconds: float) -> int:
    return max(0, round(seconds * 1e9))
