"""Lists the kinds of objects that plans are about, and which of them are followed.

Rule: Secrets are made and never read. Who may list Secrets has them all, and an operator needs none of them.
"""

from __future__ import annotations

from arbiter.kubeapi.resources import APPLIED, CONTROLLER_REVISIONS, JOBS, SECRETS

UNREAD = frozenset({SECRETS})
"""What is made and never read."""

CHILDREN = tuple(dict.fromkeys((*APPLIED, JOBS, CONTROLLER_REVISIONS)))
"""What a pool or a model controls and a snapshot shows."""
