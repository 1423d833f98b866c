"""The RouteTable: what it may say, and which side a request goes to."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.core.routes import Auth, RouteTable, pick_side, session_place
from arbiter.core.traffic import Side
from arbiter.errors import CorruptStateError
from tests.unit.core.route_examples import table, task

if TYPE_CHECKING:
    from collections.abc import Callable

BOTH = frozenset(Side)
SESSIONS = [f"session-{i}".encode() for i in range(4000)]


def fields() -> dict[str, Any]:
    """A good table as parsed JSON, without its hash: as a person would write it."""
    loaded: dict[str, Any] = json.loads(table().to_text())
    del loaded["hash"]
    return loaded


@pytest.mark.parametrize("auth", [None, Auth("keys")])
def test_a_table_reads_back_as_it_was(auth: Auth | None) -> None:
    """Operator and router are two programs; the text is all that they share."""
    before = replace(table(task(10, 90), task(None, 100, "embed")), auth=auth)
    after = RouteTable.from_text(before.to_text())
    assert after == before
    assert after.hash == before.hash


def test_the_name_of_a_key_reads_back_and_a_table_without_one_is_as_it_always_was() -> None:
    """Routers and tables of different ages meet: only who names a key needs a router that knows of keys."""
    plain = table()
    assert '"key"' not in plain.to_text()
    fallback = replace(plain.tasks["chat"].fallback[0], key="cloud.example")
    keyed = replace(plain, tasks={"chat": replace(plain.tasks["chat"], fallback=(fallback,))})
    assert RouteTable.from_text(keyed.to_text()) == keyed
    assert keyed.hash != plain.hash


def test_the_hash_is_of_the_content_alone() -> None:
    """Another leader may write the same instruction again; routers then have nothing new to acknowledge."""
    before = table()
    assert replace(before, epoch=9, generation=18).hash == before.hash
    assert replace(before, slice_ms=1000).hash != before.hash
    assert table(task(11, 89)).hash != before.hash


def test_the_order_of_tasks_and_sides_in_the_text_means_nothing() -> None:
    """A file may be written in any order; the new side stands first once it is read."""
    written = fields()
    written["tasks"]["chat"]["targets"].reverse()
    read = RouteTable.from_text(json.dumps(written))
    assert read == table()
    assert [target.side for target in read.tasks["chat"].targets] == [Side.NEW, Side.OLD]


def chat(written: dict[str, Any]) -> dict[str, Any]:
    """The one task of `fields`."""
    found: dict[str, Any] = written["tasks"]["chat"]
    return found


WRONG: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("other version", lambda t: t.update(version=2), "routes.version is 2"),
    ("negative epoch", lambda t: t.update(epoch=-1), "routes.epoch"),
    ("no slice", lambda t: t.update(sliceMs=0), "routes.sliceMs"),
    ("no tasks", lambda t: t.update(tasks={}), "routes.tasks must name"),
    ("task's name", lambda t: t["tasks"].update({"Chat!": chat(t)}), "routes.tasks.Chat!"),
    ("unknown field", lambda t: t.update(colour="red"), "unknown fields: colour"),
    ("unknown task field", lambda t: chat(t).update(colour="red"), "routes.tasks.chat has unknown fields"),
    ("wrong hash", lambda t: t.update(hash="0" * 16), "routes.hash is 0000"),
    ("weights below 100", lambda t: chat(t)["targets"][0].update(weight=9), "add up to 100, not 99"),
    ("weight above 100", lambda t: chat(t)["targets"][0].update(weight=101), "targets[0].weight must be at most 100"),
    ("negative weight", lambda t: chat(t)["targets"][0].update(weight=-10), "targets[0].weight"),
    ("weight is a bool", lambda t: chat(t)["targets"][0].update(weight=True), "targets[0].weight"),
    ("a side twice", lambda t: chat(t)["targets"][0].update(side="old"), "must name each side once"),
    ("unknown side", lambda t: chat(t)["targets"][0].update(side="left"), "targets[0].side must be"),
    ("unknown engine", lambda t: chat(t)["targets"][0].update(engine="Magic"), "targets[0].engine must be one of"),
    ("service and endpoints", lambda t: chat(t)["targets"][0].update(endpoints=["http://a"]), "exactly one of service"),
    ("neither", lambda t: chat(t)["targets"][0].pop("service"), "exactly one of service"),
    ("blank in a model", lambda t: chat(t)["targets"][0].update(model="a b"), "targets[0].model"),
    ("line in a revision", lambda t: chat(t)["targets"][0].update(revision="a\r\nb: c"), "targets[0].revision"),
    ("key with a service", lambda t: chat(t)["targets"][0].update(key="cloud"), "targets[0].key goes with endpoints"),
    ("key is a path", lambda t: chat(t)["fallback"][0].update(key="../token"), "fallback[0].key must be a name"),
    ("key is hidden", lambda t: chat(t)["fallback"][0].update(key=".cloud"), "fallback[0].key must be a name"),
    ("key of nothing", lambda t: chat(t)["fallback"][0].update(key=None), "fallback[0].key must be text"),
    ("no endpoints", lambda t: chat(t)["fallback"][0].update(endpoints=[]), "fallback[0].endpoints must name at least"),
    ("hold", lambda t: chat(t)["hold"].update(requests=-1), "chat.hold.requests"),
    ("hopeless with a line", lambda t: chat(t)["hold"].update(hopeless="a\nb"), "chat.hold.hopeless"),
    ("swap", lambda t: chat(t).update(swap="No Name"), "chat.swap"),
    ("capability twice", lambda t: chat(t).update(capabilities=["chat", "chat"]), "chat.capabilities"),
    ("window of nothing", lambda t: chat(t).update(contextWindow=0), "chat.contextWindow"),
    ("unknown pin", lambda t: chat(t).update(pins={"num_ctx": 4096}), "pins.num_ctx: no engine of this task takes it"),
    ("pin of a list", lambda t: chat(t).update(pins={"cache_prompt": []}), "pins.cache_prompt must be"),
    ("no body", lambda t: t["limits"].update(bodyBytes=0), "routes.limits.bodyBytes"),
    ("auth", lambda t: t.update(auth={"keysSecret": ""}), "routes.auth.keysSecret"),
]


@pytest.mark.parametrize(("spoil", "told"), [pytest.param(*row[1:], id=row[0]) for row in WRONG])
def test_a_table_that_cannot_mean_anything_is_refused_by_name(spoil: Callable[[Any], object], told: str) -> None:
    """A router that guessed would send requests where nobody meant them to go."""
    written = fields()
    RouteTable.from_text(json.dumps(written))
    spoil(written)
    with pytest.raises(CorruptStateError) as refused:
        RouteTable.from_text(json.dumps(written))
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("http://10.0.0.1:8080", True),
        ("https://mac-studio.example", True),
        ("http://llama_1:8080/base/path", True),
        ("http://[fd00::1]:8080", True),
        ("http://a:65536", False),
        ("http://a:0", False),
        ("http://a/", False),
        ("http://user:pw@a", False),
        ("http://a?x=1", False),
        ("http://a#x", False),
        ("ftp://a", False),
        ("http://", False),
        ("http://a b", False),
        ("http://a\r\nx: y", False),
        ("HTTP://a", False),
        ("http://a/..//b", False),
    ],
)
def test_an_address_has_a_host_and_nothing_that_could_say_something_else(url: str, *, good: bool) -> None:
    """What stands behind the host goes into request lines."""
    written = fields()
    chat(written)["fallback"][0]["endpoints"] = [url]
    if good:
        assert RouteTable.from_text(json.dumps(written)).tasks["chat"].fallback[0].endpoints == (url,)
        return
    with pytest.raises(CorruptStateError, match=r"fallback\[0\]\.endpoints\[0\]"):
        RouteTable.from_text(json.dumps(written))


weights = st.integers(0, 100)


@given(weights, weights)
def test_raising_the_weight_moves_exactly_the_share_between_and_none_back(one: int, other: int) -> None:
    """A session that changed sides with every step would see two models talk."""
    low, high = sorted((one, other))
    before = {key for key in SESSIONS[:500] if _side(low, key) is Side.NEW}
    after = {key for key in SESSIONS[:500] if _side(high, key) is Side.NEW}
    assert before <= after
    between = {key for key in SESSIONS[:500] if low <= 100 * session_place("chat", key) < high}
    assert after - before == between


def _side(new: int, session: bytes) -> Side:
    target = pick_side(task(new, 100 - new), session, 0.999, BOTH)
    assert target is not None
    return target.side


@pytest.mark.parametrize("new", [0, 1, 10, 50, 98, 100])
def test_sessions_divide_as_the_weights_say(new: int) -> None:
    """The analysis believes that the shares are those of the table; five sigma of 4000 draws."""
    share = sum(_side(new, key) is Side.NEW for key in SESSIONS) / len(SESSIONS)
    sigma = (new / 100 * (1 - new / 100) / len(SESSIONS)) ** 0.5
    assert abs(share - new / 100) <= 5 * sigma


def test_a_session_stands_elsewhere_for_every_task() -> None:
    """Or the same few people would be the first to meet every new model."""
    first = {key for key in SESSIONS if session_place("chat", key) < 0.1}
    second = {key for key in SESSIONS if session_place("code", key) < 0.1}
    assert len(first & second) < len(first) / 4


def test_a_session_stands_where_it_always_stood() -> None:
    """The place is part of the contract between routers of different versions."""
    assert session_place("chat", b"alice") == pytest.approx(PLACE_OF_ALICE, abs=1e-12)


PLACE_OF_ALICE = 0.4484338041826259


@given(st.floats(0, 1, exclude_max=True), weights)
def test_without_a_session_the_draw_decides(draw: float, new: int) -> None:
    """Whoever tests the router draws for itself."""
    target = pick_side(task(new, 100 - new), b"", draw, BOTH)
    assert target is not None
    assert target.side is (Side.NEW if 100 * draw < new else Side.OLD)


@pytest.mark.parametrize(
    ("new", "old", "usable", "want"),
    [
        pytest.param(10, 90, {Side.OLD}, {Side.OLD}, id="new side is not ready"),
        pytest.param(10, 90, {Side.NEW}, {Side.NEW}, id="old side is gone"),
        pytest.param(10, 90, set(), {None}, id="neither"),
        pytest.param(0, 100, {Side.NEW}, {None}, id="weight 0 never serves"),
        pytest.param(100, 0, {Side.OLD}, {None}, id="nor does the old side at 0"),
        pytest.param(None, 100, BOTH, {Side.OLD}, id="one side alone"),
        pytest.param(None, None, BOTH, {None}, id="no side"),
    ],
)
def test_a_side_that_cannot_serve_is_passed_over(
    new: int | None, old: int | None, usable: set[Side], want: set[Side | None]
) -> None:
    """Requests go where something answers, but never to a side that the table keeps out."""
    found: Counter[Side | None] = Counter()
    for key in SESSIONS[:200]:
        target = pick_side(task(new, old), key, 0.5, usable)
        found[target.side if target else None] += 1
    assert set(found) == want
