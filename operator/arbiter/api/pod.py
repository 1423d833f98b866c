"""The parts of a pod that a user may set, in Kubernetes' own words and shapes.

Only what Arbiter passes on unchanged stands here. It is spelled out instead of left open, so that a misspelt field
is refused when it is applied and not when a pod fails to start.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from arbiter.api.amounts import Quantity
from arbiter.api.meta import LIST_ATOMIC, Part, ReferenceName, Rule, list_map

LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=317)]
LabelValue = Annotated[str, StringConstraints(max_length=63)]
Labels = Annotated[dict[str, LabelValue], Field(max_length=64)]


class TolerationOperator(StrEnum):
    """How a toleration compares its key with a taint's."""

    Exists = "Exists"
    Equal = "Equal"


class TaintEffect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NoSchedule = "NoSchedule"
    PreferNoSchedule = "PreferNoSchedule"
    NoExecute = "NoExecute"


class Toleration(Part):
    """A taint that the pods put up with."""

    key: Annotated[str, StringConstraints(max_length=317)] | None = None
    """The taint's key; left out with operator Exists: every taint."""

    operator: TolerationOperator = TolerationOperator.Equal
    """Exists matches any value; Equal compares `value`."""

    value: LabelValue | None = None
    """The taint's value; only with operator Equal."""

    effect: TaintEffect | None = None
    """The taint's effect; left out: every effect."""

    toleration_seconds: Annotated[int, Field(ge=0)] | None = None
    """Seconds that a pod stays after a NoExecute taint appeared; left out: for ever."""

    rules: ClassVar = (
        Rule(
            "self.operator != 'Exists' || !has(self.value)",
            "value must be left out with operator Exists",
            ".value",
        ),
        Rule(
            "self.operator == 'Exists' || has(self.key)",
            "key must be given with operator Equal; to tolerate every taint write operator: Exists",
            ".key",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds means something with effect NoExecute only",
            ".tolerationSeconds",
        ),
    )


class SelectorOperator(StrEnum):
    """How a label is compared."""

    In = "In"
    NotIn = "NotIn"
    Exists = "Exists"
    DoesNotExist = "DoesNotExist"


class LabelRequirement(Part):
    """A condition on one label."""

    key: LabelKey
    """The label's key."""

    operator: SelectorOperator
    """How the label is compared with `values`."""

    values: Annotated[tuple[LabelValue, ...], Field(max_length=64), LIST_ATOMIC] = ()
    """The values; at least one with In and NotIn, none with Exists and DoesNotExist."""

    rules: ClassVar = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
            "values must hold at least one value with In and NotIn, and none with Exists and DoesNotExist",
            ".values",
        ),
    )


class LabelSelector(Part):
    """A choice of objects by their labels; all conditions must hold."""

    match_labels: Labels = Field(default_factory=dict)
    """Labels with the values that they must have."""

    match_expressions: Annotated[tuple[LabelRequirement, ...], Field(max_length=32), LIST_ATOMIC] = ()
    """Further conditions on labels."""


class NodeSelectorOperator(StrEnum):
    """How a node's label or field is compared."""

    In = "In"
    NotIn = "NotIn"
    Exists = "Exists"
    DoesNotExist = "DoesNotExist"
    Gt = "Gt"
    Lt = "Lt"


class NodeRequirement(Part):
    """A condition on one label or field of a node."""

    key: LabelKey
    """The label's or field's key."""

    operator: NodeSelectorOperator
    """How it is compared with `values`."""

    values: Annotated[tuple[LabelValue, ...], Field(max_length=64), LIST_ATOMIC] = ()
    """The values; one integer with Gt and Lt."""


class NodeSelectorTerm(Part):
    """A choice of nodes; all conditions of a term must hold."""

    match_expressions: Annotated[tuple[NodeRequirement, ...], Field(max_length=32), LIST_ATOMIC] = ()
    """Conditions on the node's labels."""

    match_fields: Annotated[tuple[NodeRequirement, ...], Field(max_length=8), LIST_ATOMIC] = ()
    """Conditions on the node's fields."""


class NodeSelector(Part):
    """Terms of which one must hold."""

    node_selector_terms: Annotated[tuple[NodeSelectorTerm, ...], Field(min_length=1, max_length=16), LIST_ATOMIC]
    """The terms."""


Weight = Annotated[int, Field(ge=1, le=100)]


class PreferredNodes(Part):
    """Nodes that are preferred with a weight."""

    weight: Weight
    """How much they are preferred, from 1 to 100."""

    preference: NodeSelectorTerm
    """The nodes."""


class NodeAffinity(Part):
    """Which nodes the pods must or should run on."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    """Where the pods must run."""

    preferred_during_scheduling_ignored_during_execution: Annotated[
        tuple[PreferredNodes, ...], Field(max_length=16), LIST_ATOMIC
    ] = ()
    """Where the pods should rather run."""


class PodAffinityTerm(Part):
    """Pods that others should be near to or far from."""

    topology_key: LabelKey
    """The node label that says what is near, such as `kubernetes.io/hostname`."""

    label_selector: LabelSelector | None = None
    """Which pods."""

    namespaces: Annotated[tuple[LabelValue, ...], Field(max_length=32), LIST_ATOMIC] = ()
    """Where those pods live; left out: this namespace."""


class PreferredPods(Part):
    """Pods whose nearness or distance is preferred with a weight."""

    weight: Weight
    """How much it is preferred, from 1 to 100."""

    pod_affinity_term: PodAffinityTerm
    """The pods."""


class PodAffinity(Part):
    """Which pods to be near to, or far from."""

    required_during_scheduling_ignored_during_execution: Annotated[
        tuple[PodAffinityTerm, ...], Field(max_length=16), LIST_ATOMIC
    ] = ()
    """What must hold."""

    preferred_during_scheduling_ignored_during_execution: Annotated[
        tuple[PreferredPods, ...], Field(max_length=16), LIST_ATOMIC
    ] = ()
    """What should rather hold."""


class Affinity(Part):
    """Where pods run, in the words of Kubernetes' own pod spec."""

    node_affinity: NodeAffinity | None = None
    """Nodes to run on."""

    pod_affinity: PodAffinity | None = None
    """Pods to be near to."""

    pod_anti_affinity: PodAffinity | None = None
    """Pods to be far from."""


Amounts = Annotated[dict[str, Quantity], Field(max_length=16)]


class ResourceRequirements(Part):
    """What a container is given: amounts by resource, such as `cpu: 2`, `memory: 8Gi`."""

    requests: Amounts = Field(default_factory=dict)
    """What is set aside for the container."""

    limits: Amounts = Field(default_factory=dict)
    """What the container may use at most."""


class KeySelector(Part):
    """One key of a Secret or ConfigMap."""

    name: ReferenceName
    """The object's name."""

    key: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    """The key in it."""


class EnvSource(Part):
    """Where an environment variable's value comes from."""

    secret_key_ref: KeySelector | None = None
    """A Secret's key."""

    config_map_key_ref: KeySelector | None = None
    """A ConfigMap's key."""

    rules: ClassVar = (
        Rule(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "give exactly one of secretKeyRef and configMapKeyRef",
        ),
    )


class EnvVar(Part):
    """An environment variable of an engine's container."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    """The variable's name."""

    value: Annotated[str, StringConstraints(max_length=4096)] | None = None
    """The value as it stands; left out with `valueFrom`: from there; left out altogether: empty."""

    value_from: EnvSource | None = None
    """Where the value comes from."""

    rules: ClassVar = (
        Rule("!(has(self.value) && has(self.valueFrom))", "give value or valueFrom, not both", ".valueFrom"),
    )


EnvVars = Annotated[tuple[EnvVar, ...], Field(max_length=64), list_map("name")]
Tolerations = Annotated[tuple[Toleration, ...], Field(max_length=32), LIST_ATOMIC]
