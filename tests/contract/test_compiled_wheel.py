"""The wheel with compiled modules: it has them where that is asked for. A project in small stands in for ours."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests import compiled

ROOT = Path(__file__).parents[2]
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "arbiter-operator"
version = "1"
requires-python = ">=3.11"

[tool.hatch.build.targets.wheel]
packages = ["operator/arbiter"]

[tool.hatch.build.targets.wheel.hooks.custom]
enable-by-default = false
modules = ["arbiter/hot/*.py"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Give a project with one module that is compiled, and one that is not."""
    folder = tmp_path / "project"
    hot = folder / "operator" / "arbiter" / "hot"
    hot.mkdir(parents=True)
    shutil.copy(ROOT / "hatch_build.py", folder)
    (folder / "pyproject.toml").write_text(PROJECT)
    for package in (hot.parent, hot):
        (package / "__init__.py").write_text("")
    (hot.parent / "cold.py").write_text("NAMES = {'a', 'b', 'c', 'd'}\n")
    (hot / "loop.py").write_text("def twice(number: int) -> int:\n    return 2 * number\n")
    return folder


def wheel(project: Path, into: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Make a project's wheel in a folder beside it."""
    pip = (sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "--no-deps", "--no-build-isolation")
    return subprocess.run(  # noqa: S603  pip, on a project of ours
        (*pip, f"--wheel-dir={project.parent / into}", str(project)),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def names(path: Path) -> set[str]:
    """Name what is in a wheel."""
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def files(folder: Path) -> set[str]:
    """Name a folder's files."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_wheel_is_python_alone_unless_it_is_asked_to_be_more(project: Path) -> None:
    """Whoever installs from source needs no compiler."""
    made = wheel(project, "wheels", CC="/no/such/compiler")

    assert made.returncode == 0, made.stderr
    (path,) = (project.parent / "wheels").iterdir()
    assert path.name == "arbiter_operator-1-py3-none-any.whl"
    assert not [name for name in names(path) if name.endswith(".so")]


def test_a_compiled_wheel_has_libraries_beside_its_sources_and_the_same_bytes_from_any_folder(project: Path) -> None:
    """Python takes the library; the source stays for people and tracebacks. Nothing is written into the source tree."""
    before = files(project)
    elsewhere = project.parent / "at" / "another" / "place"
    shutil.copytree(project, elsewhere)
    made = [wheel(folder, "wheels", HATCH_BUILD_HOOKS_ENABLE="1") for folder in (project, elsewhere)]

    assert [one.returncode for one in made] == [0, 0], made
    assert files(project) == before
    (first,), (second,) = ((folder.parent / "wheels").iterdir() for folder in (project, elsewhere))
    version = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    assert first.name.startswith(f"arbiter_operator-1-{version}-{version}-linux_")
    inside = {f"arbiter__mypyc{SUFFIX}", f"arbiter/hot/loop{SUFFIX}", "arbiter/hot/loop.py", "arbiter/cold.py"}
    assert inside < names(first)
    assert hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(second.read_bytes()).digest()

    shutil.unpack_archive(first, project.parent / "installed", "zip")
    code = "from arbiter.hot import loop; print(loop.twice(21), loop.__file__)"
    ran = subprocess.run(  # noqa: S603  this Python
        (sys.executable, "-c", code), cwd=project.parent / "installed", capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == f"42 {project.parent}/installed/arbiter/hot/loop{SUFFIX}"


@pytest.mark.parametrize(
    ("changed", "environment", "want"),
    [
        pytest.param("", {"CC": "/no/such/compiler"}, "there is no C compiler (/no/such/compiler).", id="no compiler"),
        pytest.param("hot/loop.py", {}, "mypyc or the C compiler failed, as said above", id="a module with a mistake"),
        pytest.param("none", {}, "no module fits 'arbiter/none/*.py'", id="a pattern that fits nothing"),
    ],
)
def test_what_cannot_be_compiled_is_said(project: Path, changed: str, environment: dict[str, str], want: str) -> None:
    """In words that name the remedy, and without a wheel that would be slower than it was asked to be."""
    if changed == "none":
        (project / "pyproject.toml").write_text(PROJECT.replace("hot/*.py", "none/*.py"))
    elif changed:
        (project / "operator" / "arbiter" / changed).write_text("def twice(number: int) -> str:\n    return number\n")
    made = wheel(project, "wheels", HATCH_BUILD_HOOKS_ENABLE="1", **environment)

    assert made.returncode != 0
    assert want in made.stdout + made.stderr
    assert not list((project.parent / "wheels").glob("*.whl"))


def test_an_editable_install_stays_python_alone(project: Path) -> None:
    """Its sources are meant to be edited."""
    target = project.parent / "target"
    pip = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--no-build-isolation")
    installed = subprocess.run(  # noqa: S603  pip, on a project of ours
        (*pip, f"--target={target}", "--editable", str(project)),
        env={**os.environ, "HATCH_BUILD_HOOKS_ENABLE": "1", "CC": "/no/such/compiler"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert installed.returncode == 0, installed.stderr
    assert not [name for name in (*files(target), *files(project)) if name.endswith(".so")]


def test_a_run_that_would_test_sources_is_noticed() -> None:
    """Else the suite for compiled modules would be green without having seen one."""
    listed = compiled.modules()

    assert "arbiter.router.serve" in listed
    assert not [name for name in listed if name.endswith("__init__")]
    assert compiled.uncompiled([*listed, "pydantic_core._pydantic_core", "json"]) == [*listed, "json"]


def test_what_compiled_modules_import_decides_about_their_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Constants of other modules are written into the code; a library must not outlive them."""
    assert compiled.key() == compiled.key()
    source = tmp_path / "operator"
    shutil.copytree(compiled.SOURCE, source)
    before = key_of(tmp_path, monkeypatch)

    for changed, want in (("arbiter/core/routes.py", True), ("arbiter/core/judgement.py", False)):
        text = (source / changed).read_text()
        (source / changed).write_text(f"{text}# another\n")
        assert (key_of(tmp_path, monkeypatch) != before) is want, changed
        (source / changed).write_text(text)


def key_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the key of a copy of our source."""
    for name in ("pyproject.toml", "hatch_build.py"):
        shutil.copy(ROOT / name, root)
    monkeypatch.setattr(compiled, "ROOT", root)
    monkeypatch.setattr(compiled, "SOURCE", root / "operator")
    return compiled.key()
