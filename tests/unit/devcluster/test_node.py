"""Images on a node: each archive is imported once, unless it changed or somebody asks again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from devcluster.errors import DevclusterError
from devcluster.native import node
from tests.unit.devcluster.example import LAYOUT

if TYPE_CHECKING:
    from pathlib import Path

    from devcluster.native.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Give a cluster whose ctr writes down what it is asked, and fails for an archive that is empty."""
    program = tmp_path / "ctr"
    program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\nfor last; do :; done\ntest -s "$last"\n')
    program.chmod(0o755)
    state = tmp_path / "state"
    for number in (1, 2):
        (state / f"node-{number}").mkdir(parents=True)
    return replace(LAYOUT, state=state, programs={"ctr": program})


def imported(layout: Layout) -> list[str]:
    """Give what ctr was asked to import, in its order, and empty the list."""
    asked = layout.programs["ctr"].parent / "asked"
    lines = asked.read_text().splitlines() if asked.exists() else []
    asked.write_text("")
    return [line.rpartition("/")[2] for line in lines]


def test_a_node_is_given_each_archive_once(layout: Layout, tmp_path: Path) -> None:
    """A node that comes back has its images still, and need not be given them again."""
    archives = [tmp_path / name for name in ("one.tar", "two.tar")]
    for archive in archives:
        archive.write_text("first")

    node.load(layout, layout.first, archives[:1])
    assert imported(layout) == ["one.tar"]
    node.load(layout, layout.first, archives)
    assert imported(layout) == ["two.tar"]
    node.load(layout, layout.node(2), archives)
    assert imported(layout) == ["one.tar", "two.tar"]


def test_an_archive_that_changed_is_another_one(layout: Layout, tmp_path: Path) -> None:
    """An image that was built anew has the same name."""
    archive = tmp_path / "one.tar"
    archive.write_text("first")
    node.load(layout, layout.first, [archive])
    archive.write_text("second")

    node.load(layout, layout.first, [archive])

    assert imported(layout) == ["one.tar", "one.tar"]


def test_what_a_person_loads_is_imported_again(layout: Layout, tmp_path: Path) -> None:
    """Somebody may have removed the image from the node meanwhile."""
    archive = tmp_path / "one.tar"
    archive.write_text("first")

    for _ in range(2):
        node.load(layout, layout.first, [archive], again=True)

    assert imported(layout) == ["one.tar", "one.tar"]


def test_an_import_that_failed_is_tried_again(layout: Layout, tmp_path: Path) -> None:
    """It was not done, so it is not written down."""
    archive = tmp_path / "one.tar"
    archive.touch()
    with pytest.raises(DevclusterError, match=r"one\.tar` failed"):
        node.load(layout, layout.first, [archive])
    archive.write_text("better")

    node.load(layout, layout.first, [archive])

    assert imported(layout) == ["one.tar", "one.tar"]
