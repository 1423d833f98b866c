"""Rules that the repository keeps about itself."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "operator"
MODULES = sorted((SOURCE / "arbiter").rglob("*.py"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").rglob("*.md")])
LOCKS = sorted([*ROOT.glob("requirements*.lock"), *(ROOT / "bench").glob("*.lock")])


def name(path: Path) -> str:
    """Give a path as a test's id."""
    return str(path.relative_to(ROOT))


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of our own tools in the repository's root."""
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_the_source_root_is_no_package() -> None:
    """With an `__init__.py` it would shadow the standard library's operator and break Python itself."""
    assert not (SOURCE / "__init__.py").exists()
    imported = run(sys.executable, "-c", "import operator; print(operator.itemgetter)", PYTHONPATH=str(ROOT))
    assert imported.stdout.startswith("<class 'operator.itemgetter'>"), imported.stderr


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_module_opens_with_what_it_decides_or_does(path: Path) -> None:
    """The first line is a sentence, so that a reader knows from it whether this is the place."""
    opening = ast.get_docstring(ast.parse(path.read_text()))

    assert opening, "has no docstring"
    first, *rest = opening.split("\n\n")
    assert first.rstrip().endswith((".", ":")), first
    assert len(first.split()) >= 4, first
    if path.name == "__init__.py" and path.parent != SOURCE / "arbiter":
        assert rest or path.parent.name == "cli", "a room states its rule"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_module_stays_readable_in_one_sitting(path: Path) -> None:
    """A module of more than 450 lines is two."""
    assert len(path.read_text().splitlines()) <= 450


def test_import_contracts_hold() -> None:
    """Rooms import one way, and the pure ones reach nothing outside."""
    checked = run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    assert checked.returncode == 0, checked.stdout
    assert "2 kept, 0 broken" in checked.stdout


def test_a_broken_contract_would_be_noticed(tmp_path: Path) -> None:
    """The check is real: a core that imports the CLI, or the network, fails it."""
    package = tmp_path / "arbiter"
    for room, text in {
        **dict.fromkeys(("api", "cli", "controller", "engines", "fetch", "kubeapi", "router"), ""),
        "core": "import socket\nfrom arbiter.cli import *\n",
    }.items():
        (package / room).mkdir(parents=True)
        (package / room / "__init__.py").write_text(text)
    (package / "__init__.py").write_text("")
    (package / "errors.py").write_text("")
    (package / "settings.py").write_text("")

    checked = run(
        str(Path(sys.executable).with_name("lint-imports")),
        "--no-cache",
        "--config",
        str(ROOT / "pyproject.toml"),
        PYTHONPATH=str(tmp_path),
    )

    assert checked.returncode != 0
    assert "arbiter.core -> arbiter.cli" in checked.stdout
    assert "arbiter.core -> socket" in checked.stdout


@pytest.mark.parametrize(
    ("line", "want_rule"),
    [
        pytest.param("datetime.datetime.now(datetime.UTC)", "TID251", id="the clock"),
        pytest.param("time.monotonic()", "TID251", id="another clock"),
        pytest.param("random.random()", "TID251", id="randomness"),
    ],
)
def test_core_may_not_read_a_clock_or_draw_at_random(tmp_path: Path, line: str, want_rule: str) -> None:
    """A decision that does cannot be replayed, so the linter refuses it, in core/ as anywhere."""
    module = tmp_path / "operator" / "arbiter" / "core" / "decision.py"
    module.parent.mkdir(parents=True)
    module.write_text(f"import datetime\nimport random\nimport time\n\n{line}\n")

    linted = run(
        str(Path(sys.executable).with_name("ruff")),
        "check", "--no-cache", "--config", str(ROOT / "pyproject.toml"), str(module),
    )  # fmt: skip

    assert want_rule in linted.stdout


@pytest.mark.parametrize("path", LOCKS, ids=name)
def test_lock_holds_hashes_and_no_address(path: Path) -> None:
    """Whoever installs chooses the index; the hashes say whether it is the same file."""
    text = path.read_text()

    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text
    pinned = re.findall(r"^[a-z0-9][a-z0-9._-]*==", text, re.MULTILINE)
    assert pinned
    assert len(re.findall(r"^    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)) >= len(pinned)


def test_the_development_lock_agrees_with_the_runtime_one() -> None:
    """Tests run on what is shipped."""

    def pins(lock: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9][a-z0-9._-]*==[^ \\]+", (ROOT / lock).read_text(), re.MULTILINE))

    assert pins("requirements.lock") <= pins("requirements-dev.lock")


def test_what_compiles_is_one_version_everywhere() -> None:
    """The image's build stage, this machine and an isolated build make the same libraries of the same source."""

    def pins(lock: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9][a-z0-9._-]*==[^ \\]+", (ROOT / lock).read_text(), re.MULTILINE))

    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    exact = {needed for needed in wheel["hooks"]["custom"]["dependencies"] if "==" in needed}
    assert pins("requirements-build.lock") <= pins("requirements-dev.lock")
    assert {needed.partition("==")[0] for needed in exact} == {"mypy"}
    assert exact <= pins("requirements-build.lock")


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    """A page that a reader is sent to exists."""
    for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_every_exception_from_the_linter_has_its_reason() -> None:
    """An ignored rule without a reason is a rule that nobody decided about."""
    configuration = (ROOT / "pyproject.toml").read_text()
    ignored = configuration[
        configuration.index("[tool.ruff.lint]") : configuration.index("[tool.ruff.lint.flake8-tidy")
    ]

    for line in ignored.splitlines():
        if re.fullmatch(r'\s+"[A-Z]+[0-9]+",.*', line):
            assert re.search(r"# \S+ \S+", line), line


def test_every_waiver_in_the_code_has_its_reason() -> None:
    """`noqa` and `type: ignore` name their rule and say why."""
    for path in [
        *MODULES,
        *(path for room in ("tests", "bench", "devcluster") for path in (ROOT / room).rglob("*.py")),
    ]:
        for line in path.read_text().splitlines():
            if waiver := re.search(r"#\s*(noqa|type:\s*ignore)(.*)$", line):
                assert re.match(r"(: [A-Z]+[0-9]+(, [A-Z]+[0-9]+)*|\[[a-z-]+(,[a-z-]+)*\])\s+\S+", waiver[2]), (
                    f"{name(path)}: {line}"
                )
