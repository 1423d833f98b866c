"""What is refused and what is taken: one request has one reading, however it is cut into packets."""

from __future__ import annotations

import re
import tracemalloc

import pytest

from arbiter.router.wire.intake import Intake
from arbiter.router.wire.limits import Limits
from arbiter.router.wire.request_head import RefusedError, Request
from tests.unit.router.wire.loopback import echo, on_both_loops, sent, serving
from tests.unit.router.wire.strict_requests import CHUNKED, GET, POST, REFUSED, TAKEN

LIMITS = Limits(body_bytes=1_000_000)


def read(pieces: list[bytes]) -> tuple[list[Request], int]:
    """The requests in these pieces, and the status of the refusal after them; 0 without one."""
    intake = Intake(LIMITS)
    found = []
    try:
        for piece in pieces:
            intake.feed(piece)
            while (request := intake.next()) is not None:
                found.append(request)
    except RefusedError as refused:
        return found, refused.status
    return found, 0


def cut(data: bytes, length: int) -> list[bytes]:
    """The same bytes in pieces of that length."""
    return [data[at : at + length] for at in range(0, len(data), length)]


@pytest.mark.parametrize(("data", "status"), REFUSED)
@pytest.mark.parametrize("length", [1, 7, 100_000])
def test_an_ambiguous_request_is_refused_in_whatever_pieces_it_comes(data: bytes, status: int, length: int) -> None:
    """A smuggled request hides in what two parsers read differently; packets must not decide which reading is ours."""
    if length == 1 and len(data) > 10_000:
        length = 3  # the same places are met, in bearable time

    assert read(cut(data, length)) == ([], status)


@pytest.mark.parametrize(("data", "body"), TAKEN)
@pytest.mark.parametrize("length", [1, 7, 100_000])
def test_a_plain_neighbour_is_taken_in_whatever_pieces_it_comes(data: bytes, body: bytes, length: int) -> None:
    """Strictness that refuses what real clients send would only be turned off."""
    times = 1 if b"HTTP/1.0" in data else 2  # of which nothing more is read

    found, status = read(cut(data * times, length))

    assert status == 0
    assert [request.body for request in found] == [body] * times


@pytest.mark.parametrize(("data", "status"), REFUSED)
@on_both_loops
async def test_a_refused_request_is_answered_and_its_connection_closed(data: bytes, status: int) -> None:
    """After bytes that are not understood, nothing on that connection can be trusted to begin where it seems to."""
    async with serving(echo, LIMITS) as server:
        answer = await sent(server.port, data + GET + b"\r\n")

    assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"%d" % status]
    assert b"connection: close\r\n" in answer


@pytest.mark.parametrize(("data", "body"), TAKEN)
@on_both_loops
async def test_a_plain_neighbour_is_answered(data: bytes, body: bytes) -> None:
    """What the reader takes must also pass through the server around it."""
    async with serving(echo, LIMITS) as server:
        answer = await sent(server.port, data + GET + b"connection: close\r\n\r\n")

    method = data.removeprefix(b"\r\n").partition(b" ")[0]
    assert re.findall(rb"HTTP/1.1 (\d+) ", answer)[-2:] != [b"400"]
    assert method + b" " + body in answer


def test_there_are_enough_rows() -> None:
    """The table is the promise; it may grow and not shrink."""
    assert len(REFUSED) >= 100
    assert len(TAKEN) >= 30


def test_fields_that_connection_names_go_no_further() -> None:
    """A client may name any field as meant for this connection only; what follows must not see it."""
    found, _ = read([GET + b"x-secret: 1\r\nconnection: close, X-Secret\r\nx-other: 2\r\n\r\n"])

    assert [name for name, _ in found[0].headers] == [b"host", b"x-other"]


def test_the_target_is_split_at_its_first_question_mark() -> None:
    """Paths are compared byte for byte with a list, so the query must not be part of them."""
    found, _ = read([b"GET /a%2Fb?c?d HTTP/1.1\r\nhost: a\r\n\r\n"])

    assert (found[0].path, found[0].query) == (b"/a%2Fb", b"c?d")
    assert found[0].header(b"host") == b"a"
    assert found[0].header(b"x") is None


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\nhost", GET + b"x: \0", GET + b"x: a\rb"])
def test_what_cannot_become_a_request_is_refused_before_its_end(data: bytes) -> None:
    """A client that speaks another protocol waits for us, and would wait until the time limit."""
    assert read([data]) == ([], 400)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        pytest.param(GET + b": a\r\n\r\n", b"GET / HTTP/1.1", id="head"),
        pytest.param(CHUNKED + b"g\r\n", b"POST /v1/x HTTP/1.1", id="chunk"),
        pytest.param(POST + b"content-length: 9999999\r\n\r\n", b"POST /v1/x HTTP/1.1", id="too-long"),
        pytest.param(b"nonsense\r\n\r\n", b"nonsense", id="nonsense"),
    ],
)
def test_a_refusal_knows_the_request_line(data: bytes, line: bytes) -> None:
    """The refusal is worded in the caller's own protocol, which its path tells."""
    intake = Intake(LIMITS)
    intake.feed(data)

    with pytest.raises(RefusedError) as refused:
        intake.next()

    assert refused.value.request_line == line


def test_a_body_of_many_small_chunks_takes_no_more_memory_than_its_bytes() -> None:
    """Framing is the client's choice; it must not multiply what a body costs us."""
    pieces = [CHUNKED, *[b"1\r\na\r\n" * 1000] * 200, b"0\r\n\r\n"]

    tracemalloc.start()
    found, status = read(pieces)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (len(found[0].body), status) == (200_000, 0)
    assert peak < 3 * 200_000
