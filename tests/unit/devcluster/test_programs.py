"""The table of programs: every version stands in a go.mod, and every input has its say in the key."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from devcluster import programs
from devcluster.programs import IMAGES, KIND, NATIVE, PROGRAMS, CProgram, Program

GO_PROGRAMS = [program for program in PROGRAMS if isinstance(program, Program)]
RUNC = next(program for program in GO_PROGRAMS if program.name == "runc")
MODULES = sorted((programs.SOURCES / "go").iterdir())


def name(program: Program | CProgram) -> str:
    """Give a program as a test's id."""
    return program.name


def go_program(program_name: str) -> Program:
    """Find a Go program of the table."""
    return next(program for program in GO_PROGRAMS if program.name == program_name)


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a copy of all sources, which a test may change."""
    copy = tmp_path / "sources"
    shutil.copytree(programs.SOURCES / "go", copy / "go")
    shutil.copy(programs.SOURCES / "pause.c", copy)
    monkeypatch.setattr(programs, "SOURCES", copy)
    return copy


def test_the_table_holds_what_a_cluster_is_made_of() -> None:
    """Twenty Go programs and one of ours; no two share a name, since they share a directory of links."""
    want_kubernetes = {
        "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl", "kubeadm",
    }  # fmt: skip
    names = [program.name for program in NATIVE]

    assert {program.name for program in NATIVE if program.family == "kubernetes"} == want_kubernetes
    assert {program.name for program in NATIVE if program.cni} == {"bridge", "host-local", "loopback", "portmap"}
    assert {"etcd", "containerd", "containerd-shim-runc-v2", "runc", "coredns", "helm", "pause"} < set(names)
    assert len(names) == len(set(names)) == 21


def test_each_use_has_its_own_set() -> None:
    """The nodes of kind are downloaded, and what goes into images keeps nobody waiting who wants a cluster."""
    assert [program.name for program in KIND] == ["kind", "kubectl", "helm"]
    assert [program.name for program in IMAGES] == ["ollama"]
    assert {program.name for program in PROGRAMS if program.client} == {"kind", "kubectl", "helm"}
    assert len(PROGRAMS) == len({program.name for program in PROGRAMS}) == 23


def test_the_first_program_built_shares_most_with_the_others() -> None:
    """The API server's packages are most of what the rest of Kubernetes compiles; it starts at once."""
    assert PROGRAMS[0].name == "kube-apiserver"


@pytest.mark.parametrize("program", GO_PROGRAMS, ids=name)
def test_a_program_is_a_tool_of_its_module_or_a_main_of_ours(program: Program) -> None:
    """What the table builds, go.mod pins: no download is decided at build time."""
    go_mod = (program.directory / "go.mod").read_text()

    if program.module:
        assert f'"{program.module}' in (program.directory / "main.go").read_text()
    else:
        assert re.search(rf"^(tool |\t){re.escape(program.package)}$", go_mod, re.MULTILINE)
    assert "-mod=readonly" in program.flags()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_module_holds_hashes_and_no_address(module: Path) -> None:
    """Whoever builds chooses the proxy; go.sum says whether it is the same source."""
    sums = (module / "go.sum").read_text().splitlines()

    assert "://" not in (module / "go.mod").read_text()
    assert "replace" not in (module / "go.mod").read_text()
    assert all(re.fullmatch(r"\S+ v\S+ h1:[A-Za-z0-9+/]{43}=", line) for line in sums)
    assert module.name in {program.family for program in PROGRAMS}


@pytest.mark.parametrize(
    ("program_name", "want"),
    [
        pytest.param(
            "kubelet",
            {"version": "v1.36.3", "number": "1.36.3", "major": "1", "minor": "36"},
            id="one version for Kubernetes",
        ),
        pytest.param(
            "etcd",
            {"version": "v3.6.8", "number": "3.6.8", "major": "3", "minor": "6"},
            id="a module without packages above",
        ),
        pytest.param(
            "helm",
            {"version": "v4.3.1", "number": "4.3.1", "major": "4", "minor": "3"},
            id="a package below the module",
        ),
        pytest.param(
            "runc",
            {"version": "v1.5.2", "number": "1.5.2", "major": "1", "minor": "5"},
            id="a module that is the package",
        ),
        pytest.param(
            "coredns", {"version": "v1.15.0", "number": "1.15.0", "major": "1", "minor": "15"}, id="a main.go of ours"
        ),
    ],
)
def test_a_version_is_read_from_go_mod(program_name: str, want: dict[str, str]) -> None:
    """It stands nowhere else, so nothing can disagree with it."""
    assert programs.version_of(go_program(program_name)) == want


def test_kubernetes_and_its_libraries_have_one_version() -> None:
    """The API server is compiled from the libraries of its own release."""
    go_mod = (go_program("kube-apiserver").directory / "go.mod").read_text()
    version = programs.version_of(go_program("kube-apiserver"))["version"].removeprefix("v1.")

    for library in ("api", "apimachinery", "apiserver", "client-go", "kubelet"):
        assert re.search(rf"^\tk8s\.io/{library} v0\.{re.escape(version)}$", go_mod, re.MULTILINE), library


def test_a_server_reports_its_version() -> None:
    """Unstamped, Kubernetes calls itself v0.0.0, and clients refuse to talk to it."""
    linker = go_program("kube-apiserver").flags()[-1]

    assert linker.startswith("-ldflags=-s -w ")
    assert "-X k8s.io/component-base/version.gitVersion=v1.36.3" in linker
    assert "-X k8s.io/component-base/version.gitMinor=36" in linker
    assert "{" not in linker


def test_the_command_names_what_comes_out() -> None:
    """Flags, output and package, in the order that go reads them."""
    command = RUNC.command("/usr/bin/go", Path("out/runc"))

    assert command == (
        "/usr/bin/go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-tags", "seccomp",
        "-ldflags=-s -w", "-o", "out/runc", "github.com/opencontainers/runc",
    )  # fmt: skip


def test_only_what_links_c_asks_for_a_compiler() -> None:
    """All else builds without one, and runs without the C library of this machine."""
    assert {program.name for program in GO_PROGRAMS if program.cgo} == {"runc", "ollama"}
    assert {program.name for program in PROGRAMS if program.debian} == {"runc", "pause", "ollama"}


def test_the_pause_program_is_static() -> None:
    """It is alone in its image: there is no library to load."""
    command = programs.named("pause").command("cc", Path("out/pause"))

    assert command[0] == "cc"
    assert "-static" in command
    assert command[-1] == "pause.c"


def test_a_key_is_the_same_every_time() -> None:
    """Else everything would be built on every start."""
    keys = [programs.key(program) for program in PROGRAMS]

    assert keys == [programs.key(program) for program in PROGRAMS]
    assert len(set(keys)) == len(PROGRAMS)
    assert all(re.fullmatch(r"[0-9a-f]{16}", key) for key in keys)


@pytest.mark.parametrize("changed", ["go.mod", "go.sum"])
def test_a_changed_module_changes_the_keys_of_its_family_alone(sources: Path, changed: str) -> None:
    """A new etcd leaves Kubernetes where it is."""
    before = {program.name: programs.key(program) for program in PROGRAMS}
    with (sources / "go" / "containerd" / changed).open("a") as file:
        file.write("\n")
    after = {program.name: programs.key(program) for program in PROGRAMS}

    differing = {program for program, key in before.items() if after[program] != key}
    assert differing == {"containerd", "containerd-shim-runc-v2", "ctr"}


@pytest.mark.parametrize(
    ("program_name", "source"),
    [pytest.param("pause", "pause.c", id="C"), pytest.param("coredns", "go/coredns/main.go", id="Go")],
)
def test_a_changed_source_changes_the_key(sources: Path, program_name: str, source: str) -> None:
    """A program that is in part our own follows its file."""
    before = programs.key(programs.named(program_name))
    with (sources / source).open("a") as file:
        file.write("\n")

    assert programs.key(programs.named(program_name)) != before


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(replace(RUNC, cgo=False), id="C linked or not"),
        pytest.param(replace(RUNC, tags=()), id="build tags"),
        pytest.param(replace(RUNC, stamps=("main.version={version}",)), id="stamped version"),
        pytest.param(replace(RUNC, package="github.com/opencontainers/runc/contrib"), id="package"),
    ],
)
def test_a_changed_flag_changes_the_key(changed: Program) -> None:
    """Two builds with different flags are two programs."""
    assert programs.key(changed) != programs.key(RUNC)


def test_another_machine_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home directory may be shared between machines with different processors."""
    here = programs.key(PROGRAMS[0])
    monkeypatch.setattr("platform.machine", lambda: "another")

    assert programs.key(PROGRAMS[0]) != here
