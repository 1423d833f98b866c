"""Puts together what is known of a pool or a model, from the caches alone.

Rule: nobody is asked anything here, so a pass never waits before it decides; what is not known yet is None or absent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from arbiter.api.localmodel import EngineType
from arbiter.api.swappolicy import DEFAULT_POLICY
from arbiter.controller.cache import POOL, models_used
from arbiter.controller.queue import Subject
from arbiter.core.manifests import names
from arbiter.core.snapshot import EngineView, ModelSnapshot, PodPhase, PolicySnapshot, PoolSnapshot, RouterView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from arbiter.api.localmodel import LocalModel
    from arbiter.api.modelpool import ModelPool
    from arbiter.api.modelswap import ModelSwap
    from arbiter.api.swappolicy import SwapPolicySpec
    from arbiter.controller.cache import Cache
    from arbiter.controller.check_texts import CheckTexts
    from arbiter.controller.jobs import Jobs
    from arbiter.controller.observed import SeenPod
    from arbiter.controller.scrape import Scrape
    from arbiter.controller.tables import Tables
    from arbiter.core.snapshot import OperatorSettings, PodView


class Assembly:
    """Everything that snapshots are made of."""

    def __init__(self, cache: Cache, tables: Tables, scrape: Scrape, jobs: Jobs, checks: CheckTexts) -> None:
        """Take what fills them."""
        self._checks = checks
        self._cache = cache
        self._tables = tables
        self._scrape = scrape
        self._jobs = jobs

    def pool(self, subject: Subject, settings: OperatorSettings) -> PoolSnapshot | None:
        """What is known about a pool; None when it is gone."""
        pool = self._cache.pools.get((subject.namespace, subject.name))
        if pool is None:
            return None
        pods = self._cache.pods.by(subject)
        return PoolSnapshot(
            pool=pool,
            models=self._cache.models_in(subject.namespace),
            standing=self._cache.standing(subject),
            engines=self._engines(pool, pods),
            routers=self._routers(pods),
            nodes=self._cache.nodes,
            settings=settings,
            jobs=self._jobs.results(subject),
            table=self._tables.of(subject),
            carriers=self._carriers(pods),
            same_claim=self._same_claim(pool),
            swaps=tuple(self._cache.swaps.by((subject.namespace, subject.name))),
            policy=self._policy(pool),
            checks=self._checks.of(pool),
        )

    def strays(self, subject: Subject) -> tuple[ModelSwap, ...]:
        """The swaps that name a pool that is not there."""
        return tuple(self._cache.swaps.by((subject.namespace, subject.name)))

    def policy(self, subject: Subject) -> PolicySnapshot | None:
        """What is known about a SwapPolicy; None when it is gone."""
        policy = self._cache.policies.get((subject.namespace, subject.name))
        if policy is None:
            return None
        naming = (
            pool.metadata.name
            for pool in self._cache.pools.by(subject.namespace)
            if pool.spec.swap_policy == subject.name
        )
        return PolicySnapshot(policy, tuple(sorted(naming)))

    def _policy(self, pool: ModelPool) -> SwapPolicySpec | None:
        """What rules a pool's swaps; None where the policy that it names is not there."""
        if pool.spec.swap_policy is None:
            return DEFAULT_POLICY
        policy = self._cache.policies.get((pool.metadata.namespace, pool.spec.swap_policy))
        return None if policy is None else policy.spec

    def model(self, subject: Subject, settings: OperatorSettings) -> ModelSnapshot | None:
        """What is known about a LocalModel; None when it is gone."""
        model = self._cache.models.get((subject.namespace, subject.name))
        if model is None:
            return None
        resolvers = (pod for pod in self._cache.pods.by(subject) if pod.labels.get(names.COMPONENT) == names.RESOLVER)
        return ModelSnapshot(
            model=model,
            standing=self._cache.standing(subject),
            resolver=tuple(self._view(pod) for pod in _by_name(resolvers)),
            used_by=self._used_by(model),
            settings=settings,
        )

    def _engines(self, pool: ModelPool, pods: Iterable[SeenPod]) -> dict[str, EngineView]:
        """The pool's engines by the name of their Deployment, those without pods included."""
        name, count = pool.metadata.name, self._cache.ready_endpoints(pool.metadata.namespace)
        grouped: dict[str, list[SeenPod]] = {
            key.name: []
            for key, standing in self._cache.standing(Subject(POOL, pool.metadata.namespace, name)).items()
            if key.kind == "Deployment"
            and standing.body["metadata"].get("labels", {}).get(names.COMPONENT) == names.ENGINES
        }
        for pod in pods:
            if pod.labels.get(names.COMPONENT) == names.ENGINES:
                grouped.setdefault(_engine_of(name, pod), []).append(pod)
        return {engine: self._engine(engine, found, count(engine)) for engine, found in sorted(grouped.items())}

    def _engine(self, name: str, pods: list[SeenPod], ready_endpoints: int) -> EngineView:
        """One engine. Of a shared one, the newest pod that stays says what it holds."""
        ordered = _by_name(pods)
        staying = sorted((pod for pod in ordered if not pod.view.deleting), key=lambda pod: pod.view.created_at)
        answer = self._scrape.engine(staying[-1]) if staying else None
        return EngineView(
            name=name,
            pods=tuple(self._view(pod) for pod in ordered),
            ready_endpoints=ready_endpoints,
            loaded=None if answer is None else answer.loaded,
            stored=None if answer is None else dict(answer.stored),
            idle=self._idle(pods),
        )

    def _idle(self, pods: Iterable[SeenPod]) -> bool | None:
        """Whether no pod of an engine computes anything; None where one that runs has not said, or cannot."""
        said = [self._scrape.idle(pod) for pod in pods if pod.view.phase is PodPhase.RUNNING]
        if False in said:
            return False
        return None if None in said else True

    def _routers(self, pods: Iterable[SeenPod]) -> tuple[RouterView, ...]:
        return tuple(self._router(pod) for pod in _by_name(pods) if pod.labels.get(names.COMPONENT) == names.ROUTER)

    def _carriers(self, pods: Iterable[SeenPod]) -> dict[str, tuple[PodView, ...]]:
        """The pods that carry models into the shared engine, by the name of their Job."""
        found: dict[str, tuple[PodView, ...]] = {}
        for pod in _by_name(pods):
            if pod.labels.get(names.COMPONENT) == names.CARRIER and pod.owner is not None:
                found[pod.owner.name] = (*found.get(pod.owner.name, ()), self._view(pod))
        return found

    def _same_claim(self, pool: ModelPool) -> tuple[str, ...]:
        """Other pools that keep their models in the same claim."""
        if pool.spec.cache is None:
            return ()
        others = (each for each in self._cache.pools.by(pool.metadata.namespace) if each.spec.cache == pool.spec.cache)
        return tuple(sorted(each.metadata.name for each in others if each.metadata.name != pool.metadata.name))

    def _router(self, pod: SeenPod) -> RouterView:
        answered = self._scrape.router(pod)
        silent = self._scrape.is_silent(pod)
        if answered is None:
            return RouterView(pod.view, silent=silent)
        answer, read_at = answered
        return RouterView(
            pod=pod.view,
            epoch=answer.epoch,
            generation=answer.generation,
            hash=answer.hash,
            fence=None if answer.fence is None else answer.fence.epoch,
            refused=answer.refused,
            read_at=read_at,
            silent=silent,
            in_flight=dict(answer.in_flight),
            feed=answer.feed,
        )

    def _view(self, pod: SeenPod) -> PodView:
        """A pod, with how far its download is as long as it downloads."""
        told = self._scrape.fetch(pod) if pod.fetching else None
        return pod.view if told is None else replace(pod.view, fetched=told.fetched, fetching=told.fetching)

    def _used_by(self, model: LocalModel) -> dict[str, tuple[str, ...]]:
        """The tasks that use a model, by pool: those that name it, and those that it serves."""
        namespace, name = model.metadata.namespace, model.metadata.name
        found = {pool.metadata.name: models_used(pool)[name] for pool in self._cache.pools.by((namespace, name))}
        return dict(sorted(found.items()))


def _engine_of(pool: str, pod: SeenPod) -> str:
    """The name of the Deployment that an engine's pod belongs to."""
    revision = pod.labels.get(names.REVISION)
    if revision is None or pod.labels.get(names.ENGINE) == EngineType.Ollama.value:
        return names.shared_engine_name(pool)
    return names.engine_name(pool, revision)


def _by_name(pods: Iterable[SeenPod]) -> list[SeenPod]:
    return sorted(pods, key=lambda pod: pod.view.name)
