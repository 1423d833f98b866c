"""LocalModel: an entry in the registry, one model as it is to be run.

An entry never changes once it exists, so that evidence about it stays true; a new version is a new entry. Only
`deprecated` may be set later.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AwareDatetime, Field, StringConstraints

from arbiter.api.amounts import Duration, Quantity
from arbiter.api.meta import (
    LIST_ATOMIC,
    LIST_SET,
    Column,
    Conditions,
    Label,
    Names,
    ObjectName,
    Part,
    ReferenceName,
    Resource,
    Rule,
    Text,
    immutable_except,
    list_map,
)
from arbiter.api.pod import EnvVars, ResourceRequirements

Capability = Annotated[
    str,
    StringConstraints(min_length=1, max_length=40),
    Rule(
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "must be a capability in lower case, such as chat, embeddings, tools, vision or json",
    ),
]

Capabilities = Annotated[tuple[Capability, ...], Field(max_length=32), LIST_SET]

Sha256 = Annotated[
    str,
    StringConstraints(max_length=64),
    Rule("self.matches('^[0-9a-f]{64}$')", "must be a sha256 sum: 64 hexadecimal digits in lower case"),
]

Source = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024),
    Rule(
        "['ollama://', 'oci://', 'hf://', 'https://', 'pvc://'].exists(s, self.startsWith(s))",
        "must begin with ollama://, oci://, hf://, https:// or pvc://; a server that already runs goes to external.url",
    ),
    Rule(
        "!self.startsWith('ollama://') || "
        "self.matches('^ollama://([a-zA-Z0-9.-]+(:[0-9]{1,5})?/)?([a-zA-Z0-9._-]+/)*[a-zA-Z0-9._-]+:[a-zA-Z0-9._-]+$')",
        "must be ollama://name:tag or ollama://host:port/name:tag; the tag is not optional",
    ),
    Rule(
        "!self.startsWith('oci://') || "
        "self.matches('^oci://[a-z0-9.-]+(:[0-9]{1,5})?(/[a-z0-9._-]+)+(:[a-zA-Z0-9._-]+)?(@sha256:[0-9a-f]{64})?(#[^#]+)?$')",
        "must be oci://registry/image:tag or oci://registry/image@sha256:…, "
        "with #path behind it for one file of the image",
    ),
    Rule(
        "!self.startsWith('hf://') || "
        "self.matches('^hf://[a-zA-Z0-9._-]+/[a-zA-Z0-9._-]+(/[a-zA-Z0-9._-]+)*(@[a-zA-Z0-9._-]+)?$')",
        "must be hf://organisation/repository/file, or without file for a whole repository; @revision may follow",
    ),
    Rule(
        "!self.startsWith('https://') || "
        "(isURL(self) && url(self).getHost() != '' && url(self).getEscapedPath().size() > 1)",
        "must be the https:// address of one file",
    ),
    Rule(
        "!self.startsWith('pvc://') || self.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[^/]+)+$')",
        "must be pvc://claim/path",
    ),
]


class EngineType(StrEnum):
    """A kind of model server."""

    Ollama = "Ollama"
    LlamaCpp = "LlamaCpp"
    VLLM = "VLLM"
    Custom = "Custom"
    External = "External"


class Engine(Part):
    """The model server that runs the model."""

    type: EngineType | None = None
    """Which server. Left out: inferred from `source`; the status says which and why."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    """The server's container image. Left out: the operator's default for the type; Custom has none."""

    args: Annotated[
        tuple[Annotated[str, StringConstraints(max_length=1024)], ...], Field(max_length=64), LIST_ATOMIC
    ] = ()
    """Further arguments of the server, behind those that Arbiter gives."""

    env: EnvVars = ()
    """Further environment variables of the server."""

    resources: ResourceRequirements | None = None
    """What the server's container is given. Left out: memory from `memory`, the rest from the pool."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The TCP port that the server listens on. Left out: the type's usual one."""

    startup_deadline: Duration = Duration.parse("30m")
    """How long the server may take from its start until it answered a request, loading included."""

    rules: ClassVar = (
        Rule(
            "!has(self.type) || self.type != 'Custom' || has(self.image)",
            "type Custom needs image: Arbiter has no default image for it",
            ".image",
        ),
    )


class External(Part):
    """A server outside the cluster: another machine, or an Apple host that runs Ollama, MLX or llama.cpp."""

    url: Annotated[
        str,
        StringConstraints(min_length=1, max_length=512),
        Rule(
            "isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHost() != ''",
            "must be the http:// or https:// address of a server, such as http://mac-studio.example:11434",
        ),
    ]
    """The server's base address; `/v1/...` is added behind it."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=253)] | None = None
    """The model's name at that server. Left out: the LocalModel's own name."""

    key_secret: ReferenceName | None = None
    """A Secret whose key `token` is sent as a bearer token. Left out: none is sent."""


class Provenance(Part):
    """Where a model that somebody trained comes from. Kept for people; no decision reads it."""

    base_model: Text | None = None
    """The model that it was trained from."""

    trained_by: Text | None = None
    """Who trained it."""

    framework: Label | None = None
    """What it was trained with, such as PyTorch or MLX."""

    dataset: Text | None = None
    """What it was trained on."""

    metrics: Annotated[dict[str, float], Field(max_length=64)] = Field(default_factory=dict)
    """Figures that the training reported, by name."""


class LocalModelSpec(Part):
    """One model as it is to be run. Immutable but for `deprecated`."""

    source: Source | None = None
    """Where the weights come from: `ollama://name:tag`, `oci://registry/image[@digest][#path]`,
    `hf://organisation/repository[/file][@revision]`, `https://…` with `sha256`, or `pvc://claim/path`.
    Exactly one of `source` and `external` is given."""

    sha256: Sha256 | None = None
    """The sha256 sum of the file: required for https sources, checked for every source of one file."""

    external: External | None = None
    """A server that already runs elsewhere; Arbiter routes to it and never starts or stops it."""

    engine: Engine | None = None
    """The model server. Left out: inferred from `source`."""

    pull_secret: ReferenceName | None = None
    """A Secret of type kubernetes.io/dockerconfigjson (oci and ollama sources) or with a key `token` (hf, https)."""

    family: Label | None = None
    """The family that the model belongs to, such as gemma3."""

    version: Label | None = None
    """The version in its family."""

    capabilities: Capabilities = ()
    """What the model can do, such as chat, completion, embeddings, tools, vision, json, thinking; added to what is
    discovered."""

    context_window: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Tokens that fit into one request and its answer. Left out: read from the source or the server."""

    parameters: (
        Annotated[
            str,
            StringConstraints(max_length=16),
            Rule(
                r"self.matches('^[0-9]+([.][0-9]+)?[KMBT]$')",
                "must be a count of parameters such as 135M, 7B or 1.5B",
            ),
        ]
        | None
    ) = None
    """How many parameters the model has, such as 135M or 7B."""

    quantization: Label | None = None
    """How the weights are stored, such as Q4_K_M."""

    memory: Quantity | None = None
    """Memory that the running model needs, in bytes, such as 6Gi. Left out: estimated from the file's size."""

    license: Annotated[str, StringConstraints(min_length=1, max_length=253)] | None = None
    """The licence as an SPDX identifier, such as Apache-2.0, or its address."""

    provenance: Provenance | None = None
    """Where the model comes from, for a model that somebody trained."""

    deprecated: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    """Why the model should no longer be used. No new choice falls on it; where it is active, that is reported."""


LocalModelSpec.rules = (
    Rule("has(self.source) != has(self.external)", "give exactly one of source and external"),
    Rule(
        "!has(self.source) || !self.source.startsWith('https://') || has(self.sha256)",
        "sha256 is required with an https:// source: what it delivers can change",
        ".sha256",
    ),
    Rule(
        "!has(self.engine) || !has(self.engine.type) || (self.engine.type == 'External') == has(self.external)",
        "engine.type External goes with external, and external with no other type",
        ".engine.type",
    ),
    Rule(
        "!has(self.source) || !self.source.startsWith('ollama://') || !has(self.engine) || !has(self.engine.type)"
        " || self.engine.type == 'Ollama'",
        "engine.type must be Ollama for an ollama:// source: the other servers cannot read an Ollama library",
        ".engine.type",
    ),
    Rule(
        "!has(self.source) || !self.source.startsWith('hf://') || !has(self.engine) || !has(self.engine.type)"
        " || !(self.engine.type in ['LlamaCpp', 'Ollama']) || self.source.matches('^hf://[^/@]+/[^/@]+/')",
        "source must name one file of the repository for LlamaCpp and Ollama: hf://organisation/repository/file",
        ".source",
    ),
    *immutable_except(LocalModelSpec, "deprecated"),
)


class InferredEngine(Part):
    """The server that runs the model, and why that one."""

    type: EngineType
    """Which server."""

    message: Text
    """Why, as a sentence."""


class ModelUse(Part):
    """A pool that uses the model."""

    pool: ObjectName
    """The pool's name."""

    tasks: Annotated[tuple[ObjectName, ...], Field(max_length=32), LIST_ATOMIC] = ()
    """The tasks that it serves there."""


class LocalModelStatus(Part):
    """What was found out about the model."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that this is about; 0: none yet, so whoever waits for the object goes on waiting."""

    conditions: Conditions = ()
    """Ready: it can be run. Resolved: its source was found."""

    engine: InferredEngine | None = None
    """The server that runs the model."""

    digest: Annotated[str, StringConstraints(max_length=256)] | None = None
    """What the source resolved to, as the source itself identifies it."""

    resolved_at: AwareDatetime | None = None
    """When the source was last resolved."""

    size: Quantity | None = None
    """The size of the weights in bytes."""

    memory: Quantity | None = None
    """Memory that the model needs, in bytes: measured, else given, else estimated."""

    context_window: Annotated[int, Field(ge=1)] | None = None
    """Tokens that fit into one request and its answer."""

    capabilities: Capabilities = ()
    """What the model can do: given and discovered."""

    used_by: Annotated[tuple[ModelUse, ...], Field(max_length=256), list_map("pool")] = ()
    """Pools that use the model."""


class LocalModel(Resource):
    """A local language model that pools can serve: where its weights come from and what runs it.

    Immutable once created; a new version is a new LocalModel.
    """

    names: ClassVar = Names(
        plural="localmodels",
        short=("lm",),
        columns=(
            Column("Engine", ".status.engine.type", "The server that runs the model."),
            Column("Family", ".spec.family", "The family that the model belongs to."),
            Column("Size", ".status.size", "The size of the weights."),
            Column("Context", ".status.contextWindow", "Tokens in one request and its answer.", type="integer"),
            Column("Ready", ".status.conditions[?(@.type=='Ready')].status", "Whether the model can be run."),
            Column("Reason", ".status.conditions[?(@.type=='Ready')].reason", "Why it can or cannot."),
            Column("Source", ".spec.source", "Where the weights come from.", wide=True),
            Column("Deprecated", ".spec.deprecated", "Why it should no longer be used.", wide=True),
        ),
        selectable=(".spec.family", ".spec.engine.type"),
    )

    spec: LocalModelSpec
    """The model as it is to be run."""

    status: LocalModelStatus = LocalModelStatus()
    """What was found out about the model; written by Arbiter."""
