"""Decides what a pool's routers are told, and whether they obey it.

Rule: a task is sent to what is active, and to nothing else. The generation rises with the content alone, and a table is
never written below what a router has obeyed: whoever would do that has to make sure first that it leads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arbiter.api.modelswap import Stage
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.api.swappolicy import DEFAULT_POLICY, Strategy
from arbiter.core.engine_health import STUCK
from arbiter.core.routes import Auth, Backend, Hold, Limits, RouteTable, Target, Task
from arbiter.core.traffic import Side

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from arbiter.api.modelpool import Task as PoolTask
    from arbiter.core.outcomes import Outcome
    from arbiter.core.pool_facts import PoolFacts
    from arbiter.core.revisions import FrozenRevision
    from arbiter.core.swap_flight import Flight


def overtaken(facts: PoolFacts) -> Reason | None:
    """Say that routers obey, or the cluster holds, a table of a later leader; None as long as ours is the latest."""
    epoch, table = facts.snapshot.settings.epoch, facts.snapshot.table
    if table is not None and table.epoch > epoch:
        return _overtaken(f"the routes in the cluster are of epoch {table.epoch}", epoch)
    for router in facts.snapshot.routers:
        if router.fence is not None and router.fence > epoch:
            return _overtaken(f"router {router.pod.name} has obeyed routes of epoch {router.fence}", epoch)
        ahead = router.generation is not None and table is not None and router.generation > table.generation
        if router.epoch == epoch and ahead:
            return _overtaken(
                f"router {router.pod.name} has obeyed generation {router.generation} of this very epoch", epoch
            )
    return None


def make_table(
    facts: PoolFacts, outcomes: Sequence[Outcome], revisions: Mapping[str, FrozenRevision], *, lasting: bool
) -> RouteTable:
    """Give the table that routers are to obey.

    Args:
        facts: of the pool.
        outcomes: what was decided about each task.
        revisions: what runs, by revision.
        lasting: whether the pool has not been ready for so long that nobody should wait any more for a task whose
            model needs a person.
    """
    wanted = {task.name: task for task in facts.pool.spec.tasks}
    tasks = {
        outcome.task: _task(facts, wanted[outcome.task], outcome, revisions, lasting=lasting) for outcome in outcomes
    }
    auth = facts.pool.spec.router.auth
    epoch, before = facts.snapshot.settings.epoch, facts.snapshot.table
    content = RouteTable(
        epoch=epoch,
        generation=0 if before is None else before.generation,
        slice_ms=_slice_ms(facts, outcomes),
        tasks=tasks,
        limits=_limits(facts),
        auth=None if auth is None else Auth(auth.keys_secret),
    )
    if before is not None and before.hash == content.hash:
        return content
    return RouteTable(epoch, _last_generation(facts) + 1, content.slice_ms, content.tasks, content.limits, content.auth)


def obeyed(facts: PoolFacts, table: RouteTable) -> bool:
    """Whether every router that takes requests obeys this instruction, whichever leader wrote it."""
    ready = [router for router in facts.routers if router.pod.ready]
    return bool(ready) and all(router.hash == table.hash for router in ready)


def laggards(facts: PoolFacts) -> tuple[str, ...]:
    """Give the names of routers that take requests and do not obey the table that stands."""
    table = facts.snapshot.table
    ready = (router for router in facts.routers if router.pod.ready)
    return tuple(router.pod.name for router in ready if table is None or router.hash != table.hash)


def unheard(facts: PoolFacts) -> tuple[str, ...]:
    """Give the names of routers that take requests and do not answer the operator.

    They may obey and serve well behind a network that lets nobody ask; if they hang, kubelet restarts them.
    """
    return tuple(router.pod.name for router in facts.routers if router.pod.ready and router.silent)


def told_weight(facts: PoolFacts, flight: Flight) -> bool:
    """Whether the table that stands says what a swap has decided, and there is a router to obey it.

    A pool without routers of its own has whoever reads its table obey.
    """
    routed = facts.routed.get(flight.task)
    if routed is None or not any(router.pod.ready for router in facts.routers):
        return routed is not None and not facts.pool.spec.router.replicas
    said = [(target.side, target.backend.revision, target.weight) for target in routed.targets]
    return said == shares(flight)


def shares(flight: Flight) -> list[tuple[Side, str, int]]:
    """Give the sides that take a task's requests while it is swapped, the new one first; none while they are held."""
    if flight.stage.holds:
        return []
    if flight.stage is Stage.NewAlone:
        return [(Side.NEW, flight.new.revision, 100)]
    if flight.strategy is Strategy.OneAtATime or not flight.moves_requests:
        return [(Side.OLD, flight.old.revision, 100)]
    return [
        (Side.NEW, flight.new.revision, flight.weight),
        (Side.OLD, flight.old.revision, 100 - flight.weight),
    ]


def let_go(facts: PoolFacts, revision: str) -> bool:
    """Whether no router sends or may still send requests to a revision, and none is in flight there."""
    table = facts.snapshot.table
    if facts.is_routed(revision) or facts.in_flight(revision) is not False:
        return False
    if not facts.snapshot.routers:
        return True
    return table is not None and all(router.hash == table.hash for router in facts.snapshot.routers)


def _task(
    facts: PoolFacts, wanted: PoolTask, outcome: Outcome, revisions: Mapping[str, FrozenRevision], *, lasting: bool
) -> Task:
    limits, flight = facts.pool.spec.router.limits, outcome.flight
    frozen = None if outcome.active is None else revisions.get(outcome.active.revision)
    targets = _targets(facts, outcome, revisions)
    fallback = tuple(revisions[revision].backend(facts.name) for revision in outcome.fallbacks)
    nobody = lasting and outcome.reason.code in STUCK and not targets and not fallback
    needs = wanted.needs.capabilities if wanted.needs is not None else ()
    held_s = limits.hold_timeout.seconds
    if flight is not None and flight.strategy is Strategy.OneAtATime:
        held_s = max(held_s, flight.policy.rollout.max_hold.seconds)
    return Task(
        name=outcome.task,
        targets=targets,
        fallback=fallback,
        hold=Hold(limits.held_requests, held_s, _plain(outcome.reason.message) if nobody else ""),
        swap=flight.name if flight is not None and flight.moves_requests else "",
        capabilities=tuple(sorted(needs)) if frozen is None else frozen.capabilities,
        context_window=None if frozen is None else frozen.context_window,
        pins={},
    )


def _targets(facts: PoolFacts, outcome: Outcome, revisions: Mapping[str, FrozenRevision]) -> tuple[Target, ...]:
    if outcome.active is None:
        return ()
    sides = [(Side.OLD, outcome.active.revision, 100)] if outcome.flight is None else shares(outcome.flight)
    found = [(side, _backend(facts, outcome.task, revision, revisions), weight) for side, revision, weight in sides]
    known = [(side, backend, weight) for side, backend, weight in found if backend is not None]
    if len(known) == 1:
        # Of a side that is not known nothing can be told, so the other one gets everything.
        return (Target(known[0][0], known[0][1], 100),)
    return tuple(Target(side, backend, weight) for side, backend, weight in known)


def _backend(facts: PoolFacts, task: str, revision: str, revisions: Mapping[str, FrozenRevision]) -> Backend | None:
    """Give a revision as routers are told of it; where its frozen form is lost, as they were told before."""
    if revision in revisions:
        return revisions[revision].backend(facts.name)
    routed = facts.routed.get(task)
    known = () if routed is None else routed.backends
    return next((each for each in known if each.revision == revision), None)


def _slice_ms(facts: PoolFacts, outcomes: Iterable[Outcome]) -> int:
    """Give the length of an accounting slice: as the shortest of the policies says that rule a swap in flight."""
    lengths = [each.flight.policy.analysis.slice for each in outcomes if each.flight is not None]
    policy = facts.snapshot.policy or DEFAULT_POLICY
    return round(min((length.seconds for length in lengths), default=policy.analysis.slice.seconds) * 1000)


def _limits(facts: PoolFacts) -> Limits:
    limits = facts.pool.spec.router.limits
    return Limits(
        body_bytes=int(limits.body),
        header_s=limits.header_timeout.seconds,
        body_s=limits.body_timeout.seconds,
        first_byte_s=limits.first_byte_timeout.seconds,
        idle_s=limits.idle_timeout.seconds,
        total_s=limits.total_timeout.seconds,
    )


def _last_generation(facts: PoolFacts) -> int:
    """Give the highest generation that anybody knows: where the ConfigMap was deleted, routers remember theirs."""
    table, epoch = facts.snapshot.table, facts.snapshot.settings.epoch
    known = [router.generation or 0 for router in facts.snapshot.routers if router.epoch == epoch]
    return max([0 if table is None else table.generation, *known])


def _plain(sentence: str) -> str:
    """Give a sentence as a table can carry it."""
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in sentence)[:1024]


def _overtaken(what: str, epoch: int) -> Reason:
    return Reason(
        ReasonCode.RoutesOvertaken,
        f"{what}, above this leader's {epoch}: nothing is written until it has renewed its Lease and raised its epoch",
    )
