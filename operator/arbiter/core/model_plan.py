"""Plans one pass over a LocalModel: find out what its source is and what runs it, and say so in its status.

Rule: a source is asked by a Job in the model's namespace, one at a time, and again after a pause that grows with the
time since it first failed. A tag or branch is asked again every hour, because it may stand for something else by then;
that shows here and restarts nothing. A server elsewhere is not asked here: each pool does that before it serves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from arbiter.api.amounts import Quantity
from arbiter.api.localmodel import ModelUse
from arbiter.api.meta import Condition, ConditionStatus
from arbiter.api.modelpool import Placement
from arbiter.api.reasons import ConditionType, Reason, ReasonCode
from arbiter.core.actions import Create, Emit, ObjectKey, Plan, Remove, WriteStatus
from arbiter.core.engine_health import Asked, explain
from arbiter.core.manifests import names
from arbiter.core.manifests.amounts import whole_mebibytes
from arbiter.core.manifests.resolver import resolver_job
from arbiter.core.pool_status import has_lasted, told_otherwise
from arbiter.core.resolution import Failure, Resolution, read_resolution
from arbiter.core.snapshot import EngineView, PodPhase
from arbiter.core.sources import infer_engine
from arbiter.core.status import find_condition, with_abnormality, with_condition
from arbiter.engines.sources import ExternalSource, HubSource, OciSource, OllamaSource, read_source
from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from arbiter.api.localmodel import InferredEngine, LocalModel, LocalModelStatus
    from arbiter.core.actions import Action
    from arbiter.core.snapshot import ModelSnapshot, PodView, Standing
    from arbiter.engines.sources import Source

MOVING_EVERY: Final = timedelta(hours=1)
"""How often a source is asked again that may stand for something else by then."""

_FIRST_PAUSE: Final = timedelta(seconds=15)
"""Also where time alone mends nothing: a person who creates a Secret or pushes an image waits for it to be seen."""

_LONGEST_PAUSE: Final = timedelta(minutes=10)

_MEMORY_FACTOR: Final = 1.2
_MEMORY_BASE: Final = 256 * 1024**2
"""What a running model needs beside its weights, where nobody says: a fifth of them for contexts, and this for the
server."""

_COMMIT_DIGITS: Final = 40

_MOST_POOLS: Final = 256
"""Pools that a status names as users of a model."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What a pass found out about a model.

    Attributes:
        resolved: whether its source was found, and why.
        ready: whether it can be run, and why.
        changes: fields of its status that are new.
        actions: what is done about it.
        failed: it takes a person, or more time than anybody should wait for.
        look_again: when time alone changes something.
        notes: what people should know beside.
    """

    resolved: tuple[ConditionStatus, Reason]
    ready: tuple[ConditionStatus, Reason]
    changes: dict[str, Any] = field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    failed: bool = False
    look_again: datetime | None = None
    notes: tuple[Reason, ...] = ()


def plan_model(snapshot: ModelSnapshot, now: datetime) -> Plan:
    """Plan one pass over a LocalModel."""
    model = snapshot.model
    if model.metadata.deletion_timestamp is not None:
        return Plan()
    found = _find_out(snapshot, now)
    status = _status(snapshot, found, now)
    return Plan((*found.actions, *_written(model, status)), found.notes, found.look_again)


def is_moving(source: Source) -> bool:
    """Whether a source may stand for another content tomorrow."""
    match source:
        case OciSource():
            return source.digest is None
        case HubSource():
            is_commit = len(source.revision) == _COMMIT_DIGITS and not source.revision.strip("0123456789abcdef")
            return not is_commit
        case OllamaSource():
            return True
        case _:
            return False


def estimated_memory(size: int) -> int:
    """Estimate what a running model needs from the bytes of its weights."""
    return int(size * _MEMORY_FACTOR) + _MEMORY_BASE


def _find_out(snapshot: ModelSnapshot, now: datetime) -> _Found:
    model = snapshot.model
    try:
        source = read_source(model.metadata.name, model.spec)
        engine = infer_engine(model.metadata.name, model.spec)
    except InvalidInputError as error:
        reason = Reason(ReasonCode.SourceInvalid, str(error))
        return _Found((ConditionStatus.FALSE, reason), (ConditionStatus.FALSE, reason), failed=True)
    if isinstance(source, ExternalSource):
        return _elsewhere(model, source, engine)
    job = snapshot.standing.get(ObjectKey("Job", names.resolver_name(model.metadata.name)))
    if job is not None and job.owner != model.metadata.uid:
        return _name_is_taken(model, job)
    if job is None:
        return _without_job(snapshot, source, engine, now)
    return _with_job(snapshot, source, engine, job, now)


def _elsewhere(model: LocalModel, source: ExternalSource, engine: InferredEngine) -> _Found:
    said = f"{source.model} runs at {source.url}; each pool asks it for one token before it serves"
    reason = Reason(ReasonCode.ExternalServer, said)
    given = {
        "engine": engine,
        "digest": source.uri[:256],
        "context_window": model.spec.context_window,
        "capabilities": tuple(sorted(model.spec.capabilities)),
        "memory": model.spec.memory,
    }
    return _Found((ConditionStatus.TRUE, reason), (ConditionStatus.TRUE, reason), given)


def _name_is_taken(model: LocalModel, job: Standing) -> _Found:
    reason = Reason(
        ReasonCode.NameTaken,
        f"Job {job.key.name} in namespace {model.metadata.namespace} belongs to somebody else, and the model needs "
        "that name: delete or rename it, or name the model otherwise",
    )
    return _Found((ConditionStatus.FALSE, reason), (ConditionStatus.FALSE, reason), failed=True)


def _without_job(snapshot: ModelSnapshot, source: Source, engine: InferredEngine, now: datetime) -> _Found:
    model, due = snapshot.model, _asked_again_at(snapshot.model, source)
    if model.status.digest is not None and (due is None or now < due):
        return _as_known(model, engine, look_again=due)
    job = (Create(resolver_job(model, source, snapshot.settings)),)
    if model.status.digest is not None:
        return _as_known(model, engine, actions=job)
    return _resolving(model, engine, now, actions=job)


def _with_job(snapshot: ModelSnapshot, source: Source, engine: InferredEngine, job: Standing, now: datetime) -> _Found:
    model = snapshot.model
    pod = _ended(snapshot, job)
    if job.deleting or (pod is None and not _is_over(job)):
        if model.status.digest is not None:
            return _as_known(model, engine)
        return _resolving(model, engine, now, _stuck_pod(snapshot, now))
    if pod is None and model.status.digest is not None:
        return _kept(model, engine, {"engine": engine}, job, due=_asked_again_at(model, source), now=now)
    if pod is None:
        return _failed(snapshot, engine, job, _no_pod(), now)
    result = read_resolution(pod)
    if isinstance(result, Failure):
        return _failed(snapshot, engine, job, result, now)
    due = pod.created_at + MOVING_EVERY if is_moving(source) else None
    return _kept(model, engine, _resolution_fields(model, engine, result, pod.created_at), job, due=due, now=now)


def _kept(  # noqa: PLR0913 - what was found, and when it is asked again
    model: LocalModel,
    engine: InferredEngine,
    changes: dict[str, Any],
    job: Standing,
    *,
    due: datetime | None,
    now: datetime,
) -> _Found:
    """Keep what was found, and take the Job away once it is time for another."""
    if due is not None and now >= due:
        return _resolved(model, engine, changes, actions=(Remove(job.key, job.uid),))
    return _resolved(model, engine, changes, look_again=due)


def _failed(snapshot: ModelSnapshot, engine: InferredEngine, job: Standing, failure: Failure, now: datetime) -> _Found:
    """Wait as long as it has failed before it is tried again, within bounds."""
    model, ended = snapshot.model, _end_of(job, snapshot)
    before = find_condition(model.status.conditions, ConditionType.Resolved)
    since = before.last_transition_time if before is not None and before.status is ConditionStatus.FALSE else ended
    due = ended + min(max(_FIRST_PAUSE, ended - since), _LONGEST_PAUSE)
    again = (Remove(job.key, job.uid),) if now >= due else ()
    look_again = due if now < due else None
    if model.status.digest is not None:
        note = Reason(
            failure.reason.code, f"{model.metadata.name} could not be resolved again: {failure.reason.message}"
        )
        return _as_known(model, engine, actions=again, look_again=look_again, notes=(note,))
    status = (ConditionStatus.FALSE, _advised(model, failure.reason))
    return _Found(status, status, {"engine": engine}, again, has_lasted(model.status.conditions, now), look_again)


def _advised(model: LocalModel, reason: Reason) -> Reason:
    """Add what a person can do where that follows from the model and not from the source."""
    if reason.code is not ReasonCode.AccessDenied:
        return reason
    secret = model.spec.pull_secret
    what = (
        "a LocalModel does not change, so create another one whose spec.pullSecret names a Secret that lets us in"
        if secret is None
        else f"spec.pullSecret names Secret {secret} of namespace {model.metadata.namespace}: make it let us in"
    )
    return Reason(reason.code, f"{reason.message}; {what}")


def _as_known(
    model: LocalModel,
    engine: InferredEngine,
    *,
    actions: tuple[Action, ...] = (),
    look_again: datetime | None = None,
    notes: tuple[Reason, ...] = (),
) -> _Found:
    """Leave what was found out before as it is."""
    return _resolved(model, engine, {"engine": engine}, actions=actions, look_again=look_again, notes=notes)


def _resolved(  # noqa: PLR0913 - what was found out, and what follows from it, all named
    model: LocalModel,
    engine: InferredEngine,
    changes: dict[str, Any],
    *,
    actions: tuple[Action, ...] = (),
    look_again: datetime | None = None,
    notes: tuple[Reason, ...] = (),
) -> _Found:
    digest = changes.get("digest", model.status.digest)
    found = Reason(ReasonCode.SourceResolved, f"{model.spec.source} is {digest}")
    runs = Reason(ReasonCode.Runnable, f"{model.metadata.name} can be run by {engine.type}")
    return _Found(
        (ConditionStatus.TRUE, found),
        (ConditionStatus.TRUE, runs),
        changes,
        actions,
        look_again=look_again,
        notes=notes,
    )


def _resolving(
    model: LocalModel,
    engine: InferredEngine,
    now: datetime,
    reason: Reason | None = None,
    *,
    actions: tuple[Action, ...] = (),
) -> _Found:
    said = reason or Reason(ReasonCode.Resolving, f"{model.spec.source} is being asked what it holds")
    before = find_condition(model.status.conditions, ConditionType.Resolved)
    if reason is None and before is not None and before.status is ConditionStatus.FALSE:
        # While it is tried once more, what it failed with stands, and whoever gave up on it is not told otherwise.
        said = Reason(ReasonCode(before.reason), before.message)
        lasting, status = has_lasted(model.status.conditions, now), (ConditionStatus.FALSE, said)
        return _Found(status, status, {"engine": engine}, actions, lasting)
    return _Found((ConditionStatus.UNKNOWN, said), (ConditionStatus.UNKNOWN, said), {"engine": engine}, actions)


def _resolution_fields(model: LocalModel, engine: InferredEngine, result: Resolution, at: datetime) -> dict[str, Any]:
    spec = model.spec
    memory = spec.memory
    if memory is None and result.size is not None:
        memory = Quantity.parse(whole_mebibytes(estimated_memory(result.size)))
    return {
        "engine": engine,
        "digest": result.digest,
        "resolved_at": at.replace(microsecond=0),
        "size": None if result.size is None else Quantity.parse(whole_mebibytes(result.size)),
        "memory": memory,
        "context_window": spec.context_window or result.context_window,
        "capabilities": tuple(sorted(result.capabilities | frozenset(spec.capabilities)))[:32],
    }


def _asked_again_at(model: LocalModel, source: Source) -> datetime | None:
    if model.status.resolved_at is None or not is_moving(source):
        return None
    return model.status.resolved_at + MOVING_EVERY


def _ended(snapshot: ModelSnapshot, job: Standing) -> PodView | None:
    """Give the newest of this Job's pods that has ended; one of an earlier Job may linger."""
    begun = datetime.fromisoformat(job.body["metadata"]["creationTimestamp"])
    over = [pod for pod in snapshot.resolver if _has_ended(pod) and not pod.deleting and pod.created_at >= begun]
    return max(over, key=lambda pod: (pod.created_at, pod.name), default=None)


def _has_ended(pod: PodView) -> bool:
    """Whether a resolver's result is there: its container's end is told a second before the end of its pod."""
    return pod.phase in {PodPhase.SUCCEEDED, PodPhase.FAILED} or pod.last_exit == 0


def _is_over(job: Standing) -> bool:
    conditions = job.body.get("status", {}).get("conditions", ())
    return any(each.get("type") in {"Complete", "Failed"} and each.get("status") == "True" for each in conditions)


def _end_of(job: Standing, snapshot: ModelSnapshot) -> datetime:
    """Give the time at which a Job ended, as the cluster told it; else that at which its pod began."""
    status = job.body.get("status", {})
    times = [status.get("completionTime"), *(each.get("lastTransitionTime") for each in status.get("conditions", ()))]
    told = next((time for time in times if time), None)
    if told is not None:
        return datetime.fromisoformat(told)
    pod = _ended(snapshot, job)
    return pod.created_at if pod is not None else datetime.fromisoformat(job.body["metadata"]["creationTimestamp"])


def _stuck_pod(snapshot: ModelSnapshot, now: datetime) -> Reason | None:
    """Say what keeps a resolver from starting, if anything does."""
    view = EngineView(names.resolver_name(snapshot.model.metadata.name), snapshot.resolver)
    ailment = explain(view, {}, Asked(Placement(), None, None, 86_400), (), now)
    return None if ailment.reason.code is ReasonCode.EngineStarting else ailment.reason


def _no_pod() -> Failure:
    said = "the resolver's Job ended and its pod is gone, so its result was not read"
    return Failure(Reason(ReasonCode.ResolveFailed, said))


def _status(snapshot: ModelSnapshot, found: _Found, now: datetime) -> LocalModelStatus:
    model = snapshot.model
    generation, before = model.metadata.generation, model.status.conditions
    if any((condition.observed_generation or 0) > generation for condition in before):
        before = ()
    after: tuple[Condition, ...] = before
    for about, (status, reason) in ((ConditionType.Resolved, found.resolved), (ConditionType.Ready, found.ready)):
        after = with_condition(after, type=about, status=status, reason=reason, generation=generation, now=now)
    waits = found.ready[0] is not ConditionStatus.TRUE and not found.failed
    abnormal = {
        ConditionType.Degraded: _deprecation(snapshot),
        ConditionType.Stalled: found.ready[1] if found.failed else None,
        ConditionType.Reconciling: found.ready[1] if waits else None,
    }
    for about, abnormality in abnormal.items():
        after = with_abnormality(after, type=about, reason=abnormality, generation=generation, now=now)
    used = tuple(ModelUse(pool=pool, tasks=tuple(sorted(tasks))) for pool, tasks in sorted(snapshot.used_by.items()))
    used = used[:_MOST_POOLS]
    changes = {**found.changes, "observed_generation": generation, "conditions": after, "used_by": used}
    return model.status.model_copy(update=changes)


def _deprecation(snapshot: ModelSnapshot) -> Reason | None:
    why = snapshot.model.spec.deprecated
    if why is None or not snapshot.used_by:
        return None
    pools = ", ".join(sorted(snapshot.used_by))
    return Reason(
        ReasonCode.DeprecatedInUse, f"{snapshot.model.metadata.name} is deprecated and in use by {pools}: {why}"
    )


def _written(model: LocalModel, status: LocalModelStatus) -> tuple[Action, ...]:
    if status.to_dict() == model.status.to_dict():
        return ()
    metadata = model.metadata
    before = {condition.type: condition for condition in model.status.conditions}
    events = [
        Emit(
            "LocalModel",
            metadata.name,
            metadata.uid,
            Reason(ReasonCode(condition.reason), condition.message),
            warning=condition.status is ConditionStatus.FALSE or condition.type != ConditionType.Ready,
        )
        for condition in told_otherwise(before, status.conditions)
        if condition.type in {ConditionType.Ready, ConditionType.Degraded}
        and condition.status is not ConditionStatus.UNKNOWN
    ]
    return (WriteStatus("LocalModel", metadata.name, metadata.resource_version, status.to_dict()), *events)
