"""The fuzz run itself: it is quiet about what is right, and finds what is planted."""

from __future__ import annotations

import random  # noqa: TID251  seeded
import re

import pytest

from arbiter.router.wire import chunked
from arbiter.router.wire.answer import AnswerReader
from arbiter.router.wire.intake import Judge
from tests.fuzz import answers, requests
from tests.fuzz.mutation import smallest


def findings(module: object, number: int) -> list[bytes]:
    """What so many inputs of one seed find."""
    assert module in {requests, answers}
    target = requests if module is requests else answers
    source = random.Random(5)  # noqa: S311  not for secrets
    return [data for data in (target.make(source) for _ in range(number)) if target.fault(data)]


@pytest.mark.parametrize("module", [requests, answers], ids=["requests", "answers"])
def test_a_short_run_finds_nothing(module: object) -> None:
    """The long run is a command of its own; this one notices at once what breaks often."""
    assert findings(module, 400) == []


@pytest.mark.sources
def test_the_run_catches_a_lax_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that cannot find a planted fault says nothing by finding none."""
    monkeypatch.setattr(chunked, "SIZE_LINE", re.compile(rb" ?([0-9A-Fa-f]{1,8})(?:;[^\r\n]*)?"))
    monkeypatch.setattr(Judge, "take", lambda *_, **__: True)
    data = b"POST / HTTP/1.1\r\nhost: a\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n 1\r\na\r\n0\r\n\r\n"

    assert "h11 stops" in requests.fault(data)
    small = smallest(data, lambda each: bool(requests.fault(each)))
    assert b"x: y" not in small
    assert small.startswith(b"POST / HTTP/1.1\r\n")


def test_the_second_reader_alone_refuses_a_lax_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Llhttp stands behind our own reader for the day on which that one has a hole."""
    monkeypatch.setattr(chunked, "SIZE_LINE", re.compile(rb" ?([0-9A-Fa-f]{1,8})(?:;[^\r\n]*)?"))
    data = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n 1\r\na\r\n0\r\n\r\n"

    assert requests.ours([data])[:2] == ([], 400)


@pytest.mark.sources
def test_the_run_catches_half_an_answer_that_is_told_as_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst that a pool can do."""
    monkeypatch.setattr(AnswerReader, "ends_with_connection", lambda _: True)

    assert findings(answers, 400)
