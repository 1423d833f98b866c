"""Knows which models of a shared engine are one and the same in memory.

Rule: Ollama loads a file of weights once, whatever models are made of it. Those that ask for it with the same options
are served by the one that is loaded, under whichever name that was; of those that ask for it otherwise, each request
would load it anew, so the one that matters less waits, and that is said. What nobody could tell is taken for different.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.actions import StartJob
from arbiter.core.cleaning import revision_in
from arbiter.engines import ollama_calls
from arbiter.engines.calls import EngineReplyError, Reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arbiter.core.pool_facts import PoolFacts
    from arbiter.core.revisions import FrozenRevision
    from arbiter.core.snapshot import EngineView
    from arbiter.engines.ollama_calls import Runner

_AGAIN: Final = timedelta(seconds=15)
"""How long a question that failed is not asked again."""


@dataclass(frozen=True, slots=True)
class Runners:
    """What is known about one shared engine.

    Attributes:
        of: what each revision runs as, as far as it was told.
        served: the name of each revision there.
        loaded: names of what is in memory.
        asked: those of which it has to be known what they are made of, with their names; one alone is like no other.
    """

    of: Mapping[str, Runner]
    served: Mapping[str, str]
    loaded: frozenset[str]
    asked: Mapping[str, str]

    def same(self, revision: str) -> frozenset[str]:
        """Give the names under which what a revision runs as may be in memory, its own included."""
        runner = self.of.get(revision)
        others = (each for each, found in self.of.items() if runner is not None and found == runner)
        return frozenset(self.served[each] for each in (revision, *others) if each in self.served)

    def holds(self, revision: str) -> bool:
        """Whether it is in memory, under whichever name."""
        return bool(self.same(revision) & self.loaded)

    def rival(self, revision: str, before: Iterable[str]) -> str | None:
        """Give the first of those revisions that loads the same weights with other options."""
        runner = self.of.get(revision)
        if runner is None:
            return None
        told = ((each, self.of[each]) for each in before if each in self.of)
        return next((each for each, other in told if other != runner and other.weights == runner.weights), None)


def runners(facts: PoolFacts, view: EngineView, needed: Iterable[FrozenRevision] = ()) -> Runners:
    """Gather what was told."""
    named = {each.revision: each.served for each in needed if each.shared}
    made = {revision: name for name in view.stored or {} if (revision := revision_in(name)) is not None}
    served = {**made, **{each.revision: each.served for each in facts.frozen.values() if each.shared}, **named}
    told = {revision: runner for revision in served if (runner := _told(facts, revision)) is not None}
    asked = {revision: name for revision, name in named.items() if name in (view.stored or {})}
    return Runners(told, served, frozenset(one.name for one in view.loaded or ()), asked if len(asked) > 1 else {})


def is_asked(facts: PoolFacts, revision: str, known: Runners) -> bool:
    """Whether it is still being found out what a revision is made of."""
    result = facts.snapshot.jobs.get(f"show/{revision}")
    return revision in known.asked and (result is None or result.running)


def questions(facts: PoolFacts, known: Runners, view: EngineView, url: str) -> tuple[StartJob, ...]:
    """Give the jobs that ask what the models of an engine are made of."""
    if not view.ready_endpoints:
        return ()
    jobs = [StartJob(f"show/{revision}", url, ollama_calls.show(name)) for revision, name in known.asked.items()]
    return tuple(job for job in jobs if _is_due(facts, job))


def rivalry(model: str, other: str) -> Reason:
    """Say that two models cannot both be in memory."""
    return Reason(
        ReasonCode.WaitingForRoom,
        f"{model} is made of the same weights as {other}, which Ollama holds in memory once, with other options: give "
        "both the same contextWindow and resources, or use one of them in another pool",
    )


def _told(facts: PoolFacts, revision: str) -> Runner | None:
    result = facts.snapshot.jobs.get(f"show/{revision}")
    if result is None or result.running or not result.ok or result.reply is None:
        return None
    try:
        return ollama_calls.read_runner(Reply("POST /api/show", 200, json.dumps(dict(result.reply)).encode()))
    except EngineReplyError:
        return None


def _is_due(facts: PoolFacts, job: StartJob) -> bool:
    before = facts.snapshot.jobs.get(job.key)
    if before is None:
        return True
    return not before.running and not before.ok and facts.now >= before.at + _AGAIN
