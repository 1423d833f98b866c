"""What a router keeps for its next life."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arbiter.core.routes import Limits
from arbiter.router import kept_routes
from arbiter.router.kept_routes import FILE, Kept
from tests.unit.core import route_examples

if TYPE_CHECKING:
    from pathlib import Path


GOOD = Kept(route_examples.table()).to_text()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{", id="cut"),
        pytest.param('{"version": 2}', id="of another version"),
        pytest.param('{"version": 1, "routes": "{}", "endpoints": {}}', id="no table"),
        pytest.param(
            Kept(route_examples.table()).to_text().replace('"endpoints":{}', '"endpoints":{"a":[1]}'), id="no addresses"
        ),
        pytest.param(GOOD[:-1] + ',"more":1}', id="more than is known"),
    ],
)
def test_a_kept_table_that_does_not_read_back_is_left_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    """It is told, and as good as none: the router then waits for the API server."""
    (tmp_path / FILE).write_text(text)
    assert kept_routes.read(tmp_path) is None
    assert "is left aside: " in caplog.text
    (tmp_path / FILE).write_bytes(b"\xff")
    assert kept_routes.read(tmp_path) is None


def test_what_is_kept_reads_back_as_it_was(tmp_path: Path) -> None:
    """Table and endpoints belong together, so they are one file."""
    table = replace(route_examples.table(), limits=Limits(idle_s=1.5))
    kept = Kept(table, {"old": ("http://10.0.0.1:8080", "http://[fd00::1]:8080"), "new": ()})
    kept_routes.write(tmp_path, kept)
    kept_routes.write(tmp_path, kept)
    assert kept_routes.read(tmp_path) == kept
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
