"""`arbiter crds`: writes, checks, prints, and says what is wrong with an exit code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from arbiter import __version__
from arbiter.api.reasons import ReasonCode
from arbiter.cli import reasons_page
from arbiter.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Give an empty checkout."""
    (tmp_path / "operator" / "arbiter").mkdir(parents=True)
    return tmp_path


def test_writing_makes_every_file_and_then_nothing(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second run finds everything in place."""
    assert main(["crds", "--root", str(checkout)]) == 0
    first = capsys.readouterr().out
    assert main(["crds", "--root", str(checkout)]) == 0
    second = capsys.readouterr().out

    assert first.count("wrote ") == 12
    assert "wrote crds/modelpools.yaml" in first
    assert second == "12 generated files are in sync\n"


def test_check_names_the_file_that_drifted(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written, and the exit code is for a script to stop at."""
    main(["crds", "--root", str(checkout)])
    drifted = checkout / "crds" / "modelswaps.yaml"
    drifted.write_text("edited by hand\n")
    (checkout / "crds" / "localmodels.yaml").unlink()
    capsys.readouterr()

    assert main(["crds", "--check", "--root", str(checkout)]) == 1
    assert capsys.readouterr().out == (
        "crds/localmodels.yaml differs from what operator/arbiter/api says; run `arbiter crds` and commit it\n"
        "crds/modelswaps.yaml differs from what operator/arbiter/api says; run `arbiter crds` and commit it\n"
        "10 of 12 generated files are in sync\n"
    )
    assert drifted.read_text() == "edited by hand\n"


def test_print_gives_all_definitions_as_one_stream(capsys: pytest.CaptureFixture[str]) -> None:
    """For `kubectl apply -f -`, without a checkout."""
    assert main(["crds", "--print"]) == 0
    documents = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [document["spec"]["names"]["kind"] for document in documents] == [
        "LocalModel", "ModelPool", "SwapPolicy", "ModelSwap", "TaskProfile",
    ]  # fmt: skip


def test_folder_that_is_no_checkout_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the argument and the way out."""
    assert main(["crds", "--root", str(tmp_path)]) == 2
    assert re.fullmatch(
        r"arbiter: --root: \S+ is no checkout of Arbiter; use --print for the definitions alone\n",
        capsys.readouterr().err,
    )


@pytest.mark.parametrize("argv", [[], ["nothing"], ["crds", "--check", "--print"]])
def test_wrong_usage_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """As argparse has it, and as scripts expect."""
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert "usage: arbiter" in capsys.readouterr().err


def test_version_is_the_packages_own(capsys: pytest.CaptureFixture[str]) -> None:
    """One version, said in one place."""
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"arbiter {__version__}\n"


def test_every_reason_is_explained() -> None:
    """A code that nobody explains is a code that nobody dares to alert on."""
    page = reasons_page.to_markdown()

    for code in ReasonCode:
        assert re.search(rf"^\| `{code}` \| \S.*\. \|$", page, re.MULTILINE), code
