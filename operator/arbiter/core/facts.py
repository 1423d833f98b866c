"""What a decision may know about models and nodes, as values.

The rule: a fact that has not been found out is None, never a zero or an empty set, so that no decision can mistake
"unknown" for "none". Memory is in bytes, other resources in Kubernetes' base units (whole GPUs, pods).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.api.localmodel import EngineType
    from arbiter.api.pod import TaintEffect


@dataclass(frozen=True, slots=True)
class Record:
    """How a revision fared on a task.

    Attributes:
        samples: requests seen; fractional once old ones count for less.
        successes: those that succeeded.
    """

    samples: float
    successes: float

    @property
    def success_rate(self) -> float:
        """The share of requests that succeeded; 0 without requests."""
        return self.successes / self.samples if self.samples else 0.0


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A LocalModel as far as it is known.

    Attributes:
        name: the LocalModel's name.
        revision: what of it runs or would run; None until its source is resolved.
        engine: the server that runs it; None until it is inferred.
        capabilities: what it can do; None until they are discovered.
        context_window: tokens in one request and its answer.
        memory: bytes that the running model needs, on its GPUs if it gets some.
        pod_memory: bytes that its engine pod asks of a node, if the LocalModel sets them; None: as much as `memory`.
        pod_cpu: thousandths of a core that it asks of a node; None: none.
        license: SPDX identifier, or the address of a licence.
        deprecated: why it should no longer be used.
        record: how it fared on the task; None if it was never seen there.
    """

    name: str
    revision: str | None = None
    engine: EngineType | None = None
    capabilities: frozenset[str] | None = None
    context_window: int | None = None
    memory: int | None = None
    pod_memory: int | None = None
    pod_cpu: int | None = None
    license: str | None = None
    deprecated: str | None = None
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Taint:
    """What keeps pods off a node unless they tolerate it.

    Attributes:
        key: its key.
        effect: what it does to pods.
        value: its value, often empty.
    """

    key: str
    effect: TaintEffect
    value: str = ""

    def __str__(self) -> str:
        return f"{self.key}{'=' if self.value else ''}{self.value}:{self.effect}"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node, and what of it is taken.

    Attributes:
        name: its name.
        labels: its labels, among them those that describe its GPUs.
        ready: whether its kubelet says that it can run pods.
        schedulable: whether it is not cordoned.
        taints: what keeps pods off it.
        allocatable: amounts for pods, by resource; of cores thousandths.
        requested: amounts that all pods bound to it ask for, by resource.
        held_by_active: the part of `requested` that pods of the active revision give back when they go.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ready: bool = True
    schedulable: bool = True
    taints: tuple[Taint, ...] = ()
    allocatable: Mapping[str, int] = field(default_factory=dict)
    requested: Mapping[str, int] = field(default_factory=dict)
    held_by_active: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Room:
    """What one engine pod takes up.

    Attributes:
        memory: bytes that it asks of a node; None if that is not known, or nothing is asked.
        gpu_memory: bytes that must fit on its GPUs together; None without GPUs, or if that is not known.
        cpu: thousandths of a core that it asks of a node; None if nothing is asked.
    """

    memory: int | None = None
    gpu_memory: int | None = None
    cpu: int | None = None


CPU: Final = "cpu"
"""The resource that is counted in thousandths."""


def spell_bytes(count: int) -> str:
    """Write bytes as a quantity with at most two decimals, such as `512Mi` or `1.5Gi`."""
    for power, suffix in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
        if count >= 1024**power:
            return f"{count / 1024**power:.2f}".rstrip("0").rstrip(".") + suffix
    return str(count)
