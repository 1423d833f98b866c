"""Writes that say on what they were decided, against a server that does what real ones do in the worst moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from arbiter.errors import ClusterError, ConflictError, DeniedError, NotOursError, RejectedError
from arbiter.kubeapi.applying import NEVER, apply, apply_onto, create, write_status
from arbiter.kubeapi.references import Reference, controller_of
from arbiter.kubeapi.resources import (
    APPLIED,
    CONFIG_MAPS,
    CREATED,
    DEPLOYMENTS,
    JOBS,
    MODEL_POOLS,
    OUR_KINDS,
    SECRETS,
    TASK_PROFILES,
    resource_of,
)
from tests.unit.kubeapi.api_server import Asked, Scripted, connection_to
from tests.unit.kubeapi.steps import OWNED, POOL, config_map, fails, run, says, stored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from arbiter.kubeapi.connection import Connection
    from tests.unit.kubeapi.steps import Step

OTHER = Reference("apps/v1", "Deployment", "team", "web", "web-uid")
EARLIER = Reference("arbiter.dev/v1alpha1", "ModelPool", "team", "assistant", "earlier-uid")
ONE = "/api/v1/namespaces/team/configmaps/routes"
ALL = "/api/v1/namespaces/team/configmaps"


def asked_of(
    folder: Path, steps: list[Step], ask: Callable[[Connection], Awaitable[object]]
) -> tuple[list[Asked], object]:
    """What a server that takes these steps was asked, and what came of it: a value or the error."""
    outcome: list[object] = []
    server = Scripted(*steps)

    async def story() -> None:
        async with server.up():
            connection = connection_to(server, folder)
            try:
                outcome.append(await ask(connection))
            except ClusterError as error:
                outcome.append(error)
            await connection.close()

    run(story())
    return server.asked, outcome[0]


def test_what_is_not_there_is_made_under_a_version_that_nothing_has(tmp_path: Path) -> None:
    """An object that appears between the look and the write has another one, so the server refuses the write."""
    wish = config_map(a="1")
    asked, got = asked_of(
        tmp_path,
        [fails(404), says(stored(), 201)],
        lambda connection: apply(connection, CONFIG_MAPS, wish, POOL),
    )

    assert got == stored()
    assert [(each.method, each.path) for each in asked] == [("GET", ONE), ("PATCH", ONE)]
    assert asked[1].query == {"fieldManager": "arbiter", "force": "true", "fieldValidation": "Strict"}
    assert asked[1].headers["content-type"] == "application/apply-patch+yaml"
    metadata = {"name": "routes", "namespace": "team", "ownerReferences": OWNED, "resourceVersion": NEVER}
    assert asked[1].body == {**config_map(a="1"), "metadata": metadata}
    assert wish == config_map(a="1"), "the manifest of the caller stays as it is"


def test_what_is_there_is_applied_by_its_uid(tmp_path: Path) -> None:
    """Its version changes with every pod that starts, and no decision depends on that."""
    asked, _ = asked_of(
        tmp_path,
        [says(stored("u1", 7)), says(stored("u1", 8))],
        lambda connection: apply(connection, CONFIG_MAPS, config_map(), POOL, dry_run=True),
    )

    assert asked[1].body["metadata"] == {
        "name": "routes",
        "namespace": "team",
        "uid": "u1",
        "ownerReferences": OWNED,
    }
    assert asked[1].query["dryRun"] == "All"


def test_a_decision_on_all_that_was_read_carries_its_version(tmp_path: Path) -> None:
    """The table of routes is one: what an earlier leader still sends must not undo what the new one wrote."""
    asked, got = asked_of(
        tmp_path,
        [fails(409, "the object has been modified")],
        lambda connection: apply_onto(connection, CONFIG_MAPS, config_map(), POOL, stored(), unchanged=True),
    )

    assert isinstance(got, ConflictError)
    assert asked[0].body["metadata"]["resourceVersion"] == "7"


@pytest.mark.parametrize(
    ("there", "kind", "message"),
    [
        pytest.param(stored(owners=[]), NotOursError, "ModelPool assistant did not make it", id="nobody's"),
        pytest.param(stored(owners=[OTHER.to_owner()]), NotOursError, "belongs to Deployment web", id="another's"),
        pytest.param(
            stored(owners=[{**POOL.to_owner(), "controller": False}]),
            NotOursError,
            "did not make it",
            id="ours, but not controlled",
        ),
        pytest.param(
            stored(owners=[EARLIER.to_owner()]), ConflictError, "still belongs to an earlier", id="a deleted pool's"
        ),
        pytest.param(
            stored(deletionTimestamp="2026-11-21T12:00:00Z"), ConflictError, "is being deleted", id="on its way out"
        ),
    ],
)
def test_what_is_not_ours_is_not_written(
    tmp_path: Path, there: dict[str, Any], kind: type[ClusterError], message: str
) -> None:
    """Nothing is adopted, however alike the names are."""
    asked, got = asked_of(
        tmp_path, [says(there)], lambda connection: apply(connection, CONFIG_MAPS, config_map(), POOL)
    )

    assert type(got) is kind
    assert message in str(got)
    assert str(got).startswith("ConfigMap routes ")
    assert [each.method for each in asked] == ["GET"]


def test_a_stranger_who_is_faster_keeps_the_name(tmp_path: Path) -> None:
    """It appeared between the look and the write; the write was refused, and the second look says whose it is."""
    asked, got = asked_of(
        tmp_path,
        [fails(404), fails(409, "conflict"), says(stored(owners=[]))],
        lambda connection: apply(connection, CONFIG_MAPS, config_map(), POOL),
    )

    assert isinstance(got, NotOursError)
    assert [each.method for each in asked] == ["GET", "PATCH", "GET"]


def test_an_object_that_we_made_ourselves_without_hearing_of_it_is_applied(tmp_path: Path) -> None:
    """The first answer was lost and the request sent again: the conflict is with ourselves."""
    asked, got = asked_of(
        tmp_path,
        [fails(404), fails(409, "conflict"), says(stored("u2")), says(stored("u2", 8))],
        lambda connection: apply(connection, CONFIG_MAPS, config_map(), POOL),
    )

    assert got == stored("u2", 8)
    assert asked[3].body["metadata"]["uid"] == "u2"


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        pytest.param([fails(404), fails(409), fails(404)], ConflictError, id="there and gone again"),
        pytest.param([says(stored()), fails(409, "uid mismatch")], ConflictError, id="gone"),
        pytest.param([says(stored()), fails(422, "metadata.uid: field is immutable")], ConflictError, id="replaced"),
        pytest.param([says(stored()), fails(422, "data: Invalid value")], RejectedError, id="our mistake"),
        pytest.param([says(stored()), fails(403, "may not")], DeniedError, id="no right"),
    ],
)
def test_why_a_write_was_not_made_is_told_apart(tmp_path: Path, steps: list[Step], kind: type[ClusterError]) -> None:
    """A conflict is mended by another pass; a mistake and a missing right are not."""
    _, got = asked_of(tmp_path, steps, lambda connection: apply(connection, CONFIG_MAPS, config_map(), POOL))

    assert type(got) is kind


def test_what_is_made_once_is_made_by_a_post(tmp_path: Path) -> None:
    """It needs no right to change what is there."""
    asked, got = asked_of(
        tmp_path,
        [says(stored(), 201)],
        lambda connection: create(connection, CONFIG_MAPS, config_map(), POOL, dry_run=True),
    )

    assert got == stored()
    assert (asked[0].method, asked[0].path) == ("POST", ALL)
    assert asked[0].query == {"fieldManager": "arbiter", "fieldValidation": "Strict", "dryRun": "All"}
    assert asked[0].body["metadata"] == {"name": "routes", "namespace": "team", "ownerReferences": OWNED}


@pytest.mark.parametrize(
    ("there", "owner", "want"),
    [
        pytest.param(stored("u2"), POOL, stored("u2"), id="made before by us"),
        pytest.param(stored(owners=[]), POOL, NotOursError, id="somebody else's"),
        pytest.param(stored(owners=[EARLIER.to_owner()]), POOL, ConflictError, id="a deleted pool's"),
        pytest.param(stored(owners=[]), None, stored(owners=[]), id="anybody's will do"),
    ],
)
def test_what_is_there_already_stays_as_it_is(
    tmp_path: Path, there: dict[str, Any], owner: Reference | None, want: object
) -> None:
    """A pass that is repeated, or a request that was sent twice, makes nothing twice."""
    asked, got = asked_of(
        tmp_path,
        [fails(409, "already exists"), says(there)],
        lambda connection: create(connection, CONFIG_MAPS, config_map(), owner),
    )

    assert (type(got) if isinstance(got, Exception) else got) == want
    assert [each.method for each in asked] == ["POST", "GET"]


def test_what_was_there_and_went_again_is_a_conflict(tmp_path: Path) -> None:
    """The next pass makes it."""
    _, got = asked_of(
        tmp_path,
        [fails(409, "already exists"), fails(404)],
        lambda connection: create(connection, CONFIG_MAPS, config_map(), None),
    )

    assert type(got) is ConflictError


def test_a_status_is_written_whole_and_on_what_was_read(tmp_path: Path) -> None:
    """Only which object it was goes along, so that a status never carries a spec."""
    seen = {
        "metadata": {
            "name": "assistant",
            "namespace": "team",
            "uid": "u1",
            "resourceVersion": "7",
            "labels": {"a": "b"},
        },
        "spec": {"suspend": True},
    }
    asked, got = asked_of(
        tmp_path,
        [says(stored("u1", 8))],
        lambda connection: write_status(connection, MODEL_POOLS, seen, {"observedGeneration": 3}),
    )

    assert got == stored("u1", 8)
    assert asked[0].path == "/apis/arbiter.dev/v1alpha1/namespaces/team/modelpools/assistant/status"
    assert (asked[0].method, asked[0].query) == (
        "PUT",
        {"fieldManager": "arbiter-status", "fieldValidation": "Strict"},
    )
    assert asked[0].body == {
        "apiVersion": "arbiter.dev/v1alpha1",
        "kind": "ModelPool",
        "metadata": {"name": "assistant", "namespace": "team", "uid": "u1", "resourceVersion": "7"},
        "status": {"observedGeneration": 3},
    }


@pytest.mark.parametrize(
    ("status", "kind"), [(409, ConflictError), (404, ConflictError), (422, RejectedError), (403, DeniedError)]
)
def test_a_status_of_what_has_changed_is_a_conflict(tmp_path: Path, status: int, kind: type[ClusterError]) -> None:
    """A new pass follows, on what it is now; an object that is gone needs no status."""
    _, got = asked_of(
        tmp_path,
        [fails(status)],
        lambda connection: write_status(connection, MODEL_POOLS, stored(), {}, dry_run=True),
    )

    assert type(got) is kind


def test_a_kind_tells_where_its_objects_are() -> None:
    """Whoever carries out a plan has its kinds only, and no two of ours share a name."""
    assert resource_of("Deployment") is DEPLOYMENTS
    assert resource_of("Job") is JOBS
    assert resource_of("TaskProfile") is TASK_PROFILES
    assert resource_of("Secret") is SECRETS
    assert len({each.kind for each in (*APPLIED, *CREATED, *OUR_KINDS)}) == len(APPLIED) + len(CREATED) + 3


def test_a_reference_is_read_from_an_object_and_written_as_owner_and_as_subject() -> None:
    """One value says it in all three places."""
    pool = {"metadata": {"name": "assistant", "namespace": "team", "uid": "pool-uid"}}
    assert Reference.of({"apiVersion": "arbiter.dev/v1alpha1", "kind": "ModelPool", **pool}) == POOL
    assert controller_of({"metadata": {"ownerReferences": [{"uid": "a"}, *OWNED]}}) == POOL.to_owner()
    assert controller_of({"metadata": {}}) is None
    assert POOL.to_regarding() == {
        "apiVersion": "arbiter.dev/v1alpha1",
        "kind": "ModelPool",
        "name": "assistant",
        "namespace": "team",
        "uid": "pool-uid",
    }
    assert "namespace" not in Reference("v1", "Node", "", "one", "u").to_regarding()
