"""Remembers what the watches told, and says which pools and models each change concerns.

Objects of ours keep their whole body but for `managedFields`; pods, nodes and endpoints only what a snapshot shows of
them. What we have just written is remembered at once, so that the next pass does not decide on what was before.

Rule: a change that shows nothing new concerns nobody, and no change is dropped because of what was decided on it.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from arbiter.api.localmodel import LocalModel
from arbiter.api.modelpool import ModelPool
from arbiter.api.modelswap import ModelSwap
from arbiter.api.swappolicy import SwapPolicy
from arbiter.controller.kinds import UNREAD
from arbiter.controller.observed import SeenPod, held_by_pod, node_facts, owner_of, seen_pod, seen_slice
from arbiter.controller.queue import Subject
from arbiter.controller.store import Store
from arbiter.core.actions import ObjectKey
from arbiter.core.manifests import names
from arbiter.core.snapshot import Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

    from arbiter.controller.observed import Held, SeenSlice
    from arbiter.controller.store import Place
    from arbiter.core.facts import NodeFacts
    from arbiter.kubeapi.resources import Resource

log = logging.getLogger(__name__)

POOL, MODEL, POLICY, SWAP = "ModelPool", "LocalModel", "SwapPolicy", "ModelSwap"
"""The kinds whose status passes write. The last one is passed with its pool."""

BY_LABELS = ""
"""Stands for the name of a model where a pool chooses models by their labels; no model has it."""

Parsed = TypeVar("Parsed", LocalModel, ModelPool, ModelSwap, SwapPolicy)


class Cache:
    """What the watches told.

    Attributes:
        pools: the ModelPools, found by their namespace, by each model that they name, and by whether they choose by
            labels.
        models: the LocalModels, found by their namespace too.
        swaps: the ModelSwaps, found by their namespace and pool too.
        policies: the SwapPolicies.
        pods: pods of ours, found by their pool and their model.
    """

    def __init__(self, concerned: Callable[[Subject], None]) -> None:
        """Nothing was told yet.

        Args:
            concerned: called for every pool or model that a change concerns.
        """
        self._concerned = concerned
        self.pools: Store[ModelPool] = Store(_found_by)
        self.models: Store[LocalModel] = Store(lambda model: (model.metadata.namespace,))
        self.swaps: Store[ModelSwap] = Store(lambda swap: ((swap.metadata.namespace, swap.spec.pool),))
        self.policies: Store[SwapPolicy] = Store()
        self.pods: Store[SeenPod] = Store(_subjects_of_pod)
        self._children: dict[str, Store[tuple[Subject, Standing]]] = {}
        self._strangers: dict[Subject, dict[ObjectKey, Standing]] = {}
        self._slices: Store[SeenSlice] = Store(lambda seen: ((seen.namespace, seen.service),))
        self._nodes: Store[NodeFacts] = Store()
        self._held: Store[Held] = Store()
        self._held_sums: dict[str, Counter[str]] = {}
        self._node_facts: tuple[NodeFacts, ...] | None = None
        self._models_by_name: dict[str, Mapping[str, LocalModel]] = {}

    # What the watches tell.

    def pool_seen(self, place: Place, body: Mapping[str, Any] | None) -> None:
        """A pool is new, changed or gone. It concerns itself and the models whose use by it is another one now."""
        before = self.pools.get(place)
        pool = None if body is None else _parsed(ModelPool, body)
        if pool is None:
            self.pools.drop(place)
        elif before is not None and before.metadata.resource_version == pool.metadata.resource_version:
            return
        else:
            self.pools.put(place, pool)
        if before is not None and (pool is None or pool.metadata.uid != before.metadata.uid):
            self.forget_unread(Subject(POOL, *place))
        self._concerned(Subject(POOL, *place))
        used = models_used(before), models_used(pool)
        for model in used[0].keys() | used[1].keys():
            if used[0].get(model) != used[1].get(model):
                self._concerned(Subject(MODEL, place[0], model))
        named = {None if each is None else each.spec.swap_policy for each in (before, pool)}
        if len(named) > 1:
            for policy in named - {None}:
                self._concerned(Subject(POLICY, place[0], str(policy)))

    def model_seen(self, place: Place, body: Mapping[str, Any] | None) -> None:
        """A LocalModel is new, changed or gone. It concerns itself and the pools that may use it."""
        before = self.models.get(place)
        model = None if body is None else _parsed(LocalModel, body)
        if model is None:
            self.models.drop(place)
        elif before is not None and before.metadata.resource_version == model.metadata.resource_version:
            return
        else:
            self.models.put(place, model)
        self._models_by_name.pop(place[0], None)
        self._concerned(Subject(MODEL, *place))
        for pool in (*self.pools.by(place), *self.pools.by((place[0], BY_LABELS))):
            self._concerned(Subject(POOL, place[0], pool.metadata.name))

    def swap_seen(self, place: Place, body: Mapping[str, Any] | None) -> None:
        """A ModelSwap is new, changed or gone. It concerns the pool that it names."""
        before = self.swaps.get(place)
        swap = None if body is None else _parsed(ModelSwap, body)
        if swap is None:
            self.swaps.drop(place)
        elif before is not None and before.metadata.resource_version == swap.metadata.resource_version:
            return
        else:
            self.swaps.put(place, swap)
        for pool in {each.spec.pool for each in (before, swap) if each is not None}:
            self._concerned(Subject(POOL, place[0], pool))

    def policy_seen(self, place: Place, body: Mapping[str, Any] | None) -> None:
        """A SwapPolicy is new, changed or gone. It concerns itself and the pools that name it."""
        before = self.policies.get(place)
        policy = None if body is None else _parsed(SwapPolicy, body)
        if policy is None:
            self.policies.drop(place)
        elif before is not None and before.metadata.resource_version == policy.metadata.resource_version:
            return
        else:
            self.policies.put(place, policy)
        self._concerned(Subject(POLICY, *place))
        if before is not None and policy is not None and before.spec == policy.spec:
            return
        for pool in self.pools.by(place[0]):
            if pool.spec.swap_policy == place[1]:
                self._concerned(Subject(POOL, place[0], pool.metadata.name))

    def child_seen(self, resource: Resource, place: Place, body: Mapping[str, Any] | None) -> None:
        """An object that we made is new, changed or gone. It concerns who controls it."""
        store = self._children.setdefault(resource.kind, Store(lambda each: (each[0],)))
        before, after = store.get(place), None if body is None else _owned(resource, body)
        if before is not None and after is not None and _version(before[1]) == _version(after[1]):
            return
        if after is None:
            store.drop(place)
        else:
            store.put(place, after)
        for subject in {each[0] for each in (before, after) if each is not None}:
            self._concerned(subject)

    def pod_seen(self, place: Place, body: Mapping[str, Any] | None) -> None:
        """A pod of ours is new, changed or gone."""
        pod = None if body is None else seen_pod(body)
        before = self.pods.drop(place) if pod is None else self.pods.put(place, pod)
        if before != pod:
            for subject in {*_subjects(before), *_subjects(pod)}:
                self._concerned(subject)

    def slice_seen(self, place: Place, body: Mapping[str, Any] | None) -> None:
        """Endpoints of a Service of ours changed."""
        seen = None if body is None else seen_slice(body)
        before = self._slices.drop(place) if seen is None else self._slices.put(place, seen)
        if before != seen:
            for pool in {each.pool for each in (before, seen) if each is not None and each.pool}:
                self._concerned(Subject(POOL, place[0], pool))

    def node_seen(self, place: Place, body: Mapping[str, Any] | None) -> None:
        """A node is new, changed or gone. What a decision reads of it changes seldom, and then concerns every pool."""
        node = None if body is None else node_facts(body)
        before = self._nodes.drop(place) if node is None else self._nodes.put(place, node)
        if before != node:
            self._node_facts = None
            for pool in self.pools:
                self._concerned(Subject(POOL, pool.metadata.namespace, pool.metadata.name))

    def bound_pod_seen(self, place: Place, body: Mapping[str, Any] | None) -> None:
        """Any pod of the cluster is new, changed or gone. It concerns nobody: who waits for room looks again anyway."""
        held = None if body is None else held_by_pod(body)
        before = self._held.drop(place) if held is None else self._held.put(place, held)
        if before == held:
            return
        self._node_facts = None
        if before is not None:
            self._held_sums[before.node].subtract(dict(before.amounts))
        if held is not None:
            self._held_sums.setdefault(held.node, Counter()).update(dict(held.amounts))

    # What we know from writing.

    def written(self, resource: Resource, body: Mapping[str, Any]) -> None:
        """Remember an object as the API server stored it for us; the watch will tell the same."""
        metadata = body["metadata"]
        place = (metadata.get("namespace", ""), metadata["name"])
        match resource.kind:
            case "ModelPool":
                self.pool_seen(place, body)
            case "LocalModel":
                self.model_seen(place, body)
            case "ModelSwap":
                self.swap_seen(place, body)
            case "SwapPolicy":
                self.policy_seen(place, body)
            case _:
                self.child_seen(resource, place, body)

    def stranger(self, subject: Subject, key: ObjectKey, standing: Standing | None) -> None:
        """An object that this subject wants to have stands and is somebody else's; None: it no longer does."""
        known = self._strangers.setdefault(subject, {})
        before = known.pop(key, None)
        if standing is not None:
            known[key] = standing
        if not known:
            del self._strangers[subject]
        if (None if before is None else before.uid) != (None if standing is None else standing.uid):
            self._concerned(subject)

    def strangers(self) -> tuple[tuple[Subject, ObjectKey], ...]:
        """Every object that stands in somebody's way, to be looked at again."""
        return tuple((subject, key) for subject, known in self._strangers.items() for key in known)

    def forget_unread(self, subject: Subject) -> None:
        """What this subject has of kinds that no watch tells of has to be asked for again."""
        for resource in UNREAD:
            store = self._children.get(resource.kind) or Store()
            for _, standing in store.by(subject):
                store.drop((subject.namespace, standing.key.name))

    def forget(self, subject: Subject) -> None:
        """A pool or model is gone; what it controlled goes by itself."""
        self._strangers.pop(subject, None)
        self.forget_unread(subject)

    # What snapshots are made of.

    def standing(self, subject: Subject) -> dict[ObjectKey, Standing]:
        """What a pool or model controls, and what stands in its way."""
        found = {each.key: each for store in self._children.values() for _, each in store.by(subject)}
        return {**found, **self._strangers.get(subject, {})}

    def child(self, kind: str, place: Place) -> Standing | None:
        """An object of ours of this kind, whoever controls it."""
        store = self._children.get(kind)
        found = None if store is None else store.get(place)
        return None if found is None else found[1]

    def subjects(self) -> Iterator[Subject]:
        """Every pool, model and policy."""
        for pool in self.pools:
            yield Subject(POOL, pool.metadata.namespace, pool.metadata.name)
        for model in self.models:
            yield Subject(MODEL, model.metadata.namespace, model.metadata.name)
        for policy in self.policies:
            yield Subject(POLICY, policy.metadata.namespace, policy.metadata.name)

    def children(self, kind: str) -> Iterator[tuple[Subject, Standing]]:
        """All objects of ours of this kind, and who controls each."""
        store = self._children.get(kind)
        return iter(()) if store is None else iter(store)

    def models_in(self, namespace: str) -> Mapping[str, LocalModel]:
        """The LocalModels of a namespace, by name: the same mapping until one of them changes."""
        known = self._models_by_name.get(namespace)
        if known is None:
            found = {model.metadata.name: model for model in self.models.by(namespace)}
            known = self._models_by_name[namespace] = MappingProxyType(found)
        return known

    def ready_endpoints(self, namespace: str) -> Callable[[str], int]:
        """How many pods a Service of this namespace sends requests to."""

        def count(service: str) -> int:
            return len(frozenset[str]().union(*(each.ready for each in self._slices.by((namespace, service)))))

        return count

    @property
    def nodes(self) -> tuple[NodeFacts, ...]:
        """The nodes of the cluster, and what is taken of each."""
        if self._node_facts is None:
            self._node_facts = tuple(
                replace(node, requested={name: amount for name, amount in self._held_on(node.name) if amount})
                for node in sorted(self._nodes, key=lambda node: node.name)
            )
        return self._node_facts

    def _held_on(self, node: str) -> Iterable[tuple[str, int]]:
        return sorted(self._held_sums.get(node, Counter[str]()).items())


def models_used(pool: ModelPool | None) -> dict[str, tuple[str, ...]]:
    """Every LocalModel that a pool names, for whatever, and the tasks that use it, by wish or as it is."""
    if pool is None:
        return {}
    spec = pool.spec
    found: dict[str, set[str]] = {model: set() for model in (*(spec.models or ()), *spec.preload)}
    for task in spec.tasks:
        for model in (*task.candidates, *task.fallback, *((task.model,) if task.model else ())):
            found.setdefault(model, set()).add(task.name)
    for served in pool.status.tasks:
        for side in (served.active, served.candidate):
            if side is not None:
                found.setdefault(side.model, set()).add(served.name)
    return {model: tuple(sorted(tasks)) for model, tasks in found.items()}


def _found_by(pool: ModelPool) -> Iterator[Hashable]:
    namespace = pool.metadata.namespace
    yield namespace
    if pool.spec.model_selector is not None:
        yield namespace, BY_LABELS
    for model in models_used(pool):
        yield namespace, model


def standing_of(resource: Resource, body: Mapping[str, Any]) -> Standing:
    """An object as a snapshot shows it. Objects in lists do not say of which kind they are, so that is added."""
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    owner = owner_of(body)
    return Standing(
        key=ObjectKey(resource.kind, metadata["name"]),
        uid=metadata.get("uid", ""),
        owner="" if owner is None else owner.uid,
        body={**body, "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata},
        deleting=bool(metadata.get("deletionTimestamp")),
    )


def _owned(resource: Resource, body: Mapping[str, Any]) -> tuple[Subject, Standing] | None:
    """An object with the pool or model that controls it; None when neither does."""
    owner = owner_of(body)
    if owner is None or owner.kind not in {POOL, MODEL}:
        return None
    return Subject(owner.kind, body["metadata"].get("namespace", ""), owner.name), standing_of(resource, body)


def _version(standing: Standing) -> str:
    return str(standing.body["metadata"].get("resourceVersion"))


def _subjects_of_pod(pod: SeenPod) -> tuple[Subject, ...]:
    pool, model = pod.labels.get(names.POOL), pod.labels.get(names.MODEL)
    found = [Subject(POOL, pod.namespace, pool)] if pool else []
    return (*found, Subject(MODEL, pod.namespace, model)) if model else tuple(found)


def _subjects(pod: SeenPod | None) -> tuple[Subject, ...]:
    return () if pod is None else _subjects_of_pod(pod)


def _parsed(kind: type[Parsed], body: Mapping[str, Any]) -> Parsed | None:
    """Read one of our kinds; one that cannot be read is left alone, as it stands, until it can."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        metadata = body["metadata"]
        where = f"{metadata.get('namespace')}/{metadata['name']}"
        log.error("%s %s cannot be read and is left as it is: %s", kind.__name__, where, error)  # noqa: TRY400  the message says it
        return None
