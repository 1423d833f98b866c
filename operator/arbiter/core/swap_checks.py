"""Asks both sides of a swap the task's checks, one prompt of each at a time, and takes in what they answered.

A first part is asked before any user sees the new side; the rest while both serve, at most one prompt a block, where it
adds to the evidence of quality. Where only one model can be there, the old one is asked everything before it goes.

Rule: a prompt that a server fails to answer is asked again, three times in all, and counts as failed then: a broken
connection says nothing about a model, and one that never answers does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from arbiter.api.modelswap import Phase, Stage
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.api.swappolicy import Strategy
from arbiter.core.actions import StartJob
from arbiter.core.analysis_settings import AnalysisSettings, MetricName
from arbiter.core.check_pairs import FIRST, Pairs, can_promote, judge_pairs
from arbiter.core.prompt_checks import Grade, read_checks
from arbiter.core.readiness import engine_url
from arbiter.core.swap_analysis import Scored
from arbiter.core.swap_seen import Checked
from arbiter.engines.calls import Reply
from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arbiter.api.modelpool import Task
    from arbiter.core.needed import Needed
    from arbiter.core.pool_facts import PoolFacts
    from arbiter.core.prompt_checks import Check, Checks
    from arbiter.core.revisions import FrozenRevision
    from arbiter.core.snapshot import JobResult
    from arbiter.core.swap_flight import Flight

MOST_FIRST: Final = 40
"""Prompts that are asked before the first user at most."""

_SEED: Final = 1
_ATTEMPTS: Final = 3
_CLIENT_ERRORS: Final = range(400, 500)
_TRY_LATER: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Asked:
    """How far the checks of a swap are.

    Attributes:
        pairs: the scores so far; None for a task without checks.
        checked: the same as the next decision sees it; None the same.
        jobs: what is asked now.
        scored: what part quality has in the evidence.
        problem: why the checks cannot be asked; None if they can.
    """

    pairs: Pairs | None = None
    checked: Checked | None = None
    jobs: tuple[StartJob, ...] = ()
    scored: Scored = Scored.NOT
    problem: Reason | None = None

    @property
    def unread(self) -> bool:
        """Whether the checks are there and have not been read yet, as right after a start of the operator."""
        return self.problem is not None and self.problem.code is ReasonCode.ChecksRunning


def checks_of(facts: PoolFacts, task: Task) -> Checks | Reason | None:
    """Give the checks of a task, or why they cannot be had; None if it has none."""
    if task.checks is None:
        return None
    name = task.checks.config_map
    if name not in facts.snapshot.checks:
        return Reason(ReasonCode.ChecksRunning, f"ConfigMap {name} with the checks of {task.name} is being read")
    text = facts.snapshot.checks[name]
    if text is None:
        told = f"ConfigMap {name} with the checks of {task.name} is not there, or has no key checks.yaml: create it"
        return Reason(ReasonCode.ChecksInvalid, told)
    found = _read(text)
    return Reason(ReasonCode.ChecksInvalid, f"ConfigMap {name}: {found}") if isinstance(found, str) else found


def ask_checks(facts: PoolFacts, needed: Needed, flight: Flight, task: Task | None) -> Asked:
    """Take in what was answered, and decide what is asked next."""
    checks = None if task is None else checks_of(facts, task)
    if checks is None or not flight.analysed:
        return Asked(flight.pairs)
    if isinstance(checks, Reason):
        # Whatever was asked before still guards.
        return Asked(flight.pairs, scored=Scored.NOT if flight.pairs is None else Scored.GUARDED, problem=checks)
    pairs = flight.pairs
    if pairs is None or (pairs.checks != checks.hash and not flight.moves_requests):
        pairs = Pairs(checks.hash)
    if pairs.checks != checks.hash:
        # The file was edited after requests had moved: what was asked before still counts, and nothing is added.
        return Asked(pairs, Checked(done=True, told="The checks were edited while the swap was under way."))
    settings = AnalysisSettings.from_policy(flight.policy.analysis, (MetricName.QUALITY,), (), 1)
    scored = Scored.FULLY if can_promote(checks, settings) else Scored.GUARDED
    if flight.phase is Phase.Waiting or flight.ended or flight.phase is Phase.RollingBack:
        return Asked(pairs, None, (), scored)
    pairs = _answered(facts, flight, checks, pairs)
    jobs = tuple(_next_jobs(facts, needed, flight, checks, pairs))
    return Asked(pairs, _checked(flight, checks, pairs, settings), jobs, scored)


def first_part(checks: Checks) -> int:
    """Give how many prompts are asked before the first user."""
    return min(len(checks.items), max(FIRST, min(MOST_FIRST, (len(checks.items) + 1) // 2)))


@lru_cache(maxsize=32)
def _read(text: str) -> Checks | str:
    try:
        return read_checks(text)
    except InvalidInputError as error:
        return str(error)


def _checked(flight: Flight, checks: Checks, pairs: Pairs, settings: AnalysisSettings) -> Checked | None:
    if flight.strategy is Strategy.OneAtATime and flight.stage is Stage.Shared:
        left = len(pairs.missing_old(checks))
        told = (
            f"{len(checks.items) - left} of {len(checks.items)} checks answered by {flight.old.model} before it goes."
        )
        return Checked(done=not left, told=told)
    judged = judge_pairs(pairs, checks, settings, flight.old.model, flight.new.model)
    if flight.strategy is Strategy.OneAtATime:
        return judged
    if flight.phase is Phase.Preparing:
        return Checked(done=len(pairs.settled(checks)) >= first_part(checks), told=judged.told, worse=judged.worse)
    # While both serve, the evidence over the whole swap decides, at its own error rate.
    return Checked(done=True, told=judged.told)


def _next_jobs(facts: PoolFacts, needed: Needed, flight: Flight, checks: Checks, pairs: Pairs) -> Iterator[StartJob]:
    """Ask each side its next prompt, if it is there to be asked."""
    in_place = flight.strategy is Strategy.OneAtATime
    most = first_part(checks) if flight.phase is Phase.Preparing and not in_place else len(checks.items)
    if flight.moves_requests and facts.now < _last_asked(facts, flight) + _pause(flight):
        return
    asked = checks.names[:most]
    old, new = needed.running.get(flight.old.revision), needed.running.get(flight.new.revision)
    if old is not None and flight.stage is Stage.Shared:
        yield from _ask(facts, old, checks, next((name for name in asked if name not in pairs.old), ""))
    if new is not None and (not in_place or flight.stage in {Stage.NewComes, Stage.NewAlone}):
        yield from _ask(facts, new, checks, next((name for name in asked if name not in pairs.new), ""))


def _last_asked(facts: PoolFacts, flight: Flight) -> datetime:
    """Give when a prompt was last asked or answered; long ago, if none was."""
    revisions = (flight.old.revision, flight.new.revision)
    times = [job.at for key, job in facts.snapshot.jobs.items() if key.startswith("check/") and key.endswith(revisions)]
    return max(times, default=datetime.min.replace(tzinfo=UTC))


def _pause(flight: Flight) -> timedelta:
    """Users come first: while both sides serve, checks may not be what loads them."""
    return timedelta(seconds=flight.policy.analysis.block_length.seconds)


def _ask(facts: PoolFacts, frozen: FrozenRevision, checks: Checks, name: str) -> Iterator[StartJob]:
    if not name:
        return
    check = checks.named(name)
    key = _key(checks, check, frozen.revision)
    result = facts.snapshot.jobs.get(key)
    if result is None or not result.running:
        yield StartJob(key, engine_url(facts, frozen), check.call(frozen.served, _SEED))


def _answered(facts: PoolFacts, flight: Flight, checks: Checks, pairs: Pairs) -> Pairs:
    for check in checks.items:
        if check.name not in pairs.old and (grade := _grade(facts, checks, check, flight.old.revision)) is not None:
            pairs = pairs.with_old(grade)
        if check.name not in pairs.new and (grade := _grade(facts, checks, check, flight.new.revision)) is not None:
            pairs = pairs.with_new(grade)
    return pairs


def _grade(facts: PoolFacts, checks: Checks, check: Check, revision: str) -> Grade | None:
    result = facts.snapshot.jobs.get(_key(checks, check, revision))
    if result is None or result.running:
        return None
    if not result.ok and not _is_final(result):
        return None
    if result.reply is None:
        return Grade(check.name, 0.0, f"No answer: {result.problem}.")
    reply = Reply(check.call("", _SEED).asked, result.status or 200, json.dumps(dict(result.reply)).encode())
    return check.grade(reply)


def _is_final(result: JobResult) -> bool:
    refused = result.status in _CLIENT_ERRORS and result.status not in _TRY_LATER
    return refused or result.attempts >= _ATTEMPTS


def _key(checks: Checks, check: Check, revision: str) -> str:
    return f"check/{checks.hash.removeprefix('sha256:')[:8]}/{check.name}/{revision}"
