"""Steps of a scripted API server for tests of writes, and the objects that they are about."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from arbiter.kubeapi.references import Reference

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from tests.unit.kubeapi.api_server import Answer, Asked

    Step = Callable[[Asked, Answer], Awaitable[None]]

POOL = Reference("arbiter.dev/v1alpha1", "ModelPool", "team", "assistant", "pool-uid")
OWNED = [POOL.to_owner()]


def run(story: Coroutine[None, None, None]) -> None:
    """Run a story that must not take longer than a test may."""

    async def limited() -> None:
        await asyncio.wait_for(story, 10.0)

    asyncio.run(limited())


def config_map(**data: str) -> dict[str, Any]:
    """A manifest of ours."""
    about = {"name": "routes", "namespace": "team"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data}


def stored(
    uid: str = "u1", version: int = 7, owners: list[dict[str, Any]] | None = None, **more: str
) -> dict[str, Any]:
    """An object as the API server has it."""
    about = {"name": "routes", "namespace": "team", "uid": uid, "resourceVersion": str(version), **more}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**about, "ownerReferences": OWNED if owners is None else owners},
    }


def says(body: object, status: int = 200) -> Step:
    """A step that answers this."""

    async def step(_: Asked, answer: Answer) -> None:
        await answer.whole(body, status)

    return step


def fails(status: int, message: str = "no", **headers: str) -> Step:
    """A step that answers an error."""

    async def step(_: Asked, answer: Answer) -> None:
        await answer.failure(status, message, **headers)

    return step


async def breaks(_: Asked, answer: Answer) -> None:
    """A step that takes the request and then breaks the connection."""
    await answer.cut()
