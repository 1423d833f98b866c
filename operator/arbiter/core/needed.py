"""Decides which revisions a pool needs, and for what: to serve, to be prepared, to stand in, or to lie ready.

Rule: what serves is needed as it was frozen, whatever has become of its LocalModel. A model that serves in the pool is
used as it serves everywhere in it, so that two tasks share one engine; only what nothing serves yet is rendered anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING

from arbiter.api.meta import ConditionStatus
from arbiter.api.modelpool import Needs, Residence, Serving
from arbiter.api.pod import SelectorOperator
from arbiter.api.reasons import ConditionType, Reason, ReasonCode
from arbiter.core.candidacy import Candidacy
from arbiter.core.engine_health import requested
from arbiter.core.facts import CPU, ModelFacts
from arbiter.core.fit import judge_fit
from arbiter.core.revisions import render
from arbiter.core.routes import Backend
from arbiter.core.status import find_condition
from arbiter.core.stored import Stored
from arbiter.errors import CorruptStateError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.api.modelpool import Task, TaskStatus
    from arbiter.api.pod import LabelRequirement
    from arbiter.core.pool_facts import PoolFacts
    from arbiter.core.revisions import FrozenRevision


class Purpose(IntEnum):
    """What a revision is needed for; the lowest counts most."""

    ACTIVE = 0
    PREPARED = 1
    FALLBACK = 2
    PRELOAD = 3
    RETAINED = 4


@dataclass(frozen=True, slots=True)
class Wish:
    """A model that something refers to, and the revision that it comes to.

    Attributes:
        model: the LocalModel's name; empty when there is none to choose.
        revision: what of it is needed; None when nothing can be made of it.
        problem: why not; None when something can.
        note: what people should know of the choice; None without anything.
    """

    model: str
    revision: str | None = None
    problem: Reason | None = None
    note: Reason | None = None

    @property
    def serving(self) -> Serving | None:
        """The same as a status shows it."""
        return None if self.revision is None else Serving(model=self.model, revision=self.revision)


@dataclass(frozen=True, slots=True)
class Needed:
    """All that a pool needs.

    Attributes:
        revisions: what runs, by revision, in the order of their purposes.
        purposes: the highest purpose of each of them, and of revisions whose frozen form is lost.
        wishes: what each task that nothing serves should get.
        fallbacks: what stands in for each task, in order.
        preloads: what lies ready.
        pods: engine pods of each of them.
        parked: those that are kept as they were frozen, and do not run.
    """

    revisions: Mapping[str, FrozenRevision]
    purposes: Mapping[str, Purpose]
    wishes: Mapping[str, Wish]
    fallbacks: Mapping[str, tuple[Wish, ...]]
    preloads: tuple[Wish, ...]
    pods: Mapping[str, int] = field(default_factory=dict)
    parked: frozenset[str] = frozenset()

    @property
    def running(self) -> Mapping[str, FrozenRevision]:
        """Those that are to run."""
        return {revision: frozen for revision, frozen in self.revisions.items() if revision not in self.parked}

    @property
    def lost(self) -> frozenset[str]:
        """Revisions that serve and whose frozen form is lost."""
        return frozenset(self.purposes) - frozenset(self.revisions)


@dataclass(slots=True)
class _Search:
    """What has been found out in the course of one pass."""

    facts: PoolFacts
    rendered: dict[str, FrozenRevision | Reason] = field(default_factory=dict)
    revisions: dict[str, FrozenRevision] = field(default_factory=dict)
    purposes: dict[str, Purpose] = field(default_factory=dict)
    pods: dict[str, int] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)

    def now(self, model: str) -> FrozenRevision | Reason:
        """The model as it would run now, or why it cannot; found out once."""
        if model not in self.rendered:
            self.rendered[model] = as_it_would_run(self.facts, model)
        return self.rendered[model]

    def need(self, revision: str, purpose: Purpose, frozen: FrozenRevision | None, pods: int | None = None) -> None:
        """Need a revision, with so many engine pods; with all of the pool's if nobody says, and parked with none."""
        whole = self.facts.pool.spec.replicas
        self.pods[revision] = max(whole if pods is None else pods, self.pods.get(revision, 0))
        if pods != 0:
            self.runs.add(revision)
        known = self.facts.frozen.get(revision, frozen)
        self.purposes[revision] = min(purpose, self.purposes.get(revision, purpose))
        if known is not None:
            self.revisions.setdefault(revision, known)

    def find(self, model: str, kept: str | None = None) -> FrozenRevision | Reason:
        """Give the revision that a reference to a model comes to: one that serves, one that is kept, or a new one."""
        serves = [active.revision for active in self.facts.active.values() if active.model == model]
        for revision in (*serves, kept):
            if revision is not None and revision in self.facts.frozen:
                return self.facts.frozen[revision]
        return self.now(model)

    def wish(self, model: str, purpose: Purpose, found: FrozenRevision | Reason) -> Wish:
        """Need what was found."""
        if isinstance(found, Reason):
            return Wish(model, problem=found)
        self.need(found.revision, purpose, found)
        return Wish(model, found.revision)


def find_needed(facts: PoolFacts) -> Needed:
    """Decide what the pool needs."""
    search = _Search(facts)
    for served, active in facts.active.items():
        flight = facts.current.get(served)
        leaves = flight is not None and flight.old.revision == active.revision and not flight.stage.has_old
        search.need(active.revision, Purpose.ACTIVE, _as_frozen(search, active), 0 if leaves else None)
    for each in facts.flying:
        if each.flight is not None:
            pods = each.flight.pods if each.is_current and each.flight.stage.has_new else 0
            search.need(each.flight.new.revision, Purpose.PREPARED, _as_frozen(search, each.flight.new), pods)
    for task in facts.pool.spec.tasks:
        _retain(search, facts.told.get(task.name))
    tasks = facts.pool.spec.tasks
    wishes = {task.name: _wish_of(search, task) for task in tasks if task.name not in facts.active}
    fallbacks = {task.name: tuple(_stand_in(search, task, model) for model in task.fallback) for task in tasks}
    preloads = tuple(
        search.wish(model, Purpose.PRELOAD, search.find(model, _resident(facts, model)))
        for model in facts.pool.spec.preload
    )
    order = sorted(search.revisions, key=lambda revision: (search.purposes[revision], revision))
    return Needed(
        {revision: search.revisions[revision] for revision in order},
        search.purposes,
        wishes,
        fallbacks,
        preloads,
        search.pods,
        frozenset(search.revisions) - search.runs,
    )


def _as_frozen(search: _Search, serving: Serving) -> FrozenRevision | None:
    """Give the revision as it was frozen, or as its model would run now if that is the same."""
    known = search.facts.frozen.get(serving.revision)
    if known is not None:
        return known
    found = search.now(serving.model)
    return None if isinstance(found, Reason) or found.revision != serving.revision else found


def _retain(search: _Search, told: TaskStatus | None) -> None:
    """Keep what served before: loaded for a while, and on disk for longer."""
    if told is None or told.previous is None or search.facts.now >= told.previous.warm_until:
        return
    revision = told.previous.revision
    if revision in search.facts.frozen:
        hot = search.facts.now < told.previous.hot_until
        search.need(revision, Purpose.RETAINED, None, None if hot else 0)


def as_it_would_run(facts: PoolFacts, name: str) -> FrozenRevision | Reason:
    """Give a LocalModel as it would run in the pool now, or why it cannot."""
    model = facts.snapshot.models.get(name)
    if model is None or model.metadata.deletion_timestamp is not None:
        return Reason(
            ReasonCode.ModelNotFound,
            f"there is no LocalModel {name} in namespace {facts.namespace}: create it, or name another one",
        )
    ready = find_condition(model.status.conditions, ConditionType.Ready)
    if ready is None or ready.status is not ConditionStatus.TRUE or model.status.engine is None:
        why = "it has not been looked at yet" if ready is None else ready.message
        return Reason(ReasonCode.ModelNotReady, f"LocalModel {name} cannot be run yet: {why}"[:1024])
    try:
        found = render(facts.pool, model, facts.snapshot.settings, facts.shared)
        if found.elsewhere:
            _refuse_unroutable(facts, found)
    except InvalidInputError as error:
        return Reason(ReasonCode.ModelNotRunnable, f"{name} cannot run in this pool: {error}")
    except CorruptStateError as error:
        return Reason(ReasonCode.ModelNotReady, f"{name} cannot be run yet: {error}")
    return found


def _refuse_unroutable(facts: PoolFacts, found: FrozenRevision) -> None:
    """Refuse what routers could not be told: they would refuse the whole table, with all other tasks in it."""
    try:
        Backend.read(Stored(found.backend(facts.name).to_fields(), "spec.external"))
    except CorruptStateError as error:
        field, _, problem = str(error).partition(" ")
        raise InvalidInputError(field, problem) from error


def choices(facts: PoolFacts, task: Task) -> frozenset[str]:
    """Give the names of the LocalModels that a task may be served by."""
    if task.candidates:
        return frozenset(task.candidates)
    if facts.pool.spec.models is not None:
        return frozenset(facts.pool.spec.models)
    selector = facts.pool.spec.model_selector
    if selector is None:
        return frozenset()
    return frozenset(
        name
        for name, model in facts.snapshot.models.items()
        if all(model.metadata.labels.get(key) == value for key, value in selector.match_labels.items())
        and all(_matches(requirement, model.metadata.labels) for requirement in selector.match_expressions)
    )


def _matches(requirement: LabelRequirement, labels: Mapping[str, str]) -> bool:
    actual = labels.get(requirement.key)
    match requirement.operator:
        case SelectorOperator.In:
            return actual in requirement.values
        case SelectorOperator.NotIn:
            return actual not in requirement.values
        case SelectorOperator.Exists:
            return actual is not None
        case SelectorOperator.DoesNotExist:
            return actual is None


def _wish_of(search: _Search, task: Task) -> Wish:
    if task.model is not None:
        return search.wish(task.model, Purpose.PREPARED, _fitting(search, task, task.model, asked=True))
    return _choose(search, task)


def _choose(search: _Search, task: Task) -> Wish:
    """Choose for a task that leaves it to us: what is being prepared already, else the first by name that will do."""
    named = choices(search.facts, task)
    there = [name for name in named if name in search.facts.snapshot.models]
    if not there:
        which = f"none of {', '.join(sorted(named))} exists" if named else "no LocalModel matches"
        return Wish(
            "", problem=Reason(ReasonCode.NothingToChoose, f"{task.name} names no model, and {which}: create one")
        )
    told = search.facts.told.get(task.name)
    begun = None if told is None or told.candidate is None else told.candidate.model
    there.sort(key=lambda name: (name != begun, name))
    found = [(name, _fitting(search, task, name, asked=False)) for name in there]
    model, chosen = next(((name, each) for name, each in found if not isinstance(each, Reason)), found[0])
    note = Reason(
        ReasonCode.ChosenByName,
        f"{task.name} names no model, so {model} was taken, the first by name: its models are not scored yet",
    )
    return replace(search.wish(model, Purpose.PREPARED, chosen), note=note)


def _fitting(search: _Search, task: Task, name: str, *, asked: bool) -> FrozenRevision | Reason:
    """Give what a task would get of a model, or why it must not. Whoever asks for a deprecated model gets it."""
    found = search.find(name)
    if isinstance(found, Reason):
        return found
    facts = model_facts(search.facts, found, chosen=not asked)
    pool = search.facts.pool.spec
    fit = judge_fit(
        Candidacy(task.name, facts, needs=task.needs or Needs(), placement=pool.placement, capacity=pool.capacity)
    )
    return found if fit.compatible else fit.reason


def model_facts(facts: PoolFacts, frozen: FrozenRevision, *, chosen: bool) -> ModelFacts:
    """Give what is known about a model as it would run.

    Args:
        facts: of the pool.
        frozen: how it would run.
        chosen: Arbiter chose it, so that it must not be deprecated.
    """
    model = facts.snapshot.models.get(frozen.model)
    memory, cpu = requested(frozen.pod, "memory"), requested(frozen.pod, CPU)
    return ModelFacts(
        frozen.model,
        frozen.revision,
        frozen.engine,
        frozenset(frozen.capabilities) or None,
        frozen.context_window,
        frozen.memory,
        pod_memory=None if memory is None else int(memory),
        pod_cpu=None if cpu is None else cpu.thousandths(),
        license=None if model is None else model.spec.license,
        deprecated=None if not chosen or model is None else model.spec.deprecated,
    )


def _stand_in(search: _Search, task: Task, model: str) -> Wish:
    """Give a fallback as it stood in so far: what clients may get must not change under them either."""
    routed = search.facts.routed.get(task.name)
    stood = () if routed is None else routed.fallback
    kept = next(
        (
            backend.revision
            for backend in stood
            if backend.revision in search.facts.frozen and search.facts.frozen[backend.revision].model == model
        ),
        None,
    )
    return search.wish(model, Purpose.FALLBACK, search.find(model, kept))


def _resident(facts: PoolFacts, model: str) -> str | None:
    """Give the revision of a model that is loaded already."""
    return next(
        (
            each.revision
            for each in facts.pool.status.residents
            if each.model == model and each.state is Residence.Loaded
        ),
        None,
    )
