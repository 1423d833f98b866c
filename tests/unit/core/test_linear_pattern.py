"""Searching for regular expressions without backtracking."""

from __future__ import annotations

import re
import warnings

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from arbiter.core.linear_pattern import LONGEST, Pattern, PatternError

LETTERS = "ab1 _\nB."
ATOMS = st.sampled_from([
    "a", "b", "1", " ", ".", r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", "[ab]", "[^a1]", "[a-b1]", r"[\d_]", r"[^\w]",
    r"\.", r"\n", r"\x61", r"\u0062", "[-a]", "[a-]", r"[\]a]", r"[.\-]",
])  # fmt: skip
ANCHORS = st.sampled_from(["^", r"\Z", r"\b", r"\B", r"\A"])
COUNTS = st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,2}", "{1,}", "*?", "+?", "??", "{,2}"])
PATTERNS = st.recursive(
    ATOMS | ANCHORS,
    lambda inner: (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})")
        | st.tuples(inner, COUNTS).map(lambda two: f"({two[0]}){two[1]}")
        | inner.map(lambda one: f"({one}|)")
    ),
    max_leaves=8,
)


@given(PATTERNS, st.text(LETTERS, max_size=12), st.sampled_from(["", "(?i)", "(?s)", "(?is)"]))
def test_an_expression_finds_what_re_finds(pattern: str, text: str, flags: str) -> None:
    """Whoever knows regular expressions need learn nothing new."""
    # Until Python 3.14, \\B was not found in the empty text.
    assume(text or r"\B" not in pattern)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        want = re.compile(flags + pattern)
    try:
        ours = Pattern(flags + pattern)
    except PatternError as error:
        assume("too long" not in str(error))
        raise
    assert ours.found_in(text) == (want.search(text) is not None)


@pytest.mark.parametrize(
    ("pattern", "text", "want"),
    [
        pytest.param("^Paris$", "Paris", True, id="anchors are those of the whole text"),
        pytest.param("^b", "a\nb", False, id="and not of its lines"),
        pytest.param("a$", "a\n", False, id="nor of what stands before a last line end"),
        pytest.param("(?i)PARIS", "paris", True, id="capitals by flag"),
        pytest.param("(?i)É", "é", True, id="of any script"),
        pytest.param("(?i)[a-z]", "K", True, id="in ranges"),
        pytest.param("(?i)[^a]", "A", False, id="and in what is left out"),
        pytest.param("PARIS", "paris", False, id="capitals count otherwise"),
        pytest.param(r"\w+", "ß", True, id="letters of any script are words"),
        pytest.param(r"\d", "٣", True, id="digits too"),
        pytest.param("", "", True, id="the empty expression is in everything"),
        pytest.param("a|", "", True, id="an empty branch too"),
        pytest.param(r"[\b]", "\b", True, id="in a class it is a control character"),
    ],
)
def test_an_expression_means_what_is_promised(pattern: str, text: str, *, want: bool) -> None:
    """The cases that people trip over."""
    assert Pattern(pattern).found_in(text) is want


@pytest.mark.parametrize(
    ("pattern", "want"),
    [
        ("(a", "not closed"),
        ("a)", "closes nothing"),
        ("[a", "ends in the middle"),
        ("[]", "is empty"),
        ("[b-a]", "the range b-a is empty"),
        (r"[a-\d]", r"cannot end with \d"),
        ("*a", "nothing for * to repeat"),
        ("{", "nothing for { to repeat"),
        ("a{", "begins a count"),
        ("a{x}", "begins a count"),
        ("a{3,2}", "cannot be"),
        ("a**", "one repetition follows another"),
        ("a*+", "one repetition follows another"),
        ("^*", "an anchor is not repeated"),
        (r"\1", "a backreference"),
        ("(?=a)", "lookahead"),
        ("(?!a)", "lookahead"),
        ("(?<=a)", "lookbehind"),
        ("(?P<n>a)", "a named group"),
        ("(?>a)", "an atomic group"),
        ("(?(1)a)", "a condition"),
        ("a(?i)b", "a flag inside"),
        ("(?im)b", "only the flags"),
        ("(?i", "only the flags"),
        ("(?", "ends in the middle"),
        ("\\", "ends in the middle"),
        (r"\q", r"\q is not understood"),
        (r"\xg1", "hexadecimal"),
        (r"\u12", "hexadecimal"),
        ("(" * 30 + ")" * 30, "nested more than 20 deep"),
        ("(((a{100}){100}){100}){100}", "too long once its counts are written out"),
        ("a{9999}", "too long once its counts are written out"),
        ("a|" * 200, "too long"),
        ("a" * (LONGEST + 1), "has 501 characters; it may have 500"),
    ],
)
def test_what_is_not_understood_is_refused_in_words(pattern: str, want: str) -> None:
    """Nobody should find out from wrong grades."""
    with pytest.raises(PatternError) as caught:
        Pattern(pattern)
    assert want in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "text", "want"),
    [
        pytest.param("(a+)+b", "a" * 8000, False, id="nested repetition"),
        pytest.param("(a|a)*b", "a" * 8000, False, id="equal branches"),
        pytest.param("(.*)(.*)(.*)(.*)(.*)=", "x" * 8000, False, id="many of anything"),
        pytest.param("(a?){80}a{80}", "a" * 8000, True, id="many that may be left out"),
        pytest.param(r"(\w*\s?)*!", "a " * 4000, False, id="words"),
    ],
)
def test_no_expression_takes_long(pattern: str, text: str, *, want: bool) -> None:
    """A backtracking search of these ends after the universe does, and this test would with it."""
    assert Pattern(pattern).found_in(text) is want


@given(st.text("ab(|)*+?{}[]^$.\\-,12diswuxPZ=!<>:", max_size=30))
def test_any_text_is_an_expression_or_is_refused(pattern: str) -> None:
    """Nothing else than our own error comes out, and what is accepted can be searched for."""
    refused = ""
    try:
        Pattern(pattern).found_in("ab 12")
    except PatternError as error:
        refused = str(error)
    assert not refused or refused.startswith("near character ")
