"""Installing Arbiter as its users do, by Helm and by kustomize, and taking it away again without losing their objects.

The tests tell one story, in this order: the chart is installed into a namespace that enforces the restricted level, the
operator's account is tried out, the release is upgraded and uninstalled.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.api import crd
from arbiter.kubeapi.access import router_rules
from devcluster import build
from devcluster.images.recipes import reference
from devcluster.waiting import wait_until
from tests.e2e.running import ROOT, Cluster, run, said

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.cluster

RELEASE = "installed"
OURS = f"--selector=app.kubernetes.io/instance={RELEASE}"
KINDS = "deployments,services,serviceaccounts,networkpolicies,poddisruptionbudgets,roles,rolebindings"

READY_WITHIN_S = 120
"""Seconds for two operators to start; they take a few, unless the machine is busy."""


@dataclass(frozen=True)
class Installation:
    """The chart in a namespace of the tests.

    Attributes:
        cluster: where.
        namespace: its namespace, which is also the one that it watches.
        roles: whether it brings the roles of people; they are the cluster's, and somebody may have them already.
    """

    cluster: Cluster
    namespace: str
    roles: bool

    def helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Helm as the administrator."""
        program = shutil.which("helm") if os.environ.get("ARBITER_KUBECONTEXT") else None
        where = (f"--kubeconfig={self.cluster.kubeconfig}", f"--namespace={self.namespace}")
        return run(program or str(build.binaries()["helm"]), *arguments, *where, timeout=300)

    def settle(self, command: str, **values: object) -> str:
        """Install or upgrade with our own images; definitions that lie in the cluster already become the chart's."""
        settings = {
            "image": image("arbiter") | {"pullPolicy": "Never"},
            "engines": {"llamaServer": image("llama-server"), "ollama": image("ollama")},
            "watch": {"namespaces": [self.namespace]},
            "rbac": {"userRoles": self.roles},
            **values,
        }
        flags = [f"--set-json={key}={json.dumps(value)}" for key, value in settings.items()]
        owned = ("--take-ownership", "--force-conflicts")
        return said(self.helm(command, RELEASE, str(ROOT / "charts" / "arbiter"), *owned, *flags))

    def kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl(f"--namespace={self.namespace}", *arguments, stdin=stdin)

    @property
    def account(self) -> str:
        """The option that makes kubectl ask as the operator."""
        return f"--as=system:serviceaccount:{self.namespace}:{RELEASE}"

    def may(self, *what: str) -> bool:
        """Say whether the operator may do something."""
        return self.kubectl("auth", "can-i", self.account, *what).stdout.strip() == "yes"

    def objects_of_people(self) -> dict[str, Any]:
        """Give what people wrote and own of their objects, by kind."""
        items = json.loads(said(self.kubectl("get", "localmodels,modelpools", "--output=json")))["items"]
        kept = ("name", "uid", "generation", "labels", "annotations", "ownerReferences", "finalizers")
        return {
            item["kind"]: [item["spec"], {key: value for key, value in item["metadata"].items() if key in kept}]
            for item in items
        }


def image(name: str) -> dict[str, str]:
    """Give one of our images as the values name it."""
    repository, _, tag = reference(name).rpartition(":")
    return {"repository": repository, "tag": tag}


@pytest.fixture(scope="module")
def installation(cluster: Cluster, namespace: str, installed: str) -> Iterator[Installation]:
    """Install the chart, and objects of a user beside it."""
    assert installed
    roles = cluster.kubectl("get", "clusterrole", "arbiter-view").returncode != 0
    there = Installation(cluster, namespace, roles)
    try:
        notes = there.settle("install")
        assert "kubectl --namespace" in notes
        users = (ROOT / "manifests" / "samples" / "external-pool.yaml").read_text()
        said(there.kubectl("apply", "--server-side", "--filename=-", stdin=users))
        yield there
    finally:
        there.helm("uninstall", RELEASE, "--ignore-not-found")


def test_what_is_installed_is_there_and_marked(installation: Installation) -> None:
    """One Deployment with what belongs to it, all of which Helm and people find by its labels."""
    names = said(installation.kubectl("get", KINDS, OURS, "--output=name")).split()

    assert sorted(name.partition(".")[0].partition("/")[0] for name in names) == [
        "deployment",
        "networkpolicy",
        "poddisruptionbudget",
        *["role"] * 2,
        *["rolebinding"] * 2,
        "service",
        "serviceaccount",
    ]
    for name in crd.definitions():
        about = json.loads(said(installation.kubectl("get", "crd", f"{name}.arbiter.dev", "--output=json")))["metadata"]
        assert about["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_restricted_level_admits_the_operators(installation: Installation) -> None:
    """The namespace enforces it, and the Deployment gets its pods."""

    def made() -> bool:
        pods = said(installation.kubectl("get", "pods", OURS, "--output=name")).split()
        return len(pods) == 2

    assert wait_until(made, 60)
    assert "violates PodSecurity" not in said(installation.kubectl("get", "events"))


def test_the_operator_may_do_what_it_needs_and_no_more(installation: Installation) -> None:
    """In its namespace it runs pools, of the cluster it sees the nodes, and nobody's Secrets or objects elsewhere."""
    elsewhere, status = "--namespace=default", "--subresource=status"
    lease = "leases.coordination.k8s.io/"

    assert installation.may("patch", "deployments.apps")
    assert installation.may("update", "modelpools.arbiter.dev", status)
    assert installation.may("list", "nodes")
    assert installation.may("update", f"{lease}arbiter-operator")
    assert not installation.may("patch", "deployments.apps", elsewhere)
    assert not installation.may("list", "modelpools.arbiter.dev", elsewhere)
    assert not installation.may("update", "modelpools.arbiter.dev")
    assert not installation.may("get", "secrets")
    assert not installation.may("list", "secrets")
    assert not installation.may("update", f"{lease}another")
    assert not installation.may("create", "pods", "--subresource=exec")
    assert not installation.may("create", "clusterroles.rbac.authorization.k8s.io")


def test_the_operator_may_give_routers_their_rights_and_no_others(installation: Installation) -> None:
    """Kubernetes lets it grant what it has itself; more is refused, so it cannot make itself an administrator."""
    rbac = "rbac.authorization.k8s.io"
    about = {"name": "assistant-router", "namespace": installation.namespace}
    rules = [rule.to_fields() for rule in router_rules("assistant-routes")]
    role = {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": about, "rules": rules}
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": about,
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": about["name"]},
        "subjects": [{"kind": "ServiceAccount", "name": about["name"], "namespace": installation.namespace}],
    }
    greedy = {**role, "rules": [*rules, {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}

    def applies(obj: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        as_operator = ("--server-side", "--field-manager=arbiter", installation.account, "--filename=-")
        return installation.kubectl("apply", *as_operator, stdin=json.dumps(obj))

    try:
        said(applies(role))
        said(applies(binding))
        refused = applies(greedy)
        assert refused.returncode != 0
        assert "attempting to grant RBAC permissions not currently held" in refused.stderr
    finally:
        installation.kubectl("delete", "rolebinding,role", about["name"])


def test_people_see_and_edit_pools_with_the_roles_that_they_have(installation: Installation) -> None:
    """Kubernetes adds our two roles to its own, so nobody has to be given anything anew."""
    for role in ("view", "edit"):
        made = ("create", "rolebinding", f"may-{role}", f"--clusterrole={role}", f"--user={role}er")
        said(installation.kubectl(*made))

    def may(person: str, *what: str) -> bool:
        return installation.kubectl("auth", "can-i", f"--as={person}", *what).stdout.strip() == "yes"

    pools = "modelpools.arbiter.dev"
    # A controller adds the rules in the background.
    assert wait_until(lambda: may("editer", "patch", pools) and may("viewer", "list", pools), 30)
    assert may("editer", "update", pools, "--subresource=scale")
    assert not may("viewer", "patch", pools)
    assert not may("editer", "update", pools, "--subresource=status")


@pytest.mark.usefixtures("images")
def test_operators_become_ready(installation: Installation) -> None:
    """Both answer their probes, one of them leads, and all of it with the rights that the chart gives."""
    rollout = ("rollout", "status", f"deployment/{RELEASE}", f"--timeout={READY_WITHIN_S}s")
    done = installation.kubectl(*rollout)
    assert done.returncode == 0, said(installation.kubectl("logs", OURS, "--tail=20", "--prefix"))

    assert said(installation.kubectl("get", "lease", "arbiter-operator", "--output=jsonpath={.spec.holderIdentity}"))


def test_an_upgrade_changes_what_was_asked_for(installation: Installation) -> None:
    """With one operator the budget goes, and what people wrote stays as it is."""
    before = installation.objects_of_people()
    assert set(before) == {"LocalModel", "ModelPool"}

    installation.settle("upgrade", replicas=1, logFormat="text")

    deployment = json.loads(said(installation.kubectl("get", f"deployment/{RELEASE}", "--output=json")))
    assert deployment["spec"]["replicas"] == 1
    assert "--log-format=text" in deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert said(installation.kubectl("get", "poddisruptionbudgets", OURS, "--output=name")) == ""
    assert installation.objects_of_people() == before


def test_uninstalling_leaves_what_people_made(installation: Installation) -> None:
    """Everything of the release goes; definitions and users' objects stay, the same ones to the uid."""
    before = installation.objects_of_people()
    definitions = said(installation.kubectl("get", "crds", "--output=jsonpath={.items[*].metadata.uid}"))

    said(installation.helm("uninstall", RELEASE, "--wait"))

    assert said(installation.kubectl("get", KINDS, OURS, "--output=name")) == ""
    assert said(installation.kubectl("get", "clusterroles,clusterrolebindings", OURS, "--output=name")) == ""
    assert said(installation.kubectl("get", "crds", "--output=jsonpath={.items[*].metadata.uid}")) == definitions
    assert installation.objects_of_people() == before


def test_kustomize_installs_it_too(installation: Installation, tmp_path: Path) -> None:
    """The API server takes every object of `kubectl apply -k`, moved into a namespace that is there."""
    base = os.path.relpath(ROOT / "manifests" / "install", tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(
        f"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        f"namespace: {installation.namespace}\nresources: [{base}]\n"
    )
    plain = said(installation.cluster.kubectl("kustomize", str(ROOT / "manifests" / "install")))
    dry = ("--server-side", "--dry-run=server", "--force-conflicts", "--field-manager=kustomize-test")

    taken = said(installation.cluster.kubectl("apply", *dry, f"--kustomize={tmp_path}")).splitlines()

    assert len(taken) == plain.count("\nkind: ")
    assert all(line.endswith("serverside-applied (server dry run)") for line in taken)
