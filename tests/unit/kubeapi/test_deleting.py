"""Deleting exactly the object that was looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from arbiter.errors import ClusterError, ConflictError, DeniedError
from arbiter.kubeapi.deleting import Propagation, delete
from arbiter.kubeapi.resources import CONFIG_MAPS
from tests.unit.kubeapi.api_server import Scripted, connection_to
from tests.unit.kubeapi.steps import fails, run, says, stored

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.kubeapi.steps import Step


def test_the_uid_goes_along_and_the_version_where_it_is_wanted(tmp_path: Path) -> None:
    """An object that took the name meanwhile stays."""

    async def story() -> None:
        server = Scripted(says({"kind": "Status"}), says(stored()))
        async with server.up():
            connection = connection_to(server, tmp_path)
            assert await delete(connection, CONFIG_MAPS, stored())
            foreground = Propagation.FOREGROUND
            assert await delete(connection, CONFIG_MAPS, stored(), unchanged=True, propagation=foreground, dry_run=True)
            await connection.close()
        options = {"apiVersion": "v1", "kind": "DeleteOptions"}
        assert [each.method for each in server.asked] == ["DELETE", "DELETE"]
        assert server.asked[0].path == "/api/v1/namespaces/team/configmaps/routes"
        assert [each.body for each in server.asked] == [
            {**options, "preconditions": {"uid": "u1"}, "propagationPolicy": "Background"},
            {
                **options,
                "preconditions": {"uid": "u1", "resourceVersion": "7"},
                "propagationPolicy": "Foreground",
                "dryRun": ["All"],
            },
        ]

    run(story())


@pytest.mark.parametrize(
    ("step", "want"),
    [
        pytest.param(fails(404), False, id="it is gone already"),
        pytest.param(fails(409, "Precondition failed"), ConflictError, id="it is another one"),
        pytest.param(fails(403), DeniedError, id="no right"),
    ],
)
def test_what_is_gone_needs_no_deleting(tmp_path: Path, step: Step, want: bool | type[ClusterError]) -> None:
    """And what is another object now is told apart."""

    async def story() -> None:
        server = Scripted(step)
        async with server.up():
            connection = connection_to(server, tmp_path)
            if isinstance(want, bool):
                assert await delete(connection, CONFIG_MAPS, stored()) is want
            else:
                with pytest.raises(want):
                    await delete(connection, CONFIG_MAPS, stored())
            await connection.close()

    run(story())
