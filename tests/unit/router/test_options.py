"""The command line of a router: what cannot mean anything is refused by the option's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from arbiter.errors import InvalidInputError
from arbiter.router.options import Options

ROUTES = Path("routes.json")


@pytest.mark.parametrize(
    ("make", "option"),
    [
        pytest.param(Options, "--routes", id="no-table"),
        pytest.param(lambda: Options(routes=ROUTES, config_map="routes"), "--routes", id="two-tables"),
        pytest.param(lambda: Options(routes=ROUTES, workers=0), "--workers", id="no-workers"),
        pytest.param(lambda: Options(routes=ROUTES, workers=65), "--workers", id="too-many-workers"),
        pytest.param(lambda: Options(routes=ROUTES, port=65_536), "--port", id="port"),
        pytest.param(lambda: Options(routes=ROUTES, admin_port=-1), "--admin-port", id="admin-port"),
        pytest.param(lambda: Options(routes=ROUTES, port=0, workers=2), "--port", id="workers-that-do-not-meet"),
        pytest.param(lambda: Options(routes=ROUTES, drain_s=-1.0), "--drain", id="drain"),
        pytest.param(lambda: Options(routes=ROUTES, tls_key=Path("k")), "--tls-key", id="key-without-certificate"),
    ],
)
def test_refusal_names_the_option(make: type[Options], option: str) -> None:
    """Whoever starts a router has only this line to go by."""
    with pytest.raises(InvalidInputError) as refused:
        make()
    assert refused.value.field == option


def test_worker_needs_no_table_of_its_own() -> None:
    """Its parent hands it on."""
    assert Options(worker_fd=3).routes is None
