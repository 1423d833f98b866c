"""Decides for each task what serves it and why it stands so.

Rule: a revision becomes active once it has answered, and stays so whatever the spec asks for next: an edit of the
model, a new revision, or a LocalModel that went is reported and changes nothing. What a person should do stands in the
message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arbiter.api.modelpool import Serving
from arbiter.api.modelswap import Outcome as Ending
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.engine_health import GOES_ON, STUCK
from arbiter.core.pool_swaps import Swaps, retained
from arbiter.core.readiness import ailment_of, view_of
from arbiter.core.revisions import render_shared
from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from arbiter.api.modelpool import Retained, Task
    from arbiter.core.needed import Needed, Wish
    from arbiter.core.pool_facts import PoolFacts
    from arbiter.core.readiness import Readiness
    from arbiter.core.swap_flight import Flight
    from arbiter.core.swap_requests import Requests


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pass decided about one task.

    Attributes:
        task: its name.
        active: what serves it; None when nothing does yet.
        requested: the value of `model` that has been acted on.
        candidate: what is being prepared.
        reason: why it stands so.
        served: something takes its requests: what is active, with servers that are up.
        degraded: how it serves otherwise than it was asked to.
        fallbacks: revisions that can stand in, in order.
        previous: what served before, as long as it is kept.
        flight: the swap of the task that is in flight; None without one.
    """

    task: str
    active: Serving | None
    requested: str | None
    candidate: Serving | None
    reason: Reason
    served: bool
    degraded: tuple[Reason, ...] = ()
    fallbacks: tuple[str, ...] = ()
    previous: Retained | None = None
    flight: Flight | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the outcomes follow from.

    Attributes:
        facts: of the pool.
        needed: what it needs.
        readiness: of each needed revision.
        moved: revisions of the shared engine with other weights than were resolved.
        swaps: what was decided about swaps.
    """

    facts: PoolFacts
    needed: Needed
    readiness: Mapping[str, Readiness]
    moved: frozenset[str]
    swaps: Swaps = field(default_factory=Swaps)


def decide_task(prepared: Prepared, task: Task) -> Outcome:
    """Decide about one task of the spec."""
    active = prepared.facts.active.get(task.name)
    if active is None:
        return _prepare(prepared, task, prepared.needed.wishes[task.name])
    return _keep(prepared, task, active)


def _prepare(prepared: Prepared, task: Task, wish: Wish) -> Outcome:
    if wish.revision is None:
        reason = wish.problem or Reason(ReasonCode.ModelNotFound, f"{wish.model} cannot serve")
        return Outcome(task.name, None, None, None, reason, served=False, fallbacks=_stand_ins(prepared, task))
    ready = prepared.readiness[wish.revision]
    if not ready.ready or prepared.facts.pool.spec.suspend:
        return Outcome(
            task.name, None, None, wish.serving, ready.reason, served=False, fallbacks=_stand_ins(prepared, task)
        )
    serving = Serving(model=wish.model, revision=wish.revision)
    reason = _serves(serving) if wish.note is None else wish.note
    degraded = tuple(_flaws(prepared, task, serving))
    return Outcome(
        task.name,
        serving,
        task.model,
        None,
        reason,
        served=True,
        degraded=degraded,
        fallbacks=_stand_ins(prepared, task, serving),
    )


def _keep(prepared: Prepared, task: Task, active: Serving) -> Outcome:
    facts, swaps = prepared.facts, prepared.swaps
    promoted = next((each for each in swaps.ended(Ending.Promoted) if each.task == task.name), None)
    flight = swaps.flights.get(task.name)
    told, asked = facts.told.get(task.name), swaps.requests.get(task.name)
    before = None if told is None else told.requested
    requested = before if asked is None else asked.handled
    previous = None if told is None else told.previous
    if promoted is not None:
        # What a person went back from is not kept: whoever wants it again has it proven again.
        active, previous = promoted.new, retained(facts, promoted) if promoted.analysed else None
    if previous is not None and (facts.now >= previous.warm_until or previous.revision == active.revision):
        previous = None
    flaws = tuple(_flaws(prepared, task, active))
    stand_ins = _stand_ins(prepared, task, active)
    problem = _problem(prepared, active, flight, flaws)
    if problem is not None:
        reason, served = _down(prepared, problem, stand_ins), False
    else:
        reports = (
            *(flaw for flaw in flaws if flaw.code in _TELLS_ALL),
            *_reports(prepared, active, flight, asked),
            *flaws,
        )
        reason, served = next(iter(reports), _serves(active)), True
    return Outcome(
        task.name,
        active,
        requested,
        None if flight is None else flight.new,
        reason,
        served,
        flaws,
        stand_ins,
        previous,
        flight,
    )


def _problem(prepared: Prepared, active: Serving, flight: Flight | None, flaws: tuple[Reason, ...]) -> Reason | None:
    """Say why nobody answers; None if somebody does."""
    if flight is not None and flight.stage.holds:
        return flight.reason
    sides = [active.revision] if flight is None or flight.stage.has_old else []
    if flight is not None and flight.weight > 0:
        sides.append(flight.new.revision)
    ready = [prepared.readiness[side] for side in sides if side in prepared.readiness]
    if any(each.up for each in ready) or any(
        side not in prepared.readiness and _answers_somewhere(prepared.facts, side) for side in sides
    ):
        return None
    return next(iter((*(each.reason for each in ready), *flaws)), _serves(active))


_TELLS_ALL = frozenset({ReasonCode.FrozenFormLost, ReasonCode.ModelDeleted, ReasonCode.WeightsMoved})
"""Flaws that say more about a task than what is asked of it."""


def _answers_somewhere(facts: PoolFacts, revision: str) -> bool:
    """Whether what routers know of a revision takes requests, where its frozen form does not tell."""
    backends = (each for task in facts.routed.values() for each in task.backends if each.revision == revision)
    return any(each.service is None or view_of(facts, each.service).ready_endpoints > 0 for each in backends)


def _serves(serving: Serving) -> Reason:
    return Reason(ReasonCode.Serving, f"{serving.model} serves as revision {serving.revision}")


def _down(prepared: Prepared, reason: Reason, stand_ins: tuple[str, ...]) -> Reason:
    if not stand_ins:
        return reason
    model = prepared.needed.revisions[stand_ins[0]].model
    return Reason(reason.code, f"{reason.message}; the fallback {model} answers meanwhile")


def _reports(prepared: Prepared, active: Serving, flight: Flight | None, asked: Requests | None) -> Iterator[Reason]:
    """Say what comes, or why something that is asked for does not."""
    facts = prepared.facts
    if asked is not None and asked.report is not None:
        yield asked.report
    if flight is not None:
        yield flight.progress
    frozen = facts.frozen.get(active.revision)
    if frozen is not None and frozen.shared and _shared_would_differ(facts):
        yield Reason(
            ReasonCode.NewRevision,
            "the engine that the pool's Ollama models share would run otherwise if it were started now, because its "
            "image or the pool's settings are others by now; it serves on as it is",
        )


def _shared_would_differ(facts: PoolFacts) -> bool:
    try:
        # What was kept for its models when it began is no part of how it runs.
        return facts.shared is not None and render_shared(facts.pool, facts.snapshot.settings).pod != facts.shared.pod
    except InvalidInputError:
        return True


def _flaws(prepared: Prepared, task: Task, active: Serving) -> Iterator[Reason]:
    """Say how a task is served otherwise than it was asked for."""
    facts, model = prepared.facts, prepared.facts.snapshot.models.get(active.model)
    if active.revision in prepared.needed.lost:
        yield Reason(
            ReasonCode.FrozenFormLost,
            f"ControllerRevision {facts.name}-{active.revision} of {active.model} is gone or cannot be read; "
            "its engine is left as it stands and will not come back once deleted: request another model, or restore it",
        )
    if model is None or model.metadata.deletion_timestamp is not None:
        yield Reason(
            ReasonCode.ModelDeleted,
            f"LocalModel {active.model} was deleted; revision {active.revision} serves on as it was started: request "
            "another model, or create it again",
        )
    elif model.spec.deprecated is not None:
        yield Reason(
            ReasonCode.DeprecatedInUse,
            f"{active.model} is deprecated and serves {task.name}: {model.spec.deprecated}"[:1024],
        )
    if active.revision in prepared.moved:
        yield Reason(
            ReasonCode.WeightsMoved,
            f"the tag of {active.model} moved before its weights were fetched, so others serve than were resolved: "
            "make a LocalModel for them, and keep weights in a claim (spec.cache)",
        )
    yield from _too_few_pods(prepared, active)
    yield from _fallback_problems(prepared, task)


def _too_few_pods(prepared: Prepared, active: Serving) -> Iterator[Reason]:
    frozen = prepared.needed.revisions.get(active.revision)
    if frozen is None or frozen.elsewhere or frozen.shared:
        return
    wanted = prepared.facts.pool.spec.replicas
    ready = view_of(prepared.facts, frozen.engine_name(prepared.facts.name)).ready_endpoints
    if 0 < ready < wanted:
        said = f"{ready} of {wanted} engine pods of {active.model} are ready"
        why = ailment_of(prepared.facts, frozen).reason
        # What passes by itself is not told: each change of the sentence is a write.
        yield Reason(ReasonCode.PodsMissing, said if why.code in GOES_ON else f"{said}: {why.message}"[:1024])


def _fallback_problems(prepared: Prepared, task: Task) -> Iterator[Reason]:
    """Say which fallback cannot stand in and will not without a person."""
    for wish in prepared.needed.fallbacks[task.name]:
        problem = wish.problem if wish.revision is None else prepared.readiness[wish.revision].reason
        if problem is not None and (wish.revision is None or problem.code in STUCK):
            yield Reason(
                ReasonCode.FallbackNotReady,
                f"the fallback {wish.model} of {task.name} cannot stand in: {problem.message}",
            )


def _stand_ins(prepared: Prepared, task: Task, active: Serving | None = None) -> tuple[str, ...]:
    """Give the fallbacks that can answer. One that is routed already stays: routers pass over what is not ready."""
    facts = prepared.facts
    routed = facts.routed.get(task.name)
    before = {backend.revision for backend in routed.fallback} if routed is not None else set()
    found = [
        wish.revision
        for wish in prepared.needed.fallbacks[task.name]
        if wish.revision is not None and (wish.revision in before or prepared.readiness[wish.revision].ready)
    ]
    kept = dict.fromkeys(revision for revision in found if active is None or revision != active.revision)
    return tuple(kept)
