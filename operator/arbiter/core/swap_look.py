"""Looks at one swap: puts together what its next decision may know, from what the pass has found out.

Rule: a fact comes from one place. Who is ready is the cluster's to say, who obeys is the routers', who has answered is
the engine's own; nothing is remembered here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from arbiter.api.modelpool import Needs
from arbiter.api.modelswap import Intent, Phase
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.api.swappolicy import Strategy
from arbiter.core.candidacy import Candidacy
from arbiter.core.engine_health import STUCK, quoted, requested
from arbiter.core.facts import CPU
from arbiter.core.fit import judge_fit
from arbiter.core.needed import model_facts
from arbiter.core.readiness import asked as ask_again
from arbiter.core.readiness import view_of
from arbiter.core.route_plan import laggards, told_weight, unheard
from arbiter.core.swap_analysis import first_failures
from arbiter.core.swap_checks import ask_checks
from arbiter.core.swap_choice import SharedRoom, choose_strategy, with_held
from arbiter.core.swap_seen import Choice, Opening, SideSeen, SwapSeen
from arbiter.core.windows import window_at
from arbiter.engines.load import load_call
from arbiter.engines.openai_calls import proof_call
from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from arbiter.api.modelpool import Serving, Task
    from arbiter.api.swappolicy import SwapPolicySpec
    from arbiter.core.actions import StartJob
    from arbiter.core.candidacy import Fit
    from arbiter.core.needed import Needed
    from arbiter.core.pool_facts import PoolFacts
    from arbiter.core.pool_flights import Flying
    from arbiter.core.readiness import Readiness
    from arbiter.core.revisions import FrozenRevision
    from arbiter.core.swap_checks import Asked
    from arbiter.core.swap_flight import Flight
    from arbiter.core.swap_requests import Requests

_PATIENCE: Final = timedelta(seconds=60)
"""How long what hardly mends by itself may last while no request is at stake."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a swap.

    Attributes:
        seen: what the next decision may know.
        asked: how far the task's checks are.
        jobs: what its engines are asked now.
    """

    seen: SwapSeen
    asked: Asked
    jobs: tuple[StartJob, ...] = ()


_AT_ONCE: Final = frozenset({ReasonCode.EngineCrashed, ReasonCode.StartedTooSlowly})
"""What has lasted long enough when it is told."""


def look(
    facts: PoolFacts, needed: Needed, readiness: Mapping[str, Readiness], flying: Flying, requests: Requests
) -> Look:
    """Give what is seen of a swap.

    Args:
        facts: of the pool.
        needed: what it needs.
        readiness: of each revision that runs.
        flying: the swap, which has been seen before.
        requests: what was decided about all that is asked for its task.
    """
    flight = flying.flight
    if flight is None:
        raise ValueError(f"{flying.name} has not been seen before")
    task = next((each for each in facts.pool.spec.tasks if each.name == flight.task), None)
    asked = ask_checks(facts, needed, flight, task)
    late = laggards(facts)
    begins = flight.phase is Phase.Waiting
    fit = _fit(facts, needed, flight, task) if begins and task is not None else None
    warming = _warming(facts, needed, flight, readiness)
    choice = _choice(facts, needed, flight, fit) if begins else Choice(flight.strategy, flight.reason)
    feeds = [router.feed for router in facts.routers]
    since_ms = round(flight.history[-1].at.timestamp() * 1000) if flight.history else 0
    seen = SwapSeen(
        old=_side(facts, needed, readiness, flight, flight.old),
        new=_side(facts, needed, readiness, flight, flight.new),
        choice=choice,
        window=_window(flight.policy, facts.now),
        intent=flying.swap.spec.intent,
        replicas=max(facts.pool.spec.replicas, 1),
        is_active=_serves(facts, flight),
        withdrawn=requests.withdrawn.get(flying.name) or _gone(facts, flight, task),
        task_gone=task is None,
        superseded=requests.superseded.get(flying.name),
        delayed=_delayed(facts, needed, flight, asked) or _unasked(flying, flight, choice),
        fit=fit,
        obeyed=told_weight(facts, flight) and not late,
        laggards=late,
        unheard=unheard(facts),
        warming=None if warming is None else warming.reason,
        checks=asked.checked,
        first_failed=first_failures(feeds, flight.task, since_ms) if flight.moves_requests else 0,
    )
    jobs = asked.jobs if warming is None else warming.jobs
    return Look(seen, asked, jobs if seen.new.serves or flight.strategy is Strategy.OneAtATime else ())


def _warming(facts: PoolFacts, needed: Needed, flight: Flight, readiness: Mapping[str, Readiness]) -> Readiness | None:
    """Ask the new side for the completions that it has to give before it counts; None once they have come back."""
    frozen, ready = needed.running.get(flight.new.revision), readiness.get(flight.new.revision)
    if flight.phase is not Phase.Preparing or frozen is None or ready is None or not ready.ready:
        return None
    call, count = proof_call(frozen.served, frozen.capabilities), flight.policy.warm_up.completions
    # The first one was asked for when its engine came up.
    for number in range(2, count + 1):
        key = f"warm/{number}/{frozen.revision}"
        result = facts.snapshot.jobs.get(key)
        if result is not None and not result.running and result.ok:
            continue
        waiting = Reason(ReasonCode.WarmingUp, f"{frozen.model} is asked for its completion {number} of {count}")
        failed = None
        if result is not None and not result.running:
            told = f"{frozen.model} did not give its completion {number} of {count}: {quoted(result.problem)}"
            failed = Reason(ReasonCode.WarmingUp, told)
        return ask_again(facts, frozen, (key, call), result, (waiting, failed))
    return None


def _serves(facts: PoolFacts, flight: Flight) -> bool:
    active = facts.active.get(flight.task)
    return active is not None and active.revision == flight.new.revision


def _gone(facts: PoolFacts, flight: Flight, task: Task | None) -> Reason | None:
    if task is None:
        return Reason(ReasonCode.Withdrawn, f"the task {flight.task} is no longer in the pool")
    if flight.phase is Phase.Waiting and _serves(facts, flight):
        told = f"{flight.new.model} serves {flight.task} already, as revision {flight.new.revision}"
        return Reason(ReasonCode.Withdrawn, told)
    return None


def _side(
    facts: PoolFacts,
    needed: Needed,
    readiness: Mapping[str, Readiness],
    flight: Flight,
    serving: Serving,
) -> SideSeen:
    ready, frozen = readiness.get(serving.revision), needed.revisions.get(serving.revision)
    idle = _idle(facts, frozen, serving.revision)
    if frozen is None:
        told = f"what revision {serving.revision} of {serving.model} runs is not on record, and cannot be made anew"
        lost = Reason(ReasonCode.FrozenFormLost, told)
        return SideSeen(lost, broken=lost, idle=idle)
    if ready is None:
        return SideSeen(
            Reason(ReasonCode.EngineApplied, f"the engine of {serving.model} is not started yet"), idle=idle
        )
    return SideSeen(
        reason=ready.reason,
        ready=_endpoints(facts, frozen) if ready.up else 0,
        proved=ready.proved,
        broken=_broken(flight, ready, facts.now),
        idle=idle,
    )


def _idle(facts: PoolFacts, frozen: FrozenRevision | None, revision: str) -> bool | None:
    """Whether nothing is under way at a revision, by the routers' word, and by its engine's own where that can say."""
    routed = facts.in_flight(revision)
    said: bool | None = True
    if frozen is not None and load_call(frozen.engine) is not None:
        said = view_of(facts, frozen.engine_name(facts.name)).idle
    if routed or said is False:
        return False
    return None if routed is None or said is None else True


def _endpoints(facts: PoolFacts, frozen: FrozenRevision) -> int:
    """Count what takes requests; what is not in pods of its own is there for all of them."""
    if frozen.elsewhere or frozen.shared:
        return max(facts.pool.spec.replicas, 1)
    return view_of(facts, frozen.engine_name(facts.name)).ready_endpoints


def _broken(flight: Flight, ready: Readiness, now: datetime) -> Reason | None:
    """Say why a side will not serve; what only may not mend gets a minute, unless requests are at stake."""
    if ready.ready or ready.reason.code not in STUCK:
        return None
    began = flight.history[-1].at if flight.history else now
    if ready.reason.code in _AT_ONCE or flight.moves_requests or now >= began + _PATIENCE:
        return ready.reason
    return None


def _window(policy: SwapPolicySpec, now: datetime) -> Opening:
    try:
        state = window_at(policy.windows, now)
    except InvalidInputError as error:
        told = f"the policy's windows cannot be read, so nothing rises: {error}"
        return Opening(open=False, reason=Reason(ReasonCode.WindowClosed, told))
    return Opening(state.is_open, state.reason, state.changes_at)


def _delayed(facts: PoolFacts, needed: Needed, flight: Flight, asked: Asked) -> Opening | None:
    """One swap of a task at a time, one at a time that needs room, and none whose checks do not read."""
    if asked.problem is not None:
        return Opening(open=False, reason=asked.problem)
    before = facts.current.get(flight.task)
    if before is not None and before.name != flight.name:
        told = f"{before.name} ends first: {before.reason.message}"
        return Opening(open=False, reason=Reason(ReasonCode.OtherSwapRuns, told))
    if not _takes_room(needed, flight):
        return None
    for other in facts.current.values():
        if other.task != flight.task and other.started_at is not None and _starts_engines(facts, other):
            told = f"{other.name} takes up room for engines; one swap of the pool does so at a time"
            return Opening(open=False, reason=Reason(ReasonCode.OtherSwapRuns, told))
    return None


def _unasked(flying: Flying, flight: Flight, choice: Choice) -> Opening | None:
    """Interrupt nobody for a new revision that no person has asked for: where it has no room of its own, it waits."""
    renews = flying.command.ours and flight.old.model == flight.new.model
    if not renews or choice.strategy is not Strategy.OneAtATime or flying.swap.spec.intent is Intent.Promote:
        return None
    told = f"{choice.reason.message}; since nobody asked for it, it waits until its intent is Promote"
    return Opening(open=False, reason=Reason(ReasonCode.NewRevision, told))


def _takes_room(needed: Needed, flight: Flight) -> bool:
    """Whether its new side has no engine yet that would do."""
    frozen = needed.revisions.get(flight.new.revision)
    return frozen is not None and not frozen.elsewhere and flight.new.revision in needed.parked


def _starts_engines(facts: PoolFacts, flight: Flight) -> bool:
    frozen = facts.frozen.get(flight.new.revision)
    return frozen is None or not frozen.elsewhere


def _fit(facts: PoolFacts, needed: Needed, flight: Flight, task: Task) -> Fit | None:
    new, old = needed.revisions.get(flight.new.revision), needed.revisions.get(flight.old.revision)
    if new is None:
        return None
    pool = facts.pool.spec
    nodes = with_held(facts.snapshot.nodes, _held(facts, old)) if _takes_room(needed, flight) else ()
    return judge_fit(
        Candidacy(
            flight.task,
            model_facts(facts, new, chosen=False),
            None if old is None else model_facts(facts, old, chosen=False),
            needs=task.needs or Needs(),
            compatibility=flight.policy.compatibility,
            min_samples=flight.policy.trigger.min_samples,
            placement=pool.placement,
            capacity=pool.capacity,
            nodes=nodes or None,
        )
    )


def _choice(facts: PoolFacts, needed: Needed, flight: Flight, fit: Fit | None) -> Choice:
    new, old = needed.revisions.get(flight.new.revision), needed.revisions.get(flight.old.revision)
    names = (flight.old_name, flight.new_name)
    if new is None or not _takes_room(needed, flight):
        told = f"{flight.new_name} is there already, so both serve side by side"
        return Choice(Strategy.SideBySide, Reason(ReasonCode.RoomForBoth, told))
    both_shared = new.shared and old is not None and old.shared
    shared = _shared_room(facts, needed, new, old) if both_shared and old is not None else None
    return choose_strategy(flight.policy.rollout.strategy, fit, shared, _held_by(facts, flight), names)


def _shared_room(facts: PoolFacts, needed: Needed, new: FrozenRevision, old: FrozenRevision) -> SharedRoom:
    """Add up what the shared engine has to hold beside each other."""
    capacity = facts.pool.spec.capacity
    models = {each.revision: each for each in needed.running.values() if each.shared} | {new.revision: new}
    sizes = [each.memory for each in models.values()]
    known = [size for size in sizes if size is not None]
    return SharedRoom(
        None if capacity.memory is None else int(capacity.memory),
        capacity.max_loaded_models,
        sum(known) if len(known) == len(sizes) else None,
        len(models),
        rivals=new.digest == old.digest and new.options != old.options,
    )


def _held_by(facts: PoolFacts, flight: Flight) -> str:
    """Name another task that needs the old side's engine."""
    others = (
        task for task, active in facts.active.items() if task != flight.task and active.revision == flight.old.revision
    )
    other = next(others, None)
    return "" if other is None else f"the task {other}"


def _held(facts: PoolFacts, old: FrozenRevision | None) -> Iterator[tuple[str, Mapping[str, int]]]:
    """Give what the old side's pods hold of their nodes."""
    if old is None or old.elsewhere or old.shared:
        return
    memory, cpu = requested(old.pod, "memory"), requested(old.pod, CPU)
    gpus = facts.pool.spec.placement.gpus
    amounts = {} if memory is None else {"memory": int(memory)}
    if cpu is not None:
        amounts[CPU] = cpu.thousandths()
    if gpus is not None:
        amounts[gpus.resource] = gpus.count
    for pod in view_of(facts, old.engine_name(facts.name)).pods:
        if pod.node and not pod.deleting:
            yield pod.node, amounts
