"""Follows everything that snapshots are made of, and hands it to the cache.

One watch for each kind and namespace, or one for the whole cluster. Of Kubernetes' own kinds only objects with our
label are followed, besides nodes and what all pods hold of them. An operator that may not see these two works on, and
knows nothing of room on nodes; without any of the others nothing is passed.

Rule: what a watch tells goes to the cache in its order, and nothing else happens here.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arbiter.controller.kinds import CHILDREN
from arbiter.kubeapi import resources as kinds
from arbiter.kubeapi.resources import Selection
from arbiter.kubeapi.watching import Lost, Seen, Synced, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from arbiter.controller.cache import Cache
    from arbiter.controller.store import Place
    from arbiter.kubeapi.connection import Connection
    from arbiter.kubeapi.resources import Resource

log = logging.getLogger(__name__)

OURS = "app.kubernetes.io/managed-by=arbiter"
"""What every object that we make is labelled with; Kubernetes copies it from a Service to its EndpointSlices."""

BOUND = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
"""Pods that hold something of a node."""


@dataclass(frozen=True, slots=True)
class Followed:
    """A selection, and where it is remembered.

    Attributes:
        selection: what is followed.
        seen: takes each object that is new or changed, and None for one that is gone.
        needed: nothing is passed before all of it was told.
    """

    selection: Selection
    seen: Callable[[Place, Mapping[str, Any] | None], None]
    needed: bool = True


def everything(cache: Cache, namespaces: Sequence[str]) -> Iterator[Followed]:
    """All that is followed.

    Args:
        cache: where it is remembered.
        namespaces: in which; empty for all.
    """
    yield Followed(Selection(kinds.NODES), cache.node_seen, needed=False)
    yield Followed(Selection(kinds.PODS, fields=BOUND), cache.bound_pod_seen, needed=False)
    for namespace in namespaces or (None,):
        yield Followed(Selection(kinds.LOCAL_MODELS, namespace), cache.model_seen)
        yield Followed(Selection(kinds.MODEL_POOLS, namespace), cache.pool_seen)
        yield Followed(Selection(kinds.MODEL_SWAPS, namespace), cache.swap_seen)
        yield Followed(Selection(kinds.SWAP_POLICIES, namespace), cache.policy_seen)
        yield Followed(Selection(kinds.PODS, namespace, OURS), cache.pod_seen)
        yield Followed(Selection(kinds.ENDPOINT_SLICES, namespace, OURS), cache.slice_seen)
        for resource in CHILDREN:
            yield Followed(Selection(resource, namespace, OURS), _child_of(cache, resource))


def _child_of(cache: Cache, resource: Resource) -> Callable[[Place, Mapping[str, Any] | None], None]:
    def seen(place: Place, body: Mapping[str, Any] | None) -> None:
        cache.child_seen(resource, place, body)

    return seen


class Watches:
    """The watches of one process.

    Attributes:
        synced: set once everything that is needed was told.
        lost: how often a watch broke, by the plural name of its kind.
    """

    def __init__(self, connection: Connection, followed: Sequence[Followed], draw: Callable[[], float]) -> None:
        """Follow nothing yet.

        Args:
            connection: to the API server.
            followed: what to follow.
            draw: numbers drawn evenly from [0, 1), for pauses.
        """
        self.synced = asyncio.Event()
        self.lost: dict[str, int] = {each.selection.resource.plural: 0 for each in followed}
        self._connection = connection
        self._followed = followed
        self._draw = draw
        self._missing = set(range(len(followed)))
        self._silent: set[int] = set()

    @property
    def missing(self) -> tuple[str, ...]:
        """What has not been told yet, or is not told any more, as words."""
        return tuple(str(self._followed[number].selection) for number in sorted(self._missing | self._silent))

    async def run(self) -> None:
        """Follow, for ever."""
        async with asyncio.TaskGroup() as group:
            for number, followed in enumerate(self._followed):
                group.create_task(self._follow(number, followed))

    async def _follow(self, number: int, followed: Followed) -> None:
        async with aclosing(watch(self._connection, followed.selection, self._draw)) as events:
            async for event in events:
                match event:
                    case Seen(name, found, namespace):
                        self._hand_over(followed, (namespace, name), found)
                    case Synced():
                        self._silent.discard(number)
                        self._settle(number)
                    case Lost(reason):
                        self.lost[followed.selection.resource.plural] += 1
                        log.warning("%s are no longer followed: %s", followed.selection, reason)
                        if followed.needed:
                            self._silent.add(number)
                        else:
                            self._settle(number)

    def _hand_over(self, followed: Followed, place: Place, found: Mapping[str, Any] | None) -> None:
        """Give an object to the cache. One that cannot be read must not keep all others from being seen."""
        try:
            followed.seen(place, found)
        except Exception:
            named = "/".join(place)
            log.exception("%s of %s cannot be read", named, followed.selection, extra={"reason": "Unforeseen"})

    def _settle(self, number: int) -> None:
        self._missing.discard(number)
        if not self._missing:
            self.synced.set()
