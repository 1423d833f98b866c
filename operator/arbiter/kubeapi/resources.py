"""What can be asked for: kinds of objects, and which of them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from arbiter.api.meta import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, as it stands in an address.

    Attributes:
        group: its API group; empty for the core one.
        version: of the group, such as `v1`.
        plural: its name in addresses, such as `configmaps`.
        kind: its name in manifests, such as `ConfigMap`; empty where nobody needs it.
    """

    group: str
    version: str
    plural: str
    kind: str = ""

    @property
    def api_version(self) -> str:
        """How manifests name group and version."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Where it is found: all of a cluster, all of a namespace, or one by its name."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        within = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        return f"{root}{within}/{self.plural}" + (f"/{quote(name, safe='')}" if name else "")


LOCAL_MODELS = Resource(GROUP, VERSION, "localmodels", "LocalModel")
MODEL_POOLS = Resource(GROUP, VERSION, "modelpools", "ModelPool")
SWAP_POLICIES = Resource(GROUP, VERSION, "swappolicies", "SwapPolicy")
MODEL_SWAPS = Resource(GROUP, VERSION, "modelswaps", "ModelSwap")
TASK_PROFILES = Resource(GROUP, VERSION, "taskprofiles", "TaskProfile")

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
NODES = Resource("", "v1", "nodes", "Node")
PERSISTENT_VOLUME_CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
PODS = Resource("", "v1", "pods", "Pod")
SECRETS = Resource("", "v1", "secrets", "Secret")
SERVICES = Resource("", "v1", "services", "Service")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
CONTROLLER_REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
JOBS = Resource("batch", "v1", "jobs", "Job")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
POD_DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")

OUR_KINDS = (LOCAL_MODELS, MODEL_POOLS, SWAP_POLICIES, MODEL_SWAPS, TASK_PROFILES)
"""The five kinds that Arbiter defines."""

APPLIED = (
    CONFIG_MAPS,
    SERVICES,
    SERVICE_ACCOUNTS,
    DEPLOYMENTS,
    NETWORK_POLICIES,
    POD_DISRUPTION_BUDGETS,
    ROLES,
    ROLE_BINDINGS,
)
"""What the operator keeps as a pool wants it: applied again whenever that changes."""

CREATED = (JOBS, MODEL_SWAPS, TASK_PROFILES)
"""What the operator makes once and never changes: a Job cannot be changed, and the others' specs are people's."""

_BY_KIND = {each.kind: each for each in (*OUR_KINDS, *APPLIED, *CREATED, CONTROLLER_REVISIONS, PODS, SECRETS)}


def resource_of(kind: str) -> Resource:
    """Where objects of a kind are found that Arbiter makes, or writes a status of."""
    return _BY_KIND[kind]


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
