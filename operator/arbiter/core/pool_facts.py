"""Reads a PoolSnapshot as decisions need it: what stands and is ours, what is frozen, and what serves each task.

Rule: only what the pool controls by its uid is ours. What serves is what the pool's status says; where the status was
lost, the routers' table, which repeats it, says it instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from arbiter.api.modelpool import Serving
from arbiter.core.actions import ObjectKey
from arbiter.core.manifests import names
from arbiter.core.manifests.drift import says, stamped
from arbiter.core.pool_flights import flying
from arbiter.core.revisions import FrozenRevision, FrozenShared
from arbiter.core.traffic import Side
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    from arbiter.api.modelpool import ModelPool, TaskStatus
    from arbiter.core.pool_flights import Flying
    from arbiter.core.routes import Task as RoutedTask
    from arbiter.core.snapshot import PoolSnapshot, RouterView, Standing
    from arbiter.core.swap_flight import Flight


@dataclass(frozen=True)
class PoolFacts:
    """One pool as a pass sees it; everything here follows from the two.

    Attributes:
        snapshot: what was seen.
        now: the time.
    """

    snapshot: PoolSnapshot
    now: datetime

    @property
    def pool(self) -> ModelPool:
        """The pool."""
        return self.snapshot.pool

    @property
    def name(self) -> str:
        """Its name."""
        return self.pool.metadata.name

    @property
    def namespace(self) -> str:
        """Where it is."""
        return self.pool.metadata.namespace

    @cached_property
    def ours(self) -> Mapping[ObjectKey, Standing]:
        """What stands, is controlled by this pool and of a kind that its plan makes."""
        uid = self.pool.metadata.uid
        return {
            key: standing
            for key, standing in sorted(self.snapshot.standing.items())
            if standing.owner == uid and key.kind in names.POOL_KINDS
        }

    def stranger(self, kind: str, name: str) -> Standing | None:
        """Give the object of somebody else that has this name, if there is one."""
        standing = self.snapshot.standing.get(ObjectKey(kind, name))
        return None if standing is None or standing.owner == self.pool.metadata.uid else standing

    def stands(self, kind: str, name: str) -> bool:
        """Whether we have this object and it is to stay."""
        standing = self.ours.get(ObjectKey(kind, name))
        return standing is not None and not standing.deleting

    def body(self, kind: str, name: str) -> Mapping[str, Any]:
        """What the API server tells of an object of ours; empty if it does not stand."""
        standing = self.ours.get(ObjectKey(kind, name))
        return {} if standing is None else standing.body

    def missing(self, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
        """Give the stamped manifest if it has to be applied; None if what stands says it already, or is not ours."""
        key, wanted = names.key_of(manifest), stamped(manifest)
        standing = self.snapshot.standing.get(key)
        if standing is None:
            return wanted
        if standing.owner != self.pool.metadata.uid or standing.deleting or says(standing.body, wanted):
            return None
        return wanted

    @cached_property
    def frozen(self) -> Mapping[str, FrozenRevision]:
        """The frozen revisions that can be read, by revision."""
        found = {}
        for key, standing in self.ours.items():
            if key.kind == "ControllerRevision" and key.name != names.shared_engine_name(self.name):
                try:
                    frozen = FrozenRevision.read(standing.body.get("data"), key.name)
                except CorruptStateError:
                    # What it was frozen for says that its frozen form is lost.
                    continue
                found[frozen.revision] = frozen
        return found

    @cached_property
    def shared(self) -> FrozenShared | None:
        """The frozen form of the engine that Ollama models share; None without a readable one."""
        name = names.shared_engine_name(self.name)
        standing = self.ours.get(ObjectKey("ControllerRevision", name))
        if standing is None:
            return None
        try:
            return FrozenShared.read(standing.body.get("data"), name)
        except CorruptStateError:
            return None

    @cached_property
    def told(self) -> Mapping[str, TaskStatus]:
        """What the pool's status says of each task."""
        return {task.name: task for task in self.pool.status.tasks}

    @cached_property
    def routed(self) -> Mapping[str, RoutedTask]:
        """What the routers' table says of each task."""
        return {} if self.snapshot.table is None else self.snapshot.table.tasks

    @cached_property
    def active(self) -> Mapping[str, Serving]:
        """What serves, by task of the spec."""
        found = {}
        for task in self.pool.spec.tasks:
            told = self.told.get(task.name)
            serving = told.active if told is not None else None
            serving = serving or self._repeated(task.name)
            if serving is not None:
                found[task.name] = serving
        return found

    def _repeated(self, task: str) -> Serving | None:
        """What the table says serves a task, where the status has lost it."""
        routed = self.routed.get(task)
        targets = () if routed is None else routed.targets
        revision = next((target.backend.revision for target in targets if target.side is Side.OLD), None)
        if revision is None or revision not in self.frozen:
            return None
        return Serving(model=self.frozen[revision].model, revision=revision)

    @cached_property
    def flying(self) -> tuple[Flying, ...]:
        """The swaps that have not ended, the oldest first."""
        return flying(self.snapshot.swaps)

    @cached_property
    def current(self) -> Mapping[str, Flight]:
        """The swap that has begun, by task."""
        return {each.flight.task: each.flight for each in self.flying if each.flight is not None and each.is_current}

    @cached_property
    def routers(self) -> tuple[RouterView, ...]:
        """Routers that are to stay."""
        return tuple(router for router in self.snapshot.routers if not router.pod.deleting)

    def in_flight(self, revision: str) -> bool | None:
        """Whether a router has requests at a revision; None if one that may have some has not said."""
        counts = [router.in_flight for router in self.snapshot.routers]
        if any(count is not None and count.get(revision, 0) > 0 for count in counts):
            return True
        return None if any(count is None for count in counts) else False

    def is_routed(self, revision: str) -> bool:
        """Whether the table that stands names a revision."""
        return any(backend.revision == revision for task in self.routed.values() for backend in task.backends)

    @cached_property
    def routers_rolled_out(self) -> bool:
        """Whether all routers that stand are of the newest form, as far as the cluster has told, ready or not."""
        body = self.body("Deployment", names.router_name(self.name))
        status = body.get("status", {})
        updated = status.get("updatedReplicas", 0)
        seen = status.get("observedGeneration", 0) >= body.get("metadata", {}).get("generation", 0)
        return bool(seen and updated > 0 and updated == status.get("replicas", 0))
