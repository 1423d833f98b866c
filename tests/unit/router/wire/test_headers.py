"""What a head may say: nothing of ours decides where a message ends, and nothing of theirs goes a hop too far."""

from __future__ import annotations

import pytest

from arbiter.router.wire.headers import HOP_BY_HOP, answer_head, end_to_end, request_head


def test_a_status_without_a_name_is_written_all_the_same() -> None:
    """Engines invent statuses; the number is what counts."""
    assert answer_head(599, [], b"").startswith(b"HTTP/1.1 599 \r\n")


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_no_field_of_one_connection_is_written(name: bytes) -> None:
    """Each of them would say something about a connection that is not this one."""
    fields = [(name, b"x"), (b"accept", b"y")]

    assert answer_head(200, fields, b"") == b"HTTP/1.1 200 OK\r\naccept: y\r\n\r\n"
    assert request_head(b"GET", b"/", b"a", fields, 0) == b"GET / HTTP/1.1\r\nhost: a\r\naccept: y\r\n\r\n"
    assert end_to_end(fields) == [(b"accept", b"y")]


def test_fields_that_connection_names_are_kept_back_wherever_it_stands() -> None:
    """The name may come before or after the field, in any case, in more than one Connection field."""
    fields = [(b"a", b"1"), (b"connection", b"A , close"), (b"b", b"2"), (b"connection", b"B"), (b"c", b"3")]

    assert end_to_end(fields) == [(b"c", b"3")]


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb"])
def test_a_line_break_in_a_field_is_never_written(value: bytes) -> None:
    """What follows it would be a field, or an answer, of somebody else's making."""
    with pytest.raises(ValueError, match="line break"):
        answer_head(200, [(b"x", value)], b"")
    with pytest.raises(ValueError, match="line break"):
        request_head(b"GET", b"/", b"a", [(b"x", value)], 0)


@pytest.mark.parametrize(("method", "length", "told"), [(b"GET", 0, False), (b"POST", 0, True), (b"GET", 1, True)])
def test_a_request_tells_its_length_where_one_is_expected(method: bytes, length: int, told: bool) -> None:
    """A POST without one is refused by some servers, and a GET with a needless one by others."""
    assert (b"content-length: " in request_head(method, b"/", b"a", [], length)) == told
