"""Decides how far each needed revision is, and what is asked of its server next.

Rule: a revision is ready when a token came back through its own Service. What serves already has proved that once, and
is not asked again; whether its servers are there is another question. A question that fails is asked again after a
pause that doubles, and its answer stands until there is another.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.actions import StartJob
from arbiter.core.engine_health import Asked, explain, quoted, requested
from arbiter.core.manifests.names import router_name
from arbiter.core.manifests.router import mounted_keys
from arbiter.core.snapshot import EngineView
from arbiter.engines.calls import EngineReplyError, Reply
from arbiter.engines.openai_calls import proof_call, read_proof

if TYPE_CHECKING:
    from datetime import datetime

    from arbiter.core.engine_health import Ailment
    from arbiter.core.pool_facts import PoolFacts
    from arbiter.core.revisions import FrozenRevision
    from arbiter.core.snapshot import JobResult
    from arbiter.engines.calls import Call

_FIRST_PAUSE_S: Final = 2
_LONGEST_PAUSE_S: Final = 300

_SEEN: Final = timedelta(seconds=15)
"""How long what was done may take to be seen; what is not seen by then is done again."""

_WANTS_A_KEY: Final = frozenset({401, 403})
"""How a server answers that wants to see a key. Ours is the routers' to read, so that it asks for one is an answer."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """How far a revision is.

    Attributes:
        up: its servers take requests.
        proved: it has answered.
        reason: what it waits for; that it serves, if for nothing.
        jobs: what is asked of its server now.
        look_again: when time alone changes something.
    """

    up: bool
    proved: bool
    reason: Reason
    jobs: tuple[StartJob, ...] = ()
    look_again: datetime | None = None

    @property
    def ready(self) -> bool:
        """Whether requests can be sent to it."""
        return self.up and self.proved


def engine_url(facts: PoolFacts, frozen: FrozenRevision) -> str:
    """Give the base address that the operator asks a revision's server at."""
    if frozen.elsewhere:
        return frozen.url
    return f"http://{frozen.engine_name(facts.name)}.{facts.namespace}.svc.{facts.snapshot.settings.cluster_domain}"


def view_of(facts: PoolFacts, engine: str) -> EngineView:
    """Give what is known of an engine's servers; nothing, if nobody has told yet."""
    return facts.snapshot.engines.get(engine, EngineView(engine))


def pods_ready(facts: PoolFacts, frozen: FrozenRevision) -> Readiness:
    """Say whether the servers of a revision take requests, whatever they would answer."""
    if frozen.elsewhere:
        return _key_is_there(facts, frozen)
    engine = frozen.engine_name(facts.name)
    view = view_of(facts, engine)
    taken = next((kind for kind in ("Deployment", "Service") if facts.stranger(kind, engine) is not None), None)
    if taken is not None:
        return _waits(
            ReasonCode.NameTaken,
            f"{taken} {engine} belongs to somebody else, and {frozen.model} needs that name: delete or rename it",
        )
    if view.ready_endpoints:
        return _up()
    if facts.pool.spec.replicas == 0:
        return _waits(
            ReasonCode.ScaledToZero, f"spec.replicas is 0, so nothing runs {frozen.model}: raise it to serve again"
        )
    if not facts.stands("Deployment", engine):
        return _waits(ReasonCode.EngineApplied, f"the engine {engine} for {frozen.model} is being made")
    ailment = ailment_of(facts, frozen)
    return Readiness(up=False, proved=False, reason=ailment.reason, look_again=ailment.look_again)


def asked_for_proof(facts: PoolFacts, frozen: FrozenRevision, *, proved: bool) -> Readiness:
    """Say whether a revision whose servers are up has answered, and have it asked."""
    if proved:
        return _up()
    call = proof_call(frozen.served, frozen.capabilities)
    key = f"prove/{frozen.revision}"
    result = facts.snapshot.jobs.get(key)
    problem = None if result is None or result.running else _no_proof(call, frozen, result)
    if result is not None and not result.running and problem is None:
        return _up()
    waiting = Reason(ReasonCode.WaitingForAnswer, f"{frozen.model} is up and is being asked for one token")
    failed = Reason(ReasonCode.NoAnswer, f"{frozen.model} did not give one token when it was asked: {problem}")
    asked_before = None if problem and _is_another_server(facts, frozen, result) else result
    return asked(facts, frozen, (key, call), asked_before, (waiting, failed if problem else None))


def _is_another_server(facts: PoolFacts, frozen: FrozenRevision, result: JobResult | None) -> bool:
    """Whether a pod has come since the last one answered wrongly: somebody may have mended what it starts with."""
    pods = () if frozen.elsewhere else view_of(facts, frozen.engine_name(facts.name)).pods
    return result is not None and any(pod.ready and pod.created_at > result.at for pod in pods)


def asked(
    facts: PoolFacts,
    frozen: FrozenRevision,
    question: tuple[str, Call],
    result: JobResult | None,
    reasons: tuple[Reason, Reason | None],
) -> Readiness:
    """Ask a revision's server something, unless it is being asked or was asked in vain a moment ago.

    Args:
        facts: of the pool.
        frozen: the revision.
        question: key and call.
        result: what has become of it.
        reasons: what it waits for, and how it failed the last time.
    """
    waiting, failed = reasons
    key, call = question
    if result is not None and result.running:
        return Readiness(up=True, proved=False, reason=_told_before(facts, frozen, result) or waiting)
    if result is not None:
        due = result.at + (_pause(result) if failed is not None else _SEEN)
        if facts.now < due:
            return Readiness(up=True, proved=False, reason=failed or waiting, look_again=due)
    job = StartJob(key, engine_url(facts, frozen), call)
    return Readiness(up=True, proved=False, reason=failed or waiting, jobs=(job,))


def _key_is_there(facts: PoolFacts, frozen: FrozenRevision) -> Readiness:
    """A table must not name a key before all routers have it, and they get it when they start."""
    if frozen.key is None or not facts.pool.spec.router.replicas or facts.is_routed(frozen.revision):
        return _up()
    if facts.routers_rolled_out and frozen.key in mounted_keys(facts.body("Deployment", router_name(facts.name))):
        return _up()
    return _waits(
        ReasonCode.RoutersStarting,
        f"routers start that have the key of Secret {frozen.key}, which {frozen.model} wants to see",
    )


def _told_before(facts: PoolFacts, frozen: FrozenRevision, result: JobResult) -> Reason | None:
    """While it is asked once more, what it failed with stands: else each attempt would be two writes of the status."""
    if not result.attempts:
        return None
    for task in facts.pool.status.tasks:
        repeated = task.reason in {ReasonCode.NoAnswer, ReasonCode.LoadFailed} and task.message is not None
        if repeated and task.candidate is not None and task.candidate.revision == frozen.revision:
            return Reason(ReasonCode(task.reason or ""), task.message or "")
    return None


def _pause(result: JobResult) -> timedelta:
    return timedelta(seconds=min(_FIRST_PAUSE_S * 2 ** min(max(result.attempts - 1, 0), 10), _LONGEST_PAUSE_S))


def _no_proof(call: Call, frozen: FrozenRevision, result: JobResult) -> str | None:
    """Say what is wrong with what a server answered; None if it is a token or a vector."""
    if frozen.key is not None and result.status in _WANTS_A_KEY:
        return None
    if result.reply is None:
        return quoted(result.problem or f"the server answered {result.status or 'nothing'}")
    try:
        read_proof(Reply(call.asked, result.status or 200, json.dumps(dict(result.reply)).encode()))
    except EngineReplyError as error:
        return quoted(str(error))
    return None if result.ok else quoted(result.problem or "the server answered with an error")


def ailment_of(facts: PoolFacts, frozen: FrozenRevision) -> Ailment:
    """Say why servers of a revision, some or all of them, do not take requests."""
    view = view_of(facts, frozen.engine_name(facts.name))
    pod = _pod(facts, frozen)
    amount = requested(pod, "memory")
    gpus = facts.pool.spec.placement.gpus
    demand = Asked(
        facts.pool.spec.placement,
        None if amount is None else int(amount),
        frozen.memory if gpus is not None else None,
        frozen.startup_s,
    )
    return explain(view, facts.body("Deployment", view.name), demand, facts.snapshot.nodes, facts.now)


def _pod(facts: PoolFacts, frozen: FrozenRevision) -> dict[str, object]:
    if not frozen.shared:
        return dict(frozen.pod)
    return {} if facts.shared is None else dict(facts.shared.pod)


def _up() -> Readiness:
    return Readiness(up=True, proved=True, reason=Reason(ReasonCode.Serving, "it serves"))


def _waits(code: ReasonCode, message: str) -> Readiness:
    return Readiness(up=False, proved=False, reason=Reason(code, message))
