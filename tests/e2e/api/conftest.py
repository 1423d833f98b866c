"""What the tests of the API on a live server share: a namespace in it, and names nobody else has."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.e2e.api.client import Api

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.running import Cluster

NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def api(cluster: Cluster, installed: str) -> Iterator[Api]:
    """Give the API server, with a namespace that no earlier run has used; it goes as the definitions do."""
    assert installed
    api = Api(cluster.kubeconfig)
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "arbiter-api-"}}
    name = api.request("POST", "/api/v1/namespaces", space).taken()["metadata"]["name"]
    yield api.inside(name)
    if cluster.was_up:
        api.request("DELETE", f"/api/v1/namespaces/{name}").taken()
    api.close()


@pytest.fixture
def name() -> str:
    """Give a name that no other object of this run has."""
    return f"object-{next(NUMBERS)}"
