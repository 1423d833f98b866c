"""Decides what keeps an engine from serving, in words that tell a person what to do.

An ordered chain of questions about its pods; the first that knows an answer gives it. The rule: what the cluster has
not told yet is no fault, so the last answer is always that the engine starts; and no message holds what changes by
itself, such as a count of restarts, because each change is a write.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from arbiter.api.amounts import Quantity
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.facts import Room, spell_bytes
from arbiter.core.placement import inspect_nodes
from arbiter.core.snapshot import PodPhase
from arbiter.engines.runnable import FETCH_CONTAINER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime
    from typing import Any

    from arbiter.api.modelpool import Placement
    from arbiter.core.facts import NodeFacts
    from arbiter.core.placement import Finding
    from arbiter.core.snapshot import EngineView, PodView

_MOST_NAMED: Final = 3
"""Nodes that one sentence names; a task's message holds 1024 characters."""

_ROOM: Final = timedelta(seconds=30)
"""When to look again at what keeps a pod from a node: other pods come and go, and that concerns no pool by itself."""

_LONGEST_QUOTE: Final = 400
"""Characters of somebody else's words that one sentence repeats."""

_NO_IMAGE: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_NO_CONTAINER: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_CRASHED: Final = "CrashLoopBackOff"

STUCK: Final = frozenset({
    ReasonCode.CapabilityMissing,
    ReasonCode.ContextWindowTooSmall,
    ReasonCode.EngineCrashed,
    ReasonCode.EngineMisconfigured,
    ReasonCode.FetchFailed,
    ReasonCode.FrozenFormLost,
    ReasonCode.ImageNotPulled,
    ReasonCode.LoadFailed,
    ReasonCode.MemoryAboveCapacity,
    ReasonCode.MemoryAboveNeed,
    ReasonCode.ModelDeprecated,
    ReasonCode.ModelNotFound,
    ReasonCode.ModelNotRunnable,
    ReasonCode.NameTaken,
    ReasonCode.NoAnswer,
    ReasonCode.NothingToChoose,
    ReasonCode.PodsRefused,
    ReasonCode.StartedTooSlowly,
})  # fmt: skip
"""Reasons that time alone hardly mends; after a while an object that has one of them is Stalled."""


GOES_ON: Final = frozenset({
    ReasonCode.Downloading,
    ReasonCode.EngineApplied,
    ReasonCode.EngineStarting,
    ReasonCode.LoadingModel,
    ReasonCode.ModelNotReady,
    ReasonCode.RoutersBehind,
    ReasonCode.RoutersStarting,
    ReasonCode.WaitingForAnswer,
})  # fmt: skip
"""Reasons that pass by themselves when all goes well; nobody has to be warned of them."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the pods of one engine ask of the cluster.

    Attributes:
        placement: where they run.
        memory: bytes that each asks of a node; None if it asks for none, or that is not known.
        gpu_memory: bytes that must fit on its GPUs.
        startup_s: seconds that it may take from its start until it is ready.
    """

    placement: Placement
    memory: int | None
    gpu_memory: int | None
    startup_s: int


@dataclass(frozen=True, slots=True)
class Ailment:
    """What keeps an engine from serving.

    Attributes:
        reason: why, for people too.
        look_again: when time alone may change that.
    """

    reason: Reason
    look_again: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Case:
    """One engine, and what its questions may look at."""

    name: str
    pods: tuple[PodView, ...]
    all_pods: tuple[PodView, ...]
    deployment: Mapping[str, Any]
    asked: Asked
    nodes: tuple[NodeFacts, ...]
    now: datetime


def explain(
    view: EngineView, deployment: Mapping[str, Any], asked: Asked, nodes: tuple[NodeFacts, ...], now: datetime
) -> Ailment:
    """Say why an engine is not ready."""
    living = [pod for pod in view.pods if not pod.deleting and pod.phase not in {PodPhase.FAILED, PodPhase.SUCCEEDED}]
    waiting = tuple(sorted((pod for pod in living if not pod.ready), key=lambda pod: (pod.created_at, pod.name)))
    case = _Case(view.name, waiting, view.pods, deployment, asked, nodes, now)
    return next(ailment for question in _QUESTIONS if (ailment := question(case)) is not None)


def requested(pod: Mapping[str, Any], resource: str) -> Quantity | None:
    """Give what a pod's serving container asks of a resource of its node; None if it asks for none."""
    for container in pod.get("containers", ()):
        amounts = container.get("resources", {})
        for part in ("requests", "limits"):
            if (amount := amounts.get(part, {}).get(resource)) is not None:
                return Quantity.parse(str(amount))
    return None


def quoted(words: str) -> str:
    """Repeat somebody else's words on one line and not at length."""
    line = " ".join(words.split())
    return line if len(line) <= _LONGEST_QUOTE else line[: _LONGEST_QUOTE - 1] + "…"


def _pods_are_refused(case: _Case) -> Ailment | None:
    if case.pods:
        return None
    conditions = case.deployment.get("status", {}).get("conditions", ())
    refusal = next(
        (each for each in conditions if each.get("type") == "ReplicaFailure" and each.get("status") == "True"), None
    )
    if refusal is None:
        return None
    return _said(
        ReasonCode.PodsRefused,
        f"the cluster refuses the pods of {case.name}: {quoted(refusal.get('message', ''))}",
    )


def _image_is_missing(case: _Case) -> Ailment | None:
    pod = _first(case, lambda pod: pod.waiting in _NO_IMAGE)
    if pod is None:
        return None
    return _said(
        ReasonCode.ImageNotPulled,
        f"the image of container {pod.waiting_container} of {case.name} cannot be pulled, so check its name and the "
        f"pull secret: {quoted(pod.waiting_message or pod.waiting)}",
    )


def _container_cannot_be_made(case: _Case) -> Ailment | None:
    pod = _first(case, lambda pod: pod.waiting in _NO_CONTAINER)
    if pod is None:
        return None
    return _said(
        ReasonCode.EngineMisconfigured,
        f"container {pod.waiting_container} of {case.name} cannot be made: "
        f"{quoted(pod.waiting_message or pod.waiting)}",
    )


def _engine_crashes(case: _Case) -> Ailment | None:
    pod = _first(case, lambda pod: pod.waiting == _CRASHED or (pod.restarts > 0 and bool(pod.last_exit)))
    if pod is None or pod.fetching:  # bytes come again, so what broke off before is no news
        return None
    code = "" if pod.last_exit is None else f" with exit code {pod.last_exit}"
    hint = ", which is how the kernel ends what uses more memory than its limit" if pod.last_exit == 137 else ""
    words = f": {quoted(pod.last_message)}" if pod.last_message else "; its log says more"
    if FETCH_CONTAINER in {pod.waiting_container, pod.last_container}:
        return _said(ReasonCode.FetchFailed, f"the weights for {case.name} could not be fetched{words}")
    return _said(ReasonCode.EngineCrashed, f"{case.name} ends after its start{code}{hint}{words}")


def _nothing_takes_it(case: _Case) -> Ailment | None:
    pod = _first(case, lambda pod: bool(pod.unschedulable))
    if pod is None:
        return None
    code, findings = _obstacle(case)
    if findings is None:
        words = f"the scheduler finds no node for {case.name}: {quoted(pod.unschedulable)}"
        return Ailment(Reason(code, words), case.now + _ROOM)
    lacks = [f"node {finding.node} {' and '.join(finding.lacks)}" for finding in findings[:_MOST_NAMED]]
    more = [f"and {len(findings) - _MOST_NAMED} more"] if len(findings) > _MOST_NAMED else []
    words = f"no node can take {case.name}: {'; '.join((*lacks, *more))}"
    return Ailment(Reason(code, words), case.now + _ROOM)


def _obstacle(case: _Case) -> tuple[ReasonCode, tuple[Finding, ...] | None]:
    """Tell what stands in the way first: whether a node may be used at all, then its GPUs, then its memory."""
    asked = case.asked
    bare = asked.placement.model_copy(update={"gpus": None})
    for code, placement, room in (
        (ReasonCode.WaitingForNode, bare, Room()),
        (ReasonCode.WaitingForGPU, asked.placement, Room(gpu_memory=asked.gpu_memory)),
        (ReasonCode.WaitingForMemory, asked.placement, Room(asked.memory, asked.gpu_memory)),
    ):
        findings = inspect_nodes(placement, room, case.nodes)
        if findings and not any(finding.fits for finding in findings):
            return code, _nearest(findings, case)
    return ReasonCode.WaitingForNode, None


def _nearest(findings: tuple[Finding, ...], case: _Case) -> tuple[Finding, ...]:
    """Put first the nodes that lack least: they are what a person can do something about."""
    named = {node.name for node in case.nodes}
    return tuple(
        sorted((each for each in findings if each.node in named), key=lambda each: (len(each.lacks), each.node))
    )


def _was_evicted(case: _Case) -> Ailment | None:
    evicted = max((pod for pod in case.all_pods if pod.evicted), key=lambda pod: pod.created_at, default=None)
    if evicted is None:
        return None
    return _said(
        ReasonCode.PodEvicted, f"a pod of {case.name} was evicted, and another one starts: {quoted(evicted.evicted)}"
    )


def _is_too_slow(case: _Case) -> Ailment | None:
    oldest = case.pods[0] if case.pods else None
    if oldest is None or case.now < oldest.created_at + timedelta(seconds=case.asked.startup_s):
        return None
    return _said(
        ReasonCode.StartedTooSlowly,
        f"{case.name} is not ready {_minutes(case.asked.startup_s)} after its start; see the pod's log, give it more "
        "memory or CPU, or raise spec.engine.startupDeadline of a new LocalModel",
    )


def _is_downloading(case: _Case) -> Ailment | None:
    pod = _first(case, lambda pod: bool(pod.fetching) and pod.fetched is not None)
    if pod is None:
        return None
    return replace(
        _starting(case),
        reason=Reason(ReasonCode.Downloading, f"{case.name} downloads its weights: {progress(pod)}"),
    )


def progress(pod: PodView) -> str:
    """Say how far a download is, so that it is not written at every byte."""
    return share(pod.fetched or 0, pod.fetching or 1)


def share(have: int, whole: int) -> str:
    """Say which share of how many bytes is there, in steps of five percent."""
    return f"{min(have * 20 // whole, 20) * 5} % of {spell_bytes(whole)}"


def _starting(case: _Case) -> Ailment:
    oldest = case.pods[0] if case.pods else None
    if oldest is None:
        return _said(ReasonCode.EngineStarting, f"{case.name} has no pods yet")
    where = f" on node {oldest.node}" if oldest.node else ""
    deadline = oldest.created_at + timedelta(seconds=case.asked.startup_s)
    return Ailment(
        Reason(ReasonCode.EngineStarting, f"{case.name} starts{where}"), deadline if deadline > case.now else None
    )


def _minutes(seconds: int) -> str:
    return f"{seconds} seconds" if seconds < 120 else f"{seconds // 60} minutes"


def _first(case: _Case, holds: Callable[[PodView], bool]) -> PodView | None:
    found: Iterable[PodView] = (pod for pod in case.pods if holds(pod))
    return next(iter(found), None)


def _said(code: ReasonCode, message: str) -> Ailment:
    return Ailment(Reason(code, message))


_QUESTIONS: tuple[Callable[[_Case], Ailment | None], ...] = (
    _pods_are_refused,
    _image_is_missing,
    _container_cannot_be_made,
    _engine_crashes,
    _nothing_takes_it,
    _is_too_slow,
    _was_evicted,
    _is_downloading,
    _starting,
)
