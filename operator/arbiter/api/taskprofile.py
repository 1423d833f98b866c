"""TaskProfile: what has been learned about one task of one pool.

Knowledge belongs to the task and not to a model, so that a swap keeps it and the next model inherits it. It outlives
its pool, and one profile's knowledge can be another's prior.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AwareDatetime, Field, StringConstraints

from arbiter.api.meta import (
    Column,
    Conditions,
    Fraction,
    Label,
    Names,
    ObjectName,
    Part,
    Resource,
    Rule,
    Text,
    immutable_except,
    list_map,
)
from arbiter.api.modelpool import Revision, ScoreWeights

Histogram = Annotated[str, StringConstraints(max_length=4096)]
"""A histogram in Arbiter's compact text form, values in seconds."""

Count = Annotated[float, Field(ge=0)]
"""A number of requests, fractional once old ones count for less."""


class Complexity(Part):
    """Requests of one complexity."""

    samples: Count
    """How many there were."""

    successes: Count
    """How many succeeded."""

    rules: ClassVar = (Rule("self.successes <= self.samples", "successes must not exceed samples", ".successes"),)


class ByComplexity(Part):
    """Requests by complexity, which follows from length, turns, tools and code."""

    low: Complexity | None = None
    """Simple requests."""

    medium: Complexity | None = None
    """Requests of medium complexity."""

    high: Complexity | None = None
    """Complex requests."""


class Score(Part):
    """A model's score for the task, with the parts that it is made of, each from 0 to 1."""

    total: Fraction
    """The weighted sum."""

    quality: Fraction
    """How good its answers are."""

    latency: Fraction
    """How fast it is."""

    memory: Fraction
    """How little memory it needs."""

    reliability: Fraction
    """How often it succeeds."""

    recency: Fraction
    """How fresh the knowledge is."""

    unproven: bool = False
    """Whether there are too few samples to say, and the total is 0.5 for that."""


class ModelKnowledge(Part):
    """What is known about one revision of one model on this task."""

    model: ObjectName
    """The LocalModel."""

    revision: Revision
    """The revision."""

    samples: Count
    """Requests seen."""

    successes: Count
    """Requests that succeeded."""

    quality: Fraction | None = None
    """Mean quality of its answers, from 0 to 1. Left out: unknown."""

    quality_samples: Count = 0.0
    """Judgements behind `quality`."""

    first_token: Histogram | None = None
    """Time to first token."""

    per_token: Histogram | None = None
    """Time of each further token."""

    total: Histogram | None = None
    """Time of whole requests."""

    input_tokens: Count = 0.0
    """Tokens read."""

    output_tokens: Count = 0.0
    """Tokens written."""

    memory_bytes: Annotated[int, Field(ge=0)] | None = None
    """Memory in use at its peak, in bytes."""

    load_seconds: Annotated[float, Field(ge=0)] | None = None
    """Time from start to first answer, in seconds."""

    energy_joules: Annotated[float, Field(ge=0)] | None = None
    """Energy that its requests took, in joules. Left out: not measured."""

    by_complexity: ByComplexity | None = None
    """Its requests by complexity."""

    score: Score | None = None
    """Its score."""

    updated_at: AwareDatetime | None = None
    """When a request last added to this."""

    rules: ClassVar = (Rule("self.successes <= self.samples", "successes must not exceed samples", ".successes"),)


class Knowledge(Part):
    """What is known about a task."""

    models: Annotated[tuple[ModelKnowledge, ...], Field(max_length=64), list_map("model", "revision")] = ()
    """By revision."""

    weights: ScoreWeights | None = None
    """What the task has shown to prefer, as weights of the score."""

    by_complexity: ByComplexity | None = None
    """All requests by complexity."""


class Prior(Part):
    """Knowledge from elsewhere that this task begins with."""

    discount: Fraction = 0.5
    """How much each of its samples counts beside one of the task's own."""

    origin: Text | None = None
    """Where it comes from."""

    knowledge: Knowledge
    """The knowledge."""


class TaskProfileSpec(Part):
    """Which task this is about, and what it begins with."""

    pool: ObjectName
    """The ModelPool."""

    task: ObjectName
    """The task in it."""

    prior: Prior | None = None
    """Knowledge from elsewhere. Left out: none."""


TaskProfileSpec.rules = immutable_except(TaskProfileSpec, "prior")


class TaskProfileStatus(Part):
    """What has been learned."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that this is about; 0: none yet, so whoever waits for the object goes on waiting."""

    conditions: Conditions = ()
    """Ready: the profile is in use."""

    learned: Knowledge | None = None
    """What has been learned from this task's own requests."""

    samples: Annotated[int, Field(ge=0)] | None = None
    """Requests behind it."""

    best: Label | None = None
    """The model with the best score."""


class TaskProfile(Resource):
    """What has been learned about one task: which model does it how well, how fast and at what cost.

    It is kept when its pool is deleted.
    """

    names: ClassVar = Names(
        plural="taskprofiles",
        short=("tprofile",),
        columns=(
            Column("Pool", ".spec.pool", "The pool."),
            Column("Task", ".spec.task", "The task."),
            Column("Samples", ".status.samples", "Requests behind the knowledge.", type="integer"),
            Column("Best", ".status.best", "The model with the best score."),
        ),
        selectable=(".spec.pool", ".spec.task"),
    )

    spec: TaskProfileSpec
    """Which task this is about."""

    status: TaskProfileStatus = TaskProfileStatus()
    """What has been learned; written by Arbiter."""
