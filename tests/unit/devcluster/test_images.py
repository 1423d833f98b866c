"""The images as values: what each is called and made of, what its Dockerfile may say, and when it is another image."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from devcluster.errors import DevclusterError
from devcluster.images import built, inputs, recipes
from devcluster.images.recipes import NAMES, RECIPES, Base, Model, Recipe

if TYPE_CHECKING:
    from pathlib import Path

VERSION = recipes.own_version()
DOCKERFILES = sorted({one.dockerfile for one in RECIPES})
ONLY_FILES = (
    *("Dockerfile", "LICENSE", "README.md", "hatch_build.py", "pyproject.toml"),
    *("requirements-build.lock", "requirements.lock"),
)
"""What the image of Arbiter is made from, beside its source."""

LOCKS = sorted((recipes.ROOT / "images" / "model").glob("*.lock"))


def name(one: Recipe) -> str:
    """Give a recipe as a test's id."""
    return one.name


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Read a Dockerfile's instructions, without its comments and its broken lines."""
    text = re.sub(r"^\s*#.*\n", "", (recipes.ROOT / dockerfile).read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def values(dockerfile: str, instruction: str) -> list[str]:
    """Give what each instruction of one kind says, in order."""
    return [value for kind, value in instructions(dockerfile) if kind == instruction]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a checkout with everything that images are made from, which a test may change."""
    copy = tmp_path / "checkout"
    (copy / "operator" / "arbiter").mkdir(parents=True)
    for path in (*ONLY_FILES, "operator/arbiter/__init__.py"):
        shutil.copy(recipes.ROOT / path, copy / path)
    shutil.copytree(recipes.ROOT / "images", copy / "images")
    monkeypatch.setattr(recipes, "ROOT", copy)
    return copy


def keys() -> dict[str, str]:
    """Give every image's key."""
    return {one.name: built.key(one) for one in RECIPES}


@pytest.mark.parametrize(
    ("short", "want"),
    [
        ("arbiter", f"arbiter.local/arbiter:{VERSION}"),
        ("llama-server", f"arbiter.local/arbiter-llama-server:{VERSION}"),
        ("ollama", f"arbiter.local/arbiter-ollama:{VERSION}"),
        ("smollm2", "arbiter.local/arbiter-model-smollm2:0.1.2"),
        ("gemma3-270m", "arbiter.local/arbiter-model-gemma3-270m:1.0.0"),
    ],
)
def test_an_image_is_called_in_manifests_by_this_name(short: str, want: str) -> None:
    """Charts and tests name them; what is ours has our version, a model has its package's."""
    assert recipes.reference(short) == want
    assert short in NAMES


def test_every_image_is_listed_once() -> None:
    """`make image` builds what this list holds."""
    assert sorted(NAMES) == ["arbiter", "gemma3-270m", "llama-server", "ollama", "smollm2"]
    assert len({one.reference for one in RECIPES}) == len(RECIPES)


def test_an_unknown_image_is_refused_with_those_that_there_are() -> None:
    """The message is the list to choose from."""
    with pytest.raises(DevclusterError, match=r"^no image is named llama; there are ollama, llama-server, arbiter, "):
        recipes.recipe("llama")


def test_the_version_is_the_one_in_the_source(checkout: Path) -> None:
    """It stands once; a source without it is named, not guessed around."""
    source = checkout / "operator" / "arbiter" / "__init__.py"
    source.write_text('__version__ = "2.3.4"\n')
    assert recipes.reference("arbiter") == "arbiter.local/arbiter:2.3.4"

    source.write_text("")
    with pytest.raises(DevclusterError, match=r"__init__\.py has no line like __version__ = "):
        recipes.own_version()


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_a_dockerfile_adds_nothing_that_is_not_in_its_context(dockerfile: str) -> None:
    """ADD fetches and unpacks by itself; COPY does what it says, and takes no absolute path or URL."""
    assert values(dockerfile, "ADD") == []
    for copied in values(dockerfile, "COPY"):
        source = next(word for word in copied.split() if not word.startswith("--from="))
        assert "://" not in source
        assert not source.startswith("/") or copied.startswith("--from=")


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_an_image_runs_as_a_user_with_a_number(dockerfile: str) -> None:
    """A pod that may not run as root is refused where the user is a name, which could be root's."""
    assert values(dockerfile, "USER") == ["65532:65532"]
    last = [kind for kind, _ in instructions(dockerfile) if kind in {"FROM", "RUN", "COPY", "USER"}][-1]
    assert last == "USER"


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_a_dockerfile_names_a_public_base_that_an_argument_replaces(dockerfile: str) -> None:
    """Whoever has a registry builds with a plain `docker build`; nobody needs another Dockerfile."""
    bases = [value.split()[0] for value in values(dockerfile, "FROM")]
    recipe = next(one for one in RECIPES if one.dockerfile == dockerfile)

    if recipe.base is None:
        assert bases == ["scratch"]
    else:
        assert set(bases) == {f"${{{argument}}}" for argument, _, _ in recipe.bases}
        for argument, default in zip(recipe.bases, values(dockerfile, "ARG"), strict=False):
            assert re.fullmatch(rf"{argument[0]}=(python|debian):[a-z0-9.-]+", default)


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_a_dockerfile_holds_no_secret_and_no_host(dockerfile: str) -> None:
    """An image's history shows every line of it."""
    text = (recipes.ROOT / dockerfile).read_text().lower()

    assert not re.search(r"password|passwd|secret|token|credential|api.?key|://|index-url|proxy", text)


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_what_is_started_is_a_list_of_words(dockerfile: str) -> None:
    """With a shell in between, the signal that ends a pod would not reach the program."""
    for started in (*values(dockerfile, "ENTRYPOINT"), *values(dockerfile, "CMD")):
        assert started.startswith("[")


@pytest.mark.parametrize("one", RECIPES, ids=name)
def test_a_dockerfile_declares_the_arguments_that_it_is_given(one: Recipe) -> None:
    """One that it does not know is passed over with a warning, and a label says `unknown`."""
    declared = {argument.partition("=")[0] for argument in values(one.dockerfile, "ARG")}

    assert {argument for argument, _ in one.build_arguments} <= declared
    assert declared - {argument for argument, _ in one.build_arguments} <= {"BASE", "BUILD_BASE", "OLDEST"}


def test_the_arbiter_image_checks_what_it_installs() -> None:
    """Each wheel of others against a lock's hash, and none from an index; our own is made from what was copied."""
    theirs, ours = (run for run in values("Dockerfile", "RUN") if "/bin/pip " in run)

    (options,) = re.findall(r'install="install (.*?)"', theirs)
    assert {"--no-index", "--require-hashes", "--find-links=/build/wheelhouse"} <= set(options.split())
    assert theirs.count("/bin/pip ") == len(re.findall(r"\$install --requirement=", theirs)) == 2
    assert ours.count("/bin/pip ") == ours.count("--no-index") == ours.count("--no-deps") == 2
    assert "HATCH_BUILD_HOOKS_ENABLE=1 /build/tools/bin/pip wheel" in ours


def test_what_compiles_stays_out_of_the_arbiter_image() -> None:
    """A compiler is of use to whoever gets in; only what it made goes on."""
    last = values("Dockerfile", "FROM")[-1]
    copied = [value for value in values("Dockerfile", "COPY") if value.startswith("--from=")]

    assert last == "${BASE}"
    assert copied == ["--from=build /opt/arbiter /opt/arbiter"]


def test_the_image_and_its_root_file_system_have_one_python() -> None:
    """Wheels are fetched for it: those for another one would not be found."""
    one = recipes.recipe("arbiter")
    assert one.build_base is not None

    public = [f"BASE=python:{recipes.PYTHON}-slim", f"BUILD_BASE=python:{recipes.PYTHON}"]
    assert values("Dockerfile", "ARG")[:2] == public
    assert one.base == Base("trixie", ("ca-certificates", "python3", "python3-venv"))
    assert one.build_base.suite == one.base.suite
    assert set(one.build_base.packages) == {*one.base.packages, "gcc", "libc6-dev", "python3-dev"}


def test_the_context_of_a_plain_docker_build_is_what_the_dockerfile_copies() -> None:
    """The rest of the checkout, with its history and whatever lies about, stays where it is."""
    ignored = (recipes.ROOT / ".dockerignore").read_text().splitlines()
    copied = {path for value in values("Dockerfile", "COPY") if "--from" not in value for path in value.split()[:-1]}

    assert ignored[1:] == ["*", *(f"!{path}" for path in sorted(copied)), "**/__pycache__"]
    given = {path for one in recipes.recipe("arbiter").inputs for path in getattr(one, "paths", ())}
    assert copied == given | {"requirements-build.lock", "requirements.lock", "wheelhouse"}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_models_packages_are_pinned_by_hash(path: Path) -> None:
    """Whoever builds chooses the index; the hashes say whether it is the same file."""
    text = path.read_text()
    pins = re.findall(r"^[a-z0-9-]+==[0-9.]+ \\\n    --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)

    assert len(pins) == len(re.findall("==", text)) > 0
    assert "://" not in text
    assert f"images/model/{path.name}" in {i.lock for one in RECIPES for i in one.inputs if isinstance(i, Model)}


@pytest.mark.parametrize("one", [one for one in RECIPES if one.base is None], ids=name)
def test_a_model_has_the_version_of_its_package_and_says_its_terms(one: Recipe) -> None:
    """Weights are passed on under conditions, which go with them."""
    (model,) = one.inputs
    assert isinstance(model, Model)
    first = re.findall(r"==(\S+)", (recipes.ROOT / model.lock).read_text())[0]

    assert one.tag == first
    assert re.fullmatch("[0-9a-f]{64}", model.sha256)
    assert model.notices
    assert dict(one.build_arguments)["LICENSES"] != "unknown"


def test_a_key_is_the_same_every_time_and_each_image_has_its_own() -> None:
    """Else everything would be built each time, or one image stand for another."""
    assert keys() == keys()
    assert len(set(keys().values())) == len(RECIPES)
    assert all(re.fullmatch("[0-9a-f]{16}", key) for key in keys().values())


@pytest.mark.parametrize(
    ("changed", "want"),
    [
        pytest.param("Dockerfile", {"arbiter"}, id="our Dockerfile"),
        pytest.param("requirements.lock", {"arbiter"}, id="a wheel of somebody else's"),
        pytest.param("requirements-build.lock", {"arbiter"}, id="what compiles"),
        pytest.param("hatch_build.py", {"arbiter"}, id="how it is compiled"),
        pytest.param("pyproject.toml", {"arbiter"}, id="our project's own data"),
        pytest.param("operator/arbiter/__init__.py", {"arbiter"}, id="our source"),
        pytest.param("operator/arbiter/new.py", {"arbiter"}, id="a new module"),
        pytest.param("operator/arbiter/__pycache__/new.pyc", set(), id="byte code, which is not built in"),
        pytest.param("images/llama-server/Dockerfile", {"llama-server"}, id="one engine's Dockerfile"),
        pytest.param("images/model/Dockerfile", {"smollm2", "gemma3-270m"}, id="the Dockerfile of both models"),
        pytest.param("images/model/smollm2.lock", {"smollm2"}, id="a model's lock"),
        pytest.param("images/README.md", set(), id="a text about it"),
        pytest.param("README.md", {"arbiter"}, id="the text that goes into our wheel"),
    ],
)
def test_a_changed_input_makes_another_image_of_what_is_made_from_it(
    checkout: Path, changed: str, want: set[str]
) -> None:
    """And of nothing else: an edit of ours does not fetch a model again."""
    before = keys()
    path = checkout / changed
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("\n")

    assert {short for short, key in keys().items() if key != before[short]} == want


def test_a_new_version_makes_new_images_of_ours_and_leaves_the_models(checkout: Path) -> None:
    """It is in their names and labels."""
    before = keys()
    (checkout / "operator" / "arbiter" / "__init__.py").write_text('__version__ = "9.9.9"\n')

    assert {short for short, key in keys().items() if key != before[short]} == {"arbiter", "llama-server", "ollama"}


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"base": Base("sid", ("ca-certificates",))}, id="what it is built upon"),
        pytest.param({"build_base": Base("sid", ("gcc",))}, id="what it is compiled upon"),
        pytest.param({"repository": "other"}, id="its name"),
        pytest.param({"version": "7"}, id="its version"),
        pytest.param({"arguments": (("OLDEST", "1"),)}, id="its arguments"),
    ],
)
def test_a_changed_recipe_makes_another_image(changed: dict[str, object]) -> None:
    """The same files, made otherwise."""
    one = recipes.recipe("llama-server")

    assert built.key(replace(one, **changed)) != built.key(one)  # type: ignore[arg-type]  # a table of any field


def test_another_machine_has_other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home directory may be shared between machines; an image of a model, too, says for which it was made."""
    before = keys()
    monkeypatch.setattr("platform.machine", lambda: "another")

    assert set(keys().values()).isdisjoint(before.values())


def test_an_edit_of_ours_leaves_the_wheels_of_others(checkout: Path) -> None:
    """They are downloaded once for each state of the locks."""
    wheels, source = recipes.recipe("arbiter").inputs
    before, ours = inputs.key(wheels), inputs.key(source)
    (checkout / "operator" / "arbiter" / "new.py").write_text("")
    assert inputs.key(wheels) == before
    assert inputs.key(source) != ours

    with (checkout / "requirements.lock").open("a") as file:
        file.write("\n")
    assert inputs.key(wheels) != before


def test_what_is_not_built_is_said_with_what_builds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking builds nothing, and makes no directory either."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(DevclusterError) as caught:
        built.archive("smollm2")

    assert str(caught.value) == "not built: smollm2; run `make image`, or `python -m devcluster.images smollm2`"
    assert list(tmp_path.iterdir()) == []


def test_what_is_built_is_found_by_its_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the cluster's programs, with its key in its name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    want = tmp_path / "arbiter" / "images" / f"smollm2-{built.key(recipes.recipe('smollm2'))}.tar"
    want.parent.mkdir(parents=True)
    want.touch()

    assert built.archive("smollm2") == want
