"""Plans the swaps of a pool: makes those that are asked for, and moves on those that stand.

Rule: a swap that stands moves on by what its own status says; the pool's status only says what is active. Whoever is
promoted becomes active in the pool's status first and ends in its own status then, so that a pass that is cut short
between the two is finished by the next one. Nothing is asked of a suspended pool.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from arbiter.api.modelpool import Rejection, Retained, Serving
from arbiter.api.modelswap import Outcome, Phase
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.api.swappolicy import Strategy
from arbiter.core.manifests import names
from arbiter.core.needed import as_it_would_run
from arbiter.core.prompt_checks import Checks
from arbiter.core.route_plan import laggards, unheard
from arbiter.core.swap import advance
from arbiter.core.swap_analysis import Learnt
from arbiter.core.swap_checks import checks_of
from arbiter.core.swap_flight import requested
from arbiter.core.swap_look import look
from arbiter.core.swap_record import FAILED, Shown, SideNow
from arbiter.core.swap_requests import Requests, Wanted, swap_name, weigh

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arbiter.api.modelpool import Task
    from arbiter.core.actions import StartJob
    from arbiter.core.judgement import Judgement
    from arbiter.core.needed import Needed
    from arbiter.core.pool_facts import PoolFacts
    from arbiter.core.pool_flights import Flying
    from arbiter.core.readiness import Readiness
    from arbiter.core.snapshot import PodView
    from arbiter.core.swap_flight import Flight
    from arbiter.core.swap_look import Look


@dataclass(frozen=True, slots=True)
class Moved:
    """A swap after this look at it.

    Attributes:
        flying: as it stood.
        after: as it is now; None while it cannot be said what it would run.
        shown: what people are shown beside it.
        problem: why it cannot be said; None if it can.
        jobs: what its engines are asked now.
        laggards: routers that are replaced, because they do not obey.
    """

    flying: Flying
    after: Flight | None
    shown: Shown = field(default_factory=Shown)
    problem: Reason | None = None
    jobs: tuple[StartJob, ...] = ()
    laggards: tuple[PodView, ...] = ()


@dataclass(frozen=True, slots=True)
class Swaps:
    """What a pass decided about the swaps of a pool.

    Attributes:
        requests: about what is asked for, by task.
        moved: about each swap that had not ended.
        created: the swaps that are to be made, as manifests.
    """

    requests: Mapping[str, Requests] = field(default_factory=dict)
    moved: tuple[Moved, ...] = ()
    created: tuple[Mapping[str, Any], ...] = ()

    @property
    def flights(self) -> Mapping[str, Flight]:
        """The swap of each task that is in flight now: the one that has begun, else the newest that waits."""
        going = [each.after for each in self.moved if each.after is not None and not each.after.ended]
        ordered = sorted(going, key=lambda flight: flight.phase is not Phase.Waiting)
        return {flight.task: flight for flight in ordered}

    def ended(self, *outcomes: Outcome) -> tuple[Flight, ...]:
        """The swaps that have just ended so."""
        return tuple(
            each.after
            for each in self.moved
            if each.after is not None and each.after.ended and each.after.outcome in outcomes
        )


def plan_swaps(facts: PoolFacts, needed: Needed, readiness: Mapping[str, Readiness]) -> Swaps:
    """Decide about everything that is asked for, and move on what stands."""
    if facts.pool.spec.suspend:
        return Swaps()
    requests = {task.name: weigh(_wanted(facts, task)) for task in facts.pool.spec.tasks if task.name in facts.active}
    moved = tuple(
        _moved(facts, needed, readiness, flying, requests.get(flying.swap.spec.task, Requests()))
        for flying in facts.flying
    )
    return Swaps(requests, moved, tuple(_created(facts, requests)))


def retained(facts: PoolFacts, promoted: Flight) -> Retained:
    """Say how long what served before a swap is kept."""
    rollout = promoted.policy.rollout
    hot_s = 0.0 if promoted.strategy is Strategy.OneAtATime else rollout.keep_hot.seconds
    hot = facts.now.replace(microsecond=0) + timedelta(seconds=hot_s)
    warm = hot + timedelta(seconds=rollout.keep_warm.seconds)
    return Retained(model=promoted.old.model, revision=promoted.old.revision, hot_until=hot, warm_until=warm)


def rejections(facts: PoolFacts, swaps: Swaps) -> tuple[Rejection, ...]:
    """Give what was tried and failed, with what has failed just now and without what serves by now."""
    tasks = {task.name for task in facts.pool.spec.tasks}
    found = {(each.task, each.revision): each for each in facts.pool.status.rejected if each.task in tasks}
    for flight in swaps.ended(*FAILED):
        key = (flight.task, flight.new.revision)
        times = found[key].times + 1 if key in found else 1
        found[key] = Rejection(
            task=flight.task,
            revision=flight.new.revision,
            model=flight.new.model,
            reason=flight.reason.code.value,
            at=facts.now.replace(microsecond=0),
            times=times,
        )
    for flight in swaps.ended(Outcome.Promoted):
        found.pop((flight.task, flight.new.revision), None)
    newest_first = sorted(found.values(), key=lambda each: each.at, reverse=True)[:_MOST_REJECTED]
    return tuple(sorted(newest_first, key=lambda each: (each.task, each.revision)))


_MOST_REJECTED = 128
"""Rejections that a status holds."""


def _wanted(facts: PoolFacts, task: Task) -> Wanted:
    active, told = facts.active[task.name], facts.told.get(task.name)
    target = None
    if task.model is not None and task.model != active.model:
        found = as_it_would_run(facts, task.model)
        target = found if isinstance(found, Reason) else Serving(model=found.model, revision=found.revision)
    return Wanted(
        task=task.name,
        active=active,
        asked=task.model,
        handled=None if told is None else told.requested,
        target=target,
        renewed=_renewed(facts, task, active),
        commands=tuple(each.command for each in facts.flying if each.swap.spec.task == task.name),
        rejections={each.revision: each for each in facts.pool.status.rejected if each.task == task.name},
    )


def _renewed(facts: PoolFacts, task: Task, active: Serving) -> tuple[Serving, str] | None:
    """Give the active model as it would run now, if that is another revision; a deleted model has none."""
    if task.model not in {None, active.model}:
        return None
    found, before = as_it_would_run(facts, active.model), facts.frozen.get(active.revision)
    if isinstance(found, Reason) or found.revision == active.revision or before is None:
        return None
    moved = before.digest != found.digest
    why = "its source holds other weights by now" if moved else "its image or settings are others by now"
    return Serving(model=active.model, revision=found.revision), why


def _created(facts: PoolFacts, requests: Mapping[str, Requests]) -> Iterable[dict[str, Any]]:
    owner = names.owner_of("ModelPool", facts.pool.metadata)
    taken = [swap.metadata.name for swap in facts.snapshot.swaps]
    for task, decided in requests.items():
        if decided.create is None:
            continue
        new = decided.create
        name = swap_name(facts.name, task, taken)
        taken.append(name)
        spec = {
            "pool": facts.name,
            "task": task,
            "to": new.to.model,
            "revision": new.to.revision,
            "reason": new.reason[:1024],
        }
        yield names.manifest("ModelSwap", name, owner, {names.POOL: facts.name, names.TASK: task}, spec=spec)


def _moved(
    facts: PoolFacts, needed: Needed, readiness: Mapping[str, Readiness], flying: Flying, requests: Requests
) -> Moved:
    if flying.flight is None:
        return _first_seen(facts, flying)
    flight, active = flying.flight, facts.active.get(flying.flight.task)
    if flight.phase is Phase.Waiting and active is not None:
        # What it waited for may have been the end of another swap of its task.
        flight = replace(flight, old=active)
    found = look(facts, needed, readiness, replace(flying, flight=flight), requests)
    flight, judgement = _learnt(facts, replace(flight, pairs=found.asked.pairs), found)
    after = advance(flight, replace(found.seen, judgement=judgement), facts.now)
    return Moved(
        flying, after, _shown(facts, after, found, judgement), jobs=found.jobs, laggards=_laggards(facts, after)
    )


def _laggards(facts: PoolFacts, after: Flight) -> tuple[PodView, ...]:
    """Give the routers that had their time to obey and say that they do not."""
    due = after.next.at if after.next is not None and after.reason.code is ReasonCode.RoutersBehind else None
    if due is None or facts.now < due:
        return ()
    late = set(laggards(facts)) - set(unheard(facts))
    return tuple(router.pod for router in facts.routers if router.pod.name in late and router.pod.uid)


def _first_seen(facts: PoolFacts, flying: Flying) -> Moved:
    """Freeze what a swap is about and what rules it."""
    spec, active = flying.swap.spec, facts.active.get(flying.swap.spec.task)
    if flying.problem:
        return Moved(flying, None, problem=Reason(ReasonCode.FrozenFormLost, flying.problem))
    if spec.task not in (tasks := [task.name for task in facts.pool.spec.tasks]):
        told = f"{facts.name} has no task {spec.task}; its tasks are {', '.join(tasks)}"
        return Moved(flying, None, problem=Reason(ReasonCode.TaskNotFound, told))
    if active is None:
        told = f"nothing serves {spec.task} in {facts.name} yet, so there is nothing to swap"
        return Moved(flying, None, problem=Reason(ReasonCode.Withdrawn, told))
    if facts.snapshot.policy is None:
        told = f"the pool's SwapPolicy {facts.pool.spec.swap_policy} is not there: create it, or name another one"
        return Moved(flying, None, problem=Reason(ReasonCode.PolicyNotFound, told))
    new = _target(facts, flying)
    if isinstance(new, Reason):
        return Moved(flying, None, problem=new)
    before = facts.told.get(spec.task)
    goes_back = before is not None and before.previous is not None and before.previous.revision == new.revision
    flight = requested(flying.name, spec.task, facts.snapshot.policy, (active, new), spec.reason)
    return Moved(flying, replace(flight, analysed=not goes_back))


def _target(facts: PoolFacts, flying: Flying) -> Serving | Reason:
    spec = flying.swap.spec
    if spec.revision is not None and spec.revision in facts.frozen:
        return Serving(model=facts.frozen[spec.revision].model, revision=spec.revision)
    found = as_it_would_run(facts, spec.to)
    if isinstance(found, Reason):
        return found
    if spec.revision is not None and spec.revision != found.revision and not _is_ours(facts, flying):
        told = (
            f"the pool keeps no revision {spec.revision} of {spec.to}, which would run as {found.revision} now: leave "
            "spec.revision out"
        )
        return Reason(ReasonCode.FrozenFormLost, told)
    return Serving(model=found.model, revision=found.revision)


def _is_ours(facts: PoolFacts, flying: Flying) -> bool:
    owners = flying.swap.metadata.owner_references
    return any(owner.uid == facts.pool.metadata.uid for owner in owners)


def _learnt(facts: PoolFacts, flight: Flight, found: Look) -> tuple[Flight, Judgement | None]:
    """Learn from what routers have counted since and from the checks, while both sides serve."""
    compared = flight.phase in {Phase.Shifting, Phase.Watching} and flight.strategy is Strategy.SideBySide
    if not compared or not flight.analysed:
        return flight, None
    now_ms = round(facts.now.timestamp() * 1000)
    learnt = flight.learnt
    if learnt is None and found.asked.unread:
        # What is learnt from is settled once: without the checks quality would be left out of it.
        return flight, None
    if learnt is None:
        learnt = Learnt.begin(flight.policy, flight.task, found.asked.scored, len(flight.steps) + 1, now_ms)
    task = next((each for each in facts.pool.spec.tasks if each.name == flight.task), None)
    checks = None if task is None else checks_of(facts, task)
    if isinstance(checks, Checks) and flight.pairs is not None and flight.pairs.checks == checks.hash:
        learnt = learnt.score([pair.weighed for pair in flight.pairs.settled(checks)][learnt.scores :])
    if found.seen.obeyed and facts.snapshot.table is not None:
        feeds = {router.pod.name: router.feed for router in facts.routers if router.pod.ready}
        learnt = learnt.observe(feeds, facts.snapshot.table.generation, now_ms)
    judgement = learnt.judge()
    return replace(flight, learnt=learnt), judgement


def _shown(facts: PoolFacts, flight: Flight, found: Look, judgement: Judgement | None) -> Shown:
    seen = found.seen
    counted = {} if judgement is None else {report.name.value: report for report in judgement.metrics}
    success = counted.get("success")
    sides = []
    for serving, side, requests in (
        (flight.old, seen.old, None if success is None else success.n_old),
        (flight.new, seen.new, None if success is None else success.n_new),
    ):
        frozen = facts.frozen.get(serving.revision)
        sides.append(SideNow(side.ready, "" if frozen is None else frozen.digest, requests))
    task = next((each for each in facts.pool.spec.tasks if each.name == flight.task), None)
    checks = None if task is None else checks_of(facts, task)
    known = isinstance(checks, Checks) and flight.pairs is not None and flight.pairs.checks == checks.hash
    shown = flight.pairs.statuses(checks) if known and flight.pairs is not None and isinstance(checks, Checks) else None
    return Shown(sides[0], sides[1], judgement, shown)
