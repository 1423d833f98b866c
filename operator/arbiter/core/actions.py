"""What a pass decides to do, as values: the only way from the pure core to the cluster.

Rule: a plan is ordered, and stopping after any of its actions is harmless: the next pass sees what was done and plans
the rest. An action says everything that is needed to carry it out, so whoever does so looks nothing up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    from arbiter.api.reasons import Reason
    from arbiter.engines.calls import Call


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """Which object of a namespace.

    Attributes:
        kind: such as `Deployment`.
        name: its name.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Apply:
    """Bring an object of ours into this form, or make it; one of that name that is somebody else's is left alone.

    Attributes:
        manifest: the whole of what we want of it, with its owner reference. Fields that are not in it are not ours.
    """

    manifest: Mapping[str, Any]

    @property
    def key(self) -> ObjectKey:
        """Which object."""
        return ObjectKey(self.manifest["kind"], self.manifest["metadata"]["name"])


@dataclass(frozen=True, slots=True)
class Create:
    """Make an object once and never look into it again, such as a Secret whose content nobody may read.

    Attributes:
        manifest: the whole of it; values of `stringData` that are empty are filled with chance at the edge.
    """

    manifest: Mapping[str, Any]

    @property
    def key(self) -> ObjectKey:
        """Which object."""
        return ObjectKey(self.manifest["kind"], self.manifest["metadata"]["name"])


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete an object of ours, and what it owns.

    Attributes:
        key: which.
        uid: the one that was seen; another of that name stays.
    """

    key: ObjectKey
    uid: str


@dataclass(frozen=True, slots=True)
class StartJob:
    """Have something slow done beside the passes; its result comes in a later snapshot. One that runs goes on.

    Attributes:
        key: what it does, in words that are the same whenever it is the same, such as `prove/0a1b2c3d4e`.
        url: base address of the server that is asked.
        call: the request.
    """

    key: str
    url: str
    call: Call


@dataclass(frozen=True, slots=True)
class StopJob:
    """End a job that nobody needs any more.

    Attributes:
        key: as it was started with.
    """

    key: str


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """Write the status of one of the five kinds.

    Attributes:
        kind: such as `ModelPool`.
        name: of the object.
        version: the resource version that was read; if it has changed, nothing is written and another pass follows.
        status: the whole status.
    """

    kind: str
    name: str
    version: str
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell people, as an event about an object.

    Attributes:
        kind: such as `ModelPool`.
        name: of the object.
        uid: of the object.
        reason: what happened.
        warning: whether somebody should look.
    """

    kind: str
    name: str
    uid: str
    reason: Reason
    warning: bool = False


Action = Apply | Create | Remove | StartJob | StopJob | WriteStatus | Emit
"""Everything that a pass can do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one pass decided.

    Attributes:
        actions: in the order in which they are done.
        notes: what people should know of it, for the log.
        look_again: when to pass again even if nothing changes; None: not before something does.
    """

    actions: tuple[Action, ...] = ()
    notes: tuple[Reason, ...] = ()
    look_again: datetime | None = None
