"""Builds the programs of a set that are missing, and says where they lie.

Each is built once per state of its inputs and kept in the user's cache: `<program>-<key>/<program>` appears there in
one step or not at all, and every set of programs has a directory of links to put on a PATH. All work happens in a
scratch directory under the lock, so whatever ends a build, the next one starts clean.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

from devcluster import caching, debian, pruning
from devcluster.errors import DevclusterError
from devcluster.programs import NATIVE, SOURCES, AnyProgram, CProgram, Program, key
from devcluster.waiting import Stopwatch

Report = Callable[[str], None]

GO = (1, 26)
"""Oldest Go that reads all the modules."""

NEEDED = 12 * 10**9
"""Bytes of disk for building the native set from nothing: modules 2.1 GB, programs 1 GB, the rest the build cache."""

LANES = 2
"""Families built side by side: the compiler fills all processors by itself, but a linker only one."""

GRACE = 10.0
"""Seconds that a stopped compiler has to take away its temporary files."""

LOOK_S = 0.5
"""Seconds of one wait for compilers: Python notices an interruption that comes just before a wait only at its end."""

LAST_LINES = 12
"""As much of a failed build's output as is shown."""


def binaries(programs: Sequence[AnyProgram] = NATIVE) -> Mapping[str, Path]:
    """Say where each program lies: network plugins, people's programs and all others have a directory each."""
    paths = _links(programs)
    if absent := [name for name, path in paths.items() if not path.exists()]:
        raise DevclusterError(f"not built: {', '.join(absent)}; run `python -m devcluster up`, which builds them")
    pruning.mark_used(_root(programs))
    return paths


def ensure(programs: Sequence[AnyProgram] = NATIVE, *, install: bool, report: Report) -> Mapping[str, Path]:
    """Build what is missing, one line to `report` for each; `install` allows the Debian packages for it."""
    with suppress(DevclusterError):
        return binaries(programs)
    with caching.locked(cache(), "waits for another build of the same programs", report):
        if missing := _missing(programs):  # whoever held the lock may have built them
            debian.require({name for program in missing for name in program.debian}, install=install, report=report)
            compilers = _compilers(missing)
            _check_disk(missing, compilers)
            with caching.scratch(cache()) as scratch:
                _Run(missing, compilers, scratch, report).build()
        paths = _linked(programs)
        if gone := pruning.prune(cache()):
            report(f"removes what nobody has used for {pruning.UNUSED_DAYS} days: {', '.join(gone)}")
        return paths


def cache() -> Path:
    """Where the programs are kept."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home.absolute() / "arbiter" / "devcluster"


def place(program: AnyProgram) -> Path:
    """Where this state of the program is kept, or will be."""
    return cache() / f"{program.name}-{key(program)}" / program.name


def _missing(programs: Sequence[AnyProgram]) -> list[AnyProgram]:
    return [program for program in programs if not place(program).exists()]


def _root(programs: Sequence[AnyProgram]) -> Path:
    """Where the links of this set are; another state of any program, another set."""
    digest = hashlib.sha256("\0".join(place(program).parent.name for program in programs).encode()).hexdigest()[:16]
    return cache() / f"programs-{digest}"


def _links(programs: Sequence[AnyProgram]) -> dict[str, Path]:
    root = _root(programs)
    return {program.name: root / _directory(program) / program.name for program in programs}


def _directory(program: AnyProgram) -> str:
    if program.cni:
        return "cni"
    return "client" if program.client else "bin"


def _linked(programs: Sequence[AnyProgram]) -> Mapping[str, Path]:
    for program, link in zip(programs, _links(programs).values(), strict=True):
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)  # it may be there and lead nowhere
            link.symlink_to(os.path.relpath(place(program), link.parent))
    return binaries(programs)


def _compilers(programs: Sequence[AnyProgram]) -> Mapping[type[AnyProgram], str]:
    found: dict[type[AnyProgram], str] = {}
    if any(isinstance(program, CProgram) for program in programs):
        found[CProgram] = _on_path("cc", "a C compiler", "apt-get install gcc libc6-dev")
    if any(isinstance(program, Program) for program in programs):
        wanted = ".".join(map(str, GO))
        found[Program] = _on_path("go", f"Go {wanted} or newer", "install it from https://go.dev/doc/install")
        version = _go_environment(found[Program])["GOVERSION"]
        numbers = re.match(r"(?:go|devel go)(\d+)\.(\d+)", version)
        if numbers is None or tuple(map(int, numbers.groups())) < GO:
            raise DevclusterError(
                f"too old: {found[Program]} is {version}, Go {wanted} or newer is needed (https://go.dev/doc/install)"
            )
    return found


def _on_path(name: str, what: str, remedy: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise DevclusterError(f"missing: {what} (`{name}` is not on PATH); {remedy}")
    return path


def _go_environment(go: str) -> Mapping[str, str]:
    asked = subprocess.run(  # noqa: S603  the compiler found on PATH
        [go, "env", "-json", "GOVERSION", "GOCACHE", "GOMODCACHE"],
        cwd=SOURCES / "go" / "kubernetes",  # where a newer toolchain is chosen, if go may fetch one
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode != 0:
        raise DevclusterError(f"`{go} env` failed: {_last(asked.stderr, 1)}")
    answer: dict[str, str] = json.loads(asked.stdout)
    return answer


def _check_disk(programs: Sequence[AnyProgram], compilers: Mapping[type[AnyProgram], str]) -> None:
    needed = NEEDED * len(programs) // len(NATIVE)
    places = [str(cache())]
    if Program in compilers:
        environment = _go_environment(compilers[Program])
        places += [environment["GOCACHE"], environment["GOMODCACHE"]]
    for where in places:
        standing = next(path for path in (Path(where), *Path(where).parents) if path.exists())
        free = shutil.disk_usage(standing).free
        if free < needed:
            raise DevclusterError(
                f"too little disk: {len(programs)} programs to build need about {needed / 1e9:.0f} GB, and there are "
                f"{free / 1e9:.1f} GB free for {where}; make room, or choose another disk with XDG_CACHE_HOME, "
                "GOCACHE and GOMODCACHE"
            )


class _Run:
    """One building of several programs: the first failure, or an interruption, ends all of it."""

    def __init__(
        self,
        programs: Sequence[AnyProgram],
        compilers: Mapping[type[AnyProgram], str],
        scratch: Path,
        report: Report,
    ) -> None:
        self._programs = programs
        self._compilers = compilers
        self._scratch = scratch
        self._report = report
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False
        self._built = 0

    def build(self) -> None:
        families = dict.fromkeys(program.family for program in self._programs)
        self._report(f"builds {len(self._programs)} programs into {cache()}")
        with ThreadPoolExecutor(LANES) as lanes:
            try:
                waiting = {lanes.submit(self._family, name) for name in families}
                while waiting:
                    done, waiting = wait(waiting, LOOK_S, return_when=FIRST_EXCEPTION)
                    for family in done:
                        family.result()
            except BaseException:  # an interruption too: no compiler may outlive us
                self._stop()
                raise

    def _family(self, family: str) -> None:
        for program in self._programs:
            if program.family == family and not self._stopped:
                self._one(program)

    def _one(self, program: AnyProgram) -> None:
        watch = Stopwatch()
        kept = place(program).parent  # now: an edit of go.mod meanwhile is another program
        room = self._scratch / program.name
        room.mkdir()
        output = self._compile(program, room / program.name)
        seconds = watch.seconds()
        if self._stopped:
            return
        if output is not None:
            raise DevclusterError(f"cannot build {program.name}; its compiler's last lines:\n{output}")
        room.rename(kept)  # in one step: nobody ever runs half a program
        with self._lock:
            self._built += 1
            self._report(f"[{self._built}/{len(self._programs)}] {program.name} {seconds:.0f} s")

    def _compile(self, program: AnyProgram, output: Path) -> str | None:
        """Give the last lines of the compiler if it fails."""
        temporary = self._scratch / f"{program.name}.tmp"
        temporary.mkdir()
        cgo = isinstance(program, Program) and program.cgo
        settings = {
            "CGO_ENABLED": "1" if cgo else "0",
            "GOFLAGS": "-mod=readonly",  # not a user's own, such as -mod=vendor: those are not meant for these modules
            "GOTMPDIR": str(temporary),
            "GOWORK": "off",
            "TMPDIR": str(temporary),
        }
        if isinstance(program, Program) and program.headers:
            settings["CPLUS_INCLUDE_PATH"] = str(self._headers(program, temporary / "include"))
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(  # noqa: S603  the compiler found on PATH, with flags of our own table
                program.command(self._compilers[type(program)], output),
                cwd=program.directory,
                env=os.environ | settings,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # so that it and its children can be stopped together
            )
            self._running.add(process)
        said, _ = process.communicate()
        with self._lock:
            self._running.discard(process)
        return None if process.returncode == 0 else _last(said, LAST_LINES)

    def _headers(self, program: Program, include: Path) -> Path:
        """Fill a directory with links to the modules that have headers of the program."""
        include.mkdir()
        for name, module in program.headers:
            asked = subprocess.run(  # noqa: S603  the compiler found on PATH
                [self._compilers[Program], "mod", "download", "-json", module],
                cwd=program.directory,
                env=os.environ | {"GOFLAGS": "-mod=readonly", "GOWORK": "off"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            if asked.returncode != 0:
                said = _last(asked.stderr or asked.stdout, LAST_LINES)
                raise DevclusterError(f"cannot download {module}, which has headers of {program.name}:\n{said}")
            (include / name).symlink_to(json.loads(asked.stdout)["Dir"])
        return include

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            _signal(process, signal.SIGINT)
        for process in running:
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):  # it ended just now
            os.killpg(process.pid, number)


def _last(text: str, lines: int) -> str:
    return "\n".join(text.strip().splitlines()[-lines:]) or "(it said nothing)"
