"""Decides what the engine that a pool's Ollama models share is asked: to fetch, make, load, unload and delete models.

Rule: a model is made there under the name of its revision, so both sides of a swap can be there at once and a tag that
moves changes nothing; what the engine cannot fetch itself a Job carries there. Whatever has not been asked yet is not
concluded to be missing; what serves is not called down because it is not in memory, for the engine loads it when it is
asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from arbiter.api.amounts import Quantity
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core import residents
from arbiter.core.actions import StartJob
from arbiter.core.carrying import Carrying, carry, standing_jobs
from arbiter.core.cleaning import deletions, has_moved, origin_of, revision_in
from arbiter.core.engine_health import quoted, share
from arbiter.core.manifests import names
from arbiter.core.readiness import Readiness, asked, asked_for_proof, pods_ready, view_of
from arbiter.core.revisions import Carried
from arbiter.core.runners import Runners, is_asked, questions, rivalry, runners
from arbiter.engines import ollama_calls
from arbiter.engines.ollama_pod import models_bound
from arbiter.engines.sources import OllamaSource, parse_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.core.actions import ObjectKey
    from arbiter.core.needed import Needed
    from arbiter.core.pool_facts import PoolFacts
    from arbiter.core.revisions import FrozenRevision
    from arbiter.core.snapshot import EngineView, JobResult
    from arbiter.engines.calls import Call

_LARGE: Final = 10 * 1024**2
"""Bytes from which on a layer's progress is told."""


@dataclass(frozen=True, slots=True)
class SharedEngine:
    """How far the models of a shared engine are.

    Attributes:
        readiness: of each needed revision that is loaded into it.
        unloads: jobs that make room in its memory and on its disk, and that ask what its models are made of.
        moved: revisions whose weights are others than were resolved, because the tag moved before they were fetched.
        carriers: Jobs that are to be made, which carry models into it.
        carrying: those that are needed, made or to be made; any other one may go.
    """

    readiness: Mapping[str, Readiness] = field(default_factory=dict)
    unloads: tuple[StartJob, ...] = ()
    moved: frozenset[str] = frozenset()
    carriers: tuple[Mapping[str, Any], ...] = ()
    carrying: frozenset[ObjectKey] = frozenset()


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a revision's readiness follows from: the engine, what it loads and lets go, and what all it is to hold."""

    view: EngineView
    residency: residents.Residency
    alike: Runners
    frozen: list[FrozenRevision]

    def rival(self, frozen: FrozenRevision) -> FrozenRevision | None:
        """Give what matters more and cannot be in memory beside a revision."""
        before = self.frozen[: self.frozen.index(frozen)]
        found = self.alike.rival(frozen.revision, [each.revision for each in before])
        return next((each for each in before if each.revision == found), None)


def ask_shared_engine(facts: PoolFacts, needed: Needed, proved: frozenset[str]) -> SharedEngine:
    """Decide for all needed revisions of the shared engine.

    Args:
        facts: of the pool.
        needed: what it needs.
        proved: revisions that have answered once.
    """
    frozen = [each for each in needed.running.values() if each.shared]
    if not frozen:
        return SharedEngine()
    view = view_of(facts, names.shared_engine_name(facts.name))
    alike = runners(facts, view, frozen)
    residency = _residency(facts, view, frozen, alike)
    found = {each.revision: _one(facts, each, _Seen(view, residency, alike, frozen), proved) for each in frozen}
    url = f"http://{view.name}.{facts.namespace}.svc.{facts.snapshot.settings.cluster_domain}"
    return SharedEngine(
        {revision: each.readiness for revision, each in found.items()},
        (*questions(facts, alike, view, url), *_unloads(facts, url, residency), *deletions(facts, needed, view, url)),
        frozenset(each.revision for each in frozen if has_moved(view.stored or {}, each)),
        tuple(each.made for each in found.values() if each.made is not None),
        frozenset(key for each in found.values() for key in each.stays),
    )


def held_models(facts: PoolFacts, view: EngineView) -> tuple[residents.Held, ...]:
    """Give what a shared engine holds, with when and whether requests use it."""
    used = {each.revision: each.used_at for each in facts.pool.status.residents}
    revisions = {each.served: each.revision for each in facts.frozen.values() if each.shared}
    return tuple(
        residents.Held(
            one.name,
            one.memory,
            used.get(revisions.get(one.name, "")),
            facts.in_flight(revision) if revision is not None else False,
        )
        for one in view.loaded or ()
        for revision in (revisions.get(one.name) or revision_in(one.name),)
    )


def _residency(facts: PoolFacts, view: EngineView, frozen: list[FrozenRevision], alike: Runners) -> residents.Residency:
    """Settle what is in memory. What is there under another name of the same weights is there.

    While it is still asked what models are made of, nothing leaves: it may be what serves under another name.
    """
    wanted: list[residents.Wanted] = []
    before: list[str] = []
    for each in (one for one in frozen if one.served in (view.stored or {})):
        names = alike.same(each.revision)
        if is_asked(facts, each.revision, alike) and each.served not in alike.loaded:
            continue
        if alike.rival(each.revision, before) is None and not any(one.name in names for one in wanted):
            name = each.served if each.served in alike.loaded else min(names & alike.loaded, default=each.served)
            wanted.append(residents.Wanted(name, each.memory))
        before.append(each.revision)
    settled = residents.settle(wanted, held_models(facts, view), _memory(facts), _models(facts))
    return replace(settled, unload=()) if any(is_asked(facts, each, alike) for each in alike.asked) else settled


def _memory(facts: PoolFacts) -> int | None:
    """Give what the models may hold together: what the pool allows, and what the pod that runs was given."""
    allowed = facts.pool.spec.capacity.memory
    given = _limit({} if facts.shared is None else facts.shared.pod)
    bounds = [int(each) for each in (allowed, given) if each is not None]
    return min(bounds, default=None)


def _models(facts: PoolFacts) -> int | None:
    """Give how many may be loaded at once: as the pool allows, and as the server that runs was told.

    Above what it was told it would unload one of them by itself, and that might be one that serves.
    """
    allowed = facts.pool.spec.capacity.max_loaded_models
    told = None if facts.shared is None else models_bound(facts.shared.pod)
    return min((each for each in (allowed, told) if each is not None), default=None)


def _limit(pod: Mapping[str, Any]) -> Quantity | None:
    for container in pod.get("containers", ()):
        amount = container.get("resources", {}).get("limits", {}).get("memory")
        if amount is not None:
            return Quantity.parse(amount)
    return None


def _one(facts: PoolFacts, frozen: FrozenRevision, seen: _Seen, all_proved: frozenset[str]) -> Carrying:
    base, view, proved = pods_ready(facts, frozen), seen.view, frozen.revision in all_proved
    if not base.up:
        return Carrying(replace(base, proved=proved), standing_jobs(facts, frozen))
    if view.stored is None or view.loaded is None:
        reason = Reason(ReasonCode.LoadingModel, f"the shared engine has not told yet whether it has {frozen.model}")
        readiness = base if proved else Readiness(up=True, proved=False, reason=reason)
        return Carrying(readiness, standing_jobs(facts, frozen))
    if frozen.served not in view.stored:
        brought = _brought(facts, frozen, view.stored)
        return replace(brought, readiness=replace(brought.readiness, up=False, proved=proved))
    if not seen.alike.holds(frozen.revision) or seen.rival(frozen) is not None:
        return Carrying(replace(_loaded(facts, frozen, seen), up=proved, proved=proved))
    return Carrying(asked_for_proof(facts, frozen, proved=proved))


def _brought(facts: PoolFacts, frozen: FrozenRevision, stored: Mapping[str, str]) -> Carrying:
    origin = origin_of(frozen)
    if frozen.carried is not None or origin is None:
        return carry(facts, frozen, frozen.carried or Carried())
    if origin in stored:
        call = ollama_calls.create_from(frozen.served, origin, frozen.options)
        return Carrying(_job(facts, frozen, f"create/{frozen.revision}", call, "made ready in"))
    call = ollama_calls.pull(origin, insecure=_speaks_plain_http(facts, frozen))
    return Carrying(_job(facts, frozen, f"pull/{frozen.revision}", call, "fetched into"))


def _speaks_plain_http(facts: PoolFacts, frozen: FrozenRevision) -> bool:
    """Whether the operator is told that a model's registry is asked without TLS."""
    source = parse_source(frozen.source)
    return isinstance(source, OllamaSource) and source.host in facts.snapshot.settings.plain_http


def _loaded(facts: PoolFacts, frozen: FrozenRevision, seen: _Seen) -> Readiness:
    if (rival := seen.rival(frozen)) is not None:
        return Readiness(up=True, proved=False, reason=rivalry(frozen.model, rival.model))
    if is_asked(facts, frozen.revision, seen.alike):
        # Until it is known what it is made of, loading it might take the place of what serves.
        reason = Reason(ReasonCode.LoadingModel, f"{frozen.model} is about to be loaded into the shared engine")
        return Readiness(up=True, proved=False, reason=reason)
    # Of several that are one in memory, the first is loaded for all.
    names, residency = seen.alike.same(frozen.revision), seen.residency
    if refused := names & residency.refused.keys():
        reason = Reason(ReasonCode.WaitingForRoom, f"{frozen.model} {residency.refused[min(refused)]}")
        return Readiness(up=True, proved=False, reason=reason)
    if not names & frozenset(residency.load):
        reason = Reason(
            ReasonCode.LoadingModel, f"other models leave the shared engine to make room for {frozen.model}"
        )
        return Readiness(up=True, proved=False, reason=reason)
    call = ollama_calls.preload(frozen.served, float(frozen.startup_s), only_embeds=frozen.only_embeds)
    return _job(facts, frozen, f"load/{frozen.revision}", call, "loaded into")


def _job(facts: PoolFacts, frozen: FrozenRevision, key: str, call: Call, what: str) -> Readiness:
    result = facts.snapshot.jobs.get(key)
    far = "" if result is None or not result.running else _progress(result.reply or {})
    waiting = Reason(ReasonCode.LoadingModel, f"{frozen.model} is being {what} the shared engine{far}")
    return asked(facts, frozen, (key, call), result, (waiting, _failure(frozen, result, what)))


def _progress(line: Mapping[str, Any]) -> str:
    """Say how far a fetch is; only of a large layer, since the small ones are over before anybody reads that."""
    whole, have = line.get("total"), line.get("completed")
    if not isinstance(whole, int) or not isinstance(have, int) or whole < _LARGE:
        return ""
    return f": {share(have, whole)}"


def _failure(frozen: FrozenRevision, result: JobResult | None, what: str) -> Reason | None:
    if result is None or result.running or result.ok:
        return None
    words = quoted(result.problem or f"it answered {result.status or 'nothing'}")
    return Reason(ReasonCode.LoadFailed, f"{frozen.model} could not be {what} the shared engine: {words}")


def _unloads(facts: PoolFacts, url: str, residency: residents.Residency) -> tuple[StartJob, ...]:
    jobs = facts.snapshot.jobs
    return tuple(
        StartJob(key, url, ollama_calls.unload(name))
        for name in residency.unload
        if not ((job := jobs.get(key := f"unload/{name}")) is not None and job.running)
    )
