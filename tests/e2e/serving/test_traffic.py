"""Continuous traffic while everything around the routers and engines changes: no request fails, and none is cut.

One pool has a small model of its own, the other one's runs at a server that the pool did not start. The tests tell one
story, in this order. The clients ask the pool's Service, as any client does, from its first answer to the end.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.e2e.engines import llama_server
from tests.e2e.running import said
from tests.e2e.serving.wishes import QUESTION, REGISTRY, external, model, pool
from tests.e2e.swap.swaps import Seen
from tests.traffic.driver import Load, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.serving.operators import HostOperator, Operators
    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

POOL = "modelpool/assistant"
CHOSEN, OTHER = "traffic.arbiter.test/chosen", "traffic.arbiter.test/other"
"""Labels of the node: one that the pool's placement asks for, and one that nobody asks for."""

LOAD = Load(task="chat", clients=2, stream_tokens=160, plain_tokens=4, prompt="Count from one to a hundred in words.")
"""A stream and a plain answer at a time: the engine has one slot and one thread."""

SOON_S = 15.0
"""Seconds within which another operator must lead when the leader is gone."""

ANOTHER_IMAGE = "--llama-server-image=arbiter.local/llama-server:another"
"""An image that is nowhere: whoever restarted the engine with it would never see it run."""


@dataclass
class Story:
    """Two pools with what serves them.

    Attributes:
        place: where they are.
        hosts: starts operators.
        leader: the operator that leads.
        node: the node that the engine is on.
    """

    place: Place
    hosts: Operators
    leader: HostOperator
    node: str

    def standby(self) -> HostOperator:
        """Start another operator, until it is ready to take over."""
        waiting = self.hosts.start(leading=False)
        self.place.until(lambda: waiting.ready, "the other operator has seen everything")
        return waiting

    def label(self, *labels: str) -> None:
        """Label the node, as its administrator does: `key=value` sets, `key-` removes."""
        said(self.place.cluster.kubectl("label", "node", self.node, "--overwrite", *labels))

    def reason(self) -> str:
        """Give why the task is as it is."""
        reason: str = self.place.status(POOL)["tasks"][0]["reason"]
        return reason

    def engine(self) -> list[tuple[str, int]]:
        """Give each pod of what serves, with how often it was restarted."""
        active = self.place.status(POOL)["tasks"][0]["active"]["revision"]
        found = self.place.listed("pods", f"arbiter.dev/pool=assistant,arbiter.dev/revision={active}")
        return [(each["metadata"]["uid"], each["status"]["containerStatuses"][0]["restartCount"]) for each in found]


def elsewhere(digest: str) -> list[dict[str, Any]]:
    """Give the server that no pool started, with its weights from where the pool's come from.

    Kubelet keeps by which name it has pulled an image. The same one under the name that it was loaded by counts as
    another one from then, which would have to be pulled too.
    """
    deployment, service = llama_server("smollm2")
    deployment["spec"]["template"]["spec"]["volumes"][0]["image"]["reference"] = f"{REGISTRY}/models/smollm2@{digest}"
    return [deployment, service]


@pytest.fixture(scope="module")
def story(
    place: Place, hosts: Operators, weights: str, start: Callable[[list[dict[str, Any]]], str]
) -> Iterator[Story]:
    """Have both pools served, the one with two routers."""
    node = said(place.cluster.kubectl("get", "nodes", "--output=jsonpath={.items[0].metadata.name}"))
    began = Story(place, hosts, hosts.start(), node)
    began.label(f"{CHOSEN}=yes")
    try:
        placement = {"nodeSelector": {CHOSEN: "yes"}}
        place.apply(model("smollm2"), pool("assistant", "smollm2", placement=placement, router={"replicas": 2}))
        place.apply(external("remote", start(elsewhere(weights))), pool("outside", "remote"))
        place.ready("modelpool/outside")
        place.ready(POOL)
        yield began
    finally:
        began.label(f"{CHOSEN}-", f"{OTHER}-")


@pytest.fixture(scope="module")
def traffic(story: Story) -> Iterator[Traffic]:
    """Ask without a pause, from here to the end of the last test."""
    with Traffic(story.place.url("assistant"), LOAD) as asking:
        yield asking


@contextmanager
def unharmed(story: Story, traffic: Traffic, what: str) -> Iterator[None]:
    """Mark what happens; afterwards no request has failed, near the mark or not, and the engine is the same."""
    engine, wishes = story.engine(), story.place.wishes()
    traffic.mark(what)
    yield
    traffic.more(2)
    traffic.settle()
    seen = traffic.seen()
    assert seen.verdict(what).clean, seen
    assert not seen.failed, seen
    assert story.engine() == engine
    assert story.place.wishes() == wishes


def test_both_pools_answer(story: Story, count: Callable[..., None]) -> None:
    """One from its own engine, one from a server that it did not start."""
    count("engines started", 2)
    for name, served in (("assistant", "smollm2"), ("outside", "remote")):
        with openai.OpenAI(base_url=f"{story.place.url(name)}/v1", api_key="none", max_retries=0) as client:
            raw = client.chat.completions.with_raw_response.create(**QUESTION)
        assert "Paris" in (raw.parse().choices[0].message.content or "")
        assert raw.headers["x-arbiter-model"] == served
    count("completions served", 2)


def test_the_operator_is_killed(story: Story, traffic: Traffic) -> None:
    """Routers need no operator to serve; another one leads when the Lease has run out."""
    successor = story.standby()
    with unharmed(story, traffic, "operator killed"):
        story.leader.kill()
        story.place.until(lambda: successor.leads, "another operator leads", SOON_S)
    story.leader = successor


def test_the_leader_changes_in_order(story: Story, traffic: Traffic) -> None:
    """The next one's table has a higher epoch, and says the same."""
    successor = story.standby()
    with unharmed(story, traffic, "leader changed"):
        assert story.leader.end() == 0
        story.place.until(lambda: successor.leads, "another operator leads", SOON_S)
    story.leader = successor


def test_the_routers_are_restarted(story: Story, traffic: Traffic) -> None:
    """One after the other, as `kubectl rollout restart` does; each ends its streams first, however long that takes."""
    before = story.place.pods("assistant", "router")

    def gone() -> bool:
        found = story.place.listed("pods", "arbiter.dev/pool=assistant,app.kubernetes.io/component=router")
        return not before.keys() & {each["metadata"]["name"] for each in found}

    with unharmed(story, traffic, "routers restarted"):
        story.place.kubectl("rollout", "restart", "deployment/assistant-router")
        story.place.kubectl("rollout", "status", "deployment/assistant-router", "--timeout=120s")
        story.place.until(gone, "the former routers have ended")
    assert len(story.place.pods("assistant", "router")) == 2


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param((f"{OTHER}=one",), id="added"),
        pytest.param((f"{OTHER}=two",), id="changed"),
        pytest.param((f"{OTHER}-",), id="removed"),
        pytest.param((f"{CHOSEN}-",), id="the one that the placement asks for removed"),
    ],
)
def test_labels_of_the_node_change(story: Story, traffic: Traffic, labels: tuple[str, ...]) -> None:
    """What runs stays where it is, also where nothing new would be put."""
    with unharmed(story, traffic, f"labels {' '.join(labels)}"):
        story.label(*labels)
    assert story.place.condition(POOL)["status"] == "True"


def test_the_operator_restarts_with_another_default_image(story: Story, traffic: Traffic) -> None:
    """That makes another revision of the model, which is swapped to like any other; until then nothing restarts."""
    swap = Seen(story.place, "assistant-chat-1")
    with unharmed(story, traffic, "default image changed"):
        assert story.leader.end() == 0
        story.leader = story.hosts.start(ANOTHER_IMAGE)
        swap.until(lambda status: status.get("reason") == "NoNodeFits", "waits for a node that the placement allows")
        story.label(f"{CHOSEN}=yes")
        swap.in_phase("Preparing")
    assert "new revision" in story.place.get("modelswap/assistant-chat-1")["spec"]["reason"]

    with unharmed(story, traffic, "default image changed back"):
        assert story.leader.end() == 0
        story.leader = story.hosts.start()
        story.place.until(lambda: story.reason() == "Serving", "the serving revision is the newest again")
    swap.ended("Aborted")


def test_nothing_failed_in_all_this_time(story: Story, traffic: Traffic, count: Callable[..., None]) -> None:
    """Also not between the marks, nor in a request that was still running at the end."""
    traffic.settle()
    seen = traffic.seen()
    assert not seen.failed, seen
    assert all(verdict.clean for verdict in seen.verdicts()), seen
    active = story.place.status(POOL)["tasks"][0]["active"]["revision"]
    assert set(seen.split().counts) == {active}
    count("completions served", len(seen.attempts))
