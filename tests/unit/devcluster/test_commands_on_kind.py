"""Every command on a kind cluster, from its `up` to its `down`, with shell scripts for engine, kind and compiler."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from devcluster import __main__ as command_line
from devcluster import build
from devcluster.__main__ import main
from devcluster.kind import registries

if TYPE_CHECKING:
    from pathlib import Path

FIRST = "arbiter-devcluster-control-plane"

DOCKER = """#!/bin/sh
case "$1" in
version) echo 28.1.1 ;;
ps) for one in "$FAKE"/*; do [ -e "$one" ] && echo "${one##*/} $(cat "$one")"; done ;;
run) echo running >"$FAKE/$4" ;;
start) echo running >"$FAKE/$2" ;;
stop) echo exited >"$FAKE/$4" ;;
rm) shift 3; for one; do rm "$FAKE/$one"; done ;;
logs) echo "early line"; echo "last line of $2" >&2 ;;
exec)
  case "$*" in
  *crictl*) for one in containerd kubelet etcd kube-apiserver kube-controller-manager kube-scheduler; do
      echo "$one active"; done ;;
  *) echo "last line of $*" ;;
  esac ;;
esac
exit 0
"""

KIND = """#!/bin/sh
case "$1 $2" in
"version ") echo "kind v0.32.0 go1.26.8 linux/amd64" ;;
"create cluster") [ -z "$FAKE_FAILS" ] || { echo "ERROR: $FAKE_FAILS" >&2; exit 1; }
  echo running >"$FAKE/arbiter-devcluster-control-plane" ;;
"delete cluster") rm -f "$FAKE/arbiter-devcluster-control-plane" ;;
"load image-archive") echo "$3" >>"$FAKE_LOG" ;;
esac
"""

KUBECTL = """#!/bin/sh
case "$*" in
*availableReplicas*) echo 1 ;;
*jsonpath*) echo True ;;
*"get nodes"*) echo "NAME STATUS" ;;
esac
"""

GO = f"""#!/bin/sh
[ "$1" = env ] && {{ echo '{{"GOVERSION": "go1.26.8", "GOCACHE": "/", "GOMODCACHE": "/"}}'; exit; }}
while [ "$1" != -o ]; do shift; done
cat >"$2" <<'END'
{KUBECTL}END
chmod +x "$2"
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a machine with an engine that answers, a kind on its PATH, and a Go; its user is not root."""
    tools, fake = tmp_path / "tools", tmp_path / "fake"
    tools.mkdir()
    fake.mkdir()
    for name, script in {"docker": DOCKER, "kind": KIND, "go": GO}.items():
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    for name in ("cat", "chmod", "rm", "setpriv", "sh"):
        (tools / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FAKE", str(fake))
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(command_line, "_LOCK", f"\0{tmp_path}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(build, "NEEDED", 0)
    monkeypatch.setattr(registries, "refuse_taken", lambda: None)
    return tmp_path


def say(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[str]:
    """Run a command, and give the lines that it said."""
    assert main(arguments) == code, capsys.readouterr().err
    printed = capsys.readouterr()
    return (printed.err if code else printed.out).splitlines()


def test_up_says_who_runs_it_first_and_how_to_use_it_last(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line before the last one is pasted; kind was found, so only its two companions are built."""
    said = say(capsys, "up")
    clients = next((machine / "cache/arbiter/devcluster").glob("programs-*")) / "client"

    assert said[0] == "uses kind: docker answers"
    assert said[1].startswith("builds 2 programs into ")
    assert said[-2] == f"export KUBECONFIG={machine}/state/arbiter-devcluster-kind/kubeconfig PATH={clients}:$PATH"
    assert re.fullmatch(r"ready in \d+ s \(kind\)", said[-1])
    assert {path.name for path in clients.iterdir()} == {"helm", "kubectl"}


def test_commands_find_the_cluster_that_is_there(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody says again whose it is."""
    say(capsys, "up")
    archive = machine / "image.tar"
    archive.touch()

    assert say(capsys, "kubeconfig") == [f"{machine}/state/arbiter-devcluster-kind/kubeconfig"]
    assert say(capsys, "nodes") == ["NAME STATUS"]
    assert say(capsys, "load", str(archive)) == []
    assert (machine / "log").read_text() == f"{archive}\n"
    assert say(capsys, "status")[-1] == "the cluster is up"
    assert say(capsys, "up")[:2] == ["uses kind: its cluster is there", "already up"]


def test_a_part_is_stopped_and_started(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status says so in between, and its exit code too."""
    say(capsys, "up")
    say(capsys, "stop", "registry")
    assert main(["status"]) == 1
    stopped = capsys.readouterr().out.splitlines()
    say(capsys, "start", "registry")

    assert "registry                 not running" in stopped
    assert stopped[-1] == "the cluster is not up"
    assert say(capsys, "status")[-1] == "the cluster is up"
    assert (machine / "fake" / "arbiter-devcluster-registry").read_text() == "running\n"


@pytest.mark.usefixtures("machine")
def test_logs_are_of_one_part_or_the_last_line_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    """Who looks for a fault does not know yet where."""
    say(capsys, "up")

    assert say(capsys, "logs", "node-1") == ["early line", f"last line of {FIRST}"]
    every = say(capsys, "logs")
    assert every[0] == f"node-1                   last line of {FIRST}"
    assert [line.split()[0] for line in every][-2:] == ["kube-controller-manager", "kube-scheduler"]


def test_another_provider_is_refused_while_a_cluster_is_there(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is one cluster on a machine."""
    say(capsys, "up")
    want = "devcluster: --provider native: a cluster of kind is there; take it down first: python -m devcluster down"

    assert say(capsys, "up", "--provider", "native", code=1) == [want]
    assert (machine / "fake" / FIRST).exists()


def test_down_removes_it_all(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Containers and state; a second one finds nothing."""
    say(capsys, "up")

    assert say(capsys, "down")[-1].startswith("down in ")
    assert say(capsys, "down")[0] == "nothing is up"
    assert list((machine / "fake").iterdir()) == []
    assert not (machine / "state" / "arbiter-devcluster-kind").exists()


def test_a_kind_that_fails_leaves_nothing(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its last words are the message."""
    monkeypatch.setenv("FAKE_FAILS", "failed to pull image")
    said = say(capsys, "up", code=1)

    assert len(said) == 1
    assert said[0].startswith("devcluster: `kind create cluster ")
    assert said[0].endswith("failed: ERROR: failed to pull image")
    assert not (machine / "state" / "arbiter-devcluster-kind").exists()
    assert main(["status"]) == 1


def test_an_engine_that_is_gone_is_named(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it runs cannot be taken down without it, so nothing is forgotten either."""
    say(capsys, "up")
    (machine / "tools" / "docker").write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    record = machine / "state" / "arbiter-devcluster-kind" / "kind.json"
    said = say(capsys, "down", code=1)

    assert said[-1].endswith("failed: Cannot connect to the Docker daemon")
    assert json.loads(record.read_text())["engine"] == "docker"
