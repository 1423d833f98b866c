"""How an image is built with an engine and without one: the same Dockerfile and context, as commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from devcluster.engine import Engine
from devcluster.errors import DevclusterError
from devcluster.images import builders, inputs
from devcluster.images.builders import Building, WithEngine, WithoutEngine
from devcluster.images.recipes import Base
from devcluster.images.tools import APART, OFFLINE, Command

BUILDING = Building(
    "arbiter.local/arbiter:1",
    Path("/checkout/Dockerfile"),
    Path("/room/context"),
    (("VERSION", "1"),),
    Path("/room/output"),
)
SILENCE = "neither docker nor podman is on PATH"


def plain(command: Command) -> tuple[str, ...]:
    """Give a command line from its tool on, without what sets it apart."""
    return command.arguments[command.arguments.index(command.tool) :]


def test_docker_builds_and_saves() -> None:
    """The base is that of the Dockerfile, and all times are one, so that the same inputs give the same layers."""
    build, save = WithEngine("docker").commands(BUILDING)

    assert build.arguments == (
        "docker",
        "build",
        "--file=/checkout/Dockerfile",
        "--tag=arbiter.local/arbiter:1",
        "--build-arg=VERSION=1",
        "--build-arg=SOURCE_DATE_EPOCH=1767225600",
        "/room/context",
    )
    assert save.arguments == ("docker", "save", "--output=/room/output/image.tar", "arbiter.local/arbiter:1")


def test_podman_saves_in_the_form_that_every_runtime_reads() -> None:
    """Its own default names no image in its index."""
    _, save = WithEngine("podman").commands(BUILDING)

    assert save.arguments == (
        *("podman", "save", "--format=oci-archive"),
        *("--output=/room/output/image.tar", "arbiter.local/arbiter:1"),
    )


def test_buildah_builds_and_pushes_into_an_archive() -> None:
    """In a storage of its own, whose driver mounts nothing."""
    build, push = WithoutEngine().commands(BUILDING)

    storage = ("--root=/room/output/storage", "--runroot=/room/output/run", "--storage-driver=vfs")
    assert plain(build)[:5] == ("buildah", *storage, "build")
    assert {"--isolation=chroot", "--format=oci", "--timestamp=1767225600", "--dns=none"} < set(plain(build))
    assert plain(push) == (
        *("buildah", *storage, "push", "arbiter.local/arbiter:1"),
        "oci-archive:/room/output/image.tar:arbiter.local/arbiter:1",
    )


@pytest.mark.parametrize("builder", [WithEngine("docker"), WithEngine("podman"), WithoutEngine()], ids=repr)
def test_every_way_builds_from_the_same_files(builder: builders.Builder) -> None:
    """One Dockerfile, one context, one name, the same arguments: else two people would have two images."""
    build, _ = (plain(command) for command in builder.commands(BUILDING))

    assert "--file=/checkout/Dockerfile" in build
    assert "--tag=arbiter.local/arbiter:1" in build
    assert "--build-arg=VERSION=1" in build
    assert build[-1] == "/room/context"


def test_without_an_engine_nothing_outside_is_written_or_reached() -> None:
    """Own mounts, processes and network; all but one directory read-only; none of the user's settings."""
    for command in WithoutEngine().commands(BUILDING):
        assert command.arguments[: len(OFFLINE) + 2] == (*OFFLINE, "sh", "-c")
        script, room = command.arguments[len(OFFLINE) + 2 :][:2]
        assert "mount -n -o remount,bind,ro /\n" in script
        assert room == "/room/output"
        assert set(command.environment.values()) == {"/room/output"}
        assert not command.inherits
    assert {"--net", "--mount", "--pid", "--kill-child"} < set(OFFLINE)


def test_a_root_file_system_has_what_is_asked_for_and_nothing_of_this_machine() -> None:
    """Its time is fixed; name servers, host name and how it was fetched are taken out again."""
    command = inputs.bootstrap(Base("sid", ("ca-certificates", "llama.cpp")), Path("/r"), ('A::B "c";',))
    line = plain(command)

    assert command.arguments[: len(APART)] == APART
    assert {"--mode=root", "--variant=essential", "--include=ca-certificates,llama.cpp", '--aptopt=A::B "c";'} < set(
        line
    )
    assert line[-2:] == ("sid", "/r/root.tar")
    assert command.environment["SOURCE_DATE_EPOCH"] == "1767225600"
    (hook,) = [word for word in line if word.startswith("--customize-hook=")]
    assert "dpkg-query --show >/r/packages.txt" in hook
    for path in ("etc/resolv.conf", "etc/hostname", "etc/apt/apt.conf.d/99mmdebstrap"):
        assert path in hook


@pytest.mark.parametrize(
    ("engine", "uid", "want"),
    [
        pytest.param(Engine("docker"), 1000, WithEngine("docker"), id="an engine serves everybody"),
        pytest.param(Engine("podman"), 0, WithEngine("podman"), id="an engine goes first for root, too"),
        pytest.param(Engine(silence=SILENCE), 0, WithoutEngine(), id="root does without one"),
    ],
)
def test_who_builds_is_chosen(engine: Engine, uid: int, want: builders.Builder) -> None:
    """As with clusters: the engine that answers, else none."""
    assert builders.choose(engine, platform="linux", uid=uid) == want


@pytest.mark.parametrize(
    ("platform", "uid", "want"),
    [
        pytest.param(
            "linux",
            1000,
            f"no container engine answers ({SILENCE}), and without one only root builds images; start Docker or "
            "Podman, or become root: sudo --preserve-env=HOME,PATH,XDG_CACHE_HOME make image",
            id="no root",
        ),
        pytest.param(
            "darwin",
            0,
            f"no container engine answers ({SILENCE}), and without one images are built on Linux only, while this is "
            "darwin; start Docker or Podman",
            id="no Linux",
        ),
    ],
)
def test_who_cannot_build_is_told_what_to_do(platform: str, uid: int, want: str) -> None:
    """One line, before anything is made."""
    with pytest.raises(DevclusterError) as caught:
        builders.choose(Engine(silence=SILENCE), platform=platform, uid=uid)

    assert str(caught.value) == want
