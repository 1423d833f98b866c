"""What routers, shared engines and downloads answer, read whole or not at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.controller.answers import (
    EngineAnswer,
    Fence,
    FetchAnswer,
    RouterAnswer,
    read_fetch,
    read_ollama,
    read_router,
    sides_of,
)
from arbiter.core.routes import RouteTable
from arbiter.core.snapshot import LoadedModel
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = {"epoch": 3, "generation": 17, "hash": "9c0ffee123456789"}


def routes(**fields: Any) -> bytes:  # noqa: ANN401  any field of an answer
    """What a router answers at /internal/routes."""
    fence = {"epoch": 3, "generation": 17}
    workers = {"wanted": 2, "obeying": 2}
    told = {"version": 1, "router": "uid/1", "table": HERE, "fence": fence, "workers": workers, "refused": ""}
    return json.dumps({**told, **fields}).encode()


def feed(*slices: tuple[int, str, str, int, int]) -> bytes:
    """What it answers at /internal/slices: generation, task, side, requests routed and ended."""
    told = [
        {
            "generation": generation,
            "task": task,
            "startMs": 0,
            "lengthMs": 15000,
            "sides": {side: {"routed": routed, "ok": ended, "failed": {}, "rejected": 0, "left": 0}},
        }
        for generation, task, side, routed, ended in slices
    ]
    return json.dumps({"version": 1, "epoch": "uid/1", "readMs": 1, "slices": told}).encode()


def test_a_router_tells_its_table_and_what_it_serves_by_revision() -> None:
    """By the table under which each request was routed; of one that is not known, without a revision."""
    sides = {17: {("chat", "old"): "0a", ("code", "old"): "0b"}, 16: {("chat", "old"): "0c"}}
    slices = feed(
        (17, "chat", "old", 9, 7), (17, "code", "old", 4, 4), (16, "chat", "old", 3, 2), (5, "chat", "old", 2, 1)
    )
    answer = read_router(routes(), slices, sides)
    assert (answer.epoch, answer.generation, answer.hash) == (3, 17, "9c0ffee123456789")
    assert answer.fence == Fence(3, 17)
    assert answer.in_flight == (("", 1), ("0a", 2), ("0c", 1))


def test_a_router_without_a_table_has_nothing_yet() -> None:
    """Nor has one whose workers differ; then the fence says how far the furthest is."""
    assert read_router(routes(table=None, fence=None), feed(), {}) == RouterAnswer()
    assert read_router(routes(table=None, refused="stale"), feed(), {}).fence == Fence(3, 17)


def test_numbers_of_requests_mean_nothing_new_until_there_are_none() -> None:
    """Else each answer of a busy router would be a pass."""
    sides = {17: {("chat", "old"): "0a"}}
    busy = read_router(routes(), feed((17, "chat", "old", 9, 7)), sides)
    busier = read_router(routes(), feed((17, "chat", "old", 99, 7)), sides)
    idle = read_router(routes(), feed((17, "chat", "old", 99, 99)), sides)
    assert busy.meaning == busier.meaning
    assert busy.meaning != idle.meaning


def test_an_ollama_server_tells_what_it_holds() -> None:
    """In the order of names, so that the same is the same; null is none."""
    running = {
        "models": [{"name": "b", "digest": "d2", "size": 7, "size_vram": 0}, {"name": "a", "digest": "d1", "size": 5}]
    }
    tags = {"models": [{"name": "b", "digest": "d2"}, {"name": "a", "digest": "d1"}]}
    answer = read_ollama(json.dumps(running).encode(), json.dumps(tags).encode())
    want_loaded = (LoadedModel("a", "d1", 5), LoadedModel("b", "d2", 7))
    assert answer == EngineAnswer(want_loaded, (("a", "d1"), ("b", "d2")))
    assert read_ollama(b'{"models": null}', b'{"models": []}') == EngineAnswer((), ())


@pytest.mark.parametrize(
    ("told", "want"),
    [
        pytest.param({"bytes": 5, "total": 10}, FetchAnswer(5, 10), id="on its way"),
        pytest.param({"bytes": 0, "total": None}, FetchAnswer(0, None), id="not known how much"),
        pytest.param({"bytes": -1, "total": True}, FetchAnswer(None, None), id="nonsense is not known"),
    ],
)
def test_a_download_tells_how_far_it_is(told: dict[str, object], want: FetchAnswer) -> None:
    """Bytes that are there, and in all."""
    assert read_fetch(json.dumps({"state": "downloading", **told}).encode()) == want


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda: read_router(b"<html>", feed(), {}), id="no JSON"),
        pytest.param(lambda: read_router(b"[]", feed(), {}), id="a list"),
        pytest.param(lambda: read_router(routes(table=7), feed(), {}), id="a table that is none"),
        pytest.param(lambda: read_router(routes(), b'{"slices": [{"generation": 1}]}', {}), id="a slice that is none"),
        pytest.param(lambda: read_ollama(b"{}", b"{}"), id="an engine of another kind"),
        pytest.param(lambda: read_ollama(b'{"models": [{}]}', b'{"models": []}'), id="a model without a name"),
        pytest.param(lambda: read_fetch(b"{}"), id="another server on the port"),
    ],
)
def test_what_does_not_read_is_refused(read: Callable[[], object]) -> None:
    """Half an answer is none."""
    with pytest.raises(CorruptStateError):
        read()


def test_the_sides_of_a_table_are_its_targets() -> None:
    """By task and side."""
    target = {
        "side": "old",
        "weight": 100,
        "revision": "0a0a0a0a0a",
        "model": "m",
        "engine": "LlamaCpp",
        "service": "s",
    }
    task = {
        "targets": [target],
        "fallback": [],
        "hold": {"requests": 1, "ms": 1, "hopeless": ""},
        "swap": "",
        "capabilities": [],
        "contextWindow": None,
        "pins": {},
    }
    limits = {"bodyBytes": 1, "headerMs": 1, "bodyMs": 1, "firstByteMs": 1, "idleMs": 1, "totalMs": 1}
    table = {
        "version": 1,
        "epoch": 1,
        "generation": 1,
        "sliceMs": 1,
        "tasks": {"chat": task},
        "limits": limits,
        "auth": None,
    }
    assert sides_of(RouteTable.from_text(json.dumps(table))) == {("chat", "old"): "0a0a0a0a0a"}
