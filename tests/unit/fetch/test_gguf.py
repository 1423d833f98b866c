"""GGUF headers: read from pieces, within bounds, and nothing but one kind of error for what is none."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.fetch.findings import from_gguf
from arbiter.fetch.gguf import GgufError, Header, Parser, read
from tests.unit.fetch.gguf_example import gguf, model, text

CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "arbiter" / "images"


def in_pieces(content: bytes, size: int, bound: int = 1 << 20) -> Header:
    """Read a header from pieces of one size."""
    source = io.BytesIO(content)
    return read(lambda most: source.read(min(most, size)), bound)


def test_a_header_tells_its_values_tensors_and_size() -> None:
    """What comes behind the header is not looked at."""
    header = in_pieces(model(5000), 1 << 20)

    assert header.version == 3
    assert header.values["llama.context_length"] == 8192
    assert header.lengths == {"tokenizer.ggml.tokens": 1000}
    assert (header.tensors, header.weights, header.kinds) == (1, 7_000_000, {12: 7_000_000})
    assert header.size == len(model())


@given(st.integers(min_value=1, max_value=4000))
def test_pieces_of_any_size_give_the_same_header(size: int) -> None:
    """A server cuts where it likes."""
    assert in_pieces(model(100), size) == in_pieces(model(100), 1 << 20)


def test_strings_that_nobody_asks_for_are_passed_over() -> None:
    """Only names and chat templates are kept, so memory does not depend on the file."""
    header = in_pieces(gguf({"llama.secret": "x" * 1000, "general.name": "n"}), 100)

    assert header.values == {"general.name": "n"}


@pytest.mark.parametrize(
    ("content", "want"),
    [
        pytest.param(b"", "ends in the middle", id="nothing"),
        pytest.param(b"<htm", "does not begin with GGUF", id="a page"),
        pytest.param(gguf({}, version=1), "of version 1", id="version 1"),
        pytest.param(b"GGUF" + struct.pack(">I", 3) + bytes(16), "other byte order", id="big-endian"),
        pytest.param(b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "keys; at most", id="too many keys"),
        pytest.param(b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "tensors; at most", id="too many tensors"),
        pytest.param(b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 62), "bytes of a key; at most", id="endless key"),
        pytest.param(gguf({"a": "b"})[:-1], "ends in the middle", id="cut"),
        pytest.param(
            b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + 2 * (text("a") + struct.pack("<II", 4, 1)),
            "twice",
            id="a key twice",
        ),
        pytest.param(
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<II", 99, 1), "type 99", id="unknown type"
        ),
        pytest.param(
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9,
            "nested too deep",
            id="nested arrays",
        ),
        pytest.param(
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IB", 7, 5),
            "neither true",
            id="half true",
        ),
        pytest.param(
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"\xff" + struct.pack("<II", 4, 1), "not UTF-8", id="no text"
        ),
        pytest.param(gguf({}, {"w": (1, 1, 1, 1, 1)}), "5 dimensions", id="too many dimensions"),
        pytest.param(gguf({}, {"w": (1 << 40, 1 << 40)}), "larger than any", id="too many weights"),
    ],
)
def test_what_is_no_header_is_refused_in_words(content: bytes, want: str) -> None:
    """A model server would crash on some of these."""
    with pytest.raises(GgufError, match=want):
        in_pieces(content, 7)


def test_a_header_beyond_the_bound_is_refused_before_more_is_asked_for() -> None:
    """Whoever claims a gigabyte of header is given up on at the bound."""
    asked: list[int] = []

    def source(most: int) -> bytes:
        asked.append(most)
        return model()[sum(asked) - most : sum(asked)]

    with pytest.raises(GgufError, match="larger than 1000 bytes"):
        read(source, 1000)
    assert sum(asked) <= 1000


@given(st.binary(max_size=300), st.integers(min_value=1, max_value=50))
def test_random_bytes_give_a_header_or_its_own_error(content: bytes, size: int) -> None:
    """Nothing else is raised, and never more is asked for than the bound."""
    for start in (b"", b"GGUF\3\0\0\0", b"GGUF" + struct.pack("<IQQ", 3, 2, 3)):
        _try(start + content, size, bound=200)


@given(st.data())
def test_a_damaged_header_gives_a_header_or_its_own_error(data: st.DataObject) -> None:
    """Each byte of a real header, changed, cut or doubled, is a case of its own."""
    content = bytearray(gguf({"general.architecture": "llama", "b": True, "t": ["a", "b"], "n": 7}, {"w": (3, 4)}))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)))
    _try(bytes(content[:end] + content[data.draw(st.integers(0, end)) :]), data.draw(st.integers(1, 300)), bound=4096)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        pytest.param(
            "smollm2", ("llama", 8192, 134_515_008, "Q4_1", "Apache-2.0", {"chat", "completion"}), id="one that chats"
        ),
        pytest.param(
            "gemma3-270m", ("gemma3", 32768, 268_098_176, "Q4_K_M", "gemma", {"completion"}), id="a base model"
        ),
    ],
)
def test_real_models_say_what_they_are(name: str, want: tuple[object, ...]) -> None:
    """The models that our images hold, where they have been built here."""
    found = sorted(CACHE.glob(f"{name}-*/model.gguf"))
    if not found:
        pytest.skip(f"the model {name} has not been laid out here; `make image` does")
    with found[0].open("rb") as content:
        told = from_gguf(read(content.read))

    got = (told.family, told.context_window, told.parameters, told.quantization, told.license, told.capabilities)
    assert got == want


def _try(content: bytes, size: int, bound: int) -> None:
    """Feed a parser, and watch what it asks for."""
    source, parser, given_bytes = io.BytesIO(content), Parser(bound), 0
    try:
        while True:
            piece = source.read(min(size, parser.wanted))
            given_bytes += len(piece)
            if (header := parser.feed(piece)) is not None:
                assert header.size <= given_bytes
                break
    except GgufError:
        pass
    assert given_bytes <= bound
