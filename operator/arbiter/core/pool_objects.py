"""Decides which objects a pool has at the moment, whose names they are, and which may be taken away.

Rule: an object that is somebody else's is never touched, whatever its name. What is ours and unwanted goes, but for the
engine of a revision that a router may still send requests to, and for what a lost revision runs on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arbiter.core.actions import ObjectKey
from arbiter.core.manifests import access, names
from arbiter.core.manifests.engines import engine_deployment, engine_service, shared_deployment, shared_service
from arbiter.core.manifests.router import disruption_budget, endpoint_service, router_deployment
from arbiter.core.manifests.routes import routes_config_map
from arbiter.core.revisions import controller_revision, render_shared
from arbiter.core.route_plan import let_go
from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from arbiter.core.needed import Needed
    from arbiter.core.pool_facts import PoolFacts
    from arbiter.core.revisions import FrozenShared
    from arbiter.core.routes import RouteTable
    from arbiter.core.snapshot import Standing


def frozen_forms(facts: PoolFacts, needed: Needed) -> Iterator[dict[str, Any]]:
    """Give the frozen forms that are needed and not on record yet."""
    for revision, frozen in needed.revisions.items():
        if revision not in facts.frozen and not _is_kept(facts, names.engine_name(facts.name, revision)):
            yield controller_revision(facts.pool, frozen)
    shared = _shared(facts, needed)
    if shared is not None and facts.shared is None and not _is_kept(facts, names.shared_engine_name(facts.name)):
        yield controller_revision(facts.pool, shared)


def engines(facts: PoolFacts, needed: Needed) -> Iterator[dict[str, Any]]:
    """Give the Services and Deployments of all needed engines, and before them what keeps others out."""
    own = any(frozen.pod or frozen.shared for frozen in needed.running.values())
    if own or any(_is_engine(standing) for standing in facts.ours.values()):
        yield access.engines_policy(facts.pool, facts.snapshot.settings.namespace)
    for revision, frozen in needed.running.items():
        if frozen.pod:
            yield engine_service(facts.pool, frozen)
            yield engine_deployment(facts.pool, frozen, needed.pods.get(revision, facts.pool.spec.replicas))
    shared = _shared(facts, needed)
    if shared is not None:
        yield shared_service(facts.pool, shared)
        yield shared_deployment(facts.pool, shared)


def routers(facts: PoolFacts, needed: Needed) -> Iterator[dict[str, Any]]:
    """Give the routers, what they may do, who may reach them, and the pool's address."""
    pool, settings = facts.pool, facts.snapshot.settings
    if not pool.spec.router.replicas:
        return
    yield access.router_account(pool)
    yield access.router_role(pool)
    yield access.router_role_binding(pool)
    yield access.router_policy(pool, settings.namespace)
    keys = sorted({frozen.key for frozen in needed.revisions.values() if frozen.key is not None})
    yield router_deployment(pool, settings, keys)
    if pool.spec.router.replicas > 1:
        yield disruption_budget(pool)
    yield endpoint_service(pool)


def routes(facts: PoolFacts, table: RouteTable) -> dict[str, Any]:
    """Give the ConfigMap with the table."""
    return routes_config_map(facts.pool, table)


def feedback(facts: PoolFacts) -> dict[str, Any]:
    """Give the Secret that signs ids of answers."""
    return access.feedback_secret(facts.pool)


def lacks_feedback_secret(facts: PoolFacts) -> bool:
    """Whether that Secret has to be made. The operator reads no Secrets: once its routers stand, it has been made."""
    if not facts.pool.spec.router.replicas or facts.stands("Deployment", names.router_name(facts.name)):
        return False
    return ObjectKey("Secret", names.feedback_name(facts.name)) not in facts.snapshot.standing


def wanted(facts: PoolFacts, needed: Needed, table: RouteTable) -> frozenset[ObjectKey]:
    """Give the names of all that the pool has at the moment."""
    manifests = (*engines(facts, needed), *routers(facts, needed), routes(facts, table))
    kept = {names.engine_name(facts.name, revision) for revision in needed.revisions}
    if any(frozen.shared for frozen in needed.revisions.values()):
        kept.add(names.shared_engine_name(facts.name))
    found = {names.key_of(manifest) for manifest in manifests}
    found |= {ObjectKey("ControllerRevision", name) for name in kept}
    if any(frozen.shared for frozen in needed.revisions.values()):
        # Where its frozen form is lost it is not rendered, and stays as it stands.
        shared = names.shared_engine_name(facts.name)
        found |= {ObjectKey("Deployment", shared), ObjectKey("Service", shared)}
    return frozenset(found)


def taken(facts: PoolFacts, needed: Needed, table: RouteTable) -> Iterator[ObjectKey]:
    """Give the names that the pool needs and somebody else has; engines' names are told with their tasks."""
    own = {names.key_of(manifest) for manifest in (*routers(facts, needed), routes(facts, table))}
    if facts.pool.spec.router.replicas:
        own.add(ObjectKey("Secret", names.feedback_name(facts.name)))
    yield from (key for key in sorted(own) if facts.stranger(key.kind, key.name) is not None)


def may_go(facts: PoolFacts, standing: Standing, lost: frozenset[str]) -> bool:
    """Whether an object of ours that is not wanted can be deleted now."""
    labels = standing.body.get("metadata", {}).get("labels", {})
    revision = labels.get(names.REVISION)
    if standing.key.kind == "Job":
        return True
    if revision is not None:
        return revision not in lost and let_go(facts, revision) and _engine_first(facts, standing)
    if standing.key.name == names.shared_engine_name(facts.name) and labels.get(names.COMPONENT) == names.ENGINES:
        shared = [each.revision for each in facts.frozen.values() if each.shared]
        return not lost and all(let_go(facts, each) for each in shared) and _engine_first(facts, standing)
    return True


def _is_engine(standing: Standing) -> bool:
    labels = standing.body.get("metadata", {}).get("labels", {})
    return standing.key.kind == "Deployment" and labels.get(names.COMPONENT) == names.ENGINES


def _engine_first(facts: PoolFacts, standing: Standing) -> bool:
    """A frozen form goes once its engine is gone: until then it says what that is."""
    if standing.key.kind != "ControllerRevision":
        return True
    return ObjectKey("Deployment", standing.key.name) not in facts.ours


def _shared(facts: PoolFacts, needed: Needed) -> FrozenShared | None:
    """Give the shared engine's form: the frozen one, or a new one where none stands that a new one would restart."""
    if not any(frozen.shared for frozen in needed.revisions.values()):
        return None
    if facts.shared is not None:
        return facts.shared
    if facts.stands("Deployment", names.shared_engine_name(facts.name)):
        return None
    try:
        needs = [frozen.memory for frozen in needed.revisions.values() if frozen.shared]
        return render_shared(facts.pool, facts.snapshot.settings, needs)
    except InvalidInputError:
        # Whoever needs it has been told so: its model cannot run in this pool.
        return None


def _is_kept(facts: PoolFacts, name: str) -> bool:
    """Whether something stands under the name of a frozen form, readable or not; nothing can be written over it."""
    return ObjectKey("ControllerRevision", name) in facts.snapshot.standing
