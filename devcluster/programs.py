"""Names every program of a cluster and says what it is built from, in one set for each use.

A version stands once: in the `go.mod` of the program's family, one module per family, so that no program is held to
another's dependencies. What a program is asked to report as its version is read from there.
"""

from __future__ import annotations

import hashlib
import platform
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parent

STRIPPED = "-s -w"
"""Linker flags of every Go program: no symbol table and no debug data, which halves its size."""


@dataclass(frozen=True)
class Program:
    """One Go program; `stamps` are linker variables, in which `{version}` stands for its module's version."""

    name: str
    family: str
    package: str
    cgo: bool = False
    tags: tuple[str, ...] = ()
    stamps: tuple[str, ...] = ()
    debian: tuple[str, ...] = ()
    """Debian packages that must be there to build it."""
    cni: bool = False
    """Whether it is a network plugin, which the container runtime looks for in a directory of their own."""
    client: bool = False
    """Whether people run it themselves: these are alone in a directory for their PATH, where they hide nothing."""
    module: str = ""
    """The module whose version counts, where the package is a main.go of ours that picks what goes in."""
    headers: tuple[tuple[str, str], ...] = ()
    """Directories of C headers that are modules of the family: by what name its code includes them, and the module."""

    @property
    def directory(self) -> Path:
        """Where the go.mod of its family lies."""
        return SOURCES / "go" / self.family

    def inputs(self) -> tuple[Path, ...]:
        """The files that decide, with the flags, what comes out."""
        return self.directory / "go.mod", self.directory / "go.sum", *sorted(self.directory.glob("*.go"))

    def command(self, compiler: str, output: Path) -> tuple[str, ...]:
        """Give the command that builds it; to be run in `directory`."""
        return (compiler, "build", *self.flags(), "-o", str(output), self.package)

    def flags(self) -> tuple[str, ...]:
        """Neither the checkout's place nor git's state goes into the program."""
        tags = ("-tags", ",".join(self.tags)) if self.tags else ()
        version = version_of(self)
        linker = " ".join([STRIPPED, *(f"-X {stamp.format(**version)}" for stamp in self.stamps)])
        return ("-mod=readonly", "-trimpath", "-buildvcs=false", *tags, f"-ldflags={linker}")


@dataclass(frozen=True)
class CProgram:
    """One program from a C file of ours, linked static: it runs in a container that holds nothing else."""

    name: str
    source: str
    debian: tuple[str, ...] = ("gcc", "libc6-dev")
    family: str = "c"
    cni: bool = False
    client: bool = False

    @property
    def directory(self) -> Path:
        """Where its source lies."""
        return SOURCES

    def inputs(self) -> tuple[Path, ...]:
        """The files that decide, with the flags, what comes out."""
        return (self.directory / self.source,)

    def command(self, compiler: str, output: Path) -> tuple[str, ...]:
        """Give the command that builds it; to be run in `directory`."""
        return (compiler, *self.flags(), "-o", str(output), self.source)

    def flags(self) -> tuple[str, ...]:
        """As small as it comes."""
        return ("-Os", "-static", "-s", "-Wall", "-Werror")


AnyProgram = Program | CProgram


def _kubernetes(name: str) -> Program:
    version = ("gitVersion={version}", "gitMajor={major}", "gitMinor={minor}", "gitTreeState=clean")
    return Program(
        name,
        "kubernetes",
        f"k8s.io/kubernetes/cmd/{name}",
        stamps=tuple(  # what the servers say, and what clients call themselves; else both say v0.0.0
            f"k8s.io/{library}/version.{variable}"
            for library in ("component-base", "client-go/pkg")
            for variable in version
        ),
        client=name == "kubectl",
    )


def _containerd(name: str) -> Program:
    module = "github.com/containerd/containerd/v2"
    return Program(name, "containerd", f"{module}/cmd/{name}", stamps=(f"{module}/version.Version={{version}}",))


def _cni(kind: str, name: str) -> Program:
    module = "github.com/containernetworking/plugins"
    stamp = f"{module}/pkg/utils/buildversion.BuildVersion={{version}}"
    return Program(name, "cni", f"{module}/plugins/{kind}/{name}", stamps=(stamp,), cni=True)


_KUBECTL = _kubernetes("kubectl")

_HELM = Program(
    "helm",
    "helm",
    "helm.sh/helm/v4/cmd/helm",
    stamps=("helm.sh/helm/v4/internal/version.version={version}",),
    client=True,
)

NATIVE: tuple[AnyProgram, ...] = (
    _kubernetes("kube-apiserver"),
    _kubernetes("kubeadm"),
    _KUBECTL,
    _kubernetes("kubelet"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kube-proxy"),
    CProgram("pause", "pause.c"),
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    _containerd("containerd"),
    _containerd("containerd-shim-runc-v2"),
    _containerd("ctr"),
    Program(
        "runc",
        "runc",
        "github.com/opencontainers/runc",
        cgo=True,
        tags=("seccomp",),
        debian=("gcc", "libc6-dev", "libseccomp-dev", "pkg-config"),
    ),
    _cni("main", "bridge"),
    _cni("main", "loopback"),
    _cni("ipam", "host-local"),
    _cni("meta", "portmap"),
    Program("coredns", "coredns", ".", module="github.com/coredns/coredns"),
    _HELM,
    Program(
        "local-path-provisioner",
        "localpath",
        "github.com/rancher/local-path-provisioner",
        stamps=("main.VERSION={version}",),
    ),
    Program(
        "registry",
        "registry",
        ".",
        module="github.com/distribution/distribution/v3",
        stamps=("github.com/distribution/distribution/v3/version.version={version}",),
    ),
)
"""What the native provider runs, in the order of building: within a family, first the one whose packages most of the
others use as well."""

KIND: tuple[AnyProgram, ...] = (
    Program("kind", "kind", "sigs.k8s.io/kind", client=True),
    _KUBECTL,
    _HELM,
)
"""What the kind provider runs, in the order of building; the node image holds all the rest."""

IMAGES: tuple[AnyProgram, ...] = (
    Program(
        "ollama",
        "ollama",
        "github.com/ollama/ollama",
        cgo=True,
        stamps=("github.com/ollama/ollama/version.Version={number}",),
        debian=("g++", "gcc", "libc6-dev", "libstb-dev", "nlohmann-json3-dev"),
        headers=(("miniaudio", "github.com/gen2brain/malgo"),),
    ),
)
"""What goes into images and no cluster needs, so that bringing one up does not wait for it."""

PROGRAMS: tuple[AnyProgram, ...] = tuple(dict.fromkeys((*NATIVE, *KIND, *IMAGES)))
"""Every program once."""


def named(name: str) -> AnyProgram:
    """Find a program by its name."""
    return next(program for program in PROGRAMS if program.name == name)


def key(program: AnyProgram) -> str:
    """Say what the program is built from, in 16 hexadecimal digits: another input, another key."""
    digest = hashlib.sha256()
    for part in (program.name, platform.machine(), *program.command("", Path())):
        digest.update(f"{part}\0".encode())
    if isinstance(program, Program):
        digest.update(b"cgo\0" if program.cgo else b"\0")
        for header in program.headers:
            digest.update("\0".join(header).encode())
    for source in program.inputs():
        digest.update(f"{source.name}\0{source.stat().st_size}\0".encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def version_of(program: Program) -> dict[str, str]:
    """Read from go.mod which version of the program's module is built: `version`, `number`, `major` and `minor`.

    `number` is the version without the v that Go puts before it.
    """
    inside = program.module or program.package
    found = [
        (module, version)
        for module, version in _requirements(program.directory / "go.mod")
        if inside == module or inside.startswith(f"{module}/")
    ]
    _, version = max(found)  # the longest module path: its package may lie in a module below another one
    number = version.removeprefix("v")
    major, minor, _ = number.split(".", 2)
    return {"version": version, "number": number, "major": major, "minor": minor}


@cache
def _parsed(text: str) -> tuple[tuple[str, str], ...]:
    required = re.findall(r"^require \((.*?)^\)", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in required for line in block.splitlines()]
    lines += re.findall(r"^require (?!\()(.*)$", text, re.MULTILINE)
    pairs = [line.split()[:2] for line in lines if line.strip() and not line.strip().startswith("//")]
    return tuple((module, version) for module, version in pairs)


def _requirements(go_mod: Path) -> tuple[tuple[str, str], ...]:
    return _parsed(go_mod.read_text())
