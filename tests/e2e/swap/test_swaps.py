"""Swaps under continuous traffic: undone, aborted, superseded, promoted, and rolled back on what was measured.

The models run elsewhere, so that a test decides how they behave. Each story has a pool and clients of its own; all of
them begin together, because to compare two models takes minutes, however short the steps are. In none of them a request
fails, and none is cut. Equal models are never rolled back; `test_promotion.py` has one promoted on evidence.

The operator is killed right after each move of each swap, wherever it is written down first: once when it begins a
phase, a step or a weight, once when a pool's active model changes, once when routers are told other shares.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.serving.wishes import external, pool
from tests.e2e.swap.swaps import POLICY, Seen, active, checks, swap
from tests.e2e.swap.upstream import Upstream, upstream
from tests.traffic.driver import Load, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.serving.operators import HostOperator, Operators
    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

LOAD = Load(task="chat", clients=6, stream_tokens=16, plain_tokens=2, pause_s=0.1)

GOOD = ("first", "second", "third")
EQUAL = {
    "equal": LOAD,
    "equal-quick": replace(LOAD, clients=10, stream_tokens=4, pause_s=0.3),
    "equal-long": replace(LOAD, clients=4, stream_tokens=24, pause_s=0.0),
}
"""Pools whose new model is as good as the old one, and how they are asked."""

COMPARED = 90
"""Blocks in which both sides were compared, after which a model has been given its chance to be found worse."""

STORIES = {**dict.fromkeys(("failing", "slow", "spoiled", "commands", "gitops"), LOAD), **EQUAL}
"""The pools, each named after its story, and how they are asked."""

BUSY = "import time\nwhile True:\n if time.monotonic() % 8 > 3: time.sleep(1)"
"""Computes for three or four seconds of eight, and takes them from models and routers alike."""


@dataclass(frozen=True)
class Pools:
    """The pools, with those who ask them.

    Attributes:
        place: where they are.
        models: the servers that run their models.
        traffic: the clients of each.
        operator: the one that dies of every move, and is started anew.
        folder: where it notes moves and deaths.
    """

    place: Place
    models: Upstream
    traffic: dict[str, Traffic]
    operator: HostOperator
    folder: Path

    def seen(self, pool: str, name: str) -> Seen:
        """Give a ModelSwap of a pool."""
        assert pool in self.traffic
        return Seen(self.place, name)

    def unharmed(self, pool: str, what: str) -> None:
        """Say that no client of a pool has seen a failure since it began, near a mark or not."""
        self.traffic[pool].more(10)
        seen = self.traffic[pool].seen()
        assert not seen.failed, f"{what}: {seen}"
        assert seen.attempts


def wish(name: str, model: str = "first") -> dict[str, Any]:
    """Give a pool as it asks for a model."""
    asked = pool(name, model, swapPolicy="seconds", router={"replicas": 2})
    if name == "spoiled":
        asked["spec"]["tasks"][0]["checks"] = {"configMap": "capitals"}
    return asked


@pytest.fixture(scope="module")
def models() -> Iterator[Upstream]:
    """Run the models."""
    with upstream() as running:
        running.behave("failing", failing=10)
        running.behave("slow", first_s=0.12)
        yield running


@pytest.fixture(scope="module")
def busy() -> Iterator[None]:
    """Have somebody else on the machine."""
    process = subprocess.Popen((sys.executable, "-c", BUSY))  # noqa: S603  our own program
    yield
    process.kill()
    process.wait(10)


@pytest.fixture(scope="module")
def pools(
    place: Place,
    hosts: Operators,
    models: Upstream,
    busy: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pools]:
    """Have all pools served and asked, and ask for the swaps that are decided by what is measured."""
    assert busy is None
    folder = tmp_path_factory.mktemp("moves")
    operator = hosts.start(leading=False, program=("tests.e2e.serving.dying", "moves", str(folder)))
    place.apply(POLICY, *(external(name, f"{models.address}/{name}", name) for name in (*GOOD, "failing", "slow")))
    place.apply(checks("capitals", 100), *map(wish, STORIES))
    with ExitStack() as asking:
        traffic = {}
        for name, load in STORIES.items():
            place.ready(f"modelpool/{name}", 240)
            traffic[name] = asking.enter_context(Traffic(place.url(name), load))
        for each in traffic.values():
            each.more(10)
        place.apply(*(wish(name, "second") for name in EQUAL), wish("failing", "failing"), wish("slow", "slow"))
        yield Pools(place, models, traffic, operator, folder)


def test_a_failing_model_rolls_back_and_clients_are_served(pools: Pools) -> None:
    """A tenth of its requests get a 500 before the first byte: each is tried again elsewhere, and booked to it."""
    status = pools.seen("failing", "failing-chat-1").ended("RolledBack")
    assert status["reason"] == "RegressionProven"
    assert "errors" in status["message"]
    assert active(pools.place, "failing")["model"] == "first"
    assert pools.place.status("modelpool/failing")["rejected"][0]["model"] == "failing"
    pools.unharmed("failing", "rolled back on errors")


def test_a_slow_model_rolls_back(pools: Pools) -> None:
    """Three times as long to the first token is beyond the margin."""
    status = pools.seen("slow", "slow-chat-1").ended("RolledBack")
    assert status["reason"] == "RegressionProven"
    assert "first-token" in status["message"]
    pools.unharmed("slow", "rolled back on latency")


def test_a_model_that_is_spoiled_rolls_back_on_its_checks(pools: Pools) -> None:
    """It answers well until it has requests, and then nonsense with status 200: only the checks can tell."""
    pools.place.apply(swap("spoiled", "third", pool="spoiled"))
    spoiled = pools.seen("spoiled", "spoiled")
    spoiled.in_phase("Shifting")
    pools.models.behave("third", says="mostly harmless")
    status = spoiled.ended("RolledBack", 240)
    assert status["reason"] == "RegressionProven"
    assert "quality" in status["message"]
    assert any(each["old"] == 1 and each["new"] == 0 for each in status["checks"])
    pools.unharmed("spoiled", "rolled back on its checks")


def test_what_failed_is_not_tried_by_the_same_edit(pools: Pools) -> None:
    """GitOps may apply it for ever; the pool says why it does nothing."""
    place = pools.place
    standing = {each["metadata"]["name"] for each in place.listed("modelswaps")}
    place.apply(wish("slow", "slow"))
    place.until(lambda: place.status("modelpool/slow")["tasks"][0]["reason"] == "RejectedBefore", "it is said", 30)
    assert {each["metadata"]["name"] for each in place.listed("modelswaps")} == standing


def test_a_person_promotes_and_undoes(pools: Pools) -> None:
    """Promote skips the steps; what served before is hot, so going back proves and loads nothing."""
    place = pools.place
    place.apply(swap("now", "second", pool="commands"))
    now = pools.seen("commands", "now")
    now.in_phase("Shifting")
    now.intend("Promote")
    status = now.ended("Promoted", 60)
    assert [each["phase"] for each in status["history"]] == ["Preparing", "Shifting", "Ended"]
    previous = place.status("modelpool/commands")["tasks"][0]["previous"]
    assert previous["model"] == "first"

    place.apply(swap("undo", "first", pool="commands", revision=previous["revision"]))
    status = pools.seen("commands", "undo").ended("Promoted", 60)
    assert status["analysed"] is False
    assert active(place, "commands")["model"] == "first"
    pools.unharmed("commands", "promoted and undone")


def test_abort_gives_everything_back(pools: Pools) -> None:
    """Whatever else is asked for after that."""
    pools.place.apply(swap("regretted", "second", pool="commands"))
    regretted = pools.seen("commands", "regretted")
    regretted.in_phase("Shifting")
    regretted.intend("Abort")
    status = regretted.ended("Aborted", 60)
    assert [each["phase"] for each in status["history"]] == ["Preparing", "Shifting", "RollingBack", "Ended"]
    assert active(pools.place, "commands")["model"] == "first"
    pools.unharmed("commands", "aborted")


def test_a_newer_request_supersedes(pools: Pools) -> None:
    """The one in flight goes back first; the newer one waits for that and then begins."""
    pools.place.apply(swap("older", "second", pool="commands"))
    pools.seen("commands", "older").in_phase("Shifting")
    pools.place.apply(swap("younger", "slow", pool="commands"))
    status = pools.seen("commands", "older").ended("Superseded", 60)
    assert "younger" in status["message"]
    pools.seen("commands", "younger").in_phase("Shifting")
    pools.seen("commands", "younger").intend("Abort")
    pools.seen("commands", "younger").ended("Aborted", 60)
    pools.unharmed("commands", "superseded")


def test_gitops_that_applies_every_second_moves_nothing(pools: Pools) -> None:
    """The same manifests, forced, all through a swap and after it: one swap, as it was decided."""
    place, ended = pools.place, threading.Event()
    edited = wish("gitops", "second")
    problems: list[str] = []

    def reconcile() -> None:
        while not ended.wait(1.0):
            try:
                place.apply(edited)
            except AssertionError as error:
                problems.append(str(error))

    place.apply(edited)
    loop = threading.Thread(target=reconcile, name="gitops", daemon=True)
    loop.start()
    try:
        gitops = pools.seen("gitops", "gitops-chat-1")
        gitops.in_phase("Shifting")
        gitops.intend("Promote")
        gitops.ended("Promoted", 60)
        pools.traffic["gitops"].more(50)
    finally:
        ended.set()
        loop.join(30)
    assert not problems
    mine = [each["metadata"]["name"] for each in place.listed("modelswaps") if each["spec"]["pool"] == "gitops"]
    assert mine == ["gitops-chat-1"]
    assert active(place, "gitops")["model"] == "second"
    pools.unharmed("gitops", "applied every second")


@pytest.mark.parametrize("name", EQUAL)
def test_an_equal_model_is_not_rolled_back(pools: Pools, name: str) -> None:
    """However it was asked, whatever else the machine had to do, and however long that went on."""
    swap = pools.seen(name, f"{name}-chat-1")
    status = swap.until(lambda status: min(_blocks(status), default=0) >= COMPARED, "has been compared", 300)
    assert {each["name"] for each in status["metrics"]} == {"success", "errors", "first-token", "per-token"}
    assert all(each["verdict"] != "Worse" for each in status["metrics"]), status["metrics"]
    swap.intend("Promote")
    swap.ended("Promoted", 60)
    pools.unharmed(name, "promoted")


def test_the_operator_has_died_of_every_move(pools: Pools, count: Callable[..., None]) -> None:
    """None was left out, and no router has obeyed an older leader after a newer one."""
    assert pools.operator.end() == 0, pools.operator.log.read_text()
    moves = {line for line in (pools.folder / "writes").read_text().splitlines() if " moves " in line}
    assert set((pools.folder / "deaths").read_text().splitlines()) == moves
    begun = {line.partition(" moves ")[2].split()[0] for line in moves if "/modelswaps/" in line}
    assert begun >= {"Preparing", "Shifting", "RollingBack", "Ended"}
    for router in pools.place.listed("pods", "app.kubernetes.io/component=router"):
        assert pools.place.epochs(router["metadata"]["name"])
    count("completions served", sum(len(each.seen().attempts) for each in pools.traffic.values()))


def _blocks(status: dict[str, Any]) -> list[int]:
    """Give in how many blocks each metric was compared; of one that has ended enough, so that nobody waits for more."""
    if status.get("phase") == "Ended":
        return [COMPARED]
    return [each["blocks"] for each in status.get("metrics", [])]
