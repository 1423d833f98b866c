"""Compatibility: every check of the chain, what it says with which figures, and how the answers are put together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.api.amounts import Quantity
from arbiter.api.localmodel import EngineType
from arbiter.api.modelpool import Capacity, Gpus, Needs, Placement
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.api.swappolicy import DEFAULT_POLICY, Compatibility
from arbiter.core.candidacy import Candidacy, Check, Level, Verdict
from arbiter.core.facts import ModelFacts, NodeFacts, Record
from arbiter.core.fit import CHECKS, judge_fit

if TYPE_CHECKING:
    from typing import Any

GI = 1024**3

CANDIDATE = ModelFacts(
    name="qwen3",
    revision="0123456789",
    engine=EngineType.LlamaCpp,
    capabilities=frozenset({"chat", "json", "tools"}),
    context_window=8192,
    memory=6 * GI,
    license="Apache-2.0",
    record=Record(samples=50, successes=48),
)
ACTIVE = ModelFacts(
    name="smollm2",
    revision="9876543210",
    engine=EngineType.LlamaCpp,
    capabilities=frozenset({"chat", "json"}),
    context_window=8192,
    memory=GI,
    license="Apache-2.0",
    record=Record(samples=200, successes=196),
)
NODE = NodeFacts("n1", allocatable={"memory": 16 * GI})
PERFECT = Candidacy(
    task="chat",
    candidate=CANDIDATE,
    active=ACTIVE,
    needs=Needs(capabilities=("tools", "chat"), context_window=4096, max_memory=Quantity.parse("8Gi")),
    compatibility=Compatibility(licenses=("MIT", "apache-2.0")),
    nodes=(NODE,),
)


RATES = "; at least 90% of its rate is wanted"


def candidate(base: Candidacy = PERFECT, **facts: Any) -> Candidacy:  # noqa: ANN401 - whatever the fact is
    """Change facts of the candidate."""
    return replace(base, candidate=replace(base.candidate, **facts))


def active(base: Candidacy = PERFECT, **facts: Any) -> Candidacy:  # noqa: ANN401 - whatever the fact is
    """Change facts of the active model."""
    return replace(base, active=replace(base.active or ACTIVE, **facts))


def verdict(candidacy: Candidacy, check: Check) -> Verdict | None:
    """Find the verdict of one check."""
    return next((found for found in judge_fit(candidacy).verdicts if found.check == check), None)


def said(check: Check, level: Level, code: ReasonCode, message: str) -> Verdict:
    """Build the verdict that a check should give."""
    return Verdict(check, level, Reason(code, message))


def passed(check: Check, message: str) -> Verdict:
    """Build the verdict of a check that passed."""
    return said(check, Level.Ok, ReasonCode.Compatible, message)


def unknown(check: Check, message: str) -> Verdict:
    """Build the verdict of a check that lacks a fact."""
    return said(check, Level.Warning, ReasonCode.FactUnknown, message)


def refused(check: Check, code: ReasonCode, message: str) -> Verdict:
    """Build the verdict of a check that refuses."""
    return said(check, Level.Refused, code, message)


def test_the_order_of_checks() -> None:
    """Reasons are told in this order, whatever else changes: what cannot run first, policy last."""
    want_order = [
        Check.NotDeprecated,
        Check.EngineRuns,
        Check.CapabilitiesNeeded,
        Check.CapabilitiesKept,
        Check.ContextWindowNeeded,
        Check.ContextWindowKept,
        Check.MemoryAllowed,
        Check.NodeFits,
        Check.LicenseAllowed,
        Check.SuccessOnRecord,
    ]
    shared = candidate(engine=EngineType.Ollama)
    assert [found.check for found in judge_fit(PERFECT).verdicts] == want_order
    assert [found.check for found in judge_fit(shared).verdicts] == list(Check)
    assert len(CHECKS) == len(Check)


def test_a_perfect_candidate_is_told_why() -> None:
    """A candidate that passes carries the figures of every check all the same."""
    fit = judge_fit(PERFECT)
    assert fit.compatible
    assert fit.reason == Reason(ReasonCode.Compatible, "qwen3 can be tried for chat")
    assert fit.at(Level.Ok) == fit.verdicts
    assert [found.reason.message for found in fit.verdicts] == [
        "qwen3 is not deprecated",
        "qwen3 runs on LlamaCpp",
        "qwen3 has what chat needs: chat, tools",
        "qwen3 can do all that the active smollm2 can",
        "qwen3 has a context window of 8192 tokens, chat needs 4096",
        "qwen3 has a context window of 8192 tokens, the active smollm2 has 8192",
        "qwen3 needs 6Gi of memory, chat allows at most 8Gi",
        "node n1 can take qwen3",
        "qwen3 is licensed under Apache-2.0, which the policy allows",
        f"qwen3 succeeded in 96.0% of 50 requests on record, the active smollm2 in 98.0% of 200{RATES}",
    ]


def test_all_refusals_are_told_at_once() -> None:
    """A person who mends one thing does not find the next one only then; the code is the first one's."""
    fit = judge_fit(candidate(context_window=4096, license="MIT-0", deprecated="use qwen4", memory=None))
    assert fit.compatible is False
    assert fit.reason == Reason(
        ReasonCode.ModelDeprecated,
        "qwen3 is deprecated: use qwen4; "
        "qwen3 has a context window of 4096 tokens, the active smollm2 has 8192; "
        "qwen3 is licensed under MIT-0, the policy allows MIT, apache-2.0",
    )
    assert [found.check for found in fit.at(Level.Refused)] == [
        Check.NotDeprecated,
        Check.ContextWindowKept,
        Check.LicenseAllowed,
    ]


def test_one_warning_is_told() -> None:
    """A candidate with a warning is tried, and the sentence says which."""
    fit = judge_fit(candidate(license=None))
    assert fit.compatible
    assert fit.reason == Reason(
        ReasonCode.Compatible,
        "qwen3 can be tried for chat, with 1 warning: the licence of qwen3 is not known, and the policy allows "
        "MIT, apache-2.0",
    )


def test_several_warnings_are_told() -> None:
    """All warnings are told."""
    fit = judge_fit(candidate(license=None, engine=None))
    want_start = "qwen3 can be tried for chat, with 2 warnings: the engine of qwen3 is not known yet; the licence of"
    assert fit.reason.message.startswith(want_start)


def test_nothing_but_a_name_is_tried_with_warnings() -> None:
    """What is not known neither refuses nor passes in silence: each check that lacks a fact warns."""
    fit = judge_fit(replace(PERFECT, candidate=ModelFacts("qwen3"), nodes=None))
    assert fit.compatible
    assert {found.check for found in fit.at(Level.Warning)} == set(Check) - {
        Check.NotDeprecated,
        Check.MemoryShared,
        Check.SuccessOnRecord,
    }


def test_checks_that_do_not_apply_say_nothing() -> None:
    """Without an active model, needs or policy, only what concerns the candidate itself is told."""
    fit = judge_fit(Candidacy(task="chat", candidate=CANDIDATE, nodes=(NODE,)))
    assert [found.check for found in fit.verdicts] == [Check.NotDeprecated, Check.EngineRuns, Check.NodeFits]


@pytest.mark.parametrize(
    ("candidacy", "want_verdict"),
    [
        pytest.param(
            candidate(deprecated="use qwen4"),
            refused(Check.NotDeprecated, ReasonCode.ModelDeprecated, "qwen3 is deprecated: use qwen4"),
            id="deprecated",
        ),
        pytest.param(
            candidate(engine=None),
            unknown(Check.EngineRuns, "the engine of qwen3 is not known yet"),
            id="no engine yet",
        ),
        pytest.param(
            candidate(engine=EngineType.External),
            passed(Check.EngineRuns, "qwen3 runs outside of the cluster, so nothing is placed for it"),
            id="external",
        ),
        pytest.param(
            candidate(engine=EngineType.VLLM),
            said(
                Check.EngineRuns,
                Level.Warning,
                ReasonCode.EngineWithoutGpu,
                "qwen3 runs on VLLM, which usually needs a GPU, and the pool's placement.gpus asks for none",
            ),
            id="vLLM without a GPU",
        ),
        pytest.param(
            replace(candidate(engine=EngineType.VLLM), placement=Placement(gpus=Gpus())),
            passed(Check.EngineRuns, "qwen3 runs on VLLM"),
            id="vLLM with a GPU",
        ),
        pytest.param(
            candidate(capabilities=frozenset({"json"})),
            refused(
                Check.CapabilitiesNeeded, ReasonCode.CapabilityMissing, "qwen3 lacks chat, tools, which chat needs"
            ),
            id="needed capabilities missing",
        ),
        pytest.param(
            candidate(capabilities=None),
            unknown(Check.CapabilitiesNeeded, "the capabilities of qwen3 are not known, and chat needs chat, tools"),
            id="needed capabilities not known",
        ),
        pytest.param(
            replace(candidate(capabilities=frozenset()), needs=Needs(capabilities=("f", "e", "d", "c", "b", "a"))),
            refused(
                Check.CapabilitiesNeeded,
                ReasonCode.CapabilityMissing,
                "qwen3 lacks a, b, c, d, and 2 more, which chat needs",
            ),
            id="many are counted",
        ),
        pytest.param(
            replace(candidate(capabilities=frozenset()), needs=Needs(capabilities=("d", "c", "b", "a"))),
            refused(Check.CapabilitiesNeeded, ReasonCode.CapabilityMissing, "qwen3 lacks a, b, c, d, which chat needs"),
            id="four are all named",
        ),
        pytest.param(
            candidate(capabilities=frozenset({"tools", "chat"})),
            refused(
                Check.CapabilitiesKept, ReasonCode.CapabilityLost, "qwen3 lacks json, which the active smollm2 has"
            ),
            id="capability of the active model lost",
        ),
        pytest.param(
            candidate(capabilities=None),
            unknown(
                Check.CapabilitiesKept,
                "the capabilities of qwen3 are not known, so whether qwen3 keeps those of the active model is open",
            ),
            id="candidate's capabilities not known",
        ),
        pytest.param(
            active(capabilities=None),
            unknown(
                Check.CapabilitiesKept,
                "the capabilities of the active smollm2 are not known, so whether qwen3 keeps those of the "
                "active model is open",
            ),
            id="active model's capabilities not known",
        ),
        pytest.param(
            candidate(context_window=4095),
            refused(
                Check.ContextWindowNeeded,
                ReasonCode.ContextWindowTooSmall,
                "qwen3 has a context window of 4095 tokens, chat needs 4096",
            ),
            id="context window one token too small",
        ),
        pytest.param(
            candidate(context_window=4096),
            passed(Check.ContextWindowNeeded, "qwen3 has a context window of 4096 tokens, chat needs 4096"),
            id="context window just large enough",
        ),
        pytest.param(
            candidate(context_window=None),
            unknown(Check.ContextWindowNeeded, "the context window of qwen3 is not known, and chat needs 4096 tokens"),
            id="needed context window not known",
        ),
        pytest.param(
            candidate(context_window=8191),
            refused(
                Check.ContextWindowKept,
                ReasonCode.ContextWindowReduced,
                "qwen3 has a context window of 8191 tokens, the active smollm2 has 8192",
            ),
            id="context window reduced",
        ),
        pytest.param(
            candidate(context_window=None),
            unknown(
                Check.ContextWindowKept,
                "the context window of qwen3 is not known, so whether qwen3 keeps that of the active model is open",
            ),
            id="candidate's context window not known",
        ),
        pytest.param(
            active(context_window=None),
            unknown(
                Check.ContextWindowKept,
                "the context window of the active smollm2 is not known, so whether qwen3 keeps that of the "
                "active model is open",
            ),
            id="active model's context window not known",
        ),
        pytest.param(
            candidate(memory=8 * GI),
            passed(Check.MemoryAllowed, "qwen3 needs 8Gi of memory, chat allows at most 8Gi"),
            id="memory just allowed",
        ),
        pytest.param(
            candidate(memory=9 * GI),
            refused(
                Check.MemoryAllowed, ReasonCode.MemoryAboveNeed, "qwen3 needs 9Gi of memory, chat allows at most 8Gi"
            ),
            id="too much memory",
        ),
        pytest.param(
            candidate(memory=None),
            unknown(Check.MemoryAllowed, "the memory that qwen3 needs is not known, and chat allows at most 8Gi"),
            id="allowed memory not known",
        ),
        pytest.param(
            candidate(license="MIT-0"),
            refused(
                Check.LicenseAllowed,
                ReasonCode.LicenseNotAllowed,
                "qwen3 is licensed under MIT-0, the policy allows MIT, apache-2.0",
            ),
            id="licence not allowed",
        ),
        pytest.param(
            candidate(license=None),
            unknown(Check.LicenseAllowed, "the licence of qwen3 is not known, and the policy allows MIT, apache-2.0"),
            id="licence not known",
        ),
    ],
)
def test_checks_of_the_model(candidacy: Candidacy, want_verdict: Verdict) -> None:
    """Each check says what it found, with the names and figures on both sides."""
    assert verdict(candidacy, want_verdict.check) == want_verdict


OLLAMA = candidate(engine=EngineType.Ollama)
SHARED = replace(OLLAMA, capacity=Capacity(memory=Quantity.parse("6Gi")))


@pytest.mark.parametrize(
    ("candidacy", "want_verdict"),
    [
        pytest.param(
            SHARED,
            passed(Check.MemoryShared, "qwen3 needs 6Gi of memory, the pool's shared Ollama engine has 6Gi"),
            id="just enough",
        ),
        pytest.param(
            candidate(SHARED, memory=6 * GI + 1024**2 * 512),
            refused(
                Check.MemoryShared,
                ReasonCode.MemoryAboveCapacity,
                "qwen3 needs 6.5Gi of memory, the pool's shared Ollama engine has 6Gi",
            ),
            id="too much",
        ),
        pytest.param(
            candidate(SHARED, memory=None),
            unknown(
                Check.MemoryShared,
                "the memory that qwen3 needs is not known, and the pool's shared Ollama engine has 6Gi",
            ),
            id="need not known",
        ),
        pytest.param(
            OLLAMA,
            unknown(
                Check.MemoryShared,
                "the pool sets no capacity.memory, so whether qwen3 fits into its shared Ollama engine is open",
            ),
            id="capacity not given",
        ),
    ],
)
def test_memory_of_a_shared_engine(candidacy: Candidacy, want_verdict: Verdict) -> None:
    """An Ollama model is held against what the pool's one engine may use for all."""
    assert verdict(candidacy, Check.MemoryShared) == want_verdict


def test_capacity_is_of_shared_engines_only() -> None:
    """Other engines have a process of their own."""
    assert verdict(replace(PERFECT, capacity=Capacity(memory=Quantity.parse("1Gi"))), Check.MemoryShared) is None


@pytest.mark.parametrize("check", [Check.MemoryAllowed, Check.MemoryShared, Check.NodeFits])
def test_an_external_model_needs_no_room_here(check: Check) -> None:
    """What runs elsewhere takes no memory of the cluster's."""
    far = candidate(engine=EngineType.External, memory=900 * GI)
    assert verdict(replace(far, nodes=()), check) is None


FULL = NodeFacts("n0", allocatable={"memory": 8 * GI}, requested={"memory": 5 * GI})
GPU_NODE = NodeFacts(
    "g1", labels={"nvidia.com/gpu.memory": "16384"}, allocatable={"nvidia.com/gpu": 1, "memory": 8 * GI}
)
ON_GPU = replace(PERFECT, placement=Placement(gpus=Gpus()), nodes=(GPU_NODE,))
FEW_CORES = replace(NODE, allocatable={"memory": 16 * GI, "cpu": 2000})
BUSY_GPU = replace(GPU_NODE, requested={"nvidia.com/gpu": 1}, held_by_active={"nvidia.com/gpu": 1})


@pytest.mark.parametrize(
    ("candidacy", "want_verdict"),
    [
        pytest.param(
            replace(PERFECT, nodes=(FULL, NODE)), passed(Check.NodeFits, "node n1 can take qwen3"), id="one fits"
        ),
        pytest.param(
            replace(PERFECT, nodes=(NODE, replace(NODE, name="n2"), replace(NODE, name="n3"))),
            passed(Check.NodeFits, "node n1 and 2 more can take qwen3"),
            id="several fit",
        ),
        pytest.param(
            replace(PERFECT, nodes=(NODE, replace(NODE, name="n2"))),
            passed(Check.NodeFits, "node n1 and 1 more can take qwen3"),
            id="two fit",
        ),
        pytest.param(
            replace(candidate(SHARED, memory=20 * GI), placement=Placement(gpus=Gpus()), nodes=(GPU_NODE,)),
            refused(
                Check.NodeFits,
                ReasonCode.NoNodeFits,
                "no node can take qwen3: g1 has 16Gi of memory on a nvidia.com/gpu, 20Gi is needed",
            ),
            id="too large for the GPU of a shared engine",
        ),
        pytest.param(
            replace(PERFECT, nodes=(replace(NODE, ready=False, allocatable={}), FULL)),
            refused(
                Check.NodeFits,
                ReasonCode.NoNodeFits,
                "no node can take qwen3: n0 has 3Gi of memory free, 6Gi is needed; n1 is not ready",
            ),
            id="none fits",
        ),
        pytest.param(
            replace(PERFECT, nodes=(replace(FULL, schedulable=False),)),
            refused(
                Check.NodeFits,
                ReasonCode.NoNodeFits,
                "no node can take qwen3: n0 is cordoned and has 3Gi of memory free, 6Gi is needed",
            ),
            id="one lacks two things",
        ),
        pytest.param(
            replace(PERFECT, nodes=tuple(NodeFacts(f"n{k}", ready=False) for k in range(6))),
            refused(
                Check.NodeFits,
                ReasonCode.NoNodeFits,
                "no node can take qwen3: n0 is not ready; n1 is not ready; n2 is not ready; n3 is not ready; "
                "and 2 more",
            ),
            id="many are counted",
        ),
        pytest.param(
            replace(PERFECT, nodes=()),
            refused(Check.NodeFits, ReasonCode.NoNodeFits, "no node can take qwen3: there are no nodes"),
            id="there are none",
        ),
        pytest.param(
            replace(PERFECT, nodes=None),
            unknown(Check.NodeFits, "the nodes cannot be read, so whether one can take qwen3 is open"),
            id="they cannot be read",
        ),
        pytest.param(
            candidate(memory=None),
            unknown(Check.NodeFits, "node n1 may take qwen3, but the memory that qwen3 needs is not known"),
            id="the need is not known",
        ),
        pytest.param(
            candidate(memory=None, pod_memory=GI),
            passed(Check.NodeFits, "node n1 can take qwen3"),
            id="what the pod asks for is given",
        ),
        pytest.param(
            replace(PERFECT, nodes=(NodeFacts("n1"),)),
            unknown(
                Check.NodeFits,
                "node n1 may take qwen3, but the memory that it offers to pods is not known",
            ),
            id="the offer is not known",
        ),
        pytest.param(ON_GPU, passed(Check.NodeFits, "node g1 can take qwen3"), id="fits on a GPU"),
        pytest.param(
            candidate(ON_GPU, memory=20 * GI, pod_memory=4 * GI),
            refused(
                Check.NodeFits,
                ReasonCode.NoNodeFits,
                "no node can take qwen3: g1 has 16Gi of memory on a nvidia.com/gpu, 20Gi is needed",
            ),
            id="too large for the GPU",
        ),
        pytest.param(
            replace(candidate(pod_cpu=1500), nodes=(replace(FEW_CORES, requested={"cpu": 900}),)),
            refused(
                Check.NodeFits, ReasonCode.NoNodeFits, "no node can take qwen3: n1 has 1.1 cores free, 1.5 are needed"
            ),
            id="too few cores",
        ),
        pytest.param(
            replace(
                candidate(pod_cpu=1500),
                nodes=(replace(FEW_CORES, requested={"cpu": 900}, held_by_active={"cpu": 500}),),
            ),
            said(
                Check.NodeFits,
                Level.Warning,
                ReasonCode.FitsOnlyInPlace,
                "node n1 can take qwen3 only in place of the active smollm2, not beside it",
            ),
            id="enough cores once the active model is gone",
        ),
        pytest.param(
            replace(candidate(pod_cpu=1500), nodes=(FEW_CORES,)),
            passed(Check.NodeFits, "node n1 can take qwen3"),
            id="enough cores",
        ),
        pytest.param(
            candidate(ON_GPU, memory=12 * GI, pod_memory=4 * GI),
            passed(Check.NodeFits, "node g1 can take qwen3"),
            id="its pod asks the node for less than the GPU holds",
        ),
        pytest.param(
            candidate(ON_GPU, memory=None, pod_memory=4 * GI),
            unknown(Check.NodeFits, "node g1 may take qwen3, but the memory that qwen3 needs is not known"),
            id="what it needs on the GPU is not known",
        ),
        pytest.param(
            replace(ON_GPU, nodes=(replace(GPU_NODE, labels={}),)),
            unknown(Check.NodeFits, "node g1 may take qwen3, but the memory of its nvidia.com/gpu is not known"),
            id="the GPU is not labelled",
        ),
        pytest.param(
            replace(ON_GPU, nodes=(replace(GPU_NODE, name="a", labels={}), GPU_NODE)),
            passed(Check.NodeFits, "node g1 can take qwen3"),
            id="a sure node is named before an unsure one",
        ),
        pytest.param(
            replace(ON_GPU, nodes=(BUSY_GPU,)),
            said(
                Check.NodeFits,
                Level.Warning,
                ReasonCode.FitsOnlyInPlace,
                "node g1 can take qwen3 only in place of the active smollm2, not beside it",
            ),
            id="the only GPU is the active model's",
        ),
        pytest.param(
            replace(ON_GPU, nodes=(replace(BUSY_GPU, held_by_active={}),)),
            refused(Check.NodeFits, ReasonCode.NoNodeFits, "no node can take qwen3: g1 has 0 of 1 nvidia.com/gpu free"),
            id="the only GPU is somebody else's",
        ),
        pytest.param(
            replace(ON_GPU, nodes=(BUSY_GPU,), active=None),
            refused(Check.NodeFits, ReasonCode.NoNodeFits, "no node can take qwen3: g1 has 0 of 1 nvidia.com/gpu free"),
            id="no active model that could go",
        ),
        pytest.param(
            active(replace(OLLAMA, nodes=()), engine=EngineType.Ollama),
            passed(Check.NodeFits, "qwen3 runs in the pool's shared Ollama engine, which is placed already"),
            id="Ollama beside Ollama needs no node",
        ),
        pytest.param(
            replace(SHARED, nodes=(FULL,)),
            refused(
                Check.NodeFits,
                ReasonCode.NoNodeFits,
                "no node can take qwen3: n0 has 3Gi of memory free, 6Gi is needed",
            ),
            id="Ollama beside another engine is placed",
        ),
        pytest.param(
            replace(candidate(SHARED, memory=GI), nodes=(FULL,), active=None),
            refused(
                Check.NodeFits,
                ReasonCode.NoNodeFits,
                "no node can take qwen3: n0 has 3Gi of memory free, 6Gi is needed",
            ),
            id="a first Ollama asks for the whole capacity",
        ),
        pytest.param(
            replace(candidate(OLLAMA, memory=3 * GI), nodes=(FULL,), active=None),
            passed(Check.NodeFits, "node n0 can take qwen3"),
            id="without capacity it asks for what the model needs",
        ),
    ],
)
def test_nodes(candidacy: Candidacy, want_verdict: Verdict) -> None:
    """Some node takes the pod, or the sentence says what each lacks."""
    assert verdict(candidacy, Check.NodeFits) == want_verdict


@pytest.mark.parametrize(
    ("policy", "check"),
    [
        pytest.param(Compatibility(keep_capabilities=False), Check.CapabilitiesKept, id="capabilities"),
        pytest.param(Compatibility(keep_context_window=False), Check.ContextWindowKept, id="context window"),
        pytest.param(Compatibility(), Check.LicenseAllowed, id="licences"),
    ],
)
def test_what_the_policy_leaves_open_is_not_checked(policy: Compatibility, check: Check) -> None:
    """A check that the policy switches off gives no verdict."""
    worse = candidate(capabilities=frozenset(), context_window=1, license="none")
    assert verdict(replace(worse, compatibility=policy), check) is None


@pytest.mark.parametrize(
    ("have", "had", "want_level", "want_code", "want_message"),
    [
        pytest.param(
            Record(100, 80),
            Record(200, 196),
            Level.Refused,
            ReasonCode.SuccessBelowActive,
            f"qwen3 succeeded in 80.0% of 100 requests on record, the active smollm2 in 98.0% of 200{RATES}",
            id="too far below is refused",
        ),
        pytest.param(
            Record(100, 81),
            Record(100, 90),
            Level.Ok,
            ReasonCode.Compatible,
            f"qwen3 succeeded in 81.0% of 100 requests on record, the active smollm2 in 90.0% of 100{RATES}",
            id="just 90 % passes",
        ),
        pytest.param(
            Record(10, 9),
            Record(10, 10),
            Level.Ok,
            ReasonCode.Compatible,
            f"qwen3 succeeded in 90.0% of 10 requests on record, the active smollm2 in 100.0% of 10{RATES}",
            id="ten requests are enough",
        ),
        pytest.param(
            Record(10, 0),
            Record(10, 0),
            Level.Ok,
            ReasonCode.Compatible,
            f"qwen3 succeeded in 0.0% of 10 requests on record, the active smollm2 in 0.0% of 10{RATES}",
            id="nothing is not worse than nothing",
        ),
        pytest.param(
            Record(9, 0),
            Record(200, 196),
            Level.Ok,
            ReasonCode.Unproven,
            "qwen3 is unproven: qwen3 has 9 requests on record for chat, 10 are needed to compare",
            id="too few of the candidate",
        ),
        pytest.param(
            None,
            None,
            Level.Ok,
            ReasonCode.Unproven,
            "qwen3 is unproven: qwen3 has no requests on record for chat, 10 are needed to compare",
            id="the candidate was never seen",
        ),
        pytest.param(
            Record(100, 0),
            Record(9.4, 9.4),
            Level.Ok,
            ReasonCode.Unproven,
            "qwen3 is unproven: smollm2 has 9 requests on record for chat, 10 are needed to compare",
            id="too few of the active model",
        ),
        pytest.param(
            Record(100, 0),
            None,
            Level.Ok,
            ReasonCode.Unproven,
            "qwen3 is unproven: smollm2 has no requests on record for chat, 10 are needed to compare",
            id="the active model was never seen",
        ),
    ],
)
def test_success_on_record(
    have: Record | None, had: Record | None, want_level: Level, want_code: ReasonCode, want_message: str
) -> None:
    """A candidate that was seen before must have succeeded nearly as often as the active model."""
    candidacy = active(candidate(record=have), record=had)
    assert verdict(candidacy, Check.SuccessOnRecord) == said(Check.SuccessOnRecord, want_level, want_code, want_message)


def test_a_policy_that_is_not_strict_warns() -> None:
    """`strict: false` turns the refusal for its record into a warning, with the same code and figures."""
    bad = candidate(record=Record(100, 10))
    strict = verdict(bad, Check.SuccessOnRecord)
    assert strict is not None
    assert strict.level == Level.Refused
    loose = replace(bad, compatibility=Compatibility(strict=False))
    assert verdict(loose, Check.SuccessOnRecord) == replace(strict, level=Level.Warning)
    assert judge_fit(loose).compatible


def test_the_policy_sets_the_bar_and_the_samples() -> None:
    """How much worse is too much, and how many requests it takes to say so, are the policy's."""
    bad = candidate(record=Record(20, 10))
    assert judge_fit(replace(bad, compatibility=Compatibility(min_success=0.5))).compatible
    assert judge_fit(replace(bad, min_samples=21)).compatible
    assert not judge_fit(replace(bad, min_samples=20)).compatible
    assert Candidacy("chat", CANDIDATE).min_samples == DEFAULT_POLICY.trigger.min_samples


def test_a_record_without_requests_has_no_success() -> None:
    """No requests are no success, and no division by zero."""
    assert Record(0, 0).success_rate == 0.0
    assert Record(4, 3).success_rate == 0.75


MODELS = st.builds(
    ModelFacts,
    name=st.sampled_from(["qwen3", "gemma3"]),
    engine=st.none() | st.sampled_from(EngineType),
    capabilities=st.none() | st.frozensets(st.sampled_from(["chat", "tools", "vision"])),
    context_window=st.none() | st.integers(1, 9000),
    memory=st.none() | st.integers(1, 20 * GI),
    pod_memory=st.none() | st.integers(1, 20 * GI),
    license=st.none() | st.sampled_from(["MIT", "Apache-2.0"]),
    deprecated=st.none() | st.just("old"),
    record=st.none() | st.builds(Record, st.just(50.0), st.integers(0, 50).map(float)),
)


@given(MODELS, st.none() | MODELS, st.none() | st.just((NODE,)) | st.just((GPU_NODE, FULL)), st.booleans())
def test_any_facts_give_an_answer_that_explains_itself(
    model: ModelFacts,
    serving: ModelFacts | None,
    nodes: tuple[NodeFacts, ...] | None,
    gpus: bool,
) -> None:
    """Whatever is known, refusals and the answer agree, and the answer holds every refusal or every warning."""
    placement = Placement(gpus=Gpus()) if gpus else Placement()
    fit = judge_fit(replace(PERFECT, candidate=model, active=serving, nodes=nodes, placement=placement))
    refusals, warnings = fit.at(Level.Refused), fit.at(Level.Warning)
    assert fit.compatible is (not refusals)
    assert all(found.reason.message in fit.reason.message for found in refusals or warnings)
    checks = [found.check for found in fit.verdicts]
    assert checks == [check for check in Check if check in checks]
