"""What a router must be allowed: the smallest role that it works with.

Its ConfigMap is named, so a router cannot read the tables of other pools. EndpointSlices cannot be named, because
their names are made up by the cluster; they hold addresses only.
"""

from __future__ import annotations

from dataclasses import dataclass

from arbiter.kubeapi.resources import CONFIG_MAPS, ENDPOINT_SLICES, Resource

READ = ("get", "list", "watch")
"""What following an object needs; `get` is for a person who looks with the router's account."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a Role.

    Attributes:
        resource: the kind of object.
        verbs: what may be done with it.
        names: with which objects; empty for all in the namespace.
    """

    resource: Resource
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()

    def to_fields(self) -> dict[str, list[str]]:
        """The form that a Role has it in."""
        fields = {
            "apiGroups": [self.resource.group],
            "resources": [self.resource.plural],
            "verbs": list(self.verbs),
        }
        return {**fields, "resourceNames": list(self.names)} if self.names else fields


def router_rules(config_map: str) -> tuple[Rule, ...]:
    """The Role of a router that follows this ConfigMap."""
    return (Rule(CONFIG_MAPS, READ, (config_map,)), Rule(ENDPOINT_SLICES, READ))
