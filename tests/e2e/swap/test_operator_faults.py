"""What happens to operators, routers and the way between them in the middle of a swap: clients notice nothing of it.

One pool whose models run elsewhere, with two routers, is asked all the time. Each test begins a swap, disturbs it while
both models have requests, and sees it end as it would have. The tests tell one story, in this order.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import openai
import pytest

from arbiter.core.manifests.router import ADMIN_PORT
from tests.e2e.running import run, said
from tests.e2e.serving.wishes import external, pool
from tests.e2e.swap.swaps import POLICY, Seen, active, swap
from tests.e2e.swap.upstream import Upstream, upstream
from tests.traffic.driver import Load, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.serving.operators import HostOperator, Operators
    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

POOL = "modelpool/assistant"
TASKS = ("chat", "code")
MODELS = ("first", "second", "third")
"""Each swap goes to the one that has not served for longest: going back to what served before is not analysed."""

SOON_S = 20.0
"""Seconds within which another operator must lead when the leader is gone."""

CUT_OFF = 54321
"""The group of those operators that can be kept from routers."""

RULE = ("OUTPUT", "-m", "owner", "--gid-owner", str(CUT_OFF), "-p", "tcp", "--dport", str(ADMIN_PORT), "-j", "DROP")
"""Drops what that group sends to routers' own ports; kubelet's probes belong to another group, and go on."""


@dataclass
class Story:
    """The pool, with those who serve it and ask it.

    Attributes:
        place: where it is.
        hosts: starts operators.
        leader: the operator that leads.
        traffic: the clients of each task.
    """

    place: Place
    hosts: Operators
    leader: HostOperator
    traffic: dict[str, Traffic]

    def shifting(self, name: str, to: str, task: str = "chat") -> Seen:
        """Ask for a swap, and wait until the new side has requests."""
        self.place.apply(swap(name, to, task=task))
        seen = Seen(self.place, name)
        seen.obeyed()
        return seen

    def promoted(self, seen: Seen, to: str, task: str = "chat") -> None:
        """Tell a swap to promote, and see the new model serve."""
        seen.intend("Promote")
        seen.ended("Promoted", 60)
        serving = {each["name"]: each["active"]["model"] for each in self.place.status(POOL)["tasks"]}
        assert serving[task] == to

    def routers(self) -> dict[str, str]:
        """Give the routers that are to stay, with their uids."""
        return self.place.pods("assistant", "router")


@pytest.fixture(scope="module")
def models() -> Iterator[Upstream]:
    """Run the models."""
    with upstream() as running:
        yield running


@pytest.fixture(scope="module")
def story(place: Place, hosts: Operators, models: Upstream) -> Iterator[Story]:
    """Have the pool served and asked."""
    leader = hosts.start()
    place.apply(POLICY, *(external(name, f"{models.address}/{name}", name) for name in MODELS))
    tasks = [{"name": task, "model": "first"} for task in TASKS]
    place.apply(pool("assistant", "", swapPolicy="seconds", router={"replicas": 2}, tasks=tasks))
    place.ready(POOL)
    url = place.url("assistant")
    load = {task: Load(task=task, clients=4, stream_tokens=16, plain_tokens=2, pause_s=0.05) for task in TASKS}
    with Traffic(url, load["chat"]) as chat, Traffic(url, load["code"]) as code:
        yield Story(place, hosts, leader, {"chat": chat, "code": code})


@contextmanager
def unharmed(story: Story) -> Iterator[None]:
    """Afterwards no client has seen a failure since it began."""
    yield
    for task, traffic in story.traffic.items():
        traffic.more(10)
        seen = traffic.seen()
        assert not seen.failed, f"{task}: {seen}"


@contextmanager
def cut_off() -> Iterator[None]:
    """Keep the operators of the group from routers for as long as this lasts."""
    said(run("iptables", "-I", *RULE))
    try:
        yield
    finally:
        said(run("iptables", "-D", *RULE))


def test_two_tasks_that_share_a_model_swap_at_once(story: Story) -> None:
    """Each for itself: one is promoted while the other one goes back."""
    with unharmed(story):
        chat, code = story.shifting("both-chat", "second"), story.shifting("both-code", "second", "code")
        assert chat.status()["phase"] == "Shifting"
        code.intend("Abort")
        story.promoted(chat, "second")
        code.ended("Aborted", 60)
    serving = [each["active"]["model"] for each in story.place.status(POOL)["tasks"]]
    assert serving == ["second", "first"]


def test_a_router_is_restarted_in_a_step(story: Story) -> None:
    """The step counts again once the router that takes its place obeys; what was proven is not lost."""
    with unharmed(story):
        there = story.shifting("restarted", "third")
        there.until(lambda status: bool(status.get("metrics")), "has evidence")
        before = story.routers()
        gone = next(iter(before))
        story.place.kubectl("delete", "pod", gone, "--wait=false")
        story.place.until(lambda: len(story.routers().keys() - before.keys()) == 1, "another router is there")
        story.place.kubectl("rollout", "status", "deployment/assistant-router", "--timeout=120s")
        status = there.until(lambda status: status["reason"] in {"StepHeld", "StepExtended", "WeightSet"}, "goes on")
        assert status["phase"] == "Shifting"
        assert status["weights"]["set"] >= 30
        story.promoted(there, "third")


def test_a_leader_that_was_stopped_advances_nothing(story: Story) -> None:
    """Another one takes over and promotes; the one that wakes up ends itself, and no router's epoch ever falls."""
    with unharmed(story):
        there = story.shifting("stopped", "first")
        stopped, other = story.leader, story.hosts.start(leading=False)
        story.place.until(lambda: other.ready, "the other operator has seen everything")
        before = {router: story.place.epochs(router) for router in story.routers()}
        stopped.signal(signal.SIGSTOP)
        try:
            story.place.until(lambda: other.leads, "another operator leads", SOON_S)
            story.promoted(there, "first")
        finally:
            stopped.signal(signal.SIGCONT)
        assert stopped.process.wait(30) == 1
        assert "Deposed" in {line.get("reason") for line in stopped.lines()}
        story.leader = other
        for router, epochs in before.items():
            assert story.place.epochs(router)[-1] > epochs[-1]
    assert story.leader.leads


def test_the_operator_is_cut_off_from_routers(story: Story) -> None:
    """Nothing rises and no router is replaced meanwhile; afterwards the swap goes on with what it knew."""
    assert story.leader.end() == 0
    story.leader = story.hosts.start(group=CUT_OFF)
    with unharmed(story):
        blind = story.shifting("blind", "second")
        blind.until(lambda status: bool(status.get("metrics")), "has evidence")
        routers = story.routers()
        with cut_off():
            status = blind.until(lambda status: status["reason"] == "MetricsUnavailable", "says that it is blind", 30)
            assert "cannot reach assistant-router-" in status["message"]
            weight = status["weights"]["set"]
            for traffic in story.traffic.values():
                traffic.more(200)
            assert blind.status()["weights"]["set"] == weight
            # What the operator itself writes meanwhile is obeyed, only nobody can tell it so.
            blind.intend("Promote")
            status = blind.until(lambda status: status["reason"] == "RoutersBehind", "waits for word of routers", 30)
            assert status["phase"] == "Shifting"
        blind.ended("Promoted", 60)
        assert story.routers() == routers
    assert active(story.place)["model"] == "second"


def test_nothing_failed_in_all_this_time(story: Story, count: Callable[..., None]) -> None:
    """Also not between the tests, nor in a request that was still running at the end."""
    for traffic in story.traffic.values():
        traffic.settle()
        assert not traffic.seen().failed, traffic.seen()
    count("completions served", sum(len(each.seen().attempts) for each in story.traffic.values()))
    with openai.OpenAI(base_url=f"{story.place.url('assistant')}/v1", api_key="none", max_retries=0) as client:
        question: dict[str, Any] = {"model": "code", "messages": [{"role": "user", "content": "Where am I?"}]}
        assert client.chat.completions.create(**question).choices[0].message.content
