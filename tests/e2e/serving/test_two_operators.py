"""Two operators of one installation: one leads, the other one takes over, and who has lost the lead writes no more.

The tests tell one story about one pool, in this order: the leader is killed, the next one is told to end, the third is
stopped for so long that it is replaced, and runs again. The pool's router takes part: it must never obey a table of a
leader that was replaced. What is seen is the Lease, the operators' own metrics, and what is written.
"""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.kubeapi import lease
from arbiter.kubeapi.lease import Record
from devcluster.waiting import wait_until
from tests.e2e.serving.elsewhere import elsewhere
from tests.e2e.serving.place import OURS
from tests.e2e.serving.wishes import external, pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.serving.operators import HostOperator, Operators
    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

POOL = "modelpool/assistant"
SOON_S = 15.0
"""Seconds within which another one must lead when the leader is gone."""

REST_S = 1.0
"""Seconds without a write after which a leader whose pool is served has nothing more to write."""

WRITES = "arbiter_api_writes_total"
WRITTEN = {"Applied", "Created", "Removed", "EpochRaised"}
"""The reasons that an operator logs what it has written with."""


@dataclass
class Story:
    """A pool, its router, and the operators of it.

    Attributes:
        place: where they are.
        hosts: starts operators.
        running: those that run; the first one leads.
    """

    place: Place
    hosts: Operators
    running: list[HostOperator] = field(default_factory=list)

    def second(self, program: tuple[str, ...] = ("arbiter.cli.main",)) -> tuple[HostOperator, HostOperator]:
        """Start another operator, until it is ready to take over; give the leader, and it."""
        self.running.append(waiting := self.hosts.start(leading=False, program=program))
        self.place.until(lambda: waiting.ready, "the other operator has seen everything")
        assert [each.leads for each in self.running] == [True, False]
        assert self.lease().holder.startswith(f"{self.running[0].name}_")
        return self.running[0], waiting

    def follows(self, leader: HostOperator, successor: HostOperator, seconds: float) -> HostOperator:
        """Tell the leader to end, and wait until the other one leads; give that."""
        before = self.lease()
        self.running.remove(leader)
        assert leader.end() == 0
        self.takes_over(successor, before, seconds)
        return successor

    def takes_over(self, successor: HostOperator, before: Record, seconds: float) -> None:
        """Wait until the other one leads, by the Lease and by its own word."""
        self.place.until(lambda: successor.leads, "the other operator leads", seconds)
        found = self.lease()
        assert found.holder.startswith(f"{successor.name}_")
        assert found.transitions == before.transitions + 1

    def lease(self) -> Record:
        """Give what the Lease says."""
        return Record.of(self.place.get(f"lease/{lease.NAME}"))

    def epoch(self) -> int:
        """Give the epoch of the table that stands."""
        text = self.place.get("configmap/assistant-routes")["data"]["routes.json"]
        epoch: int = json.loads(text)["epoch"]
        return epoch

    def obeyed(self) -> list[int]:
        """Give the epochs of all tables that the router has obeyed, in order; it must not have refused any."""
        log = self.place.kubectl("logs", "--selector=app.kubernetes.io/component=router", "--tail=-1")
        assert "table refused" not in log
        return [int(epoch) for epoch in re.findall(r"table in force: epoch (\d+)", log)]

    def rises(self, above: int) -> int:
        """Wait until the router obeys a table of a later epoch; give it. It has never gone back."""
        self.place.until(lambda: self.obeyed()[-1] > above, f"the router obeys a table above epoch {above}")
        epochs = self.obeyed()
        assert epochs == sorted(epochs)
        return epochs[-1]

    def served(self, *tasks: str) -> None:
        """Wait until the pool serves these tasks, as it was last wished."""

        def serves() -> bool:
            found = self.place.get(POOL)
            status: dict[str, Any] = found.get("status", {})
            told = [(each["name"], each["reason"]) for each in status.get("tasks", [])]
            return status.get("observedGeneration") == found["metadata"]["generation"] and told == [
                (task, "Serving") for task in tasks
            ]

        self.place.until(serves, f"the pool serves {', '.join(tasks)}")

    def rests(self, leader: HostOperator) -> None:
        """Wait until the leader has nothing more to write: for a second, it writes nothing."""

        def rested() -> bool:
            written = leader.total(WRITES)
            return not wait_until(lambda: leader.total(WRITES) != written, REST_S, pause=0.1)

        self.place.until(rested, "nothing more is written")

    def versions(self) -> dict[str, str]:
        """Give the version of each object that an operator writes."""
        kinds = f"{OURS.removesuffix(',pods')},networkpolicies,poddisruptionbudgets"
        found = [
            *self.place.listed(kinds, "arbiter.dev/pool=assistant"),
            *self.place.listed("localmodels,modelpools,taskprofiles,modelswaps"),
        ]
        return {f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["resourceVersion"] for each in found}


def wish(*tasks: str) -> dict[str, Any]:
    """Give the pool with these tasks, all by one model."""
    return pool("assistant", "", router={"replicas": 1}, tasks=[{"name": task, "model": "one"} for task in tasks])


@pytest.fixture(scope="module")
def story(place: Place, hosts: Operators) -> Iterator[Story]:
    """Have a pool that serves, and an operator that leads."""
    with elsewhere() as url:
        began = Story(place, hosts)
        began.running.append(hosts.start())
        place.apply(external("one", url), wish("chat"))
        place.ready(POOL)
        yield began


def test_a_leader_that_is_killed_is_replaced_soon(story: Story) -> None:
    """It cannot give its Lease back, so that has to run out; until then nobody else writes."""
    leader, other = story.second()
    before, epoch = story.lease(), story.epoch()
    story.running.remove(leader)
    leader.kill()
    story.takes_over(other, before, SOON_S)
    assert story.rises(epoch) == story.epoch() == other.metric("arbiter_epoch")


def test_a_leader_that_is_told_to_end_hands_over_at_once(story: Story) -> None:
    """It gives the Lease back. The other one looks every second; the Lease would have held for ten."""
    epoch = story.epoch()
    story.follows(*story.second(), lease.HOLDS_S / 2)
    story.rises(epoch)


def test_a_leader_that_was_stopped_for_too_long_ends_itself_and_writes_nothing(story: Story, tmp_path: Path) -> None:
    """It stops where nothing but the API server can refuse it: it knows that it leads, and its table is on its way."""
    epoch, program = story.epoch(), ("tests.e2e.serving.dying", "stops=configmaps/assistant-routes", str(tmp_path))
    before, stopped = story.second(program)
    story.running.remove(before)
    assert before.end() == 0
    story.place.until(lambda: story.lease().holder.startswith(f"{stopped.name}_"), "it holds the Lease")
    story.place.until(lambda: not stopped.ready, "it has stopped")
    story.running.clear()
    story.running.append(other := story.hosts.start(leading=False))
    story.takes_over(other, story.lease(), SOON_S)
    risen = story.rises(epoch)
    story.place.apply(wish("chat", "code"))
    story.served("chat", "code")
    story.rests(other)
    versions, logged = story.versions(), len(stopped.lines())

    stopped.signal(signal.SIGCONT)

    assert stopped.process.wait(30) == 1
    told = [line.get("reason") for line in stopped.lines()[logged:]]
    assert "Deposed" in told
    assert not WRITTEN & set(told)
    assert (tmp_path / "late").read_text() == "ConflictError\n"
    assert story.versions() == versions
    assert story.rises(epoch) == story.epoch() == risen
    assert other.leads
