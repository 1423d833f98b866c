"""Writes the log: one JSON object a line for machines, or a line of text for people.

Every line has `time`, `level`, `logger` and `message`; what is about a pool or a model names it as `pool` or `model`,
and `reason` is the code that conditions and events carry too.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from arbiter.controller.queue import Subject

if TYPE_CHECKING:
    from typing import TextIO

JSON, TEXT = "json", "text"
"""The two forms."""


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            **_about(record),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextLines(logging.Formatter):
    """One line of text, with what it is about in brackets."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line."""
        about = " ".join(f"{name}={value}" for name, value in _about(record).items())
        line = f"{_time(record)} {record.levelname:7} {record.getMessage()}" + (f" [{about}]" if about else "")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up(form: str, stream: TextIO) -> None:
    """Write everything from level INFO on to a stream, in this form."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if form == JSON else TextLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _about(record: logging.LogRecord) -> dict[str, str]:
    """The pool or model that a line is about, and its reason."""
    about, reason = getattr(record, "about", None), getattr(record, "reason", None)
    found = {}
    if isinstance(about, Subject):
        found["pool" if about.kind == "ModelPool" else "model"] = f"{about.namespace}/{about.name}"
    return {**found, "reason": str(reason)} if reason else found
