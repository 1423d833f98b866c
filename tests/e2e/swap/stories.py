"""Stories of swaps between real engines: each has a pool and clients of its own, and a policy that suits it.

Every pool is asked from its first answer to the end of its story, and what its clients have seen is judged as a whole:
a request that failed anywhere is one too many.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.e2e.serving.wishes import ONE_THREAD, model, pool
from tests.e2e.swap.swaps import POLICY, Seen
from tests.traffic.driver import Load, Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.e2e.serving.place import Place

SHORT = Load(task="chat", clients=2, stream_tokens=24, plain_tokens=4, pause_s=0.5)
"""Two clients that leave the machine to the others."""

LITTLE = {"cpu": "30m"}
"""What a pod asks of its node, so that all stories of a module have room beside each other and whatever else runs."""


@dataclass(frozen=True)
class Story:
    """A pool with those who ask it.

    Attributes:
        place: where it is.
        pool: its name.
        traffic: its clients.
    """

    place: Place
    pool: str
    traffic: Traffic

    def swap(self, name: str = "") -> Seen:
        """Give a ModelSwap; without a name the first that an edit of the pool has asked for."""
        return Seen(self.place, name or f"{self.pool}-chat-1")

    def task(self) -> dict[str, Any]:
        """Give what the pool says of its task."""
        found: dict[str, Any] = self.place.status(f"modelpool/{self.pool}")["tasks"][0]
        return found

    def revision(self) -> str:
        """Give the revision that serves."""
        revision: str = self.task()["active"]["revision"]
        return revision

    def engines(self, revision: str = "") -> list[str]:
        """Give the names of the engine pods that are to stay; of all revisions, or of one."""
        found = sorted(self.place.pods(self.pool, "engine"))
        return [each for each in found if f"-{revision}-" in each] if revision else found

    def unharmed(self, what: str) -> int:
        """Say that no client has seen a failure since it began, near a mark or not; give how many were answered."""
        self.traffic.more(4)
        self.traffic.settle()
        return self._judged(what)

    def over(self, what: str) -> int:
        """Say the same at its end, after which nobody asks any more: that leaves the machine to the others."""
        self.traffic.more(4)
        self.traffic.rest()
        return self._judged(what)

    def _judged(self, what: str) -> int:
        seen = self.traffic.seen()
        assert not seen.failed, f"{what}: {seen}"
        return len(seen.attempts)


def policy(name: str, **spec: dict[str, Any]) -> dict[str, Any]:
    """Give the policy of seconds under another name, with some fields of its parts changed."""
    changed = deepcopy(POLICY)
    changed["metadata"]["name"] = name
    for part, fields in spec.items():
        changed["spec"][part] = changed["spec"].get(part, {}) | fields
    return changed


def small(name: str, *args: str, source: str = "", limits: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Give a model on a llama-server of its own.

    Args:
        name: the model's.
        args: further arguments of the server.
        source: of its weights; SmolLM2's unless it is given.
        limits: what its container is limited to, in place of what it usually is.
    """
    engine: dict[str, Any] = deepcopy(ONE_THREAD)
    engine["args"] += args
    engine["resources"]["requests"] |= LITTLE
    engine["resources"]["limits"] |= limits or {}
    return model(name, source, engine=engine) if source else model(name, engine=engine)


def asks(name: str, served: str, *, swap_policy: str = "seconds", **spec: Any) -> dict[str, Any]:  # noqa: ANN401  a spec
    """Give a pool as it asks for a model."""
    router = {"resources": {"requests": {"memory": "128Mi", **LITTLE}, "limits": {"memory": "512Mi"}}}
    return pool(name, served, swapPolicy=swap_policy, router=router, **spec)


@contextmanager
def asked(place: Place, loads: Mapping[str, Load]) -> Iterator[dict[str, Story]]:
    """Wait until these pools serve, and ask them all from then on."""
    with ExitStack() as asking:
        stories = {}
        for name, load in loads.items():
            place.ready(f"modelpool/{name}", 180)
            stories[name] = Story(place, name, asking.enter_context(Traffic(place.url(name), load)))
        for story in stories.values():
            story.traffic.more(2)
        yield stories
