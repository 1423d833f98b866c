"""Server-sent events, wherever the network cuts them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.router.sse import EVENT_LIMIT, Cutter, OverlongEventError, events, payload

streams = st.lists(st.sampled_from([b"data: a", b"data:b", b": ping", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"x"])).map(
    b"".join
)


@given(streams, st.data())
def test_joined_what_comes_out_is_what_went_in(stream: bytes, data: st.DataObject) -> None:
    """A proxy that loses or doubles a byte breaks every client."""
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    edges = [0, *places, len(stream)]
    cutter = Cutter()
    whole = [cutter.whole(stream[a:b]) for a, b in pairwise(edges)]
    assert b"".join(whole) + cutter.rest() == stream
    for each in whole:
        assert not each or each.endswith((b"\n\n", b"\n\r\n"))
        assert b"".join(events(each)) == each


@pytest.mark.parametrize("line", [b"\n", b"\r\n"], ids=["LF", "CR-LF"])
def test_beginning_of_an_event_is_given_as_it_stands(line: bytes) -> None:
    """A stream may break off in it, and what had come is for the client."""
    whole, begun = b"data: 1" + line + line, b"data: 2" + line
    assert list(events(whole + begun)) == [whole, begun]


@pytest.mark.parametrize(
    ("event", "want"),
    [
        (b"data: {}\n\n", b"{}"),
        (b"data:{}\r\n\r\n", b"{}"),
        (b"event: a\ndata: 1\ndata: 2\nid: 3\n\n", b"1\n2"),
        (b": ping\n\n", b""),
        (b"data\n\n", b""),
        (b"\n\n", b""),
    ],
)
def test_the_payload_is_what_the_data_lines_say(event: bytes, want: bytes) -> None:
    """Comments and other fields are no data."""
    assert payload(event) == want


def test_an_event_that_does_not_end_is_not_kept_for_ever() -> None:
    """Or one broken engine would fill the router's memory."""
    cutter = Cutter()
    assert cutter.whole(b"x" * EVENT_LIMIT) == b""
    with pytest.raises(OverlongEventError):
        cutter.whole(b"x")
