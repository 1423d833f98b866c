"""Decides which models are deleted from the store of a pool's shared engine.

Rule: only what we made or pulled ourselves, and of that nothing that a task, a fallback or a preload names, that a
router may still send requests to, or that is in memory. While a needed model is still being brought nothing is deleted,
because it may be made of the same files; and a store that several pools share is not cleaned, because what one of them
does not need another one may.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from arbiter.core.actions import StartJob
from arbiter.core.route_plan import let_go
from arbiter.engines import ollama_calls
from arbiter.engines.pods import OLLAMA_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from arbiter.core.needed import Needed
    from arbiter.core.pool_facts import PoolFacts
    from arbiter.core.revisions import FrozenRevision
    from arbiter.core.snapshot import EngineView

_AGAIN: Final = timedelta(minutes=1)
"""How long a deletion is not asked for again: it has to be seen, and one that was refused will be for a while."""

_SCHEME: Final = "ollama://"


def origin_of(frozen: FrozenRevision) -> str | None:
    """Give the name under which a revision's model is pulled; None for one that is carried."""
    return None if frozen.carried is not None else ollama_calls.whole_name(frozen.source.removeprefix(_SCHEME))


def has_moved(stored: Mapping[str, str], frozen: FrozenRevision) -> bool:
    """Whether a revision's tag stands for other weights in the store than those that were resolved."""
    found = stored.get(origin_of(frozen) or "")
    return found is not None and found.removeprefix("sha256:") != frozen.digest.removeprefix("sha256:")


def deletions(facts: PoolFacts, needed: Needed, view: EngineView, url: str) -> tuple[StartJob, ...]:
    """Give the jobs that delete what is not needed.

    Args:
        facts: of the pool.
        needed: what it needs.
        view: the shared engine.
        url: where it is asked.
    """
    if view.stored is None or view.loaded is None or not view.ready_endpoints or facts.snapshot.same_claim:
        return ()
    shared = [each for each in needed.revisions.values() if each.shared]
    if needed.lost or any(each.served not in view.stored for each in shared):
        return ()
    loaded = {each.name for each in view.loaded}
    names = (*_revisions(facts, needed, shared, view.stored), *_origins(facts, shared, view.stored))
    found = {name: StartJob(f"delete/{name}", url, ollama_calls.delete(name)) for name in names if name not in loaded}
    return tuple(job for job in found.values() if _is_due(facts, job))


def revision_in(name: str) -> str | None:
    """Give the revision that a model in the store was made for; None for what we did not make."""
    ours, slash, rest = name.partition("/")
    return rest.rpartition(":")[2] if slash and ours == OLLAMA_NAMESPACE else None


def _revisions(
    facts: PoolFacts, needed: Needed, shared: list[FrozenRevision], stored: Mapping[str, str]
) -> Iterator[str]:
    """Give models that we made and that nothing names any more."""
    wanted, open_models = {each.served for each in shared}, _open_models(facts, needed)
    for name in stored:
        revision = revision_in(name)
        model = name.partition("/")[2].partition(":")[0]
        if revision is not None and name not in wanted and model not in open_models and let_go(facts, revision):
            yield name


def _origins(facts: PoolFacts, shared: list[FrozenRevision], stored: Mapping[str, str]) -> Iterator[str]:
    """Give tags that were pulled to make models of, which have their layers by now.

    One that stands for other weights than were resolved stays: it is what tells so.
    """
    known = {each.revision: each for each in (*facts.frozen.values(), *shared) if each.shared}
    for origin in sorted({origin_of(each) or "" for each in known.values()}):
        named = [each for each in known.values() if origin_of(each) == origin]
        if origin in stored and not any(has_moved(stored, each) for each in named):
            yield origin


def _open_models(facts: PoolFacts, needed: Needed) -> frozenset[str]:
    """Give models that something names, of which it is not known which revision it will come to."""
    wishes = (
        *needed.wishes.values(),
        *needed.preloads,
        *(each for list_ in needed.fallbacks.values() for each in list_),
    )
    asked = {task.model for task in facts.pool.spec.tasks if task.model is not None}
    serving = {active.model for active in facts.active.values()}
    return frozenset({wish.model for wish in wishes if wish.revision is None} | (asked - serving))


def _is_due(facts: PoolFacts, job: StartJob) -> bool:
    before = facts.snapshot.jobs.get(job.key)
    return before is None or (not before.running and facts.now >= before.at + _AGAIN)
