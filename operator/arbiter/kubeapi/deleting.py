"""Deletes an object, exactly the one that was looked at.

Rule: the uid always goes along, so that an object that took the name meanwhile stays; and asking twice does no harm.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from arbiter.errors import RejectedError
from arbiter.kubeapi.applying import GONE
from arbiter.kubeapi.connection import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.kubeapi.connection import Asking
    from arbiter.kubeapi.resources import Resource


class Propagation(StrEnum):
    """What becomes of the objects that the deleted one owns, in the API server's words."""

    BACKGROUND = "Background"
    """They go after it."""

    FOREGROUND = "Foreground"
    """They go first; until then it stays, marked as being deleted."""

    ORPHAN = "Orphan"
    """They stay."""


async def delete(  # noqa: PLR0913  which object, and how it shall go
    asking: Asking,
    resource: Resource,
    seen: Mapping[str, Any],
    *,
    unchanged: bool = False,
    propagation: Propagation = Propagation.BACKGROUND,
    dry_run: bool = False,
) -> bool:
    """Delete an object.

    Args:
        asking: what gets the answers.
        resource: its kind.
        seen: the object as it was read; whoever asks made sure that it may go.
        unchanged: delete it only if nothing at all has changed since.
        propagation: what becomes of the objects that it owns.
        dry_run: check and answer all the same, but delete nothing.

    Returns:
        Whether it was still there.

    Raises:
        ConflictError: another object has its name, or with `unchanged` it was changed.
        ClusterError: the API server did not do it.
    """
    read = seen["metadata"]
    preconditions = {"uid": read["uid"], **({"resourceVersion": read["resourceVersion"]} if unchanged else {})}
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": preconditions,
        "propagationPolicy": propagation.value,
        **({"dryRun": ["All"]} if dry_run else {}),
    }
    try:
        await asking.ask(Request("DELETE", resource.path(read.get("namespace"), read["name"]), {}, body))
    except RejectedError as error:
        if error.status == GONE:
            return False
        raise
    return True
