"""A small cluster on the loopback: an API server that stores what it is sent and tells it to those who watch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from arbiter.controller import kinds
from arbiter.errors import ConflictError, RejectedError
from arbiter.kubeapi import resources
from arbiter.kubeapi.connection import Request
from tests.unit.controller.stored import Stored
from tests.unit.kubeapi.api_server import Answer, ApiServer, Asked, line

if TYPE_CHECKING:
    from arbiter.kubeapi.resources import Resource

_KNOWN = (*resources.OUR_KINDS, *kinds.CHILDREN, *kinds.UNREAD)
_PLURALS = {each.plural for each in (*_KNOWN, resources.PODS, resources.NODES, resources.ENDPOINT_SLICES)}


class Cluster(ApiServer):
    """An API server.

    Attributes:
        stored: what it holds, and what was asked but lists and watches.
    """

    def __init__(self) -> None:
        """It is empty."""
        super().__init__()
        self.stored = Stored()
        self.stored.changed = self._tell
        self._watches: list[tuple[str, asyncio.Queue[bytes]]] = []

    def put(self, resource: Resource, body: dict[str, Any]) -> dict[str, Any]:
        """Somebody stores an object."""
        metadata = body["metadata"]
        return self.stored.put(resource.path(metadata.get("namespace"), metadata["name"]), body)

    def get(self, resource: Resource, name: str) -> dict[str, Any] | None:
        """An object of the namespace `team`."""
        return self.stored.objects.get(resource.path("team", name))

    async def answer(self, asked: Asked, answer: Answer) -> None:
        """Answer one request."""
        if asked.watching:
            events: asyncio.Queue[bytes] = asyncio.Queue()
            self._watches.append((asked.path, events))
            await answer.begin()
            while True:
                await answer.send(await events.get())
        elif asked.method == "GET" and asked.path.rpartition("/")[2] in _PLURALS:
            found = [body for path, body in self.stored.objects.items() if _within(path, asked.path)]
            await answer.list(str(self.stored.version), *found)
        else:
            request = Request(asked.method, asked.path, asked.query, asked.body)
            try:
                await answer.whole(await self.stored.ask(request))
            except RejectedError as error:
                await answer.failure(error.status, str(error))
            except ConflictError as error:
                await answer.failure(409, str(error))

    def _tell(self, kind: str, path: str, body: dict[str, Any]) -> None:
        for watched, events in self._watches:
            if _within(path, watched):
                events.put_nowait(line(kind, body))


def _within(path: str, collection: str) -> bool:
    """Whether an object belongs to a collection, of a namespace or of the whole cluster."""
    root, _, plural = collection.rpartition("/")
    folder, _, _ = path.rpartition("/")
    return folder == collection or (folder.startswith(f"{root}/namespaces/") and folder.endswith(f"/{plural}"))
