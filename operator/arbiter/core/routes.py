"""The RouteTable: a router's whole instruction, and which side of a task a request goes to.

The operator writes it and the routers read it, so both import this module. Rule: a table that cannot mean anything
is refused whole, by the name of the field; a router then keeps the one that it has. Raising the new side's weight
from a to b moves exactly the sessions between the two, and never one of them back.

Times are seconds here and whole milliseconds in the JSON form.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Final

from arbiter.api.localmodel import EngineType
from arbiter.core import route_rules
from arbiter.core.stored import Stored, to_json
from arbiter.core.traffic import Side
from arbiter.engines import ENGINES
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

ROUTES_VERSION: Final = 1
"""Version of the JSON form of a table; one that is not known is refused, not half understood."""

Pin = int | str | bool
"""A runner option's value."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One revision of a model, and where it answers.

    Attributes:
        revision: ten hexadecimal digits in a cluster; shown to clients.
        model: the model's name at its server.
        engine: what kind of server.
        service: the Service whose ready endpoints serve it, or `None`.
        endpoints: base addresses, when there is no service. Paths such as `/v1/embeddings` go behind them.
        key: the name of the key that its server wants to see, or `None`. The key itself is never in a table.
    """

    revision: str
    model: str
    engine: EngineType
    service: str | None = None
    endpoints: tuple[str, ...] = ()
    key: str | None = None

    def to_fields(self) -> dict[str, object]:
        """The JSON form; without a key it has no field for one."""
        place = {"endpoints": list(self.endpoints)} if self.service is None else {"service": self.service}
        key = {} if self.key is None else {"key": self.key}
        return {"revision": self.revision, "model": self.model, "engine": self.engine.value, **place, **key}

    @staticmethod
    def read(stored: Stored) -> Backend:
        """Read back what `to_fields` wrote."""
        revision, model = route_rules.token(stored, "revision"), route_rules.token(stored, "model")
        if (engine := stored.text("engine")) not in set(EngineType):
            raise CorruptStateError(f"{stored.path}.engine must be one of {', '.join(EngineType)}")
        if ("service" in stored.names()) == ("endpoints" in stored.names()):
            raise CorruptStateError(f"{stored.path} must have exactly one of service and endpoints")
        service = route_rules.name(stored, "service") if "service" in stored.names() else None
        endpoints = () if service else route_rules.addresses(stored, "endpoints")
        key = route_rules.name(stored, "key") if "key" in stored.names() else None
        if key is not None and service is not None:
            raise CorruptStateError(f"{stored.path}.key goes with endpoints: what runs in the pool needs none")
        stored.done()
        return Backend(revision, model, EngineType(engine), service, endpoints, key)


@dataclass(frozen=True, slots=True)
class Target:
    """A side of a task, and its share of new requests in percent."""

    side: Side
    backend: Backend
    weight: int

    def to_fields(self) -> dict[str, object]:
        """The JSON form."""
        return {"side": self.side.value, "weight": self.weight, **self.backend.to_fields()}

    @staticmethod
    def read(stored: Stored) -> Target:
        """Read back what `to_fields` wrote."""
        if (side := stored.text("side")) not in set(Side):
            raise CorruptStateError(f"{stored.path}.side must be {' or '.join(Side)}")
        if (weight := stored.integer("weight")) > 100:
            raise CorruptStateError(f"{stored.path}.weight must be at most 100")
        return Target(Side(side), Backend.read(stored), weight)


@dataclass(frozen=True, slots=True)
class Hold:
    """How requests wait while nothing can serve them.

    Attributes:
        requests: how many may wait; the next one is refused.
        seconds: how long each may wait.
        hopeless: why nothing will come, as a sentence, and then none waits; empty while something may come.
    """

    requests: int = 100
    seconds: float = 60.0
    hopeless: str = ""

    def to_fields(self) -> dict[str, object]:
        """The JSON form."""
        return {"requests": self.requests, "ms": _ms(self.seconds), "hopeless": self.hopeless}

    @staticmethod
    def read(stored: Stored) -> Hold:
        """Read back what `to_fields` wrote."""
        hold = Hold(stored.integer("requests"), stored.integer("ms") / 1000, route_rules.sentence(stored, "hopeless"))
        stored.done()
        return hold


@dataclass(frozen=True, slots=True)
class Task:
    """What clients ask for by name.

    Attributes:
        name: what they send as `model`.
        targets: at most one for each side, the new side first; their weights add up to 100.
        fallback: what answers when no target can, in this order.
        hold: how requests wait.
        swap: the ModelSwap in flight, or empty; shown to clients.
        capabilities: what the task can do, shown to clients.
        context_window: tokens that fit into a request and its answer, if known.
        pins: runner options set on every request, where the engine takes them.
    """

    name: str
    targets: tuple[Target, ...]
    fallback: tuple[Backend, ...]
    hold: Hold
    swap: str
    capabilities: tuple[str, ...]
    context_window: int | None
    pins: Mapping[str, Pin]

    @property
    def backends(self) -> tuple[Backend, ...]:
        """All that may serve it: targets, then fallbacks."""
        return (*(target.backend for target in self.targets), *self.fallback)

    def to_fields(self) -> dict[str, object]:
        """The JSON form; the name stands before it."""
        return {
            "targets": [target.to_fields() for target in self.targets],
            "fallback": [backend.to_fields() for backend in self.fallback],
            "hold": self.hold.to_fields(),
            "swap": self.swap,
            "capabilities": list(self.capabilities),
            "contextWindow": self.context_window,
            "pins": {name: self.pins[name] for name in sorted(self.pins)},
        }

    @staticmethod
    def read(name: str, stored: Stored) -> Task:
        """Read back what `to_fields` wrote."""
        targets = _read_targets(stored)
        parts = enumerate(stored.items("fallback"))
        fallback = tuple(Backend.read(Stored(part, f"{stored.path}.fallback[{i}]")) for i, part in parts)
        task = Task(
            name=route_rules.checked_name(name, stored.path),
            targets=targets,
            fallback=fallback,
            hold=Hold.read(stored.child("hold")),
            swap=route_rules.name_or_empty(stored, "swap"),
            capabilities=route_rules.words(stored, "capabilities"),
            context_window=route_rules.count_or_none(stored, "contextWindow"),
            pins=_read_pins(stored.child("pins"), (*(target.backend for target in targets), *fallback)),
        )
        stored.done()
        return task


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one request: bytes of its body, and seconds for each phase."""

    body_bytes: int = 10 * 1024 * 1024
    header_s: float = 10.0
    body_s: float = 60.0
    first_byte_s: float = 300.0
    idle_s: float = 60.0
    total_s: float = 3600.0

    def to_fields(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "bodyBytes": self.body_bytes,
            "headerMs": _ms(self.header_s),
            "bodyMs": _ms(self.body_s),
            "firstByteMs": _ms(self.first_byte_s),
            "idleMs": _ms(self.idle_s),
            "totalMs": _ms(self.total_s),
        }

    @staticmethod
    def read(stored: Stored) -> Limits:
        """Read back what `to_fields` wrote."""
        phases = ("headerMs", "bodyMs", "firstByteMs", "idleMs", "totalMs")
        limits = Limits(stored.integer("bodyBytes", 1), *(stored.integer(phase, 1) / 1000 for phase in phases))
        stored.done()
        return limits


@dataclass(frozen=True, slots=True)
class Auth:
    """Who may use the endpoint: the Secret with the keys' hashes."""

    keys_secret: str

    def to_fields(self) -> dict[str, object]:
        """The JSON form."""
        return {"keysSecret": self.keys_secret}

    @staticmethod
    def read(stored: Stored) -> Auth:
        """Read back what `to_fields` wrote."""
        auth = Auth(route_rules.name(stored, "keysSecret"))
        stored.done()
        return auth


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Everything that a router is told.

    Attributes:
        epoch: of the leader that wrote it; a lower one than a router has seen is refused.
        generation: rises with every change; slices carry it.
        slice_ms: length of an accounting slice.
        tasks: by name.
        limits: bounds on one request.
        auth: who may use the endpoint; `None` for whoever reaches it.
    """

    epoch: int
    generation: int
    slice_ms: int
    tasks: Mapping[str, Task]
    limits: Limits
    auth: Auth | None

    @property
    def hash(self) -> str:
        """The first 16 hexadecimal digits of the sha256 sum of the content.

        The content is all but `epoch` and `generation`, so that the same instruction written by another leader has
        the same hash. A router acknowledges hash and generation.
        """
        return sha256(to_json(self._content()).encode()).hexdigest()[:16]

    def to_text(self) -> str:
        """The JSON form."""
        head = {"version": ROUTES_VERSION, "epoch": self.epoch, "generation": self.generation, "hash": self.hash}
        return to_json({**head, **self._content()})

    @staticmethod
    def from_text(text: str) -> RouteTable:
        """Read a table. One that a person wrote may leave out `hash`; one that is there must be right.

        Raises:
            CorruptStateError: for a table that cannot mean anything; it names the field.
        """
        stored = Stored.parse(text, "routes", ROUTES_VERSION)
        said = stored.text("hash") if "hash" in stored.names() else None
        epoch, generation = stored.integer("epoch"), stored.integer("generation")
        slice_ms, named = stored.integer("sliceMs", minimum=1), stored.child("tasks")
        tasks = {name: Task.read(name, named.child(name)) for name in named.names()}
        if not tasks:
            raise CorruptStateError(f"{named.path} must name at least one task")
        limits, auth = Limits.read(stored.child("limits")), stored.take("auth")
        stored.done()
        read_auth = None if auth is None else Auth.read(Stored(auth, "routes.auth"))
        table = RouteTable(epoch, generation, slice_ms, tasks, limits, read_auth)
        if said not in {None, table.hash}:
            raise CorruptStateError(f"routes.hash is {said}, but the content's is {table.hash}")
        return table

    def _content(self) -> dict[str, object]:
        return {
            "sliceMs": self.slice_ms,
            "tasks": {name: self.tasks[name].to_fields() for name in sorted(self.tasks)},
            "limits": self.limits.to_fields(),
            "auth": None if self.auth is None else self.auth.to_fields(),
        }


def pick_side(task: Task, session: bytes, draw: float, usable: Collection[Side]) -> Target | None:
    """The side that a new request goes to.

    Args:
        task: what was asked for.
        session: the key of the request's session, or empty; where there is one, it replaces `draw`.
        draw: a number drawn evenly from [0, 1).
        usable: sides that have a ready endpoint. A side without one is passed over for the other.

    Returns:
        The target, or `None` when nothing can serve. A target of weight 0 never serves.
    """
    place = 100 * (session_place(task.name, session) if session else draw)
    edge = 0
    spare = None
    for target in task.targets:
        edge += target.weight
        if target.weight and target.side in usable:
            if place < edge:
                return target
            spare = target
    return spare


def session_place(task: str, session: bytes) -> float:
    """Where a session stands in [0, 1) for a task: the same in every router and process, at every weight."""
    digest = blake2b(b"%b\0%b" % (task.encode(), session), digest_size=8).digest()
    # As many bits as a float keeps, so that the result stays below 1.
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def _read_targets(stored: Stored) -> tuple[Target, ...]:
    path = f"{stored.path}.targets"
    targets = [Target.read(Stored(part, f"{path}[{i}]")) for i, part in enumerate(stored.items("targets"))]
    if len({target.side for target in targets}) != len(targets):
        raise CorruptStateError(f"{path} must name each side once")
    if targets and (total := sum(target.weight for target in targets)) != 100:
        raise CorruptStateError(f"{path}: the weights must add up to 100, not {total}")
    return tuple(sorted(targets, key=lambda target: target.side is not Side.NEW))


def _read_pins(stored: Stored, backends: tuple[Backend, ...]) -> Mapping[str, Pin]:
    taken = frozenset[str]().union(*(ENGINES[backend.engine].pins for backend in backends))
    pins: dict[str, Pin] = {}
    for name in stored.names():
        value = stored.take(name)
        if name not in taken:
            raise CorruptStateError(f"{stored.path}.{name}: no engine of this task takes it with a request")
        if not isinstance(value, int | str):
            raise CorruptStateError(f"{stored.path}.{name} must be a whole number, a text or a truth value")
        pins[name] = value
    return pins


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
