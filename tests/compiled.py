"""Lays out the package as the image ships it, with its hot modules compiled, in `.cache/compiled`: `make compiled`.

The tree is always that of the sources as they are now. The shared libraries in it are compiled anew only where a source
that decides about them has changed: mypyc takes types and constants also from modules that it does not compile.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import grimp

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "operator"
TREE = ROOT / ".cache" / "compiled"
"""What PYTHONPATH names, so that the compiled package is found before the sources."""

KEPT = ROOT / ".cache" / "compiled-libraries"
"""The shared libraries, in a folder named after what they were made from."""


def modules() -> list[str]:
    """Name the modules that are compiled."""
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
    paths = {path for pattern in hook["custom"]["modules"] for path in SOURCE.glob(pattern)}
    return sorted(".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in paths if path.stem != "__init__")


def uncompiled(names: Sequence[str]) -> list[str]:
    """Name those of the modules that Python would take from their sources here."""
    suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    return [name for name in names if not (origin(name) or "").endswith(suffixes)]


def origin(name: str) -> str | None:
    """Give the file that a module would be loaded from."""
    found = importlib.util.find_spec(name)
    return found.origin if found else None


def key() -> str:
    """Say what the libraries are made from, in 16 hexadecimal digits: another input, another key."""
    graph = grimp.build_graph("arbiter", cache_dir=None)
    compiled = modules()
    read = {*compiled, *(each for name in compiled for each in graph.find_upstream_modules(name))}
    digest = hashlib.sha256()
    versions = [importlib.metadata.version(name) for name in ("mypy", "setuptools", "pydantic")]
    digest.update(repr((compiled, versions, sys.version, platform.machine(), sysconfig.get_config_var("CC"))).encode())
    for path in (ROOT / "hatch_build.py", ROOT / "pyproject.toml", *(_source(name) for name in sorted(read))):
        digest.update(b"\0" + str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _source(name: str) -> Path:
    path = SOURCE.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def main() -> int:
    """Lay out the tree, compiling where that is needed, and give the exit code."""
    libraries = KEPT / key()
    if not libraries.exists():
        sys.stdout.write("compiles the router's hot modules, which takes half a minute\n")
        sys.stdout.flush()
        if code := _compile(libraries):
            return code
    with tempfile.TemporaryDirectory(dir=TREE.parent, prefix="compiled-") as room:
        new = Path(room) / "new"
        shutil.copytree(SOURCE, new, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        shutil.copytree(libraries, new, dirs_exist_ok=True)
        if TREE.exists():
            TREE.rename(Path(room) / "old")  # whoever runs from it has loaded it
        new.rename(TREE)
    return 0


def _compile(libraries: Path) -> int:
    """Make the wheel and keep its libraries, in one step or not at all; give pip's exit code."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT, prefix="unfinished-") as room:
        pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps")
        made = subprocess.run(  # noqa: S603  pip, on our own source
            (*pip, "--no-build-isolation", f"--wheel-dir={room}", str(ROOT)),
            env={**os.environ, "HATCH_BUILD_HOOKS_ENABLE": "1"},
            check=False,
        )
        if made.returncode != 0:
            return made.returncode
        (wheel,) = Path(room).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(Path(room) / "inside", [name for name in archive.namelist() if name.endswith(".so")])
        for old in KEPT.glob("[0-9a-f]*"):
            shutil.rmtree(old)
        (Path(room) / "inside").rename(libraries)
    return 0


if __name__ == "__main__":
    sys.exit(main())
