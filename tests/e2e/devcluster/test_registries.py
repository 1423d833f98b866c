"""The registries: what is pushed from the host is pulled by pods, from the private one with a secret only."""

from __future__ import annotations

import json
import urllib.error
from typing import TYPE_CHECKING

import pytest

from devcluster.pushing import Registry
from devcluster.registry import PASSWORD, USER
from devcluster.waiting import wait_until
from tests.e2e.devcluster.pods import apply, inside, pod, ready, status_of, value
from tests.e2e.running import Cluster, devcluster, said

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

OPEN, PRIVATE = "10.89.0.2:5000", "10.89.0.2:5001"


def waits_for(cluster: Cluster, namespace: str, name: str) -> str:
    """Say what a pod's container waits for; nothing where it does not."""
    states = status_of(cluster, namespace, name).get("containerStatuses", [])
    return "".join(state["state"].get("waiting", {}).get("message", "") for state in states)


def test_an_image_that_was_pushed_is_pulled_by_a_pod(cluster: Cluster, namespace: str, other_web: Path) -> None:
    """The host, the node and the pods call it by one name."""
    Registry(OPEN).push(other_web, "tests/web", "1")
    apply(cluster, namespace, pod("pulled", image=f"{OPEN}/tests/web:1", imagePullPolicy="Always"))
    ready(cluster, namespace, "pulled")

    listed = said(inside(cluster, namespace, "pulled", "fetch", f"http://{OPEN}/v2/tests/web/tags/list"))
    assert json.loads(listed) == {"name": "tests/web", "tags": ["1"]}


def test_the_private_registry_takes_and_gives_nothing_without_a_password(
    cluster: Cluster, namespace: str, other_web: Path
) -> None:
    """Neither from the host nor to a pod that has no secret; the message says that it is about the right to pull."""
    for stranger in (Registry(PRIVATE), Registry(PRIVATE, USER, "wrong")):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            stranger.push(other_web, "tests/web", "1")
    Registry(PRIVATE, USER, PASSWORD).push(other_web, "tests/web", "1")
    apply(cluster, namespace, pod("stranger", image=f"{PRIVATE}/tests/web:1", imagePullPolicy="Always"))

    def is_refused() -> bool:
        return "authorization failed" in waits_for(cluster, namespace, "stranger")

    assert wait_until(is_refused, 30, pause=0.2), waits_for(cluster, namespace, "stranger")


def test_the_private_registry_gives_to_a_pod_with_a_secret(cluster: Cluster, namespace: str, other_web: Path) -> None:
    """The secret is the one that `kubectl create secret docker-registry` makes."""
    Registry(PRIVATE, USER, PASSWORD).push(other_web, "tests/web", "1")
    login = (f"--docker-server={PRIVATE}", f"--docker-username={USER}", f"--docker-password={PASSWORD}")
    said(cluster.kubectl("-n", namespace, "create", "secret", "docker-registry", "known", *login))
    secrets = [{"name": "known"}]
    image = f"{PRIVATE}/tests/web:1"
    apply(cluster, namespace, pod("known", image=image, imagePullPolicy="Always", imagePullSecrets=secrets))

    ready(cluster, namespace, "known")


@pytest.mark.usefixtures("cluster")
def test_an_image_can_be_deleted(other_web: Path) -> None:
    """A test takes an image away to see what happens without it."""
    digest = Registry(OPEN).push(other_web, "tests/gone", "1")
    assert Registry(OPEN).ask("GET", "tests/gone/manifests/1")[1]
    Registry(OPEN).ask("DELETE", f"tests/gone/manifests/{digest}")

    with pytest.raises(urllib.error.HTTPError, match="404"):
        Registry(OPEN).ask("GET", "tests/gone/manifests/1")


def test_tools_find_out_where_to_push(cluster: Cluster) -> None:
    """They read this ConfigMap, as KEP-1755 says."""
    told = value(cluster, "kube-public", "configmap local-registry-hosting", "{.data}")

    assert f'host: "{OPEN}"' in json.loads(told)["localRegistryHosting.v1"].splitlines()


@pytest.mark.usefixtures("cluster")
def test_a_registry_keeps_what_it_has_over_a_fault(other_web: Path) -> None:
    """It is a component like any other: it can be stopped, is missed, and comes back with its images."""
    digest = Registry(OPEN).push(other_web, "tests/kept", "1")
    said(devcluster("stop", "registry"))
    broken = devcluster("status")
    with pytest.raises(urllib.error.URLError, match="refused"):
        Registry(OPEN).ask("GET", f"tests/kept/manifests/{digest}")
    said(devcluster("start", "registry"))

    assert broken.returncode == 1
    assert "registry                 not running" in broken.stdout
    assert Registry(OPEN).ask("GET", f"tests/kept/manifests/{digest}")[1]
