"""Calls of tools that come in fragments, put together for clients that want them whole."""

from __future__ import annotations

import pytest

from arbiter.router.tool_calls import ToolCalls


def fragment(index: object, **function: object) -> dict[str, object]:
    """One fragment of a call."""
    return {"index": index, "function": function}


def test_fragments_of_several_calls_are_put_together_by_their_index() -> None:
    """The name comes once, the arguments in pieces, and the calls may be interleaved."""
    calls = ToolCalls()
    assert calls.add([fragment(1, name="b", arguments='{"y"'), fragment(0, name="a", arguments='{"x": 1')])
    assert calls.add([fragment(0, arguments="}"), fragment(1, arguments=": 2}")])

    assert calls.made() == [
        {"function": {"name": "a", "arguments": {"x": 1}}},
        {"function": {"name": "b", "arguments": {"y": 2}}},
    ]


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        pytest.param(" \n", {}, id="blank"),
        pytest.param(None, {}, id="missing"),
        pytest.param("{x}", {"_raw": "{x}"}, id="no-JSON"),
        pytest.param("[1]", {"_raw": "[1]"}, id="no-object"),
    ],
)
def test_arguments_that_are_no_object_are_shown_as_they_are(arguments: object, want: dict[str, object]) -> None:
    """And a tool without arguments has none."""
    calls = ToolCalls()
    calls.add([fragment(0, name="a", arguments=arguments)])

    assert calls.made() == [{"function": {"name": "a", "arguments": want}}]


@pytest.mark.parametrize(
    ("fragments", "anything"),
    [
        pytest.param(None, False, id="none"),
        pytest.param({"index": 0}, False, id="no-list"),
        pytest.param(["text", 1], False, id="no-objects"),
        pytest.param([fragment(-1, name="a")], True, id="index-below-0"),
        pytest.param([fragment("0", name="a")], True, id="index-is-a-text"),
        pytest.param([fragment(10**9, name="a")], True, id="index-too-large"),
        pytest.param([{"index": 0, "function": "a"}], True, id="function-is-a-text"),
    ],
)
def test_what_is_no_fragment_makes_no_call(fragments: object, *, anything: bool) -> None:
    """An engine that errs must not make the router fail, nor fill its memory."""
    calls = ToolCalls()

    assert calls.add(fragments) == anything
    assert calls.made() == []
