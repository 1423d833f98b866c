"""Engines that do not serve: each is told of in words that a person can act upon, and serves once its cause is gone.

The tests tell one story, in this order. All broken pools are applied at once and wait for their faults together; then
every cause is taken away. What happens to an engine that serves comes last: its pod is deleted and evicted, and its
node is drained, for which the cluster gets a second node that it keeps.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from devcluster.nodes import GPU_TOLERATION
from tests.e2e.running import devcluster, said, up
from tests.e2e.serving.elsewhere import elsewhere
from tests.e2e.serving.odd_engine import QUIET, OddEngine
from tests.e2e.serving.wishes import ONE_THREAD, external, model, pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.serving.operators import HostOperator, Operators
    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

HOSTNAME = "kubernetes.io/hostname"

APART = {
    "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [],
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": HOSTNAME, "labelSelector": {"matchLabels": {"arbiter.dev/pool": "pair"}}}
        ],
    }
}
"""Where the pods of the pool `pair` run: never two of them on one node."""


@dataclass(frozen=True)
class Scene:
    """All that the stories happen in.

    Attributes:
        place: their namespace.
        odd: a server that goes wrong.
        operator: it runs from the beginning to the end.
    """

    place: Place
    odd: OddEngine
    operator: HostOperator


def stranger(name: str) -> dict[str, Any]:
    """Give a Service that somebody else has made."""
    spec = {"selector": {"app": "theirs"}, "ports": [{"port": 9999}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def scene(place: Place, weights: str, hosts: Operators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Apply everything that is broken, and beside it what serves."""
    assert weights
    odd = OddEngine.build(place, tmp_path_factory.mktemp("odd"))
    with elsewhere() as server:
        operator = hosts.start()
        place.apply(
            stranger("taken"),
            external("good", server),
            odd.model("no-image", engine=odd.does("answer", image=odd.name("late"))),
            odd.model("crashes", "crash", "3", "the weights are of another kind"),
            model("misled", engine={**ONE_THREAD, "args": ["--no-such-option"]}),
            odd.model("rubbish", "rubbish", "4"),
            odd.model("failing", "fail", "4"),
            model("large", engine={**ONE_THREAD, "resources": {}}, memory="900Gi"),
            odd.model("sound"),
            *(pool(name, name, **QUIET) for name in ("no-image", "crashes", "misled", "rubbish", "failing", "large")),
            pool("taken", "good", router={"replicas": 1}),
            pool("sound", "sound", **QUIET),
        )
        yield Scene(place, odd, operator)


@pytest.fixture(scope="module")
def written(scene: Scene) -> list[Any]:
    """Give what people wrote, as it was before anything was done about it."""
    return scene.place.wishes()


TOLD = {
    "no-image": ("ImageNotPulled", ("container engine of no-image-", "stories/late", "check its name and the pull")),
    "crashes": ("EngineCrashed", ("crashes-", "ends after its start with exit code 3", "the weights are of another")),
    "misled": ("EngineCrashed", ("misled-", "ends after its start with exit code 1", "--no-such-option")),
    "rubbish": ("NoAnswer", ("rubbish did not give one token", "Welcome to the web")),
    "failing": ("NoAnswer", ("failing did not give one token", "500", "the tensors are upside down")),
    "large": ("WaitingForMemory", ("no node can take large-", "node node-1 has", "free, 900Gi is needed")),
    "taken": (
        "NameTaken",
        ("Service taken in namespace test-faults-of-engines belongs to somebody", "delete or rename"),
    ),
}
"""What each pool says: the reason, and what its message must hold."""

RENAMED = ("crashes", "misled", "large")
"""Pools that are served once they name another model: theirs is wrong, and a LocalModel does not change."""


@pytest.mark.parametrize("name", ["rubbish", "failing", "taken", "large", "no-image", "crashes", "misled"])
def test_what_is_wrong_is_told(scene: Scene, written: list[Any], name: str) -> None:
    """The condition's reason is a code, and its message names what a person has to look at."""
    assert written
    reason, words = TOLD[name]
    message = scene.place.says(f"modelpool/{name}", reason, seconds=120, words=words)
    assert message.startswith(scene.place.status(f"modelpool/{name}")["summary"]["why"])


@pytest.fixture(scope="module")
def mended(scene: Scene, written: list[Any]) -> Scene:
    """Take every cause away, without a word to the operator: where the model itself is wrong, another one is named."""
    assert written
    place, odd = scene.place, scene.odd
    assert place.get("service/taken")["spec"]["ports"][0]["port"] == 9999, "the stranger's Service was touched"
    place.delete("service/taken")
    odd.push(odd.engine, "late")
    place.apply(*(pool(name, "good", **QUIET) for name in RENAMED))
    return scene


@pytest.mark.parametrize("name", TOLD)
def test_what_was_wrong_heals_by_itself(mended: Scene, name: str, count: Callable[..., None]) -> None:
    """Nobody restarts the operator. A server that answers at last is asked again by itself."""
    mended.place.ready(f"modelpool/{name}", 180)
    assert mended.operator.runs
    if name not in {*RENAMED, "taken"}:
        count("engines started")


def test_what_is_no_longer_wanted_is_gone(mended: Scene, written: list[Any]) -> None:
    """The engines that were never right have no pods any more, and no wish was touched on the way."""
    place = mended.place
    place.until(lambda: not [pod for name in RENAMED for pod in place.pods(name)], "no pod is left of them", 60)

    def untouched(wishes: list[Any]) -> list[Any]:
        return [wish for wish in wishes if (wish[0], wish[2]["name"]) not in {("ModelPool", name) for name in RENAMED}]

    assert untouched(place.wishes()) == untouched(written)


def test_an_engine_whose_pod_is_deleted_or_evicted_comes_back(mended: Scene, count: Callable[..., None]) -> None:
    """The pool says that it is not served, is Ready again by itself, and meanwhile tells of the eviction."""
    place = mended.place
    place.ready("modelpool/sound")
    (first,) = place.pods("sound", "engine")
    place.kubectl("delete", "pod", first, "--wait=false")
    place.until(lambda: place.condition("modelpool/sound")["status"] == "False", "the pool is not served", 30)
    place.ready("modelpool/sound")
    (second,) = place.pods("sound", "engine")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": second}}
    path = f"/api/v1/namespaces/{place.namespace}/pods/{second}/eviction"
    place.kubectl("create", "--raw", path, "--filename=-", stdin=json.dumps(eviction))
    place.says("modelpool/sound", "PodEvicted", words=("sound-", "was evicted, and another one starts"))
    place.ready("modelpool/sound")
    count("engines started", 3)


@pytest.fixture(scope="module")
def drained(mended: Scene) -> Iterator[Scene]:
    """Give the cluster a second node, run engines on it, and drain it; it is used again in the end."""
    place, odd = mended.place, mended.odd
    said(devcluster(*up("--nodes", "2")))
    near = {"nodeSelector": {HOSTNAME: "node-2"}, "tolerations": [GPU_TOLERATION]}
    place.kubectl("uncordon", "node-2")
    place.apply(
        odd.model("far"),
        pool("far", "far", **QUIET, placement=near),
        pool("pair", "far", **QUIET, replicas=2, placement={"affinity": APART, "tolerations": [GPU_TOLERATION]}),
    )
    try:
        for name in ("far", "pair"):
            place.ready(f"modelpool/{name}", 180)
        place.until(lambda: place.status("modelpool/pair").get("replicas") == 2, "both of the pair serve", 60)
        flags = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s", "--pod-selector=arbiter.dev/pool")
        place.kubectl("drain", "node-2", *flags)
        yield mended
    finally:
        place.kubectl("uncordon", "node-2")


def test_a_drained_node_is_told_of(drained: Scene) -> None:
    """What has nowhere else to go waits and names the node; what has a replica elsewhere serves, Degraded."""
    place = drained.place
    place.says("modelpool/far", "WaitingForNode", words=("no node can take far-", "node node-2 is cordoned"))
    words = (
        "1 of 2 engine pods of far are ready: the scheduler finds no node for pair-",
        "1 node(s) were unschedulable",
    )
    place.says("modelpool/pair", "PodsMissing", "Degraded", words=words)
    assert place.condition("modelpool/pair")["status"] == "True"


def test_a_node_that_is_used_again_gets_its_engines_back(drained: Scene, count: Callable[..., None]) -> None:
    """As soon as pods may run there, they do."""
    place = drained.place
    place.kubectl("uncordon", "node-2")
    place.ready("modelpool/far")
    place.until(lambda: not place.condition("modelpool/pair", "Degraded"), "the pair is whole", 60)
    assert drained.operator.runs
    count("engines started", 5)
