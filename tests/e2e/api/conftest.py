"""What the tests of the API on a live server share: our definitions in it, a namespace, and names nobody else has."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from arbiter.api import crd
from tests.e2e.api.client import Api
from tests.e2e.running import ROOT, Cluster, said

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = [definition["metadata"]["name"] for definition in crd.definitions().values()]
NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Iterator[str]:
    """Install the definitions as the README says, and give what that printed.

    Those that were not there before are taken away in the end, and with them what was made of them; a cluster that
    the tests brought up goes away as a whole.
    """
    there = said(cluster.kubectl("get", "crds", "--output=name")).split()
    made = [name for name in NAMES if f"customresourcedefinition.apiextensions.k8s.io/{name}" not in there]
    applied = cluster.kubectl("apply", "--server-side", f"--filename={ROOT / 'crds'}")
    assert applied.stderr == ""
    printed = said(applied)
    printed += said(cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crds", *NAMES))
    yield printed
    if made and cluster.was_up:
        said(cluster.kubectl("delete", "crds", *made))


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
