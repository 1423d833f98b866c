"""Lists the kinds of objects that plans are about, and which of them are followed.

Rule: Secrets are made and never read. Who may list Secrets has them all, and an operator needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arbiter.kubeapi.resources import APPLIED, CONTROLLER_REVISIONS, CREATED, JOBS, OUR_KINDS, PODS, SECRETS

if TYPE_CHECKING:
    from arbiter.kubeapi.resources import Resource

UNREAD = frozenset({SECRETS})
"""What is made and never read."""

CHILDREN = tuple(dict.fromkeys((*APPLIED, JOBS, CONTROLLER_REVISIONS)))
"""What a pool or a model controls and a snapshot shows."""

_BY_KIND = {each.kind: each for each in (*OUR_KINDS, *CREATED, *CHILDREN, PODS, SECRETS)}


def resource_of(kind: str) -> Resource:
    """Where objects of a kind that a plan may name are found."""
    return _BY_KIND[kind]
