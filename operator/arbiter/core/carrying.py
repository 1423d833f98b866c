"""Decides when a Job carries a model into a pool's shared engine, and what its end means.

Rule: a Job makes one attempt. One that failed stays until the one after it has ended, which comes after a pause that
doubles; so what stands tells how often it was tried and how it failed, whichever operator looks. All Jobs go once the
model is in the engine's store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.engine_health import Asked, explain, progress, quoted
from arbiter.core.manifests import names
from arbiter.core.manifests.carrier import carrier_job
from arbiter.core.readiness import Readiness
from arbiter.core.snapshot import EngineView, PodPhase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.core.actions import ObjectKey
    from arbiter.core.pool_facts import PoolFacts
    from arbiter.core.revisions import Carried, FrozenRevision
    from arbiter.core.snapshot import PodView, Standing

_FIRST_PAUSE_S: Final = 15
_LONGEST_PAUSE_S: Final = 600

_SEEN: Final = timedelta(seconds=15)
"""How long what was carried may take to be seen in the store; what is not seen by then is carried again."""

_MEMORY: Final = 128 * 1024**2
"""Bytes that a Job asks of its node."""

_WORDS: Final = re.compile(r"(?P<code>[A-Z][A-Za-z]+): (?P<said>.*)", re.DOTALL)
"""The last words of `arbiter carry`, as `fetch.failures` makes them."""

_ADVICE: Final[Mapping[str, str]] = {
    "AccessDenied": "look after the Secret that spec.pullSecret of the LocalModel names",
    "EngineRefused": "check that the file is a GGUF model which this version of Ollama can run",
    "FileMissing": "put the file there, or make a LocalModel with another spec.source",
    "NoSpace": "give the pool a larger claim (spec.cache), or its node more disk",
    "NotAModel": "make a LocalModel whose spec.source names a GGUF file",
    "SourceMoved": "make a LocalModel for what the source is now",
    "SourceNotFound": "put the file there, or make a LocalModel with another spec.source",
    "SumMismatch": "put the right file there, or make a LocalModel with the right spec.sha256",
}
"""What a person can do about it, by the code of the failure; the others are mended by time or elsewhere."""

_BY_THE_ENGINE: Final = frozenset({"EngineRefused", "EngineUnreachable"})
"""Failures of giving it to the engine; the others are failures of bringing it."""


@dataclass(frozen=True, slots=True)
class Carrying:
    """How far it is.

    Attributes:
        readiness: of the revision.
        stays: the Jobs that are needed: the last one, and while it is under way the one that failed before.
        made: the Job that is to be made; None if none is.
    """

    readiness: Readiness
    stays: tuple[ObjectKey, ...] = ()
    made: Mapping[str, Any] | None = None


def carry(facts: PoolFacts, frozen: FrozenRevision, carried: Carried) -> Carrying:
    """Decide about a model that is not in the store of an engine that is up."""
    jobs = _jobs(facts, frozen)
    if not jobs:
        return _begun(facts, frozen, carried, 1, _waits(frozen))
    attempt, job = jobs[-1]
    stays = standing_jobs(facts, frozen)
    ended = _ended_at(job)
    if job.deleting or ended is None:
        return Carrying(_under_way(facts, frozen, jobs), stays)
    if _succeeded(job):
        due, readiness = ended + _SEEN, _waits(frozen)
    else:
        failure = _failure(frozen, _pod_of(facts, job))
        due, readiness = ended + _pause(attempt), Readiness(up=True, proved=False, reason=failure)
    if facts.now < due:
        return Carrying(replace(readiness, look_again=due), stays[-1:])
    return _begun(facts, frozen, carried, attempt + 1, readiness, stays[-1:])


def standing_jobs(facts: PoolFacts, frozen: FrozenRevision) -> tuple[ObjectKey, ...]:
    """Give the Job that carries a revision's model at the moment, or carried it last, and the one before."""
    return tuple(job.key for _, job in _jobs(facts, frozen)[-2:])


def _begun(  # noqa: PLR0913, PLR0917 - what is carried, the how manieth time, and what stands of the time before
    facts: PoolFacts,
    frozen: FrozenRevision,
    carried: Carried,
    attempt: int,
    readiness: Readiness,
    before: tuple[ObjectKey, ...] = (),
) -> Carrying:
    name = names.carrier_name(facts.name, frozen.revision, attempt)
    if facts.stranger("Job", name) is not None:
        said = f"Job {name} belongs to somebody else, and {frozen.model} needs that name: delete or rename it"
        return Carrying(Readiness(up=False, proved=False, reason=Reason(ReasonCode.NameTaken, said)), before)
    manifest = carrier_job(facts.pool, frozen, carried, facts.snapshot.settings, attempt)
    return Carrying(readiness, (*before, names.key_of(manifest)), manifest)


def _jobs(facts: PoolFacts, frozen: FrozenRevision) -> list[tuple[int, Standing]]:
    """Give the Jobs that carry or carried a revision's model, each with the how manieth attempt it is."""
    wanted = names.carrier_selector(facts.name, frozen.revision)
    found = []
    for key, standing in facts.ours.items():
        labels = standing.body.get("metadata", {}).get("labels", {})
        number = key.name.rpartition("-")[2]
        if key.kind == "Job" and wanted.items() <= labels.items() and number.isdecimal():
            found.append((int(number), standing))
    return sorted(found, key=lambda each: each[0])


def _pod_of(facts: PoolFacts, job: Standing) -> PodView | None:
    pods = facts.snapshot.carriers.get(job.key.name, ())
    return max(pods, key=lambda each: (each.created_at, each.name), default=None)


def _under_way(facts: PoolFacts, frozen: FrozenRevision, jobs: list[tuple[int, Standing]]) -> Readiness:
    pods = facts.snapshot.carriers.get(jobs[-1][1].key.name, ())
    pod = next((each for each in pods if each.fetching and each.fetched is not None), None)
    if pod is not None:
        said = f"{frozen.model} is being carried into the shared engine: {progress(pod)}"
        return Readiness(up=True, proved=False, reason=Reason(ReasonCode.Downloading, said))
    asked = Asked(facts.pool.spec.placement.model_copy(update={"gpus": None}), _MEMORY, None, 86_400)
    name = f"the Job that carries {frozen.model} into the shared engine"
    ailment = explain(EngineView(name, pods), {}, asked, facts.snapshot.nodes, facts.now)
    if ailment.reason.code is not ReasonCode.EngineStarting:
        return Readiness(up=True, proved=False, reason=ailment.reason)
    before = next((_pod_of(facts, job) for _, job in jobs[-2:-1]), None)
    is_over = any(each.phase is PodPhase.SUCCEEDED for each in pods)
    if is_over or before is None or before.phase is not PodPhase.FAILED:
        return _waits(frozen)
    # While it is tried once more, what it failed with stands: else each attempt would be two writes of the status.
    return Readiness(up=True, proved=False, reason=_failure(frozen, before))


def _failure(frozen: FrozenRevision, pod: PodView | None) -> Reason:
    if pod is None or pod.phase is not PodPhase.FAILED:
        said = f"{frozen.model} could not be carried into the shared engine: its Job ended, and nothing tells why"
        return Reason(ReasonCode.FetchFailed, said)
    words = pod.last_message or pod.evicted or f"it ended with exit code {pod.last_exit}"
    match = _WORDS.fullmatch(words.strip())
    code = "" if match is None else match["code"]
    said = words if match is None else match["said"]
    advice = f"; {_ADVICE[code]}" if code in _ADVICE else ""
    return Reason(
        ReasonCode.LoadFailed if code in _BY_THE_ENGINE else ReasonCode.FetchFailed,
        f"{frozen.model} could not be carried into the shared engine: {quoted(said)}{advice}",
    )


def _pause(attempt: int) -> timedelta:
    return timedelta(seconds=min(_FIRST_PAUSE_S * 2 ** min(attempt - 1, 10), _LONGEST_PAUSE_S))


def _ended_at(job: Standing) -> datetime | None:
    """Give the time at which a Job ended, as the cluster told it; None while it has not."""
    status = job.body.get("status", {})
    ends = [each for each in status.get("conditions", ()) if each.get("type") in {"Complete", "Failed"}]
    end = next((each for each in ends if each.get("status") == "True"), None)
    if end is None:
        return None
    told = status.get("completionTime") or end.get("lastTransitionTime") or job.body["metadata"]["creationTimestamp"]
    return datetime.fromisoformat(told)


def _succeeded(job: Standing) -> bool:
    conditions = job.body.get("status", {}).get("conditions", ())
    return any(each.get("type") == "Complete" and each.get("status") == "True" for each in conditions)


def _waits(frozen: FrozenRevision) -> Readiness:
    said = f"{frozen.model} is being carried into the shared engine"
    return Readiness(up=True, proved=False, reason=Reason(ReasonCode.LoadingModel, said))
