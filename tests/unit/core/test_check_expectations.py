"""What an answer is worth, by what was expected of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.core.check_expectations import (
    LONGEST_ANSWER,
    REFUSALS,
    Expectations,
    folded,
    is_refusal,
    numbers_in,
    similarity,
    without_thoughts,
)
from tests.unit.core.check_examples import expecting

PERSON = {
    "type": "object",
    "required": ["name", "age"],
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
}


@pytest.mark.parametrize(
    ("expect", "answer", "want"),
    [
        pytest.param({"exact": "Paris"}, " paris\n", "", id="exact: capitals and white space at the ends"),
        pytest.param({"exact": "New  York"}, "new\nyork", "", id="exact: runs of white space"),
        pytest.param({"exact": "it's"}, "It’s", "", id="exact: curly quotes"),
        pytest.param({"exact": "café"}, "cafe\u0301", "", id="exact: letter forms"),
        pytest.param({"exact": "straße"}, "STRASSE", "", id="exact: capitals of any script"),
        pytest.param({"exact": "Paris"}, "Paris.", "it is not exactly “Paris”", id="exact: a full stop more"),
        pytest.param({"exact": "Paris", "caseSensitive": True}, "paris", "it is not exactly “Paris”", id="cased"),
        pytest.param({"contains": "paris"}, "It is Paris.", "", id="contains"),
        pytest.param({"contains": ["red", "blue"]}, "Blue and red", "", id="contains all of a list"),
        pytest.param({"contains": ["red", "blue"]}, "red", "it does not contain “blue”", id="contains not all"),
        pytest.param({"notContains": ["um", "er"]}, "Umbrella", "it contains “um”", id="notContains"),
        pytest.param({"notContains": "x"}, "fine", "", id="notContains kept"),
        pytest.param({"regex": "^[A-Z]{3}$"}, " ABC ", "", id="regex: the ends are those of the answer"),
        pytest.param({"regex": "^[A-Z]{3}$"}, "abc", "it does not match “^[A-Z]{3}$”", id="regex: capitals count"),
        pytest.param({"number": 42}, "6 times 7 is 42.", "", id="number: the last"),
        pytest.param({"number": 42}, "42 is 6 times 7", "its last number is 7, not 42", id="number: not the first"),
        pytest.param({"number": 42, "numberFrom": "first"}, "42 is 6 times 7", "", id="number: the first if told so"),
        pytest.param({"number": 3.14, "tolerance": 0.01}, "About 3.15", "", id="number: at the edge of the tolerance"),
        pytest.param(
            {"number": 3.14, "tolerance": 0.01},
            "3.1501",
            "its last number is 3.1501, not 3.14 within 0.01",
            id="beyond",
        ),
        pytest.param({"number": 0.3}, "0.30000000000000004", "", id="number: as people would write it"),
        pytest.param({"number": 1e6}, "1,000,000", "", id="number: commas between thousands"),
        pytest.param({"number": 5}, "none", "it holds no number, and 5 was expected", id="number: none"),
        pytest.param({"jsonSchema": PERSON}, '{"name": "Ada", "age": 36}', "", id="json"),
        pytest.param({"jsonSchema": PERSON}, '```json\n{"name": "Ada", "age": 36}\n```', "", id="json in a fence"),
        pytest.param(
            {"jsonSchema": PERSON},
            '{"name": "Ada", "age": "36"}',
            "its JSON does not fit the schema: age must be integer",
            id="json of another shape",
        ),
        pytest.param({"jsonSchema": PERSON}, 'Sure: {"name": "Ada", "age": 36}', "it is not JSON", id="json in words"),
        pytest.param({"jsonSchema": {"type": "number"}}, "NaN", "it is not JSON", id="json knows no NaN"),
        pytest.param({"jsonSchema": {}}, "[" * 7000, "it is not JSON", id="json without end"),
        pytest.param({"jsonSchema": {}}, "9" * 7000, "it is not JSON", id="json with a number without end"),
        pytest.param({"minLength": 5}, " four ", "it has 4 characters, of at least 5", id="too short"),
        pytest.param({"maxLength": 3}, "four", "it has 4 characters, of at most 3", id="too long"),
        pytest.param({"minLength": 4, "maxLength": 4}, "four", "", id="of the right length"),
        pytest.param({"refusal": True}, "I’m sorry, but I can’t help with that.", "", id="a refusal"),
        pytest.param({"refusal": True}, "Sure! First, take", "it is no refusal", id="no refusal"),
        pytest.param({"refusal": False}, "As an AI, I will not.", "it is a refusal", id="a refusal that must not be"),
        pytest.param({"refusal": False}, "Of course.", "", id="no refusal as it must be"),
        pytest.param({"notContains": "x"}, " \n", "it is empty", id="nothing is no answer"),
        pytest.param({"refusal": False}, "", "it is empty", id="whatever is expected"),
        pytest.param({"contains": "a"}, "a" * (LONGEST_ANSWER + 1), "it is longer than 8000 characters", id="endless"),
        pytest.param({"contains": "4", "maxLength": 3}, "2+2=4", "it has 5 characters, of at most 3", id="all count"),
        pytest.param({"exact": "Paris"}, "<think>London? No.</think>\n\nParis", "", id="thoughts are no part of it"),
        pytest.param({"exact": "Paris"}, "<think>Paris", "it is empty", id="who only thinks says nothing"),
    ],
)
def test_an_answer_is_right_or_wrong(expect: dict[str, object], answer: str, want: str) -> None:
    """Right is 1 and nothing to say, wrong is 0 and why."""
    assert expecting(**expect).score(answer) == (0.0 if want else 1.0, want)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("-5, +3 and 2.50", (-5.0, 3.0, 2.5)),
        ("1,234.5 or 12,345,678", (1234.5, 12345678.0)),
        ("GPT-4 of v2 and 3rd", (4.0, 3.0)),
        ("10-12", (10.0, 12.0)),
        ("1,2,3", (1.0, 2.0, 3.0)),
        ("−7 °C", (-7.0,)),  # noqa: RUF001  models write the minus sign
        ("$42.", (42.0,)),
        (".5 and 1e3", (0.5, 1000.0)),
        ("9" * 500, ()),
        ("none", ()),
    ],
)
def test_numbers_are_found_as_english_writes_them(text: str, want: tuple[float, ...]) -> None:
    """Commas between thousands, a point before decimals; no parts of words."""
    assert numbers_in(text) == want


@pytest.mark.parametrize("words", REFUSALS)
def test_a_refusal_is_known_by_how_it_begins(words: str) -> None:
    """However it is written, and not by what stands further in."""
    assert is_refusal(words.upper().replace("'", "’") + " do that.")
    assert is_refusal(f"Hmm. {words} do that.")
    assert not is_refusal("x" * 120 + words)


def test_thoughts_are_left_out() -> None:
    """Only in front, because an answer may be about them."""
    assert without_thoughts(" <think>\nhm\n</think> yes ") == "yes"
    assert without_thoughts("a <think>b</think>") == "a <think>b</think>"


def test_similarity_is_chrf() -> None:
    """Worked by hand: of `abcd` and `abxd`, pieces of 1 to 4 letters share 3 of 4, 1 of 3, 0 of 2 and 0 of 1."""
    both = (3 / 4 + 1 / 3) / 4
    assert similarity("abcd", "abxd") == pytest.approx(both)
    # `ab` in `abc`: precision 1 and 1, recall 2/3 and 1/2.
    precision, recall = 1.0, (2 / 3 + 1 / 2) / 2
    assert similarity("a b", "abc") == pytest.approx(5 * precision * recall / (4 * precision + recall))
    assert similarity("abc", "xyz") == 0.0
    assert similarity("", "abc") == 0.0


def test_a_similar_answer_gets_its_share_of_the_threshold() -> None:
    """From the threshold on it is right; below, the nearer the more."""
    expect = Expectations(similar="The capital of France is Paris.", threshold=0.6)
    assert expect.score("the capital of  France is PARIS!") == (1.0, "")
    score, why = expect.score("The capital is Lyon.")
    close = similarity(folded("The capital is Lyon."), folded("The capital of France is Paris."))
    assert score == pytest.approx(close / 0.6, abs=1e-4)
    assert 0.0 < score < 1.0
    assert why == f"its similarity is {close:.2f}, of at least 0.6"
    assert expect.score("12345")[0] == 0.0


def test_the_least_of_all_expectations_is_the_score() -> None:
    """The right words in the wrong place are of no use."""
    wrong = Expectations(similar="Paris", threshold=0.9, contains=("London",))
    assert wrong.score("Paris") == (0.0, "it does not contain “London”")


TEXT = st.text(max_size=60)


@given(TEXT, TEXT)
def test_similarity_keeps_its_bounds(one: str, other: str) -> None:
    """From 0 to 1, and 1 for what is the same but for white space."""
    assert 0.0 <= similarity(one, other) <= 1.0
    if one.split():
        assert similarity(one, f" {one}\n") == pytest.approx(1.0)


@given(TEXT, st.booleans())
def test_folding_twice_changes_nothing(text: str, cased: bool) -> None:
    """Else what was expected might not equal itself."""
    once = folded(text, cased=cased)
    assert folded(once, cased=cased) == once


@given(st.text(max_size=300), st.floats(0.01, 1.0))
def test_whatever_is_said_has_a_score(said: str, threshold: float) -> None:
    """A model may say anything."""
    every = Expectations(
        contains=("a",), lacks=("b",), number=3.0, least=1, most=200, refusal=False, similar="a 3", threshold=threshold
    )
    score, why = every.score(said)
    assert 0.0 <= score <= 1.0
    assert (score == 1.0) is (why == "")
