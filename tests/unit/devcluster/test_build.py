"""Building: what is missing, once, in one step or not at all, with a line that says what went wrong.

A shell script stands in for the compilers; nothing real is built here.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from devcluster import build, debian, programs
from devcluster.errors import DevclusterError
from devcluster.programs import KIND, NATIVE, AnyProgram

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[3]

COMPILER = """#!/bin/sh
if [ "$1" = env ]; then
  echo '{"GOVERSION": "'"$FAKE_VERSION"'", "GOCACHE": "'"$HOME"'/go-build", "GOMODCACHE": "'"$HOME"'/mod"}'
  exit
fi
while [ $# -gt 0 ]; do
  [ "$1" = -o ] && output=$2
  last=$1
  shift
done
echo "${output##*/} $CGO_ENABLED $GOFLAGS" >> "$FAKE_LOG"
echo half > "$output"
echo half > "$GOTMPDIR/object"
if [ -n "$FAKE_STARTED" ]; then
  echo $$ > "$FAKE_STARTED"
  exec /bin/sleep 600
fi
if [ "${output##*/}" = "$FAKE_FAILS" ]; then
  echo "an early line"
  for n in 1 2 3 4 5 6 7 8 9 10 11; do echo "note $n"; done
  echo "$last: undefined: x" >&2
  exit 1
fi
echo whole > "$output"
/bin/chmod +x "$output"
"""


class Machine:
    """A machine with fake compilers and nothing else on its PATH."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.log = root / "log"
        self.tools = root / "tools"
        self.tools.mkdir()
        self.monkeypatch = monkeypatch
        self.said: list[str] = []
        monkeypatch.setenv("PATH", str(self.tools))
        monkeypatch.setenv("HOME", str(root))
        monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        monkeypatch.setenv("FAKE_LOG", str(self.log))
        monkeypatch.setenv("FAKE_VERSION", "go1.26.8")
        self.disk(10**12)
        self.tool("go", COMPILER)
        self.tool("cc", COMPILER)

    def tool(self, name: str, script: str) -> None:
        """Put a program on the PATH."""
        path = self.tools / name
        path.write_text(script)
        path.chmod(0o755)

    def disk(self, free: int) -> None:
        """Set how much disk is free."""
        self.monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))

    def ensure(self, programs: Sequence[AnyProgram] = NATIVE, *, install: bool = False) -> dict[str, Path]:
        """Build what is missing."""
        return dict(build.ensure(programs, install=install, report=self.said.append))

    def compiled(self) -> list[list[str]]:
        """Give name, CGO and flags of each compilation, in order."""
        return [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def kept(self) -> set[str]:
        """Name what lies in the cache."""
        return {path.name for path in build.cache().iterdir()} if build.cache().exists() else set()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Give a machine on which nothing has been built."""
    return Machine(tmp_path, monkeypatch)


def test_the_first_run_builds_everything_and_the_second_nothing(machine: Machine) -> None:
    """One compilation for each program, and none when all are there."""
    first = machine.ensure()
    compiled = machine.compiled()
    machine.tool("go", "#!/bin/sh\nexit 1\n")
    second = machine.ensure()

    assert sorted(name for name, *_ in compiled) == sorted(program.name for program in NATIVE)
    assert machine.compiled() == compiled
    assert first == second == build.binaries()
    assert all(path.read_text() == "whole\n" for path in first.values())


def test_programs_lie_where_they_are_looked_for(machine: Machine) -> None:
    """The runtime finds runc and its shim on a PATH; network plugins, and what people run, are among themselves."""
    paths = machine.ensure()

    assert shutil.which("containerd-shim-runc-v2", path=str(paths["containerd"].parent))
    assert shutil.which("runc", path=str(paths["containerd"].parent))
    assert paths["runc"].parent == paths["kubelet"].parent == paths["containerd"].parent
    assert {path.name for path in paths["bridge"].parent.iterdir()} == {"bridge", "host-local", "loopback", "portmap"}
    assert {path.name for path in paths["kubectl"].parent.iterdir()} == {"helm", "kubectl"}


def test_a_set_of_programs_is_built_by_itself(machine: Machine) -> None:
    """Whoever has an engine does not wait for a kubelet; what two sets share is built once."""
    paths = machine.ensure(KIND)
    first = [name for name, *_ in machine.compiled()]
    machine.ensure()
    names = [name for name, *_ in machine.compiled()]

    assert set(first) == set(paths) == {"kind", "kubectl", "helm"}
    assert names.count("kubectl") == names.count("helm") == 1
    assert {path.name for path in paths["kind"].parent.iterdir()} == {"helm", "kind", "kubectl"}
    assert build.binaries(KIND) == paths


def test_one_line_tells_of_each_program(machine: Machine) -> None:
    """Whoever waits for minutes sees that it moves, and how far it is."""
    machine.ensure()
    total = len(NATIVE)

    assert machine.said[0] == f"builds {total} programs into {machine.root}/cache/arbiter/devcluster"
    assert [line.split()[0] for line in machine.said[1:]] == [f"[{n}/{total}]" for n in range(1, total + 1)]
    assert {line.split()[1] for line in machine.said[1:]} == {program.name for program in NATIVE}
    assert all(line.split()[2].isdigit() and line.endswith(" s") for line in machine.said[1:])


def test_a_family_is_built_in_the_order_of_the_table(machine: Machine) -> None:
    """Its first program compiles what the others share."""
    machine.ensure()
    want = [program.name for program in NATIVE if program.family == "kubernetes"]

    assert [name for name, *_ in machine.compiled() if name in want] == want


def test_a_users_own_settings_do_not_reach_the_compiler(machine: Machine) -> None:
    """A GOFLAGS of -mod=vendor is meant for another module; only runc links C."""
    machine.monkeypatch.setenv("GOFLAGS", "-mod=vendor")
    machine.ensure()

    assert {tuple(rest) for name, *rest in machine.compiled() if name not in {"runc", "pause"}} == {
        ("0", "-mod=readonly")
    }
    assert ["runc", "1", "-mod=readonly"] in machine.compiled()


def test_only_what_changed_is_built_again(machine: Machine, tmp_path: Path) -> None:
    """A new etcd leaves the rest alone, and both versions stay usable."""
    copy = tmp_path / "sources"
    shutil.copytree(programs.SOURCES / "go", copy / "go")
    shutil.copy(programs.SOURCES / "pause.c", copy)
    machine.monkeypatch.setattr(programs, "SOURCES", copy)
    before = machine.ensure()
    with (copy / "go" / "etcd" / "go.sum").open("a") as file:
        file.write("\n")
    machine.log.unlink()
    after = machine.ensure()

    assert [name for name, *_ in machine.compiled()] == ["etcd"]
    assert machine.said[-1].startswith("[1/1] etcd ")
    assert after["etcd"].resolve() != before["etcd"].resolve()
    assert after["runc"].resolve() == before["runc"].resolve()
    assert before["etcd"].exists()


def test_a_failed_build_shows_the_end_of_what_the_compiler_said(machine: Machine) -> None:
    """The last lines hold the reason; what was built before stays, what failed does not."""
    machine.monkeypatch.setenv("FAKE_FAILS", "kubectl")
    with pytest.raises(DevclusterError) as caught:
        machine.ensure()

    first, *lines = str(caught.value).splitlines()
    assert first == "cannot build kubectl; its compiler's last lines:"
    assert lines[-1] == "k8s.io/kubernetes/cmd/kubectl: undefined: x"
    assert "an early line" not in lines
    assert caught.value.exit_code != 0
    assert not [name for name in machine.kept() if name.startswith(("kubectl-", "unfinished-", "programs-"))]
    assert [name for name in machine.kept() if name.startswith("kube-apiserver-")]


def test_a_build_goes_on_where_a_failed_one_ended(machine: Machine) -> None:
    """Nobody waits twice for what is already there."""
    machine.monkeypatch.setenv("FAKE_FAILS", "kubectl")
    with pytest.raises(DevclusterError):
        machine.ensure()
    machine.monkeypatch.delenv("FAKE_FAILS")
    machine.ensure()

    names = [name for name, *_ in machine.compiled()]
    assert names.count("kube-apiserver") == 1
    assert names.count("kubectl") == 2


def test_an_interrupted_build_leaves_nothing_behind(machine: Machine) -> None:
    """Neither half a program nor a compiler that works on for nobody."""
    started = machine.root / "started"
    os.mkfifo(started)
    machine.monkeypatch.setenv("FAKE_STARTED", str(started))
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background ignores it
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from devcluster import build\n"
        "build.ensure(install=False, report=lambda line: None)\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as running:  # noqa: S603  ourselves
        compilers = started.read_text().split()  # one has begun, or both
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate()

    assert running.returncode != 0
    assert b"KeyboardInterrupt" in stderr
    assert machine.kept() <= {"lock"}
    for compiler in compilers:
        with pytest.raises(ProcessLookupError):
            os.kill(int(compiler), 0)


def test_what_a_killed_build_left_is_taken_away(machine: Machine) -> None:
    """Nothing can be done at that moment, so the next build does it."""
    left = build.cache() / "unfinished-abc"
    (left / "kubelet").mkdir(parents=True)
    machine.ensure()

    assert not left.exists()


def test_a_build_removes_what_nobody_has_used_for_a_month(machine: Machine) -> None:
    """At its end, with a line that says so; asking for programs is using them."""
    machine.ensure(KIND)
    kind = build.place(KIND[0]).parent
    sets = list(build.cache().glob("programs-*"))
    for path in (kind, *sets):
        os.utime(path, (0, 0))
    machine.ensure()

    assert not kind.exists()
    assert not sets[0].exists()
    assert machine.said[-1] == f"removes what nobody has used for 30 days: {sets[0].name}, {kind.name}"
    os.utime(next(build.cache().glob("programs-*")), (0, 0))
    build.binaries()
    assert machine.ensure(KIND)
    assert build.binaries()


def test_a_directory_without_its_program_is_filled_again(machine: Machine) -> None:
    """Somebody cleaned up by hand."""
    kubelet = machine.ensure()["kubelet"]
    kubelet.resolve().unlink()

    with pytest.raises(DevclusterError, match=r"^not built: kubelet; run `python -m devcluster up`"):
        build.binaries()
    assert machine.ensure()["kubelet"].read_text() == "whole\n"


def test_two_runs_build_once(machine: Machine) -> None:
    """The second one waits, says so, and finds everything there."""
    build.cache().mkdir(parents=True)
    waits = threading.Event()

    def report(line: str) -> None:
        machine.said.append(line)
        waits.set()

    second = threading.Thread(target=lambda: build.ensure(install=False, report=report))
    with (build.cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second.start()
        waits.wait()
        for program in NATIVE:  # the first run's work
            build.place(program).parent.mkdir()
            build.place(program).write_text("whole\n")
    second.join()

    assert machine.said == ["waits for another build of the same programs"]
    assert machine.compiled() == []
    assert build.binaries()


def test_nothing_built_is_said_as_such(machine: Machine) -> None:
    """Asking for the paths builds nothing."""
    with pytest.raises(DevclusterError, match=r"^not built: kube-apiserver, "):
        build.binaries()
    assert machine.kept() == set()


def test_a_cache_that_cannot_be_written_to_is_named_with_its_remedy(machine: Machine) -> None:
    """Here a file is in the way; a home that cannot be written to ends the same."""
    (machine.root / "cache").write_text("")
    with pytest.raises(DevclusterError) as caught:
        machine.ensure()

    assert str(caught.value) == (
        f"cannot write to {build.cache()}: Not a directory; choose another place with XDG_CACHE_HOME"
    )


def test_a_relative_cache_is_not_taken_for_one_beside_the_sources(machine: Machine) -> None:
    """The compiler runs in another directory than we do."""
    machine.monkeypatch.chdir(machine.root)
    machine.monkeypatch.setenv("XDG_CACHE_HOME", "here")

    assert machine.ensure()["etcd"].is_relative_to(machine.root / "here")


@pytest.mark.parametrize("tool", ["go", "cc"])
def test_a_missing_compiler_is_named_with_its_remedy(machine: Machine, tool: str) -> None:
    """One line, before anything is built."""
    (machine.tools / tool).unlink()
    want = {
        "go": "missing: Go 1.26 or newer (`go` is not on PATH); install it from https://go.dev/doc/install",
        "cc": "missing: a C compiler (`cc` is not on PATH); apt-get install gcc libc6-dev",
    }[tool]

    with pytest.raises(DevclusterError) as caught:
        machine.ensure()
    assert str(caught.value) == want
    assert machine.compiled() == []


@pytest.mark.parametrize("version", ["go1.25.4", "go1.9", "unknown"])
def test_too_old_a_go_is_named_with_what_is_needed(machine: Machine, version: str) -> None:
    """Its own words would be about a line of some go.mod."""
    machine.monkeypatch.setenv("FAKE_VERSION", version)
    with pytest.raises(DevclusterError) as caught:
        machine.ensure()

    assert str(caught.value) == (
        f"too old: {machine.tools}/go is {version}, Go 1.26 or newer is needed (https://go.dev/doc/install)"
    )


@pytest.mark.parametrize("version", ["go1.26rc1", "go1.30.1", "go2.0", "devel go1.27-abcdef"])
def test_a_newer_go_will_do(machine: Machine, version: str) -> None:
    """Whatever it calls itself."""
    machine.monkeypatch.setenv("FAKE_VERSION", version)
    assert machine.ensure()


def test_too_little_disk_is_said_before_it_runs_out(machine: Machine) -> None:
    """Twelve gigabytes the first time, with the places that can be moved."""
    machine.disk(5 * 10**9)
    with pytest.raises(DevclusterError) as caught:
        machine.ensure()

    assert str(caught.value) == (
        f"too little disk: 21 programs to build need about 12 GB, and there are 5.0 GB free for {build.cache()}; "
        "make room, or choose another disk with XDG_CACHE_HOME, GOCACHE and GOMODCACHE"
    )
    assert machine.compiled() == []


def test_a_single_program_needs_its_share_of_the_disk(machine: Machine) -> None:
    """A full build needs room that one more program does not."""
    machine.ensure()["etcd"].resolve().unlink()
    machine.disk(10**9)

    assert machine.ensure()


def test_a_missing_package_is_named_with_the_command(machine: Machine) -> None:
    """Nothing is installed unasked."""
    machine.tool("dpkg-query", "#!/bin/sh\necho gcc installed\necho libc6-dev installed\n")
    with pytest.raises(DevclusterError) as caught:
        machine.ensure()

    assert str(caught.value) == (
        "missing: libseccomp-dev, pkg-config; run `apt-get install --yes --no-install-recommends libseccomp-dev "
        "pkg-config`, or allow it with --install"
    )


def test_a_missing_package_is_installed_where_that_is_allowed(machine: Machine) -> None:
    """With a line that says so."""
    machine.tool("dpkg-query", "#!/bin/sh\necho gcc installed\necho libc6-dev installed\n")
    machine.tool("apt-get", '#!/bin/sh\necho "$@" >> "$HOME/apt"\n')
    machine.ensure(install=True)

    want = "install --yes --no-install-recommends libseccomp-dev pkg-config\n"
    assert (machine.root / "apt").read_text() == want
    assert machine.said[0] == "installs libseccomp-dev, pkg-config"


def test_stale_package_lists_are_renewed_once(machine: Machine) -> None:
    """A fresh machine has none; if it still fails, the package manager's last word is passed on."""
    machine.tool("dpkg-query", "#!/bin/sh\n")
    machine.tool("apt-get", '#!/bin/sh\necho "$1" >> "$HOME/apt"\necho "E: no such package" >&2\nexit 100\n')
    with pytest.raises(DevclusterError, match=r"^cannot install gcc: `apt-get .* gcc` says: E: no such package$"):
        debian.require(["gcc"], install=True, report=machine.said.append)

    assert (machine.root / "apt").read_text() == "install\nupdate\ninstall\n"


def test_without_dpkg_no_package_is_asked_for(machine: Machine) -> None:
    """Another distribution calls them otherwise; the compiler will say what it misses."""
    assert not (machine.tools / "dpkg-query").exists()
    assert debian.missing(["libseccomp-dev"]) == ()
