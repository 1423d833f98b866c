"""What is in our images, and that an unchanged one is not built again. No cluster is asked: pods try the engines."""

from __future__ import annotations

import platform
import re
import sys
from functools import cache
from pathlib import PurePosixPath

import pytest

from devcluster import programs
from devcluster.images import built, recipes
from devcluster.images.recipes import NAMES, Model, Recipe
from tests import compiled
from tests.e2e.image_contents import Contents, read
from tests.e2e.running import ROOT, allowed, run, said

pytestmark = pytest.mark.cluster

MODELS = [one.name for one in recipes.RECIPES if one.base is None]
SET_USER_OR_GROUP = 0o6000
"""Mode bits that let a program run as its owner (chmod(2))."""


@pytest.fixture(scope="module")
def made() -> str:
    """Build what is missing, and give what that printed."""
    return said(run(sys.executable, "-m", "devcluster.images", *allowed(), cwd=ROOT, timeout=3600))


@pytest.fixture
def contents(made: str, request: pytest.FixtureRequest) -> Contents:
    """Give what is in the image of this name."""
    assert made
    return read_once(request.param)


@cache
def read_once(name: str) -> Contents:
    """Read an image; a large one takes seconds."""
    return read(built.archive(name))


def model(name: str) -> tuple[Recipe, Model]:
    """Give a model's recipe and what it is made from."""
    one = recipes.recipe(name)
    (made_from,) = one.inputs
    assert isinstance(made_from, Model)
    return one, made_from


def test_an_unchanged_image_is_not_built_again(made: str) -> None:
    """All that is left to do is to say so."""
    assert made
    again = said(run(sys.executable, "-m", "devcluster.images", cwd=ROOT, timeout=60))

    assert again.splitlines() == [f"{recipes.reference(name)} is up to date" for name in NAMES]


@pytest.mark.parametrize("contents", NAMES, indirect=True)
def test_an_image_runs_as_nobody_in_particular(contents: Contents) -> None:
    """A number that no file belongs to, and no program that would make another user of it."""
    owned = [path for path, (_, entry) in contents.files.items() if entry.uid == 65532]
    raised = [path for path, (_, entry) in contents.files.items() if entry.isfile() and entry.mode & SET_USER_OR_GROUP]

    assert contents.configuration["User"] == "65532:65532"
    assert owned in ([], [PurePosixPath("/models")])
    assert raised == []


@pytest.mark.parametrize("contents", NAMES, indirect=True)
def test_an_image_says_what_it_is(contents: Contents) -> None:
    """Registries and scanners read these labels."""
    labels = contents.configuration["Labels"]

    assert {f"org.opencontainers.image.{key}" for key in ("title", "version", "licenses")} <= set(labels)
    assert "unknown" not in labels.values()


@pytest.mark.parametrize("contents", ["arbiter", "llama-server", "ollama"], indirect=True)
def test_an_image_holds_nothing_of_the_machine_that_made_it(contents: Contents) -> None:
    """Its host name, name servers, proxies and package lists are of no use elsewhere."""
    for path in ("/etc/hostname", "/etc/resolv.conf"):
        assert PurePosixPath(path) not in contents.files or contents.read(path) == b""
    for path in ("/etc/apt/apt.conf.d/99mmdebstrap", "/build"):
        assert PurePosixPath(path) not in contents.files
    assert not [path for path in contents.files if path.match("/var/lib/apt/lists/*_Packages*")]


@pytest.mark.parametrize("contents", ["arbiter"], indirect=True)
def test_the_arbiter_image_runs_arbiter_and_can_build_nothing(contents: Contents) -> None:
    """Neither a compiler nor what installs packages is there for whoever gets in."""
    tools = r"(.*-)?(as|cc|gcc|g\+\+|c\+\+|clang|cpp|ld|make|go|rustc|pip|git|curl|wget|apt|apt-get)[0-9.-]*"
    programs_in = [path for path in contents.files if path.parent.name in {"bin", "sbin"}]

    assert contents.configuration["Entrypoint"] == ["arbiter"]
    assert PurePosixPath("/opt/arbiter/bin/arbiter") in programs_in
    assert [str(path) for path in programs_in if re.fullmatch(tools, path.name)] == []
    assert [str(path) for path in contents.files if path.name in {"pip", "ensurepip"} or path.suffix == ".whl"] == []


@pytest.mark.parametrize("contents", ["arbiter"], indirect=True)
def test_the_routers_hot_modules_are_compiled_and_their_compiler_stays_out(contents: Contents) -> None:
    """Python prefers a library to the source beside it; without it the image would work, and be slower."""
    (site,) = (path for path in contents.files if path.match("/opt/arbiter/lib/python*/site-packages"))
    suffix = f".cpython-{recipes.PYTHON.replace('.', '')}-{platform.machine()}-linux-gnu.so"
    want = {site / f"{name.replace('.', '/')}{suffix}" for name in ("arbiter__mypyc", *compiled.modules())}
    code = contents.read(str(site / f"arbiter__mypyc{suffix}"))

    assert want <= set(contents.files)
    assert [word for word in (b".debug_info", b"/build/", b"/tmp/") if word in code] == []
    beside = {path.name for path in contents.files if path.parent == site}
    assert beside & {"hatchling", "mypy", "mypyc", "setuptools"} == set()


@pytest.mark.parametrize("contents", ["arbiter"], indirect=True)
def test_every_module_of_ours_comes_with_its_byte_code(contents: Contents) -> None:
    """A read-only root takes none, so each start would compile all of it."""
    package = "/opt/arbiter/lib/python*/site-packages/arbiter"
    sources = [path for path in contents.files if path.match(f"{package}/*/*.py")]

    assert len(sources) > 10
    for path in sources:
        code = path.parent / "__pycache__" / f"{path.stem}.cpython-{recipes.PYTHON.replace('.', '')}.pyc"
        assert code in contents.files


@pytest.mark.parametrize("contents", ["llama-server"], indirect=True)
def test_the_llama_server_image_records_its_build(contents: Contents) -> None:
    """Debian's unstable suite moves on; an older build than we have tried is refused when it is made."""
    assert contents.configuration["Entrypoint"] == ["llama-server"]
    assert {"LLAMA_ARG_HOST=0.0.0.0", "LLAMA_ARG_PORT=8080"} <= set(contents.configuration["Env"])
    assert int(contents.read("/usr/share/arbiter/engine-version").decode().strip().removeprefix("b")) >= 11669


@pytest.mark.parametrize("contents", ["ollama"], indirect=True)
def test_the_ollama_image_has_the_version_that_go_mod_names(contents: Contents) -> None:
    """Unstamped, it calls itself 0.0.0; it may write to its store alone."""
    program = programs.named("ollama")
    assert isinstance(program, programs.Program)
    _, store = contents.files[PurePosixPath("/models")]

    assert contents.read("/usr/share/arbiter/engine-version").decode().strip() == programs.version_of(program)["number"]
    assert (contents.configuration["Entrypoint"], contents.configuration["Cmd"]) == (["ollama"], ["serve"])
    assert {"HOME=/models", "OLLAMA_MODELS=/models", "OLLAMA_NO_CLOUD=1"} <= set(contents.configuration["Env"])
    assert store.uid == 65532


@pytest.mark.parametrize(("contents", "name"), [(name, name) for name in MODELS], indirect=["contents"], ids=MODELS)
def test_a_models_image_is_the_model_and_its_terms(contents: Contents, name: str) -> None:
    """Nothing in it can be run; every byte is the one that was pinned."""
    _, made_from = model(name)

    want = {"/model.gguf", *(f"/licenses/{PurePosixPath(notice).name}" for notice in made_from.notices)}
    assert {str(path) for path, (_, entry) in contents.files.items() if not entry.isdir()} == want
    assert contents.digest("/model.gguf") == made_from.sha256
    assert all(entry.mode & 0o444 == 0o444 for _, entry in contents.files.values())
