"""Makes an object be as we want it, or writes its status, and never touches what is not ours.

An object of ours is one that our owner controls by its uid. Between the look and the write it may go, and a stranger
may take its name; therefore each write says what it was decided on, and the API server refuses it otherwise:

- What is not there is made under the resource version `NEVER`, which no object has: where one has appeared meanwhile,
  the API server sees a conflict. A POST would be refused likewise, but it enters our fields as an `Update` beside our
  later `Apply`, and server-side apply never removes a field that an `Update` holds.
- What is there is applied with its uid. Its resource version is added only where a decision depends on all that was
  read (`unchanged`); on a Deployment it changes with every pod that starts.

Fields are always taken by force. In an object that we control nobody else has a say about the fields that we name,
and without force one `kubectl edit` would end our writes to it. Fields that we do not name stay with whoever set them.
Against stale writes of our own, force is no danger, because it overrides managers of fields and not preconditions.

A status is written whole, by PUT: it is ours alone and says how things are now. Applied field by field, a condition
that a backup program restored under its own name would stand for ever.

Rule: a write that may have been carried out, though its answer was lost, can be sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arbiter.errors import ConflictError, RejectedError
from arbiter.kubeapi.connection import Request
from arbiter.kubeapi.reading import get
from arbiter.kubeapi.references import Reference, refuse_unless_owned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.kubeapi.connection import Asking
    from arbiter.kubeapi.resources import Resource

OBJECTS, STATUS = "arbiter", "arbiter-status"
"""Under which names our fields stand in `metadata.managedFields`."""

APPLY = "application/apply-patch+yaml"
"""The media type of server-side apply. JSON is YAML, and every server takes it so."""

NEVER = "1"
"""A resource version that no object has: it counts the writes of the whole store, and the first one is its own."""

GONE, INVALID = 404, 422
"""The statuses by which an object is not there, and by which a value is refused."""


async def apply(
    asking: Asking, resource: Resource, wish: Mapping[str, Any], owner: Reference, *, dry_run: bool = False
) -> dict[str, Any]:
    """Look at an object, then make it be as wished.

    Args:
        asking: what gets the answers.
        resource: its kind.
        wish: the manifest, with nothing but what we decide about; its owner reference is added here.
        owner: what controls it.
        dry_run: check and answer all the same, but store nothing.

    Returns:
        The object as it is now stored.

    Raises:
        NotOursError: an object of that name exists that this owner does not control.
        ConflictError: it was replaced between the look and the write, or is being deleted.
        ClusterError: the API server did not do it.
    """
    metadata = wish["metadata"]
    where = (resource, metadata.get("namespace"), metadata["name"])
    seen = await get(asking, *where)
    try:
        return await apply_onto(asking, resource, wish, owner, seen, dry_run=dry_run)
    except ConflictError:
        if seen is not None:
            raise
        # Either a stranger was faster, or it was us: the object was made, and the answer was lost on its way.
        if (made := await get(asking, *where)) is None:
            raise
        return await apply_onto(asking, resource, wish, owner, made, dry_run=dry_run)


async def apply_onto(  # noqa: PLR0913  what is written, for whom, and onto what
    asking: Asking,
    resource: Resource,
    wish: Mapping[str, Any],
    owner: Reference,
    seen: Mapping[str, Any] | None,
    *,
    unchanged: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Make an object be as wished, which was already looked at.

    Args:
        asking: what gets the answers.
        resource: its kind.
        wish: the manifest, with nothing but what we decide about; its owner reference is added here.
        owner: what controls it.
        seen: the object as it was read; `None` when there was none.
        unchanged: write only if nothing at all has changed since.
        dry_run: check and answer all the same, but store nothing.

    Returns:
        The object as it is now stored.

    Raises:
        NotOursError: `seen` is not controlled by this owner.
        ConflictError: it was made, changed or replaced since, or is being deleted.
        ClusterError: the API server did not do it.
    """
    metadata = {**wish["metadata"], "ownerReferences": [owner.to_owner()]}
    if seen is None:
        metadata["resourceVersion"] = NEVER
    else:
        refuse_unless_owned(seen, _named(wish), owner)
        metadata["uid"] = seen["metadata"]["uid"]
        if unchanged:
            metadata["resourceVersion"] = seen["metadata"]["resourceVersion"]
    path = resource.path(metadata.get("namespace"), metadata["name"])
    query = {"fieldManager": OBJECTS, "force": "true", **_strictly(dry_run=dry_run)}
    try:
        return await asking.ask(Request("PATCH", path, query, {**wish, "metadata": metadata}, APPLY))
    except RejectedError as error:
        if error.status == INVALID and "metadata.uid" in str(error):
            # The API server's way to say that the object of this name has another uid.
            raise ConflictError(f"{_named(wish)} was replaced by another object meanwhile") from error
        raise


async def create(
    asking: Asking, resource: Resource, wish: Mapping[str, Any], owner: Reference | None, *, dry_run: bool = False
) -> dict[str, Any]:
    """Make an object that is never changed afterwards; one that is there already stays as it is.

    Args:
        asking: what gets the answers.
        resource: its kind.
        wish: the manifest; its owner reference is added here.
        owner: what controls it; `None` for an object that outlives all others, and may be anybody's.
        dry_run: check and answer all the same, but store nothing.

    Returns:
        The object as it is stored: made now, earlier, or without an owner by whomsoever.

    Raises:
        NotOursError: an object of that name exists that this owner does not control.
        ConflictError: one is there that is just being deleted.
        ClusterError: the API server did not do it.
    """
    metadata = dict(wish["metadata"])
    if owner is not None:
        metadata["ownerReferences"] = [owner.to_owner()]
    query = {"fieldManager": OBJECTS, **_strictly(dry_run=dry_run)}
    path = resource.path(metadata.get("namespace"))
    try:
        return await asking.ask(Request("POST", path, query, {**wish, "metadata": metadata}))
    except ConflictError:
        there = await get(asking, resource, metadata.get("namespace"), metadata["name"])
        if there is None:
            raise
    if owner is not None:
        refuse_unless_owned(there, _named(wish), owner)
    return there


async def write_status(
    asking: Asking, resource: Resource, seen: Mapping[str, Any], status: Mapping[str, Any], *, dry_run: bool = False
) -> dict[str, Any]:
    """Write the whole status of an object, if nothing about it has changed since it was read.

    Args:
        asking: what gets the answers.
        resource: its kind.
        seen: the object as it was read; only which one it was is taken of it.
        status: all that its status shall say.
        dry_run: check and answer all the same, but store nothing.

    Returns:
        The object as it is now stored.

    Raises:
        ConflictError: it was changed, replaced or removed since: decide anew on what it is now.
        ClusterError: the API server did not do it.
    """
    read = seen["metadata"]
    known = {name: read[name] for name in ("name", "namespace", "uid", "resourceVersion") if name in read}
    body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": known, "status": status}
    path = f"{resource.path(read.get('namespace'), read['name'])}/status"
    query = {"fieldManager": STATUS, **_strictly(dry_run=dry_run)}
    try:
        return await asking.ask(Request("PUT", path, query, body))
    except RejectedError as error:
        if error.status == GONE:
            raise ConflictError(f"{_named(body)} was removed meanwhile") from error
        raise


def _strictly(*, dry_run: bool) -> dict[str, str]:
    """An unknown field is our mistake and is refused, instead of dropped without a word."""
    return {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}


def _named(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"
