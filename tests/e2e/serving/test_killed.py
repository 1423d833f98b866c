"""An operator that is killed right after each of its writes: in the end everything is as if nothing had happened.

First an undisturbed operator goes through a story, then one that dies of every single write of it. After each step of
the story all objects of the pool, and the statuses of pool and models, must be the same; left out is only what never
is the same twice, such as uids and times.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from devcluster.waiting import Stopwatch, wait_until
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
STANDS = f"{OURS.removesuffix(',pods')},networkpolicies,poddisruptionbudgets"
STATUSES = "localmodels,modelpools,taskprofiles,modelswaps"

PASSING = {
    "uid", "resourceVersion", "creationTimestamp", "lastTransitionTime", "clusterIP", "clusterIPs",
    "managedFields", "arbiter.dev/content", "at", "since", "startedAt", "endedAt", "duration", "elapsed", "evidence",
}  # fmt: skip
"""What is another one each time. The sum of a manifest is, because its owner's uid is in the manifest."""

QUIET_S = 1.0
"""Seconds without a write, after which nothing more is expected of an operator whose pool is as it should be."""

MODELS = ("one", "two", "three")
CHAT = {"name": "chat", "model": "one", "fallback": ["three"]}
CODE = {"name": "code", "model": "two"}
DRAFTS = {"name": "drafts", "model": "three"}

STORY: tuple[tuple[str, list[dict[str, Any]]], ...] = (
    ("the pool is applied", [CHAT, CODE]),
    ("a task is added", [CHAT, CODE, DRAFTS]),
    ("a model is edited", [CHAT, {**CODE, "model": "three"}, DRAFTS]),
    ("a task is removed", [CHAT, DRAFTS]),
    ("the pool is deleted", []),
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Run a server outside of the cluster; gives its address."""
    with elsewhere() as url:
        yield url


@dataclass(frozen=True)
class Mortal:
    """An operator under a rule after which writes it dies.

    Attributes:
        place: whose pools it serves.
        operator: what starts it anew after each death.
        folder: where it notes writes and deaths.
    """

    place: Place
    operator: HostOperator
    folder: Path

    @property
    def writes(self) -> list[str]:
        """What was written, in order."""
        return _lines(self.folder / "writes")

    @property
    def deaths(self) -> list[str]:
        """What it died of, in order."""
        return _lines(self.folder / "deaths")

    def settled(self) -> None:
        """Wait until the pool is served as it was last wished, and nothing more is written."""
        self.place.until(self._serves, "the pool is served, and nothing is written", 120)

    def over(self) -> None:
        """Tell it to end, for good."""
        assert self.operator.end() == 0, self.operator.log.read_text()

    def _serves(self) -> bool:
        written, since = self.writes, Stopwatch()
        if not self._stands():
            return False
        self.place.until(lambda: self.writes != written or since.seconds() >= QUIET_S, "a while passes")
        return self.writes == written and self.operator.leads

    def _stands(self) -> bool:
        found = self.place.get(POOL)
        status = found.get("status", {})
        return bool(
            status.get("observedGeneration") == found["metadata"]["generation"]
            and ("Ready", "True") in {(each["type"], each["status"]) for each in status["conditions"]}
            and [each["name"] for each in status["tasks"]] == [each["name"] for each in found["spec"]["tasks"]]
            and {each["reason"] for each in status["tasks"]} <= {"Serving", "StepHeld"}
            and not any(each["status"].get("weights", {}).get("since") is None for each in self._flying())
        )

    def _flying(self) -> list[dict[str, Any]]:
        """Give the swaps that move requests: each is at rest once all routers obey."""
        swaps = [{"status": {}, **each} for each in self.place.listed("modelswaps")]
        return [each for each in swaps if each["status"].get("phase") != "Ended"]


def run(place: Place, hosts: Operators, folder: Path, rule: str) -> Mortal:
    """Start an operator that dies by a rule."""
    folder.mkdir()
    program = ("tests.e2e.serving.dying", rule, str(folder))
    return Mortal(place, hosts.start(leading=False, program=program), folder)


def as_it_stands(place: Place) -> dict[str, Any]:
    """Give all objects of the pool as they are, without what is another one each time."""
    found = [*_listed(place, STANDS, "--selector=arbiter.dev/pool=assistant"), *_listed(place, STATUSES)]
    owner = next((each["metadata"]["uid"] for each in found if each["kind"] == "ModelPool"), "-")
    return {
        f"{each['kind']}/{each['metadata']['name']}": {
            "is": _lasting(_told(each)),
            "fields": _fields(each["metadata"]["managedFields"], owner),
        }
        for each in found
    }


def _listed(place: Place, kinds: str, *flags: str) -> list[dict[str, Any]]:
    """Give all objects of some kinds, with who wrote which field."""
    printed = place.kubectl("get", kinds, "--output=json", "--show-managed-fields", *flags)
    found: list[dict[str, Any]] = json.loads(printed)["items"]
    return found


def _told(found: dict[str, Any]) -> dict[str, Any]:
    """Give of an object what we decide: its status where it is of ours, and tables as JSON without their epoch."""
    told = {name: part for name, part in found.items() if name != "status" or "arbiter.dev" in found["apiVersion"]}
    if found["kind"] == "Secret":
        return {**told, "data": sorted(found["data"])}
    if found["kind"] == "ConfigMap":
        table = json.loads(found["data"]["routes.json"])
        return {**told, "data": {name: table[name] for name in table.keys() - {"epoch", "generation", "hash"}}}
    return told


def _lasting(value: Any) -> Any:  # noqa: ANN401  any part of an object
    if isinstance(value, dict):
        return {name: _lasting(part) for name, part in value.items() if name not in PASSING}
    if isinstance(value, list):
        return [_lasting(part) for part in value]
    return value


def _fields(managed: list[dict[str, Any]], owner: str) -> list[Any]:
    """Give which fields are ours, as the API server keeps them: a death must not leave them to another name."""
    return sorted(
        (
            each["manager"],
            each["operation"],
            json.dumps(each["fieldsV1"], sort_keys=True).replace(owner, "owner"),
        )
        for each in managed
        if each["manager"].startswith("arbiter")
    )


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def same(place: Place, wanted: dict[str, Any]) -> None:
    """Wait until everything stands as it is wanted."""
    wait_until(lambda: as_it_stands(place) == wanted, 60, pause=0.1)
    assert as_it_stands(place) == wanted


def play(mortal: Mortal, server: str, wanted: dict[str, dict[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    """Go through the story; give how things stood after each step, which is to be as it is wanted."""
    place, found = mortal.place, {}
    place.apply(*(external(name, server) for name in MODELS))
    for step, tasks in STORY:
        if tasks:
            place.apply(pool("assistant", "", router={"replicas": 1}, tasks=tasks))
        else:
            place.delete(POOL)
        if wanted is not None:
            same(place, wanted[step])
        elif tasks:
            mortal.settled()
        else:
            place.until(lambda: not place.left_of("assistant"), "nothing is left of the pool")
            place.until(lambda: not any(each["status"].get("usedBy") for each in place.listed("localmodels")), "unused")
            place.until(lambda: not place.listed("modelswaps"), "its swaps have gone with it")
        found[step] = as_it_stands(place)
    mortal.over()
    place.kubectl("delete", "localmodels", "--all")
    return found


def test_killed_after_every_write_of_a_story(place: Place, hosts: Operators, server: str, tmp_path: Path) -> None:
    """A pool of two tasks with a fallback and a router comes, is edited three times, and goes."""
    calm = run(place, hosts, tmp_path / "calm", "never")
    undisturbed = play(calm, server)
    assert not calm.deaths

    haunted = run(place, hosts, tmp_path / "haunted", "each")
    play(haunted, server, undisturbed)
    assert set(haunted.deaths) >= set(calm.writes)


def test_killed_once_after_each_write_of_a_new_pool(
    place: Place, hosts: Operators, server: str, tmp_path: Path
) -> None:
    """The first, the second, the third: each time a new pool, until a run ends without having died."""

    def begun(number: int) -> Mortal:
        mortal = run(place, hosts, tmp_path / str(number), f"nth={number}")
        place.apply(*(external(name, server) for name in MODELS))
        place.apply(pool("assistant", "", router={"replicas": 0}, tasks=[CHAT, CODE]))
        return mortal

    def ended(mortal: Mortal) -> None:
        mortal.over()
        place.delete(POOL, *(f"localmodel/{name}" for name in MODELS))
        place.until(lambda: not place.left_of("assistant"), "nothing is left of the pool")

    calm = begun(0)
    calm.settled()
    undisturbed = as_it_stands(place)
    ended(calm)
    for number in range(1, 2 * len(calm.writes)):
        mortal = begun(number)
        same(place, undisturbed)
        ended(mortal)
        if not mortal.deaths:
            break
    else:
        pytest.fail("each run ends in a death, however late")
    assert number >= len(calm.writes)
