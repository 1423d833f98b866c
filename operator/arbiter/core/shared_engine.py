"""Decides what the engine that a pool's Ollama models share is asked: to fetch, make, load and unload models.

Rule: a model is made there under the name of its revision, so both sides of a swap can be there at once and a tag that
moves changes nothing. Whatever has not been asked yet is not concluded to be missing; what serves is not called down
because it is not in memory, for the engine loads it when it is asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from arbiter.api.amounts import Quantity
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core import residents
from arbiter.core.actions import StartJob
from arbiter.core.engine_health import quoted, share
from arbiter.core.manifests import names
from arbiter.core.readiness import Readiness, asked, asked_for_proof, pods_ready, view_of
from arbiter.engines import ollama_calls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.core.needed import Needed
    from arbiter.core.pool_facts import PoolFacts
    from arbiter.core.revisions import FrozenRevision
    from arbiter.core.snapshot import EngineView, JobResult
    from arbiter.engines.calls import Call

_SCHEME: Final = "ollama://"

_LARGE: Final = 10 * 1024**2
"""Bytes from which on a layer's progress is told."""


@dataclass(frozen=True, slots=True)
class SharedEngine:
    """How far the models of a shared engine are.

    Attributes:
        readiness: of each needed revision that is loaded into it.
        unloads: jobs that make room in it.
        moved: revisions whose weights are others than were resolved, because the tag moved before they were fetched.
    """

    readiness: Mapping[str, Readiness] = field(default_factory=dict)
    unloads: tuple[StartJob, ...] = ()
    moved: frozenset[str] = frozenset()


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
    residency = _residency(facts, view, frozen)
    readiness = {each.revision: _one(facts, each, view, residency, each.revision in proved) for each in frozen}
    moved = frozenset(each.revision for each in frozen if _has_moved(view, each))
    return SharedEngine(readiness, _unloads(facts, view, residency), moved)


def held_models(facts: PoolFacts, view: EngineView) -> tuple[residents.Held, ...]:
    """Give what a shared engine holds, with when and whether requests use it."""
    used = {each.revision: each.used_at for each in facts.pool.status.residents}
    revisions = {each.served: each.revision for each in facts.frozen.values() if each.shared}
    return tuple(
        residents.Held(
            one.name,
            one.memory,
            used.get(revisions.get(one.name, "")),
            facts.in_flight(revisions[one.name]) if one.name in revisions else False,
        )
        for one in view.loaded or ()
    )


def _residency(facts: PoolFacts, view: EngineView, frozen: list[FrozenRevision]) -> residents.Residency:
    stored = view.stored or {}
    wanted = [residents.Wanted(each.served, each.memory) for each in frozen if each.served in stored]
    capacity = facts.pool.spec.capacity
    return residents.settle(wanted, held_models(facts, view), _memory(facts), capacity.max_loaded_models)


def _memory(facts: PoolFacts) -> int | None:
    """Give what the models may hold together: what the pool allows, and what the pod that runs was given."""
    allowed = facts.pool.spec.capacity.memory
    given = _limit({} if facts.shared is None else facts.shared.pod)
    bounds = [int(each) for each in (allowed, given) if each is not None]
    return min(bounds, default=None)


def _limit(pod: Mapping[str, Any]) -> Quantity | None:
    for container in pod.get("containers", ()):
        amount = container.get("resources", {}).get("limits", {}).get("memory")
        if amount is not None:
            return Quantity.parse(amount)
    return None


def _one(
    facts: PoolFacts,
    frozen: FrozenRevision,
    view: EngineView,
    residency: residents.Residency,
    proved: bool,  # noqa: FBT001 - one of the five things that it follows from
) -> Readiness:
    base = pods_ready(facts, frozen)
    if not base.up:
        return replace(base, proved=proved)
    if view.stored is None or view.loaded is None:
        reason = Reason(ReasonCode.LoadingModel, f"the shared engine has not told yet whether it has {frozen.model}")
        return base if proved else Readiness(up=True, proved=False, reason=reason)
    if frozen.served not in view.stored:
        return replace(_brought(facts, frozen, view), up=False, proved=proved)
    if not any(one.name == frozen.served for one in view.loaded):
        return replace(_loaded(facts, frozen, residency), up=proved, proved=proved)
    return asked_for_proof(facts, frozen, proved=proved)


def _brought(facts: PoolFacts, frozen: FrozenRevision, view: EngineView) -> Readiness:
    origin = ollama_calls.whole_name(frozen.source.removeprefix(_SCHEME))
    if origin in (view.stored or {}):
        call = ollama_calls.create_from(frozen.served, origin, frozen.options)
        return _job(facts, frozen, f"create/{frozen.revision}", call, "made ready in")
    return _job(facts, frozen, f"pull/{frozen.revision}", ollama_calls.pull(origin), "fetched into")


def _loaded(facts: PoolFacts, frozen: FrozenRevision, residency: residents.Residency) -> Readiness:
    if frozen.served in residency.refused:
        reason = Reason(ReasonCode.WaitingForRoom, f"{frozen.model} {residency.refused[frozen.served]}")
        return Readiness(up=True, proved=False, reason=reason)
    if frozen.served not in residency.load:
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


def _unloads(facts: PoolFacts, view: EngineView, residency: residents.Residency) -> tuple[StartJob, ...]:
    url = f"http://{view.name}.{facts.namespace}.svc.{facts.snapshot.settings.cluster_domain}"
    jobs = facts.snapshot.jobs
    return tuple(
        StartJob(key, url, ollama_calls.unload(name))
        for name in residency.unload
        if not ((job := jobs.get(key := f"unload/{name}")) is not None and job.running)
    )


def _has_moved(view: EngineView, frozen: FrozenRevision) -> bool:
    """Whether the tag stands for other weights in the engine than those that were resolved."""
    found = (view.stored or {}).get(ollama_calls.whole_name(frozen.source.removeprefix(_SCHEME)))
    return found is not None and found.removeprefix("sha256:") != frozen.digest.removeprefix("sha256:")
