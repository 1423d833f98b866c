"""SwapPolicy: when a swap may start, how it is staged, what proves it good or bad, and what follows a rollback.

Every field has a default, and the defaults together are the built-in policy of a pool that names none. They are
given as durations, ratios and counts; the statistics behind `analysis` are explained in docs/evidence.md.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from arbiter.api.amounts import Duration
from arbiter.api.meta import (
    LIST_ATOMIC,
    LIST_SET,
    Column,
    Conditions,
    Fraction,
    Label,
    Names,
    ObjectName,
    Part,
    Resource,
    Rule,
)

CRON_HELP = (
    "must be five cron fields: minute 0-59, hour 0-23, day of month 1-31, month 1-12, day of week 0-7, "
    "such as '0 22 * * 1-5' for 22:00 on weekdays"
)


def _cron_field(number: str) -> str:
    """Give the pattern of one cron field: `*`, numbers, ranges, steps, and lists of them."""
    item = rf"([*]|{number}(-{number})?)(/[1-9][0-9]?)?"
    return f"{item}(,{item})*"


CRON_SHAPE = " ".join(
    map(
        _cron_field,
        (
            "[0-5]?[0-9]",
            "([01]?[0-9]|2[0-3])",
            "(0?[1-9]|[12][0-9]|3[01])",
            "(0?[1-9]|1[0-2])",
            "[0-7]",
        ),
    )
)
"""What a cron expression may look like. That a day exists (not 31 February) is found when the policy is read."""


class Mode(StrEnum):
    """Who starts swaps."""

    Manual = "Manual"
    Automatic = "Automatic"


class Trigger(Part):
    """When Arbiter starts a swap by itself (mode Automatic) or recommends one (mode Manual)."""

    cooldown: Duration = Duration.parse("5m")
    """The least time between the end of one swap of a task and the start of the next that Arbiter chooses."""

    min_samples: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    """Requests of the task that must have been seen before its model is judged."""

    performance_threshold: Fraction = 0.8
    """A success rate below this calls for another model."""

    quality_factor: Fraction = 0.9
    """A quality below this share of the task's `needs.minQuality` calls for another model."""

    min_improvement: Fraction = 0.05
    """By how much another model's score must be better, from 0 to 1."""


class Compatibility(Part):
    """What a candidate must bring before it is tried at all."""

    strict: bool = True
    """Refuse a candidate below `minSuccess`; false: warn and go on."""

    min_success: Fraction = 0.9
    """The success rate on record, as a share of the active model's, for a candidate that was seen before."""

    keep_capabilities: bool = True
    """Refuse a candidate that lacks a capability of the active model."""

    keep_context_window: bool = True
    """Refuse a candidate whose context window is smaller than the active model's."""

    licenses: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=253)], ...], Field(max_length=64), LIST_SET
    ] = ()
    """SPDX identifiers of allowed licences. Left out: every licence."""


class WarmUp(Part):
    """What a new engine does before it gets a user's request."""

    completions: Annotated[int, Field(ge=1, le=100)] = 3
    """Completions that must come back before the engine counts as ready."""

    skip_requests: Annotated[int, Field(ge=0, le=10_000)] = 10
    """The first requests of each new engine pod that are left out of the evidence."""

    deadline: Duration = Duration.parse("10m")
    """How long the completions and the task's checks may take together."""


class Strategy(StrEnum):
    """How two models change places."""

    Auto = "Auto"
    SideBySide = "SideBySide"
    OneAtATime = "OneAtATime"


class Step(Part):
    """A share of new requests for the new side, and how long it is held."""

    weight: Annotated[int, Field(ge=1, le=97)]
    """Percent of new requests that go to the new side."""

    hold: Duration
    """How long at least, before the next step."""


class Ramp(Part):
    """Equal steps: a first weight, and as much again after each hold."""

    start: Annotated[int, Field(ge=1, le=97)] = 10
    """Percent of new requests that the new side gets first."""

    increment: Annotated[int, Field(ge=1, le=97)] = 10
    """Percent that each further step adds, while it stays below 98."""

    hold: Duration = Duration.parse("1h")
    """How long each step is held at least."""


class Rollout(Part):
    """How requests move to the new side."""

    strategy: Strategy = Strategy.Auto
    """SideBySide runs both, OneAtATime drains and replaces; Auto takes SideBySide where there is room for both."""

    ramp: Ramp | None = None
    """Equal steps. Left out, with `steps` too: 10 %, and 10 % more each hour."""

    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=50), LIST_ATOMIC] | None = None
    """Steps one by one, in place of `ramp`."""

    watch: Duration = Duration.parse("1h")
    """How long the old side keeps 2 % of requests as a baseline before the new one counts as promoted."""

    keep_hot: Duration = Duration.parse("1h")
    """How long the old side stays loaded after that, so that going back is only a change of route."""

    keep_warm: Duration = Duration.parse("168h")
    """How long its weights stay on disk after that."""

    max_hold: Duration = Duration.parse("2m")
    """OneAtATime: the longest that requests may wait while models change places."""

    rules: ClassVar = (
        Rule("!(has(self.ramp) && has(self.steps))", "give ramp or steps, not both", ".steps"),
        Rule(
            "!has(self.steps) || (self.steps.map(s, s.weight).isSorted() && "
            "self.steps.all(s, self.steps.exists_one(t, t.weight == s.weight)))",
            "the weights of steps must rise from step to step",
            ".steps",
        ),
    )


class OnInconclusive(StrEnum):
    """What happens when the evidence stays undecided."""

    Hold = "Hold"
    Rollback = "Rollback"
    Promote = "Promote"


ErrorRate = Annotated[float, Field(ge=0.0001, le=0.2)]
Margin = Annotated[float, Field(ge=0.5, le=0.999)]


class Analysis(Part):
    """What proves the new side worse, or as good, while both serve."""

    rollback_error_rate: ErrorRate = 0.01
    """The chance, over a whole swap, that a new side within the margins is rolled back all the same (α)."""

    promotion_error_rate: ErrorRate = 0.05
    """The chance, over a whole swap, that a new side beyond the margins passes a promotion gate (α)."""

    min_success_ratio: Margin = 0.95
    """The new side's success rate as a share of the old side's: below it the new side is worse."""

    max_error_ratio: Annotated[float, Field(gt=1, le=100)] = 2.0
    """How many times the old side's errors the new side may make at the same number of requests."""

    max_first_token_ratio: Annotated[float, Field(gt=1, le=10)] = 1.2
    """The new side's 95th percentile of time to first token, as a multiple of the old side's, at the same load."""

    max_per_token_ratio: Annotated[float, Field(gt=1, le=10)] = 1.2
    """The same for the time of each further token."""

    min_quality_ratio: Margin = 0.95
    """The new side's mean quality as a share of the old side's."""

    min_requests: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Requests that each side must have served in a step before it counts."""

    block_length: Duration = Duration.parse("60s")
    """The least time over which both sides are compared at once."""

    slice: Duration = Duration.parse("15s")
    """The time over which routers count."""

    max_extensions: Annotated[int, Field(ge=0, le=100)] = 3
    """How often a step's hold is repeated while there are too few requests or no decision."""

    max_silent_blocks: Annotated[int, Field(ge=1, le=1000)] = 5
    """Blocks without figures after which a metric that had some holds the weights."""

    on_inconclusive: OnInconclusive = OnInconclusive.Rollback
    """What happens when the extensions are used up."""

    rules: ClassVar = (
        Rule(
            "duration(self.slice) <= duration(self.blockLength)",
            "blockLength must be at least one slice",
            ".blockLength",
        ),
        Rule(
            "duration(self.slice) >= duration('1s') && duration(self.slice) <= duration('5m')",
            "slice must be from 1s to 5m",
            ".slice",
        ),
    )


class Rollback(Part):
    """What rolls a swap back at once, and what follows."""

    first_failures: Annotated[int, Field(ge=3, le=1000)] = 12
    """Roll back when the new side's first so many requests all failed."""

    drain: Duration = Duration.parse("30s")
    """How long requests in flight may take to finish on a side that is being left, beyond the longest stream."""

    cooldown: Duration = Duration.parse("6h")
    """How long the same pair of models is not tried again; it doubles with each rollback."""

    max_cooldown: Duration = Duration.parse("48h")
    """The longest that it grows to."""

    rules: ClassVar = (
        Rule(
            "duration(self.cooldown) <= duration(self.maxCooldown)",
            "cooldown must not be longer than maxCooldown",
            ".cooldown",
        ),
    )


class Window(Part):
    """A time in which swaps may start and weights may rise; outside of all windows they wait. Rollbacks never wait."""

    name: Label | None = None
    """What the window is called in messages. Left out: its cron expression."""

    cron: Annotated[
        str,
        StringConstraints(min_length=9, max_length=100),
        Rule(f"self.matches('^{CRON_SHAPE}$')", CRON_HELP),
    ]
    """When the window opens, as five cron fields in the window's time zone."""

    duration: Duration
    """How long it stays open, in elapsed time: a change of the clocks does not shorten it."""

    time_zone: Annotated[
        str,
        StringConstraints(max_length=64),
        Rule(
            "self.matches('^[A-Za-z]+([-+/_A-Za-z0-9]*[A-Za-z0-9])?$')",
            "must be a time zone of the IANA database, such as UTC or Europe/Berlin",
        ),
    ] = "UTC"
    """The time zone of `cron`, as the IANA database names it."""

    rules: ClassVar = (
        Rule(
            "duration(self.duration) >= duration('1m') && duration(self.duration) <= duration('168h')",
            "duration must be from 1m to 168h",
            ".duration",
        ),
    )


class SwapPolicySpec(Part):
    """When, how and on what evidence models are swapped."""

    mode: Mode = Mode.Manual
    """Automatic: Arbiter starts swaps to better models. Manual: it scores and recommends, and people start them."""

    trigger: Trigger = Trigger()
    """When a swap is called for."""

    compatibility: Compatibility = Compatibility()
    """What a candidate must bring before it is tried."""

    warm_up: WarmUp = WarmUp()
    """What a new engine does before it gets a user's request."""

    rollout: Rollout = Rollout()
    """How requests move to the new side."""

    analysis: Analysis = Analysis()
    """What proves the new side worse, or as good."""

    rollback: Rollback = Rollback()
    """What rolls a swap back at once, and what follows."""

    windows: Annotated[tuple[Window, ...], Field(max_length=16), LIST_ATOMIC] = ()
    """When swaps may start and weights may rise. Left out: at any time."""


class SwapPolicyStatus(Part):
    """Who uses the policy, and whether it can be read."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that this is about; 0: none yet, so whoever waits for the object goes on waiting."""

    conditions: Conditions = ()
    """Ready: the policy can be followed."""

    pools: Annotated[tuple[ObjectName, ...], Field(max_length=256), LIST_SET] = ()
    """The pools that name it."""

    pool_count: Annotated[int, Field(ge=0)] | None = None
    """How many they are."""


class SwapPolicy(Resource):
    """The rules for swapping one model for another: when, how, on what evidence, and what follows a rollback.

    A swap in flight keeps the policy that it started with.
    """

    names: ClassVar = Names(
        plural="swappolicies",
        short=("swappolicy",),
        columns=(
            Column("Mode", ".spec.mode", "Who starts swaps."),
            Column("Strategy", ".spec.rollout.strategy", "How two models change places."),
            Column("Inconclusive", ".spec.analysis.onInconclusive", "What happens when evidence stays undecided."),
            Column("Pools", ".status.poolCount", "How many pools use it.", type="integer"),
        ),
        selectable=(".spec.mode",),
    )

    spec: SwapPolicySpec = SwapPolicySpec()
    """The rules."""

    status: SwapPolicyStatus = SwapPolicyStatus()
    """Who uses them; written by Arbiter."""


DEFAULT_POLICY = SwapPolicySpec()
"""The built-in policy, for pools that name none."""
