"""Decides which nodes can take an engine pod, and what each other node lacks.

It asks what the scheduler will ask (readiness, taints, node selector, required node affinity, room for requests),
and one thing more that the scheduler cannot see: whether the model fits on the node's GPUs. Every node is asked
everything, so that a person reads all that is missing at once. Pod affinity, spreading and preferences are left to
the scheduler: they depend on pods that come and go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from arbiter.api.pod import NodeRequirement, NodeSelectorOperator, TaintEffect, TolerationOperator
from arbiter.core.facts import CPU, spell_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from arbiter.api.modelpool import Gpus, Placement
    from arbiter.api.pod import NodeSelectorTerm, Toleration
    from arbiter.core.facts import NodeFacts, Room, Taint

_MIB = 1024**2
_GIB = 1024**3

_AMD_VRAM = ("amd.com/gpu.vram", "beta.amd.com/gpu.vram")
_AMD_SIZE = re.compile(r"([0-9]+)([GM])")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one node says to an engine pod.

    Attributes:
        node: its name.
        lacks: what stands against it, each as words that follow the node's name.
        unknown: what could not be found out about it, each as words that follow "the".
    """

    node: str
    lacks: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether nothing known stands against it."""
        return not self.lacks


@dataclass(frozen=True, slots=True)
class _Question:
    """One node, the placement and the room that are asked for."""

    node: NodeFacts
    placement: Placement
    room: Room

    def free(self, resource: str) -> int | None:
        """What of a resource is left on the node; None if the node does not offer it."""
        offered = self.node.allocatable.get(resource)
        return None if offered is None else offered - self.node.requested.get(resource, 0)


def inspect_nodes(placement: Placement, room: Room, nodes: Iterable[NodeFacts]) -> tuple[Finding, ...]:
    """Ask every node whether it can take an engine pod, in the order of their names."""
    ordered = sorted(nodes, key=lambda node: node.name)
    return tuple(_inspect(_Question(node, placement, room)) for node in ordered)


def without_active(node: NodeFacts) -> NodeFacts:
    """Give the node as it will be once the pods of the active revision are gone."""
    held = node.held_by_active
    return replace(
        node,
        requested={resource: amount - held.get(resource, 0) for resource, amount in node.requested.items()},
        held_by_active={},
    )


def gpu_memory(resource: str, labels: Mapping[str, str]) -> int | None:
    """Tell how many bytes one GPU of `resource` has, from the labels of its node; None if they do not say.

    NVIDIA's feature discovery gives MiB by GPU or MIG profile. Where GPUs are shared it gives the whole GPU's, so
    that is divided by the replicas that share it. AMD's labeller gives "16G" as a value, or in the key itself if the
    node has several kinds; then the smallest counts, because the scheduler may pick any.
    """
    if resource.startswith("nvidia.com/"):
        return _nvidia_memory(resource, labels)
    if resource.startswith("amd.com/"):
        return _amd_memory(labels)
    return None


def _nvidia_memory(resource: str, labels: Mapping[str, str]) -> int | None:
    kind = resource.removesuffix(".shared")
    memory = _whole_number(labels.get(f"{kind}.memory"))
    shared = resource.endswith(".shared") or labels.get(f"{kind}.product", "").endswith("-SHARED")
    replicas = _whole_number(labels.get(f"{kind}.replicas")) if shared else 1
    return memory * _MIB // replicas if memory and replicas else None


def _amd_memory(labels: Mapping[str, str]) -> int | None:
    sizes = [labels[key] for key in _AMD_VRAM if key in labels]
    for key in labels:
        sizes += [key.removeprefix(f"{known}.") for known in _AMD_VRAM if key.startswith(f"{known}.")]
    matches = [match for size in sizes if (match := _AMD_SIZE.fullmatch(size))]
    return min((int(match[1]) * (_GIB if match[2] == "G" else _MIB) for match in matches), default=None)


def _whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text) else None


def _inspect(question: _Question) -> Finding:
    lacks: list[str] = []
    unknown: list[str] = []
    for ask in _QUESTIONS:
        missing, unclear = ask(question)
        lacks += missing
        unknown += unclear
    return Finding(question.node.name, tuple(lacks), tuple(unknown))


_Answer = tuple[list[str], list[str]]
"""What the node lacks, and what is not known of it."""


def _is_ready(question: _Question) -> _Answer:
    return [] if question.node.ready else ["is not ready"], []


def _is_schedulable(question: _Question) -> _Answer:
    return [] if question.node.schedulable else ["is cordoned"], []


def _is_tolerated(question: _Question) -> _Answer:
    tolerations = question.placement.tolerations
    barring = [taint for taint in question.node.taints if taint.effect != TaintEffect.PreferNoSchedule]
    return [
        f"has the taint {taint}, which placement.tolerations does not cover"
        for taint in barring
        if not any(_tolerates(toleration, taint) for toleration in tolerations)
    ], []


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect is not None and toleration.effect != taint.effect:
        return False
    if toleration.key is not None and toleration.key != taint.key:
        return False
    if toleration.operator == TolerationOperator.Exists:
        return True
    return toleration.key is not None and (toleration.value or "") == taint.value


def _is_selected(question: _Question) -> _Answer:
    return [
        f"lacks the label {key}={value} of placement.nodeSelector"
        for key, value in sorted(question.placement.node_selector.items())
        if question.node.labels.get(key) != value
    ], []


def _meets_affinity(question: _Question) -> _Answer:
    affinity = question.placement.affinity
    required = (
        affinity.node_affinity.required_during_scheduling_ignored_during_execution
        if affinity is not None and affinity.node_affinity is not None
        else None
    )
    if required is None or any(_term_holds(term, question.node) for term in required.node_selector_terms):
        return [], []
    return ["does not meet the node affinity that placement.affinity requires"], []


def _term_holds(term: NodeSelectorTerm, node: NodeFacts) -> bool:
    """All conditions of a term must hold; a term without conditions chooses no node, as in Kubernetes."""
    fields = {"metadata.name": node.name}
    outcomes = [_holds(requirement, node.labels) for requirement in term.match_expressions]
    outcomes += [_holds(requirement, fields) for requirement in term.match_fields]
    return bool(outcomes) and all(outcomes)


def _holds(requirement: NodeRequirement, labels: Mapping[str, str]) -> bool:
    actual = labels.get(requirement.key)
    match requirement.operator:
        case NodeSelectorOperator.In:
            return actual in requirement.values
        case NodeSelectorOperator.NotIn:
            return actual not in requirement.values
        case NodeSelectorOperator.Exists:
            return actual is not None
        case NodeSelectorOperator.DoesNotExist:
            return actual is None
        case NodeSelectorOperator.Gt | NodeSelectorOperator.Lt:
            return _compares(actual, requirement)


def _compares(actual: str | None, requirement: NodeRequirement) -> bool:
    """Compare whole numbers; what is not one matches nothing, as in Kubernetes."""
    have, bound = _integer(actual), _integer(requirement.values[0] if len(requirement.values) == 1 else None)
    if have is None or bound is None:
        return False
    return have > bound if requirement.operator == NodeSelectorOperator.Gt else have < bound


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None


def _has_gpus(question: _Question) -> _Answer:
    gpus = question.placement.gpus
    if gpus is None:
        return [], []
    free = question.free(gpus.resource)
    if free is None:
        return [f"has no {gpus.resource}"], []
    return [] if free >= gpus.count else [f"has {max(free, 0)} of {gpus.count} {gpus.resource} free"], []


def _has_gpu_memory(question: _Question) -> _Answer:
    gpus, needed = question.placement.gpus, question.room.gpu_memory
    if gpus is None or needed is None or not question.node.allocatable.get(gpus.resource):
        return [], []
    each = gpu_memory(gpus.resource, question.node.labels)
    if each is None:
        return [], [f"memory of its {gpus.resource}"]
    if each * gpus.count >= needed:
        return [], []
    return [f"has {_spell_gpus(each, gpus)}, {spell_bytes(needed)} is needed"], []


def _spell_gpus(each: int, gpus: Gpus) -> str:
    if gpus.count == 1:
        return f"{spell_bytes(each)} of memory on a {gpus.resource}"
    return f"{spell_bytes(each * gpus.count)} of memory on {gpus.count} {gpus.resource}"


def _has_memory(question: _Question) -> _Answer:
    needed = question.room.memory
    if needed is None:
        return [], []
    free = question.free("memory")
    if free is None:
        return [], ["memory that it offers to pods"]
    return [] if free >= needed else [
        f"has {spell_bytes(max(free, 0))} of memory free, {spell_bytes(needed)} is needed"
    ], []


def _has_cpu(question: _Question) -> _Answer:
    needed = question.room.cpu
    free = question.free(CPU)
    if needed is None or free is None or free >= needed:
        return [], []
    return [f"has {max(free, 0) / 1000:g} cores free, {needed / 1000:g} are needed"], []


_QUESTIONS: tuple[Callable[[_Question], _Answer], ...] = (
    _is_ready,
    _is_schedulable,
    _is_tolerated,
    _is_selected,
    _meets_affinity,
    _has_gpus,
    _has_gpu_memory,
    _has_memory,
    _has_cpu,
)
