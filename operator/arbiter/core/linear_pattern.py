"""Searches text for regular expressions in time that grows with the text alone, whatever the expression.

The rule: no backtracking. Python's `re` tries alternatives one after the other, so `(a+)+b` takes years on forty
letters, and even without nesting `.*.*.*=` takes minutes on a long answer; nobody can tell from an expression alone
whether it does. Here all alternatives are followed at once (Thompson, "Regular expression search algorithm", CACM 1968;
Cox, "Regular Expression Matching: the Virtual Machine Approach", 2009), and what was followed once is remembered, so a
letter costs at most one look at each instruction. In return there are no backreferences and no lookaround, which cannot
be searched for so; what is understood means the same as in `re`, on text.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST: Final = 500
"""The most characters of an expression."""

MOST_INSTRUCTIONS: Final = 250
"""The most instructions that an expression may become: `(ab){3}` becomes six and the end."""

_DEEPEST: Final = 20
"""The most groups inside one another."""

_MOST_REMEMBERED: Final = 20_000
"""The most moves that one search remembers."""


class PatternError(ValueError):
    """An expression that is none, or that cannot be searched for in linear time; says what and where."""


class _Anchor(Enum):
    START = "^"
    END = "$"
    BORDER = r"\b"
    INSIDE = r"\B"


class _Neighbour(Enum):
    """What stands before a place in the text, as far as anchors ask."""

    NOTHING = 0
    WORD = 1
    OTHER = 2


@dataclass(frozen=True, slots=True)
class _Split:
    """Goes on at both places."""

    first: int
    second: int


@dataclass(frozen=True, slots=True)
class _Jump:
    """Goes on there."""

    to: int


@dataclass(frozen=True, slots=True)
class _Take:
    """Takes one letter that fits."""

    accepts: Callable[[str], bool]


_Step = _Take | _Split | _Jump | _Anchor
_MATCHED: Final[frozenset[int]] = frozenset({-1})


class Pattern:
    """A compiled expression.

    Attributes:
        text: the expression as written.
    """

    __slots__ = ("_steps", "text")

    def __init__(self, text: str) -> None:
        """Compile it.

        Raises:
            PatternError: it cannot be understood.
        """
        if len(text) > LONGEST:
            raise PatternError(f"has {len(text)} characters; it may have {LONGEST}")
        self.text = text
        self._steps = tuple(_Parser(text).whole())

    def found_in(self, text: str) -> bool:
        """Whether it matches anywhere in the text."""
        moves: dict[tuple[frozenset[int], _Neighbour, str], frozenset[int]] = {}
        # One object for equal sets, so that the table above need not compare them letter by letter.
        known: dict[frozenset[int], frozenset[int]] = {}
        states: frozenset[int] = frozenset()
        before = _Neighbour.NOTHING
        for letter in (*text, ""):
            move = (states, before, letter)
            after = moves.get(move)
            if after is None:
                after = self._move(*move)
                after = known.setdefault(after, after)
                if len(moves) < _MOST_REMEMBERED:
                    moves[move] = after
            if after is _MATCHED or after == _MATCHED:
                return True
            states, before = after, _neighbour(letter)
        return False

    def _move(self, states: frozenset[int], before: _Neighbour, letter: str) -> frozenset[int]:
        """Where one can be after this letter; `_MATCHED` if a match ends in front of it."""
        steps, end = self._steps, len(self._steps)
        after: set[int] = set()
        seen: set[int] = set()
        # An expression may begin at each letter, so its beginning is always among the places.
        ahead = [0, *states]
        while ahead:
            at = ahead.pop()
            if at in seen:
                continue
            seen.add(at)
            if at == end:
                return _MATCHED
            step = steps[at]
            # The most frequent first: this loop is where the time goes.
            if isinstance(step, _Take):
                if letter and step.accepts(letter):
                    after.add(at + 1)
            elif isinstance(step, _Split):
                ahead += (step.first, step.second)
            elif isinstance(step, _Jump):
                ahead.append(step.to)
            elif _holds(step, before, letter):
                ahead.append(at + 1)
        return frozenset(after)


def _neighbour(letter: str) -> _Neighbour:
    return _Neighbour.WORD if _is_word(letter) else _Neighbour.OTHER


def _holds(anchor: _Anchor, before: _Neighbour, letter: str) -> bool:
    border = (before is _Neighbour.WORD) != _is_word(letter)
    match anchor:
        case _Anchor.START:
            return before is _Neighbour.NOTHING
        case _Anchor.END:
            return not letter
        case _Anchor.BORDER:
            return border
        case _Anchor.INSIDE:
            return not border


def _is_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


_KINDS: Final[dict[str, Callable[[str], bool]]] = {
    "d": str.isdecimal,
    "s": str.isspace,
    "w": _is_word,
    "D": lambda letter: not letter.isdecimal(),
    "S": lambda letter: not letter.isspace(),
    "W": lambda letter: not _is_word(letter),
}
_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_ANCHORS: Final = {"b": _Anchor.BORDER, "B": _Anchor.INSIDE, "A": _Anchor.START, "Z": _Anchor.END}
_CODES: Final = {"x": 2, "u": 4}
_UNSUPPORTED: Final = {
    "=": "lookahead",
    "!": "lookahead",
    "<": "lookbehind",
    "P": "a named group",
    ">": "an atomic group",
    "(": "a condition",
    "#": "a comment",
}


class _Parser:
    """Reads an expression from left to right and gives its instructions."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._folds = False
        self._dot_takes_all = False

    def whole(self) -> list[_Step]:
        if self._text.startswith("(?") and self._text[2:3] in ("i", "s"):
            flags, closed, _ = self._text[2:].partition(")")
            if not closed or set(flags) - {"i", "s"}:
                self._refuse("only the flags (?i), (?s) and (?is) are understood, at the very beginning")
            self._folds, self._dot_takes_all = "i" in flags, "s" in flags
            self._at = len(flags) + 3
        steps = self._alternatives()
        if self._at < len(self._text):
            self._refuse(r"a ) closes nothing; write \) for the letter")
        return steps

    def _alternatives(self) -> list[_Step]:
        branches = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            branches.append(self._sequence())
        steps = branches.pop()
        while branches:
            first = branches.pop()
            # split to this branch or the rest; the branch ends in a jump over the rest.
            steps = [_Split(1, len(first) + 2), *_moved(first, 1), _Jump(len(first) + 2 + len(steps)),
                     *_moved(steps, len(first) + 2)]  # fmt: skip
            self._bound(len(steps))
        return steps

    def _sequence(self) -> list[_Step]:
        steps: list[_Step] = []
        while self._peek() not in ("", "|", ")"):
            steps += _moved(self._repeated(), len(steps))
            self._bound(len(steps))
        return steps

    def _repeated(self) -> list[_Step]:
        begin = self._at
        once = self._atom()
        least, most = self._counts()
        if (least, most) == (1, 1):
            return once
        if len(once) == 1 and isinstance(once[0], _Anchor) and self._text[begin] != "(":
            self._at = begin
            self._refuse("an anchor is not repeated")
        if self._peek() == "?":
            # Lazy or greedy finds another match first, and whether there is one is all that is asked.
            self._at += 1
        if self._peek() and self._peek() in "*+?{":
            self._refuse("one repetition follows another; put the first into a group, as in (?:a+)+")
        return self._copies(once, least, most)

    def _counts(self) -> tuple[int, int | None]:
        match self._peek():
            case "*":
                counts: tuple[int, int | None] = (0, None)
            case "+":
                counts = (1, None)
            case "?":
                counts = (0, 1)
            case "{":
                return self._braces()
            case _:
                return 1, 1
        self._at += 1
        return counts

    def _braces(self) -> tuple[int, int | None]:
        inside, closed, _ = self._text[self._at + 1 :].partition("}")
        low, comma, high = inside.partition(",")
        numbers = [part for part in (low, high) if part]
        if (
            not closed
            or not numbers
            or not all(part.isascii() and part.isdigit() and len(part) < 5 for part in numbers)
        ):
            self._refuse(r"a { begins a count such as {2}, {2,} or {2,5}; write \{ for the letter")
        least = int(low or "0")
        most = least if not comma else int(high) if high else None
        if most is not None and most < least:
            self._refuse(f"a count of at least {least} and at most {most} cannot be")
        self._at += len(inside) + 2
        return least, most

    def _copies(self, once: list[_Step], least: int, most: int | None) -> list[_Step]:
        optional = 1 if most is None else most - least
        self._bound(least * len(once) + optional * (len(once) + 1))
        steps: list[_Step] = []
        for _ in range(least):
            steps += _moved(once, len(steps))
        if most is None:
            begin = len(steps)
            return [*steps, _Split(begin + 1, begin + len(once) + 2), *_moved(once, begin + 1), _Jump(begin)]
        end = len(steps) + optional * (len(once) + 1)
        for _ in range(optional):
            steps.append(_Split(len(steps) + 1, end))
            steps += _moved(once, len(steps))
        return steps

    def _atom(self) -> list[_Step]:
        letter = self._take()
        if letter in "*+?{":
            self._refuse(f"there is nothing for {letter} to repeat; write \\{letter} for the letter")
        if letter == "(":
            return self._group()
        if letter == "\\":
            return self._escape()
        return [self._single(letter)]

    def _single(self, letter: str) -> _Step:
        match letter:
            case "[":
                return _Take(self._class())
            case ".":
                return _Take((lambda _: True) if self._dot_takes_all else (lambda each: each != "\n"))
            case "^":
                return _Anchor.START
            case "$":
                return _Anchor.END
            case _:
                return _Take(self._literal(letter))

    def _group(self) -> list[_Step]:
        if self._peek() == "?":
            self._at += 1
            if self._take() != ":":
                what = _UNSUPPORTED.get(self._text[self._at - 1], "a flag inside of the expression")
                self._refuse(f"{what} cannot be searched for in linear time, so it is not understood")
        self._depth += 1
        if self._depth > _DEEPEST:
            self._refuse(f"groups are nested more than {_DEEPEST} deep")
        steps = self._alternatives()
        if self._peek() != ")":
            self._refuse(r"a ( is not closed; write \( for the letter")
        self._at += 1
        self._depth -= 1
        return steps

    def _escape(self) -> list[_Step]:
        letter = self._take()
        if letter in _KINDS:
            return [_Take(_KINDS[letter])]
        if letter in _ANCHORS:
            return [_ANCHORS[letter]]
        if letter.isdigit():
            self._refuse("a backreference cannot be searched for in linear time, so it is not understood")
        return [_Take(self._literal(self._escaped(letter)))]

    def _escaped(self, letter: str) -> str:
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if letter in _CODES:
            code = self._text[self._at : self._at + _CODES[letter]]
            if len(code) < _CODES[letter] or not all(each in "0123456789abcdefABCDEF" for each in code):
                self._refuse(f"after \\{letter} come {_CODES[letter]} hexadecimal digits")
            self._at += len(code)
            return chr(int(code, 16))
        if letter.isascii() and (letter.isalnum() or letter == "_"):
            self._refuse(f"\\{letter} is not understood")
        return letter

    def _class(self) -> Callable[[str], bool]:
        negated = self._peek() == "^"
        self._at += negated
        kinds: list[Callable[[str], bool]] = []
        ranges: list[tuple[str, str]] = []
        begin = self._at
        while (letter := self._take()) != "]" or self._at == begin + 1:
            if letter == "]":
                self._refuse(r"[] is empty; write \] for the letter")
            if letter == "\\" and self._peek() in _KINDS:
                kinds.append(_KINDS[self._take()])
                continue
            low = self._class_letter(letter)
            high = low
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._class_letter(self._take())
            if high < low:
                self._refuse(f"the range {low}-{high} is empty")
            ranges.append((low, high))

        def fits(each: str) -> bool:
            return any(low <= each <= high for low, high in ranges) or any(kind(each) for kind in kinds)

        accepts = _folded(fits) if self._folds else fits
        return (lambda each: not accepts(each)) if negated else accepts

    def _class_letter(self, letter: str) -> str:
        if letter != "\\":
            return letter
        escaped = self._take()
        if escaped in _KINDS:
            self._refuse(f"a range cannot end with \\{escaped}")
        return "\b" if escaped == "b" else self._escaped(escaped)

    def _literal(self, letter: str) -> Callable[[str], bool]:
        return _folded(letter.__eq__) if self._folds else letter.__eq__

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        letter = self._peek()
        if not letter:
            self._refuse("it ends in the middle")
        self._at += 1
        return letter

    def _bound(self, size: int) -> None:
        if size >= MOST_INSTRUCTIONS:
            self._refuse(f"it is too long once its counts are written out: more than {MOST_INSTRUCTIONS} steps")

    def _refuse(self, problem: str) -> NoReturn:
        raise PatternError(f"near character {max(1, self._at)}: {problem}")


def _folded(accepts: Callable[[str], bool]) -> Callable[[str], bool]:
    """Whether a letter, its small or its capital form fits."""
    return lambda each: (
        accepts(each) or any(len(other) == 1 and accepts(other) for other in (each.lower(), each.upper()))
    )


def _moved(steps: list[_Step], by: int) -> list[_Step]:
    """The same instructions where they stand that much further behind."""
    moved: list[_Step] = []
    for step in steps:
        match step:
            case _Split(first, second):
                moved.append(_Split(first + by, second + by))
            case _Jump(to):
                moved.append(_Jump(to + by))
            case _:
                moved.append(step)
    return moved
