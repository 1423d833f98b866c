"""Plans one pass over a pool or a model: what is done next so that it comes to be as its spec wants it.

Rule: a plan is a list of small steps, each of which sees the same facts. What must be there first comes first: frozen
forms, then engines, then the status that says what is active, then the routes that repeat it; and what is taken away
goes last, once no router needs it. So stopping after any action is harmless, and the next pass plans the rest.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from arbiter.api.meta import ConditionStatus
from arbiter.api.modelswap import Phase
from arbiter.api.reasons import ConditionType, Reason, ReasonCode
from arbiter.core import pool_objects
from arbiter.core.actions import Apply, Create, Emit, ObjectKey, Plan, Remove, StopJob, WriteStatus
from arbiter.core.engine_health import GOES_ON
from arbiter.core.model_plan import plan_model
from arbiter.core.needed import find_needed
from arbiter.core.outcomes import Prepared, decide_task
from arbiter.core.policy_plan import plan_policy
from arbiter.core.pool_facts import PoolFacts
from arbiter.core.pool_status import Decided, grace_ends, has_lasted, pool_status, told_otherwise
from arbiter.core.pool_swaps import plan_swaps
from arbiter.core.readiness import asked_for_proof, pods_ready
from arbiter.core.route_plan import make_table, overtaken
from arbiter.core.shared_engine import ask_shared_engine
from arbiter.core.stray_swaps import plan_stray_swaps
from arbiter.core.swap_record import FAILED, swap_status, unknown_status
from arbiter.core.swap_requests import beyond_history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from typing import Any

    from arbiter.api.modelpool import Retained
    from arbiter.api.modelswap import ModelSwap, ModelSwapStatus
    from arbiter.core.actions import Action
    from arbiter.core.needed import Needed
    from arbiter.core.pool_swaps import Moved
    from arbiter.core.readiness import Readiness
    from arbiter.core.shared_engine import SharedEngine
    from arbiter.core.snapshot import PoolSnapshot, Standing

__all__ = ["plan_model", "plan_policy", "plan_pool", "plan_stray_swaps"]

_SOON: Final = timedelta(seconds=5)
"""When to look again at what somebody outside of the cluster's watches has to tell first, such as a router."""

_OF_NOBODY: Final = ("unload/", "delete/", "show/")
"""Beginnings of the keys of jobs that may be about what nobody needs."""


def plan_pool(snapshot: PoolSnapshot, now: datetime) -> Plan:
    """Plan one pass over a pool."""
    facts = PoolFacts(snapshot, now)
    if facts.pool.metadata.deletion_timestamp is not None:
        return Plan()
    if (reason := overtaken(facts)) is not None:
        return Plan(notes=(reason,), look_again=now + _SOON)
    needed = find_needed(facts)
    proved = _proved(facts)
    shared = ask_shared_engine(facts, needed, proved)
    readiness = _readiness(facts, needed, shared, proved)
    swaps = plan_swaps(facts, needed, readiness)
    prepared = Prepared(facts, needed, readiness, shared.moved, swaps)
    outcomes = tuple(decide_task(prepared, task) for task in facts.pool.spec.tasks)
    lasting = has_lasted(facts.pool.status.conditions, now)
    table = make_table(facts, outcomes, needed.revisions, lasting=lasting)
    if facts.pool.spec.suspend and snapshot.table is not None:
        table = snapshot.table
    decided = Decided(
        prepared,
        outcomes,
        table,
        tuple(pool_objects.taken(facts, needed, table)),
        shared.unloads,
        shared.carriers,
        shared.carrying,
    )
    steps = (_write_status,) if facts.pool.spec.suspend else _STEPS
    actions = tuple(action for step in steps for action in step(decided))
    notes = tuple(wish.note for wish in needed.wishes.values() if wish.note is not None)
    return Plan(actions, notes, _look_again(decided))


def _freeze(decided: Decided) -> Iterator[Action]:
    """Put on record what is to run, before anything of it runs."""
    for manifest in pool_objects.frozen_forms(decided.facts, decided.prepared.needed):
        yield Create(manifest)


def _run_engines(decided: Decided) -> Iterator[Action]:
    """Bring engines and their Services into the form that was frozen."""
    yield from _applied(decided.facts, pool_objects.engines(decided.facts, decided.prepared.needed))


def _ask_engines(decided: Decided) -> Iterator[Action]:
    """Have models loaded and asked, and stop asking what nobody needs any more."""
    for readiness in decided.prepared.readiness.values():
        yield from readiness.jobs
    for moved in decided.prepared.swaps.moved:
        yield from moved.jobs
    yield from decided.unloads
    for manifest in decided.carriers:
        yield Create(manifest)
    for key, job in sorted(decided.facts.snapshot.jobs.items()):
        revision = key.rpartition("/")[2]
        if job.running and not key.startswith(_OF_NOBODY) and revision not in decided.prepared.needed.revisions:
            yield StopJob(key)


def _run_routers(decided: Decided) -> Iterator[Action]:
    """Bring the routers into their form, with all that they need to start."""
    facts = decided.facts
    if pool_objects.lacks_feedback_secret(facts):
        yield Create(pool_objects.feedback(facts))
    yield from _applied(facts, pool_objects.routers(facts, decided.prepared.needed))


def _write_status(decided: Decided) -> Iterator[Action]:
    """Say what is active and how things stand, and tell people what has changed."""
    pool, after = decided.facts.pool, pool_status(decided)
    if after.to_dict() == pool.status.to_dict():
        return
    metadata = pool.metadata
    yield WriteStatus("ModelPool", metadata.name, metadata.resource_version, after.to_dict())
    before = {condition.type: condition for condition in pool.status.conditions}
    for condition in told_otherwise(before, after.conditions):
        if condition.type in {ConditionType.Ready, ConditionType.Degraded, ConditionType.Stalled}:
            well = condition.type == ConditionType.Ready and condition.status is ConditionStatus.TRUE
            waits = condition.type == ConditionType.Ready and condition.reason in GOES_ON
            reason = Reason(ReasonCode(condition.reason), condition.message)
            yield Emit("ModelPool", metadata.name, metadata.uid, reason, warning=not (well or waits))


def _make_swaps(decided: Decided) -> Iterator[Action]:
    """Make the swaps that are asked for; they are moved on by later passes."""
    for manifest in decided.prepared.swaps.created:
        yield Create(manifest)


def _write_swaps(decided: Decided) -> Iterator[Action]:
    """Write down where swaps are, and tell people of each phase that began."""
    for moved in decided.prepared.swaps.moved:
        swap = moved.flying.swap
        status = _swap_status(moved, decided.facts.now)
        if status.to_dict() == swap.status.to_dict():
            continue
        metadata = swap.metadata
        yield WriteStatus("ModelSwap", metadata.name, metadata.resource_version, status.to_dict())
        yield from _told_of_swap(decided, moved)


def _swap_status(moved: Moved, now: datetime) -> ModelSwapStatus:
    swap = moved.flying.swap
    if moved.after is not None:
        return swap_status(moved.after, swap, moved.shown, now)
    return swap.status if moved.problem is None else unknown_status(swap, moved.problem, now)


def _told_of_swap(decided: Decided, moved: Moved) -> Iterator[Action]:
    before, after = moved.flying.flight, moved.after
    if after is None or len(after.history) == (0 if before is None else len(before.history)):
        return
    warning = after.phase is Phase.RollingBack or (after.ended and after.outcome in FAILED)
    about, pool = moved.flying.swap.metadata, decided.facts.pool.metadata
    yield Emit("ModelSwap", about.name, about.uid, after.reason, warning=warning)
    told = Reason(after.reason.code, f"{after.name} is {after.phase}: {after.reason.message}"[:1024])
    yield Emit("ModelPool", pool.name, pool.uid, told, warning=warning)


def _replace_laggards(decided: Decided) -> Iterator[Action]:
    """Replace one router at a time that had its time to obey and does not."""
    late = {pod.name: pod for moved in decided.prepared.swaps.moved for pod in moved.laggards}
    for pod in list(late.values())[:1]:
        yield Remove(ObjectKey("Pod", pod.name), pod.uid)


def _trim_swaps(decided: Decided) -> Iterator[Action]:
    """Delete the oldest ended swaps that Arbiter made, beyond those that are kept of each task."""
    pool = decided.facts.pool.metadata
    ended: dict[str, list[ModelSwap]] = {}
    for swap in decided.facts.snapshot.swaps:
        ours = any(owner.uid == pool.uid for owner in swap.metadata.owner_references)
        if ours and swap.status.phase is Phase.Ended and swap.status.ended_at is not None:
            ended.setdefault(swap.spec.task, []).append(swap)
    for swaps in ended.values():
        named = {swap.metadata.name: swap for swap in swaps}
        beyond = beyond_history((swap.status.ended_at or decided.facts.now, name) for name, swap in named.items())
        for name in beyond:
            yield Remove(ObjectKey("ModelSwap", name), named[name].metadata.uid)


def _route(decided: Decided) -> Iterator[Action]:
    """Repeat to the routers what the status says is active."""
    yield from _applied(decided.facts, (pool_objects.routes(decided.facts, decided.table),))


def _take_away(decided: Decided) -> Iterator[Action]:
    """Delete what is ours and no longer wanted: engines only once no router can send them anything."""
    for standing in _unwanted(decided):
        if pool_objects.may_go(decided.facts, standing, decided.prepared.needed.lost):
            yield Remove(standing.key, standing.uid)


def _unwanted(decided: Decided) -> Iterator[Standing]:
    """Give what is ours and no longer wanted, whether it may go yet or not."""
    wanted = pool_objects.wanted(decided.facts, decided.prepared.needed, decided.table) | decided.carrying
    for key, standing in decided.facts.ours.items():
        if key not in wanted and not standing.deleting:
            yield standing


_STEPS: tuple[Callable[[Decided], Iterator[Action]], ...] = (
    _freeze,
    _run_engines,
    _ask_engines,
    _run_routers,
    _make_swaps,
    _write_status,
    _write_swaps,
    _route,
    _take_away,
    _replace_laggards,
    _trim_swaps,
)


def _applied(facts: PoolFacts, manifests: Iterable[dict[str, Any]]) -> Iterator[Apply]:
    for manifest in manifests:
        if (lacking := facts.missing(manifest)) is not None:
            yield Apply(lacking)


def _readiness(facts: PoolFacts, needed: Needed, shared: SharedEngine, proved: frozenset[str]) -> dict[str, Readiness]:
    found = {}
    for revision, frozen in needed.running.items():
        if frozen.shared:
            found[revision] = shared.readiness[revision]
            continue
        there = pods_ready(facts, frozen)
        found[revision] = asked_for_proof(facts, frozen, proved=revision in proved) if there.up else there
    return found


def _proved(facts: PoolFacts) -> frozenset[str]:
    """Give the revisions that have answered once: what serves, and what the routers were told of."""
    routed = {backend.revision for task in facts.routed.values() for backend in task.backends}
    return frozenset({serving.revision for serving in facts.active.values()} | routed)


def _retention_ends(previous: Retained) -> tuple[datetime, ...]:
    return (previous.hot_until, previous.warm_until)


def _look_again(decided: Decided) -> datetime | None:
    times = [readiness.look_again for readiness in decided.prepared.readiness.values()]
    times += [
        each.after.next.at
        for each in decided.prepared.swaps.moved
        if each.after is not None and each.after.next is not None and each.after.next.at is not None
    ]
    times += [at for each in decided.outcomes if each.previous is not None for at in _retention_ends(each.previous)]
    if any(flight.moves_requests for flight in decided.prepared.swaps.flights.values()):
        times.append(decided.facts.now + _SOON)
    if any(_unwanted(decided)):
        times.append(decided.facts.now + _SOON)
    coming = (time for time in (*times, grace_ends(decided)) if time is not None)
    return min((time for time in coming if time > decided.facts.now), default=None)
