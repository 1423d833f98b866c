"""Reads the header of a GGUF file from its first bytes, as they come, and never more of it than a bound.

Rule: every count and length is checked before it is believed, and nothing but GgufError is raised, because the bytes
are a stranger's. The package `gguf` of llama.cpp does not fit here: its reader maps a whole local file with numpy,
keeps every token of the vocabulary, and trusts the counts that it reads.

The form is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

MAGIC = b"GGUF"
"""What the file begins with."""

BOUND = 64 * 1024 * 1024
"""Most bytes of a header: the vocabularies of today's largest ones take some 15 MiB."""

PIECE = 256 * 1024
"""Bytes that are asked for at once."""

MOST_KEYS = 65_536
"""Most key-value pairs: today's models have fewer than 100."""

MOST_TENSORS = 1_048_576
"""Most tensors: the largest mixtures of experts have some thousands."""

MOST_ITEMS = 16_777_216
"""Most items of an array: the largest vocabularies have some 300 thousand."""

LONGEST_NAME = 65_535
"""Most bytes of a key, as the format's own description limits it."""

LONGEST_STRING = 16 * 1024 * 1024
"""Most bytes of a string."""

LONGEST_KEPT = 1024 * 1024
"""Most bytes of a string that is kept; chat templates have some ten thousand."""

MOST_DIMENSIONS = 4
"""Most dimensions of a tensor, as ggml has it."""

DEEPEST = 4
"""How deep arrays may be nested."""

_FIXED: Mapping[int, struct.Struct] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
"""Values of fixed size, by their type's number."""

_STRING, _ARRAY, _BOOL = 8, 9, 7
_U32, _U64 = _FIXED[4], _FIXED[10]

Value = int | float | bool | str
"""A value that is kept; arrays are not."""


class GgufError(Exception):
    """The bytes are no GGUF header that may be believed."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says about itself.

    Attributes:
        version: of the format.
        values: its single values by key; of strings those under `general.` and the chat templates.
        lengths: how many items each of its arrays has, by key.
        tensors: how many tensors it has.
        weights: how many numbers its tensors hold.
        kinds: how many of them each type of tensor holds, by the type's number.
        size: bytes that the header takes up.
    """

    version: int
    values: Mapping[str, Value]
    lengths: Mapping[str, int] = field(default_factory=dict)
    tensors: int = 0
    weights: int = 0
    kinds: Mapping[int, int] = field(default_factory=dict)
    size: int = 0


class Parser:
    """Takes a header in pieces of any size, until it is whole.

    Attributes:
        wanted: bytes that it may still be given; it is never to be given more.
    """

    def __init__(self, bound: int = BOUND) -> None:
        """Start before the first byte."""
        self.wanted = bound
        self._window = _Window(bound)
        self._steps = _header(self._window)
        next(self._steps)

    def feed(self, piece: bytes) -> Header | None:
        """Take the next bytes, none at the file's end, and give the header once it is whole.

        Raises:
            GgufError: for what is no header, or one that goes beyond the bound.
        """
        if len(piece) > self.wanted:
            msg = "more bytes than the bound allows"
            raise GgufError(msg)
        self.wanted -= len(piece)
        try:
            self._steps.send(piece)
        except StopIteration as ended:
            header: Header = ended.value
            return header
        return None


def read(source: Callable[[int], bytes], bound: int = BOUND) -> Header:
    """Read a header from what gives up to so many bytes at a time, such as a file's `read`.

    Raises:
        GgufError: for what is no header, or one that goes beyond the bound.
    """
    parser = Parser(bound)
    while (header := parser.feed(source(min(PIECE, parser.wanted)))) is None:
        pass
    return header


class _Window:
    """The bytes that have come and are not used up yet."""

    def __init__(self, bound: int) -> None:
        """Start with none."""
        self.bound = bound
        self.used = 0
        self.buffer = bytearray()
        self.place = 0

    def need(self, count: int) -> Generator[None, bytes, None]:
        """Wait until so many bytes are there."""
        self.allow(count)
        while len(self.buffer) - self.place < count:
            piece = yield
            if not piece:
                raise GgufError("it ends in the middle of its header")
            del self.buffer[: self.place]
            self.place = 0
            self.buffer += piece

    def allow(self, count: int) -> None:
        """Refuse what would go beyond the bound."""
        if self.used + count > self.bound:
            raise GgufError(f"its header is larger than {self.bound} bytes")

    def take(self, count: int) -> bytes:
        """Use up bytes that are there."""
        end = self.place + count
        taken = bytes(self.buffer[self.place : end])
        self.place = end
        self.used += count
        return taken

    def number(self, form: struct.Struct) -> Generator[None, bytes, int]:
        """Read one whole number."""
        if len(self.buffer) - self.place < form.size or self.used + form.size > self.bound:
            yield from self.need(form.size)
        (value,) = form.unpack_from(self.buffer, self.place)
        self.place += form.size
        self.used += form.size
        return int(value)

    def skip(self, count: int) -> Generator[None, bytes, None]:
        """Pass over bytes without keeping them."""
        self.allow(count)
        while count:
            if self.place == len(self.buffer):
                yield from self.need(1)
            step = min(count, len(self.buffer) - self.place)
            self.place += step
            self.used += step
            count -= step


def _header(window: _Window) -> Generator[None, bytes, Header]:
    """Read the whole header."""
    yield from window.need(4)
    if window.take(4) != MAGIC:
        raise GgufError("it does not begin with GGUF")
    version = yield from window.number(_U32)
    if version & 0xFFFF == 0 and version:
        raise GgufError("it is for machines of the other byte order")
    if version not in {2, 3}:
        raise GgufError(f"it is of version {version}; 2 and 3 can be read")
    tensors = yield from _count(window, MOST_TENSORS, "tensors")
    keys = yield from _count(window, MOST_KEYS, "keys")
    values: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    for _ in range(keys):
        key = yield from _text(window, LONGEST_NAME, "key")
        if key in values or key in lengths:
            raise GgufError("a key stands there twice")
        kind = yield from window.number(_U32)
        if kind == _ARRAY:
            lengths[key] = yield from _skip_array(window, 1)
        elif (value := (yield from _value(window, kind, key))) is not None:
            values[key] = value
    kinds: dict[int, int] = {}
    for _ in range(tensors):
        kind, weights = yield from _tensor(window)
        kinds[kind] = kinds.get(kind, 0) + weights
    return Header(version, values, lengths, tensors, sum(kinds.values()), kinds, window.used)


def _count(window: _Window, most: int, name: str) -> Generator[None, bytes, int]:
    """Read how many of something follow."""
    count = yield from window.number(_U64)
    if count > most:
        raise GgufError(f"it claims {count} {name}; at most {most} can be read")
    return count


def _text(window: _Window, longest: int, name: str) -> Generator[None, bytes, str]:
    """Read a string that is kept."""
    length = yield from _count(window, longest, f"bytes of a {name}")
    yield from window.need(length)
    try:
        return window.take(length).decode()
    except UnicodeDecodeError:
        raise GgufError(f"a {name} is not UTF-8") from None


def _value(window: _Window, kind: int, key: str) -> Generator[None, bytes, Value | None]:
    """Read a single value; None for a string that nobody asks for."""
    if kind == _STRING:
        if key.startswith(("general.", "tokenizer.chat_template")):
            return (yield from _text(window, LONGEST_KEPT, "kept string"))
        yield from window.skip((yield from _count(window, LONGEST_STRING, "bytes of a string")))
        return None
    if (form := _FIXED.get(kind)) is None:
        raise GgufError(f"it has a value of type {kind}, which does not exist")
    yield from window.need(form.size)
    taken = window.take(form.size)
    if kind == _BOOL and taken not in {b"\0", b"\1"}:
        raise GgufError("it has a truth value that is neither true nor false")
    value: Value = form.unpack(taken)[0]
    return value


def _skip_array(window: _Window, depth: int) -> Generator[None, bytes, int]:
    """Pass over an array, and give how many items it has."""
    if depth > DEEPEST:
        raise GgufError("its arrays are nested too deep")
    kind = yield from window.number(_U32)
    count = yield from _count(window, MOST_ITEMS, "items of an array")
    if kind in _FIXED:
        yield from window.skip(count * _FIXED[kind].size)
    elif kind == _STRING:
        yield from _skip_strings(window, count)
    elif kind == _ARRAY:
        for _ in range(count):
            yield from _skip_array(window, depth + 1)
    else:
        raise GgufError(f"it has an array of type {kind}, which does not exist")
    return count


def _skip_strings(window: _Window, count: int) -> Generator[None, bytes, None]:
    """Pass over strings; a vocabulary has a quarter of a million, so those already here are passed over at once."""
    unpack, most = _U64.unpack_from, LONGEST_STRING
    while count:
        start = place = window.place
        last = min(len(window.buffer), start + window.bound - window.used)
        while count and place + 8 <= last:
            (length,) = unpack(window.buffer, place)
            if length > most or place + 8 + length > last:
                break
            place += 8 + length
            count -= 1
        window.place = place
        window.used += place - start
        if count:  # the next one is not wholly here, or not allowed
            yield from window.skip((yield from _count(window, most, "bytes of a string")))
            count -= 1


def _tensor(window: _Window) -> Generator[None, bytes, tuple[int, int]]:
    """Read what stands about one tensor: its type, and how many numbers it holds."""
    yield from window.skip((yield from _count(window, LONGEST_NAME, "bytes of a tensor's name")))
    dimensions = yield from window.number(_U32)
    if dimensions > MOST_DIMENSIONS:
        raise GgufError(f"it claims a tensor of {dimensions} dimensions")
    weights = 1
    for _ in range(dimensions):
        weights *= yield from window.number(_U64)
    if weights >= 1 << 63:
        raise GgufError("it claims a tensor larger than any can be")
    kind = yield from window.number(_U32)
    yield from window.number(_U64)
    return kind, weights
