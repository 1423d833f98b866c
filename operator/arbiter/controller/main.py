"""Runs the operator: keeps its caches warm, and passes pools and models for as long as it leads.

Both replicas watch; only the leader asks routers, runs jobs and writes. Told to end, the leader stops its passes and
gives the Lease back; one that was deposed ends its process at once, and its successor starts from the caches that it
kept. So nothing has to be handed over, and a restart is as good as a pass.

Rule: this is where clocks and chance come from; everything behind takes them as arguments.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import platform
import random  # noqa: TID251  pauses are drawn here, at the edge
import secrets  # noqa: TID251  keys that nobody may guess
import signal
import sys
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import aiohttp
import uvloop

import arbiter
from arbiter.controller import log as logs
from arbiter.controller import probes
from arbiter.controller.leader import Leader
from arbiter.controller.metrics import Metrics
from arbiter.controller.parts import Parts
from arbiter.controller.planning import CorePlanning
from arbiter.controller.resolver import ServiceResolver
from arbiter.errors import DeposedError
from arbiter.kubeapi.connection import Connection
from arbiter.kubeapi.leading import Candidate, Tenure, WhileLeading, lead

if TYPE_CHECKING:
    from arbiter.controller.options import Options
    from arbiter.controller.passes import Planning

log = logging.getLogger(__name__)


def run(options: Options) -> int:
    """Run an operator until it is told to end.

    Returns:
        0 after an orderly end, 1 when it was deposed or met something that it cannot go on from.

    Raises:
        InvalidInputError: its credentials cannot be read, or its port cannot be had.
    """
    logs.set_up(options.log_format, sys.stderr)
    # What was imported never becomes garbage.
    gc.freeze()
    return uvloop.run(operate(options, CorePlanning()))


async def operate(options: Options, planning: Planning) -> int:
    """Run an operator until it is told to end; gives the exit code."""
    outside = options.kubeconfig
    connection = Connection.in_cluster() if outside is None else Connection.kubeconfig(outside)
    await connection.open()
    identity = f"{options.identity or platform.node()}_{secrets.token_hex(4)}"
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(connection.close)
        tenure = Tenure()
        parts = Parts(
            options,
            connection,
            WhileLeading(connection, tenure, elapsed),
            metrics,
            identity,
            draw=random.random,
            now=_now,
            secret=_secret,
        )
        resolver = ServiceResolver(parts.cache, options.cluster_domain)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=resolver, limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"user-agent": f"arbiter/{arbiter.__version__}"},
            )
        )
        leader = Leader(parts, planning, session)
        runner = await probes.serve(
            probes.application(lambda: parts.watches.missing, leader.exposition), options.host, options.port
        )
        stack.push_async_callback(runner.cleanup)
        candidate = Candidate(connection, options.namespace, identity, elapsed, _now, tenure=tenure)
        log.info("operator %s of %s starts", arbiter.__version__, identity, extra={"reason": "Started"})
        return await _until_told(parts, candidate, leader)


async def _until_told(parts: Parts, candidate: Candidate, leader: Leader) -> int:
    """Watch, and lead when it is our turn, until a signal comes or one of the two ends by itself."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)

    async def take_turn() -> None:
        await parts.watches.synced.wait()
        log.info("everything was seen once", extra={"reason": "Synced"})
        await lead(candidate, leader.work)

    waiting = asyncio.create_task(told.wait())
    watching = asyncio.create_task(parts.watches.run())
    leading = asyncio.create_task(take_turn())
    try:
        await asyncio.wait({waiting, watching, leading}, return_when=asyncio.FIRST_COMPLETED)
        if told.is_set():
            log.info("told to end", extra={"reason": "Ending"})
    finally:
        for task in (leading, watching, waiting):  # first what writes, then what it reads
            task.cancel()
            await asyncio.wait({task})
    return _exit_code(leading, watching)


def _exit_code(*tasks: asyncio.Task[None]) -> int:
    """0 when nothing went wrong, which a task that was told to end did not."""
    failed = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
    for error in failed:
        if _deposed(error):
            log.error("the lead is lost, and this process ends: %s", error, extra={"reason": "Deposed"})
        else:
            log.error("this process cannot go on", exc_info=error, extra={"reason": "Unforeseen"})
    return 1 if failed else 0


def _deposed(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(DeposedError) is not None
    return isinstance(error, DeposedError)


def elapsed() -> float:
    """Seconds that never go back, and that pass while the machine sleeps, where the platform can tell."""
    boot: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)  # noqa: TID251  the edge of the program


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251  the edge of the program


def _secret() -> str:
    return secrets.token_hex(32)
