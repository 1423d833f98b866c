"""Carries out a plan: its actions in their order, each as it was decided and nothing beside.

- An Apply of what stands already as it is wanted writes nothing. Where the API server stores it otherwise than it was
  wanted (it writes amounts in its own way, and leaves out what is empty), our own last write is remembered with what
  came of it, and the same is not written again until one of the two changes.
- Tables and statuses are written only over what was seen of them. A leader that was replaced without knowing it, and
  whose request comes late, cannot write over what its successor wrote.
- A conflict ends the pass: the object is read as it is now, and the next pass decides anew. So does a name that
  somebody else has; the next pass sees that object, and says so to people.
- What was written is remembered at once, so the next pass sees it even before the watch tells.

Rule: an action is carried out or it raises; nothing is decided and nothing is repaired here.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from arbiter.api.localmodel import LocalModelStatus
from arbiter.api.meta import GROUP, VERSION
from arbiter.api.modelpool import ModelPoolStatus
from arbiter.api.modelswap import ModelSwapStatus
from arbiter.api.swappolicy import SwapPolicyStatus
from arbiter.controller.cache import MODEL, POLICY, POOL, SWAP, standing_of
from arbiter.controller.kinds import UNREAD
from arbiter.core.actions import Apply, Create, Emit, ObjectKey, Remove, StartJob, StopJob, WriteStatus
from arbiter.core.manifests.drift import says
from arbiter.errors import ConflictError, NotOursError
from arbiter.kubeapi import applying, deleting, reading
from arbiter.kubeapi.connection import Request
from arbiter.kubeapi.events import Importance
from arbiter.kubeapi.references import Reference
from arbiter.kubeapi.resources import CONFIG_MAPS, resource_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from arbiter.controller.cache import Cache
    from arbiter.controller.jobs import Jobs
    from arbiter.controller.queue import Subject
    from arbiter.core.actions import Action, Plan
    from arbiter.core.snapshot import Standing
    from arbiter.kubeapi.connection import Asking
    from arbiter.kubeapi.events import Events
    from arbiter.kubeapi.resources import Resource

log = logging.getLogger(__name__)

API_VERSION = f"{GROUP}/{VERSION}"


class Carried(Enum):
    """How carrying out a plan ended."""

    WHOLE = auto()
    """Every action was carried out."""

    OVERTAKEN = auto()
    """Something is not as it was seen: another pass has to look."""


class Counting(Protocol):
    """Where writes are counted."""

    def wrote(self, kind: str, verb: str) -> None:
        """The API server did what was asked."""

    def swap_moved(self, before: ModelSwapStatus, after: ModelSwapStatus) -> None:
        """A swap's status was written."""


@dataclass(frozen=True, slots=True)
class _Written:
    """What we wrote last to an object, and what came of it: sums of both."""

    wanted: str
    became: str


class Carrier:
    """Carries out plans."""

    def __init__(  # noqa: PLR0913  all that a plan may touch
        self,
        *,
        asking: Asking,
        cache: Cache,
        jobs: Jobs,
        events: Events,
        counting: Counting,
        now: Callable[[], datetime],
        secret: Callable[[], str],
    ) -> None:
        """Write by these.

        Args:
            asking: the way to the API server.
            cache: remembers what was written.
            jobs: does what takes long.
            events: tells people.
            counting: counts writes.
            now: the time of day.
            secret: gives a text that nobody can guess.
        """
        self._asking = asking
        self._cache = cache
        self._jobs = jobs
        self._events = events
        self._counting = counting
        self._now = now
        self._secret = secret
        self._written: dict[Subject, dict[ObjectKey, _Written]] = {}

    async def carry_out(self, subject: Subject, uid: str, plan: Plan) -> Carried:
        """Carry out the actions of a plan, in order.

        Args:
            subject: the pool or model that was passed.
            uid: of that very object, which controls all that is made for it.
            plan: what was decided.

        Raises:
            ClusterError: the API server did not do one of them; those behind it were not tried.
        """
        owner = Reference(API_VERSION, subject.kind, subject.namespace, subject.name, uid)
        for action in plan.actions:
            try:
                await self._carry_out(subject, owner, action)
            except ConflictError as error:
                log.info("looked again: %s", error, extra={"about": subject, "reason": "Conflict"})
                await self._look(subject, action)
                return Carried.OVERTAKEN
            except NotOursError as error:
                log.warning("%s", error, extra={"about": subject, "reason": "NameTaken"})
                await self._look(subject, action)
                return Carried.OVERTAKEN
        return Carried.WHOLE

    async def _carry_out(self, subject: Subject, owner: Reference, action: Action) -> None:
        match action:
            case Apply():
                await self._apply(subject, owner, action)
            case Create():
                await self._create(subject, owner, action)
            case Remove():
                await self._remove(subject, action)
            case StartJob():
                self._jobs.start(subject, action)
            case StopJob():
                self._jobs.stop(subject, action.key)
            case WriteStatus():
                await self._write_status(subject, owner, action)
            case Emit():
                regarding = Reference(API_VERSION, action.kind, subject.namespace, action.name, action.uid)
                importance = Importance.WARNING if action.warning else Importance.NORMAL
                self._events.tell(regarding, action.reason, action.reason.code.value, self._now(), importance)

    async def _apply(self, subject: Subject, owner: Reference, action: Apply) -> None:
        resource, key = resource_of(action.key.kind), action.key
        seen = self._seen(subject, key)
        wanted = _owned(action.manifest, owner)
        written = self._written.setdefault(subject, {})
        if seen is not None and not seen.deleting and _stands(written.get(key), seen.body, wanted):
            return
        body = None if seen is None else seen.body
        table = resource is CONFIG_MAPS
        stored = await applying.apply_onto(self._asking, resource, wanted, owner, body, unchanged=table)
        self._counting.wrote(key.kind, "apply")
        written[key] = _Written(_sum(wanted), _sum(_part(stored, wanted)))
        self._cache.written(resource, stored)
        log.info("applied %s", key, extra={"about": subject, "reason": "Applied"})

    async def _create(self, subject: Subject, owner: Reference, action: Create) -> None:
        resource = resource_of(action.key.kind)
        if self._seen(subject, action.key) is not None:
            return
        manifest = dict(action.manifest)
        if texts := manifest.get("stringData"):
            manifest["stringData"] = {name: text or self._secret() for name, text in texts.items()}
        if resource in UNREAD:
            stored = await self._make_unread(resource, manifest)
        else:
            stored = await applying.create(self._asking, resource, manifest, owner)
        self._counting.wrote(action.key.kind, "create")
        self._cache.written(resource, stored)
        log.info("made %s", action.key, extra={"about": subject, "reason": "Created"})

    async def _make_unread(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object that we may not read; gives it without its content. One that is there already stays."""
        path = resource.path(manifest["metadata"].get("namespace"))
        query = {"fieldManager": applying.OBJECTS, "fieldValidation": "Strict"}
        with suppress(ConflictError):
            await self._asking.ask(Request("POST", path, query, manifest))
        return {name: part for name, part in manifest.items() if name not in _HIDDEN}

    async def _remove(self, subject: Subject, action: Remove) -> None:
        resource = resource_of(action.key.kind)
        named = {"namespace": subject.namespace, "name": action.key.name, "uid": action.uid}
        if await deleting.delete(self._asking, resource, {"metadata": named}):
            self._counting.wrote(action.key.kind, "delete")
            log.info("removed %s", action.key, extra={"about": subject, "reason": "Removed"})

    async def _write_status(self, subject: Subject, owner: Reference, action: WriteStatus) -> None:
        if self._says_status(subject, action):
            return
        resource = resource_of(action.kind)
        uid = {"uid": owner.uid} if (action.kind, action.name) == (owner.kind, owner.name) else {}
        read = {"namespace": subject.namespace, "name": action.name, "resourceVersion": action.version, **uid}
        stored = await applying.write_status(self._asking, resource, {"metadata": read}, action.status)
        self._counting.wrote(action.kind, "status")
        if action.kind == SWAP and (before := self._cache.swaps.get((subject.namespace, action.name))) is not None:
            self._counting.swap_moved(before.status, ModelSwapStatus.model_validate(action.status))
        self._cache.written(resource, stored)

    def _says_status(self, subject: Subject, action: WriteStatus) -> bool:
        """Whether the object says all that already."""
        place = (subject.namespace, action.name)
        if action.kind == POOL:
            pool = self._cache.pools.get(place)
            return pool is not None and ModelPoolStatus.model_validate(action.status) == pool.status
        if action.kind == MODEL:
            model = self._cache.models.get(place)
            return model is not None and LocalModelStatus.model_validate(action.status) == model.status
        if action.kind == SWAP:
            swap = self._cache.swaps.get(place)
            return swap is not None and ModelSwapStatus.model_validate(action.status) == swap.status
        if action.kind == POLICY:
            policy = self._cache.policies.get(place)
            return policy is not None and SwapPolicyStatus.model_validate(action.status) == policy.status
        return False

    def _seen(self, subject: Subject, key: ObjectKey) -> Standing | None:
        """The object as it was seen last, whosoever it is."""
        stranger = self._cache.standing(subject).get(key)
        return stranger or self._cache.child(key.kind, (subject.namespace, key.name))

    async def _look(self, subject: Subject, action: Action) -> None:
        """Read the object on which an action failed as it is now, so that the next pass sees it."""
        match action:
            case Apply() | Create() | Remove():
                await self.look(subject, action.key)
            case WriteStatus():
                resource = resource_of(action.kind)
                found = await reading.get(self._asking, resource, subject.namespace, action.name)
                if found is not None:
                    self._cache.written(resource, found)
            case StartJob() | StopJob() | Emit():
                pass

    async def look(self, subject: Subject, key: ObjectKey) -> None:
        """Read an object by its name: one of somebody else is remembered as being in the way, or no longer.

        Raises:
            ClusterError: the API server did not say.
        """
        resource, place = resource_of(key.kind), (subject.namespace, key.name)
        if resource in UNREAD:
            return
        found = await reading.get(self._asking, resource, *place)
        if found is None:
            self._cache.stranger(subject, key, None)
            self._cache.child_seen(resource, place, None)
            return
        standing = standing_of(resource, found)
        ours = self._cache.pools if subject.kind == POOL else self._cache.models
        owner = ours.get((subject.namespace, subject.name))
        if owner is not None and standing.owner == owner.metadata.uid:
            self._cache.stranger(subject, key, None)
            self._cache.written(resource, found)
        else:
            self._cache.stranger(subject, key, standing)

    def forget(self, subject: Subject) -> None:
        """A pool or model is gone, and what it controlled goes by itself."""
        self._written.pop(subject, None)


_HIDDEN = frozenset({"data", "stringData"})
"""What is not remembered of a Secret."""


def _owned(manifest: Mapping[str, Any], owner: Reference) -> dict[str, Any]:
    """The manifest with its owner reference in the form in which it is written."""
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [owner.to_owner()]}}


def _stands(written: _Written | None, body: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether an object is as it is wanted, or as it became when we last wrote the same."""
    return says(body, wanted) or written == _Written(_sum(wanted), _sum(_part(body, wanted)))


def _sum(value: object) -> str:
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


_KEYS = ("name", "mountPath", "containerPort", "port", "uid", "key")
"""What tells the items of Kubernetes' lists apart; the first one that an item has counts."""


def _part(body: object, wanted: object) -> object:
    """The part of an object about which a manifest says something, as it stands."""
    if isinstance(wanted, dict):
        known = body if isinstance(body, dict) else {}
        return {name: _part(known.get(name), value) for name, value in wanted.items()}
    if isinstance(wanted, list) and isinstance(body, list):
        key = next(
            (key for key in _KEYS if wanted and all(isinstance(one, dict) and key in one for one in wanted)), None
        )
        if key is not None:
            found = {one.get(key): one for one in body if isinstance(one, dict)}
            return [_part(found.get(one[key]), one) for one in wanted]
    return body
