"""Reads objects of Kubernetes' own kinds into the small values that snapshots are made of.

Rule: pure, and forgiving where the API server may leave a field out. What is kept is only what a decision reads, since
a cluster holds more pods and nodes than an operator should remember.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from arbiter.api.amounts import Quantity
from arbiter.api.pod import TaintEffect
from arbiter.core.facts import CPU, NodeFacts, Taint
from arbiter.core.manifests import names
from arbiter.core.snapshot import PodPhase, PodView
from arbiter.engines.runnable import CONTAINER, FETCH_CONTAINER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_STARTING = frozenset({"ContainerCreating", "PodInitializing"})
"""Why a container waits while all is well."""

_SAYS_NOTHING = frozenset({"Completed", "Error"})
"""Reasons of an ended container that say no more than its exit code."""

_OVER = frozenset({"Succeeded", "Failed"})
"""Phases in which a pod holds nothing of its node any more."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who controls an object.

    Attributes:
        kind: its kind.
        name: its name.
        uid: of that very object.
    """

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class SeenPod:
    """A pod of ours, and whose it is.

    Attributes:
        view: what a snapshot shows of it.
        namespace: where it is.
        uid: of this very pod.
        labels: its labels.
        owner: who controls it; None when nobody does.
        port: that its engine serves on; 0 without an engine.
        fetching: a container of it brings weights at the moment.
    """

    view: PodView
    namespace: str
    uid: str
    labels: Mapping[str, str]
    owner: Owner | None
    port: int = 0
    fetching: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """What a pod holds of its node.

    Attributes:
        node: the node.
        amounts: what it asks for, by resource.
    """

    node: str
    amounts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class SeenSlice:
    """An EndpointSlice, as far as it is counted.

    Attributes:
        namespace: where it is.
        service: the Service that it belongs to.
        pool: the pool that its Service is for; empty when it is for none of ours.
        ready: what takes requests: names of pods, or addresses of what is no pod.
    """

    namespace: str
    service: str
    pool: str
    ready: frozenset[str]


def owner_of(body: Mapping[str, Any]) -> Owner | None:
    """Who controls an object."""
    for reference in body["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return Owner(reference["kind"], reference["name"], reference["uid"])
    return None


def labels_of(body: Mapping[str, Any]) -> Mapping[str, str]:
    """The labels of an object."""
    labels: Mapping[str, str] = body["metadata"].get("labels") or {}
    return labels


def seen_pod(body: Mapping[str, Any]) -> SeenPod:
    """Read a pod of ours."""
    metadata, status = body["metadata"], body.get("status") or {}
    inits, mains = status.get("initContainerStatuses") or (), status.get("containerStatuses") or ()
    containers = (*inits, *mains)
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    deleting = bool(metadata.get("deletionTimestamp"))
    waiting = next(
        ((each["name"], state) for each in containers if (state := _waiting(each)) is not None), ("", dict[str, str]())
    )
    ended, code, words = _last_end(containers)
    view = PodView(
        name=metadata["name"],
        phase=_phase(status.get("phase")),
        ready=_holds(conditions, "Ready") and not deleting,
        deleting=deleting,
        address=status.get("podIP") or "",
        node=(body.get("spec") or {}).get("nodeName") or "",
        created_at=_time(metadata.get("creationTimestamp")),
        unschedulable=_unschedulable(conditions),
        waiting=waiting[1].get("reason") or "",
        waiting_message=waiting[1].get("message") or "",
        waiting_container=waiting[0],
        restarts=sum(each.get("restartCount") or 0 for each in containers),
        last_exit=code,
        last_message=words,
        last_container=ended,
        evicted=_evicted(status, conditions),
        uid=metadata.get("uid", ""),
    )
    fetching = any(each["name"] == FETCH_CONTAINER and "running" in (each.get("state") or {}) for each in containers)
    return SeenPod(
        view=view,
        namespace=metadata.get("namespace", ""),
        uid=metadata.get("uid", ""),
        labels=dict(labels_of(body)),
        owner=owner_of(body),
        port=_engine_port(body.get("spec") or {}),
        fetching=fetching,
    )


def _engine_port(spec: Mapping[str, Any]) -> int:
    engines = (each for each in spec.get("containers") or () if each["name"] == CONTAINER)
    return next((port["containerPort"] for each in engines for port in each.get("ports") or ()), 0)


def _waiting(container: Mapping[str, Any]) -> dict[str, str] | None:
    """Why a container waits, unless it only starts."""
    state: dict[str, str] | None = (container.get("state") or {}).get("waiting")
    return None if state is None or state.get("reason") in _STARTING else state


def _last_end(containers: Iterable[Mapping[str, Any]]) -> tuple[str, int | None, str]:
    """Name, exit code and last words of the container that ended last."""
    ends = [
        (each["name"], end)
        for each in containers
        for state in ("lastState", "state")
        if (end := (each.get(state) or {}).get("terminated")) is not None
    ]
    if not ends:
        return "", None, ""
    # Of several that ended in the same second the later container counts: `max` gives the first of equals.
    name, last = max(reversed(ends), key=lambda end: str(end[1].get("finishedAt") or ""))
    reason = str(last.get("reason") or "")
    words = str(last.get("message") or "").strip() or ("" if reason in _SAYS_NOTHING else reason)
    return name, int(last.get("exitCode") or 0), words


def _unschedulable(conditions: Mapping[str, Mapping[str, Any]]) -> str:
    scheduled = conditions.get("PodScheduled") or {}
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return str(scheduled.get("message") or "Unschedulable")
    return ""


def _evicted(status: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]]) -> str:
    if status.get("reason") == "Evicted":
        return str(status.get("message") or "Evicted")
    if _holds(conditions, "DisruptionTarget"):
        condition = conditions["DisruptionTarget"]
        return str(condition.get("message") or condition.get("reason") or "DisruptionTarget")
    return ""


def _holds(conditions: Mapping[str, Mapping[str, Any]], about: str) -> bool:
    return (conditions.get(about) or {}).get("status") == "True"


def _phase(text: str | None) -> PodPhase:
    return PodPhase(text) if text in set(PodPhase) else PodPhase.PENDING


def _time(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.fromtimestamp(0, UTC)


def held_by_pod(body: Mapping[str, Any]) -> Held | None:
    """What a pod holds of a node, as the scheduler counts it; None when it holds nothing.

    Init containers run one after the other, so the largest counts, beside those that go on as sidecars.
    """
    spec, status = body.get("spec") or {}, body.get("status") or {}
    node = spec.get("nodeName")
    if not node or status.get("phase") in _OVER:
        return None
    beside: Counter[str] = Counter()
    largest: Counter[str] = Counter()
    for container in spec.get("initContainers") or ():
        asked = _requests(container)
        if container.get("restartPolicy") == "Always":
            beside.update(asked)
            largest |= beside
        else:
            largest |= beside + asked
    running = Counter(beside)
    for container in spec.get("containers") or ():
        running.update(_requests(container))
    total = running | largest
    total.update({name: amount - total[name] for name, amount in _requests(spec).items()})  # said for the whole pod
    total.update(_amounts(spec.get("overhead")))
    total["pods"] = 1
    return Held(node, tuple(sorted(total.items())))


def _requests(container: Mapping[str, Any]) -> Counter[str]:
    return Counter(_amounts((container.get("resources") or {}).get("requests")))


def _amounts(quantities: Mapping[str, str | int] | None) -> dict[str, int]:
    return dict(_whole(quantities or {}))


def _whole(quantities: Mapping[str, str | int]) -> Iterator[tuple[str, int]]:
    for name, text in quantities.items():
        try:
            amount = Quantity.parse(text)
            yield name, amount.thousandths() if name == CPU else int(amount)
        except ValueError:
            continue  # a negative or unheard-of form: no decision can be made of it


def node_facts(body: Mapping[str, Any]) -> NodeFacts:
    """Read a node; what its pods hold is counted elsewhere."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    known = set(TaintEffect)
    return NodeFacts(
        name=metadata["name"],
        labels=dict(metadata.get("labels") or {}),
        ready=_holds(conditions, "Ready"),
        schedulable=not spec.get("unschedulable"),
        taints=tuple(
            Taint(each["key"], TaintEffect(each["effect"]), each.get("value") or "")
            for each in spec.get("taints") or ()
            if each.get("effect") in known
        ),
        allocatable=_amounts(status.get("allocatable")),
    )


def seen_slice(body: Mapping[str, Any]) -> SeenSlice:
    """Read an EndpointSlice: an endpoint counts when it is ready and not on its way out.

    A Service of two address families lists each pod in both, so pods are told apart by their names. The labels of a
    slice are those of its Service, copied by Kubernetes.
    """
    ready = {
        (each.get("targetRef") or {}).get("name") or next(iter(each.get("addresses") or ("",)))
        for each in body.get("endpoints") or ()
        if (conditions := each.get("conditions") or {}).get("ready") is not False and not conditions.get("terminating")
    }
    labels, namespace = labels_of(body), body["metadata"].get("namespace", "")
    return SeenSlice(
        namespace, labels.get("kubernetes.io/service-name", ""), labels.get(names.POOL, ""), frozenset(ready)
    )
