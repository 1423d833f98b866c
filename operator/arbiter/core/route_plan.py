"""Decides what a pool's routers are told, and whether they obey it.

Rule: a task is sent to what is active, and to nothing else. The generation rises with the content alone, and a table is
never written below what a router has obeyed: whoever would do that has to make sure first that it leads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.engine_health import STUCK
from arbiter.core.routes import Auth, Backend, Hold, Limits, RouteTable, Target, Task
from arbiter.core.traffic import Side

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arbiter.api.modelpool import Task as PoolTask
    from arbiter.core.outcomes import Outcome
    from arbiter.core.pool_facts import PoolFacts
    from arbiter.core.revisions import FrozenRevision

SLICE_MS: Final = 15_000
"""Length of an accounting slice."""


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
    facts: PoolFacts, outcomes: Iterable[Outcome], revisions: Mapping[str, FrozenRevision], *, lasting: bool
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
        slice_ms=SLICE_MS,
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
    limits = facts.pool.spec.router.limits
    frozen = None if outcome.active is None else revisions.get(outcome.active.revision)
    targets = _targets(facts, outcome, frozen)
    fallback = tuple(revisions[revision].backend(facts.name) for revision in outcome.fallbacks)
    nobody = lasting and outcome.reason.code in STUCK and not targets and not fallback
    needs = wanted.needs.capabilities if wanted.needs is not None else ()
    return Task(
        name=outcome.task,
        targets=targets,
        fallback=fallback,
        hold=Hold(limits.held_requests, limits.hold_timeout.seconds, _plain(outcome.reason.message) if nobody else ""),
        swap="",
        capabilities=tuple(sorted(needs)) if frozen is None else frozen.capabilities,
        context_window=None if frozen is None else frozen.context_window,
        pins={},
    )


def _targets(facts: PoolFacts, outcome: Outcome, frozen: FrozenRevision | None) -> tuple[Target, ...]:
    if outcome.active is None:
        return ()
    backend: Backend | None = None if frozen is None else frozen.backend(facts.name)
    if backend is None:
        routed = facts.routed.get(outcome.task)
        known = () if routed is None else routed.backends
        backend = next((each for each in known if each.revision == outcome.active.revision), None)
    return () if backend is None else (Target(Side.OLD, backend, 100),)


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
