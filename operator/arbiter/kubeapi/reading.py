"""Reads objects as they stand now: one by its name, or all of a selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arbiter.errors import RejectedError, UnreachableError
from arbiter.kubeapi.connection import ExpiredError, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.kubeapi.connection import Asking
    from arbiter.kubeapi.resources import Resource, Selection

PAGE = 500
"""Objects in one page of a list: what kubectl asks for, so that no answer is large."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A whole list.

    Attributes:
        items: the objects.
        version: its resource version, from which a watch goes on.
    """

    items: tuple[Mapping[str, Any], ...]
    version: str


async def get(asking: Asking, resource: Resource, namespace: str | None, name: str) -> dict[str, Any] | None:
    """One object; `None` when there is none of that name.

    Raises:
        ClusterError: the API server did not say.
    """
    try:
        return await asking.ask(Request("GET", resource.path(namespace, name), {}))
    except RejectedError as error:
        if error.status == 404:
            return None
        raise


async def list_all(asking: Asking, selection: Selection) -> Listed:
    """All objects of a selection, as they stood at one moment.

    Raises:
        ClusterError: the API server did not say.
    """
    try:
        return await _pages(asking, selection, PAGE)
    except ExpiredError:
        # Reading the pages took longer than the server keeps that moment, so ask for everything at once.
        return await _pages(asking, selection, 0)


async def _pages(asking: Asking, selection: Selection, page: int) -> Listed:
    items: list[Mapping[str, Any]] = []
    query = {**selection.query, "limit": str(page)} if page else selection.query
    while True:
        answer = await asking.ask(Request("GET", selection.path, query))
        metadata, found = answer.get("metadata"), answer.get("items")
        if not isinstance(metadata, dict) or not isinstance(found, list) or not metadata.get("resourceVersion"):
            raise UnreachableError(f"the API server's answer is no list of {selection}")
        items += found
        if not (more := metadata.get("continue")):
            return Listed(tuple(items), metadata["resourceVersion"])
        query = {**query, "continue": more}
