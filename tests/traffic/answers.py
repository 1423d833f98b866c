"""Judges the body of an answer in OpenAI's form, plain or streamed. Pure.

Rule: strict. What a lenient client would let pass, a router may have broken.
"""

from __future__ import annotations

import json

from tests.traffic.attempts import Fault, FaultError

_SHOWN = 200
"""Characters of a wrong body that a failure quotes."""


def check_plain(body: bytes) -> None:
    """Take a plain completion.

    Raises:
        FaultError: when it is not one.
    """
    answer = _parsed(body)
    if "error" in answer:
        raise FaultError(Fault.ERROR_EVENT, _quoted(body))
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise FaultError(Fault.NOT_JSON, f"no choices: {_quoted(body)}")
    if not all(isinstance(each, dict) and each.get("finish_reason") for each in choices):
        raise FaultError(Fault.NO_FINISH, _quoted(body))


class EventStream:
    """Takes server-sent events as they come, and says at the end whether they were a whole answer."""

    def __init__(self) -> None:
        """Nothing has come."""
        self.events = 0
        self._rest = b""
        self._finished = False
        self._done = False

    def feed(self, data: bytes) -> int:
        """Take a piece of the body and give how many events it completed; comments and `[DONE]` are none.

        Raises:
            FaultError: for an event that reports an error or is not JSON, and for anything after `[DONE]`.
        """
        before = self.events
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line.rstrip(b"\r"))
        return self.events - before

    def end(self) -> None:
        """The body is complete as far as HTTP goes.

        Raises:
            FaultError: when the stream is not.
        """
        if self._rest.strip():
            raise FaultError(Fault.CUT, f"the stream ends inside a line: {_quoted(self._rest)}")
        if not self._done:
            raise FaultError(Fault.NO_DONE, f"the stream ends after {self.events} events without [DONE]")
        if not self._finished:
            raise FaultError(Fault.NO_FINISH, f"[DONE] after {self.events} events, none with a finish_reason")

    def _take(self, line: bytes) -> None:
        if not line or line.startswith(b":"):
            return
        field, _, value = line.partition(b":")
        if field == b"error":
            raise FaultError(Fault.ERROR_EVENT, _quoted(line))
        if field != b"data":
            return
        if self._done:
            raise FaultError(Fault.MALFORMED, f"an event after [DONE]: {_quoted(line)}")
        if value.strip() == b"[DONE]":
            self._done = True
            return
        event = _parsed(value)
        if "error" in event:
            raise FaultError(Fault.ERROR_EVENT, _quoted(value))
        self.events += 1
        choices = event.get("choices")
        if isinstance(choices, list) and any(isinstance(each, dict) and each.get("finish_reason") for each in choices):
            self._finished = True


def _parsed(text: bytes) -> dict[str, object]:
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise FaultError(Fault.NOT_JSON, _quoted(text))
    return parsed


def _quoted(text: bytes) -> str:
    return repr(text.strip()[:_SHOWN])
