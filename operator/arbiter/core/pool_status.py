"""Decides what a pool's status says: its conditions, its tasks, what holds memory, and the printed columns.

Rule: Ready stays True while something serves every task; what is asked for and not yet done never takes it away. What
time may mend is Reconciling while it is new; what it has not mended after a minute, and hardly will, is Stalled. A
status is written only when it says something else than before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from arbiter.api.amounts import Quantity
from arbiter.api.meta import Condition, ConditionStatus
from arbiter.api.modelpool import ModelPoolStatus, PoolSummary, Residence, Resident, TaskStatus
from arbiter.api.modelswap import Outcome as Ending
from arbiter.api.modelswap import Phase
from arbiter.api.reasons import ConditionType, Reason, ReasonCode
from arbiter.api.swappolicy import Strategy
from arbiter.core.engine_health import STUCK, Asked, explain
from arbiter.core.manifests import names
from arbiter.core.manifests.amounts import whole_mebibytes
from arbiter.core.pool_swaps import rejections
from arbiter.core.readiness import view_of
from arbiter.core.route_plan import obeyed
from arbiter.core.runners import runners
from arbiter.core.shared_engine import held_models
from arbiter.core.snapshot import EngineView
from arbiter.core.status import find_condition, with_abnormality, with_condition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from arbiter.core.actions import ObjectKey, StartJob
    from arbiter.core.outcomes import Outcome, Prepared
    from arbiter.core.pool_facts import PoolFacts
    from arbiter.core.routes import RouteTable

GRACE: Final = timedelta(seconds=60)
"""How long what needs a person may last before the object counts as failed: objects that are applied together, or made
anew under an old name, arrive one after the other."""

_USED_STEP: Final = timedelta(minutes=10)
"""How coarse the time is when a model was last used: each change of it is a write."""

_LONGEST: Final = 1024


@dataclass(frozen=True, slots=True)
class Decided:
    """What a pass decided, as the status is made of it.

    Attributes:
        prepared: facts, needs and readiness.
        outcomes: of each task, in the order of the spec.
        table: what routers are to obey.
        taken: names of ours that are somebody else's.
        unloads: jobs that make room in the shared engine.
        carriers: Jobs to be made that carry models there.
        carrying: those that are needed.
    """

    prepared: Prepared
    outcomes: tuple[Outcome, ...]
    table: RouteTable
    taken: tuple[ObjectKey, ...]
    unloads: tuple[StartJob, ...] = ()
    carriers: tuple[Mapping[str, Any], ...] = ()
    carrying: frozenset[ObjectKey] = frozenset()

    @property
    def facts(self) -> PoolFacts:
        """Of the pool."""
        return self.prepared.facts


def has_lasted(conditions: Sequence[Condition], now: datetime) -> bool:
    """Whether an object has not been ready for so long that only a person will change it."""
    ready = find_condition(tuple(conditions), ConditionType.Ready)
    return ready is not None and ready.status is ConditionStatus.FALSE and now >= ready.last_transition_time + GRACE


def pool_status(decided: Decided) -> ModelPoolStatus:
    """Give the pool's whole status."""
    facts = decided.facts
    pool = facts.pool
    active = [outcome.active for outcome in decided.outcomes if outcome.active is not None]
    routed = pool.spec.router.replicas > 0 and facts.stranger("Service", facts.name) is None
    engines = {
        frozen.engine_name(facts.name)
        for serving in active
        if (frozen := decided.prepared.needed.revisions.get(serving.revision)) is not None and not frozen.elsewhere
    }
    return ModelPoolStatus(
        observed_generation=pool.metadata.generation,
        conditions=_conditions(decided),
        tasks=tuple(_task(outcome) for outcome in decided.outcomes),
        residents=tuple(_residents(decided)),
        rejected=rejections(facts, decided.prepared.swaps),
        summary=_summary(decided),
        endpoint=f"http://{facts.name}.{facts.namespace}.svc.{facts.snapshot.settings.cluster_domain}"
        if routed
        else None,
        replicas=sum(view_of(facts, engine).ready_endpoints for engine in engines),
        selector=",".join(f"{key}={value}" for key, value in sorted(names.engines_selector(facts.name).items())),
    )


def obstacle(decided: Decided) -> Reason | None:
    """Say what keeps the pool from being Ready; None if nothing does."""
    return next(_obstacles(decided), None)


def grace_ends(decided: Decided) -> datetime | None:
    """Give the time at which what needs a person is no longer waited for."""
    facts, problem = decided.facts, obstacle(decided)
    if problem is None or problem.code not in STUCK:
        return None
    ready = find_condition(facts.pool.status.conditions, ConditionType.Ready)
    since = facts.now if ready is None or ready.status is not ConditionStatus.FALSE else ready.last_transition_time
    return since + GRACE if facts.now < since + GRACE else None


def _obstacles(decided: Decided) -> Iterator[Reason]:
    facts = decided.facts
    if decided.taken:
        key = decided.taken[0]
        yield Reason(
            ReasonCode.NameTaken,
            f"{key.kind} {key.name} in namespace {facts.namespace} belongs to somebody else, and the pool needs that "
            "name: delete or rename it, or name the pool otherwise",
        )
    yield from (outcome.reason for outcome in decided.outcomes if not outcome.served)
    if facts.pool.spec.router.replicas:
        yield from _routers(decided)


def _routers(decided: Decided) -> Iterator[Reason]:
    facts = decided.facts
    ready = [router for router in facts.routers if router.pod.ready]
    if not ready:
        yield _routers_start(facts)
        return
    if _was_ready_with(decided):
        return
    refused = next((router for router in ready if router.refused), None)
    if refused is not None:
        yield Reason(
            ReasonCode.RoutesRefused,
            f"router {refused.pod.name} refused the newest routes: {refused.refused}"[:_LONGEST],
        )
    if not obeyed(facts, decided.table):
        yield Reason(ReasonCode.RoutersBehind, "not all routers obey the newest routes yet")


def _routers_start(facts: PoolFacts) -> Reason:
    name = names.router_name(facts.name)
    view = EngineView(name, tuple(router.pod for router in facts.snapshot.routers))
    asked = Asked(facts.pool.spec.placement.model_copy(update={"gpus": None}), None, None, 600)
    found = explain(view, facts.body("Deployment", name), asked, (), facts.now).reason
    if found.code in {ReasonCode.EngineStarting, ReasonCode.StartedTooSlowly}:
        return Reason(ReasonCode.RoutersStarting, f"no router of {facts.name} is ready yet")
    return found


def _was_ready_with(decided: Decided) -> bool:
    """Whether the pool was Ready with the same models: then a router that is behind takes nothing away from anybody."""
    facts = decided.facts
    ready = find_condition(facts.pool.status.conditions, ConditionType.Ready)
    if ready is None or ready.status is not ConditionStatus.TRUE:
        return False
    # Requests were on whoever has just been promoted before.
    promoted = {flight.task for flight in decided.prepared.swaps.ended(Ending.Promoted)}
    return all(
        outcome.task in promoted
        or ((told := facts.told.get(outcome.task)) is not None and told.active == outcome.active)
        for outcome in decided.outcomes
    )


def _conditions(decided: Decided) -> tuple[Condition, ...]:
    facts = decided.facts
    generation, now = facts.pool.metadata.generation, facts.now
    before = facts.pool.status.conditions
    if any((condition.observed_generation or 0) > generation for condition in before):
        # The status of an object that was replaced says nothing about this one.
        before = ()
    problem = obstacle(decided)
    stuck = problem is not None and problem.code in STUCK and has_lasted(before, now)
    status = ConditionStatus.TRUE if problem is None else ConditionStatus.FALSE
    after = with_condition(
        before, type=ConditionType.Ready, status=status, reason=_ready(decided, problem), generation=generation, now=now
    )
    abnormal = {
        ConditionType.Degraded: _degraded(decided),
        ConditionType.Stalled: problem if stuck else None,
        ConditionType.SwapProgressing: _progressing(decided),
        ConditionType.UnsafeIsolation: _isolation(decided),
        ConditionType.Reconciling: None if stuck or facts.pool.spec.suspend else _reconciling(decided, problem),
    }
    for type_, reason in abnormal.items():
        after = with_abnormality(after, type=type_, reason=reason, generation=generation, now=now)
    return after


def _ready(decided: Decided, problem: Reason | None) -> Reason:
    facts = decided.facts
    if facts.pool.spec.suspend:
        what = "every task is served" if problem is None else problem.message
        return Reason(ReasonCode.Suspended, f"the pool is suspended and left as it is; {what}"[:_LONGEST])
    if problem is not None:
        return problem
    if not facts.pool.spec.router.replicas:
        return Reason(ReasonCode.Managed, "every task has a model that answers; the pool has no routers of its own")
    return Reason(ReasonCode.Serving, "every task is served")


def _reconciling(decided: Decided, problem: Reason | None) -> Reason | None:
    """Say what is still being put in place of the newest spec; a swap never is."""
    facts = decided.facts
    waited_for = any(outcome.active is None for outcome in decided.outcomes)
    if problem is not None and (waited_for or problem.code in _ROUTERS):
        return problem
    if not facts.pool.spec.router.replicas or problem is not None:
        return None
    if not facts.routers_rolled_out:
        return Reason(ReasonCode.RoutersStarting, "routers are being put into their newest form")
    if not obeyed(facts, decided.table) and _is_new(facts):
        return Reason(ReasonCode.RoutersBehind, "not all routers obey the newest routes yet")
    return None


def _is_new(facts: PoolFacts) -> bool:
    """Whether the newest spec has not been in place yet. Weights that change later are a swap's, and nobody waits."""
    status = facts.pool.status
    reconciling = find_condition(status.conditions, ConditionType.Reconciling)
    return status.observed_generation != facts.pool.metadata.generation or reconciling is not None


_ROUTERS: Final = frozenset({ReasonCode.RoutersStarting, ReasonCode.RoutersBehind, ReasonCode.NameTaken})


def _progressing(decided: Decided) -> Reason | None:
    """Say which swap is in flight; of several the first, with the names of the others."""
    flights = [each.flight for each in decided.outcomes if each.flight is not None]
    if not flights:
        return None
    first = flights[0]
    others = "".join(f"; {each.name} is {each.phase}" for each in flights[1:])
    told = f"{first.name} is {first.phase}: {first.progress.message}{others}"
    return Reason(first.progress.code, told[:_LONGEST])


def _isolation(decided: Decided) -> Reason | None:
    """Say which swap has both its sides in one engine, so that one may slow the other down."""
    revisions = decided.prepared.needed.revisions
    for each in decided.outcomes:
        flight = each.flight
        if flight is None or flight.phase is Phase.Waiting or flight.strategy is not Strategy.SideBySide:
            continue
        if all(side.revision in revisions and revisions[side.revision].shared for side in (flight.old, flight.new)):
            told = f"{flight.old.model} and {flight.new.model} share one engine while {flight.name} compares them"
            return Reason(ReasonCode.SharedEngine, told)
    return None


def _degraded(decided: Decided) -> Reason | None:
    flaws = {flaw.message: flaw for outcome in decided.outcomes for flaw in outcome.degraded}
    for wish in decided.prepared.needed.preloads:
        reason = wish.problem if wish.revision is None else decided.prepared.readiness[wish.revision].reason
        if reason is not None and (wish.revision is None or reason.code in _NO_PRELOAD):
            message = f"{wish.model} is not preloaded: {reason.message}"
            flaws[message] = Reason(ReasonCode.PreloadNotReady, message)
    refused = next((router for router in decided.facts.routers if router.refused), None)
    if refused is not None:
        message = f"router {refused.pod.name} refused the newest routes: {refused.refused}"
        flaws[message] = Reason(ReasonCode.RoutesRefused, message)
    if not flaws or not any(outcome.active is not None for outcome in decided.outcomes):
        return None
    return Reason(next(iter(flaws.values())).code, "; ".join(flaws)[:_LONGEST])


_NO_PRELOAD: Final = STUCK | {ReasonCode.WaitingForRoom}


def _task(outcome: Outcome) -> TaskStatus:
    return TaskStatus(
        name=outcome.task,
        active=outcome.active,
        requested=outcome.requested,
        previous=outcome.previous,
        candidate=outcome.candidate,
        weights=_weights(outcome),
        swap=None if outcome.flight is None else outcome.flight.name,
        reason=outcome.reason.code.value,
        message=outcome.reason.message[:_LONGEST],
    )


def _weights(outcome: Outcome) -> str | None:
    flight = outcome.flight
    if flight is None:
        return None
    return f"{100 - flight.weight}/{flight.weight} ({flight.phase.value.lower()})"


def _residents(decided: Decided) -> Iterator[Resident]:
    facts = decided.facts
    told = {resident.revision: resident for resident in facts.pool.status.residents}
    shared = view_of(facts, names.shared_engine_name(facts.name))
    held = {one.name: one.memory for one in held_models(facts, shared)}
    alike = runners(facts, shared, decided.prepared.needed.revisions.values())
    for revision, frozen in sorted({**facts.frozen, **decided.prepared.needed.revisions}.items()):
        if frozen.elsewhere:
            continue
        needed = revision in decided.prepared.needed.running
        if frozen.shared:
            loaded = alike.holds(revision)
            stored = frozen.served in (shared.stored or {})
            state = _shared_state(loaded=loaded, stored=stored, needed=needed)
            memory = max((held[name] for name in alike.same(revision) & held.keys()), default=None)
        else:
            view = view_of(facts, frozen.engine_name(facts.name))
            state = _own_state(view, needed=needed, parked=revision in decided.prepared.needed.parked)
            memory = frozen.memory
        if state is None:
            continue
        before = told.get(revision)
        yield Resident(
            model=frozen.model,
            revision=revision,
            state=state,
            memory=None if memory is None else Quantity.parse(whole_mebibytes(memory)),
            used_at=_used_at(facts, revision, None if before is None else before.used_at),
        )


def _shared_state(*, loaded: bool, stored: bool, needed: bool) -> Residence | None:
    if loaded:
        return Residence.Loaded
    if needed:
        return Residence.Loading
    return Residence.Cached if stored else None


def _own_state(view: EngineView, *, needed: bool, parked: bool) -> Residence | None:
    if needed:
        return Residence.Loaded if view.ready_endpoints else Residence.Loading
    # What is only kept on record holds nothing once its engine has gone.
    return Residence.Unloading if view.pods or not parked else None


def _used_at(facts: PoolFacts, revision: str, before: datetime | None) -> datetime | None:
    if not facts.in_flight(revision) or (before is not None and facts.now < before + _USED_STEP):
        return before
    return facts.now.replace(microsecond=0)


def _summary(decided: Decided) -> PoolSummary:
    serving = [f"{each.task}: {each.active.model}" for each in decided.outcomes if each.active is not None]
    coming = [f"{each.task}: {each.candidate.model}" for each in decided.outcomes if each.candidate is not None]
    reason = obstacle(decided) or _unhappy(decided)
    return PoolSummary(
        serving=", ".join(serving)[:_LONGEST] or None,
        coming=", ".join(coming)[:_LONGEST] or None,
        progress=", ".join(filter(None, map(_weights, decided.outcomes)))[:_LONGEST] or None,
        why=None if reason is None else reason.message[:_LONGEST],
    )


def _unhappy(decided: Decided) -> Reason | None:
    """Give what is worth a look though every task is served."""
    reports = (each.reason for each in decided.outcomes if each.reason.code is not ReasonCode.Serving)
    return next(reports, None) or _degraded(decided)


def told_otherwise(before: Mapping[str, Condition], after: tuple[Condition, ...]) -> Iterator[Condition]:
    """Give the conditions that people are told of by an event: those that changed their status or their reason."""
    for condition in after:
        known = before.get(condition.type)
        if known is None or (known.status, known.reason) != (condition.status, condition.reason):
            yield condition
