"""Keys of model servers: who is shown one, who never is, and what becomes of requests without."""

from __future__ import annotations

import logging
import os
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arbiter.api.localmodel import EngineType
from arbiter.core.routes import Backend, Hold, Target
from arbiter.core.traffic import Side
from arbiter.errors import InvalidInputError
from arbiter.router.backend_keys import MAX_BYTES, BackendKeys
from arbiter.router.keys import KeyFile, line_of
from arbiter.router.metric_families import BACKEND_KEYS_MISSING, KEYS_REFUSED
from arbiter.router.metrics import Meter
from arbiter.router.refusal import Refusal
from tests.unit.router.keyed_engine import keyed_engine
from tests.unit.router.routing import CHAT, ask, request, running, table_of, task_of
from tests.unit.router.wire.loopback import on_both_loops

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from arbiter.core.routes import RouteTable
    from tests.unit.router.keyed_engine import Engine
    from tests.unit.router.routing import Running

KEY = "sk-test-0123456789"
SHOWN = ((b"authorization", b"Bearer sk-test-0123456789"),)


def table(*backends: Backend, fallback: tuple[Backend, ...] = ()) -> RouteTable:
    """All weight on the first."""
    sides = zip((Side.OLD, Side.NEW), backends, (100, 0), strict=False)
    targets = tuple(Target(side, backend, weight) for side, backend, weight in sides)
    return table_of(task_of(*targets, fallback=fallback, hold=Hold(10, 60.0)))


@asynccontextmanager
async def routed(folder: Path, instruction: RouteTable, keys: KeyFile | None = None) -> AsyncIterator[Running]:
    """A router with the keys of a folder."""
    async with running(instruction, keys=keys) as router:
        router.router.endpoints.keys = BackendKeys(folder)
        router.router.obey(instruction)
        yield router


def shown(engine: Engine) -> list[list[bytes]]:
    """Of each request that it read, whatever could hold a key."""
    return [
        [line for line in head.split(b"\r\n") if any(word in line for word in (b"auth", b"key", b"sk-", b"cookie"))]
        for head in engine.heads
    ]


AS_SHOWN = [b"authorization: bearer sk-test-0123456789"]


@on_both_loops
async def test_key_goes_to_the_backend_that_names_it_and_to_no_other(tmp_path: Path) -> None:
    """Not to the other side, not to a fallback, and not after the table has ceased to name it."""
    (tmp_path / "cloud").write_text(KEY + "\n")
    async with keyed_engine("a", KEY) as keyed, keyed_engine("b") as plain:
        first = table(keyed.backend("cloud"), plain.backend())
        async with routed(tmp_path, first) as router:
            assert (await ask(router.port, request())).headers["x-arbiter-model"] == "model-a"
            router.router.obey(replace(table(plain.backend(), keyed.backend("cloud")), generation=2))
            assert (await ask(router.port, request(stream=False))).headers["x-arbiter-model"] == "model-b"
            router.router.obey(replace(table(keyed.backend()), generation=3))
            assert (await ask(router.port, request())).status == 502
        assert shown(keyed) == [AS_SHOWN, []]
        assert shown(plain) == [[]]


@on_both_loops
async def test_what_a_client_shows_the_router_is_never_passed_on(tmp_path: Path) -> None:
    """Neither to a server that wants a key nor to one that wants none; the router's own takes its place."""
    (tmp_path / "cloud").write_text(KEY)
    clients = tmp_path / "clients"
    clients.write_text(line_of("team", "s" * 40, b"1" * 16))
    mine = [b"authorization: Bearer team." + b"s" * 40, b"x-api-key: sk-mine", b"api-key: sk-mine", b"cookie: key=1"]
    async with keyed_engine("a", KEY) as keyed, keyed_engine("b") as plain:
        for backend in (keyed.backend("cloud"), plain.backend()):
            async with routed(tmp_path, table(backend), KeyFile(clients)) as router:
                for path in (CHAT, b"/api/chat"):
                    assert (await ask(router.port, request(path, mine, stream=False))).status == 200
        assert shown(keyed) == [AS_SHOWN, AS_SHOWN]
        assert shown(plain) == [[], []]


@on_both_loops
async def test_model_without_its_key_is_not_asked_and_the_client_is_told_which(tmp_path: Path) -> None:
    """At once, although others may wait a minute for something to serve; and asked once the key is there."""
    (tmp_path / "cloud").unlink(missing_ok=True)
    async with keyed_engine("a", KEY) as keyed, routed(tmp_path, table(keyed.backend("cloud"))) as router:
        reply = await ask(router.port, request())
        assert (reply.status, reply.headers["retry-after"]) == (503, "10")
        assert reply.fields["error"] == {
            "message": "the model model-a cannot be asked now: this router has no key for its server",
            "type": "service_unavailable_error",
            "param": None,
            "code": "no_backend_key",
        }
        assert keyed.heads == []
        assert router.tally().routed == 0
        (tmp_path / "cloud").write_text(KEY)
        router.router.obey(table(keyed.backend("cloud")))
        assert (await ask(router.port, request())).status == 200


@on_both_loops
async def test_others_serve_in_place_of_a_model_without_its_key(tmp_path: Path) -> None:
    """Its side is passed over, and nothing is booked to it: that no key is there says nothing of the model."""
    async with keyed_engine("a", KEY) as keyed, keyed_engine("b") as plain:
        async with routed(tmp_path, table(keyed.backend("cloud"), fallback=(plain.backend(),))) as router:
            reply = await ask(router.port, request())
            assert (reply.status, reply.headers["x-arbiter-fallback"]) == (200, "true")
            assert (router.tally().routed, router.tally().failures) == (0, 0)
        assert (len(keyed.heads), len(plain.heads)) == (0, 1)


@on_both_loops
async def test_key_that_its_server_refuses_is_the_routers_failure_and_not_shown_to_clients(tmp_path: Path) -> None:
    """Servers repeat parts of a wrong key, and a client would look for the mistake in its own."""
    (tmp_path / "cloud").write_text("sk-test-expired")
    async with keyed_engine("a", KEY) as keyed, keyed_engine("b") as plain:
        for fallback, status in (((), 502), ((plain.backend(),), 200)):
            async with routed(tmp_path, table(keyed.backend("cloud"), fallback=fallback)) as router:
                reply = await ask(router.port, request())
                assert reply.status == status
                assert b"sk-" not in reply.body
                assert (router.tally().failures, router.tally().rejected) == (1, 0)
    assert b"its server wants another key than this router has" not in reply.body


class Held:
    """Keys of a folder, and the table that names one of them."""

    def __init__(self, folder: Path) -> None:
        """As after the table came."""
        self.backend = Backend("a", "model-a", EngineType.External, None, ("http://a.example",), "cloud")
        self.keys = BackendKeys(folder)
        self.meter = Meter()
        self.table = table(self.backend)
        self.keys.obey(self.table)

    def look(self) -> tuple[object, int, int]:
        """Look again: what is shown, whether the key counts as missing, and how many files were refused."""
        self.keys.refresh(self.table, self.meter)
        missing = self.meter.value(BACKEND_KEYS_MISSING, ("chat", "model-a"))
        try:
            return self.keys.added_to((), self.backend), missing, self.meter.value(KEYS_REFUSED)
        except Refusal:
            return None, missing, self.meter.value(KEYS_REFUSED)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"], ids=["nothing", "line-feed", "as-windows-has-it"])
def test_line_break_at_the_end_is_no_part_of_a_key(tmp_path: Path, end: bytes) -> None:
    """Most editors leave one, and `kubectl create secret --from-file` keeps it."""
    (tmp_path / "cloud").write_bytes(KEY.encode() + end)
    assert Held(tmp_path).look() == (SHOWN, 0, 0)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(b"", "it must be one word of visible ASCII characters", id="empty"),
        pytest.param(b"sk\r\nx-evil: 1", "without blanks and control characters", id="two-lines"),
        pytest.param(b"sk\x00", "without blanks and control characters", id="control-character"),
        pytest.param(b"sk-1 ", "without blanks and control characters", id="blank"),
        pytest.param("schlüssel".encode(), "of visible ASCII characters", id="not-ascii"),
        pytest.param(b"s" * (MAX_BYTES + 1), "it must not be longer than 4096 bytes", id="too-long"),
        pytest.param(None, "Is a directory", id="folder"),
    ],
)
def test_file_that_cannot_be_used_is_told_once_and_the_last_good_key_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes | None, problem: str
) -> None:
    """Each bad file is told by the key's name; what is in it is never told."""
    path = tmp_path / "cloud"

    def spoil() -> None:
        path.unlink(missing_ok=True)
        if data is None:
            path.mkdir()
        else:
            path.write_bytes(data)

    spoil()
    held = Held(tmp_path)
    assert [held.look(), held.look()] == [(None, 1, 1)] * 2
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1
    assert told[0].startswith("backend key cloud cannot be used: ")
    assert problem in told[0]
    assert told[0].endswith("models that need it get no requests")

    if data is None:
        path.rmdir()
    path.write_text(KEY)
    assert held.look() == (SHOWN, 0, 1)
    spoil()
    assert held.look() == (SHOWN, 0, 2)
    assert caplog.records[-1].getMessage().endswith("the last good one stays in use")
    assert "sk" not in caplog.text.replace("asked", "")


def test_key_that_is_replaced_or_taken_away_is_so_for_the_next_request(tmp_path: Path) -> None:
    """As kubelet does it: by a link to another folder."""

    def mounted(folder: str, **keys: str) -> None:
        (tmp_path / folder).mkdir()
        for name, key in keys.items():
            (tmp_path / folder / name).write_text(key)
        (tmp_path / "..data_tmp").symlink_to(folder)
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")  # noqa: PTH105  a link, not what it leads to

    mounted("..1", cloud="old")
    (tmp_path / "cloud").symlink_to("..data/cloud")
    held = Held(tmp_path)
    assert held.look() == (((b"authorization", b"Bearer old"),), 0, 0)
    mounted("..2", cloud="new")
    assert held.look() == (((b"authorization", b"Bearer new"),), 0, 0)
    mounted("..3")
    assert held.look() == (None, 1, 0)
    held.table = table(replace(held.backend, key=None))
    held.keys.obey(held.table)
    assert held.look() == (None, 0, 0)


def test_router_without_a_folder_has_no_keys(tmp_path: Path) -> None:
    """A folder that is misspelt is told at once, by the option's name."""
    with pytest.raises(InvalidInputError, match="must be a folder") as refused:
        BackendKeys(tmp_path / "missing")
    assert refused.value.field == "--backend-keys"
    keys = BackendKeys()
    backend = Backend("a", "model-a", EngineType.External, None, ("http://a.example",), "cloud")
    keys.obey(table(backend))
    with pytest.raises(Refusal):
        keys.added_to((), backend)
