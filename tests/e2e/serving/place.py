"""One namespace of the cluster as a person with kubectl sees it: applies, reads, waits, and says what a pool says."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devcluster.waiting import wait_until
from tests.e2e.engines import answers
from tests.e2e.running import Cluster, said

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OURS = "deployments,services,configmaps,secrets,roles,rolebindings,serviceaccounts,controllerrevisions,jobs,pods"
"""The kinds of objects that a pool makes, and the network policies and budgets beside them."""

UNWRITTEN = ("managedFields", "resourceVersion")
"""Parts of metadata that change with a write of the status, and that nobody wrote."""


@dataclass(frozen=True)
class Place:
    """A namespace.

    Attributes:
        cluster: where it is.
        namespace: its name.
    """

    cluster: Cluster
    namespace: str

    def kubectl(self, *arguments: str, stdin: str = "", seconds: float = 180) -> str:
        """Run kubectl here, which must succeed, and give what it printed."""
        return said(self.cluster.kubectl(f"--namespace={self.namespace}", *arguments, stdin=stdin, seconds=seconds))

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects, as their owner."""
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=items)

    def delete(self, *objects: str) -> None:
        """Delete objects, such as `modelpool/assistant`, and wait until they are gone."""
        self.kubectl("delete", "--ignore-not-found", "--wait=true", "--timeout=120s", *objects)

    def get(self, what: str) -> dict[str, Any]:
        """Give one object, such as `modelpool/assistant`."""
        found: dict[str, Any] = json.loads(self.kubectl("get", what, "--output=json"))
        return found

    def listed(self, kinds: str, selector: str = "") -> list[dict[str, Any]]:
        """Give all objects of some kinds."""
        flags = [f"--selector={selector}"] if selector else []
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kinds, "--output=json", *flags))["items"]
        return found

    def status(self, what: str) -> dict[str, Any]:
        """Give an object's status; empty before it has one."""
        found: dict[str, Any] = self.get(what).get("status", {})
        return found

    def condition(self, what: str, kind: str = "Ready") -> dict[str, Any]:
        """Give one condition of an object; empty before it has it."""
        conditions = self.status(what).get("conditions", [])
        return next((each for each in conditions if each["type"] == kind), {})

    def says(self, what: str, reason: str, kind: str = "Ready", seconds: float = 60, words: Sequence[str] = ()) -> str:
        """Wait until a condition has a reason, and a message that holds these words; give the message."""
        found: dict[str, Any] = {}

        def said_so() -> bool:
            found.clear()
            found.update(self.condition(what, kind))
            return found.get("reason") == reason and all(word in found["message"] for word in words)

        assert wait_until(said_so, seconds, pause=0.2), f"{what}: {kind} is not {reason} with {words} but {found}"
        message: str = found["message"]
        return message

    def ready(self, what: str, seconds: float = 120) -> None:
        """Wait until an object is Ready, as its users do."""
        self.kubectl("wait", "--for=condition=Ready", what, f"--timeout={seconds:g}s", seconds=seconds + 30)

    def until(self, fact: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Wait until something holds."""
        assert wait_until(fact, seconds, pause=0.2), f"not within {seconds:g} s: {what}"

    def url(self, pool: str) -> str:
        """Give the address at which a pool answers, once it does."""
        address = self.kubectl("get", "service", pool, "--output=jsonpath={.spec.clusterIP}")
        url = f"http://{address}"
        self.until(lambda: answers(f"{url}/v1/models"), f"{url} answers the host", 30)
        return url

    def pods(self, pool: str, component: str = "") -> dict[str, str]:
        """Give the pods of a pool that are to stay, with their uids."""
        more = f",app.kubernetes.io/component={component}" if component else ""
        found = self.listed("pods", f"arbiter.dev/pool={pool}{more}")
        return {
            each["metadata"]["name"]: each["metadata"]["uid"]
            for each in found
            if "deletionTimestamp" not in each["metadata"]
        }

    def epochs(self, router: str) -> list[int]:
        """Give the epochs of all tables that a router has obeyed, in order; it may not have gone back."""
        log = self.kubectl("logs", router, "--tail=-1")
        found = [int(epoch) for epoch in re.findall(r"table in force: epoch (\d+)", log)]
        assert found == sorted(found), f"{router} went back: {found}"
        return found

    def left_of(self, pool: str) -> list[str]:
        """Give what there is of a pool, pods that are on their way out left out."""
        kinds = f"{OURS},networkpolicies,poddisruptionbudgets"
        return [
            f"{each['kind']}/{each['metadata']['name']}"
            for each in self.listed(kinds, f"arbiter.dev/pool={pool}")
            if not (each["kind"] == "Pod" and "deletionTimestamp" in each["metadata"])
        ]

    def wishes(self) -> list[Any]:
        """Give what people wrote here, as it stands now: everything but statuses and who wrote which field.

        A swap that a pool asked for has the pool as its owner.
        """
        return [
            [
                each["kind"],
                each["spec"],
                {name: value for name, value in each["metadata"].items() if name not in UNWRITTEN},
            ]
            for each in self.listed("localmodels,modelpools,swappolicies,modelswaps")
            if "ownerReferences" not in each["metadata"]
        ]
