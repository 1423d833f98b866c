"""Names every metric of the router, and says what it means, how it is labelled and what bounds its labels.

`gen_ai_*` are the metrics of OpenTelemetry's conventions for generative AI, named and bucketed as those say and
written as Prometheus writes them; one observation is one attempt at one target. `arbiter_router_*` are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum


class Kind(Enum):
    """How a metric behaves, and how the values of several worker processes become one."""

    COUNTER = "counter"
    """Only grows; workers add up, and what a dead one had counted stays."""

    GAUGE = "gauge"
    """Goes up and down; workers add up."""

    LOWEST = "lowest"
    """A gauge of which the lowest worker tells: a table is obeyed when the last one obeys it."""

    HIGHEST = "highest"
    """A gauge of which the highest worker tells."""

    SECONDS = "seconds"
    """A histogram of durations."""

    TOKENS = "tokens"
    """A histogram of counts of tokens."""


class Scope(Enum):
    """What the label sets of a metric are bounded by."""

    ROUTER = "router"
    """Nothing of the table."""

    TASK = "task"
    """The first label is a task, or empty for what names none."""

    MODEL = "model"
    """The first two labels are a task and a model that serves it."""


class Answered(StrEnum):
    """How a client's request ended: the label `outcome` of `REQUESTS`."""

    OK = "ok"
    FAILED = "failed"
    REJECTED = "rejected"
    """The model server said 4xx."""

    LEFT = "left"
    HELD_OUT = "held-out"
    """Nothing could serve in time."""

    REFUSED = "refused"
    """For its key, path or form; no model server saw it."""


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One metric: its name, what it means, and its labels."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    scope: Scope = Scope.ROUTER
    bounds: tuple[float, ...] = ()

    @property
    def type(self) -> str:
        """What Prometheus calls its type."""
        match self.kind:
            case Kind.COUNTER:
                return "counter"
            case Kind.GAUGE | Kind.LOWEST | Kind.HIGHEST:
                return "gauge"
            case Kind.SECONDS | Kind.TOKENS:
                return "histogram"


_CONVENTION = ("gen_ai_request_model", "gen_ai_response_model", "side", "gen_ai_provider_name", "gen_ai_operation_name")

DURATION = Family(
    "gen_ai_server_request_duration_seconds",
    Kind.SECONDS,
    "Seconds from sending an attempt to a model server until it ended. error_type is empty when it was answered.",
    (*_CONVENTION, "error_type"),
    Scope.MODEL,
    # The conventions end at 81.92 s; local models on small machines take longer.
    tuple(0.01 * 2**i for i in range(19)),
)
FIRST_TOKEN = Family(
    "gen_ai_server_time_to_first_token_seconds",
    Kind.SECONDS,
    "Seconds from sending a streamed attempt until its first token.",
    _CONVENTION,
    Scope.MODEL,
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
PER_TOKEN = Family(
    "gen_ai_server_time_per_output_token_seconds",
    Kind.SECONDS,
    "Mean seconds for each further token of a streamed answer.",
    _CONVENTION,
    Scope.MODEL,
    (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
TOKENS = Family(
    "gen_ai_client_token_usage",
    Kind.TOKENS,
    "Tokens of an attempt that ended, read (input) and written (output).",
    (*_CONVENTION, "gen_ai_token_type"),
    Scope.MODEL,
    tuple(float(4**i) for i in range(14)),
)
REQUESTS = Family(
    "arbiter_router_requests_total",
    Kind.COUNTER,
    "Requests of clients, each once, by who answered (old, new, fallback, or empty for the router) and how it ended.",
    ("task", "side", "outcome"),
    Scope.TASK,
)
IN_FLIGHT = Family(
    "arbiter_router_in_flight", Kind.GAUGE, "Attempts at model servers running now.", ("task", "side"), Scope.TASK
)
RETRIES = Family(
    "arbiter_router_retries_total",
    Kind.COUNTER,
    "Attempts that failed before the first byte and were tried again, by the side that failed.",
    ("task", "side"),
    Scope.TASK,
)
FALLBACKS = Family(
    "arbiter_router_fallbacks_total",
    Kind.COUNTER,
    "Requests sent to a model of the fallback list, by that model.",
    ("task", "model"),
    Scope.MODEL,
)
HELD = Family(
    "arbiter_router_held_total", Kind.COUNTER, "Requests that waited for something to serve.", ("task",), Scope.TASK
)
HELD_NOW = Family("arbiter_router_held", Kind.GAUGE, "Requests waiting now.", ("task",), Scope.TASK)
UNHELD = Family(
    "arbiter_router_hold_refusals_total",
    Kind.COUNTER,
    "Requests refused by the hold: full, timeout or hopeless; left counts clients that went while waiting.",
    ("task", "reason"),
    Scope.TASK,
)
BREAKERS_OPEN = Family(
    "arbiter_router_breakers_open",
    Kind.HIGHEST,
    "Endpoints of the model that get no requests because they failed in a row.",
    ("task", "model"),
    Scope.MODEL,
)
BREAKER_OPENED = Family(
    "arbiter_router_breaker_opened_total",
    Kind.COUNTER,
    "How often the breaker of an endpoint of the model opened.",
    ("task", "model"),
    Scope.MODEL,
)
DROPPED_FIELDS = Family(
    "arbiter_router_dropped_fields_total",
    Kind.COUNTER,
    "Fields of requests that were not passed on, because the model server has no use for them or they are pinned.",
    ("task",),
    Scope.TASK,
)
FEEDBACK = Family(
    "arbiter_router_feedback_total",
    Kind.COUNTER,
    "Scores that clients gave to answers, by the side that had answered.",
    ("task", "side"),
    Scope.TASK,
)
FEEDBACK_POINTS = Family(
    "arbiter_router_feedback_points_total",
    Kind.COUNTER,
    "The sum of these scores, in thousandths: divided by their number it is a thousand times their mean.",
    ("task", "side"),
    Scope.TASK,
)
AUTH_REFUSALS = Family(
    "arbiter_router_auth_refusals_total",
    Kind.COUNTER,
    "Requests refused for their key: missing, unknown, task or rate.",
    ("reason",),
)
KEYS_REFUSED = Family(
    "arbiter_router_keys_refused_total", Kind.COUNTER, "Key files that could not be read; the last good one is kept."
)
BACKEND_KEYS_MISSING = Family(
    "arbiter_router_backend_keys_missing",
    Kind.HIGHEST,
    "1 while the model gets no requests, because the key that its server wants is not there or cannot be used.",
    ("task", "model"),
    Scope.MODEL,
)
WIRE_REFUSALS = Family(
    "arbiter_router_wire_refusals_total", Kind.COUNTER, "Requests refused before they were understood.", ("status",)
)
CONNECTIONS = Family("arbiter_router_connections", Kind.GAUGE, "Connections of clients open now.")
TABLE_GENERATION = Family(
    "arbiter_router_table_generation", Kind.LOWEST, "Generation of the table that every worker obeys."
)
TABLE_EPOCH = Family("arbiter_router_table_epoch", Kind.LOWEST, "Epoch of the table that every worker obeys.")
TABLE_REFUSALS = Family(
    "arbiter_router_table_refusals_total",
    Kind.COUNTER,
    "Tables refused: unreadable, or of an epoch or generation before the one obeyed.",
    ("reason",),
)
WORKERS = Family("arbiter_router_workers", Kind.GAUGE, "Worker processes running.")
WORKER_EXITS = Family(
    "arbiter_router_worker_exits_total", Kind.COUNTER, "Worker processes that ended without being told to."
)
LOST = Family(
    "arbiter_router_lost_requests_total",
    Kind.COUNTER,
    "Attempts that were running in a worker process when it died.",
    ("task", "side"),
    Scope.TASK,
)
BUILD = Family(
    "arbiter_router_build_info", Kind.HIGHEST, "Always 1; the labels tell what runs.", ("version", "python", "loop")
)

FAMILIES = (
    DURATION,
    FIRST_TOKEN,
    PER_TOKEN,
    TOKENS,
    REQUESTS,
    IN_FLIGHT,
    RETRIES,
    FALLBACKS,
    HELD,
    HELD_NOW,
    UNHELD,
    BREAKERS_OPEN,
    BREAKER_OPENED,
    DROPPED_FIELDS,
    FEEDBACK,
    FEEDBACK_POINTS,
    AUTH_REFUSALS,
    KEYS_REFUSED,
    BACKEND_KEYS_MISSING,
    WIRE_REFUSALS,
    CONNECTIONS,
    TABLE_GENERATION,
    TABLE_EPOCH,
    TABLE_REFUSALS,
    WORKERS,
    WORKER_EXITS,
    LOST,
    BUILD,
)
"""Every metric, in the order in which they are shown and documented."""
