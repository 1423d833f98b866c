"""What the cluster tests share: one real cluster for all of them, and namespaces of their own in it.

The cluster is this machine's devcluster: one that is up is used and left up, else it is brought up and taken down
again. In CI the machine is the run's own: what an earlier run left there because it was killed is taken down first,
for a test that skips itself beside somebody's cluster counts as failed.

With ARBITER_KUBECONTEXT set it is that context of the user's kubeconfig, and no other: whatever context happens to be
current there is never used. Tests of devcluster itself are then left out, because there is none.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.api import crd
from devcluster import build
from devcluster.images.recipes import NAMES
from devcluster.native.state import directory
from devcluster.waiting import wait_until
from tests.e2e.engines import answers
from tests.e2e.running import ROOT, Cluster, allowed, devcluster, named_context, run, said, up
from tests.e2e.traces import traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONTEXT = os.environ.get("ARBITER_KUBECONTEXT", "")
LAST = ("test_api_server", "test_lifecycle")
"""The modules that take the API server away for a while, and the whole cluster down."""

DEFINITIONS = [definition["metadata"]["name"] for definition in crd.definitions().values()]


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark of those tests that need this machine's own cluster."""
    config.addinivalue_line("markers", "devcluster: is about devcluster itself; left out with ARBITER_KUBECONTEXT")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what has no object, count what needs a cluster, and let those that disturb all of it come last."""
    if CONTEXT:
        left_out = [item for item in items if item.get_closest_marker("devcluster")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.user_properties.append(("cluster tests", 1))
    items.sort(key=lambda item: LAST.index(item.path.stem) + 1 if item.path.stem in LAST else 0)


@pytest.fixture(scope="session")
def before() -> dict[str, Any]:
    """Remember the machine as it was before anything was brought up; empty where a cluster was up."""
    if os.environ.get("CI") and not CONTEXT:
        said(devcluster("down"))
    return {} if CONTEXT or (directory(os.environ) / "state.json").exists() else traces()


@pytest.fixture(scope="session")
def cluster(before: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Give the cluster; one that we brought up is taken down in the end, whatever happens."""
    if CONTEXT:
        yield named_context(CONTEXT, tmp_path_factory.mktemp("kubeconfig") / "config")
        return
    was_up = not before
    try:
        printed = said(devcluster(*up()))
        path = Path(said(devcluster("kubeconfig")).strip())
        yield Cluster(path, str(build.binaries()["kubectl"]), "" if was_up else printed, was_up)
    finally:
        if not was_up:
            devcluster("down")


@pytest.fixture(scope="session")
def images(cluster: Cluster) -> None:
    """Build our images where they are not built, and put them into the cluster; another context must have them."""
    assert cluster.kubeconfig.exists()
    if not CONTEXT:
        said(run(sys.executable, "-m", "devcluster.images", *allowed(), cwd=ROOT, timeout=3600))
        said(devcluster("load", *NAMES))


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Iterator[str]:
    """Install the definitions as the README says, and give what that printed.

    Those that were not there before are taken away in the end, and with them what was made of them; a cluster that
    the tests brought up goes away as a whole.
    """
    there = said(cluster.kubectl("get", "crds", "--output=name")).split()
    made = [name for name in DEFINITIONS if f"customresourcedefinition.apiextensions.k8s.io/{name}" not in there]
    applied = cluster.kubectl("apply", "--server-side", f"--filename={ROOT / 'crds'}")
    assert applied.stderr == ""
    printed = said(applied)
    printed += said(cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crds", *DEFINITIONS))
    yield printed
    if made and cluster.was_up:
        said(cluster.kubectl("delete", "crds", *made))


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Give what counts engines started or completions served, for the closing lines of a run."""

    def add(what: str, how_many: int = 1) -> None:
        request.node.user_properties.append((what, how_many))

    return add


@pytest.fixture(scope="module")
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Make a namespace for one module's tests, in which pods are held to the restricted level."""
    name = request.module.__name__.rpartition(".")[2].replace("_", "-")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}])
    # Without it no pod is let in. After an outage of the API server it takes a while until somebody makes it.
    account = ("-n", name, "get", "serviceaccount", "default")
    assert wait_until(lambda: cluster.kubectl(*account).returncode == 0, 120, pause=0.1)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def start(cluster: Cluster, namespace: str, images: None) -> Callable[[list[dict[str, Any]]], str]:
    """Give what starts an engine, and gives the URL that it answers at once it is ready."""
    assert images is None

    def started(objects: list[dict[str, Any]]) -> str:
        name, port = objects[1]["metadata"]["name"], objects[1]["spec"]["ports"][0]["port"]
        cluster.apply(
            [{**one, "metadata": {"name": one["metadata"]["name"], "namespace": namespace}} for one in objects]
        )
        said(cluster.kubectl("-n", namespace, "rollout", "status", f"deployment/{name}", "--timeout=170s"))
        address = said(cluster.kubectl("-n", namespace, "get", "service", name, "--output=jsonpath={.spec.clusterIP}"))
        url = f"http://{address}:{port}"
        assert wait_until(lambda: answers(url), 30, pause=0.2), f"{url} does not answer the host"
        return url

    return started
