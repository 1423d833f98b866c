"""Says which object exactly is meant: in an owner reference, in an event, and before a write.

Rule: a name is not enough. It may have been given to another object meanwhile, and only the uid tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arbiter.errors import ConflictError, NotOursError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Reference:
    """One object, as others refer to it.

    Attributes:
        api_version: of its kind, such as `arbiter.dev/v1alpha1`.
        kind: its kind, such as `ModelPool`.
        namespace: where it is; empty for one without a namespace.
        name: its name.
        uid: what tells it from one that had the name before.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    @staticmethod
    def of(found: Mapping[str, Any]) -> Reference:
        """The object that was read; it names its kind, as all do but those in a list of Kubernetes' own kinds."""
        metadata = found["metadata"]
        return Reference(
            found["apiVersion"], found["kind"], metadata.get("namespace", ""), metadata["name"], metadata["uid"]
        )

    def to_owner(self) -> dict[str, Any]:
        """The entry in `ownerReferences` of an object that it controls, and that goes with it.

        It does not hold up its owner's deletion: `blockOwnerDeletion` would need the right to set finalizers on
        people's objects, and nothing here has to be gone before a pool may go.
        """
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
        }

    def to_regarding(self) -> dict[str, str]:
        """The form that an event has it in."""
        fields = {"apiVersion": self.api_version, "kind": self.kind, "name": self.name, "uid": self.uid}
        return {**fields, "namespace": self.namespace} if self.namespace else fields

    def __str__(self) -> str:
        """As it stands in messages."""
        return f"{self.kind} {self.name}"


def controller_of(found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The owner reference of the one that controls an object; `None` where nobody does."""
    owners = found["metadata"].get("ownerReferences") or ()
    return next((each for each in owners if each.get("controller")), None)


def refuse_unless_owned(found: Mapping[str, Any], named: str, owner: Reference) -> None:
    """Make sure that an object may be written for this owner.

    Args:
        found: the object as it was read.
        named: what to call it in a message.
        owner: for which we write.

    Raises:
        NotOursError: it is controlled by another object, or by none.
        ConflictError: it belongs to an owner of that name that was deleted, or it is itself being deleted. It will be
            gone soon, and then it can be made anew.
    """
    controller = controller_of(found)
    if controller is None:
        raise NotOursError(f"{named} exists and {owner} did not make it: delete it, or rename one of the two")
    if controller["uid"] != owner.uid:
        if (controller["kind"], controller["name"]) == (owner.kind, owner.name):
            raise ConflictError(f"{named} still belongs to an earlier {owner}, and goes with it")
        whose = f"{controller['kind']} {controller['name']}"
        raise NotOursError(f"{named} exists and belongs to {whose}, not to {owner}: rename one of the owners")
    if found["metadata"].get("deletionTimestamp"):
        raise ConflictError(f"{named} is being deleted; it can be made anew once it is gone")
