"""The settings of a pool's endpoint: how many routers, what they allow, who may use them, how they are reached."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from arbiter.api.amounts import Duration, Quantity
from arbiter.api.meta import Part, ReferenceName, Rule
from arbiter.api.pod import ResourceRequirements


class RouterLimits(Part):
    """Bounds on what one client can ask of the router."""

    body: Quantity = Quantity.parse("10Mi")
    """The largest request body, in bytes; a larger one is answered 413."""

    header_timeout: Duration = Duration.parse("10s")
    """The longest that a client may take to send its headers."""

    body_timeout: Duration = Duration.parse("60s")
    """The longest that a client may take to send its body."""

    first_byte_timeout: Duration = Duration.parse("5m")
    """The longest that an engine may take until the first byte of its answer."""

    idle_timeout: Duration = Duration.parse("60s")
    """The longest pause between two bytes of a streamed answer."""

    total_timeout: Duration = Duration.parse("1h")
    """The longest that a request may take altogether."""

    held_requests: Annotated[int, Field(ge=0, le=100_000)] = 100
    """How many requests of one task wait when nothing can serve; the next one is answered 503."""

    hold_timeout: Duration = Duration.parse("60s")
    """The longest that a request waits for something that can serve it."""

    rules: ClassVar = (
        Rule(
            "duration(self.firstByteTimeout) <= duration(self.totalTimeout)",
            "firstByteTimeout must not be longer than totalTimeout",
            ".firstByteTimeout",
        ),
        Rule(
            "duration(self.idleTimeout) <= duration(self.totalTimeout)",
            "idleTimeout must not be longer than totalTimeout",
            ".idleTimeout",
        ),
    )


class RouterAuth(Part):
    """Who may use the endpoint."""

    keys_secret: ReferenceName
    """A Secret with salted hashes of API keys, and each key's tasks and rate."""


class ServiceType(StrEnum):
    """How the endpoint's Service is published."""

    ClusterIP = "ClusterIP"
    NodePort = "NodePort"
    LoadBalancer = "LoadBalancer"


class Expose(Part):
    """How the endpoint can be reached."""

    service_type: ServiceType = ServiceType.ClusterIP
    """The type of the endpoint's Service."""

    annotations: Annotated[dict[str, Annotated[str, StringConstraints(max_length=1024)]], Field(max_length=32)] = Field(
        default_factory=dict
    )
    """Annotations of the endpoint's Service, for a load balancer's controller."""


class Router(Part):
    """The endpoint: the processes that split, hold and account requests."""

    replicas: Annotated[int, Field(ge=0, le=50)] = 2
    """How many routers run; 0: none, and the pool is only managed."""

    resources: ResourceRequirements | None = None
    """What each router is given. Left out: 100m CPU and 128Mi memory asked for, 512Mi at most."""

    limits: RouterLimits = RouterLimits()
    """Bounds on what one client can ask."""

    auth: RouterAuth | None = None
    """Who may use the endpoint. Left out: whoever reaches it."""

    expose: Expose = Expose()
    """How the endpoint can be reached."""
