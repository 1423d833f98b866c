"""Reading YAML that people wrote, with lines."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from arbiter.core import strict_yaml
from arbiter.core.strict_yaml import read_yaml
from arbiter.errors import InvalidInputError

LOADERS = ["CSafeLoader", "SafeLoader"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe\uffff"), max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc_", min_size=1), inner, max_size=4),
    max_leaves=20,
)


@pytest.fixture(params=LOADERS)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both parsers: PyYAML may have been built without libyaml."""
    name: str = request.param
    monkeypatch.setattr(strict_yaml, "_LOADER", getattr(yaml, name))
    return name


@given(JSON)
def test_every_json_is_read_as_what_it_is(value: object) -> None:
    """YAML is a superset of JSON, and nothing of it changes its meaning here."""
    assert read_yaml(json.dumps(value, ensure_ascii=False), "f", 10**6).plain() == value


@given(JSON.filter(lambda value: isinstance(value, dict | list)))
def test_what_a_writer_of_yaml_writes_is_read(value: object) -> None:
    """Block style, folded lines and quotes."""
    # PyYAML writes 1e+20 without a point, which YAML 1.1 itself reads as text.
    text = yaml.safe_dump(value, allow_unicode=True)
    if yaml.safe_load(text) == value and "e+" not in text and ".0e" not in text:
        assert read_yaml(text, "f", 10**6).plain() == value


BAD = [
    pytest.param("", "line 1", "is empty", id="nothing"),
    pytest.param("# only\n", "line 1", "is empty", id="a comment only"),
    pytest.param("a: 1\nb: [1, 2\n", "line 3", "is not YAML", id="an open bracket"),
    pytest.param("a: 1\n\tb: 2\n", "line 2", "is not YAML", id="a tab"),
    pytest.param("a: 1\nb: 2\na: 3\n", "line 3, a", "stands twice, first on line 1", id="a doubled key"),
    pytest.param("x:\n  - &n 1\n", "line 2, x[0]", "must not have an anchor (&n)", id="an anchor"),
    pytest.param("x:\n  - *n\n", "line 2, x[0]", "must not repeat another value by *n", id="an alias"),
    pytest.param("a: 1\nb: !!str 1\n", "line 2, b", "must not have a tag", id="a tag"),
    pytest.param("a: !!python/object/apply:os.system ['x']\n", "line 1, a", "must not have a tag", id="an attack"),
    pytest.param("a: 1\n---\nb: 2\n", "line 2", "must be one document", id="two documents"),
    pytest.param("a: yes\n", "line 1, a", "'yes' may mean a truth value, a number or a date", id="yes"),
    pytest.param("a: 1:30\n", "line 1, a", "may mean", id="a time to the base of sixty"),
    pytest.param("a: 0x10\n", "line 1, a", "may mean", id="hexadecimal"),
    pytest.param("a: 2026-11-21\n", "line 1, a", "may mean", id="a date"),
    pytest.param("a: .inf\n", "line 1, a", "may mean", id="endless"),
    pytest.param("a: 1e999\n", "line 1, a", "too large", id="too large a number"),
    pytest.param(f"a: {'9' * 41}\n", "line 1, a", "more than 40 characters", id="too long a number"),
    pytest.param("1: 2\n", "line 1", "must be the name of a field, not the number 1", id="a number for a name"),
    pytest.param("? [a]\n: 1\n", "line 1", "must be the name of a field, not a list", id="a list for a name"),
    pytest.param("<<: {a: 1}\n", "line 1", "may mean", id="a merge"),
    pytest.param("a: 1\nb: \x00\n", "line 2", r"the character '\x00' is not allowed", id="a zero"),
    pytest.param("a: \ud800\n", "line 1", "is not allowed", id="half a letter"),
    pytest.param("[" * 100_000, "line 1", "is nested more than 24 deep", id="brackets without end"),
    pytest.param("{a: " * 50_000, "line 1", "is nested more than 24 deep", id="mappings without end"),
    pytest.param("- " * 100_000, "line 1", "is nested more than 24 deep", id="lists without end"),
    pytest.param("x" * 200_001, "line 1", "has 200001 bytes; it may have 200000", id="too large"),
    pytest.param("é" * 100_001, "line 1", "has 200002 bytes", id="bytes, not characters"),
]


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(("text", "where", "want"), BAD)
def test_what_is_not_plain_is_refused_with_its_line(text: str, where: str, want: str) -> None:
    """The sentence says what would be right; no text makes either parser work without end."""
    with pytest.raises(InvalidInputError) as caught:
        read_yaml(text, "checks.yaml", 200_000)
    assert caught.value.field == f"checks.yaml {where}" or caught.value.field.startswith(f"checks.yaml {where}, ")
    assert want in caught.value.problem
    assert len(str(caught.value)) < 400


def test_values_know_their_lines() -> None:
    """An error about a field points to its name."""
    node = read_yaml("a:\n  - b: 1\n    c:\n      text\n", "f", 1000)
    assert isinstance(node.value, dict)
    (inner,) = node.value["a"].items("a list")
    assert isinstance(inner.value, dict)
    assert (inner.place.line, inner.place.path) == (2, "a[0]")
    assert (inner.value["c"].place.line, inner.value["c"].place.path) == (3, "a[0].c")


def test_a_laughing_bomb_is_refused_at_its_first_anchor() -> None:
    """Nine lines that would be a thousand million values."""
    levels = [f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]" for i in range(9)]
    with pytest.raises(InvalidInputError, match=r"line 1, a: must not have an anchor"):
        read_yaml("\n".join(["a: &a [x]", *levels]), "f", 10_000)
