"""Reads the checks of a task, asks them of a model and grades its answers.

The rule: a file of checks is read whole or refused whole, with the line, the field and what would be right; a check
that was misread would reject good models silently. Each side is asked the same, at temperature 0 and with the same
seed, and a grade depends on the check and the answer alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from arbiter.core.check_expectations import PASSED, Expectations
from arbiter.core.json_shape import read_pattern, read_shape
from arbiter.core.strict_yaml import listed, read_yaml, shown
from arbiter.engines.calls import EngineReplyError
from arbiter.engines.openai_calls import chat_call, read_chat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.core.strict_yaml import Node
    from arbiter.engines.calls import Call, Reply

KEY: Final = "checks.yaml"
"""The key of the ConfigMap."""

LARGEST: Final = 200_000
"""The most bytes of a file of checks."""

MOST_CHECKS: Final = 500
"""The most checks in a file: as many as the status of a ModelSwap can show."""

LONGEST_NAME: Final = 63
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")

MOST_MESSAGES: Final = 32
MOST_TOKENS: Final = 1024
"""The most tokens that a check may ask for: what is graded are short answers, and every model answers all of them."""

TOKENS: Final = 256
"""The tokens of an answer where a check does not say."""

WEIGHT: Final = 1.0
"""What a check counts where it does not say."""

_QUOTED: Final = 140
"""The most characters of an answer that are told, beside 60 of a path into its JSON: it may hold anything, and is shown
in objects and events."""

_FILE: Final = ("version", "checks")
_CHECK: Final = ("name", "messages", "expect", "weight", "maxTokens")
_MESSAGE: Final = ("role", "content")
_ROLES: Final = ("system", "user", "assistant")
_EXPECT: Final = (
    "exact",
    "contains",
    "notContains",
    "regex",
    "number",
    "jsonSchema",
    "minLength",
    "maxLength",
    "refusal",
    "similarTo",
)
_BESIDE: Final = {
    "tolerance": ("number",),
    "numberFrom": ("number",),
    "threshold": ("similarTo",),
    "caseSensitive": ("exact", "contains", "notContains", "similarTo"),
}
"""Fields that only mean something beside another one."""

_LONGEST_EXPECTED: Final = 8_000


@dataclass(frozen=True, slots=True)
class Check:
    """One prompt and what is expected of the answer.

    Attributes:
        name: by which results are kept and shown.
        messages: role and content of each, in order.
        expect: what the answer must be.
        weight: what it counts beside the others, above 0 and at most 1.
        max_tokens: where an answer is cut.
    """

    name: str
    messages: tuple[tuple[str, str], ...]
    expect: Expectations
    weight: float = WEIGHT
    max_tokens: int = TOKENS

    def call(self, model: str, seed: int) -> Call:
        """Ask it of a model.

        Args:
            model: its name at the server.
            seed: the same for both sides.
        """
        messages = [{"role": role, "content": content} for role, content in self.messages]
        return chat_call(model, messages, max_tokens=self.max_tokens, seed=seed)

    def grade(self, reply: Reply) -> Grade:
        """Grade what came back. An error of the server is no answer: whoever asks tries again what time may mend."""
        try:
            chatted = read_chat(reply)
        except EngineReplyError as error:
            return Grade(self.name, 0.0, f"No answer: {shown(str(error), _QUOTED)[1:-1]}.")
        score, problem = self.expect.score(chatted.text)
        if not problem:
            return Grade(self.name, score, "The answer is as expected.")
        cut = f" (it was cut after {self.max_tokens} tokens)" if chatted.cut else ""
        says = f" It says {shown(chatted.text.strip(), _QUOTED)}." if chatted.text.strip() else ""
        return Grade(self.name, score, f"The answer is wrong: {problem}{cut}.{says}")


@dataclass(frozen=True, slots=True)
class Grade:
    """How a model did at one check.

    Attributes:
        name: of the check.
        score: from 0 to 1.
        told: why, as a sentence that quotes the beginning of the answer.
    """

    name: str
    score: float
    told: str

    @property
    def passed(self) -> bool:
        """Whether the answer is all that was expected."""
        return self.score >= PASSED


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks of a task.

    Attributes:
        hash: sha256 of what they mean: comments, order of fields and ways of writing make no difference.
        items: the checks, in the file's order.
    """

    hash: str
    items: tuple[Check, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the checks, in order."""
        return tuple(check.name for check in self.items)

    def named(self, name: str) -> Check:
        """The check of that name; raises KeyError if there is none."""
        for check in self.items:
            if check.name == name:
                return check
        raise KeyError(name)


def read_checks(text: str) -> Checks:
    """Read the value of a ConfigMap's key `checks.yaml`.

    Raises:
        InvalidInputError: it is not a file of checks; names the line, the field and what would be right.
    """
    fields = _taken(read_yaml(text, KEY, LARGEST), _FILE, _FILE)
    if (version := fields["version"]).value != 1 or isinstance(version.value, bool):
        version.place.refuse(f"must be 1, not {version.kind}; later versions need a later Arbiter")
    nodes = fields["checks"].items("a list of checks")
    if not 1 <= len(nodes) <= MOST_CHECKS:
        fields["checks"].place.refuse(f"must have from 1 to {MOST_CHECKS} checks, not {len(nodes)}")
    items: list[Check] = []
    meant: list[object] = []
    lines: dict[str, int] = {}
    for node in nodes:
        check = _read_check(node)
        if check.name in lines:
            node.place.refuse(
                f"has the name {check.name}, as the check on line {lines[check.name]}; each needs its own"
            )
        lines[check.name] = node.place.line
        items.append(check)
        # With what is left out filled in: a default that is written down changes nothing.
        meant.append({**_plain(node), "weight": check.weight, "maxTokens": check.max_tokens})
    canonical = json.dumps({"version": 1, "checks": meant}, sort_keys=True, separators=(",", ":"))
    return Checks(sha256(canonical.encode()).hexdigest(), tuple(items))


def _plain(node: Node) -> dict[str, object]:
    return {name: field.plain() for name, field in node.fields(_CHECK).items()}


def _read_check(node: Node) -> Check:
    fields = _taken(node, _CHECK, _CHECK[:3])
    name = fields["name"].text()
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        fields["name"].place.refuse(
            f"must be at most {LONGEST_NAME} letters, digits, '-', '_' and '.', with a letter or digit at both ends, "
            f"not {shown(name)}"
        )
    return Check(
        name,
        _messages(fields["messages"]),
        _expectations(fields["expect"]),
        _weight(fields["weight"]) if "weight" in fields else WEIGHT,
        fields["maxTokens"].whole(1, MOST_TOKENS) if "maxTokens" in fields else TOKENS,
    )


def _messages(node: Node) -> tuple[tuple[str, str], ...]:
    nodes = node.items("a list of messages, such as [{role: user, content: Hello}]")
    if not 1 <= len(nodes) <= MOST_MESSAGES:
        node.place.refuse(f"must have from 1 to {MOST_MESSAGES} messages, not {len(nodes)}")
    messages = []
    for one in nodes:
        fields = _taken(one, _MESSAGE, _MESSAGE)
        role = fields["role"].text()
        if role not in _ROLES:
            fields["role"].place.refuse(f"must be one of {listed(_ROLES)}, not {shown(role)}")
        messages.append((role, _worded(fields["content"])))
    if messages[-1][0] != "user":
        nodes[-1].place.refuse("is the last message, and must be of the role user: it is what the model answers")
    return tuple(messages)


def _weight(node: Node) -> float:
    weight = node.number()
    if not 0.0 < weight <= 1.0:
        node.place.refuse(f"must be above 0 and at most 1, not {weight}; give 1 to what matters most and others less")
    return float(weight)


def _expectations(node: Node) -> Expectations:
    fields = node.fields((*_EXPECT, *_BESIDE))
    for name, needed in _BESIDE.items():
        if name in fields and not any(one in fields for one in needed):
            fields[name].place.refuse(f"only means something beside {' or '.join(needed)}")
    if not any(name in fields for name in _EXPECT):
        node.place.refuse(f"must have at least one of {listed(_EXPECT)}")
    if "similarTo" in fields and "threshold" not in fields:
        fields["similarTo"].place.refuse("needs a threshold above 0 and at most 1 beside it; 0.6 is a strict one")
    shortest = fields["minLength"].whole(1, _LONGEST_EXPECTED) if "minLength" in fields else None
    longest = fields["maxLength"].whole(shortest or 1, _LONGEST_EXPECTED) if "maxLength" in fields else None
    return Expectations(
        exact=_worded(fields["exact"]) if "exact" in fields else None,
        contains=_texts(fields.get("contains")),
        lacks=_texts(fields.get("notContains")),
        pattern=read_pattern(fields["regex"]) if "regex" in fields else None,
        number=float(fields["number"].number()) if "number" in fields else None,
        tolerance=_tolerance(fields),
        first_number=_first_number(fields),
        shape=read_shape(fields["jsonSchema"]) if "jsonSchema" in fields else None,
        least=shortest,
        most=longest,
        refusal=fields["refusal"].flag() if "refusal" in fields else None,
        similar=_worded(fields["similarTo"]) if "similarTo" in fields else None,
        threshold=_threshold(fields["threshold"]) if "threshold" in fields else PASSED,
        cased="caseSensitive" in fields and fields["caseSensitive"].flag(),
    )


def _tolerance(fields: Mapping[str, Node]) -> float:
    if "tolerance" not in fields:
        return 0.0
    tolerance = fields["tolerance"].number()
    return (
        float(tolerance) if tolerance >= 0 else fields["tolerance"].place.refuse(f"must be at least 0, not {tolerance}")
    )


def _first_number(fields: Mapping[str, Node]) -> bool:
    if "numberFrom" not in fields:
        return False
    node = fields["numberFrom"]
    if node.value not in ("first", "last"):
        node.place.refuse(f"must be first or last, not {node.kind}")
    return node.value == "first"


def _threshold(node: Node) -> float:
    threshold = node.number()
    return float(threshold) if 0.0 < threshold <= 1.0 else node.place.refuse(
        f"must be above 0 and at most 1, not {threshold}"
    )  # fmt: skip


def _texts(node: Node | None) -> tuple[str, ...]:
    if node is None:
        return ()
    if not isinstance(node.value, tuple):
        return (_worded(node, "text, or a list of texts"),)
    if not node.value:
        node.place.refuse("must name at least one text")
    return tuple(_worded(one) for one in node.value)


def _worded(node: Node, what: str = "text") -> str:
    text = node.text(what)
    return text if text.strip() else node.place.refuse("must not be empty")


def _taken(node: Node, known: tuple[str, ...], needed: tuple[str, ...]) -> dict[str, Node]:
    fields = node.fields(known)
    if lacking := [name for name in needed if name not in fields]:
        node.place.refuse(f"lacks {listed(tuple(lacking))}")
    return fields
