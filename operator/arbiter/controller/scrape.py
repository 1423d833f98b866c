"""Asks routers, engines and downloads how they stand, in a steady rhythm.

Passes need what no watch tells: which table a router obeys and whether it still serves a revision, what a shared engine
holds, whether any other engine computes while a swap waits for its answers to end, and how far a download is. Each is
asked often while something is awaited of it, seldom at rest, and ever more seldom while it does not answer.

Rule: what does not read, or does not come, leaves the last answer to grow old. Nothing is decided here: an answer that
means something new concerns its pool, and its pass sees it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import aiohttp

from arbiter.api.localmodel import EngineType
from arbiter.api.modelswap import Phase, Stage
from arbiter.controller.answers import (
    Answer,
    EngineAnswer,
    Fence,
    FetchAnswer,
    LoadAnswer,
    RouterAnswer,
    read_engine_load,
    read_fetch,
    read_ollama,
    read_router,
)
from arbiter.controller.cache import POOL
from arbiter.controller.jobs import ONCE
from arbiter.controller.queue import Subject
from arbiter.core.manifests import names
from arbiter.core.manifests.router import ADMIN_PORT
from arbiter.core.snapshot import PodPhase
from arbiter.engines.load import load_call
from arbiter.engines.runnable import PROGRESS_PORT
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from arbiter.api.modelswap import ModelSwap
    from arbiter.controller.cache import Cache
    from arbiter.controller.observed import SeenPod
    from arbiter.controller.tables import Tables
    from arbiter.core.routes import RouteTable

log = logging.getLogger(__name__)

AWAITED_S, FETCH_S, ENGINE_S, AT_REST_S = 1.0, 3.0, 5.0, 30.0
"""Seconds between two questions: to a router that does not obey its table yet or serves what is to go, an engine
that is to end its answers, or a shared one that a model is carried to; to a download, to a shared engine, and to a
router at rest."""

TURN_S = 0.25
"""Seconds between two looks at who is to be asked."""

ANSWER_S = 2.0
"""Seconds for an answer. A router answers in milliseconds; one that does not is asked again later."""

SILENT_AFTER = 2
"""Questions in a row without an answer, after which somebody counts as out of reach."""

AT_ONCE = 16
"""Most questions under way at a time."""

ANSWER_BYTES = 16 * 1024 * 1024
"""Longest answer that is read: forty slices of thirty-two tasks, with room to spare."""


class Getting(Protocol):
    """Whatever asks a server for something."""

    async def get(self, url: str) -> bytes:
        """Give the body of a good answer.

        Raises:
            OSError: there was none, in time.
        """


@dataclass(frozen=True, slots=True)
class HttpGetting:
    """Asks over the network."""

    session: aiohttp.ClientSession

    async def get(self, url: str) -> bytes:
        """Give the body of a good answer."""
        try:
            times = aiohttp.ClientTimeout(total=ANSWER_S)
            async with self.session.get(url, timeout=times, headers=ONCE, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise OSError(f"{url} answered {answer.status}")
                body = b""
                async for part in answer.content.iter_any():
                    body += part
                    if len(body) > ANSWER_BYTES:
                        raise OSError(f"{url} answered more than {ANSWER_BYTES} bytes")
                return body
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OSError(f"{url} did not answer: {str(error) or type(error).__name__}") from error


@dataclass(slots=True)
class _Told:
    """What one pod answered last, and how asking it goes.

    Attributes:
        answer: the last good one.
        read_at: when that was.
        asked_at: when it was asked last, by the loop's clock.
        failures: in a row.
        asking: a question is under way.
    """

    answer: Answer | None = None
    read_at: datetime | None = None
    asked_at: float = float("-inf")
    failures: int = 0
    asking: bool = False


class Scrape:
    """What everybody who is asked answered last.

    Attributes:
        failures: questions that were not answered, in all.
    """

    def __init__(
        self,
        cache: Cache,
        getting: Getting,
        tables: Tables,
        concerned: Callable[[Subject], None],
    ) -> None:
        """Nobody was asked yet.

        Args:
            cache: knows the pods.
            getting: asks them.
            tables: knows what they should obey.
            concerned: called for the pool of which something new was told.
        """
        self.failures = 0
        self._cache = cache
        self._getting = getting
        self._tables = tables
        self._concerned = concerned
        self._told: dict[str, _Told] = {}

    def rhythm_s(self, engine: SeenPod) -> float:
        """Seconds between two questions to a shared engine: while a Job carries a model there, one is awaited."""
        pods = self._cache.pods.by(_pool_of(engine))
        return AWAITED_S if any(pod.labels.get(names.COMPONENT) == names.CARRIER for pod in pods) else ENGINE_S

    def soon(self, pool: Subject) -> None:
        """Ask a pool's shared engine at the next turn: something was done there."""
        for pod in self._cache.pods.by(pool):
            if _is_shared_engine(pod) and (told := self._told.get(pod.uid)) is not None:
                told.asked_at = float("-inf")

    def router(self, pod: SeenPod) -> tuple[RouterAnswer, datetime] | None:
        """What a router said last, and when."""
        told = self._told.get(pod.uid)
        if told is None or told.read_at is None or not isinstance(told.answer, RouterAnswer):
            return None
        return told.answer, told.read_at

    def is_silent(self, pod: SeenPod) -> bool:
        """Whether somebody has not answered several times in a row."""
        told = self._told.get(pod.uid)
        return told is not None and told.failures >= SILENT_AFTER

    def engine(self, pod: SeenPod) -> EngineAnswer | None:
        """What a shared engine said last."""
        told = self._told.get(pod.uid)
        return told.answer if told is not None and isinstance(told.answer, EngineAnswer) else None

    def idle(self, pod: SeenPod) -> bool | None:
        """Whether an engine of one model said last that it computes nothing; None if it was not asked or cannot say."""
        told = self._told.get(pod.uid)
        return told.answer.idle if told is not None and isinstance(told.answer, LoadAnswer) else None

    def fetch(self, pod: SeenPod) -> FetchAnswer | None:
        """How far a pod's download was last."""
        told = self._told.get(pod.uid)
        return told.answer if told is not None and isinstance(told.answer, FetchAnswer) else None

    def fences(self) -> Iterator[tuple[Subject, Fence]]:
        """The newest table that each router has obeyed, as far as it said."""
        for pod in self._cache.pods:
            answered = self.router(pod)
            if answered is not None and answered[0].fence is not None:
                yield _pool_of(pod), answered[0].fence

    async def run(self, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        """Ask, for ever."""
        at_once = asyncio.Semaphore(AT_ONCE)

        async def ask(pod: SeenPod, told: _Told) -> None:
            try:
                async with at_once:
                    told.asked_at = clock()
                    await self._ask(pod, told, now)
            finally:
                told.asking = False

        async with asyncio.TaskGroup() as group:
            while True:
                for pod, told in self._due(clock()):
                    told.asking = True
                    group.create_task(ask(pod, told))
                await asyncio.sleep(TURN_S)

    async def ask_routers(self, now: Callable[[], datetime]) -> None:
        """Ask every router once, all at a time, and wait for what they say."""
        routers = [pod for pod in self._cache.pods if _is_router(pod) and _answers(pod)]
        at_once = asyncio.Semaphore(AT_ONCE)

        async def ask(pod: SeenPod) -> None:
            async with at_once:
                await self._ask(pod, self._told.setdefault(pod.uid, _Told()), now)

        await asyncio.gather(*map(ask, routers))

    def _due(self, now: float) -> list[tuple[SeenPod, _Told]]:
        """Who is to be asked; those that are gone are forgotten."""
        pods = {pod.uid: pod for pod in self._cache.pods if _answers(pod) or self._ends_answers(pod)}
        for uid in [uid for uid, told in self._told.items() if uid not in pods and not told.asking]:
            del self._told[uid]
        found = []
        for uid, pod in pods.items():
            told = self._told.setdefault(uid, _Told())
            if not told.asking and now >= told.asked_at + self._pause_s(pod, told):
                found.append((pod, told))
        return found

    def _pause_s(self, pod: SeenPod, told: _Told) -> float:
        """Seconds between two questions to a pod."""
        if told.failures:
            return min(AT_REST_S, AWAITED_S * 2.0 ** min(told.failures - 1, 8))
        if pod.fetching:
            return FETCH_S
        if _is_shared_engine(pod):
            return self.rhythm_s(pod)
        if not _is_router(pod):
            return AWAITED_S
        if self._is_learning(_pool_of(pod)):
            return AWAITED_S
        table = self._tables.of(_pool_of(pod))
        settled = isinstance(told.answer, RouterAnswer) and table is not None and _settled(told.answer, table)
        return AT_REST_S if settled else AWAITED_S

    def _is_learning(self, pool: Subject) -> bool:
        """Whether a swap of the pool learns from what its routers count."""
        return any(swap.status.phase in _LEARNING for swap in self._swaps(pool))

    def _ends_answers(self, pod: SeenPod) -> bool:
        """Whether a pod is an engine that can say what it computes, while a swap of its pool waits for that to end.

        In between it is forgotten, so that an old word of it never counts for a new one.
        """
        if pod.view.phase is not PodPhase.RUNNING or not pod.view.address or not pod.port:
            return False
        swaps = self._swaps(_pool_of(pod))
        waits = any(swap.status.phase is Phase.RollingBack or swap.status.stage in _CLEARING for swap in swaps)
        return waits and load_call(EngineType(pod.labels[names.ENGINE])) is not None

    def _swaps(self, pool: Subject) -> Iterable[ModelSwap]:
        return self._cache.swaps.by((pool.namespace, pool.name))

    async def _ask(self, pod: SeenPod, told: _Told, now: Callable[[], datetime]) -> None:
        """Ask one pod, and remember what it says."""
        pool = _pool_of(pod)
        try:
            answer = await self._answer(pod, pool)
        except (OSError, CorruptStateError) as error:
            self.failures += 1
            told.failures += 1
            log.debug("pod %s/%s: %s", pod.namespace, pod.view.name, error)
            if told.failures == SILENT_AFTER:
                self._concerned(pool)
            return
        before, was_silent = told.answer, told.failures >= SILENT_AFTER
        told.answer, told.read_at, told.failures = answer, now(), 0
        if before is None or before.meaning != answer.meaning or was_silent:
            self._concerned(pool)

    async def _answer(self, pod: SeenPod, pool: Subject) -> Answer:
        if pod.fetching:
            return read_fetch(await self._getting.get(_url(pod, PROGRESS_PORT, "/progress")))
        if _is_router(pod):
            routes = await self._getting.get(_url(pod, ADMIN_PORT, "/internal/routes"))
            slices = await self._getting.get(_url(pod, ADMIN_PORT, "/internal/slices"))
            return read_router(routes, slices, self._tables.sides(pool), learning=self._is_learning(pool))
        if not _is_shared_engine(pod):
            engine = EngineType(pod.labels[names.ENGINE])
            if (call := load_call(engine)) is None:
                raise CorruptStateError(f"an engine of kind {engine} cannot say what it computes")
            metrics = await self._getting.get(_url(pod, pod.port, call.path))
            return read_engine_load(engine, call.asked, metrics)
        running = await self._getting.get(_url(pod, pod.port, "/api/ps"))
        return read_ollama(running, await self._getting.get(_url(pod, pod.port, "/api/tags")))


_LEARNING = frozenset({Phase.Shifting, Phase.Watching})
"""Phases in which both sides serve and are compared."""

_CLEARING = frozenset({Stage.ClearingOld, Stage.ClearingNew})
"""Stages in which one side is to end its answers before the other takes its place."""


def _settled(answer: RouterAnswer, table: RouteTable) -> bool:
    """Whether nothing is awaited of a router: it obeys the table, and serves nothing that is to go.

    What is taken back stands in the table still, without weight, until its answers have ended.
    """
    tasks = table.tasks.values()
    stays = {target.backend.revision for task in tasks for target in task.targets if target.weight}
    stays |= {backend.revision for task in tasks for backend in task.fallback}
    return answer.hash == table.hash and all(revision in stays for revision, _ in answer.in_flight)


def _answers(pod: SeenPod) -> bool:
    """Whether there is anything to ask of a pod, and it can be asked."""
    if not pod.view.address or pod.view.phase not in {PodPhase.RUNNING, PodPhase.PENDING}:
        return False
    return pod.fetching or (pod.view.phase is PodPhase.RUNNING and (_is_router(pod) or _is_shared_engine(pod)))


def _is_router(pod: SeenPod) -> bool:
    return pod.labels.get(names.COMPONENT) == names.ROUTER


def _is_shared_engine(pod: SeenPod) -> bool:
    return pod.labels.get(names.ENGINE) == EngineType.Ollama.value and bool(pod.port)


def _pool_of(pod: SeenPod) -> Subject:
    return Subject(POOL, pod.namespace, pod.labels.get(names.POOL, ""))


def _url(pod: SeenPod, port: int, path: str) -> str:
    address = f"[{pod.view.address}]" if ":" in pod.view.address else pod.view.address
    return f"http://{address}:{port}{path}"
