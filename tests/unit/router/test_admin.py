"""What the admin port answers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from arbiter.core.feed import Feed
from arbiter.core.stored import Stored
from arbiter.core.traffic import Side
from arbiter.errors import CorruptStateError
from arbiter.router.accounting import Ledger, Outcome
from arbiter.router.admin import PIECES, Acknowledgement, Admin, Obeyed, OwnBooks, Standing, in_pieces
from arbiter.router.metric_families import CONNECTIONS, TABLE_GENERATION, TABLE_REFUSALS
from arbiter.router.metrics import Meter
from tests.unit.router.router_examples import START_MS, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass
class Ask:
    """A request, as far as the admin port looks at it."""

    method: bytes
    path: bytes


@dataclass
class Told:
    """An exchange that keeps its answer."""

    request: Ask
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Keep it."""
        assert not self.status, "answered twice"
        self.status, self.headers, self.body = status, dict(headers), body


def own_books() -> OwnBooks:
    """A router of one process that has no table yet."""
    meter = Meter()
    ledger = Ledger("pod/1", meter, 100.0, START_MS)
    return OwnBooks(ledger, Standing(meter), lambda: 101.0, lambda: meter.set(CONNECTIONS, (), 7))


def with_table(books: OwnBooks, generation: int = 5) -> OwnBooks:
    """The same router once a table came."""
    books.ledger.obey(table(generation), 100.0)
    books.standing.obey(table(generation))
    return books


def ask(books: OwnBooks, path: bytes, method: bytes = b"GET") -> Told:
    """Ask the admin port."""
    exchange = Told(Ask(method, path))
    asyncio.run(Admin(books).handle(exchange))
    return exchange


def test_a_router_is_alive_at_once_and_ready_when_it_has_a_table() -> None:
    """Before, requests would find no task; while it drains, new ones belong elsewhere."""
    books = own_books()
    assert ask(books, b"/healthz").status == 200
    assert (ask(books, b"/readyz").status, ask(books, b"/readyz").body) == (503, b"not ready: it has no table yet\n")
    with_table(books)
    assert (ask(books, b"/readyz").status, ask(books, b"/readyz").body) == (200, b"ok\n")
    books.standing.draining = True
    assert ask(books, b"/readyz").status == 503
    assert ask(books, b"/healthz").status == 200


def test_a_refused_table_leaves_the_router_ready() -> None:
    """The last good one is in force."""
    books = with_table(own_books())
    books.standing.refuse("unreadable", "routes.tasks is missing")
    assert ask(books, b"/readyz").status == 200
    assert books.standing.meter.value(TABLE_REFUSALS, ("unreadable",)) == 1
    assert json.loads(ask(books, b"/internal/routes").body)["refused"] == "routes.tasks is missing"
    books.standing.refuse("", "routes.tasks is still missing")
    assert json.loads(ask(books, b"/internal/routes").body)["refused"] == "routes.tasks is still missing"
    assert books.standing.meter.value(TABLE_REFUSALS, ("unreadable",)) == 1
    books.standing.obey(table(6))
    assert json.loads(ask(books, b"/internal/routes").body)["refused"] == ""
    assert books.standing.meter.value(TABLE_GENERATION) == 6


def test_the_acknowledgement_names_the_table_by_hash_and_generation() -> None:
    """That is what the operator waits for before it raises a weight."""
    assert json.loads(ask(own_books(), b"/internal/routes").body) == {
        "version": 1,
        "router": "pod/1",
        "table": None,
        "fence": None,
        "workers": {"wanted": 1, "obeying": 0},
        "refused": "",
    }
    told = json.loads(ask(with_table(own_books()), b"/internal/routes").body)
    assert told["table"] == {"epoch": 1, "generation": 5, "hash": table(5).hash}
    assert told["workers"] == {"wanted": 1, "obeying": 1}


ONE, TWO = Obeyed(1, 1, "a"), Obeyed(1, 2, "b")
LATER = Obeyed(2, 1, "c")


@pytest.mark.parametrize(
    ("workers", "want", "want_obeying"),
    [
        pytest.param([TWO, TWO], TWO, 2, id="all"),
        pytest.param([TWO, ONE], None, 1, id="one is late"),
        pytest.param([TWO, LATER], None, 1, id="a later epoch counts more than a generation"),
        pytest.param([TWO, None], None, 1, id="one has told nothing"),
        pytest.param([None, None], None, 0, id="nobody has told anything"),
    ],
)
def test_a_table_is_acknowledged_when_all_workers_obey_it(
    workers: list[Obeyed | None], want: Obeyed | None, want_obeying: int
) -> None:
    """A step begins when the last worker splits by the new weights."""
    standings = [Standing(Meter(), each) if each else None for each in workers]
    told = Acknowledgement.of("pod/1", standings)
    assert (told.obeyed, told.workers, told.obeying) == (want, 2, want_obeying)


def test_the_fence_is_the_newest_table_of_any_worker() -> None:
    """A leader must rise above it, and while workers differ there is no table that all of them obey."""
    standings = [Standing(Meter(), each) for each in (TWO, LATER, ONE)]
    told = json.loads(Acknowledgement.of("pod/1", [*standings, None]).to_text())
    assert told["table"] is None
    assert told["fence"] == {"epoch": 2, "generation": 1}
    standings[2].refuse("stale", "routes.epoch is 1, and a leader of epoch 2 has written since")
    told = json.loads(Acknowledgement.of("pod/1", standings).to_text())
    assert told["refused"] == "routes.epoch is 1, and a leader of epoch 2 has written since"
    assert told["fence"] == {"epoch": 2, "generation": 1}


def test_the_feed_is_what_the_operator_reads() -> None:
    """The strict reader of the other side is the judge."""
    books = with_table(own_books())
    books.ledger.route("chat", Side.NEW, 100.5).finish(Outcome.OK, 100.7, 0)
    told = ask(books, b"/internal/slices")
    assert told.headers[b"content-type"] == b"application/json"
    assert Feed.from_text(told.body.decode()) == books.ledger.feed(101.0)


def test_metrics_are_refreshed_for_each_scrape() -> None:
    """Gauges that nobody counts are read when they are asked for."""
    told = ask(with_table(own_books()), b"/metrics")
    assert told.headers[b"content-type"].startswith(b"text/plain; version=0.0.4")
    assert b"arbiter_router_connections 7\n" in told.body
    assert b"arbiter_router_table_generation 5\n" in told.body


@pytest.mark.parametrize(
    ("method", "path", "want"),
    [
        (b"GET", b"/", 404),
        (b"GET", b"/metrics/", 404),
        (b"POST", b"/v1/chat/completions", 404),
        (b"POST", b"/metrics", 405),
        (b"DELETE", b"/internal/slices", 405),
        (b"HEAD", b"/healthz", 200),
    ],
)
def test_other_requests_are_refused(method: bytes, path: bytes, want: int) -> None:
    """The port can be read and changes nothing."""
    told = ask(own_books(), path, method)
    assert told.status == want
    assert (b"allow" in told.headers) == (want == 405)


def test_a_long_answer_leaves_the_loop_its_turns() -> None:
    """A scrape must not hold up streams for as long as it takes to write."""

    async def story() -> None:
        turns = []

        def pieces() -> Iterator[str]:
            for i in range(5 * PIECES):
                turns.append(i)
                yield "x"

        making = asyncio.create_task(in_pieces(pieces()))
        seen = []
        while not making.done():
            await asyncio.sleep(0)
            seen.append(len(turns))
        assert [b - a for a, b in pairwise(seen) if b > a] == [PIECES] * 4
        assert await making == b"x" * 5 * PIECES

    asyncio.run(story())


@pytest.mark.parametrize("obeyed", [None, ONE])
def test_a_standing_reads_back_exactly(obeyed: Obeyed | None) -> None:
    """Parent and worker speak of the same."""
    meter = Meter()
    standing = Standing(meter, obeyed, "routes.x is missing", draining=True)
    assert Standing.read(Stored(standing.to_fields(), "standing"), meter) == standing
    with pytest.raises(CorruptStateError, match=r"standing\.refused is missing"):
        Standing.read(Stored({"table": []}, "standing"), meter)
