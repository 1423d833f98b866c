"""The cluster itself: real pods answer by name, and afterwards the machine is as it was.

These tests bring the machine's one cluster up and take it down. Where one is up already it is used and left up, and
what would take it down is skipped. They run in the order of the file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devcluster import build, cgroups, kernel
from devcluster.images import archive
from devcluster.layout import CONTROL_GROUP, MASKED, Layout
from devcluster.state import Journal, directory
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
STATE = directory(os.environ)
WEB = "devcluster.test/web:1"
SPACE = "devcluster-test"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def run(*command: str, **how: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401  what subprocess.run takes
    """Run a command to its end."""
    return subprocess.run(command, capture_output=True, text=True, check=False, **how)  # noqa: S603  our own tools


def devcluster(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one devcluster command."""
    return run(sys.executable, "-m", "devcluster", *arguments, cwd=ROOT, timeout=1800)


def up() -> tuple[str, ...]:
    """Give the command that brings the cluster up; only a machine of CI is given packages unasked."""
    return ("up", "--install") if os.environ.get("CI") else ("up",)


def kubectl(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run kubectl as the administrator."""
    layout = Layout(STATE, build.binaries())
    program, user = layout.programs["kubectl"], f"--kubeconfig={layout.kubeconfig('admin')}"
    return run(str(program), user, *arguments, input=stdin, timeout=180)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Give what a command printed, which must have succeeded."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def traces() -> dict[str, Any]:
    """Give everything of the machine that the cluster could leave something in."""
    groups = cgroups.hierarchies(Path("/proc/self/mountinfo").read_text())
    return {
        "mounts": sorted(line.split(" ", 1)[1] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "links": [link["ifname"] for link in json.loads(said(run("ip", "-json", "link")))],
        "routes": json.loads(said(run("ip", "-json", "route", "show", "table", "all"))),
        "rules": said(run("nft", "list", "ruleset")),
        "control groups": [str(path) for mount in groups for path in mount.rglob(f"{CONTROL_GROUP}*")],
        "kernel settings": kernel.read(),
        "directories": [path for path in (*MASKED, str(STATE)) if Path(path).exists()],
        "processes": ours(),
    }


def ours() -> list[str]:
    """Give the command lines of processes that are in our control group, run our programs or know our state."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                group = (process / "cgroup").read_text()
                program = str((process / "exe").readlink())
            except OSError:
                continue
            if CONTROL_GROUP in group or str(STATE) in line or program.startswith(str(build.cache())):
                found.append(line)
    return found


@pytest.fixture(scope="module")
def was_up() -> bool:
    """Say whether somebody's cluster was up before these tests."""
    return Journal(STATE / "state.json").exists()


@pytest.fixture
def of_ours(was_up: bool) -> None:
    """Skip what takes the cluster down, where it is somebody's."""
    if was_up:
        pytest.skip("a cluster was up before the tests; `python -m devcluster down`, then run this again")


@pytest.fixture(scope="module")
def before(was_up: bool) -> dict[str, Any]:
    """Remember the machine as it was, before anything was brought up."""
    return {} if was_up else traces()


@pytest.fixture(scope="module")
def cluster(was_up: bool, before: dict[str, Any]) -> Iterator[str]:
    """Bring the cluster up and give what that printed; whatever happens, take it down in the end."""
    assert was_up or not before["processes"]
    try:
        yield said(devcluster(*up()))
    finally:
        if not was_up:
            devcluster("down")


@pytest.fixture(scope="module")
def web(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a web server and a pod to ask it from, at the restricted level; give their namespace."""
    assert cluster
    room = tmp_path_factory.mktemp("web")
    compiler = ("go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(room / "web"), "main.go")
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": ""}
    said(run(*compiler, cwd=ROOT / "tests/e2e/web", env=environment))
    archive.write_archive(archive.Image(WEB, {"/web": room / "web"}, ("/web",)), room / "web.tar")
    archive.load(Layout(STATE, build.binaries()), room / "web.tar")
    document = json.dumps({"kind": "List", "apiVersion": "v1", "items": objects()})
    said(kubectl("apply", "--server-side", "--filename=-", stdin=document))
    said(kubectl("-n", SPACE, "rollout", "status", "deployment/web", "--timeout=120s"))
    said(kubectl("-n", SPACE, "wait", "--for=condition=Ready", "pod/asker", "--timeout=120s"))
    # Pods are ready before their Service is known everywhere: its addresses and its rules follow.
    assert wait_until(lambda: fetch("http://web").returncode == 0, 30, pause=0.2), fetch("http://web").stderr
    yield SPACE
    kubectl("delete", "namespace", SPACE, "--wait=false")


def fetch(url: str) -> subprocess.CompletedProcess[str]:
    """Ask for a URL from inside the cluster."""
    return kubectl("-n", SPACE, "exec", "asker", "--", "/web", "fetch", url)


def objects() -> list[dict[str, Any]]:
    """Give the namespace, a Deployment with its Service, and a pod that asks."""
    labels = {"app": "web"}
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    template = {"metadata": {"labels": labels}, "spec": pod(RESTRICTED)}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": level}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": SPACE},
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": SPACE},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        },
        bare_pod("asker", RESTRICTED),
    ]


def bare_pod(name: str, security: dict[str, Any]) -> dict[str, Any]:
    """Give a pod of its own."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": SPACE}, "spec": pod(security)}


def pod(security: dict[str, Any]) -> dict[str, Any]:
    """Give a pod that serves."""
    container = {
        "name": "web",
        "image": WEB,
        "imagePullPolicy": "Never",
        "args": ["serve"],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
        "securityContext": security,
    }
    return {"containers": [container], "terminationGracePeriodSeconds": 1}


def test_up_ends_with_how_long_it_took(cluster: str) -> None:
    """The last line is for the person who waited."""
    assert cluster.splitlines()[-1].startswith("ready in ")
    assert cluster.splitlines()[-1].endswith(" s (native)")


def test_status_says_that_everything_is_up(cluster: str) -> None:
    """And so does its exit code."""
    assert cluster
    done = devcluster("status")

    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "the cluster is up"
    assert "not" not in done.stdout


def test_the_node_is_ready_and_runs_what_was_built(cluster: str) -> None:
    """The version is that of the modules, not the v0.0.0 of an unstamped build."""
    assert cluster
    nodes = json.loads(said(kubectl("get", "nodes", "--output=json")))["items"]

    assert [node["metadata"]["name"] for node in nodes] == ["node-1"]
    assert "node-role.kubernetes.io/control-plane" in nodes[0]["metadata"]["labels"]
    assert nodes[0]["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.3"
    assert {c["type"]: c["status"] for c in nodes[0]["status"]["conditions"]}["Ready"] == "True"


def test_a_service_answers_another_pod_by_name(web: str) -> None:
    """DNS, the Service and both pods; exec is how we ask."""
    for name in ("web", f"web.{web}.svc", f"web.{web}.svc.cluster.local"):
        assert said(fetch(f"http://{name}/")).startswith("hello from web-")


def test_a_service_answers_a_pod_that_is_behind_it(web: str) -> None:
    """The way back to oneself is the one that broken bridges lose."""
    for _ in range(8):  # each of the two pods is chosen at random
        answer = said(kubectl("-n", web, "exec", "deployment/web", "--", "/web", "fetch", "http://web"))
        assert answer.startswith("hello from web-")


def test_a_service_answers_the_host(web: str) -> None:
    """Tests talk to Services without port-forwarding."""
    address = said(kubectl("-n", web, "get", "service", "web", "--output=jsonpath={.spec.clusterIP}"))

    with urllib.request.urlopen(f"http://{address}/from-the-host", timeout=10) as answer:
        assert answer.read().startswith(b"hello from web-")


def test_logs_show_what_a_pod_wrote(web: str) -> None:
    """The readiness probe asks every second, so there is something to show."""
    assert "asked for /ready" in said(kubectl("-n", web, "logs", "asker"))


def test_the_restricted_level_is_enforced(web: str) -> None:
    """A pod that may become root is refused by the API server."""
    refused = kubectl("apply", "--filename=-", stdin=json.dumps(bare_pod("free", {"privileged": True})))

    assert web
    assert refused.returncode != 0
    assert 'violates PodSecurity "restricted:latest"' in refused.stderr


def test_a_second_up_uses_what_is_up(web: str) -> None:
    """No process is replaced, and pods stay."""
    processes = Journal(STATE / "state.json").read().processes

    again = said(devcluster(*up()))

    assert again.splitlines()[0] == "already up"
    assert Journal(STATE / "state.json").read().processes == processes
    assert said(kubectl("-n", web, "get", "pods", "--output=name")).count("pod/") == 3


def test_a_component_can_be_stopped_and_started(cluster: str) -> None:
    """A fault is made on purpose, status says so, and it can be mended."""
    assert cluster
    said(devcluster("stop", "kube-scheduler"))
    broken = devcluster("status")
    said(devcluster("start", "kube-scheduler"))

    assert broken.returncode == 1
    assert "kube-scheduler           not running" in broken.stdout
    assert devcluster("status").returncode == 0


def test_a_component_that_was_stopped_is_started_by_up(cluster: str) -> None:
    """`up` means all of it."""
    assert cluster
    said(devcluster("stop", "kube-controller-manager"))

    assert said(devcluster(*up())).splitlines()[0] == "already up; starting kube-controller-manager"
    assert devcluster("status").returncode == 0


def test_a_component_that_does_not_exist_is_refused_with_those_that_do(cluster: str) -> None:
    """The message is the list to choose from."""
    assert cluster
    done = devcluster("stop", "kubeletd")

    assert done.returncode == 1
    assert done.stderr.startswith("devcluster: no component is named kubeletd; there are etcd, ")


@pytest.mark.usefixtures("of_ours", "cluster", "web")
def test_down_leaves_nothing(before: dict[str, Any]) -> None:
    """No process, namespace, mount, link, route, rule, group, kernel setting or directory, though pods are running."""
    node = Journal(STATE / "state.json").read().processes["node"].pid
    spaces = {Path(f"/proc/{node}/ns/{kind}").readlink() for kind in ("net", "mnt")}

    said(devcluster("down"))

    assert traces() == before
    left = [str(space) for kind in ("net", "mnt") for space in Path("/proc").glob(f"[0-9]*/ns/{kind}")]
    assert not [space for space in left if points_into(space, spaces)]


def points_into(link: str, spaces: set[Path]) -> bool:
    """Say whether a process's namespace is one of these; a process that has just ended has none."""
    try:
        return Path(link).readlink() in spaces
    except OSError:
        return False


@pytest.mark.usefixtures("of_ours", "cluster")
def test_a_second_down_is_fine(before: dict[str, Any]) -> None:
    """There is nothing to do, and that is no fault."""
    devcluster("down")
    assert "nothing is up" in said(devcluster("down"))
    assert devcluster("status").returncode == 1
    assert traces() == before


@pytest.mark.usefixtures("of_ours", "cluster")
def test_up_recovers_from_killed_ups(before: dict[str, Any]) -> None:
    """Killed with nothing but the first note, with a network, with a control plane and with pods."""
    devcluster("down")
    for component in ("", "node", "kube-apiserver", "kube-proxy"):
        command = (sys.executable, "-m", "devcluster", *up())
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as begun:  # noqa: S603  our own tool
            assert wait_until(lambda component=component: came_to(component), 60, pause=0.01)  # type: ignore[misc]  # mypy gives a lambda with a default no type
            begun.kill()
        assert devcluster("status").returncode == 1

    said(devcluster(*up()))
    assert devcluster("status").returncode == 0
    said(devcluster("down"))
    assert traces() == before


def came_to(component: str) -> bool:
    """Say whether an `up` has written down that it starts this component; nothing but its first note if none."""
    journal = Journal(STATE / "state.json")
    return (
        journal.exists() and not journal.read().is_complete and (not component or component in journal.read().processes)
    )
