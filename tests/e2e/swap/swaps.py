"""A swap as a person with kubectl sees it, and the policy of seconds that these tests ramp by.

Times are short and nothing else: error rates, margins, and the least counts of blocks are those of real policies. What
stays undecided is held, because a machine that is busy with something else is a reason to wait and to nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.serving.place import Place

POLICY: dict[str, Any] = {
    "apiVersion": "arbiter.dev/v1alpha1",
    "kind": "SwapPolicy",
    "metadata": {"name": "seconds"},
    "spec": {
        "rollout": {
            "steps": [{"weight": 30, "hold": "5s"}, {"weight": 60, "hold": "5s"}],
            "watch": "5s",
            "keepHot": "10m",
        },
        "analysis": {"slice": "1s", "blockLength": "1s", "maxExtensions": 100, "onInconclusive": "Hold"},
        "warmUp": {"skipRequests": 0, "deadline": "2m"},
        "rollback": {"drain": "5s"},
    },
}


def swap(name: str, to: str, *, pool: str = "assistant", task: str = "chat", **spec: object) -> dict[str, Any]:
    """Give a ModelSwap, as a person makes one."""
    fields = {"pool": pool, "task": task, "to": to, "reason": "a test asks for it", **spec}
    return {"apiVersion": "arbiter.dev/v1alpha1", "kind": "ModelSwap", "metadata": {"name": name}, "spec": fields}


def checks(name: str, count: int) -> dict[str, Any]:
    """Give a ConfigMap with so many checks, all of which a good stand-in passes."""
    items = [
        {
            "name": f"capital-{number}",
            "messages": [{"role": "user", "content": f"Question {number}: what is the capital of France?"}],
            "expect": {"contains": "Paris"},
            "maxTokens": 8,
        }
        for number in range(count)
    ]
    text = json.dumps({"version": 1, "checks": items})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"checks.yaml": text}}


@dataclass(frozen=True)
class Seen:
    """One ModelSwap."""

    place: Place
    name: str

    def status(self) -> dict[str, Any]:
        """Give its status; empty before it has one, and before it is there."""
        found = [each for each in self.place.listed("modelswaps") if each["metadata"]["name"] == self.name]
        return dict(found[0].get("status", {})) if found else {}

    def until(self, fact: Callable[[dict[str, Any]], bool], what: str, seconds: float = 120) -> dict[str, Any]:
        """Wait until something holds of its status; give it."""
        last: dict[str, Any] = {}

        def holds() -> bool:
            last.clear()
            last.update(self.status())
            return fact(last)

        try:
            self.place.until(holds, f"{self.name} {what}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {json.dumps(last, indent=1)}") from error
        return last

    def obeyed(self, seconds: float = 120) -> dict[str, Any]:
        """Wait until the new side has requests, and every router obeys that."""

        def is_obeyed(status: dict[str, Any]) -> bool:
            shifts = status.get("phase") == "Shifting" and status["weights"].get("since") is not None
            return shifts or status.get("phase") == "Ended"

        status = self.until(is_obeyed, "is obeyed", seconds)
        assert status["phase"] == "Shifting", json.dumps(status, indent=1)
        return status

    def in_phase(self, phase: str, seconds: float = 120) -> dict[str, Any]:
        """Wait until it is in a phase, or has ended."""
        return self.until(lambda status: status.get("phase") in {phase, "Ended"}, f"is {phase}", seconds)

    def ended(self, outcome: str, seconds: float = 180) -> dict[str, Any]:
        """Wait until it has ended, which must be so."""
        status = self.until(lambda status: status.get("phase") == "Ended", f"ends {outcome}", seconds)
        assert status["outcome"] == outcome, json.dumps(status, indent=1)
        return status

    def intend(self, intent: str) -> None:
        """Tell it what to do."""
        patch = json.dumps({"spec": {"intent": intent}})
        self.place.kubectl("patch", "modelswap", self.name, "--type=merge", f"--patch={patch}")


def active(place: Place, pool: str = "assistant") -> dict[str, Any]:
    """Give what serves the first task of a pool."""
    found: dict[str, Any] = place.status(f"modelpool/{pool}")["tasks"][0]["active"]
    return found
