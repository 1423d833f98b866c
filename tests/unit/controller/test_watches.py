"""What is followed, and what happens where a right is missing or a watch breaks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from arbiter.controller.cache import Cache
from arbiter.controller.watches import Watches, everything
from arbiter.kubeapi import resources
from tests.unit.controller.cluster import Cluster
from tests.unit.controller.cluster_objects import POOL, pod, pool
from tests.unit.kubeapi.api_server import Answer, Asked, connection_to

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Strict(Cluster):
    """A cluster that refuses some addresses."""

    def __init__(self, refused: Callable[[str], bool]) -> None:
        super().__init__()
        self.refused = refused
        self.paths: set[str] = set()
        self.all_asked = asyncio.Event()
        self.want = 0

    async def answer(self, asked: Asked, answer: Answer) -> None:
        """Refuse, or answer."""
        self.paths.add(asked.path)
        if len(self.paths) == self.want:
            self.all_asked.set()
        if self.refused(asked.path):
            await answer.failure(403, f"cannot list {asked.path}")
        else:
            await super().answer(asked, answer)


async def watched(cluster: Strict, folder: Path) -> tuple[Watches, Cache]:
    """Watches of the namespace `team`, after the cluster has told all that it would."""
    async with cluster.up():
        connection = connection_to(cluster, folder)
        cache = Cache(lambda _: None)
        followed = tuple(everything(cache, ("team",)))
        watches = Watches(connection, followed, lambda: 0.0)
        cluster.want = len(followed)
        task = asyncio.create_task(watches.run())
        async with asyncio.timeout(5.0):
            await cluster.all_asked.wait()
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait({task})
        await connection.close()
    return watches, cache


def test_everything_is_seen_once_before_anything_is_passed(tmp_path: Path) -> None:
    """Pools, models, what we made, and of pods only ours but for what all of them hold."""
    cluster = Strict(lambda _: False)
    cluster.put(resources.MODEL_POOLS, pool())
    cluster.put(resources.PODS, pod("r1", {"arbiter.dev/pool": "assistant"}))
    watches, cache = asyncio.run(watched(cluster, tmp_path))
    assert watches.synced.is_set()
    assert watches.missing == ()
    assert [each.metadata.name for each in cache.pools] == ["assistant"]
    assert [each.view.name for each in cache.pods.by(POOL)] == ["r1"]
    selected = {asked.path: asked.query.get("labelSelector") for asked in cluster.asked}
    assert selected["/api/v1/namespaces/team/pods"] == "app.kubernetes.io/managed-by=arbiter"
    assert selected["/apis/apps/v1/namespaces/team/deployments"] == "app.kubernetes.io/managed-by=arbiter"
    assert not any(path.endswith("/secrets") for path in selected), "Secrets are never read"


@pytest.mark.parametrize(
    ("refused", "want_synced"),
    [
        pytest.param("/api/v1/nodes", True, id="nodes are not needed"),
        pytest.param("/api/v1/pods", True, id="nor what all pods hold"),
        pytest.param("/api/v1/namespaces/team/services", False, id="the rest is"),
    ],
)
def test_a_missing_right_is_waited_for_where_it_is_needed(tmp_path: Path, refused: str, *, want_synced: bool) -> None:
    """And said, in the log and by the probe."""
    watches, _ = asyncio.run(watched(Strict(lambda path: path == refused), tmp_path))
    assert watches.synced.is_set() is want_synced
    assert bool(watches.missing) is not want_synced
    assert sum(watches.lost.values()) == 1


def test_an_object_that_cannot_be_read_keeps_no_other_from_being_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its name."""
    cluster = Strict(lambda _: False)
    broken = pod("broken", {"arbiter.dev/pool": "assistant"}, containerStatuses=[{"state": 7}])
    cluster.put(resources.PODS, broken)
    cluster.put(resources.PODS, pod("r1", {"arbiter.dev/pool": "assistant"}))
    watches, cache = asyncio.run(watched(cluster, tmp_path))
    assert watches.synced.is_set()
    assert [each.view.name for each in cache.pods] == ["r1"]
    assert "team/broken of pods in team" in caplog.text
