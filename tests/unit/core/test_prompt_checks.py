"""Reading files of checks, asking them, and grading answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from arbiter.core.prompt_checks import Check, Grade, read_checks
from arbiter.engines.calls import Reply
from arbiter.errors import InvalidInputError
from tests.unit.core.check_examples import ASKED, answered, written

SAMPLE = Path(__file__).parents[3] / "manifests" / "samples" / "chat-checks.yaml"

GOOD = """\
version: 1
checks:
  - name: capital
    messages:
      - {role: system, content: Answer in one word.}
      - {role: user, content: "What is the capital of France?"}
    expect:
      contains: Paris
      maxLength: 80
    weight: 0.5
    maxTokens: 16
  - name: sum
    messages: [{role: user, content: "17 + 25 = ?"}]
    expect: {number: 42}
"""


def only(**check: object) -> Check:
    """The one check of a file with this one."""
    return read_checks(written(dict(check))).items[0]


def test_a_good_file_is_read_in_its_order() -> None:
    """Every field where it belongs, and defaults where it says nothing."""
    checks = read_checks(GOOD)
    assert checks.names == ("capital", "sum")
    first, second = checks.items
    assert first.messages == (("system", "Answer in one word."), ("user", "What is the capital of France?"))
    assert (first.weight, first.max_tokens) == (0.5, 16)
    assert (first.expect.contains, first.expect.most) == (("Paris",), 80)
    assert (second.weight, second.max_tokens, second.expect.number) == (1.0, 256, 42.0)
    assert checks.named("sum") is second
    with pytest.raises(KeyError):
        checks.named("none")


def test_the_hash_is_of_what_a_file_means() -> None:
    """Comments, order of fields, ways of writing and written defaults make no difference; all else does."""
    want = read_checks(GOOD).hash
    assert len(want) == 64
    rewritten = yaml.safe_dump(yaml.safe_load(GOOD), sort_keys=True)
    assert read_checks(f"# a comment\n{rewritten}").hash == want
    assert read_checks(GOOD + "    weight: 1\n    maxTokens: 256\n").hash == want
    loaded = yaml.safe_load(GOOD)
    for changed in (
        {**loaded, "checks": loaded["checks"][::-1]},
        {**loaded, "checks": loaded["checks"][:1]},
        yaml.safe_load(GOOD.replace("Paris", "paris")),
        yaml.safe_load(GOOD.replace("maxTokens: 16", "maxTokens: 17")),
        yaml.safe_load(GOOD.replace("weight: 0.5", "weight: 0.25")),
    ):
        assert read_checks(yaml.safe_dump(changed)).hash != want


def test_the_sample_for_users_is_read() -> None:
    """Twelve prompts, as the page about checks promises."""
    (manifest,) = yaml.safe_load_all(SAMPLE.read_text())
    assert len(read_checks(manifest["data"]["checks.yaml"]).items) == 12


@pytest.mark.parametrize(
    ("text", "where", "want"),
    [
        ("", "checks.yaml line 1", "is empty"),
        ("[]", "checks.yaml line 1", "must be a mapping with the fields version and checks, not a list"),
        ("version: 1\n", "checks.yaml line 1", "lacks checks"),
        ("version: 2\nchecks: []\n", "checks.yaml line 1, version", "must be 1, not the number 2"),
        ("version: true\nchecks: []\n", "checks.yaml line 1, version", "must be 1, not a truth value"),
        ("version: 1\nchecks: []\n", "checks.yaml line 2, checks", "must have from 1 to 500 checks, not 0"),
        ("version: 1\nchecks: 3\n", "checks.yaml line 2, checks", "must be a list of checks, not the number 3"),
        ("version: 1\nchecks: [{}]\n", "checks.yaml line 2, checks[0]", "lacks name, messages and expect"),
        (GOOD.replace("name: sum", "name: capital"), "checks.yaml line 12, checks[1]", "as the check on line 3"),
        (GOOD.replace("weight", "wieght"), "checks.yaml line 10, checks[0].wieght", "is not a field; there are name"),
        (
            GOOD.replace("maxTokens: 16", "maxTokens: 2000"),
            "checks.yaml line 11, checks[0].maxTokens",
            "from 1 to 1024",
        ),
    ],
)
def test_a_bad_file_is_refused_with_line_and_field(text: str, where: str, want: str) -> None:
    """A person finds the place at once."""
    with pytest.raises(InvalidInputError) as caught:
        read_checks(text)
    assert caught.value.field == where
    assert want in caught.value.problem


@pytest.mark.parametrize(
    ("check", "field", "want"),
    [
        ({"name": "a" * 64}, "name", "at most 63 letters"),
        ({"name": "-a"}, "name", "with a letter or digit at both ends"),
        ({"name": "a\nb"}, "name", "must be at most 63 letters"),
        ({"name": 3}, "name", "must be text, not the number 3; in quotes it would be text"),
        ({"messages": "Hi"}, "messages", "must be a list of messages, such as [{role: user"),
        ({"messages": []}, "messages", "must have from 1 to 32 messages, not 0"),
        ({"messages": ASKED * 33}, "messages", "not 33"),
        ({"messages": [{"role": "user"}]}, "messages[0]", "lacks content"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages[0].role",
            "must be one of system, user and assist",
        ),
        ({"messages": [{"role": "user", "content": " "}]}, "messages[0].content", "must not be empty"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0]", "must be of the role user"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content", "must be text, not a list"),
        ({"weight": 0}, "weight", "must be above 0 and at most 1, not 0"),
        ({"weight": 2}, "weight", "give 1 to what matters most"),
        ({"weight": "1"}, "weight", "must be a number, not the text '1'"),
        ({"maxTokens": 0}, "maxTokens", "must be a whole number from 1 to 1024, not 0"),
        ({"maxTokens": 1.5}, "maxTokens", "not 1.5"),
        ({"expect": {}}, "expect", "must have at least one of exact, contains"),
        ({"expect": {"caseSensitive": True}}, "expect.caseSensitive", "beside exact or contains or notContains"),
        ({"expect": {"tolerance": 1}}, "expect.tolerance", "only means something beside number"),
        ({"expect": {"number": 1, "tolerance": -1}}, "expect.tolerance", "must be at least 0, not -1"),
        ({"expect": {"number": "1"}}, "expect.number", "must be a number, not the text '1'"),
        ({"expect": {"number": 1, "numberFrom": "any"}}, "expect.numberFrom", "must be first or last, not the text"),
        ({"expect": {"exact": 42}}, "expect.exact", "must be text, not the number 42; in quotes"),
        ({"expect": {"exact": ""}}, "expect.exact", "must not be empty"),
        ({"expect": {"contains": []}}, "expect.contains", "must name at least one text"),
        ({"expect": {"contains": ["a", True]}}, "expect.contains[1]", "must be text, not a truth value"),
        ({"expect": {"contains": {"a": 1}}}, "expect.contains", "must be text, or a list of texts, not a mapping"),
        ({"expect": {"regex": "(a"}}, "expect.regex", "a ( is not closed"),
        ({"expect": {"regex": "(?=a)"}}, "expect.regex", "lookahead cannot be searched for in linear time"),
        ({"expect": {"jsonSchema": {"$ref": "x"}}}, "expect.jsonSchema.$ref", "is not a field"),
        ({"expect": {"minLength": 5, "maxLength": 4}}, "expect.maxLength", "must be a whole number from 5 to 8000"),
        ({"expect": {"refusal": "no"}}, "expect.refusal", "must be true or false, not the text 'no'"),
        ({"expect": {"similarTo": "a"}}, "expect.similarTo", "needs a threshold"),
        ({"expect": {"similarTo": "a", "threshold": 0}}, "expect.threshold", "must be above 0 and at most 1, not 0"),
        ({"expect": {"threshold": 0.5}}, "expect.threshold", "only means something beside similarTo"),
        ({"expect": {"isNice": True}}, "expect.isNice", "is not a field; there are exact, contains"),
    ],
)
def test_a_bad_check_is_refused_with_its_field(check: dict[str, Any], field: str, want: str) -> None:
    """Every field, and what would be right."""
    with pytest.raises(InvalidInputError) as caught:
        read_checks(written({}, check))
    assert caught.value.field.endswith(f", checks[1].{field}")
    assert want in caught.value.problem
    assert str(caught.value).isprintable()


def test_a_file_has_room_for_five_hundred_checks() -> None:
    """And for no more."""
    assert len(read_checks(written(*({} for _ in range(500)))).items) == 500
    with pytest.raises(InvalidInputError, match="must have from 1 to 500 checks, not 501"):
        read_checks(written(*({} for _ in range(501))))


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param("[" * 200_000, id="brackets"),
        pytest.param("{" * 200_000, id="braces"),
        pytest.param("? " * 100_000, id="questions"),
        pytest.param("- " * 100_000, id="dashes"),
        pytest.param("a: " * 66_000, id="colons"),
        pytest.param("&a " * 66_000, id="anchors"),
        pytest.param("!" * 200_000, id="tags"),
        pytest.param("'" * 199_999, id="quotes"),
        pytest.param("%" * 200_000, id="directives"),
        pytest.param("x" * 200_000, id="one word"),
        pytest.param("\n" * 200_000, id="lines"),
        pytest.param("[" + "[]," * 66_000 + "]", id="empty lists"),
        pytest.param("- a\n" * 50_000, id="a long list"),
        pytest.param("\n".join(f"k{i}: v" for i in range(18_000)), id="many fields"),
        pytest.param("version: 1\nchecks:\n" + "- {}\n" * 30_000, id="many empty checks"),
        pytest.param("".join(chr(33 + i * 7919 % 94) for i in range(200_000)), id="noise"),
        pytest.param("".join(chr(i * 7919 % 0xD7FF) for i in range(70_000)), id="noise of all scripts"),
        pytest.param("x" * 5_000_000, id="five megabytes"),
    ],
)
def test_garbage_is_refused_with_a_line(garbage: str) -> None:
    """However much it is; a reader that took its square would not come back."""
    with pytest.raises(InvalidInputError, match=r"^checks\.yaml line \d+") as caught:
        read_checks(garbage)
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


@given(st.text(max_size=200) | st.text("[]{}-:?&*!|>'\"%@#,\n \tab1.", max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing else than our own error comes out."""
    refused = ""
    try:
        read_checks(text)
    except InvalidInputError as error:
        refused = str(error)
    assert refused.startswith("checks.yaml line ")


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(data: st.DataObject) -> None:
    """A good file with a piece cut out, doubled or replaced."""
    begin = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(begin, min(len(GOOD), begin + 40)))
    damage = data.draw(
        st.sampled_from(["", GOOD[begin:end] * 2, "\n", "- ", "[", "yes", "3", "null", "*a", "{}", ": "])
    )
    refused = ""
    try:
        checks = read_checks(GOOD[:begin] + damage + GOOD[end:])
    except InvalidInputError as error:
        refused = str(error)
    else:
        assert checks.items
    assert not refused or refused.startswith("checks.yaml line ")


def test_both_sides_are_asked_the_same() -> None:
    """At temperature 0, with the seed given and the tokens of the check."""
    call = read_checks(GOOD).items[0].call("smollm2", 7)
    assert (call.method, call.path) == ("POST", "/v1/chat/completions")
    assert call.body == {
        "model": "smollm2",
        "messages": [
            {"role": "system", "content": "Answer in one word."},
            {"role": "user", "content": "What is the capital of France?"},
        ],
        "max_tokens": 16,
        "temperature": 0,
        "seed": 7,
        "stream": False,
    }


def test_grades_tell_why() -> None:
    """With the beginning of the answer, so that a person sees what is wrong with it."""
    check = only(name="capital", expect={"contains": "Paris"}, maxTokens=9)
    right = check.grade(answered("It is Paris."))
    assert right == Grade("capital", 1.0, "The answer is as expected.")
    assert right.passed
    wrong = check.grade(answered("London\nof course"))
    assert wrong == Grade(
        "capital", 0.0, "The answer is wrong: it does not contain “Paris”. It says 'London of course'."
    )
    assert not wrong.passed
    assert check.grade(answered("Lond", cut=True)).told == (
        "The answer is wrong: it does not contain “Paris” (it was cut after 9 tokens). It says 'Lond'."
    )
    assert check.grade(answered(None)).told == "The answer is wrong: it is empty."


@given(st.text(min_size=300, max_size=500))
def test_a_grade_quotes_little_of_an_answer(said: str) -> None:
    """It may hold anything, and is shown in objects and events."""
    told = only(expect={"exact": "no"}).grade(answered(said)).told
    assert len(told) < 260
    assert told.isprintable()


@pytest.mark.parametrize(
    ("reply", "want"),
    [
        pytest.param(
            answered("x", status=500), "No answer: POST /v1/chat/completions: the server answered 500", id="500"
        ),
        pytest.param(Reply("POST /x", 200, b"<html>"), "No answer: POST /x: the answer is not JSON", id="a page"),
        pytest.param(
            Reply("POST /x", 200, b"{}"), "No answer: POST /x: choices must be a list, not nothing.", id="none"
        ),
        pytest.param(Reply("POST /x", 200, b'{"choices":[]}'), "No answer: POST /x: the answer holds no", id="empty"),
        pytest.param(
            Reply("POST /x", 200, b'{"error":"oom"}'), "No answer: POST /x: the server answered 200: oom", id="error"
        ),
    ],
)
def test_what_is_no_answer_is_graded_so(reply: Reply, want: str) -> None:
    """A model that cannot answer has not passed."""
    grade = only().grade(reply)
    assert grade.score == 0.0
    assert grade.told.startswith(want)
