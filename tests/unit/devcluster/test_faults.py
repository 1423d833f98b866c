"""What may be missing or in the way on a machine: `up` says so in one message, fails, and leaves nothing half-built.

Each test runs the command itself, on a machine of its own: a network namespace, in which the lock is nobody else's, a
disk that is as large as the test wants it, and no program on the PATH but those of the test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UP = (sys.executable, "-m", "devcluster", "up")

DISK = "/mnt"
"""Where each machine has its own disk: a short path, for the sake of sockets."""

ROOMY, SMALL = "20g", "64m"
"""Sizes of that disk: a full build asks for 12 GB, and none of it is used."""

ON_A_DISK = """
"$MOUNT" -t tmpfs -o "size=$DISK_SIZE" none /mnt && "$@"
code=$?
"$FIND" /mnt -type f >"$FILES"
exit $code
"""
"""Runs a command with an empty disk, and tells at its end which files are on it."""

APART = ("unshare", "--net", "--mount", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")))
"""Gives a command its own network and mounts, and makes it root if it is not."""

NOBODY = ("unshare", "--user") if os.geteuid() == 0 else ()
"""Makes a command run as a user who is not root; whatever it may read stays readable."""

GO = """#!/bin/sh
[ "$1" = env ] || { echo "note"; echo "undefined: x" >&2; exit 1; }
echo '{"GOVERSION": "go1.26.8", "GOCACHE": "/mnt/go-build", "GOMODCACHE": "/mnt/mod"}'
"""
"""A Go that builds nothing."""

CC = '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho whole > "$2"\n'
"""A C compiler that builds everything."""

DOCKER = "#!/bin/sh\necho 28.1.1\n"
"""An engine that answers."""


@dataclass(frozen=True)
class Done:
    """How a command ended: its code, what it said, and the files on its disk."""

    code: int
    said: list[str]
    message: str
    files: list[str]


class Machine:
    """A machine with the programs that a test puts on its PATH."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tools = root / "tools"
        self.tools.mkdir()
        self.environment = {
            "PATH": str(self.tools),
            "HOME": str(root),
            "XDG_CACHE_HOME": f"{DISK}/cache",
            "XDG_STATE_HOME": f"{DISK}/state",
            "DISK_SIZE": ROOMY,
        }

    def tool(self, name: str, script: str) -> None:
        """Put a program on the PATH."""
        (self.tools / name).write_text(script)
        (self.tools / name).chmod(0o755)

    def run(self, *command: str) -> Done:
        """Run a command as root on the machine."""
        return self._run(*APART, found("sh"), "-c", ON_A_DISK, "sh", *command)

    def run_as_nobody(self, *command: str) -> Done:
        """Run a command as another user, who cannot be given a disk."""
        return self._run(*NOBODY, *command)

    def _run(self, *command: str) -> Done:
        files = self.root / "files"
        tools = {"MOUNT": found("mount"), "FIND": found("find"), "FILES": str(files)}
        done = subprocess.run(  # noqa: S603  our own tools
            (found(command[0]), *command[1:]),
            cwd=ROOT,
            env=self.environment | tools,
            capture_output=True,
            text=True,
            check=False,
        )
        said = [line for line in done.stderr.splitlines() if line.startswith("devcluster: ")]
        assert len(said) == 1, done.stderr
        assert done.stderr.startswith(said[0])
        message = done.stderr.removeprefix("devcluster: ").removesuffix("\n")
        listed = files.read_text().splitlines() if files.exists() else []
        return Done(done.returncode, done.stdout.splitlines(), message, listed)


def found(program: str) -> str:
    """Give the path of a program of the real machine."""
    path = shutil.which(program)
    assert path, program
    return path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Give a machine with two compilers and no engine."""
    machine = Machine(tmp_path)
    machine.tool("go", GO)
    machine.tool("cc", CC)
    return machine


NATIVE = "uses native: no container engine answers (neither docker nor podman is on PATH)"
LOCK = "/mnt/cache/arbiter/devcluster/lock"


def test_without_go(machine: Machine) -> None:
    """It is what everything is built with."""
    (machine.tools / "go").unlink()
    done = machine.run(*UP)

    assert done == Done(
        1,
        [NATIVE],
        "missing: Go 1.26 or newer (`go` is not on PATH); install it from https://go.dev/doc/install",
        [LOCK],
    )


def test_with_too_old_a_go(machine: Machine) -> None:
    """Its own complaint would be about a line in a go.mod."""
    machine.tool("go", GO.replace("go1.26.8", "go1.19.8"))
    done = machine.run(*UP)

    assert done == Done(
        1,
        [NATIVE],
        f"too old: {machine.tools}/go is go1.19.8, Go 1.26 or newer is needed (https://go.dev/doc/install)",
        [LOCK],
    )


def test_without_a_c_compiler(machine: Machine) -> None:
    """It is what runc and the pause program need."""
    (machine.tools / "cc").unlink()
    done = machine.run(*UP)

    assert done == Done(
        1, [NATIVE], "missing: a C compiler (`cc` is not on PATH); apt-get install gcc libc6-dev", [LOCK]
    )


def test_with_too_little_disk(machine: Machine) -> None:
    """Before it runs out in the middle of a build."""
    machine.environment["DISK_SIZE"] = SMALL
    done = machine.run(*UP)

    assert done == Done(
        1,
        [NATIVE],
        "too little disk: 21 programs to build need about 12 GB, and there are 0.1 GB free for "
        "/mnt/cache/arbiter/devcluster; make room, or choose another disk with XDG_CACHE_HOME, GOCACHE and GOMODCACHE",
        [LOCK],
    )


def test_with_a_build_that_fails(machine: Machine) -> None:
    """The compiler's last words are the message; what was built before is whole and stays."""
    done = machine.run(*UP)

    assert done.code == 1
    first, *lines = done.message.splitlines()
    assert first.startswith("cannot build ")
    assert first.endswith("; its compiler's last lines:")
    assert lines == ["note", "undefined: x"]
    assert {Path(file).name for file in done.files} <= {"lock", "pause"}
    assert not [file for file in done.files if "unfinished" in file]


def test_without_the_packages(machine: Machine) -> None:
    """Nothing is installed unasked."""
    machine.tool("dpkg-query", "#!/bin/sh\n")
    done = machine.run(*UP)

    names = "busybox-static iproute2 mount nftables util-linux"
    assert done == Done(
        1,
        [NATIVE],
        f"missing: {', '.join(names.split())}; run `apt-get install --yes --no-install-recommends {names}`, or allow "
        "it with --install",
        [],
    )


def test_with_a_cache_that_is_not_ours(machine: Machine) -> None:
    """Here a file is in the way."""
    machine.environment["XDG_CACHE_HOME"] = "/dev/null"
    done = machine.run(*UP)

    assert done == Done(
        1,
        [NATIVE],
        "cannot write to /dev/null/arbiter/devcluster: Not a directory; choose another place with XDG_CACHE_HOME",
        [],
    )


def test_with_a_state_directory_that_is_too_long(machine: Machine) -> None:
    """A socket has to fit in there."""
    home = f"{DISK}/{'long' * 30}"
    machine.environment["XDG_STATE_HOME"] = home
    done = machine.run(*UP)

    assert done == Done(
        1,
        [NATIVE],
        f"{home}/arbiter-devcluster is too long a path for sockets; set XDG_STATE_HOME to a shorter one",
        [],
    )


def test_while_another_command_changes_the_cluster(machine: Machine) -> None:
    """It is not waited for: it may be building for minutes."""
    holder = (
        "import socket, subprocess, sys\n"
        "lock = socket.socket(socket.AF_UNIX)\n"
        "lock.bind('\\0arbiter-devcluster')\n"
        "sys.exit(subprocess.run(sys.argv[1:]).returncode)\n"
    )
    done = machine.run(sys.executable, "-c", holder, *UP)

    assert done == Done(1, [NATIVE], "another devcluster command is changing the cluster; wait for it to end", [])


def test_without_root_and_without_an_engine(machine: Machine) -> None:
    """There are two ways out, and both are named."""
    done = machine.run_as_nobody(*UP)

    assert done == Done(
        1,
        [],
        "no container engine answers (neither docker nor podman is on PATH) and this user is not root; start Docker or "
        "Podman, or become root: sudo --preserve-env=HOME,XDG_CACHE_HOME,XDG_STATE_HOME "
        f"{sys.executable} -m devcluster …",
        [],
    )


def test_with_native_forced_and_without_root(machine: Machine) -> None:
    """An engine is no help then."""
    machine.tool("docker", DOCKER)
    done = machine.run_as_nobody(*UP, "--provider", "native")

    assert done.code == 1
    assert done.message.startswith("a native node needs root, for namespaces and mounts; become root: sudo ")


def test_with_kind_forced_and_without_an_engine(machine: Machine) -> None:
    """Why none answers is the engine's own word."""
    machine.tool("docker", "#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    done = machine.run(*UP, "--provider", "kind")

    assert done == Done(
        1,
        [],
        "kind needs a container engine, and none answers (docker: Cannot connect to the Docker daemon); start Docker "
        "or Podman, or leave --provider kind out",
        [],
    )


def test_with_an_engine_and_without_go(machine: Machine) -> None:
    """kind, kubectl and Helm are built too, but nobody needs to be root."""
    machine.tool("docker", DOCKER)
    (machine.tools / "go").unlink()
    machine.environment |= {"XDG_CACHE_HOME": str(machine.root / "cache"), "XDG_STATE_HOME": str(machine.root)}
    if NOBODY:
        (machine.root / "cache").mkdir()
        shutil.chown(machine.root / "cache", user=0)
    done = machine.run_as_nobody(*UP)

    assert done.code == 1
    assert done.said == ["uses kind: docker answers"]
    assert done.message.startswith("missing: Go 1.26 or newer (`go` is not on PATH)")
    assert [path.name for path in (machine.root / "cache").rglob("*") if path.is_file()] == ["lock"]


@pytest.mark.parametrize(
    ("options", "want"),
    [
        pytest.param(("--nodes", "0"), "--nodes 0: must be from 1 to 9", id="no node"),
        pytest.param(("--gpu-node", "2"), "--gpu-node 2: the cluster has 1 node; add --nodes 2", id="a GPU in no node"),
    ],
)
def test_with_nodes_that_cannot_be(machine: Machine, options: tuple[str, ...], want: str) -> None:
    """Before anything is built for them."""
    assert machine.run(*UP, *options) == Done(1, [], want, [])
