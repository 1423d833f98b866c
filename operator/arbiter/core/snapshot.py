"""Everything that a pass may know about one pool or model, as it was seen a moment ago.

Rule: a snapshot is put together without asking anybody: watches, scrapes and jobs have filled what it is made of. What
has not been found out is None or absent, and no decision may take that for "no".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from arbiter.api.swappolicy import DEFAULT_POLICY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    from arbiter.api.localmodel import LocalModel
    from arbiter.api.modelpool import ModelPool
    from arbiter.api.modelswap import ModelSwap
    from arbiter.api.swappolicy import SwapPolicy, SwapPolicySpec
    from arbiter.core.actions import ObjectKey
    from arbiter.core.facts import NodeFacts
    from arbiter.core.feed import Feed
    from arbiter.core.routes import RouteTable
    from arbiter.engines.runnable import EngineSettings


@dataclass(frozen=True, slots=True)
class Standing:
    """An object that stands in the namespace under a name that we use.

    Attributes:
        key: which.
        uid: of this very object.
        owner: uid of the object that controls it; empty when nobody does. Only what the pool or model at hand
            controls is ours.
        body: as the API server told it, not to be changed.
        deleting: it is on its way out.
    """

    key: ObjectKey
    uid: str
    owner: str
    body: Mapping[str, Any]
    deleting: bool = False


class PodPhase(StrEnum):
    """Where a pod is in its life, in Kubernetes' words."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod of an engine, a router or a resolver.

    Attributes:
        name: its name.
        phase: where it is in its life.
        ready: it takes requests.
        deleting: it is on its way out.
        address: its IP address; empty before it has one.
        node: where it was put; empty when it was not.
        created_at: when it was made.
        unschedulable: why the scheduler cannot put it anywhere, in its words; empty when it can or has not tried.
        waiting: why a container does not run, such as `ImagePullBackOff`; empty when all do.
        waiting_message: the same in the kubelet's words.
        waiting_container: which container that is.
        restarts: of all its containers.
        last_exit: exit code of the last container that ended; None when none has.
        last_message: what it left as its last words; empty without any.
        last_container: which container that is.
        evicted: the kubelet or the scheduler threw it out, in their words; empty otherwise.
        fetched: bytes that its init container has downloaded; None when it does not download or did not say.
        fetching: bytes in all, the same.
        uid: of this very pod.
    """

    name: str
    phase: PodPhase
    ready: bool
    deleting: bool
    address: str
    node: str
    created_at: datetime
    unschedulable: str = ""
    waiting: str = ""
    waiting_message: str = ""
    waiting_container: str = ""
    restarts: int = 0
    last_exit: int | None = None
    last_message: str = ""
    last_container: str = ""
    evicted: str = ""
    fetched: int | None = None
    fetching: int | None = None
    uid: str = ""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that a shared engine holds in memory.

    Attributes:
        name: as that engine knows it.
        digest: of its weights.
        memory: bytes that it holds, on GPUs or not.
    """

    name: str
    digest: str
    memory: int


@dataclass(frozen=True, slots=True)
class EngineView:
    """The servers of one revision, or of a pool's shared engine.

    Attributes:
        name: of its Deployment and Service.
        pods: those that stand.
        ready_endpoints: addresses that its Service sends requests to.
        loaded: what a shared engine holds in memory; None when it is not shared or was not asked yet.
        stored: what it has on disk, by the name that it knows it by, with the digest; None the same.
        idle: no pod computes anything, as they say themselves; None where one cannot say, or is not asked because
            nobody waits for that.
    """

    name: str
    pods: tuple[PodView, ...] = ()
    ready_endpoints: int = 0
    loaded: tuple[LoadedModel, ...] | None = None
    stored: Mapping[str, str] | None = None
    idle: bool | None = None


@dataclass(frozen=True, slots=True)
class RouterView:
    """One router of the pool.

    Attributes:
        pod: its pod.
        epoch: of the table that all its workers obey; None while they differ, or before it was asked.
        generation: the same.
        hash: the same.
        fence: highest epoch that any of its workers has obeyed; a table below it is refused.
        refused: why it refused the newest table; empty when it did not.
        read_at: when that was read; None when it never could be.
        silent: it did not answer when it was asked last, and the time before.
        in_flight: requests that it is serving, by revision; None the same.
        feed: what it has counted; None the same, and while no swap of the pool moves requests.
    """

    pod: PodView
    epoch: int | None = None
    generation: int | None = None
    hash: str = ""
    fence: int | None = None
    refused: str = ""
    read_at: datetime | None = None
    silent: bool = False
    in_flight: Mapping[str, int] | None = None
    feed: Feed | None = None


@dataclass(frozen=True, slots=True)
class JobResult:
    """What has become of a job.

    Attributes:
        key: as it was started with.
        running: it has not ended.
        ok: it has, and well.
        at: when it ended, or began if it runs.
        reply: what the server said, as JSON; None without an answer.
        status: HTTP status of that; 0 without an answer.
        problem: what went wrong, as a sentence; empty otherwise.
        attempts: how often it was tried in a row without success.
    """

    key: str
    running: bool
    ok: bool
    at: datetime
    reply: Mapping[str, Any] | None = None
    status: int = 0
    problem: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """What the operator was started with.

    Attributes:
        image: of `arbiter` itself, for routers, resolvers and downloads.
        engines: images of model servers and how they are pulled.
        namespace: where the operator runs, for network policies.
        epoch: of this leadership: it goes into every table.
        cluster_domain: behind the names of Services.
        plain_http: registries of models that are asked without TLS, as `host:port`.
    """

    image: str
    engines: EngineSettings
    namespace: str
    epoch: int
    cluster_domain: str = "cluster.local"
    plain_http: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """What is known about one LocalModel.

    Attributes:
        model: the object.
        standing: objects of its namespace under names that we use for it.
        resolver: the pods of its resolver Job.
        used_by: tasks that use it, by pool.
        settings: of the operator.
    """

    model: LocalModel
    standing: Mapping[ObjectKey, Standing]
    resolver: tuple[PodView, ...]
    used_by: Mapping[str, tuple[str, ...]]
    settings: OperatorSettings


@dataclass(frozen=True, slots=True)
class PolicySnapshot:
    """What is known about one SwapPolicy.

    Attributes:
        policy: the object.
        pools: the pools that name it, by name.
    """

    policy: SwapPolicy
    pools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """What is known about one ModelPool.

    Attributes:
        pool: the object.
        models: the LocalModels of its namespace, by name.
        standing: objects of its namespace under names that we use for it, and all that it controls.
        engines: by the name of their Deployment.
        routers: those whose pods stand.
        nodes: of the cluster.
        jobs: by their key.
        table: the one that its ConfigMap holds; None when there is none that can be read.
        settings: of the operator.
        carriers: the pods of Jobs that carry models into its shared engine, by the name of the Job.
        same_claim: other pools of its namespace that keep their models in the same claim.
        swaps: the ModelSwaps that name the pool, those that have ended included.
        policy: that rules its swaps; None where the one that it names is not there.
        checks: the text of `checks.yaml` in each ConfigMap that a task names; None for one that has no such text. What
            has not been read yet is not in it.
    """

    pool: ModelPool
    models: Mapping[str, LocalModel]
    standing: Mapping[ObjectKey, Standing]
    engines: Mapping[str, EngineView]
    routers: tuple[RouterView, ...]
    nodes: tuple[NodeFacts, ...]
    settings: OperatorSettings
    jobs: Mapping[str, JobResult] = field(default_factory=dict)
    table: RouteTable | None = None
    carriers: Mapping[str, tuple[PodView, ...]] = field(default_factory=dict)
    same_claim: tuple[str, ...] = ()
    swaps: tuple[ModelSwap, ...] = ()
    policy: SwapPolicySpec | None = DEFAULT_POLICY
    checks: Mapping[str, str | None] = field(default_factory=dict)
