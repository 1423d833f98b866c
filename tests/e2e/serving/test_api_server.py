"""The API server is away for a minute: routers serve on, restarted ones too, and the operator goes on afterwards.

The whole cluster feels this, so it comes late. Traffic goes to the routers' own addresses: while the API server is
away nobody can take a router that ended out of its Service, so what is sent there is lost, whatever a router does.
"""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest

from arbiter.core.manifests.router import ADMIN_PORT
from devcluster.waiting import Stopwatch, wait_until
from tests.e2e.engines import answers
from tests.e2e.running import devcluster, said
from tests.e2e.serving.elsewhere import elsewhere
from tests.e2e.serving.wishes import QUESTION, external, pool
from tests.e2e.swap.swaps import POLICY, Seen, swap
from tests.traffic.driver import Load, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.serving.operators import HostOperator, Operators
    from tests.e2e.serving.place import Place
    from tests.traffic.attempts import Report

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

POOL = "modelpool/assistant"
SERVER = "kube-apiserver"
AWAY_S = 60.0
"""Seconds for which the API server is away."""

AGAIN_S = 120.0
"""Seconds that may pass until everybody has found the API server again: pauses have grown meanwhile."""

LOAD = Load(task="chat", clients=4, stream_tokens=64, pause_s=0.02)
TASKS = [{"name": "chat", "model": "other"}, {"name": "code", "model": "remote"}]
KILLED = "router killed"
ROUTER_PORT = 8080


@dataclass(frozen=True)
class Router:
    """One router, as it can be reached without the API server.

    Attributes:
        address: of its pod.
        container: what the node calls its container.
    """

    address: str
    container: str

    @property
    def url(self) -> str:
        """Where it answers clients."""
        return f"http://{self.address}:{ROUTER_PORT}"

    def table(self) -> dict[str, Any]:
        """Give what it says of itself: which process it is, and the table that it obeys."""
        with urllib.request.urlopen(f"http://{self.address}:{ADMIN_PORT}/internal/routes", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def process(self) -> int:
        """Find the first process of its container, with which all others end, among those of this machine."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self.container in (process / "cgroup").read_text() and _is_first(process):
                    return int(process.name)
            except OSError:  # it has ended meanwhile
                continue
        raise LookupError(f"no process of container {self.container}")


def _is_first(process: Path) -> bool:
    """Say whether a process has number 1 in its own process namespace."""
    line = next(line for line in (process / "status").read_text().splitlines() if line.startswith("NSpid:"))
    return line.split()[-1] == "1"


def routers(place: Place) -> list[Router]:
    """Give the routers of the pool."""
    found = place.listed("pods", "arbiter.dev/pool=assistant,app.kubernetes.io/component=router")
    return [
        Router(each["status"]["podIP"], each["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2])
        for each in found
    ]


@contextmanager
def api_server_away() -> Iterator[Stopwatch]:
    """Have no API server for as long as this lasts; gives how long that is.

    By then kube-proxy asks for what is new once a minute at most, and until it does no pod reaches the API server by
    the name that it goes by in the cluster. That pause is Kubernetes' own and proves nothing here: it starts anew.
    """
    away = Stopwatch()
    said(devcluster("stop", SERVER))
    try:
        yield away
    finally:
        said(devcluster("start", SERVER))
        for act in ("stop", "start"):
            said(devcluster(act, "kube-proxy"))


def serves(place: Place) -> list[str]:
    """Give the tasks that the pool serves, by its status."""
    return [each["name"] for each in place.status(POOL)["tasks"] if each["reason"] == "Serving"]


def obeys_later(router: Router, known: dict[str, Any]) -> bool:
    """Say whether all of a router obeys a table of a later leader than the one that was known."""
    table = router.table()["table"]
    return table is not None and table["epoch"] > known["table"]["epoch"]


def is_away(place: Place) -> bool:
    """Say whether the API server answers nobody."""
    return place.cluster.kubectl("get", "--raw=/readyz", "--request-timeout=2s").returncode != 0


def harmed_by_the_kill(report: Report) -> None:
    """Check that none failed before the kill; right after it the clients have stopped, so all were under way at it."""
    killed = report.mark(KILLED).at
    assert report.failed, "a stream was running, so the kill has cut it"
    assert not [each for each in report.failed if each.ended < killed], report


@pytest.fixture(scope="module")
def leader(place: Place, hosts: Operators) -> Iterator[HostOperator]:
    """Have a pool with two routers that serves, another model for it, and the operator that leads."""
    with elsewhere() as url:
        leading = hosts.start()
        place.apply(POLICY, external("remote", url), external("other", f"{url}/other"))
        place.apply(pool("assistant", "remote", swapPolicy="seconds", router={"replicas": 2}))
        place.ready(POOL)
        yield leading


def test_traffic_flows_while_the_api_server_is_away_and_a_router_restarts(
    place: Place, hosts: Operators, leader: HostOperator, count: Callable[..., None]
) -> None:
    """A router that is killed comes back with the table that it kept; the operator leads as soon as it can.

    A swap is in the middle of its first step then. Routers keep to it, and it goes on when everybody is back.
    """
    steady, killed = routers(place)
    place.apply(swap("halfway", "other"))
    halfway = Seen(place, "halfway")
    halfway.obeyed()
    known, wishes = killed.table(), place.wishes()
    with ExitStack() as asking:
        traffic = asking.enter_context(Traffic(steady.url, LOAD))
        traffic.mark("API server stopped")
        with api_server_away() as away:
            assert is_away(place)
            process = killed.process()
            with Traffic(killed.url, LOAD) as until_killed:
                until_killed.mark(KILLED)
                os.kill(process, signal.SIGKILL)
            harmed_by_the_kill(until_killed.report)
            assert wait_until(lambda: answers(f"{killed.url}/v1/models"), AWAY_S), "the router did not come back"
            anew = killed.table()
            assert anew["router"] != known["router"]
            assert anew["table"] == known["table"]
            restarted = asking.enter_context(Traffic(killed.url, LOAD))

            assert leader.process.wait(AWAY_S) == 1
            assert "Deposed" in {line.get("reason") for line in leader.lines()}
            successor = hosts.start(leading=False)  # as Kubernetes starts a container anew
            assert is_away(place)
            wait_until(lambda: away.seconds() >= AWAY_S, AWAY_S)
            traffic.mark("API server started")
            restarted.mark("API server started")
        place.until(lambda: successor.leads or not successor.runs, "the operator leads again", AGAIN_S)
        assert successor.leads, successor.log.read_text()
        place.ready(POOL)
        assert place.wishes() == wishes
        assert halfway.status()["phase"] == "Shifting"
        halfway.intend("Promote")
        halfway.ended("Promoted", AGAIN_S)
        traffic.mark("pool edited")
        place.apply(pool("assistant", "", swapPolicy="seconds", router={"replicas": 2}, tasks=TASKS))
        place.until(lambda: serves(place) == ["chat", "code"], "the edit is served", AGAIN_S)
        for router in (steady, killed):
            place.until(partial(obeys_later, router, known), "each router obeys a later table", AGAIN_S)
        traffic.more(4)
        restarted.more(4)
    for report in (traffic.report, restarted.report):
        assert not report.failed, report
        assert all(verdict.clean for verdict in report.verdicts()), report
    with openai.OpenAI(base_url=f"{place.url('assistant')}/v1", api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(**{**QUESTION, "model": "code"})
    assert "Paris" in (answer.choices[0].message.content or "")
    count("completions served", 1 + sum(len(each.report.attempts) for each in (traffic, restarted)))
