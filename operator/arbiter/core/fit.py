"""Decides whether a candidate is compatible: whether it may be tried for a task at all.

An ordered chain of checks, each of which sees the same facts and gives one verdict, or none where it does not apply.
All are asked before anything is decided, so a person reads every reason at once and in the same order each time.
A fact that is not known neither refuses nor passes in silence: it warns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arbiter.api.localmodel import EngineType
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.candidacy import Check, Fit, Level, Verdict, ok, refused, unknown, warning
from arbiter.core.facts import Room, spell_bytes
from arbiter.core.placement import inspect_nodes, without_active

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from arbiter.core.candidacy import Candidacy
    from arbiter.core.facts import ModelFacts, NodeFacts, Record
    from arbiter.core.placement import Finding

_MOST_NAMED = 4
"""Nodes, capabilities or licences that one sentence names; a task's message holds 1024 characters."""


def judge_fit(candidacy: Candidacy) -> Fit:
    """Ask every check, then decide."""
    answers = (check(candidacy) for check in CHECKS)
    verdicts = tuple(verdict for verdict in answers if verdict is not None)
    refusals = [verdict.reason for verdict in verdicts if verdict.level == Level.Refused]
    warnings = [verdict.reason for verdict in verdicts if verdict.level == Level.Warning]
    if refusals:
        return Fit(verdicts, compatible=False, reason=Reason(refusals[0].code, _joined(refusals)))
    sentence = f"{candidacy.candidate.name} can be tried for {candidacy.task}"
    if warnings:
        count = f"{len(warnings)} warning{'s' if len(warnings) > 1 else ''}"
        sentence = f"{sentence}, with {count}: {_joined(warnings)}"
    return Fit(verdicts, compatible=True, reason=Reason(ReasonCode.Compatible, sentence))


def _is_not_deprecated(it: Candidacy) -> Verdict:
    why = it.candidate.deprecated
    if why is None:
        return ok(Check.NotDeprecated, f"{it.candidate.name} is not deprecated")
    return refused(Check.NotDeprecated, ReasonCode.ModelDeprecated, f"{it.candidate.name} is deprecated: {why}")


def _engine_runs(it: Candidacy) -> Verdict:
    name, engine = it.candidate.name, it.candidate.engine
    if engine is None:
        return unknown(Check.EngineRuns, f"the engine of {name} is not known yet")
    if engine == EngineType.External:
        return ok(Check.EngineRuns, f"{name} runs outside of the cluster, so nothing is placed for it")
    if engine == EngineType.VLLM and it.placement.gpus is None:
        return warning(
            Check.EngineRuns,
            ReasonCode.EngineWithoutGpu,
            f"{name} runs on VLLM, which usually needs a GPU, and the pool's placement.gpus asks for none",
        )
    return ok(Check.EngineRuns, f"{name} runs on {engine}")


def _capabilities_needed(it: Candidacy) -> Verdict | None:
    name, needed, have = it.candidate.name, it.needs.capabilities, it.candidate.capabilities
    if not needed:
        return None
    if have is None:
        return unknown(
            Check.CapabilitiesNeeded,
            f"the capabilities of {name} are not known, and {it.task} needs {_listed(sorted(needed))}",
        )
    missing = sorted(set(needed) - have)
    if missing:
        return refused(
            Check.CapabilitiesNeeded,
            ReasonCode.CapabilityMissing,
            f"{name} lacks {_listed(missing)}, which {it.task} needs",
        )
    return ok(Check.CapabilitiesNeeded, f"{name} has what {it.task} needs: {_listed(sorted(needed))}")


def _capabilities_kept(it: Candidacy) -> Verdict | None:
    if it.active is None or not it.compatibility.keep_capabilities:
        return None
    name, have, had = it.candidate.name, it.candidate.capabilities, it.active.capabilities
    if had is None or have is None:
        whose = f"the active {it.active.name}" if had is None else name
        return unknown(
            Check.CapabilitiesKept,
            f"the capabilities of {whose} are not known, so whether {name} keeps those of the active model is open",
        )
    lost = sorted(had - have)
    if lost:
        return refused(
            Check.CapabilitiesKept,
            ReasonCode.CapabilityLost,
            f"{name} lacks {_listed(lost)}, which the active {it.active.name} has",
        )
    return ok(Check.CapabilitiesKept, f"{name} can do all that the active {it.active.name} can")


def _context_window_needed(it: Candidacy) -> Verdict | None:
    name, needed, have = it.candidate.name, it.needs.context_window, it.candidate.context_window
    if needed is None:
        return None
    if have is None:
        return unknown(
            Check.ContextWindowNeeded, f"the context window of {name} is not known, and {it.task} needs {needed} tokens"
        )
    sentence = f"{name} has a context window of {have} tokens, {it.task} needs {needed}"
    if have < needed:
        return refused(Check.ContextWindowNeeded, ReasonCode.ContextWindowTooSmall, sentence)
    return ok(Check.ContextWindowNeeded, sentence)


def _context_window_kept(it: Candidacy) -> Verdict | None:
    if it.active is None or not it.compatibility.keep_context_window:
        return None
    name, have, had = it.candidate.name, it.candidate.context_window, it.active.context_window
    if had is None or have is None:
        whose = f"the active {it.active.name}" if had is None else name
        return unknown(
            Check.ContextWindowKept,
            f"the context window of {whose} is not known, so whether {name} keeps that of the active model is open",
        )
    sentence = f"{name} has a context window of {have} tokens, the active {it.active.name} has {had}"
    if have < had:
        return refused(Check.ContextWindowKept, ReasonCode.ContextWindowReduced, sentence)
    return ok(Check.ContextWindowKept, sentence)


def _memory_allowed(it: Candidacy) -> Verdict | None:
    """Hold the model against the task's `maxMemory`; memory outside of the cluster is nobody's concern here."""
    name, most, need = it.candidate.name, it.needs.max_memory, it.candidate.memory
    if most is None or it.candidate.engine == EngineType.External:
        return None
    if need is None:
        return unknown(
            Check.MemoryAllowed, f"the memory that {name} needs is not known, and {it.task} allows at most {most}"
        )
    sentence = f"{name} needs {spell_bytes(need)} of memory, {it.task} allows at most {most}"
    if need > most.value:
        return refused(Check.MemoryAllowed, ReasonCode.MemoryAboveNeed, sentence)
    return ok(Check.MemoryAllowed, sentence)


def _memory_shared(it: Candidacy) -> Verdict | None:
    """Hold the model against what the pool's Ollama engine may use for all its models."""
    name, most, need = it.candidate.name, it.capacity.memory, it.candidate.memory
    if it.candidate.engine != EngineType.Ollama:
        return None
    if most is None:
        return unknown(
            Check.MemoryShared,
            f"the pool sets no capacity.memory, so whether {name} fits into its shared Ollama engine is open",
        )
    if need is None:
        return unknown(
            Check.MemoryShared,
            f"the memory that {name} needs is not known, and the pool's shared Ollama engine has {most}",
        )
    sentence = f"{name} needs {spell_bytes(need)} of memory, the pool's shared Ollama engine has {most}"
    if need > most.value:
        return refused(Check.MemoryShared, ReasonCode.MemoryAboveCapacity, sentence)
    return ok(Check.MemoryShared, sentence)


def _node_fits(it: Candidacy) -> Verdict | None:
    """Look for a node that takes one engine pod, beside the active model's pods or in their place."""
    name, engine = it.candidate.name, it.candidate.engine
    if engine == EngineType.External:
        return None
    if engine == EngineType.Ollama and it.active is not None and it.active.engine == EngineType.Ollama:
        return ok(Check.NodeFits, f"{name} runs in the pool's shared Ollama engine, which is placed already")
    if it.nodes is None:
        return unknown(Check.NodeFits, f"the nodes cannot be read, so whether one can take {name} is open")
    return _ask_nodes(it, it.nodes)


def _ask_nodes(it: Candidacy, nodes: tuple[NodeFacts, ...]) -> Verdict:
    name, room = it.candidate.name, _room(it)
    findings = inspect_nodes(it.placement, room, nodes)
    fitting = [finding for finding in findings if finding.fits]
    if not fitting:
        return _no_node_fits(it, nodes, findings)
    sure = [finding.node for finding in fitting if not finding.unknown]
    if not sure:
        first = fitting[0]
        return unknown(
            Check.NodeFits, f"node {first.node} may take {name}, but the {_listed(first.unknown)} is not known"
        )
    if room.memory is None or (it.placement.gpus is not None and room.gpu_memory is None):
        return unknown(Check.NodeFits, f"node {sure[0]} may take {name}, but the memory that {name} needs is not known")
    more = f" and {len(sure) - 1} more" if len(sure) > 1 else ""
    return ok(Check.NodeFits, f"node {sure[0]}{more} can take {name}")


def _no_node_fits(it: Candidacy, nodes: tuple[NodeFacts, ...], findings: tuple[Finding, ...]) -> Verdict:
    """Tell whether the active model's pods are what stands in the way, or what every node lacks."""
    name = it.candidate.name
    freed = inspect_nodes(it.placement, _room(it), map(without_active, nodes))
    later = [finding.node for finding in freed if finding.fits]
    if later and it.active is not None:
        return warning(
            Check.NodeFits,
            ReasonCode.FitsOnlyInPlace,
            f"node {later[0]} can take {name} only in place of the active {it.active.name}, not beside it",
        )
    lacks = [f"{finding.node} {' and '.join(finding.lacks)}" for finding in findings]
    told = _listed(lacks, "; ") if lacks else "there are no nodes"
    return refused(Check.NodeFits, ReasonCode.NoNodeFits, f"no node can take {name}: {told}")


def _room(it: Candidacy) -> Room:
    """What the candidate's engine pod asks for; a shared engine asks for its whole capacity."""
    model, shared = it.candidate, it.capacity.memory
    if model.engine == EngineType.Ollama and shared is not None:
        return Room(memory=int(shared), gpu_memory=model.memory)
    memory = model.memory if model.pod_memory is None else model.pod_memory
    return Room(memory=memory, gpu_memory=model.memory, cpu=model.pod_cpu)


def _license_allowed(it: Candidacy) -> Verdict | None:
    """Hold the licence against the policy's; SPDX identifiers do not tell upper from lower case."""
    name, allowed, have = it.candidate.name, it.compatibility.licenses, it.candidate.license
    if not allowed:
        return None
    if have is None:
        return unknown(
            Check.LicenseAllowed, f"the licence of {name} is not known, and the policy allows {_listed(allowed)}"
        )
    if have.casefold() not in {license_id.casefold() for license_id in allowed}:
        return refused(
            Check.LicenseAllowed,
            ReasonCode.LicenseNotAllowed,
            f"{name} is licensed under {have}, the policy allows {_listed(allowed)}",
        )
    return ok(Check.LicenseAllowed, f"{name} is licensed under {have}, which the policy allows")


def _success_on_record(it: Candidacy) -> Verdict | None:
    """Compare success rates, where both models have been seen often enough for that."""
    if it.active is None:
        return None
    have, had = (_telling(model.record, it.min_samples) for model in (it.candidate, it.active))
    if have is None:
        return _unproven(it, it.candidate)
    if had is None:
        return _unproven(it, it.active)
    bar = it.compatibility.min_success
    sentence = (
        f"{it.candidate.name} succeeded in {have.success_rate:.1%} of {have.samples:.0f} requests on record, the "
        f"active {it.active.name} in {had.success_rate:.1%} of {had.samples:.0f}; at least {bar:.0%} of its rate is "
        "wanted"
    )
    # Multiplied out: as a quotient, 81 % would be found below 90 % of 90 %.
    if have.successes * had.samples >= bar * had.successes * have.samples:
        return ok(Check.SuccessOnRecord, sentence)
    grade = refused if it.compatibility.strict else warning
    return grade(Check.SuccessOnRecord, ReasonCode.SuccessBelowActive, sentence)


def _telling(record: Record | None, min_samples: int) -> Record | None:
    return record if record is not None and record.samples >= min_samples else None


def _unproven(it: Candidacy, model: ModelFacts) -> Verdict:
    seen = "no" if model.record is None else f"{model.record.samples:.0f}"
    sentence = (
        f"{it.candidate.name} is unproven: {model.name} has {seen} requests on record for {it.task}, "
        f"{it.min_samples} are needed to compare"
    )
    return Verdict(Check.SuccessOnRecord, Level.Ok, Reason(ReasonCode.Unproven, sentence))


def _joined(reasons: Iterable[Reason]) -> str:
    return "; ".join(reason.message for reason in reasons)


def _listed(words: Iterable[str], between: str = ", ") -> str:
    """Name the first few and count the rest."""
    named = list(words)
    rest = [f"and {len(named) - _MOST_NAMED} more"] if len(named) > _MOST_NAMED else []
    return between.join((*named[:_MOST_NAMED], *rest))


CHECKS: tuple[Callable[[Candidacy], Verdict | None], ...] = (
    _is_not_deprecated,
    _engine_runs,
    _capabilities_needed,
    _capabilities_kept,
    _context_window_needed,
    _context_window_kept,
    _memory_allowed,
    _memory_shared,
    _node_fits,
    _license_allowed,
    _success_on_record,
)
"""The chain, in the order of `Check`. Policy comes last: what cannot run at all is told first."""
