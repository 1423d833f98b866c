"""ModelPool: tasks behind one stable endpoint, and where and how their models run.

The spec says what is wanted; the status is the only owner of what is active. Arbiter never writes a pool's spec.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AwareDatetime, Field, StringConstraints

from arbiter.api.amounts import Duration, Quantity
from arbiter.api.localmodel import Capabilities
from arbiter.api.meta import (
    LIST_ATOMIC,
    LIST_SET,
    Column,
    Conditions,
    Fraction,
    Label,
    Names,
    ObjectName,
    Part,
    ReferenceName,
    Resource,
    Rule,
    Text,
    list_map,
)
from arbiter.api.pod import Affinity, Labels, LabelSelector, Tolerations
from arbiter.api.router import Router

Revision = Annotated[
    str,
    StringConstraints(min_length=1, max_length=10),
    Rule("self.matches('^[0-9a-f]{10}$')", "must be a revision: ten hexadecimal digits, as the pool's status shows it"),
]
"""The first ten hexadecimal digits of the hash of what really runs: resolved digest and rendered pod."""


class Preference(StrEnum):
    """What matters most for a task when models are scored."""

    Quality = "Quality"
    Speed = "Speed"
    Memory = "Memory"
    Balanced = "Balanced"


class ScoreWeights(Part):
    """How much each part of a model's score counts; only their ratios matter."""

    quality: Annotated[float, Field(ge=0, le=1000)] = 0.4
    """The weight of answer quality."""

    latency: Annotated[float, Field(ge=0, le=1000)] = 0.3
    """The weight of speed."""

    memory: Annotated[float, Field(ge=0, le=1000)] = 0.1
    """The weight of memory need."""

    reliability: Annotated[float, Field(ge=0, le=1000)] = 0.1
    """The weight of the success rate."""

    recency: Annotated[float, Field(ge=0, le=1000)] = 0.1
    """The weight of how fresh the knowledge is."""

    rules: ClassVar = (
        Rule(
            "self.quality + self.latency + self.memory + self.reliability + self.recency > 0.0",
            "at least one weight must be above 0",
        ),
    )


class Needs(Part):
    """What a model must have for a task; a model that lacks any of it is left out, with the reason."""

    capabilities: Capabilities = ()
    """What the model must be able to do."""

    context_window: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Tokens that must fit into one request and its answer."""

    first_token_p95: Duration | None = None
    """The longest that 95 % of requests may wait for their first token."""

    per_token_p95: Duration | None = None
    """The longest that each further token may take in 95 % of requests."""

    min_quality: Fraction | None = None
    """The lowest quality, from 0 to 1. A model of unknown quality passes, marked unproven."""

    max_memory: Quantity | None = None
    """The most memory that the model may need, in bytes."""


class Checks(Part):
    """Prompts with expected answers, run against both sides of a swap."""

    config_map: ReferenceName
    """The ConfigMap whose key `checks.yaml` holds them."""


ModelList = Annotated[tuple[ObjectName, ...], Field(max_length=64), LIST_SET]
ModelOrder = Annotated[
    tuple[ObjectName, ...],
    Field(max_length=16),
    LIST_ATOMIC,
    Rule("self.all(m, self.exists_one(n, n == m))", "must name each model once"),
]


class Task(Part):
    """What clients ask for by name: the `model` of their requests."""

    name: ObjectName
    """The name that clients send as `model`."""

    model: ObjectName | None = None
    """The LocalModel that should serve the task; an edit requests a swap. Left out: Arbiter chooses."""

    candidates: ModelList = ()
    """LocalModels that may serve the task instead. Left out: those of the pool."""

    fallback: ModelOrder = ()
    """LocalModels that answer, in this order, when the active one cannot."""

    needs: Needs | None = None
    """What a model must have for the task. Left out: nothing in particular."""

    prefer: Preference | None = None
    """What matters most. Left out, with `weights` too: what the task's requests have shown."""

    weights: ScoreWeights | None = None
    """How much each part of the score counts, in place of `prefer`."""

    checks: Checks | None = None
    """Prompts that a new model must answer as well as the active one."""

    rules: ClassVar = (
        Rule("!(has(self.prefer) && has(self.weights))", "give prefer or weights, not both", ".weights"),
        Rule(
            "!has(self.model) || !has(self.fallback) || !(self.model in self.fallback)",
            "fallback must not name the task's own model: it is what failed",
            ".fallback",
        ),
    )


class Gpus(Part):
    """GPUs that each engine pod asks for."""

    resource: Annotated[
        str,
        StringConstraints(max_length=128),
        Rule(
            "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?$')",
            "must be an extended resource such as nvidia.com/gpu, amd.com/gpu or nvidia.com/mig-1g.10gb",
        ),
    ] = "nvidia.com/gpu"
    """The extended resource that the node's device plugin offers."""

    count: Annotated[int, Field(ge=1, le=64)] = 1
    """How many of them each engine pod gets."""


class Placement(Part):
    """Where engine pods run."""

    node_selector: Labels = Field(default_factory=dict)
    """Labels that a node must have."""

    tolerations: Tolerations = ()
    """Taints that engine pods put up with."""

    affinity: Affinity | None = None
    """Further wishes and demands, in the words of Kubernetes' pod spec."""

    gpus: Gpus | None = None
    """GPUs for each engine pod. Left out: none."""

    runtime_class_name: ReferenceName | None = None
    """The RuntimeClass of engine pods, such as nvidia. Left out: the cluster's default."""


class Capacity(Part):
    """What an engine that holds several models (Ollama) may use at once."""

    memory: Quantity | None = None
    """Memory for all loaded models together, in bytes. Left out: no bound; the node then keeps what the pool's models
    needed when the engine began."""

    max_loaded_models: Annotated[int, Field(ge=1, le=256)] | None = None
    """How many models may be loaded at once. Left out: as many as fit into memory. Models of the same weights count
    once."""


class Cache(Part):
    """Where downloaded weights are kept."""

    claim: ReferenceName
    """A PersistentVolumeClaim that outlives the engine pods."""


class ModelPoolSpec(Part):
    """Tasks behind one endpoint, and where and how their models run."""

    tasks: Annotated[tuple[Task, ...], Field(min_length=1, max_length=32), list_map("name")]
    """What clients can ask for."""

    models: ModelList | None = None
    """The LocalModels that the pool may choose from."""

    model_selector: LabelSelector | None = None
    """The same by labels, in place of `models`."""

    placement: Placement = Placement()
    """Where engine pods run."""

    capacity: Capacity = Capacity()
    """What engines that hold several models may use at once."""

    replicas: Annotated[int, Field(ge=0, le=100)] = 1
    """Engine pods of each active revision (not of shared engines); `kubectl scale` sets it."""

    preload: ModelList = ()
    """LocalModels that are loaded before anybody asks for them."""

    cache: Cache | None = None
    """Where downloaded weights are kept. Left out: with the pod, fetched anew for each."""

    router: Router = Router()
    """The endpoint."""

    swap_policy: ObjectName | None = None
    """The SwapPolicy that rules this pool's swaps. Left out: the built-in one, whose values are the defaults."""

    suspend: bool = False
    """Leave everything as it is: no new swap, no change, until this is false again."""

    rules: ClassVar = (
        Rule(
            "!(has(self.models) && has(self.modelSelector))", "give models or modelSelector, not both", ".modelSelector"
        ),
        Rule(
            "has(self.models) || has(self.modelSelector) || "
            "self.tasks.all(t, has(t.model) || (has(t.candidates) && t.candidates.size() > 0))",
            "a task without model needs candidates of its own, or the pool's models or modelSelector, to choose from",
            ".tasks",
        ),
        Rule(
            "!has(self.models) || self.tasks.all(t, !has(t.model) || t.model in self.models)",
            "models must name every task's model, or be left out",
            ".models",
        ),
    )


class Serving(Part):
    """A model as it runs for a task."""

    model: ObjectName
    """The LocalModel's name."""

    revision: Revision
    """The revision that serves."""


class Retained(Part):
    """What served a task before, and how long it is kept so that going back is quick."""

    model: ObjectName
    """The LocalModel's name."""

    revision: Revision
    """The revision."""

    hot_until: AwareDatetime
    """Until then it stays loaded, and going back is a change of route."""

    warm_until: AwareDatetime
    """Until then its weights stay where they are, and going back is a reload."""


class TaskStatus(Part):
    """What serves a task, what comes, how far, and why."""

    name: ObjectName
    """The task."""

    active: Serving | None = None
    """What serves."""

    requested: ObjectName | None = None
    """The value of `model` that has been acted on."""

    previous: Retained | None = None
    """What served before, as long as it is kept."""

    candidate: Serving | None = None
    """What is being tried."""

    weights: Label | None = None
    """Percent of new requests on active and candidate, such as `98/2 (watching)`."""

    swap: ObjectName | None = None
    """The ModelSwap in flight."""

    score: Fraction | None = None
    """The active model's score for this task, from 0 to 1."""

    reason: Label | None = None
    """Why it stands so, as a code."""

    message: Text | None = None
    """Why it stands so, as a sentence."""


class Residence(StrEnum):
    """Where a model is on its way into memory."""

    Loading = "Loading"
    Loaded = "Loaded"
    Unloading = "Unloading"
    Cached = "Cached"


class Resident(Part):
    """A model that holds memory or disk in the pool."""

    model: ObjectName
    """The LocalModel's name."""

    revision: Revision
    """The revision."""

    state: Residence
    """Loaded, on its way, or on disk only."""

    memory: Quantity | None = None
    """Memory that it holds, in bytes."""

    used_at: AwareDatetime | None = None
    """When a request last used it."""


class Rejection(Part):
    """A revision that failed for a task, so that asking for it again by the same edit does nothing."""

    task: ObjectName
    """The task."""

    revision: Revision
    """The revision that failed."""

    model: ObjectName
    """Its LocalModel."""

    reason: Label
    """Why, as a code."""

    at: AwareDatetime
    """When."""

    times: Annotated[int, Field(ge=1)] = 1
    """How often this pair was rolled back; the cooldown doubles each time."""


class PoolSummary(Part):
    """The columns of `kubectl get lmpool`."""

    serving: Text | None = None
    """What serves, by task."""

    coming: Text | None = None
    """What is being tried, by task."""

    progress: Text | None = None
    """How far the swap is."""

    why: Text | None = None
    """The reason for the least happy of these."""


class ModelPoolStatus(Part):
    """What is active, what comes, and whether it serves."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that this is about; 0: none yet, so whoever waits for the object goes on waiting."""

    conditions: Conditions = ()
    """Ready: every task is served. Degraded, Stalled, SwapProgressing, UnsafeIsolation: as their messages say."""

    tasks: Annotated[tuple[TaskStatus, ...], Field(max_length=32), list_map("name")] = ()
    """Each task."""

    residents: Annotated[tuple[Resident, ...], Field(max_length=256), list_map("revision")] = ()
    """Models that hold memory or disk."""

    rejected: Annotated[tuple[Rejection, ...], Field(max_length=128), list_map("task", "revision")] = ()
    """Revisions that failed."""

    summary: PoolSummary | None = None
    """The printed columns."""

    endpoint: Annotated[str, StringConstraints(max_length=512)] | None = None
    """The address inside the cluster."""

    replicas: Annotated[int, Field(ge=0)] | None = None
    """Ready engine pods of active revisions."""

    selector: Annotated[str, StringConstraints(max_length=512)] | None = None
    """Which pods those are, for autoscalers."""


class ModelPool(Resource):
    """A stable endpoint for one or more tasks, served by the best local model for each."""

    names: ClassVar = Names(
        plural="modelpools",
        short=("lmpool",),
        columns=(
            Column("Ready", ".status.conditions[?(@.type=='Ready')].status", "Whether every task is served."),
            Column("Serving", ".status.summary.serving", "What serves, by task."),
            Column("Coming", ".status.summary.coming", "What is being tried."),
            Column("Progress", ".status.summary.progress", "How far the swap is."),
            Column("Why", ".status.summary.why", "The reason."),
            Column("Endpoint", ".status.endpoint", "The address inside the cluster.", wide=True),
            Column("Policy", ".spec.swapPolicy", "The SwapPolicy that rules its swaps.", wide=True),
        ),
        selectable=(".spec.swapPolicy",),
        scale=(".spec.replicas", ".status.replicas", ".status.selector"),
    )

    spec: ModelPoolSpec
    """What is wanted."""

    status: ModelPoolStatus = ModelPoolStatus()
    """What is; written by Arbiter."""
