"""What the tests of serving share: a namespace each, with our definitions, images and a small model in a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devcluster.images import built
from devcluster.pushing import Registry
from tests.e2e.serving.operators import Operators, operators
from tests.e2e.serving.place import Place
from tests.e2e.serving.wishes import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.running import Cluster


@pytest.fixture(scope="session")
def weights(cluster: Cluster, images: None) -> str:
    """Push the small model to the cluster's registry; give the digest of its image."""
    assert images is None
    assert cluster.kubeconfig.exists()
    return Registry(REGISTRY).push(built.archive("smollm2"), "models/smollm2", "1")


@pytest.fixture(scope="module")
def place(cluster: Cluster, namespace: str, images: None, installed: str) -> Place:
    """Give the module's namespace, in a cluster that knows our kinds and images."""
    assert images is None
    assert installed
    return Place(cluster, namespace)


@pytest.fixture(scope="module")
def hosts(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operators]:
    """Give what starts operators on the host for this namespace."""
    with operators(place, tmp_path_factory.mktemp("operators")) as started:
        yield started
