"""Compiles the router's hot modules with mypyc while a wheel is made, if HATCH_BUILD_HOOKS_ENABLE=1 asks for it.

pyproject.toml lists the modules. Their shared libraries go into the wheel beside the sources, which stay: Python
prefers a library to the source of the same name. Nothing is written into the source tree, and the same source gives
the same bytes, wherever it lies.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCE = "operator"
"""Folder of the source tree that the modules' paths start from."""

_LIBRARY = "arbiter"
"""Name of the one library, `arbiter__mypyc`, with the code of all modules: calls between them cost least within one."""

_SETUP = """
import sys
from pathlib import Path

import mypyc
from mypyc.build import mypycify
from setuptools import setup

options = ["--config-file=pyproject.toml", "--no-warn-unused-ignores"]
extensions = mypycify(options + sys.argv[2:], opt_level="3", debug_level="0", group_name=sys.argv[1])
for extension in extensions:
    for folder, name in ((Path.cwd(), "."), (Path(mypyc.__file__).parent, "mypyc")):
        extension.extra_compile_args.append(f"-ffile-prefix-map={folder}={name}")
setup(name=sys.argv[1], packages=[], ext_modules=extensions, script_args=["--quiet", "build_ext", "--inplace"])
"""
"""Runs in a process of its own: what mypyc writes depends on Python's hash seed and on the working directory. Folders
of this machine are told to the compiler extension by extension, because CFLAGS would replace Python's own flags."""


class CompileHook(BuildHookInterface[BuilderConfig]):
    """Adds the compiled modules to a wheel."""

    _room: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say what goes into the wheel; an editable install stays Python alone."""
        if self.target_name != "wheel" or version == "editable":
            return
        if missing := _missing():
            self.app.abort(f"cannot compile: {missing}; without HATCH_BUILD_HOOKS_ENABLE the wheel needs no compiler")
        source = Path(self.root) / _SOURCE
        modules = _modules(source, self.config["modules"])
        self._room = tempfile.TemporaryDirectory(prefix="arbiter-compiled-")
        room = Path(self._room.name)
        shutil.copytree(source, room, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        shutil.copyfile(Path(self.root) / "pyproject.toml", room / "pyproject.toml")
        if _compile(room, modules) != 0:
            self.app.abort("cannot compile: mypyc or the C compiler failed, as said above")
        libraries = (path for path in room.rglob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"))
        inside = {path: path.relative_to(room) for path in libraries if path.relative_to(room).parts[0] != "build"}
        build_data["force_include"] |= {str(path): str(place) for path, place in sorted(inside.items())}
        build_data["infer_tag"] = True
        build_data["pure_python"] = False

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002  hatchling calls it so
        """Remove the libraries, which are in the wheel now."""
        if self._room is not None:
            self._room.cleanup()


def _missing() -> str:
    """Say what a C compiler lacks here; nothing if it can be tried."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler}). On Debian: apt-get install gcc libc6-dev"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        return f"there is no {header}. On Debian: apt-get install python3-dev"
    return ""


def _modules(source: Path, patterns: list[str]) -> list[str]:
    """Give the modules' paths; a pattern that fits none is a mistake."""
    modules = set()
    for pattern in patterns:
        found = {str(path.relative_to(source)) for path in source.glob(pattern) if path.name != "__init__.py"}
        if not found:
            raise ValueError(f"pyproject.toml: no module fits {pattern!r}, which is to be compiled")
        modules |= found
    return sorted(modules)


def _compile(room: Path, modules: list[str]) -> int:
    """Compile modules beside their sources, and give the exit code."""
    return subprocess.run(  # noqa: S603  this Python, with our own lines
        (sys.executable, "-c", _SETUP, _LIBRARY, *modules),
        cwd=room,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        check=False,
    ).returncode
