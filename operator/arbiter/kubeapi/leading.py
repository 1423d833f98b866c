"""Does something for as long as we lead, and stops it before another one could begin.

The rules are those of `lease.py`; here they are carried out: look, decide, write, wait.

Rule: whoever cannot renew in time is told by a `DeposedError` after its work was cancelled, and must end its process;
whoever ends in order gives the Lease back, though only once its work has really ended. Cancelling comes too late for a
process that was stopped, or whose machine slept, in the middle of its work: what it does first when it runs again may
be a write. So writes go `WhileLeading`, which looks at the clock before each.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from arbiter.errors import ClusterError, ConflictError, DeposedError
from arbiter.kubeapi import lease
from arbiter.kubeapi.applying import OBJECTS
from arbiter.kubeapi.connection import Request
from arbiter.kubeapi.lease import Step
from arbiter.kubeapi.reading import get
from arbiter.kubeapi.resources import LEASES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from datetime import datetime
    from typing import Any

    from arbiter.kubeapi.connection import Asking

log = logging.getLogger(__name__)

T = TypeVar("T")

ANSWER_S = 2.0
"""Seconds for each answer about the Lease: a server that takes longer is asked anew while there is time."""

STOP_S = 3.0
"""Seconds that cancelled work has to end; with `RENEW_WITHIN_S` that is less than the Lease holds."""


@dataclass(slots=True)
class Tenure:
    """For how long we may lead without another renewal.

    Attributes:
        ends: the moment, on the candidate's clock; long ago while we do not lead.
    """

    ends: float = -math.inf

    def renewed(self, at: float) -> None:
        """The Lease was renewed, by a request of that moment."""
        self.ends = at + lease.RENEW_WITHIN_S

    def over(self) -> None:
        """We lead no longer."""
        self.ends = -math.inf


@dataclass(frozen=True, slots=True)
class WhileLeading:
    """A way to the API server for what only the leader may write.

    Attributes:
        asking: the way itself.
        tenure: whether we lead.
        clock: the candidate's.
    """

    asking: Asking
    tenure: Tenure
    clock: Callable[[], float]

    async def ask(self, request: Request) -> dict[str, Any]:
        """Ask, if we lead at this moment.

        Raises:
            DeposedError: we do not, so nothing was asked.
            ClusterError: the API server did not do it.
        """
        if self.clock() >= self.tenure.ends:
            raise DeposedError(f"the Lease was not renewed for {lease.RENEW_WITHIN_S:g} s: nothing is written any more")
        return await self.asking.ask(request)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One process that wants to lead.

    Attributes:
        asking: the way to the API server; one that asks once, because asking again has its own time here.
        namespace: where the Lease is: the one that the operator runs in.
        identity: who we are: the pod's name, `_`, and something that no other process had, such as a UUID.
        clock: seconds that never go back, and if possible also pass while the machine sleeps.
        now: the time of day, for people who read the Lease.
        sleep: waits for so many seconds.
        tenure: is told for how long we may lead, for `WhileLeading`.
    """

    asking: Asking
    namespace: str
    identity: str
    clock: Callable[[], float]
    now: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    tenure: Tenure = field(default_factory=Tenure)


async def lead(candidate: Candidate, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Wait until we lead, then do the work for as long as we do.

    Whoever cancels this ends the work first and then gives the Lease back.

    Args:
        candidate: who we are.
        work: what only one process may do at a time; it is called once, and cancelled when we must not lead on.

    Returns:
        What the work gave when it ended by itself. The Lease is given back then.

    Raises:
        DeposedError: the Lease could not be renewed in time, or another process took it.
        BaseException: what the work raised.
    """
    seat = _Seat(candidate)
    renewed_at = await seat.take()
    log.info("%s leads", candidate.identity)
    working, keeping = asyncio.create_task(work()), asyncio.create_task(seat.keep(renewed_at))
    failed: BaseException | None = None
    try:
        await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        candidate.tenure.over()
        working.cancel()
        _, unfinished = await asyncio.wait({working}, timeout=STOP_S)
        keeping.cancel()
        await asyncio.wait({keeping})
        failed = None if keeping.cancelled() else keeping.exception()
        if unfinished:
            log.error("the work of %s does not end; its Lease is left to run out", candidate.identity)
        elif failed is None:
            await seat.give_back()
    if failed is not None:
        if working.done() and not working.cancelled() and (error := working.exception()) is not None:
            log.error("the work of %s ended with an error too: %r", candidate.identity, error)
        raise failed
    return working.result()


class _Seat:
    """The Lease as one candidate saw it last."""

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate
        self._seen: lease.Seen | None = None

    async def take(self) -> float:
        """Wait until we hold the Lease; give the moment at which that was asked for."""
        clock, sleep = self._candidate.clock, self._candidate.sleep
        told = ""
        while True:
            try:
                if (sent := await self._write(await self._look(ANSWER_S), ANSWER_S)) is not None:
                    return sent
                decision = lease.decide(self._seen, self._candidate.identity, clock())
                message, pause = decision.message, max(decision.until - clock(), 0.0)
            except ConflictError:
                message, pause = "another one was faster", lease.LOOK_S
            except ClusterError as error:
                message, pause = str(error), lease.LOOK_S
            if message != told:
                log.info("waiting to lead: %s", message)
                told = message
            await sleep(pause)

    async def keep(self, renewed_at: float) -> None:
        """Renew the Lease for ever.

        Raises:
            DeposedError: that was not possible in time.
        """
        clock = self._candidate.clock
        trouble = "this process did not run"
        pause = lease.RENEW_S
        while True:
            await self._candidate.sleep(min(pause, max(renewed_at + lease.RENEW_WITHIN_S - clock(), 0.0)))
            left = renewed_at + lease.RENEW_WITHIN_S - clock()
            if left <= 0.0:
                raise DeposedError(f"the Lease was not renewed for {lease.RENEW_WITHIN_S:g} s: {trouble}")
            try:
                renewed_at, pause = await self._renew(left), lease.RENEW_S
            except DeposedError:
                raise
            except ClusterError as error:
                trouble, pause = str(error), lease.AGAIN_S
                log.warning("the Lease is not renewed: %s", error)

    async def _renew(self, left: float) -> float:
        """Renew the Lease while so many seconds are left; give the moment at which that was asked for."""
        end = self._candidate.clock() + left
        decision = await self._look(min(ANSWER_S, left))
        sent = await self._write(decision, min(ANSWER_S, max(end - self._candidate.clock(), 0.1)))
        if sent is None:
            raise DeposedError(f"another process took the Lease: {decision.message}")
        return sent

    async def give_back(self) -> None:
        """Let another one lead at once; when that fails it waits until the Lease has run out."""
        try:
            decision = await self._look(ANSWER_S)
            if decision.step is Step.RENEW and self._seen is not None:
                record = lease.released(self._seen, self._candidate.now())
                await self._put(record, self._seen.version, ANSWER_S)
                log.info("%s no longer leads", self._candidate.identity)
        except ClusterError as error:
            log.warning("the Lease is not given back: %s", error)

    async def _look(self, seconds: float) -> lease.Decision:
        limited = _Limited(self._candidate.asking, seconds)
        found = await get(limited, LEASES, self._candidate.namespace, lease.NAME)
        self._seen = lease.see(self._seen, found, self._candidate.clock())
        return lease.decide(self._seen, self._candidate.identity, self._candidate.clock())

    async def _write(self, decision: lease.Decision, seconds: float) -> float | None:
        """Hold the Lease if it may be; give the moment at which that was asked for."""
        if decision.step is Step.WAIT:
            return None
        sent = self._candidate.clock()
        record = lease.held(self._seen, self._candidate.identity, self._candidate.now())
        await self._put(record, self._seen.version if self._seen else "", seconds)
        self._candidate.tenure.renewed(sent)
        return sent

    async def _put(self, record: lease.Record, version: str, seconds: float) -> None:
        """Write the Lease as it was decided on what was read, or make the first one."""
        namespace = self._candidate.namespace
        method, path = ("PUT", LEASES.path(namespace, lease.NAME)) if version else ("POST", LEASES.path(namespace))
        query = {"fieldManager": OBJECTS, "fieldValidation": "Strict"}
        body = lease.to_lease(namespace, record, version)
        stored = await self._candidate.asking.ask(Request(method, path, query, body, seconds=seconds))
        self._seen = lease.see(self._seen, stored, self._candidate.clock())


@dataclass(frozen=True, slots=True)
class _Limited:
    """Asks, but not for long."""

    asking: Asking
    seconds: float

    async def ask(self, request: Request) -> dict[str, Any]:
        return await self.asking.ask(replace(request, seconds=self.seconds))
