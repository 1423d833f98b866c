"""What can be asked for: kinds of objects, and which of them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, as it stands in an address.

    Attributes:
        group: its API group; empty for the core one.
        version: of the group, such as `v1`.
        plural: its name in addresses, such as `configmaps`.
    """

    group: str
    version: str
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Where it is found: all of a cluster, all of a namespace, or one by its name."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        within = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        return f"{root}{within}/{self.plural}" + (f"/{quote(name, safe='')}" if name else "")


CONFIG_MAPS = Resource("", "v1", "configmaps")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices")


@dataclass(frozen=True, slots=True)
class Selection:
    """Some objects of one kind.

    Attributes:
        resource: their kind.
        namespace: where they are; `None` for every namespace.
        labels: a label selector; empty for all.
        fields: a field selector; empty for all.
    """

    resource: Resource
    namespace: str | None = None
    labels: str = ""
    fields: str = ""

    @staticmethod
    def named(resource: Resource, namespace: str, name: str) -> Selection:
        """One object by its name. A role that names the object allows a list or a watch only in this form."""
        return Selection(resource, namespace, fields=f"metadata.name={name}")

    @property
    def path(self) -> str:
        """Where they are found."""
        return self.resource.path(self.namespace)

    @property
    def query(self) -> dict[str, str]:
        """The selectors."""
        chosen = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {name: selector for name, selector in chosen.items() if selector}

    def __str__(self) -> str:
        """As it stands in messages."""
        chosen = ", ".join(each for each in (self.labels, self.fields) if each)
        return f"{self.resource.plural} in {self.namespace or 'all namespaces'}" + (f" with {chosen}" if chosen else "")
