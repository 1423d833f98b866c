"""Runs the passes: takes who is due, has the core decide, carries it out, and says when to look again.

Several subjects are passed at a time, each of them once. A pass that fails is tried again by the queue's rules; its
error is logged and counted, and never ends the process. Only the loss of the lead does.

Rule: a pass is snapshot, plan, actions. It keeps nothing in memory for the next one, but for what was logged, so that
the log says each thing once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from arbiter.controller.apply import Carried
from arbiter.controller.cache import POLICY, POOL
from arbiter.core.actions import Plan
from arbiter.errors import ArbiterError, DeposedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from arbiter.api.modelswap import ModelSwap
    from arbiter.api.reasons import Reason
    from arbiter.controller.apply import Carrier
    from arbiter.controller.queue import Subject, Waiting
    from arbiter.controller.snapshot import Assembly
    from arbiter.core.snapshot import ModelSnapshot, OperatorSettings, PolicySnapshot, PoolSnapshot

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Most passes under way at a time: they wait for the API server and hardly compute."""


class Planning(Protocol):
    """What decides."""

    def pool(self, snapshot: PoolSnapshot, now: datetime) -> Plan:
        """Decide what a pool needs."""

    def strays(self, swaps: Sequence[ModelSwap], now: datetime) -> Plan:
        """Decide what becomes of swaps whose pool is not there."""

    def model(self, snapshot: ModelSnapshot, now: datetime) -> Plan:
        """Decide what a LocalModel needs."""

    def policy(self, snapshot: PolicySnapshot, now: datetime) -> Plan:
        """Decide what a SwapPolicy needs."""


class Watching(Protocol):
    """Where passes are counted."""

    def passed(self, subject: Subject, seconds: float, outcome: str) -> None:
        """A pass ended: `ok`, `conflict`, or the name of its error."""


class Passes:
    """The passes of the leader."""

    def __init__(  # noqa: PLR0913  everything that a pass goes through
        self,
        *,
        queue: Waiting,
        assembly: Assembly,
        planning: Planning,
        carrier: Carrier,
        watching: Watching,
        settings: Callable[[], OperatorSettings],
        now: Callable[[], datetime],
        gone: Callable[[Subject], None],
    ) -> None:
        """Pass nothing yet.

        Args:
            queue: says who is due.
            assembly: puts together what is known.
            planning: decides.
            carrier: carries out.
            watching: counts.
            settings: of the operator, as they are now.
            now: the time of day.
            gone: told of a subject that is no longer there.
        """
        self._queue = queue
        self._assembly = assembly
        self._planning = planning
        self._carrier = carrier
        self._watching = watching
        self._settings = settings
        self._now = now
        self._gone = gone
        self._logged: dict[Subject, tuple[Reason, ...]] = {}
        self._uids: dict[Subject, str] = {}

    async def run(self) -> None:
        """Pass who is due, for ever.

        Raises:
            DeposedError: we no longer lead.
        """
        free = asyncio.Semaphore(AT_ONCE)

        async def run(subject: Subject) -> None:
            try:
                await self.run_one(subject)
            finally:
                free.release()

        async with asyncio.TaskGroup() as group:
            while True:
                await free.acquire()
                group.create_task(run(await self._queue.next()))

    async def run_one(self, subject: Subject) -> None:
        """Pass one subject that was taken from the queue, and put it back as it asks."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            plan, carried = await self._pass(subject)
        except DeposedError:
            raise
        except ArbiterError as error:
            outcome = type(error).__name__
            at_least = error.retry_after_s if isinstance(error, UnreachableError) else 0.0
            pause = self._queue.failed(subject, at_least)
            log.warning(
                "the pass failed and is tried again in %.1f s: %s", pause, error, extra=_about(subject, outcome)
            )
        except Exception:  # a mistake of ours must not keep the other pools from their passes
            outcome = "Unforeseen"
            pause = self._queue.failed(subject)
            log.exception("the pass met something unforeseen, next in %.1f s", pause, extra=_about(subject, outcome))
        else:
            if carried is Carried.OVERTAKEN:
                outcome = "conflict"
                self._queue.failed(subject)
            else:
                outcome = "ok"
                self._queue.done(subject, self._seconds_until(plan.look_again))
        self._watching.passed(subject, clock() - began, outcome)

    async def _pass(self, subject: Subject) -> tuple[Plan, Carried]:
        now = self._now()
        plan, uid = self._planned(subject, now)
        if self._uids.get(subject, uid) != uid:
            # Gone, or made anew under its name: what was kept was another's, and the plan may rest on it.
            self._forget(subject)
            return Plan(look_again=None if plan is None else now), Carried.WHOLE
        if plan is None:
            return Plan(), Carried.WHOLE
        self._uids[subject] = uid
        for note in plan.notes:
            if note not in self._logged.get(subject, ()):
                log.info("%s", note.message, extra=_about(subject, note.code.value))
        self._logged[subject] = plan.notes
        return plan, await self._carrier.carry_out(subject, uid, plan)

    def _planned(self, subject: Subject, now: datetime) -> tuple[Plan | None, str]:
        """Give what a subject needs, with the uid of the object that this is about; None for one that is gone."""
        if subject.kind == POLICY:
            policy = self._assembly.policy(subject)
            return (None, "") if policy is None else (self._planning.policy(policy, now), policy.policy.metadata.uid)
        settings = self._settings()
        if subject.kind == POOL:
            pool = self._assembly.pool(subject, settings)
            if pool is None:
                strays = self._assembly.strays(subject)
                return (self._planning.strays(strays, now) if strays else None), ""
            return self._planning.pool(pool, now), pool.pool.metadata.uid
        model = self._assembly.model(subject, settings)
        return (None, "") if model is None else (self._planning.model(model, now), model.model.metadata.uid)

    def _forget(self, subject: Subject) -> None:
        self._logged.pop(subject, None)
        del self._uids[subject]
        self._gone(subject)

    def _seconds_until(self, moment: datetime | None) -> float | None:
        return None if moment is None else max(0.0, (moment - self._now()).total_seconds())


def _about(subject: Subject, reason: str) -> dict[str, object]:
    """What a line of the log says beside its message."""
    return {"about": subject, "reason": reason}
