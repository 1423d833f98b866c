"""The command line: what goes wrong is one line that says what to do, and the exit code says it too."""

from __future__ import annotations

import errno
import os
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from devcluster import __main__ as command_line
from devcluster import build
from devcluster.__main__ import main
from devcluster.commands import last_line, run
from devcluster.errors import DevclusterError
from devcluster.images.archive import Image, write_archive
from devcluster.pushing import name_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the command at an empty state, cache and PATH, so that no real cluster and no engine is in reach."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(command_line, "_LOCK", f"\0{tmp_path}")
    monkeypatch.setattr(build, "ensure", lambda *_arguments, **_options: pytest.fail("went on to build"))
    return tmp_path


@pytest.fixture
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave nothing on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail, and give what it said about it."""
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize("command", ["up", "down"])
def test_whoever_is_not_root_is_told_the_two_ways_out(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is built or done."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    want = "devcluster: no container engine answers (neither docker nor podman is on PATH) and this user is not root; "

    assert failure(capsys, command).startswith(want)


@pytest.mark.usefixtures("no_engine")
def test_another_system_is_told_what_to_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Namespaces are Linux's."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "a node needs Linux, and this is darwin" in failure(capsys, "up")


@pytest.mark.parametrize(
    "command",
    [
        ("kubeconfig",),
        ("nodes",),
        ("logs",),
        ("logs", "etcd"),
        ("stop", "etcd"),
        ("start", "etcd"),
        ("load", "{}/image.tar"),
    ],
    ids=" ".join,
)
def test_asking_a_cluster_that_is_not_up_says_how_to_bring_it_up(
    command: tuple[str, ...], nothing_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No path is printed that leads nowhere, and nothing is looked for that cannot be there."""
    (nothing_up / "image.tar").touch()
    want = "devcluster: the cluster is not up; bring it up: python -m devcluster up\n"
    assert failure(capsys, *(word.format(nothing_up) for word in command)) == want


def test_status_without_a_cluster_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """It is an answer, not a fault: nothing on standard error."""
    assert main(["status"]) == 1
    assert capsys.readouterr() == ("the cluster is not up\n", "")


@pytest.mark.usefixtures("no_engine")
def test_down_without_a_cluster_is_fine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to do."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert main(["down"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "nothing is up"


def test_an_archive_that_is_not_there_is_named(nothing_up: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the other thing that it could have been."""
    assert failure(capsys, "load", f"{nothing_up}/mine.tar") == (
        f"devcluster: {nothing_up}/mine.tar is not there; name an archive that is, or an image that `make image` "
        "built\n"
    )


def test_an_image_that_does_not_exist_is_refused_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    """The message is the list to choose from."""
    assert failure(capsys, "load", "arbitre").startswith("devcluster: no image is named arbitre; there are ")


@pytest.mark.parametrize("option", [("--nodes", "10"), ("--gpu-node", "3", "--nodes", "2")], ids=" ".join)
def test_nodes_that_cannot_be_are_refused(option: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """By the number that is wrong, before anything else is looked at."""
    assert failure(capsys, "up", *option).startswith(f"devcluster: {option[0]} {option[1]}: ")


def test_a_full_disk_is_a_line_and_not_a_stack_of_calls(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may run out anywhere."""

    def fill(_options: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/state/etc")

    monkeypatch.setattr(command_line, "_up", fill)
    want = "devcluster: /state/etc: No space left on device; make room there, or the right to write\n"
    assert failure(capsys, "up") == want


def test_a_mistake_of_ours_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that we forgot to make is no fault of the machine."""

    def forget(_options: object) -> int:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/state/etc")

    monkeypatch.setattr(command_line, "_up", forget)
    with pytest.raises(FileNotFoundError):
        main(["up"])


def test_a_command_that_fails_says_its_last_words() -> None:
    """One line, with what was run."""
    with pytest.raises(DevclusterError, match=r"^`sh -c echo first >&2; echo last >&2; exit 3` failed: last$"):
        run("sh", "-c", "echo first >&2; echo last >&2; exit 3")


def test_a_command_that_is_not_there_is_named() -> None:
    """Rather than shown as a stack of calls."""
    with pytest.raises(DevclusterError, match=r"^no-such-tool is not installed$"):
        run("no-such-tool")


def test_a_command_that_hangs_is_ended() -> None:
    """Every wait has an end."""
    with pytest.raises(DevclusterError, match=r"^`sleep 60` took more than 0 s$"):
        run("sleep", "60", seconds=0.2)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("one\ntwo\n\n  \n", "two", id="empty lines at the end do not count"),
        pytest.param("", "it said nothing", id="silence has words too"),
    ],
)
def test_last_words(text: str, want: str) -> None:
    """What an error message ends with."""
    assert last_line(text) == want


def test_an_image_is_pushed_under_its_own_name(tmp_path: Path) -> None:
    """What comes before the first slash is where it was to lie, and not where it lies now."""
    archive = tmp_path / "model.tar"
    write_archive(Image("arbiter.local/models/small:1.2", {}, ("/none",)), archive)

    assert name_of(archive) == ("models/small", "1.2")


def test_an_archive_without_an_image_is_refused(tmp_path: Path) -> None:
    """It is named, and so is what it lacks."""
    archive = tmp_path / "empty.tar"
    with tarfile.open(archive, "w"):
        pass

    with pytest.raises(DevclusterError, match=r"empty\.tar has no image with a name"):
        name_of(archive)


def test_nothing_is_pushed_where_no_cluster_is_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The one line says how to bring one up."""
    (tmp_path / "some.tar").touch()

    assert "the cluster is not up" in failure(capsys, "push", str(tmp_path / "some.tar"))
