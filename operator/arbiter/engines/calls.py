"""The form of a question to a model server and of its answer, as values that somebody else sends and receives.

The rule of reading: a field that is read must be there and of its type, or the answer is refused by the field's path
and what came instead; fields that nobody asked about are passed over, because each version of a server brings new ones.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

from arbiter.errors import ArbiterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LONGEST_REPLY: Final = 8 * 1024**2
"""The most bytes of an answer, or of one line of a stream, that are worth reading: chat templates are long."""

QUICK_S: Final = 10.0
"""Seconds for what a server answers without computing; one that computes may be slow to take turns."""


class EngineReplyError(ArbiterError):
    """What a model server answered cannot be used: it is cut, of another form, or an error of its own.

    Attributes:
        asked: what was asked, as method and path.
    """

    def __init__(self, asked: str, problem: str) -> None:
        """Say what was asked first."""
        super().__init__(f"{asked}: {problem}")
        self.asked = asked


class EngineRefusedError(EngineReplyError):
    """A model server answered with an error of its own.

    Attributes:
        status: the HTTP status; 200 for an error inside of a stream.
        said: its own words, on one line.
    """

    def __init__(self, asked: str, status: int, said: str) -> None:
        """Keep the status: 404 often means that a model is not there, 503 that it is being loaded."""
        super().__init__(asked, f"the server answered {status}: {said or 'without a message'}")
        self.status = status
        self.said = said


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a model server.

    Attributes:
        method: the HTTP method.
        path: the path behind the server's base address, with its query.
        body: the JSON body; `None` without one.
        deadline_s: seconds until the whole answer is there; of a stream, between two lines of it.
        streams: whether the answer comes as lines of JSON over a long time.
    """

    method: str
    path: str
    body: Mapping[str, object] | None = None
    deadline_s: float = QUICK_S
    streams: bool = False

    @property
    def asked(self) -> str:
        """What is asked, for messages: no body, which may hold what users wrote."""
        return f"{self.method} {self.path}"

    @property
    def content(self) -> bytes:
        """The body's bytes, empty without one. Send them as `application/json`."""
        return b"" if self.body is None else json.dumps(self.body, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer.

    Attributes:
        asked: what was asked, as `Call.asked` says it.
        status: the HTTP status.
        body: its content.
    """

    asked: str
    status: int
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the server did what it was asked."""
        return 200 <= self.status < 300

    def parse(self) -> Answer:
        """Read the answer as a JSON object.

        Raises:
            EngineRefusedError: the server says an error.
            EngineReplyError: it is no JSON object.
        """
        return Answer(self._object(), self.asked)

    def parse_list(self) -> tuple[Answer, ...]:
        """Read the answer as a list of JSON objects; raises as `parse` does."""
        self._refuse_error()
        parsed = self._json()
        if not isinstance(parsed, list):
            raise EngineReplyError(self.asked, f"the answer must be a list, not {_kind(parsed)}")
        return tuple(Answer(one, self.asked, f"[{index}]") for index, one in enumerate(parsed))

    def parse_text(self) -> str:
        """Read the answer as text; raises EngineRefusedError if the server says an error."""
        self._refuse_error()
        return self.body.decode(errors="replace")

    def error(self) -> str:
        """Find the server's words for what went wrong, on one line; empty if there are none."""
        try:
            parsed = json.loads(self.body)
        except (ValueError, RecursionError):
            return _line(self.body.decode(errors="replace"))
        return error_said(parsed) if isinstance(parsed, dict) else _line(str(parsed))

    def _object(self) -> object:
        self._refuse_error()
        parsed = self._json()
        if isinstance(parsed, dict) and "error" in parsed:
            raise EngineRefusedError(self.asked, self.status, error_said(parsed))
        return parsed

    def _refuse_error(self) -> None:
        if not self.ok:
            raise EngineRefusedError(self.asked, self.status, self.error())

    def _json(self) -> object:
        try:
            parsed: object = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            came = _line(self.body[:80].decode(errors="replace"))
            raise EngineReplyError(self.asked, f"the answer is not JSON ({error}): {came!r}") from error
        return parsed


@dataclass(frozen=True, slots=True)
class Load:
    """How many requests a server has.

    Attributes:
        running: those that it computes.
        waiting: those that wait in it.
    """

    running: int
    waiting: int = 0

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return self.running == 0 and self.waiting == 0


class Answer:
    """One JSON object of an answer, read field by field.

    Attributes:
        path: where it stands in the answer, for messages.
    """

    __slots__ = ("_asked", "_fields", "path")

    def __init__(self, fields: object, asked: str, path: str = "") -> None:
        """Take an already parsed object."""
        self._asked = asked
        self.path = path
        if not isinstance(fields, dict):
            raise EngineReplyError(asked, f"{path or 'the answer'} must be an object, not {_kind(fields)}")
        self._fields: dict[str, object] = fields

    def has(self, name: str) -> bool:
        """Whether a field is there and not null."""
        return self._fields.get(name) is not None

    def names(self) -> Iterator[str]:
        """The names of all fields."""
        return iter(self._fields)

    def text(self, name: str, default: str | None = None) -> str:
        """A field that is text; without a default it must be there."""
        if default is not None and not self.has(name):
            return default
        value = self._fields.get(name)
        return value if isinstance(value, str) else self._refuse(name, "text")

    def count(self, name: str, default: int | None = None) -> int:
        """A field that is a whole number from 0; without a default it must be there."""
        if default is not None and not self.has(name):
            return default
        value = self._fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        return self._refuse(name, "a whole number from 0")

    def flag(self, name: str, *, default: bool | None = None) -> bool:
        """A field that is a truth value; without a default it must be there."""
        if default is not None and not self.has(name):
            return default
        value = self._fields.get(name)
        return value if isinstance(value, bool) else self._refuse(name, "true or false")

    def part(self, name: str) -> Answer:
        """A field that is an object; absent or null, one without fields."""
        value = self._fields.get(name)
        return Answer({} if value is None else value, self._asked, self._at(name))

    def parts(self, name: str) -> tuple[Answer, ...]:
        """A field that is a list of objects; null means none, as Go writes an empty list."""
        return tuple(
            Answer(one, self._asked, f"{self._at(name)}[{index}]") for index, one in enumerate(self._list(name))
        )

    def texts(self, name: str) -> tuple[str, ...]:
        """A field that is a list of texts; absent or null means none."""
        values = self._list(name) if self.has(name) else []
        texts = tuple(value for value in values if isinstance(value, str))
        return texts if len(texts) == len(values) else self._refuse(name, "a list of texts")

    def length(self, name: str) -> int:
        """How long a field is that is a list or a text; 0 without it."""
        value = self._fields.get(name)
        return len(value) if isinstance(value, list | str) else 0

    def _list(self, name: str) -> list[object]:
        value = self._fields.get(name)
        if value is None and name in self._fields:
            return []
        return value if isinstance(value, list) else self._refuse(name, "a list")

    def _at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def _refuse(self, name: str, wanted: str) -> NoReturn:
        came = _kind(self._fields[name]) if name in self._fields else "nothing"
        raise EngineReplyError(self._asked, f"{self._at(name)} must be {wanted}, not {came}")


def error_said(fields: Mapping[str, object]) -> str:
    """Find an error's words: Ollama writes them as a text, OpenAI's form has an object with a message."""
    error = fields.get("error", fields.get("message", ""))
    if isinstance(error, dict):
        error = error.get("message", error)
    return _line(error if isinstance(error, str) else json.dumps(error))


_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{[^}]*\})?\s+(?P<value>\S+)(?:\s+-?\d+)?")


def metric(text: str, name: str, asked: str) -> float:
    """Add up all series of a metric in Prometheus' text form: a server with several engines gives one for each.

    Raises:
        EngineReplyError: there is none of that name, or one has no number.
    """
    matches = (_SAMPLE.fullmatch(line.strip()) for line in text.splitlines() if line.startswith(name))
    values = [match["value"] for match in matches if match is not None and match["name"] == name]
    if not values:
        raise EngineReplyError(asked, f"the metric {name} is missing")
    try:
        return sum(float(value) for value in values)
    except ValueError as error:
        raise EngineReplyError(asked, f"the metric {name} has the value {values[0]!r}") from error


def _kind(value: object) -> str:
    names = {
        bool: "a truth value",
        dict: "an object",
        list: "a list",
        str: "a text",
        int: "a number",
        float: "a number",
    }
    return "null" if value is None else names.get(type(value), "something else")


def _line(text: str) -> str:
    line = "".join(letter if letter.isprintable() else " " for letter in text).strip()
    return line if len(line) <= 400 else f"{line[:399]}…"
